//! Somebody outside the cluster: asks over HTTP once, or without end to see for how long nobody answered; asks by ARP who answers.

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::host::Host;

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\nHost: lab\r\nConnection: close\r\n\r\n";

/// One HTTP request from `host` to `to`; the body of a 200 answer.
pub fn get(host: &Host, to: SocketAddr, within: Duration) -> Result<String> {
    host.inside(|| {
        let mut stream = TcpStream::connect_timeout(&to, within).with_context(|| format!("connect to {to}"))?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        stream.write_all(REQUEST)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).with_context(|| format!("read from {to}"))?;
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("not HTTP from {to}: {text:?}"))?;
        if head.split(' ').nth(1) != Some("200") {
            bail!("{to} answered {:?}", head.lines().next().unwrap_or_default());
        }
        Ok(body.trim_end().to_owned())
    })?
}

/// Starts a UDP server on `host` at `at` that answers every datagram with `text`; it ends with the program.
pub fn answer_udp(host: &Host, at: SocketAddr, text: &str) -> Result<()> {
    let socket = host.inside(|| UdpSocket::bind(at))?.with_context(|| format!("bind {at}"))?;
    let text = text.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(text.as_bytes(), from);
        }
    });
    Ok(())
}

/// One datagram from `host` to `to`, and the text that comes back from there.
pub fn ask_udp(host: &Host, to: SocketAddr, within: Duration) -> Result<String> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    host.inside(|| {
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(within))?;
        socket.send(b"?")?;
        let mut buffer = [0; 2048];
        let n = socket.recv(&mut buffer).with_context(|| format!("no answer from {to}"))?;
        Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
    })?
}

/// Who answers an ARP request of `host` for `address` at `dev`: MACs in lower case; empty when nobody does.
pub fn arp(host: &Host, dev: &str, address: IpAddr) -> Result<BTreeSet<String>> {
    // It ends with the second answer: the second owner's, who must not be, or after a second the only owner's second one.
    let text = host.run(&format!("arping -b -c 2 -w 1 -I {dev} {address} || true"))?;
    Ok(text.split(['[', ']']).skip(1).step_by(2).map(str::to_lowercase).collect())
}

/// What a client saw who asked all the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests sent.
    pub sent: usize,
    /// Requests without a good answer.
    pub lost: usize,
    /// Those of them whose connection was never made.
    pub unconnected: usize,
    /// The longest time between two good answers.
    pub gap: Duration,
    /// Who answered, in the order of first appearance.
    pub answered: Vec<String>,
}

/// A client that sends a new request, each on its own connection, at a fixed pace.
#[derive(Debug)]
pub struct Asking {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<Result<()>>,
}

struct Open {
    socket: Socket,
    since: Instant,
    asked: bool,
    text: Vec<u8>,
}

impl Asking {
    /// Starts to ask `to` from `host` every `pace`; a request that has no whole answer after `patience` is lost.
    pub fn start(host: &Host, to: SocketAddr, pace: Duration, patience: Duration) -> Asking {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let (stopped, shared) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = host.thread(move || ask(to, pace, patience, &stopped, &shared));
        Asking { stop, seen, thread }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        locked(&self.seen).clone()
    }

    /// Stops asking, waits for the open requests, and says what was seen.
    pub fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the asking client panicked"))??;
        Ok(locked(&self.seen).clone())
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask(to: SocketAddr, pace: Duration, patience: Duration, stopped: &AtomicBool, shared: &Mutex<Seen>) {
    let (mut open, mut last, mut ended) = (Vec::new(), None::<Instant>, None::<Instant>);
    let mut next = Instant::now();
    loop {
        let (now, ending) = (Instant::now(), stopped.load(Ordering::Relaxed));
        if ending {
            ended.get_or_insert(now);
        }
        let mut seen = locked(shared);
        if now >= next && !ending {
            seen.sent += 1;
            next += pace;
            match connect(to) {
                Ok(socket) => open.push(Open { socket, since: now, asked: false, text: Vec::new() }),
                Err(_) => {
                    seen.lost += 1;
                    seen.unconnected += 1;
                }
            }
        }
        open.retain_mut(|request: &mut Open| match step(request) {
            Some(Some(body)) => {
                if let Some(last) = last.replace(Instant::now()) {
                    seen.gap = seen.gap.max(last.elapsed());
                }
                if !seen.answered.contains(&body) {
                    seen.answered.push(body);
                }
                false
            }
            None if request.since.elapsed() < patience => true,
            Some(None) | None => {
                seen.lost += 1;
                seen.unconnected += usize::from(!request.asked);
                false
            }
        });
        if ending && open.is_empty() {
            // A silence that lasted to the end is a gap too.
            if let (Some(last), Some(ended)) = (last, ended) {
                seen.gap = seen.gap.max(ended.saturating_duration_since(last));
            }
            return;
        }
        drop(seen);
        sleep(Duration::from_micros(500));
    }
}

fn connect(to: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::from(to)) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error.into()),
        _ => Ok(socket),
    }
}

/// `None`: still waiting; `Some(None)`: failed; `Some(Some(body))`: a good answer.
fn step(request: &mut Open) -> Option<Option<String>> {
    if !request.asked {
        match request.socket.write(REQUEST) {
            Ok(_) => request.asked = true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return None,
            Err(error) => {
                // Only a connection that was made is reset (RFC 9293 §3.10.7.3); an attempt is refused.
                request.asked = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
                return Some(None);
            }
        }
    }
    let mut buffer = [0; 2048];
    loop {
        match request.socket.read(&mut buffer) {
            Ok(0) => {
                let _ = request.socket.shutdown(Shutdown::Both);
                let text = String::from_utf8_lossy(&request.text);
                let good = text.split_once("\r\n\r\n").filter(|(head, _)| head.starts_with("HTTP/1.1 200"));
                return Some(good.map(|(_, body)| body.trim_end().to_owned()));
            }
            Ok(n) => request.text.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_) => return Some(None),
        }
    }
}

//! What `gobgp` asks: an abstract socket that the port of `gobgp -p` names. Nothing listens on the network, and only
//! processes of this user, or root, are answered (D21).
//!
//! ```text
//! gobgp ──► one line: global | neighbor [ADDRESS] | global rib [-a ipv4|ipv6]   (-j for JSON)
//!       ◄── one line with the exit code, then the answer
//! ```

use super::Reader;
use super::facts::{Facts, PeerFacts};
use crate::Options;
use crate::facts::Facts as ShellFacts;
use crate::metrics::Server;
use bgp::{Family, State};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::watch;

/// How long either side may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any question.
const QUESTION: u64 = 1024;

fn address(port: u16) -> std::io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("oxelb-speaker-{port}"))
}

/// Answers for as long as the value lives. That the name is taken, by another speaker on this machine, is no reason to
/// end.
pub(crate) fn serve(options: &Options, shell: watch::Receiver<Arc<ShellFacts>>, bgp: Reader) -> Server {
    let Some(port) = options.control else { return Server(None) };
    let listener = match bind(port) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(port, %error, "gobgp is not answered: is there another speaker? give it another --api-hosts");
            return Server(None);
        }
    };
    let task = tokio::spawn(async move {
        // The own user, as the kernel names it.
        let own = rustix::process::geteuid().as_raw();
        while let Ok((stream, _)) = listener.accept().await {
            let asks = stream.peer_cred().is_ok_and(|c| c.uid() == 0 || c.uid() == own);
            if asks {
                let answered = answer(stream, &shell, &bgp);
                // One after the other: this is for probes and people.
                let _ = tokio::time::timeout(PATIENCE, answered).await;
            }
        }
    });
    Server(Some(task.abort_handle()))
}

fn bind(port: u16) -> std::io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::bind_addr(&address(port)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn answer(
    mut stream: tokio::net::UnixStream,
    shell: &watch::Receiver<Arc<ShellFacts>>,
    bgp: &Reader,
) -> std::io::Result<()> {
    let mut question = String::new();
    (&mut stream).take(QUESTION).read_to_string(&mut question).await?;
    let bgp = bgp.fresh().await;
    let shell = shell.borrow().clone();
    let ready = shell.commands > 0 && shell.view.ready;
    let text = match say(&question, ready, &bgp) {
        Ok(text) => format!("0\n{text}"),
        Err(text) => format!("1\n{text}\n"),
    };
    stream.write_all(text.as_bytes()).await
}

/// Asks the speaker that this port names; its answer, or why there is none.
///
/// # Errors
/// When no speaker of this user runs on this machine, or when it refuses the question.
pub fn ask(port: u16, question: &str) -> Result<String, String> {
    let ask = || {
        let mut stream = UnixStream::connect_addr(&address(port)?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(question.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|e: std::io::Error| {
        format!(
            "no speaker answers on this machine for port {port}: {e}; is one running, with this port in --api-hosts?"
        )
    })?;
    match answer.split_once('\n') {
        Some(("0", text)) => Ok(text.to_owned()),
        Some((_, text)) => Err(text.trim_end().to_owned()),
        None => Err("the speaker did not answer: this process is of another user".to_owned()),
    }
}

pub(super) fn say(question: &str, ready: bool, facts: &Facts) -> Result<String, String> {
    let words: Vec<&str> = question.split_whitespace().filter(|w| *w != "-j").collect();
    let as_json = question.split_whitespace().any(|w| w == "-j");
    let (text, value) = match words.as_slice() {
        ["global"] if !ready => return Err("the speaker is not ready yet".to_owned()),
        ["global"] => global(facts),
        ["neighbor"] => neighbors(facts),
        ["neighbor", address] => neighbor(facts, address)?,
        ["global", "rib"] => rib(facts, Family::Ipv4),
        ["global", "rib", "-a", "ipv4"] => rib(facts, Family::Ipv4),
        ["global", "rib", "-a", "ipv6"] => rib(facts, Family::Ipv6),
        _ => {
            return Err(format!(
                "{:?} is not answered; global, neighbor [ADDRESS] and global rib [-a ipv4|ipv6] are",
                words.join(" ")
            ));
        }
    };
    Ok(if as_json { format!("{value}\n") } else { text })
}

fn global(facts: &Facts) -> (String, Value) {
    let (asn, id) = facts.own.map_or((0, std::net::Ipv4Addr::UNSPECIFIED), |(a, id)| (a.get(), id.address()));
    let text = format!("AS:        {asn}\nRouter-ID: {id}\n");
    (text, json!({ "asn": asn, "router_id": id.to_string() }))
}

fn received(peer: &PeerFacts) -> usize {
    peer.view.routes.values().map(|r| r.received).sum()
}

/// As GoBGP writes it.
fn state(peer: &PeerFacts) -> &'static str {
    match peer.view.state {
        _ if peer.down => "Idle(Admin)",
        State::Idle => "Idle",
        State::Connect => "Connect",
        State::Active => "Active",
        State::OpenSent => "OpenSent",
        State::OpenConfirm => "OpenConfirm",
        State::Established => "Establ",
    }
}

fn since(peer: &PeerFacts) -> String {
    let all = SystemTime::now().duration_since(peer.since).unwrap_or_default().as_secs();
    let (days, rest) = (all / 86_400, all % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}d {clock}") } else { clock }
}

fn entry(name: &str, peer: &PeerFacts) -> Value {
    json!({
        "peer": name, "address": peer.address.ip(), "port": peer.address.port(),
        "asn": peer.asn.map(bgp::Asn::get), "local_asn": peer.local_asn.get(), "state": state(peer),
        "since_seconds": SystemTime::now().duration_since(peer.since).unwrap_or_default().as_secs(),
        "received": received(peer), "advertised": peer.advertised(), "queued": peer.queued(),
        "trouble": peer.trouble, "bfd": peer.bfd.as_ref().map(|b| if b.up { "up" } else { "down" }),
    })
}

fn neighbors(facts: &Facts) -> (String, Value) {
    let mut text = format!("{:<24} {:>10} {:>13} {:<12} |#Received  Advertised\n", "Peer", "AS", "Up/Down", "State");
    for peer in facts.peers.values() {
        let asn = peer.asn.map(|a| a.to_string()).unwrap_or_default();
        let ip = peer.address.ip().to_string();
        let (time, state) = (since(peer), state(peer));
        let _ = writeln!(
            text,
            "{ip:<24} {asn:>10} {time:>13} {state:<12} |{:>9}  {:>10}",
            received(peer),
            peer.advertised()
        );
    }
    let all: Vec<Value> = facts.peers.iter().map(|(name, peer)| entry(name, peer)).collect();
    (text, json!(all))
}

fn neighbor(facts: &Facts, address: &str) -> Result<(String, Value), String> {
    let of = |(name, p): &(&String, &PeerFacts)| p.address.ip().to_string() == address || *name == address;
    let (name, peer) = facts.peers.iter().find(of).ok_or_else(|| format!("no BgpPeer of this node has {address:?}"))?;
    let mut text = format!(
        "BGP neighbor is {}, remote AS {}, local AS {} (BgpPeer {name})\n  BGP state = {}, for {}\n",
        peer.address.ip(),
        peer.asn.map(|a| a.to_string()).unwrap_or_default(),
        peer.local_asn,
        state(peer),
        since(peer)
    );
    if let Some(n) = &peer.view.negotiated {
        let _ = writeln!(text, "  remote router ID {}, hold time {} s", n.router_id, n.hold_time.seconds());
    }
    if let Some(bfd) = &peer.bfd {
        let why = bfd.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
        let _ = writeln!(text, "  BFD is {}{why}", if bfd.up { "up" } else { "down" });
    }
    if let Some(trouble) = &peer.trouble {
        let _ = writeln!(text, "  last trouble: {trouble}");
    }
    let (sent, got) = (&peer.counters.sent, &peer.counters.received);
    let _ = writeln!(text, "  Message statistics:      Sent       Rcvd");
    for (what, sent, got) in [
        ("Opens", sent.open, got.open),
        ("Notifications", sent.notification, got.notification),
        ("Updates", sent.update, got.update),
        ("Keepalives", sent.keepalive, got.keepalive),
        ("Route Refresh", sent.refresh, got.refresh),
        ("Total", sent.total(), got.total()),
    ] {
        let _ = writeln!(text, "    {what:<14} {sent:>14} {got:>10}");
    }
    for (family, routes) in &peer.view.routes {
        let _ = writeln!(
            text,
            "  {family}: received {}, advertised {}, queued {}",
            routes.received, routes.advertised, routes.queued
        );
    }
    let value = entry(name, peer);
    Ok((text, value))
}

fn rib(facts: &Facts, family: Family) -> (String, Value) {
    let mut text = format!("   {:<44} {:<16} {}\n", "Network", "Next Hop", "AS_PATH");
    let mut all = Vec::new();
    for nlri in facts.routes.keys().filter(|n| n.prefix.family() == family) {
        let _ = writeln!(text, "*> {:<44} {:<16}", nlri.prefix, "self");
        all.push(json!({ "prefix": nlri.prefix.to_string(), "next_hop": "self" }));
    }
    (if all.is_empty() { "Network not in table\n".to_owned() } else { text }, json!(all))
}

//! A small blocking client of the Kubernetes API: one connection, plain JSON values. The lab's hands, and the benchmarks' floor.

use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::host::Host;
use crate::wait::secs;

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// The API as one user sees it. Each clone has a connection of its own.
#[derive(Debug)]
pub struct Rest {
    host: Host,
    to: SocketAddr,
    tls: Arc<ClientConfig>,
    stream: Mutex<Option<Stream>>,
}

impl Clone for Rest {
    fn clone(&self) -> Rest {
        Rest::new(&self.host, self.to, Arc::clone(&self.tls))
    }
}

/// An answer of the API server that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub code: u16,
    /// What the server said.
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refused {}

impl Rest {
    /// A client on `host` of the server at `to`; the client certificate in `tls` says who it is.
    pub fn new(host: &Host, to: SocketAddr, tls: Arc<ClientConfig>) -> Rest {
        Rest { host: host.clone(), to, tls, stream: Mutex::new(None) }
    }

    /// Reads an object or a list.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, "", None)
    }

    /// Creates an object where its own apiVersion, kind and namespace say.
    pub fn create(&self, object: &Value) -> Result<Value> {
        self.post(&collection(object)?, object)
    }

    /// Posts to a path of its own, as a token request does.
    pub fn post(&self, path: &str, object: &Value) -> Result<Value> {
        self.call("POST", path, "application/json", Some(object))
    }

    /// Replaces what is at `path`.
    pub fn put(&self, path: &str, object: &Value) -> Result<Value> {
        self.call("PUT", path, "application/json", Some(object))
    }

    /// Changes what is at `path` by a JSON merge patch.
    pub fn patch(&self, path: &str, change: &Value) -> Result<Value> {
        self.call("PATCH", path, "application/merge-patch+json", Some(change))
    }

    /// Changes what is at `path` by a strategic merge patch, as oxelb does.
    pub fn merge(&self, path: &str, change: &Value) -> Result<Value> {
        self.call("PATCH", path, "application/strategic-merge-patch+json", Some(change))
    }

    /// Deletes what is at `path`, at once.
    pub fn delete(&self, path: &str) -> Result<Value> {
        self.call("DELETE", &format!("{path}?gracePeriodSeconds=0"), "", None)
    }

    /// Events of a watch, for as long as the server keeps it open; `path` without `watch=1`.
    pub fn watch(&self, path: &str) -> Result<Watch> {
        let join = if path.contains('?') { '&' } else { '?' };
        let mut stream = self.connect(secs(3600))?;
        send(&mut stream, "GET", &format!("{path}{join}watch=1"), "", None)?;
        let head = head(&mut stream)?;
        if head.code != 200 {
            bail!(Refused { code: head.code, message: format!("watch {path}") });
        }
        Ok(Watch { stream, rest: Vec::new() })
    }

    fn call(&self, method: &str, path: &str, kind: &str, body: Option<&Value>) -> Result<Value> {
        let mut slot = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let reused = slot.is_some();
        let mut stream = slot.take().map_or_else(|| self.connect(secs(30)), Ok)?;
        let mut answer = exchange(&mut stream, method, path, kind, body);
        if reused && answer.is_err() {
            // A kept connection may have been closed by a server that restarted; the request was not read then.
            stream = self.connect(secs(30))?;
            answer = exchange(&mut stream, method, path, kind, body);
        }
        let (code, value) = answer.with_context(|| format!("{method} {path}"))?;
        *slot = Some(stream);
        if (200..300).contains(&code) {
            return Ok(value);
        }
        let message = value["message"].as_str().unwrap_or("no message").to_owned();
        Err(anyhow::Error::new(Refused { code, message }).context(format!("{method} {path}")))
    }

    fn connect(&self, patience: Duration) -> Result<Stream> {
        let socket = self.host.inside(|| TcpStream::connect_timeout(&self.to, secs(5)))??;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(patience))?;
        let name = ServerName::from(self.to.ip());
        let connection = ClientConnection::new(Arc::clone(&self.tls), name)?;
        Ok(BufReader::new(StreamOwned::new(connection, socket)))
    }
}

/// An open watch: yields `{"type": …, "object": …}`.
#[derive(Debug)]
pub struct Watch {
    stream: Stream,
    rest: Vec<u8>,
}

impl Iterator for Watch {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Result<Value>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).map_err(Into::into));
            }
            match chunk(&mut self.stream) {
                Ok(bytes) if bytes.is_empty() => return None,
                Ok(bytes) => self.rest.extend(bytes),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The path of the collection an object belongs to.
pub fn collection(object: &Value) -> Result<String> {
    let text = |key: &str| object[key].as_str().with_context(|| format!("the object has no {key}: {object}"));
    let (version, kind) = (text("apiVersion")?, text("kind")?.to_lowercase());
    let group = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = match kind.as_bytes() {
        [.., b's'] => format!("{kind}es"),
        [stem @ .., b'y'] => format!("{}ies", String::from_utf8_lossy(stem)),
        _ => format!("{kind}s"),
    };
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{group}/namespaces/{namespace}/{plural}"),
        None => format!("{group}/{plural}"),
    })
}

struct Head {
    code: u16,
    length: Option<usize>,
    chunked: bool,
}

fn exchange(stream: &mut Stream, method: &str, path: &str, kind: &str, body: Option<&Value>) -> Result<(u16, Value)> {
    send(stream, method, path, kind, body)?;
    let head = head(stream)?;
    let mut bytes = vec![0; head.length.unwrap_or(0)];
    if head.chunked {
        loop {
            let part = chunk(stream)?;
            if part.is_empty() {
                break;
            }
            bytes.extend(part);
        }
    } else {
        stream.read_exact(&mut bytes)?;
    }
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| serde_json::json!({ "message": String::from_utf8_lossy(&bytes) }));
    Ok((head.code, value))
}

fn send(stream: &mut Stream, method: &str, path: &str, kind: &str, body: Option<&Value>) -> Result<()> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: kubernetes\r\nAccept: application/json\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.get_mut().write_all(request.as_bytes())?;
    stream.get_mut().flush()?;
    Ok(())
}

fn head(stream: &mut Stream) -> Result<Head> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let code = line.split(' ').nth(1).with_context(|| format!("not HTTP: {line:?}"))?.parse()?;
    let mut head = Head { code, length: None, chunked: false };
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(head) };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => head.length = Some(value.parse()?),
            ("transfer-encoding", "chunked") => head.chunked = true,
            _ => {}
        }
    }
}

/// One chunk of a chunked body; empty at its end.
fn chunk(stream: &mut Stream) -> Result<Vec<u8>> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let size = usize::from_str_radix(line.trim(), 16).with_context(|| format!("the stream broke off: {line:?}"))?;
    let mut bytes = vec![0; size + 2];
    stream.read_exact(&mut bytes)?;
    bytes.truncate(size);
    Ok(bytes)
}

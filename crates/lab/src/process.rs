//! A program started on a host: signals, the end, the log.

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs, io};

use crate::wait::{secs, until};

/// A running program with its own process group; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command` in the caller's network namespace; output is appended to `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Process> {
        let out = fs::File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| cannot_start(&program, &error))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        Ok(Process { name: name.to_owned(), pid, log: log.to_owned(), child: Mutex::new(child) })
    }

    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, as seen in the sandbox.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends a signal to the program and what it started.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} has ended already ({status}):\n{}", self.name, self.tail(20));
        }
        killpg(self.pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        Ok(self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&self, within: Duration) -> Result<ExitStatus> {
        until(&format!("{} ends", self.name), within, || self.ended()?.context("it still runs"))
    }

    /// Asks it to end (SIGTERM) and insists after ten seconds; an end it asked for counts as success.
    pub fn stop(self) -> Result<()> {
        if self.ended()?.is_none() {
            self.signal(Signal::SIGTERM)?;
        }
        let status = self.wait(secs(10))?;
        if status.success() || status.signal() == Some(Signal::SIGTERM as i32) {
            return Ok(());
        }
        bail!("{} ended badly when asked to stop ({status}):\n{}", self.name, self.tail(20))
    }

    /// Ends it with SIGKILL and returns when it is gone.
    pub fn kill(&self) -> Result<()> {
        let _ = killpg(self.pid, Signal::SIGKILL);
        self.wait(secs(10)).map(drop)
    }

    /// Fails, with the log's end, when it no longer runs.
    pub fn check(&self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("{} has ended ({status}):\n{}", self.name, self.tail(20))),
        }
    }

    /// As [`until`], but fails at once when the program ends, and with the log's end in any case.
    pub fn until<T>(&self, what: &str, within: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
        let outcome = until(what, within, || match self.check() {
            Err(ended) => Ok(Err(ended.context(format!("waiting for this: {what}")))),
            Ok(()) => probe().map(Ok),
        });
        outcome.with_context(|| format!("the log of {}:\n{}", self.name, self.tail(20))).and_then(|found| found)
    }

    /// Everything it and earlier programs of that name on that host have printed.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of the log.
    pub fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Resident memory in KiB (`VmRSS`).
    pub fn rss_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(None)) {
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

/// Fails unless all these programs are there; the error names every missing one and how to install them.
pub fn require(programs: &[&str]) -> Result<()> {
    let places = env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| env::split_paths(&places).any(|place| place.join(program).exists());
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().filter_map(|program| package(program)).collect();
    packages.dedup();
    bail!("missing: {}; install with: apt install {}", missing.join(", "), packages.join(" "))
}

/// The error of a program that could not be started; one that is not there is named with its Debian package.
pub(crate) fn cannot_start(program: &str, error: &io::Error) -> anyhow::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return anyhow!("cannot start {program}: {error}");
    }
    match package(program.rsplit('/').next().unwrap_or(program)) {
        Some(package) => anyhow!("the program `{program}` is missing: apt install {package}"),
        None => anyhow!("the program `{program}` is missing"),
    }
}

fn package(program: &str) -> Option<&'static str> {
    Some(match program {
        "ip" | "tc" => "iproute2",
        "nft" => "nftables",
        "nginx" => "nginx-light",
        "arping" => "iputils-arping",
        "conntrack" => "conntrack",
        "containerd" | "ctr" => "containerd",
        "runc" => "runc",
        "busybox" => "busybox-static",
        "bridge" | "host-local" => "containernetworking-plugins",
        "tcpdump" => "tcpdump",
        "curl" => "curl",
        "bgpd" | "zebra" | "vtysh" => "frr",
        "bird" | "birdc" => "bird2",
        "gobgpd" | "gobgp" => "gobgpd",
        _ => return None,
    })
}

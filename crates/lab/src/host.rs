//! Machines and cables: a [`Host`] is a named network namespace, a [`Switch`] a host with a bridge, a port of it one veth pair.

use anyhow::{Context, Result, anyhow, bail};
use engine::IfIndex;
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use crate::process::{Process, cannot_start};
use crate::sandbox::Sandbox;

/// One set of machines: names are its own, files are below its folder.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The sandbox it lives in.
    pub sandbox: Sandbox,
    /// Where its files go.
    pub dir: PathBuf,
    id: u32,
}

impl Lab {
    /// An empty lab; `name` is for folders and messages, it need not be unique.
    pub fn new(sandbox: &Sandbox, name: &str) -> Result<Lab> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = sandbox.dir.join(format!("{name}.{id}"));
        fs::create_dir_all(&dir)?;
        fs::create_dir_all(sandbox.dir.join("logs").join(format!("{name}.{id}")))?;
        Ok(Lab { sandbox: sandbox.clone(), dir, id })
    }

    /// A folder of its own below the lab's.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A new machine with nothing but `lo`.
    pub fn host(&self, name: &str) -> Result<Host> {
        let netns = format!("{}-{name}", self.id);
        command(Command::new("ip").args(["netns", "add", &netns]))?;
        let file = File::open(format!("/run/netns/{netns}"))?;
        let logs = self.sandbox.dir.join("logs").join(self.dir.file_name().unwrap_or_default());
        let host = Host(Arc::new(Inner { name: name.to_owned(), netns, file, logs }));
        host.ip("link set lo up")?;
        // Else a connection to somewhere may have by chance the port that a program is to listen on.
        host.sysctl("net/ipv4/ip_local_reserved_ports", "50051-50053")?;
        Ok(host)
    }

    /// A new network segment.
    pub fn switch(&self, name: &str) -> Result<Switch> {
        let host = self.host(name)?;
        host.ip("link add name br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0")?;
        host.ip("link set br0 up")?;
        Ok(Switch { host })
    }
}

/// A machine. Clones are the same machine; it is gone with the last of them.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    netns: String,
    file: File,
    logs: PathBuf,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.netns]).stderr(Stdio::null()).status();
    }
}

impl Host {
    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The name of its network namespace, unique in the sandbox.
    pub(crate) fn netns(&self) -> &str {
        &self.0.netns
    }

    /// Runs a shell script there and returns what it printed; fails with its error text.
    pub fn run(&self, script: &str) -> Result<String> {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]);
        self.output(shell).with_context(|| format!("on {}", self.name()))
    }

    /// Runs a program there to its end and returns what it printed.
    pub fn output(&self, mut program: Command) -> Result<String> {
        self.inside(move || command(&mut program))?
    }

    /// `ip` with these arguments, there.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.0.netns]).args(arguments.split_whitespace());
        command(&mut ip).with_context(|| format!("on {}", self.name()))
    }

    /// Gives `eth0`-like device `dev` an address with its prefix length; usable at once, also IPv6 (no duplicate detection).
    pub fn address(&self, dev: &str, address: &str) -> Result<()> {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.ip(&format!("address add {address} dev {dev} {nodad}")).map(drop)
    }

    /// Sets a kernel parameter there, named as in `sysctl`, with slashes in place of dots.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.inside(|| fs::write(format!("/proc/sys/{key}"), value))?
            .with_context(|| format!("on {}: sysctl {key}={value}", self.name()))
    }

    /// Lets it forward packets of both families.
    pub fn forward(&self) -> Result<()> {
        self.sysctl("net/ipv4/ip_forward", "1")?;
        self.sysctl("net/ipv6/conf/all/forwarding", "1")
    }

    /// Starts a program there that goes on; its output goes to a log of that name.
    pub fn spawn(&self, name: &str, program: Command) -> Result<Process> {
        let log = self.0.logs.join(format!("{}.{name}.log", self.name()));
        let label = format!("{name} on {}", self.name());
        self.inside(move || Process::start(&label, program, &log))?
    }

    /// Calls `work` on a thread there: sockets it opens belong to this host for ever.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                Ok(work())
            });
            thread.join().map_err(|_| anyhow!("work on {} panicked", self.name()))?
        })
    }

    /// Starts a thread there that goes on.
    pub fn thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<Result<T>> {
        let host = self.clone();
        thread::spawn(move || {
            host.enter()?;
            Ok(work())
        })
    }

    /// A direct cable to another host: `dev` here, `peer_dev` there, both up.
    pub fn cable(&self, dev: &str, peer: &Host, peer_dev: &str) -> Result<()> {
        self.ip(&format!("link add name {dev} type veth peer name {peer_dev} netns {}", peer.0.netns))?;
        self.ip(&format!("link set dev {dev} up"))?;
        peer.ip(&format!("link set dev {peer_dev} up")).map(drop)
    }

    /// The number of a device.
    pub fn index(&self, dev: &str) -> Result<IfIndex> {
        let line = self.ip(&format!("-o link show dev {dev}"))?;
        Ok(IfIndex(line.split(':').next().unwrap_or_default().trim().parse()?))
    }

    /// The MAC address of a device, in lower case.
    pub fn mac(&self, dev: &str) -> Result<String> {
        let line = self.ip(&format!("-o link show dev {dev}"))?;
        let mac = line.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        Ok(mac.with_context(|| format!("{dev} on {} has no MAC", self.name()))?.to_owned())
    }

    /// Loses this share (in percent) of the frames that come and go at `dev`; 100 is a cut cable that still shows a link.
    /// Replaces an earlier loss at the same device.
    pub fn lose(&self, dev: &str, percent: u8) -> Result<()> {
        self.heal(dev)?;
        let hit = if percent >= 100 { String::new() } else { format!("numgen random mod 100 < {percent}") };
        let hook = |direction| {
            format!(
                "chain {direction} {{\n type filter hook {direction} device \"{dev}\" priority -400;\n {hit} drop\n}}\n"
            )
        };
        let rules = format!("table netdev lose_{dev} {{\n{}{}}}\n", hook("ingress"), hook("egress"));
        self.run(&format!("nft -f - <<'END'\n{rules}END")).map(drop)
    }

    /// Ends what [`Host::lose`] did at `dev`.
    pub fn heal(&self, dev: &str) -> Result<()> {
        self.run(&format!("nft delete table netdev lose_{dev} 2>/dev/null || true")).map(drop)
    }

    fn enter(&self) -> Result<()> {
        setns(&self.0.file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", self.name()))
    }
}

/// A network segment that hosts plug into.
#[derive(Clone, Debug)]
pub struct Switch {
    host: Host,
}

impl Switch {
    /// Plugs `host` in: its device `dev` comes up with these addresses (with prefix length), none is fine.
    pub fn plug(&self, host: &Host, dev: &str, addresses: &[&str]) -> Result<()> {
        self.host.cable(&port(host), host, dev)?;
        self.host.ip(&format!("link set dev {} master br0", port(host)))?;
        for address in addresses {
            host.address(dev, address)?;
        }
        Ok(())
    }

    /// Stops frames from one host to another; the way back stays open.
    pub fn block(&self, from: &Host, to: &Host) -> Result<()> {
        self.cut(from, to, "")
    }

    /// The same for ARP alone.
    pub fn block_arp(&self, from: &Host, to: &Host) -> Result<()> {
        self.cut(from, to, "ether type arp")
    }

    fn cut(&self, from: &Host, to: &Host, what: &str) -> Result<()> {
        let (from, to) = (port(from), port(to));
        self.host.run(&format!(
            "nft add table bridge cut\n\
             nft 'add chain bridge cut f {{ type filter hook forward priority 0; }}'\n\
             nft add rule bridge cut f iifname {from} oifname {to} {what} drop"
        ))?;
        Ok(())
    }

    /// Ends every [`Switch::block`].
    pub fn unblock(&self) -> Result<()> {
        self.host.run("nft delete table bridge cut 2>/dev/null || true").map(drop)
    }

    /// Takes the link of a host's port down, or up again, as pulling a cable does.
    pub fn link(&self, host: &Host, up: bool) -> Result<()> {
        self.host.ip(&format!("link set dev {} {}", port(host), if up { "up" } else { "down" })).map(drop)
    }

    /// The switch itself, to look at its frames.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

/// The switch's name for the port of a host; device names end at 15 characters.
fn port(host: &Host) -> String {
    host.name().chars().take(15).collect()
}

/// Runs a program to its end; its output, or an error with what it complained about.
pub(crate) fn command(program: &mut Command) -> Result<String> {
    let name = program.get_program().to_string_lossy().into_owned();
    let output = program.stdin(Stdio::null()).output().map_err(|error| cannot_start(&name, &error))?;
    if !output.status.success() {
        let arguments: Vec<_> = program.get_args().map(|argument| argument.to_string_lossy()).collect();
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{name} {}` ended with {}: {}", arguments.join(" "), output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

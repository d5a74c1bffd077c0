//! Real routers: FRR, BIRD and GoBGP from Debian, each a process or two on a host of the lab.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::host::{Host, Lab};
use crate::process::Process;
use crate::wait::{secs, until};

const FRR: &str = "/usr/lib/frr";

/// FRR: zebra, which puts routes into the kernel, bgpd, and bfdd where it is wanted.
#[derive(Debug)]
pub struct Frr {
    host: Host,
    dir: PathBuf,
    daemons: Vec<Process>,
}

impl Frr {
    /// Starts it with this configuration of bgpd, and of bfdd.
    pub fn start(lab: &Lab, host: &Host, bgpd: &str, bfdd: Option<&str>) -> Result<Frr> {
        let dir = folder(lab, host, "frr")?;
        let mut daemons = vec![zebra(host, &dir)?];
        let configs = bfdd.map(|config| ("bfdd", config)).into_iter().chain([("bgpd", bgpd)]);
        for (daemon, config) in configs {
            fs::write(dir.join(format!("{daemon}.conf")), config)?;
            let mut command = frr(&dir, daemon);
            // Newer ones take no such option.
            if daemon == "bfdd" && tree().is_none() {
                command.arg("--bfdctl").arg(dir.join("bfdd.sock"));
            }
            let process = host.spawn(daemon, command)?;
            process.until("it answers", secs(20), || Ok(fs::metadata(dir.join(format!("{daemon}.vty")))?))?;
            daemons.push(process);
        }
        let frr = Frr { host: host.clone(), dir, daemons };
        until("bgpd answers", secs(20), || frr.show("show version"))?;
        Ok(frr)
    }

    /// Starts zebra and vrrpd, with this configuration of vrrpd.
    pub fn vrrp(lab: &Lab, host: &Host, vrrpd: &str) -> Result<Frr> {
        let dir = folder(lab, host, "frr")?;
        fs::write(dir.join("vrrpd.conf"), vrrpd)?;
        let zebra = zebra(host, &dir)?;
        let process = host.spawn("vrrpd", frr(&dir, "vrrpd"))?;
        process.until("it answers", secs(20), || Ok(fs::metadata(dir.join("vrrpd.vty"))?))?;
        Ok(Frr { host: host.clone(), dir, daemons: vec![zebra, process] })
    }

    /// Ends all of it in good order.
    pub fn stop(self) -> Result<()> {
        self.daemons.into_iter().rev().try_for_each(Process::stop)
    }

    /// What a command of vtysh prints.
    pub fn show(&self, command: &str) -> Result<String> {
        self.check()?;
        let mut vtysh = program("vtysh");
        vtysh.arg("--vty_socket").arg(&self.dir).args(["-c", command]);
        self.host.output(vtysh)
    }

    /// What a command prints, as JSON.
    pub fn json(&self, command: &str) -> Result<serde_json::Value> {
        let text = self.show(&format!("{command} json"))?;
        serde_json::from_str(&text).with_context(|| format!("{command}: {text}"))
    }

    /// The next hops of its paths to exactly this address.
    pub fn next_hops(&self, address: IpAddr) -> Result<BTreeSet<IpAddr>> {
        let (family, length) = if address.is_ipv4() { ("ipv4", 32) } else { ("ipv6", 128) };
        let value = self.json(&format!("show bgp {family} unicast {address}/{length}"))?;
        let hops = value["paths"].as_array().into_iter().flatten().flat_map(|p| p["nexthops"].as_array());
        // Beside a global address IPv6 has the link-local one.
        let used = hops.flatten().filter(|hop| hop["scope"] != "link-local");
        Ok(used.filter_map(|hop| hop["ip"].as_str()?.parse().ok()).collect())
    }

    /// Changes the running configuration, line by line.
    pub fn configure(&self, lines: &[&str]) -> Result<()> {
        let mut vtysh = program("vtysh");
        vtysh.arg("--vty_socket").arg(&self.dir).args(["-c", "configure terminal"]);
        for line in lines {
            vtysh.args(["-c", line]);
        }
        self.host.output(vtysh).map(drop)
    }

    /// What bgpd has printed.
    pub fn log(&self) -> String {
        self.daemons.last().map(Process::log).unwrap_or_default()
    }

    /// Fails when a part of it has ended.
    pub fn check(&self) -> Result<()> {
        self.daemons.iter().try_for_each(Process::check)
    }
}

/// Where newer routers than this machine's are, if they are to be used: hack/newer-routers.
fn tree() -> Option<PathBuf> {
    std::env::var_os("OXELB_ROUTERS").map(PathBuf::from)
}

fn program(name: &str) -> Command {
    let Some(tree) = tree() else { return Command::new(name) };
    let mut command = Command::new("chroot");
    command.arg(tree).arg(name);
    command
}

/// An empty folder whose path is short enough for a socket: 107 octets. Sockets that one before left would look like
/// those of the daemons that are being started.
fn folder(lab: &Lab, host: &Host, name: &str) -> Result<PathBuf> {
    let dir = &lab.sandbox.dir;
    let path = dir.join(format!("{name}.{}", host.netns()));
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    fs::create_dir_all(&path)?;
    if let Some(tree) = tree() {
        // Those in the tree see it under the same name.
        let inside = tree.join(dir.strip_prefix("/")?);
        let mounts = [("/proc", tree.join("proc")), ("/dev", tree.join("dev")), (&dir.to_string_lossy(), inside)];
        for (from, to) in mounts {
            fs::create_dir_all(&to)?;
            let to = to.display();
            host.run(&format!("mountpoint -q {to} || mount --bind {from} {to}"))?;
        }
    }
    Ok(path)
}

fn frr(dir: &std::path::Path, daemon: &str) -> Command {
    let mut command = program(&format!("{FRR}/{daemon}"));
    command.arg("-f").arg(dir.join(format!("{daemon}.conf"))).arg("-i").arg(dir.join(format!("{daemon}.pid")));
    command.arg("--vty_socket").arg(dir).arg("-z").arg(dir.join("zserv.api"));
    command.args(["-A", "127.0.0.1", "-P", "0", "--log", "stdout"]);
    command
}

/// zebra alone, for others than FRR's own daemons.
fn zebra(host: &Host, dir: &std::path::Path) -> Result<Process> {
    fs::write(dir.join("zebra.conf"), "")?;
    // FRR insists on its own user.
    host.run(&format!("chown -R frr:frr {}", dir.display()))?;
    let zebra = host.spawn("zebra", frr(dir, "zebra"))?;
    zebra.until("zebra is there", secs(20), || Ok(fs::metadata(dir.join("zserv.api"))?))?;
    Ok(zebra)
}

/// BIRD 2.
#[derive(Debug)]
pub struct Bird {
    host: Host,
    control: PathBuf,
    process: Process,
}

impl Bird {
    /// Starts it with this configuration.
    pub fn start(lab: &Lab, host: &Host, config: &str) -> Result<Bird> {
        let dir = folder(lab, host, "bird")?;
        let (path, control) = (dir.join("bird.conf"), dir.join("bird.ctl"));
        fs::write(&path, config)?;
        let mut command = program("bird");
        command.args(["-f", "-c"]).arg(&path).arg("-s").arg(&control).arg("-P").arg(dir.join("bird.pid"));
        let process = host.spawn("bird", command)?;
        let bird = Bird { host: host.clone(), control, process };
        bird.process.until("bird answers", secs(20), || bird.show("show status"))?;
        Ok(bird)
    }

    /// What a command of birdc prints.
    pub fn show(&self, command: &str) -> Result<String> {
        self.process.check()?;
        let mut birdc = program("birdc");
        birdc.arg("-s").arg(&self.control).args(command.split_whitespace());
        self.host.output(birdc)
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The next hops of its paths to exactly this address.
    pub fn next_hops(&self, address: IpAddr) -> Result<BTreeSet<IpAddr>> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        // Asked for one network by name it answers with an error where there is no route.
        let text = self.show(&format!("show route where net = {address}/{length} all"))?;
        // As BIRD 2 and BIRD 3 write it.
        let hop =
            |line: &str| line.strip_prefix("BGP.next_hop: ").or(line.strip_prefix("bgp_next_hop: ")).map(str::to_owned);
        let lines = text.lines().filter_map(|line| hop(line.trim()));
        Ok(lines.filter_map(|hops| hops.split_whitespace().next()?.parse().ok()).collect())
    }

    /// Ends it in good order.
    pub fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

/// GoBGP, which puts no routes into the kernel: that of Debian and FRR's zebra do not understand each other.
#[derive(Debug)]
pub struct GoBgp {
    host: Host,
    process: Process,
}

impl GoBgp {
    /// Starts it with this configuration.
    pub fn start(lab: &Lab, host: &Host, config: &str) -> Result<GoBgp> {
        let path = folder(lab, host, "gobgp")?.join("gobgpd.toml");
        fs::write(&path, config)?;
        let mut command = program("gobgpd");
        command.arg("-f").arg(&path).args(["--api-hosts", "127.0.0.1:50051", "--pprof-disable"]);
        let process = host.spawn("gobgpd", command)?;
        let gobgp = GoBgp { host: host.clone(), process };
        gobgp.process.until("gobgpd answers", secs(20), || gobgp.show("global"))?;
        Ok(gobgp)
    }

    /// The daemon.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it in good order.
    pub fn stop(self) -> Result<()> {
        self.process.stop()
    }

    /// The next hops of its paths to this prefix.
    pub fn next_hops(&self, prefix: &str) -> Result<BTreeSet<IpAddr>> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let text = self.show(&format!("global rib -a {family} -j"))?;
        let table: serde_json::Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let mut hops = BTreeSet::new();
        for path in table[prefix].as_array().into_iter().flatten() {
            let attributes = path["attrs"].as_array().into_iter().flatten();
            hops.extend(attributes.filter_map(|a| a["nexthop"].as_str()?.parse::<IpAddr>().ok()));
        }
        Ok(hops)
    }

    /// What a command of gobgp prints.
    pub fn show(&self, command: &str) -> Result<String> {
        self.process.check()?;
        let mut gobgp = program("gobgp");
        gobgp.args(command.split_whitespace());
        self.host.output(gobgp)
    }
}

/// ExaBGP, which tells what it hears line by line, as JSON.
#[derive(Debug)]
pub struct ExaBgp {
    heard: PathBuf,
    process: Process,
}

impl ExaBgp {
    /// Starts it with these neighbours, each the inside of a block of its own; to each it announces `route`.
    pub fn start(lab: &Lab, host: &Host, neighbours: &[(IpAddr, String)], route: &str) -> Result<ExaBgp> {
        let dir = folder(lab, host, "exabgp")?;
        let (config, script, heard) = (dir.join("exabgp.conf"), dir.join("hear"), dir.join("heard"));
        fs::write(&heard, "")?;
        // It gives lines without waiting, to a program that therefore has to wait for them by itself.
        let hear = format!(
            "#!/usr/bin/env python3\nimport os, select\nheard = open('{}', 'ab', 0)\nwhile select.select([0], [], []):\n    \
             octets = os.read(0, 65536)\n    if not octets: break\n    heard.write(octets)\n",
            heard.display()
        );
        fs::write(&script, hear)?;
        host.run(&format!("chmod +x {}", script.display()))?;
        let mut text = format!("process heard {{\n run {};\n encoder json;\n}}\n", script.display());
        for (neighbour, more) in neighbours {
            text.push_str(&format!(
                "neighbor {neighbour} {{\n{more} static {{ route {route}; }}\n \
                 api {{ processes [ heard ]; receive {{ parsed; update; }} }}\n}}\n"
            ));
        }
        fs::write(&config, text)?;
        let mut command = Command::new("exabgp");
        command.arg(&config);
        for (key, value) in
            [("daemon_user", "root"), ("daemon_drop", "false"), ("api_cli", "false"), ("log_all", "true")]
        {
            command.env(format!("exabgp_{key}"), value);
        }
        Ok(ExaBgp { heard, process: host.spawn("exabgp", command)? })
    }

    /// Waits until a line has all of these words; lines before `since` do not count. Gives the number of lines.
    pub fn hears(&self, since: usize, words: &[&str]) -> Result<usize> {
        self.process.until(&format!("it hears of {words:?}"), secs(30), || {
            let text = fs::read_to_string(&self.heard)?;
            let has = |line: &str| words.iter().all(|word| line.contains(word));
            if !text.lines().skip(since).any(has) {
                bail!("{text}");
            }
            Ok(text.lines().count())
        })
    }

    /// Ends it in good order.
    pub fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

/// The next hops of the kernel's route to exactly this address; none when there is no route.
pub fn next_hops(host: &Host, to: IpAddr) -> Result<BTreeSet<IpAddr>> {
    let family = if to.is_ipv4() { "-4" } else { "-6" };
    let text = host.ip(&format!("{family} route show {to}"))?;
    let mut hops = BTreeSet::new();
    let words: Vec<&str> = text.split_whitespace().collect();
    for pair in words.windows(2) {
        if let ["via", hop] = pair {
            hops.insert(hop.parse().with_context(|| format!("{hop} in {text:?}"))?);
        }
    }
    Ok(hops)
}

/// Waits until the kernel's route to the address has exactly these next hops.
pub fn until_next_hops(host: &Host, to: IpAddr, wanted: &BTreeSet<IpAddr>) -> Result<()> {
    until(&format!("{to} is reached over {wanted:?}"), secs(20), || {
        let found = next_hops(host, to)?;
        if found != *wanted {
            bail!("{found:?}");
        }
        Ok(())
    })
}

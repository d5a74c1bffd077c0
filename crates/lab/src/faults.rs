//! What can go wrong with the owner of an address, done to real speakers on a real switch, and what the wire says of it:
//! for how long nobody answered, and whether ever two did.
//!
//! ```text
//!  counter .0.102 ── asks by ARP, every 2 ms ──┐
//!  router .0.1 ────────────────────────────────┼─ switch ─┬─ n1 … n5: speakers on one folder of YAML
//!  controller (on the router) ─────────────────┘          └─ …
//! ```

use anyhow::{Context, Result, ensure};
use engine::MacAddr;
use net::PacketSocket;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::census::{Answers, Census};
use crate::cluster::DEVICE;
use crate::host::{Host, Lab, Switch};
use crate::oxelb::{self, Source};
use crate::process::Process;
use crate::wait::{millis, secs, until};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 180);
const COUNTER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 102);
/// Between two questions.
const PACE: Duration = millis(2);
/// How long it is watched after a fault, and after it is over: longer than any lease of the presets used here.
const WATCH: Duration = millis(3500);
const AFTER: Duration = millis(1200);

/// How long another program speaks for the address.
const SPEAK: Duration = millis(2500);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The owner's speaker is killed (SIGKILL).
    Kill,
    /// It is stopped for two seconds, and goes on.
    Pause,
    /// The owner's cable is pulled.
    Cable,
    /// Frames of the other nodes do not reach the owner.
    Deaf,
    /// Frames of the owner do not reach the other nodes; everybody else hears it.
    Mute,
    /// The owner's UDP port is blocked, while ARP passes.
    Port,
    /// Both processors are busy for three seconds. Nothing is to happen.
    Starved,
    /// The controller is killed, then the owner's speaker.
    Headless,
    /// The speaker is stopped in good order and started anew, as in an update.
    Upgrade,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 9] = [
        Fault::Kill,
        Fault::Pause,
        Fault::Cable,
        Fault::Deaf,
        Fault::Mute,
        Fault::Port,
        Fault::Starved,
        Fault::Headless,
        Fault::Upgrade,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "speaker killed (-9)",
            Fault::Pause => "speaker stopped for 2 s, then continued",
            Fault::Cable => "cable pulled",
            Fault::Deaf => "owner hears no node",
            Fault::Mute => "no node hears the owner",
            Fault::Port => "UDP port blocked, ARP passes",
            Fault::Starved => "both processors busy",
            Fault::Headless => "controller killed, then the owner",
            Fault::Upgrade => "speaker updated",
        }
    }

    /// Whether another node is to answer afterwards; `None` where either is right.
    fn moves(self) -> Option<bool> {
        match self {
            Fault::Starved => Some(false),
            // It cannot hear that others would own the address, and everybody hears it: the others yield to it.
            Fault::Deaf => None,
            _ => Some(true),
        }
    }

    /// For how long nobody may answer where a lease gives up within `lease` and another follows.
    pub fn most(self, lease: Duration) -> Duration {
        if self == Fault::Deaf { lease * 4 } else { lease }
    }
}

/// What the wire said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The longest time without an answer.
    pub gap: Duration,
    /// Buckets of 10 ms in which two nodes answered.
    pub doubled: usize,
}

/// An ARP answer that nobody asked for (RFC 826): this host has the address.
fn gratuitous(mac: MacAddr) -> Vec<u8> {
    let header = [&[0xff; 6][..], &mac.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
    [&header[..], &mac.0, &ADDRESS.octets(), &[0xff; 6], &ADDRESS.octets()].concat()
}

/// Twice as many threads as there are processors, which do nothing else.
fn busy(how_long: Duration) {
    let until = Instant::now() + how_long;
    let threads = 2 * std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let busy = || std::thread::spawn(move || while Instant::now() < until {});
    let threads: Vec<_> = (0..threads).map(|_| busy()).collect();
    threads.into_iter().for_each(|t| drop(t.join()));
}

fn said(host: &Host) -> Result<Value> {
    Ok(serde_json::from_str(&host.run("curl -sSf --max-time 2 http://127.0.0.1:50053/owners")?)?)
}

struct Node {
    name: String,
    host: Host,
    mac: MacAddr,
    speaker: Process,
}

/// Speakers that share an address.
pub struct Scene {
    lab: Lab,
    lan: Switch,
    router: Host,
    counter: Host,
    folder: PathBuf,
    nodes: Vec<Node>,
    controller: Option<Process>,
}

impl Scene {
    /// So many nodes whose pool has this preset; with or without a gateway. Returns when one of them answers.
    pub fn start(lab: &Lab, nodes: u8, preset: &str, gateway: bool) -> Result<Scene> {
        let spec = format!("{{address: {ADDRESS}, protocol: layer2, interface: {DEVICE}, failover: {preset}}}");
        Scene::with_pool(lab, nodes, &spec, 1, gateway)
    }

    /// The same with a pool of this spec, whose first address is the one that is asked for, and so many Services.
    pub fn with_pool(lab: &Lab, nodes: u8, spec: &str, services: usize, gateway: bool) -> Result<Scene> {
        let lan = lab.switch("lan")?;
        let (router, counter) = (lab.host("router")?, lab.host("counter")?);
        lan.plug(&router, "eth0", &["192.168.0.1/22"])?;
        lan.plug(&counter, "eth0", &[&format!("{COUNTER}/22")])?;
        let folder = lab.folder("objects")?;
        let mut scene = Scene { lab: lab.clone(), lan, router, counter, folder, nodes: Vec::new(), controller: None };
        let mut objects =
            format!("apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {{name: pool}}\nspec: {spec}\n");
        for number in 0..services {
            objects += &format!(
                "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web{number:04}\n  namespace: default\n  annotations:\n    \
                 lb.kubesphere.io/v1alpha1: openelb\n    eip.openelb.kubesphere.io/v1alpha2: pool\n\
                 spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n"
            );
        }
        fs::write(scene.folder.join("service.yaml"), objects)?;
        let mut plugged = Vec::new();
        for number in 1..=nodes {
            let (name, address) = (format!("n{number}"), format!("192.168.0.{}", 10 + number));
            let host = lab.host(&name)?;
            scene.lan.plug(&host, DEVICE, &[&format!("{address}/22")])?;
            if gateway {
                host.ip("route add default via 192.168.0.1")?;
            }
            let manifest = format!(
                "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n\
                 status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
            );
            fs::write(scene.folder.join(format!("{name}.yaml")), manifest)?;
            plugged.push((name, host));
        }
        scene.start_controller()?;
        for (name, host) in plugged {
            let (mac, speaker) = (host.mac(DEVICE)?.parse()?, scene.speaker(&name, &host)?);
            scene.nodes.push(Node { name, host, mac, speaker });
        }
        scene.settled()?;
        Ok(scene)
    }

    fn speaker(&self, name: &str, host: &Host) -> Result<Process> {
        let state = self.lab.folder(&format!("state.{name}"))?;
        host.spawn("speaker", oxelb::speaker(&Source::Folder(self.folder.clone()), name, &state)?)
    }

    fn start_controller(&mut self) -> Result<()> {
        let command = oxelb::controller(&Source::Folder(self.folder.clone()))?;
        self.controller = Some(self.router.spawn("controller", command)?);
        Ok(())
    }

    fn logs(&self) -> String {
        self.nodes.iter().map(|n| format!("{}:\n{}\n", n.name, n.speaker.tail(8))).collect()
    }

    /// Waits until all speakers are ready, hear each other, are of one mind about the acceptors, and one owns the
    /// address and answers; gives that one.
    fn settled(&self) -> Result<usize> {
        let size = if self.nodes.len() < 3 { 1 } else { 3 };
        until("the speakers are of one mind", secs(60), || {
            let mut owner = None;
            for (number, node) in self.nodes.iter().enumerate() {
                node.host.run("curl -sSf --max-time 2 http://127.0.0.1:50053/readyz")?;
                let said = said(&node.host)?;
                let count = |key: &str| said[key].as_array().map_or(0, Vec::len);
                ensure!(count("alive") + 1 == self.nodes.len() && count("acceptors") >= size, "{}: {said}", node.name);
                let ours = |a: &&Value| a["address"] == ADDRESS.to_string().as_str() && a["owner"] == node.name;
                let owns = said["addresses"].as_array().into_iter().flatten().any(|a| ours(&a));
                ensure!(!(owns && owner.is_some()), "two own it");
                owner = owner.or(owns.then_some(number));
            }
            let owner = owner.context("nobody owns it")?;
            let found = crate::client::arp(&self.counter, "eth0", IpAddr::V4(ADDRESS))?;
            ensure!(found.into_iter().eq([self.nodes[owner].mac.to_string()]), "not the owner alone answers");
            Ok(owner)
        })
        .with_context(|| self.logs())
    }

    /// Does it to the owner, watches, undoes it, and waits until all is as before.
    pub fn run(&mut self, fault: Fault) -> Result<Outcome> {
        let owner = self.settled()?;
        let census = self.census()?;
        std::thread::sleep(millis(100));
        let since = Instant::now();
        self.inject(fault, owner)?;
        std::thread::sleep(WATCH.saturating_sub(since.elapsed()));
        let end = Instant::now();
        self.undo(fault, owner)?;
        std::thread::sleep(AFTER);
        let answers = census.finish()?;
        let outcome = Outcome { gap: answers.gap(since, end), doubled: answers.doubled() };
        self.judge(fault, owner, &answers).with_context(|| format!("{}: {outcome:?}", fault.name()))?;
        self.settled().with_context(|| format!("after: {}", fault.name()))?;
        Ok(outcome)
    }

    /// The node that owns the address, when all are of one mind.
    pub fn owner(&self) -> Result<String> {
        Ok(self.nodes[self.settled()?].name.clone())
    }

    /// The nodes.
    pub fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("no node {name}"))
    }

    /// A node's machine.
    pub fn host(&self, name: &str) -> Result<&Host> {
        Ok(&self.node(name)?.host)
    }

    /// The machine that is the gateway.
    pub fn router(&self) -> &Host {
        &self.router
    }

    /// The nodes that have the address on their interface.
    pub fn have(&self, address: &str) -> Result<Vec<String>> {
        let mut have = Vec::new();
        for node in &self.nodes {
            if node.host.ip(&format!("addr show dev {DEVICE}"))?.contains(&format!(" {address}/")) {
                have.push(node.name.clone());
            }
        }
        Ok(have)
    }

    /// Changes the objects: one text for another.
    pub fn edit(&self, from: &str, to: &str) -> Result<()> {
        let file = self.folder.join("service.yaml");
        let text = fs::read_to_string(&file)?;
        ensure!(text.contains(from), "{from} is not there:\n{text}");
        Ok(fs::write(file, text.replace(from, to))?)
    }

    /// More objects, in a file of their own.
    pub fn apply(&self, name: &str, text: &str) -> Result<()> {
        let draft = self.folder.join(format!(".{name}"));
        fs::write(&draft, text)?;
        Ok(fs::rename(draft, self.folder.join(format!("{name}.yaml")))?)
    }

    /// What a node's speaker has printed.
    pub fn log(&self, name: &str) -> Result<String> {
        Ok(self.node(name)?.speaker.log())
    }

    /// What the pool's status says.
    pub fn pool(&self) -> Result<String> {
        self.status("Eip.pool.yaml")
    }

    /// What a file of the folder `status` says.
    pub fn status(&self, file: &str) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("status").join(file))?)
    }

    /// What a node's speaker says of owners and acceptors.
    pub fn said(&self, name: &str) -> Result<Value> {
        said(&self.node(name)?.host)
    }

    /// Starts the speaker of a node anew.
    pub fn restart(&mut self, name: &str) -> Result<()> {
        let place = self.nodes.iter().position(|n| n.name == name).with_context(|| format!("no node {name}"))?;
        self.nodes[place].speaker.wait(secs(15))?;
        self.nodes[place].speaker = self.speaker(name, &self.nodes[place].host)?;
        Ok(())
    }

    /// Drains a node, or ends that.
    pub fn drain(&self, name: &str, drained: bool) -> Result<()> {
        let file = self.folder.join(format!("{name}.yaml"));
        let (plain, drain) =
            (format!("{{name: {name}}}"), format!("{{name: {name}, annotations: {{oxelb.io/drain: 'true'}}}}"));
        let (from, to) = if drained { (plain, drain) } else { (drain, plain) };
        let text = fs::read_to_string(&file)?.replace(&from, &to);
        ensure!(text.contains(&to), "{from} is not there:\n{text}");
        Ok(fs::write(file, text)?)
    }

    /// The interface of a node.
    pub fn mac(&self, name: &str) -> Result<MacAddr> {
        Ok(self.node(name)?.mac)
    }

    /// Stops a node's speaker in good order.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.node(name)?.speaker.signal(Signal::SIGTERM)
    }

    /// Stops a node's speaker for so long, as a busy machine may; then it goes on.
    pub fn pause(&self, name: &str, how_long: Duration) -> Result<()> {
        let speaker = &self.node(name)?.speaker;
        speaker.signal(Signal::SIGSTOP)?;
        std::thread::sleep(how_long);
        speaker.signal(Signal::SIGCONT)
    }

    /// Kills a node's speaker.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.node(name)?.speaker.kill()
    }

    /// Kills a node's speaker, and the node is gone for good.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.kill(name)?;
        self.nodes.retain(|node| node.name != name);
        Ok(fs::remove_file(self.folder.join(format!("{name}.yaml")))?)
    }

    /// Runs an operator's verb on the folder.
    pub fn oxelb(&self, words: &[&str]) -> Result<Value> {
        let mut command = Command::new(oxelb::binary()?);
        command.args(words).arg(format!("--source={}", self.folder.display())).args(["--output", "json"]);
        Ok(serde_json::from_str(&self.router.output(command)?)?)
    }

    /// Who answers for the address now.
    pub fn answering(&self) -> Result<BTreeSet<String>> {
        crate::client::arp(&self.counter, "eth0", IpAddr::V4(ADDRESS))
    }

    /// Asks for the address all the time, from now on.
    pub fn census(&self) -> Result<Census> {
        Census::start(&self.counter, COUNTER, ADDRESS, PACE)
    }

    /// Keeps both processors busy for so long: who answered meanwhile.
    pub fn starve(&self, how_long: Duration) -> Result<(Outcome, usize)> {
        self.settled()?;
        let (census, since) = (self.census()?, Instant::now());
        busy(how_long);
        let (end, answers) = (Instant::now(), census.finish()?);
        let outcome = Outcome { gap: answers.gap(since, end), doubled: answers.doubled() };
        Ok((outcome, answers.owners().len().saturating_sub(1)))
    }

    /// Freezes the owner's process, while another program on its node speaks for the address all the time: how
    /// long after that the last of those frames came out of the node. Then the owner's process goes on.
    pub fn frozen(&mut self) -> Result<Duration> {
        let owner = &self.nodes[self.settled()?];
        let (mac, frame) = (owner.mac, gratuitous(owner.mac));
        let (from, to) = (owner.host.index(DEVICE)?, self.counter.index("eth0")?);
        let speak = owner.host.thread(move || -> Result<()> {
            let socket = PacketSocket::open(from)?;
            let end = Instant::now() + SPEAK;
            while Instant::now() < end {
                let _ = socket.send(&frame); // dropped on its way out is told as an error
                std::thread::sleep(PACE);
            }
            Ok(())
        });
        let hear = self.counter.thread(move || -> Result<Vec<Instant>> {
            let (socket, mut buffer, mut heard) = (PacketSocket::open(to)?, [0; 2048], Vec::new());
            let end = Instant::now() + SPEAK;
            while Instant::now() < end {
                match socket.receive(&mut buffer)? {
                    Some(42..) if buffer[22..28] == mac.0 && buffer[28..32] == ADDRESS.octets() => {
                        heard.push(Instant::now());
                    }
                    Some(_) => {}
                    None => std::thread::sleep(millis(1)),
                }
            }
            Ok(heard)
        });
        std::thread::sleep(millis(300));
        let stopped = Instant::now();
        owner.speaker.signal(Signal::SIGSTOP)?;
        let joined = |_| anyhow::anyhow!("it panicked");
        speak.join().map_err(joined)???;
        let heard = hear.join().map_err(joined)???;
        owner.speaker.signal(Signal::SIGCONT)?;
        ensure!(heard.iter().any(|at| *at < stopped), "nothing was heard before the stop either");
        self.settled()?;
        Ok(heard.last().map_or(Duration::ZERO, |last| last.saturating_duration_since(stopped)))
    }

    /// A number among a node's metrics, of the address where it is one of addresses.
    fn metric(&self, node: &Node, name: &str) -> Result<u64> {
        let text = node.host.run("curl -sSf --max-time 2 http://127.0.0.1:50053/metrics")?;
        let line = text.lines().find(|l| l.split([' ', '{']).next() == Some(name));
        let value = line.and_then(|l| l.rsplit(' ').next()?.parse().ok());
        value.with_context(|| format!("{}: no {name}", node.name))
    }

    /// The same, by the node's name.
    pub fn count(&self, name: &str, metric: &str) -> Result<u64> {
        self.metric(self.node(name)?, metric)
    }

    /// Until the numbers of all nodes but one make this sum.
    fn others_say(&self, but: usize, name: &str, wanted: u64) -> Result<()> {
        until(&format!("{name} is {wanted}"), secs(40), || {
            let others = self.nodes.iter().enumerate().filter(|(n, _)| *n != but);
            let sum = others.map(|(_, node)| self.metric(node, name)).sum::<Result<u64>>()?;
            ensure!(sum == wanted, "{sum}");
            Ok(())
        })
    }

    /// The gateway does not answer the owner any more, and later nobody: how long until the address was moved. Nothing
    /// else moves it.
    pub fn gateway_silent(&mut self) -> Result<Duration> {
        let owner = self.settled()?;
        let (census, since) = (self.census()?, Instant::now());
        self.lan.block(&self.router, &self.nodes[owner].host)?;
        let heir = until("another node owns it", secs(40), || {
            let heir = self.settled()?;
            ensure!(heir != owner);
            Ok(heir)
        })?;
        let took = since.elapsed();
        let answers = census.finish()?;
        ensure!(answers.doubled() == 0 && answers.gap(since, since + took) < millis(900), "it was no planned move");
        for node in &self.nodes {
            self.lan.block(&self.router, &node.host)?;
        }
        let silent = |wanted: u64| {
            until("the owner's gateway is silent, or is not", secs(40), || {
                ensure!(self.metric(&self.nodes[heir], "oxelb_gateways_silent")? == wanted);
                Ok(())
            })
        };
        silent(1)?;
        std::thread::sleep(secs(8));
        ensure!(self.settled()? == heir, "it was moved though the gateway answers nobody");
        self.lan.unblock()?;
        silent(0)?;
        std::thread::sleep(secs(8));
        ensure!(self.settled()? == heir, "the gateway's return moved it");
        Ok(took)
    }

    /// The owner's ARP answers reach no other node, and then a stranger answers these instead: what the node that asks
    /// makes of it, and that the owner announces itself again.
    pub fn stranger(&mut self) -> Result<()> {
        let owner = self.settled()?;
        let announced = || self.metric(&self.nodes[owner], "gratuitous_sent");
        for other in self.nodes.iter().filter(|n| n.name != self.nodes[owner].name) {
            self.lan.block_arp(&self.nodes[owner].host, &other.host)?;
        }
        let before = announced()?;
        self.others_say(owner, "oxelb_probes_unanswered", 1)?;
        until("the owner announces itself again", secs(5), || {
            ensure!(announced()? > before);
            Ok(())
        })?;
        let stranger = self.lab.host("stranger")?;
        self.lan.plug(&stranger, "eth0", &["192.168.0.103/22", &format!("{ADDRESS}/22")])?;
        self.others_say(owner, "oxelb_probes_foreign", 1)?;
        self.lan.unblock()?;
        self.others_say(owner, "oxelb_probes_doubled", 1)?;
        stranger.ip(&format!("addr del {ADDRESS}/22 dev eth0"))?;
        for name in ["oxelb_probes_doubled", "oxelb_probes_foreign", "oxelb_probes_unanswered"] {
            self.others_say(owner, name, 0)?;
        }
        ensure!(self.settled()? == owner, "it was moved");
        Ok(())
    }

    fn judge(&self, fault: Fault, owner: usize, answers: &Answers) -> Result<()> {
        let (first, owners) = (self.nodes[owner].mac, answers.owners());
        let names: Vec<&str> = owners
            .iter()
            .map(|mac| self.nodes.iter().find(|n| n.mac == *mac).map_or("a stranger", |n| n.name.as_str()))
            .collect();
        ensure!(owners.first() == Some(&first), "{names:?} answered, {} owned it", self.nodes[owner].name);
        let moved = owners.len() > 1;
        ensure!(fault.moves().is_none_or(|moves| moves == moved), "{names:?} answered\n{}", self.logs());
        Ok(())
    }

    fn inject(&mut self, fault: Fault, owner: usize) -> Result<()> {
        let node = &self.nodes[owner];
        let others = || self.nodes.iter().filter(|n| n.name != node.name);
        match fault {
            Fault::Kill => node.speaker.kill(),
            Fault::Pause => self.pause(&node.name, secs(2)),
            Fault::Cable => self.lan.link(&node.host, false),
            Fault::Deaf => others().try_for_each(|other| self.lan.block(&other.host, &node.host)),
            Fault::Mute => others().try_for_each(|other| self.lan.block(&node.host, &other.host)),
            Fault::Port => node
                .host
                .run(
                    "nft add table inet cut\n\
                     nft 'add chain inet cut i { type filter hook input priority 0; }'\n\
                     nft 'add chain inet cut o { type filter hook output priority 0; }'\n\
                     nft add rule inet cut i udp dport 7946 drop\n\
                     nft add rule inet cut o udp dport 7946 drop",
                )
                .map(drop),
            Fault::Starved => {
                busy(secs(3));
                Ok(())
            }
            Fault::Headless => {
                if let Some(controller) = self.controller.take() {
                    controller.kill()?;
                }
                node.speaker.kill()
            }
            Fault::Upgrade => node.speaker.signal(Signal::SIGTERM),
        }
    }

    fn undo(&mut self, fault: Fault, owner: usize) -> Result<()> {
        match fault {
            Fault::Kill | Fault::Headless | Fault::Upgrade => {
                if fault == Fault::Headless {
                    self.start_controller()?;
                }
                let node = &self.nodes[owner];
                let again = self.speaker(&node.name, &node.host)?;
                self.nodes[owner].speaker = again;
                Ok(())
            }
            Fault::Cable => {
                let host = &self.nodes[owner].host;
                self.lan.link(host, true)
            }
            Fault::Deaf | Fault::Mute => self.lan.unblock(),
            Fault::Port => self.nodes[owner].host.run("nft delete table inet cut").map(drop),
            Fault::Pause | Fault::Starved => Ok(()),
        }
    }
}

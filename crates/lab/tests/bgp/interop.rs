//! The same list with each of FRR, BIRD and GoBGP: every kind of session, and what may happen to one.

use crate::scene::*;
use anyhow::{Context, Result, ensure};
use lab::client::Asking;
use lab::host::{Host, Lab};
use lab::router::{Bird, Frr, GoBgp, next_hops};
use lab::wait::{millis, secs, until};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Frr,
    Bird,
    GoBgp,
}

enum Daemon {
    Frr(Frr),
    Bird(Bird),
    GoBgp(GoBgp),
}

/// How the router, and the BgpPeer, have a session.
#[derive(Clone, Default)]
struct Session {
    internal: bool,
    over_v6: bool,
    password: bool,
    security: bool,
    they_wait: bool,
    we_wait: bool,
    /// Seconds.
    hold: Option<u16>,
    restart: bool,
    v4_over_v6: bool,
    all_next_hops: bool,
    /// The interval in milliseconds.
    bfd: Option<u32>,
    /// The router is the client's host, behind another.
    far: bool,
    /// The nodes talk and listen on one interface alone.
    device: bool,
}

pub fn frr(lab: &Lab) -> Result<()> {
    all(lab, Which::Frr)
}

pub fn bird(lab: &Lab) -> Result<()> {
    all(lab, Which::Bird)
}

pub fn gobgp(lab: &Lab) -> Result<()> {
    all(lab, Which::GoBgp)
}

fn all(lab: &Lab, which: Which) -> Result<()> {
    let mut scene = Scene::new(lab)?;
    scene.apply("conf", &conf("").replace("17900", "179"))?;
    // Routers that are not there, one for any device and one for its own: each kind of socket stands beside the other.
    for (name, address, device) in [("nobody", "192.168.0.99", false), ("nobody-on-eth0", "192.168.0.98", true)] {
        let session = Session { bfd: Some(300), device, ..Session::default() };
        scene.apply(name, &session.peer().replace(ROUTER, address).replace("tor", name))?;
    }
    let usual = Session::default();
    let step = |what: &str, result: Result<()>| result.with_context(|| format!("{which:?}: {what}"));
    step("external", external(&scene, which))?;
    step("internal, over IPv6", up(&scene, which, &Session { internal: true, over_v6: true, ..usual.clone() }))?;
    let secure = Session { password: true, security: true, ..usual.clone() };
    step("signed and near, they wait", up(&scene, which, &Session { they_wait: true, ..secure.clone() }))?;
    step("signed and near, we wait on one interface", {
        up(&scene, which, &Session { we_wait: true, device: true, ..secure })
    })?;
    step("we wait on any interface", up(&scene, which, &Session { we_wait: true, ..usual.clone() }))?;
    step("IPv4 with IPv6 next hops", v4_over_v6(&scene, which))?;
    step("all next hops over one session", all_next_hops(&scene, which))?;
    step("a silent cut", silent_cut(&scene, which))?;
    step("behind a router", up(&scene, which, &Session { far: true, ..usual.clone() }))?;
    step("graceful restart", graceful_restart(&mut scene, which))?;
    if which != Which::GoBgp {
        for interval in [300, 50] {
            step(&format!("BFD at {interval} ms"), bfd(&scene, which, interval))?;
        }
    }
    for node in &scene.nodes {
        let log = node.speaker.as_ref().context("no speaker")?.log();
        ensure!(!log.contains("is taken"), "{which:?}: {log}");
    }
    Ok(())
}

/// Comes up, with all routes, and goes.
fn up(scene: &Scene, which: Which, session: &Session) -> Result<()> {
    let daemon = begin(scene, which, session)?;
    let v6 = scene.nodes.iter().map(|n| n.v6).collect();
    daemon.has(scene, V6, &v6)?;
    end(scene, daemon)
}

/// The daemon runs, and has a path over each node.
fn begin(scene: &Scene, which: Which, session: &Session) -> Result<Daemon> {
    let daemon = Daemon::start(scene, which, session)?;
    scene.apply("peer", &session.peer())?;
    let all = scene.nodes.iter().map(|n| if session.v4_over_v6 { n.v6 } else { n.v4 }).collect();
    daemon.has(scene, V4, &all)?;
    Ok(daemon)
}

fn end(scene: &Scene, daemon: Daemon) -> Result<()> {
    scene.delete("peer")?;
    daemon.has(scene, V4, &BTreeSet::new())?;
    daemon.stop()
}

fn external(scene: &Scene, which: Which) -> Result<()> {
    let communities = "bgp: {communities: ['50000:77', '50000:1:2', no-peer], med: 20}";
    scene.apply("pools", &POOLS.replace("172.22.0.10}", &format!("172.22.0.10, {communities}}}")))?;
    scene.service("web4", "bgp-eip", "IPv4", "Local", &[0, 1, 2])?;
    let session = Session::default();
    // Both sides connect, to port 179: one connection of each collision is left.
    let daemon = begin(scene, which, &session)?;
    let (v4, v6): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) = scene.nodes.iter().map(|n| (n.v4, n.v6)).unzip();
    daemon.has(scene, V6, &v6)?;
    until("the router shows communities of all kinds", secs(20), || {
        let said = daemon.said(V4)?.to_lowercase();
        let has = |any: &[&str]| any.iter().any(|word| said.contains(word));
        ensure!(has(&["50000:77", "(50000,77)"]) && has(&["50000:1:2", "(50000, 1, 2)"]), "{said}");
        // NO_PEER is 65535:65284; BIRD shows of the link bandwidth, 1 MB/s, the octets of the number.
        ensure!(has(&["no-peer", "65535:65284", "(65535,65284)"]), "{said}");
        ensure!(has(&["lb:50000:", "(unknown 0x4, 50000, 1232348160)", "bandwidth", "[50000:1000000]"]), "{said}");
        Ok(())
    })?;
    if which != Which::GoBgp {
        scene.answers(V4, &[0, 1, 2])?;
        scene.answers(V6, &[0, 1, 2])?;
    }
    scene.apply("pools", POOLS)?;
    scene.service("web4", "bgp-eip", "IPv4", "Cluster", &[0, 1, 2])?;
    // Either side's operator resets the sessions.
    daemon.has(scene, V4, &v4)?;
    let established = |metric: &str| -> Result<u64> {
        let text = scene.metrics(0)?;
        let line = text.lines().find(|line| line.starts_with(metric)).with_context(|| text.clone())?;
        Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
    };
    // All is asked for again, of both families at once; FRR says where that is not as it should be.
    if let Daemon::Frr(frr) = &daemon {
        let asked = || frr.json("show bgp neighbors 192.168.0.2").map(|n| n["192.168.0.2"]["messageStats"].clone());
        let before = asked()?["routeRefreshRecv"].as_u64().context("no count")?;
        for family in ["ipv4", "ipv6"] {
            frr.show(&format!("clear bgp {family} unicast * soft in"))?;
        }
        until("both families came again", secs(20), || {
            let now = asked()?;
            ensure!(now["routeRefreshRecv"].as_u64() == Some(before + 4), "{now}");
            Ok(())
        })?;
        ensure!(!frr.log().contains("whereas"), "{}", frr.log());
    }
    let lost = established("oxelb_bgp_sessions_lost")?;
    daemon.reset(scene)?;
    until("the session was reset", secs(20), || {
        ensure!(established("oxelb_bgp_sessions_lost")? > lost);
        Ok(())
    })?;
    daemon.has(scene, V4, &v4)?;
    scene.apply("peer", &session.peer().replace("conf: {", "conf: {adminDown: true, "))?;
    daemon.has(scene, V4, &BTreeSet::new())?;
    scene.apply("peer", &session.peer())?;
    daemon.has(scene, V4, &v4)?;
    // It is restarted without a word of graceful restart.
    daemon.stop()?;
    let daemon = Daemon::start(scene, which, &session)?;
    daemon.has(scene, V4, &v4)?;
    daemon.has(scene, V6, &v6)?;
    end(scene, daemon)
}

fn v4_over_v6(scene: &Scene, which: Which) -> Result<()> {
    // The nodes have no IPv4 address in Kubernetes.
    for number in 0..3 {
        let node = &scene.nodes[number];
        scene.apply(
            &node.name,
            &format!(
                "apiVersion: v1\nkind: Node\nmetadata: {{name: {}, labels: {{rack: leaf1}}}}\nstatus:\n  \
                 addresses: [{{type: InternalIP, address: '{}'}}]\n  conditions: [{{type: Ready, status: 'True'}}]\n",
                node.name, node.v6
            ),
        )?;
    }
    let session = Session { over_v6: true, v4_over_v6: true, ..Session::default() };
    let daemon = begin(scene, which, &session)?;
    if which != Which::GoBgp {
        scene.answers(V4, &[0, 1, 2])?;
    }
    end(scene, daemon)?;
    (0..3).try_for_each(|number| scene.node(number, true, "leaf1"))
}

fn all_next_hops(scene: &Scene, which: Which) -> Result<()> {
    let session = Session { all_next_hops: true, ..Session::default() };
    for number in [1, 2] {
        scene.node(number, true, "leaf2")?;
    }
    let daemon = begin(scene, which, &session)?;
    end(scene, daemon)?;
    [1, 2].into_iter().try_for_each(|number| scene.node(number, true, "leaf1"))
}

/// Nothing but the hold timer finds out, here three seconds.
fn silent_cut(scene: &Scene, which: Which) -> Result<()> {
    let daemon = begin(scene, which, &Session { hold: Some(3), ..Session::default() })?;
    scene.nodes[1].host.lose("eth0", 100)?;
    let since = Instant::now();
    daemon.has(scene, V4, &[scene.nodes[0].v4, scene.nodes[2].v4].into())?;
    let took = since.elapsed();
    scene.said("BgpPeer", "tor", &["sessionState: ACTIVE"])?;
    scene.nodes[1].host.heal("eth0")?;
    daemon.has(scene, V4, &scene.nodes.iter().map(|n| n.v4).collect())?;
    ensure!(took > secs(1) && took < secs(10), "the hold timer of 3 s took {took:?}");
    end(scene, daemon)
}

/// Restarted in good order while the router keeps its routes: no connection is lost, of a thousand a second.
fn graceful_restart(scene: &mut Scene, which: Which) -> Result<()> {
    let session = Session { restart: true, ..Session::default() };
    let daemon = begin(scene, which, &session)?;
    let v4: BTreeSet<IpAddr> = scene.nodes.iter().map(|n| n.v4).collect();
    let asking = match which {
        // It has no routes in the kernel: that its table stays as it is must do.
        Which::GoBgp => None,
        _ => {
            scene.hops(&[0, 1, 2])?;
            Some(Asking::start(&scene.client, SocketAddr::new(ip(V4)?, 80), millis(1), secs(2)))
        }
    };
    sleep(millis(300));
    scene.nodes[1].speaker.take().context("no speaker")?.stop()?;
    let mut withdrawn = None;
    let mut look = |daemon: &Daemon, until: Duration| -> Result<()> {
        let since = Instant::now();
        while since.elapsed() < until {
            let now = daemon.next_hops(V4)?;
            if now != v4 {
                withdrawn = Some(now);
            }
            sleep(millis(50));
        }
        Ok(())
    };
    look(&daemon, millis(700))?;
    scene.start_speaker(1)?;
    look(&daemon, secs(2))?;
    scene.said("Speaker", "n3", &["established: 1"])?;
    look(&daemon, millis(300))?;
    ensure!(withdrawn.is_none(), "while it restarted the next hops were {withdrawn:?}");
    if let Some(asking) = asking {
        let seen = asking.finish()?;
        println!("{which:?}: {} connections during a graceful restart, {} lost", seen.sent, seen.lost);
        ensure!(seen.lost == 0 && seen.sent > 1500, "{seen:?}");
    }
    end(scene, daemon)
}

fn bfd(scene: &Scene, which: Which, interval: u32) -> Result<()> {
    let daemon = begin(scene, which, &Session { bfd: Some(interval), device: interval == 50, ..Session::default() })?;
    until("BFD is up on both sides", secs(20), || {
        for number in 0..scene.nodes.len() {
            let text = scene.metrics(number)?;
            ensure!(text.contains("oxelb_bfd_session_up{peer=\"tor\"} 1"), "{text}");
        }
        ensure!(daemon.bfd_up()? == scene.nodes.len(), "not at the router");
        Ok(())
    })?;
    scene.nodes[1].host.lose("eth0", 100)?;
    let since = Instant::now();
    until("the router goes by the others alone", secs(20), || {
        ensure!(next_hops(&scene.router, ip(V4)?)? == [scene.nodes[0].v4, scene.nodes[2].v4].into());
        Ok(())
    })
    .with_context(|| scene.logs())?;
    let took = since.elapsed();
    println!("{which:?}: with BFD at 3 x {interval} ms a silent path is left after {} ms", took.as_millis());
    ensure!(took < secs(3), "{took:?}");
    scene.nodes[1].host.heal("eth0")?;
    scene.hops(&[0, 1, 2])?;
    end(scene, daemon)
}

impl Session {
    fn asn(&self) -> u32 {
        if self.internal { 50000 } else { 50001 }
    }

    fn router(&self) -> (&'static str, &'static str) {
        if self.far { ("203.0.113.2", "2001:db8::2") } else { (ROUTER, ROUTER6) }
    }

    fn peer(&self) -> String {
        let address = if self.over_v6 { self.router().1 } else { self.router().0 };
        let mut more = BOTH.to_owned();
        for (yes, text) in [
            (self.security, "ttlSecurity: {enabled: true}"),
            (self.we_wait && !self.device, "transport: {passiveMode: true}"),
            (self.device && !self.we_wait, "transport: {bindInterface: eth0}"),
            (self.device && self.we_wait, "transport: {bindInterface: eth0, passiveMode: true}"),
            (self.restart, "gracefulRestart: {enabled: true, restartTime: 60}"),
            (self.all_next_hops, "nextHopMode: OpenELB"),
            (self.all_next_hops, "nodeSelector: {matchLabels: {rack: leaf1}}"),
            (self.far, "ebgpMultihop: {enabled: true, multihopTtl: 4}"),
        ] {
            if yes {
                more += &format!("  {text}\n");
            }
        }
        if let Some(ms) = self.bfd {
            more += &format!("  bfd: {{transmitInterval: {ms}, receiveInterval: {ms}, detectMultiplier: 3}}\n");
        }
        let mut text = peer("tor", address, &more).replace("50001", &self.asn().to_string());
        if self.password {
            text = text.replace("conf: {", "conf: {authPassword: s3cret, ");
        }
        if let Some(hold) = self.hold {
            text = text.replace("connectRetry: '1'", &format!("connectRetry: '1', holdTime: '{hold}'"));
        }
        text
    }

    fn neighbour(&self, node: &Node) -> IpAddr {
        if self.over_v6 { node.v6 } else { node.v4 }
    }

    fn frr(&self, scene: &Scene) -> Result<String> {
        let mut text = format!(
            "router bgp {}\n bgp router-id {ROUTER}\n no bgp ebgp-requires-policy\n \
             bgp bestpath as-path multipath-relax\n neighbor nodes peer-group\n neighbor nodes remote-as 50000\n \
             neighbor nodes timers connect 1\n",
            self.asn()
        );
        for (yes, line) in [
            (self.password, "password s3cret"),
            (self.security, "ttl-security hops 1"),
            (self.they_wait, "passive"),
            (self.v4_over_v6, "capability extended-nexthop"),
            (self.far, "ebgp-multihop 4"),
            (self.bfd.is_some(), "bfd profile quick"),
        ] {
            if yes {
                writeln!(text, " neighbor nodes {line}")?;
            }
        }
        if let Some(hold) = self.hold {
            writeln!(text, " neighbor nodes timers 1 {hold}")?;
        }
        for node in &scene.nodes {
            writeln!(text, " neighbor {} peer-group nodes", self.neighbour(node))?;
        }
        for family in ["ipv4", "ipv6"] {
            writeln!(
                text,
                " address-family {family} unicast\n  neighbor nodes activate\n  maximum-paths ibgp 8\n exit-address-family"
            )?;
        }
        Ok(text)
    }

    fn bird(&self, scene: &Scene) -> Result<String> {
        let (v4, v6) = self.router();
        let mut text = format!("router id {ROUTER};\nprotocol device {{ scan time 1; }}\n");
        for family in ["ipv4", "ipv6"] {
            writeln!(
                text,
                "protocol direct {{ {family}; }}\nprotocol kernel {{ {family} {{ export where source = RTS_BGP; }}; \
                 merge paths on; }}"
            )?;
        }
        if let Some(ms) = self.bfd {
            let intervals = format!("min rx interval {ms} ms; min tx interval {ms} ms; multiplier 3;");
            writeln!(text, "protocol bfd {{ interface \"eth0\" {{ {intervals} }}; }}")?;
        }
        let mut options = String::new();
        for (yes, option) in [
            (self.password, "password \"s3cret\";"),
            (self.security, "ttl security on;"),
            (self.they_wait, "passive on;"),
            (self.far, "multihop 4;"),
            (self.bfd.is_some(), "bfd on;"),
        ] {
            options += if yes { option } else { "" };
        }
        if let Some(hold) = self.hold {
            options += &format!("hold time {hold};");
        }
        let extended = if self.v4_over_v6 { "extended next hop on;" } else { "" };
        let many = if self.all_next_hops { "add paths rx;" } else { "" };
        for node in &scene.nodes {
            writeln!(
                text,
                "protocol bgp {} {{ local {} as {}; neighbor {} as 50000; connect delay time 1; connect retry time 1; \
                 error wait time 1, 2; {options} ipv4 {{ import all; export none; {extended} {many} }}; \
                 ipv6 {{ import all; export none; }}; }}",
                node.name,
                if self.over_v6 { v6 } else { v4 },
                self.asn(),
                self.neighbour(node),
            )?;
        }
        Ok(text)
    }

    fn gobgp(&self, scene: &Scene) -> Result<String> {
        let (v4, v6) = self.router();
        let mut text = format!(
            "[global.config]\n  as = {}\n  router-id = \"{ROUTER}\"\n[global.use-multiple-paths.config]\n  enabled = true\n",
            self.asn()
        );
        for node in &scene.nodes {
            let local = if self.over_v6 { v6 } else { v4 };
            writeln!(
                text,
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = 50000\n{}\
                 [neighbors.transport.config]\nlocal-address = \"{local}\"\npassive-mode = {}\n\
                 [neighbors.timers.config]\nconnect-retry = 1\n{}",
                self.neighbour(node),
                if self.password { "auth-password = \"s3cret\"\n" } else { "" },
                self.they_wait,
                self.hold.map(|hold| format!("hold-time = {hold}\n")).unwrap_or_default(),
            )?;
            for (yes, section) in [
                (self.security, "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255"),
                (self.far, "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 4"),
                (self.restart, "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 60"),
            ] {
                if yes {
                    writeln!(text, "{section}")?;
                }
            }
            for family in ["ipv4-unicast", "ipv6-unicast"] {
                writeln!(text, "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"")?;
                if self.restart {
                    writeln!(text, "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true")?;
                }
                if self.all_next_hops {
                    writeln!(text, "[neighbors.afi-safis.add-paths.config]\nreceive = true")?;
                }
            }
        }
        Ok(text)
    }
}

impl Daemon {
    fn start(scene: &Scene, which: Which, session: &Session) -> Result<Daemon> {
        let host: &Host = if session.far { &scene.client } else { &scene.router };
        Ok(match which {
            Which::Frr => {
                let profile = session.bfd.map(quick);
                Daemon::Frr(Frr::start(&scene.lab, host, &session.frr(scene)?, profile.as_deref())?)
            }
            Which::Bird => Daemon::Bird(Bird::start(&scene.lab, host, &session.bird(scene)?)?),
            Which::GoBgp => Daemon::GoBgp(GoBgp::start(&scene.lab, host, &session.gobgp(scene)?)?),
        })
    }

    /// All that it knows of an address.
    fn said(&self, address: &str) -> Result<String> {
        let (family, length) = if address.contains(':') { ("ipv6", 128) } else { ("ipv4", 32) };
        match self {
            Daemon::Frr(frr) => frr.show(&format!("show bgp {family} unicast {address}/{length}")),
            Daemon::Bird(bird) => bird.show(&format!("show route where net = {address}/{length} all")),
            Daemon::GoBgp(gobgp) => gobgp.show(&format!("global rib {address}/{length} -a {family}")),
        }
    }

    /// The next hops of its paths.
    fn next_hops(&self, address: &str) -> Result<BTreeSet<IpAddr>> {
        match self {
            Daemon::Frr(frr) => frr.next_hops(address.parse()?),
            Daemon::Bird(bird) => bird.next_hops(address.parse()?),
            Daemon::GoBgp(gobgp) => {
                gobgp.next_hops(&format!("{address}/{}", if address.contains(':') { 128 } else { 32 }))
            }
        }
    }

    /// How many sessions of BFD are up, and of FRR have been for a second: FRR 10.3 makes them anew when BGP comes up, and
    /// does not miss a router of which it has heard nothing in the new one. GoBGP has none.
    fn bfd_up(&self) -> Result<usize> {
        Ok(match self {
            Daemon::Frr(frr) => {
                let peers = frr.json("show bfd peers")?;
                let settled = |p: &&serde_json::Value| p["status"] == "up" && p["uptime"].as_u64() >= Some(1);
                peers.as_array().into_iter().flatten().filter(settled).count()
            }
            Daemon::Bird(bird) => bird.show("show bfd sessions")?.matches(" Up ").count(),
            Daemon::GoBgp(_) => 0,
        })
    }

    fn has(&self, scene: &Scene, address: &str, wanted: &BTreeSet<IpAddr>) -> Result<()> {
        until(&format!("{address} has the next hops {wanted:?}"), secs(45), || {
            let found = self.next_hops(address)?;
            ensure!(found == *wanted, "{found:?}");
            Ok(())
        })
        .with_context(|| format!("{}\n{}", scene.logs(), self.said(address).unwrap_or_default()))
    }

    fn reset(&self, scene: &Scene) -> Result<()> {
        match self {
            Daemon::Frr(frr) => frr.show("clear bgp *").map(drop),
            Daemon::Bird(bird) => {
                scene.nodes.iter().try_for_each(|n| bird.show(&format!("restart {}", n.name)).map(drop))
            }
            Daemon::GoBgp(gobgp) => {
                scene.nodes.iter().try_for_each(|n| gobgp.show(&format!("neighbor {} reset", n.v4)).map(drop))
            }
        }
    }

    fn stop(self) -> Result<()> {
        match self {
            Daemon::Frr(frr) => frr.stop(),
            Daemon::Bird(bird) => bird.stop(),
            Daemon::GoBgp(gobgp) => gobgp.stop(),
        }
    }
}

//! Runs against a real kernel: each test in a process and a network namespace of its own, as root or wherever user
//! namespaces are allowed. Without namespaces every test fails.

// Clippy does not see that this is a test, since it has no harness.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

extern crate oxelb_net as net;

mod addresses;
mod answers;
mod deadlines;
mod fence;
mod frames;
mod groups;
mod hop_udp;
mod host;
mod network;
mod overflow;
mod questions;
mod raw_ip;
mod resolve;
mod tcp;
mod threads;
mod udp;

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::{Command, ExitCode};

/// Names the one test that a process inside a namespace runs.
const INSIDE: &str = "OXELB_NET_TEST";

type Test = (&'static str, fn());

/// Names a module's functions as tests.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[crate::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}
pub(crate) use tests;

fn main() -> ExitCode {
    let all: Vec<Test> = [
        addresses::TESTS,
        answers::TESTS,
        deadlines::TESTS,
        fence::TESTS,
        frames::TESTS,
        groups::TESTS,
        hop_udp::TESTS,
        host::TESTS,
        network::TESTS,
        overflow::TESTS,
        questions::TESTS,
        raw_ip::TESTS,
        resolve::TESTS,
        tcp::TESTS,
        threads::TESTS,
        udp::TESTS,
    ]
    .concat();
    if let Ok(name) = std::env::var(INSIDE) {
        let (_, test) = all.iter().find(|(n, _)| *n == name).expect("a test of this name");
        test();
        return ExitCode::SUCCESS;
    }
    let trials = all.iter().map(|(name, _)| {
        let name = *name;
        Trial::test(name.trim_start_matches("kernel::"), move || in_namespace(name))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn in_namespace(name: &str) -> Result<(), Failed> {
    let exe = std::env::current_exe()?;
    // Root stays root, since some capabilities count only outside of user namespaces.
    let how: &[&str] = if rustix::process::geteuid().is_root() { &["--net"] } else { &["--map-root-user", "--net"] };
    let mut command = Command::new("unshare");
    let output = command.args(how).arg("--").arg(exe).env(INSIDE, name).output();
    let output = output.map_err(|e| format!("cannot run unshare: {e}; install util-linux"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)).into())
}

/// Runs `ip` of iproute2, with the words of `arguments`.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Sets a value under /proc/sys/net.
fn sysctl(key: &str, value: u8) {
    std::fs::write(format!("/proc/sys/net/{key}"), value.to_string()).unwrap_or_else(|e| panic!("{key}={value}: {e}"));
}

/// The index of an interface.
fn index(name: &str) -> engine::IfIndex {
    let text = std::process::Command::new("ip").args(["-o", "link", "show", "dev", name]).output().expect("iproute2");
    let text = String::from_utf8(text.stdout).expect("text");
    engine::IfIndex(
        text.split(':').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no interface {name}")),
    )
}

/// The ends of a cable: `a` with 02:00:00:00:00:0a, `b` with 02:00:00:00:00:0b, both up. No frame of the kernel's own
/// disturbs, since IPv6 is off.
fn cable() {
    sysctl("ipv6/conf/all/disable_ipv6", 1);
    sysctl("ipv6/conf/default/disable_ipv6", 1);
    plug();
}

/// The same, with IPv6.
fn plug() {
    ip("link set dev lo up");
    ip("link add name a address 02:00:00:00:00:0a type veth peer name b address 02:00:00:00:00:0b");
    ip("link set dev a up");
    ip("link set dev b up");
    wait_until_up();
}

/// The kernel takes a while to note a carrier, up to a second, and drops frames until then.
fn wait_until_up() {
    while !["a", "b"].iter().all(|end| ip(&format!("-o link show dev {end}")).contains("state UP")) {}
}

//! The lab's own ground: hosts reach each other, faults bite and heal, and nothing remains whatever ends a run.
#![allow(clippy::print_stdout, reason = "a child of the test reports through its output")]

use anyhow::{Context, Result, ensure};
use lab::client::{Asking, answer_udp, arp, ask_udp};
use lab::host::{Host, Lab, Switch};
use lab::suite::{self, Test};
use lab::wait::{millis, secs, until, until_true};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::{env, fs, thread};

/// Set for a child of this test that builds a lab and then waits to be killed.
const VICTIM: &str = "OXELB_LAB_TEST_VICTIM";

fn main() -> ExitCode {
    if env::var_os(VICTIM).is_some() {
        return victim().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let tests: Vec<Test> = vec![
        ("hosts_on_a_switch_reach_each_other_in_both_families", reach),
        ("lost_frames_are_lost_and_healed", loss),
        ("a_blocked_direction_stops_only_that_direction", one_way),
        ("a_program_that_is_missing_is_named_with_its_package", missing),
        ("a_dropped_process_is_killed_and_a_stopped_one_ends_itself", processes),
        ("a_client_that_asks_all_the_time_sees_the_gap", gap),
        ("nothing_remains_after_sigint", |_| nothing_remains(Signal::SIGINT)),
        ("nothing_remains_after_sigterm", |_| nothing_remains(Signal::SIGTERM)),
        ("nothing_remains_after_sighup", |_| nothing_remains(Signal::SIGHUP)),
        ("no_process_remains_after_sigkill_and_the_next_run_removes_the_folder", |_| killed()),
    ];
    suite::main(tests)
}

fn pair(lab: &Lab) -> Result<(Switch, Host, Host)> {
    let (lan, a, b) = (lab.switch("lan")?, lab.host("a")?, lab.host("b")?);
    lan.plug(&a, "eth0", &["192.0.2.1/24", "2001:db8::1/64"])?;
    lan.plug(&b, "eth0", &["192.0.2.2/24", "2001:db8::2/64"])?;
    Ok((lan, a, b))
}

const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

fn reach(lab: &Lab) -> Result<()> {
    let (_lan, a, b) = pair(lab)?;
    answer_udp(&b, "192.0.2.2:53".parse()?, "v4")?;
    answer_udp(&b, "[2001:db8::2]:53".parse()?, "v6")?;
    ensure!(ask_udp(&a, "192.0.2.2:53".parse()?, secs(2))? == "v4");
    ensure!(ask_udp(&a, "[2001:db8::2]:53".parse()?, secs(2))? == "v6");
    ensure!(arp(&a, "eth0", B)?.contains(&b.mac("eth0")?));
    ensure!(arp(&a, "eth0", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)))?.is_empty());
    Ok(())
}

fn loss(lab: &Lab) -> Result<()> {
    let (_lan, a, b) = pair(lab)?;
    let to = "192.0.2.2:53".parse()?;
    answer_udp(&b, to, "b")?;
    b.lose("eth0", 100)?;
    ensure!(arp(&a, "eth0", B)?.is_empty());
    b.heal("eth0")?;
    ask_udp(&a, to, secs(2))?;
    b.lose("eth0", 50)?;
    let answered = (0..200).filter(|_| ask_udp(&a, to, millis(10)).is_ok()).count();
    ensure!((20..90).contains(&answered), "of 200, half of each way leaves 50, not {answered}");
    b.heal("eth0")?;
    ask_udp(&a, to, secs(2)).map(drop)
}

fn one_way(lab: &Lab) -> Result<()> {
    let (lan, a, b) = pair(lab)?;
    let to = "192.0.2.2:53".parse()?;
    answer_udp(&b, to, "b")?;
    ask_udp(&a, to, secs(2))?;
    let before = received(&b)?;
    lan.block(&b, &a)?;
    ensure!(ask_udp(&a, to, millis(300)).is_err());
    ensure!(received(&b)? > before, "a still reaches b");
    lan.unblock()?;
    ask_udp(&a, to, secs(2)).map(drop)
}

fn received(host: &Host) -> Result<u64> {
    let text = host.inside(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("eth0")?;
    Ok(line.split_whitespace().nth(1).context("packets")?.parse()?)
}

fn missing(lab: &Lab) -> Result<()> {
    let host = lab.host("a")?;
    let mut program = Command::new("nft");
    program.env("PATH", "/nowhere");
    let error = host.spawn("nft", program).err().context("it started")?;
    ensure!(error.to_string().contains("apt install nftables"), "{error:#}");
    Ok(())
}

fn processes(lab: &Lab) -> Result<()> {
    let host = lab.host("a")?;
    let mut script = Command::new("sh");
    script.args(["-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"]);
    let process = host.spawn("script", script)?;
    until("it is ready", secs(5), || process.log().contains("ready").then_some(()).context("not ready"))?;
    process.signal(Signal::SIGTERM)?;
    ensure!(process.wait(secs(5))?.success());
    ensure!(process.tail(1) == "bye");
    process.stop()?;
    let mut sleeper = Command::new("sleep");
    sleeper.arg("1000");
    let process = host.spawn("sleep", sleeper)?;
    let pid = Pid::from_raw(process.pid());
    drop(process);
    ensure!(kill(pid, None).is_err(), "it still runs");
    Ok(())
}

fn gap(lab: &Lab) -> Result<()> {
    let (lan, a, b) = pair(lab)?;
    let listener = b.inside(|| TcpListener::bind("192.0.2.2:80"))??;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nb");
        }
    });
    let asking = Asking::start(&a, SocketAddr::from(([192, 0, 2, 2], 80)), millis(5), millis(300));
    thread::sleep(millis(200)); // the measured thing itself is a time
    lan.link(&b, false)?;
    thread::sleep(millis(400));
    lan.link(&b, true)?;
    thread::sleep(millis(200));
    let seen = asking.finish()?;
    ensure!(seen.answered == ["b"], "{seen:?}");
    ensure!((millis(400)..millis(900)).contains(&seen.gap), "{seen:?}");
    ensure!(seen.lost > 10 && seen.sent > 100, "{seen:?}");
    Ok(())
}

/// What the child does: a host, a process in it, a report of both; then it waits for its end.
fn victim() -> Result<()> {
    let sandbox = lab::sandbox::enter()?;
    let lab = Lab::new(&sandbox, "victim")?;
    let host = lab.host("a")?;
    let mut sleeper = Command::new("sleep");
    sleeper.arg("86399");
    let _sleeper = host.spawn("sleep", sleeper)?;
    println!("{}", sandbox.dir.display());
    std::io::stdout().flush()?;
    loop {
        thread::park();
    }
}

fn start_victim() -> Result<(Child, PathBuf)> {
    let mut child = Command::new(env::current_exe()?)
        .env(VICTIM, "1")
        .env_remove("OXELB_LAB_STAGE")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    let dir = PathBuf::from(line.trim());
    ensure!(dir.is_dir(), "no folder {}", dir.display());
    ensure!(sleepers() == 1, "{} sleepers", sleepers());
    Ok((child, dir))
}

/// Processes of victims anywhere below this sandbox.
fn sleepers() -> usize {
    let commands = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path().join("cmdline"));
    commands.filter(|path| fs::read(path).is_ok_and(|text| text.starts_with(b"sleep\x0086399"))).count()
}

fn nothing_remains(signal: Signal) -> Result<()> {
    let (mut child, dir) = start_victim()?;
    kill(Pid::from_raw(child.id().cast_signed()), signal)?;
    let status = child.wait()?;
    ensure!(status.code() == Some(128 + signal as i32), "{status}");
    ensure!(sleepers() == 0);
    ensure!(!Path::new(&dir).exists());
    Ok(())
}

fn killed() -> Result<()> {
    let (mut child, dir) = start_victim()?;
    child.kill()?;
    child.wait()?;
    until_true("its processes are gone", secs(5), || sleepers() == 0)?;
    ensure!(dir.exists());
    let (mut next, _) = start_victim()?;
    ensure!(!dir.exists(), "the next run sweeps");
    kill(Pid::from_raw(next.id().cast_signed()), Signal::SIGTERM)?;
    next.wait()?;
    Ok(())
}

//! Priority and locked memory, with and without the capabilities that they need.

use crate::tests;
use net::{Error, give_back_memory, lock_memory, prefer_deadlines};
use std::process::Command;

tests![
    the_deadline_thread_runs_ahead_of_others_or_names_the_capability,
    memory_is_locked_where_touched_or_the_capability_is_named,
    what_was_freed_is_given_back_also_while_memory_is_locked,
    without_capabilities_nothing_is_locked_and_later_allocations_work,
];

/// Set in a process that has no capability.
const BARE: &str = "OXELB_NET_BARE";

fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(key)).unwrap_or_else(|| panic!("{key} in /proc/self/status"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What a capability would allow is allowed outside of user namespaces only.
fn is_real_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().eq(["0", "0", "4294967295"]) && rustix::process::geteuid().is_root()
}

fn names(result: Result<(), Error>, wanted: &str) {
    match result {
        Err(Error::NotPermitted { capability, .. }) => assert_eq!(capability, wanted),
        other => panic!("{other:?} does not name {wanted}"),
    }
}

fn the_deadline_thread_runs_ahead_of_others_or_names_the_capability() {
    let policy = || {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit(')').next().unwrap().to_owned();
        // Fields 40 and 41 of proc(5): real-time priority and policy.
        let fields: Vec<u32> = after_name.split_whitespace().skip(37).take(2).map(|f| f.parse().unwrap()).collect();
        (fields[0], fields[1])
    };
    if is_real_root() {
        prefer_deadlines().unwrap();
        assert_eq!(policy(), (10, 1));
        assert_eq!(std::thread::spawn(policy).join().unwrap(), (0, 0), "a thread that it starts is ordinary");
    } else {
        names(prefer_deadlines(), "SYS_NICE");
        assert_eq!(policy(), (0, 0));
    }
}

fn memory_is_locked_where_touched_or_the_capability_is_named() {
    if !is_real_root() {
        names(lock_memory(), "IPC_LOCK");
        return;
    }
    lock_memory().unwrap();
    let before = status("VmRSS:");
    let mut large: Vec<u8> = Vec::with_capacity(64 << 20);
    large.push(1);
    let after = status("VmRSS:");
    assert!(after < before + 4096, "untouched memory costs nothing: {before} KiB, then {after} KiB");
    assert!(status("VmLck:") >= 64 << 10, "it is locked once touched");
    std::hint::black_box(&large);
}

fn what_was_freed_is_given_back_also_while_memory_is_locked() {
    if !is_real_root() {
        return names(lock_memory(), "IPC_LOCK");
    }
    lock_memory().unwrap();
    let many: Vec<Box<[u8; 4000]>> = (0..4000).map(|n| Box::new([n as u8; 4000])).collect();
    let last = Box::new([1u8; 4000]);
    let before = status("VmRSS:");
    drop(many);
    give_back_memory();
    let after = status("VmRSS:");
    assert!(after + 12_000 < before, "{before} KiB, then {after} KiB, below one block that stays");
    assert!(status("VmLck:") > 0, "it is still locked");
    std::hint::black_box(&last);
}

fn without_capabilities_nothing_is_locked_and_later_allocations_work() {
    if std::env::var_os(BARE).is_some() {
        names(prefer_deadlines(), "SYS_NICE");
        names(lock_memory(), "IPC_LOCK");
        assert_eq!(status("VmLck:"), 0);
        let large = vec![1u8; 64 << 20];
        std::hint::black_box(&large);
        return;
    }
    // Under a limit that the process is still below (in KiB), so that the kernel says yes to the lock itself, too.
    for limit in ["64", "16384", "524288"] {
        let exe = std::env::current_exe().unwrap();
        let drop = "unshare --user --map-user=65534 -- setpriv --bounding-set -all --inh-caps -all";
        // Who is not root may lower the limit only.
        let script = format!("{{ ulimit -l {limit} || ulimit -l $(ulimit -H -l); }} 2>&- && exec {drop} \"$0\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script]).arg(exe).env(BARE, "1");
        let output = command.output().expect("bash is installed");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "with a limit of {limit} KiB: {text}");
    }
}

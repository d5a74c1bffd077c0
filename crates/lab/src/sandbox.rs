//! The sandbox: mounts, pids and network of our own, which the kernel takes away as soon as the run ends, however it ends.
//!
//! ```text
//! outer    what the user started: unshares, waits, passes on signals and the exit code, removes the run's folder and cgroups
//! └ init   pid 1 of the sandbox: private /proc and /run; collects orphans; dies with `outer` (PR_SET_PDEATHSIG)
//!   └ worker   the program proper, where `enter` returns; when it ends, init ends, and with it every process and namespace
//! ```
//! All three are the same executable: `enter` looks at an environment variable to see which one it is.

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, wait, waitpid};
use nix::unistd::{Pid, getgid, getuid};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, exit};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, io, thread};

const STAGE: &str = "OXELB_LAB_STAGE";
const DIR: &str = "OXELB_LAB_DIR";
const ROOTLESS: &str = "OXELB_LAB_ROOTLESS";
/// Set to keep the run's folder (logs, state) even when all went well.
const KEEP: &str = "OXELB_LAB_KEEP";
const PREFIX: &str = "oxelb-lab.";
/// Held by `outer` in the run's folder for as long as it lives.
const LOCK: &str = "lock";

/// Where the program finds itself after [`enter`].
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The run's folder: everything that is written belongs below it; gone after the run.
    pub dir: PathBuf,
    /// Started by an ordinary user: root here is that user outside, so real nodes (cgroups, devices) are out of reach.
    pub rootless: bool,
}

impl Sandbox {
    /// The name of the cgroup below which real nodes make theirs; removed after the run.
    pub fn cgroup(&self) -> String {
        self.dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// Moves the whole program into the sandbox. Returns only there; call it first in `main`, while there is one thread.
///
/// # Errors
/// When the kernel or its settings forbid namespaces: the message says what to allow.
pub fn enter() -> Result<Sandbox> {
    match env::var(STAGE).as_deref() {
        Ok("worker") => Ok(Sandbox {
            dir: PathBuf::from(env::var_os(DIR).context("the sandbox has no folder")?),
            rootless: env::var_os(ROOTLESS).is_some(),
        }),
        Ok("init") => exit(init().unwrap_or_else(|error| {
            eprintln!("lab: the sandbox could not be set up: {error:#}");
            70
        })),
        _ => exit(outer()?),
    }
}

fn outer() -> Result<i32> {
    let tmp = env::temp_dir();
    sweep(&tmp);
    let user = getuid(); // before the sandbox makes it root
    let rootless = !user.is_root();
    // The pid alone is not enough: in another pid namespace that shares /tmp the same number may run.
    let started = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let dir = tmp.join(format!("{PREFIX}{}.{started}", std::process::id()));
    fs::create_dir(&dir).with_context(|| format!("cannot make the run's folder {}", dir.display()))?;
    let lock = File::create(dir.join(LOCK))?;
    lock.try_lock()?;
    let signals =
        SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGCHLD]);
    signals.thread_block()?;
    let begun = namespaces(rootless).and_then(|()| {
        let mut again = again("init")?;
        again.env(DIR, &dir);
        if rootless {
            again.env(ROOTLESS, "1");
        }
        again.spawn().context("cannot start the sandbox's first process")
    });
    let code = match begun {
        Ok(child) => attend(&child, &signals)?,
        Err(error) => {
            remove(&dir);
            return Err(error);
        }
    };
    let failed = (1..128).contains(&code);
    let logs = dir.join("logs");
    if env::var_os(KEEP).is_some() {
        remove_cgroups(&dir);
        eprintln!("lab: kept: {}", dir.display());
    } else if failed && logs.is_dir() {
        let kept = tmp.join(format!("oxelb-lab-failed.{user}"));
        let _ = fs::remove_dir_all(&kept);
        if fs::rename(&logs, &kept).is_ok() {
            eprintln!("lab: logs: {}", kept.display());
        }
        remove(&dir);
    } else {
        remove(&dir);
    }
    Ok(code)
}

/// Waits for the sandbox's first process; a signal ends it at once, the kernel then ends everything inside.
fn attend(child: &Child, signals: &SigSet) -> Result<i32> {
    let pid = Pid::from_raw(child.id().cast_signed());
    let fd = SignalFd::new(signals)?;
    let mut interrupted = None;
    loop {
        let info = fd.read_signal()?;
        match info.and_then(|info| Signal::try_from(info.ssi_signo.cast_signed()).ok()) {
            Some(Signal::SIGCHLD) | None => {}
            Some(signal) => {
                interrupted = Some(signal);
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        if let Some(code) = code_of(waitpid(pid, Some(WaitPidFlag::WNOHANG))?) {
            return Ok(interrupted.map_or(code, |signal| 128 + signal as i32));
        }
    }
}

fn code_of(status: WaitStatus) -> Option<i32> {
    match status {
        WaitStatus::Exited(_, code) => Some(code),
        WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32),
        _ => None,
    }
}

fn again(stage: &str) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    // An ordinary user's PATH leaves out where `nginx` and `arping` are.
    let path = env::var_os("PATH").unwrap_or_default().into_string().unwrap_or_default();
    let path = format!("{path}:/usr/local/sbin:/usr/sbin:/sbin");
    command.args(env::args_os().skip(1)).env(STAGE, stage).env("PATH", path);
    Ok(command)
}

fn namespaces(rootless: bool) -> Result<()> {
    let (uid, gid) = (getuid(), getgid());
    let mut flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET;
    if rootless {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|error| anyhow!("{}", forbidden(rootless, error)))?;
    if rootless {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))
            .map_err(|error| anyhow!("{}", forbidden(rootless, error)))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    Ok(())
}

fn forbidden(rootless: bool, error: impl std::fmt::Display) -> String {
    if !rootless {
        return format!(
            "the kernel refuses new namespaces ({error}); in a container give it CAP_SYS_ADMIN, for instance --privileged"
        );
    }
    let on = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let mend = if on("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "allow them with: sudo sysctl kernel.unprivileged_userns_clone=1"
    } else if on("/proc/sys/user/max_user_namespaces", "0") {
        "allow them with: sudo sysctl user.max_user_namespaces=10000"
    } else if on("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor restricts them; allow them with: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    } else {
        "this machine forbids them to ordinary users; run it as root"
    };
    format!("namespaces are refused without root ({error}); {mend}")
}

fn init() -> Result<i32> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    SigSet::all().thread_unblock()?;
    // Here and not in `outer`, which must see the folder without the mounts in it to remove it.
    unshare(CloneFlags::CLONE_NEWNS).context("cannot have mounts of our own")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("cannot make the mounts private")?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), plain, none).context(
        "cannot mount a private /proc (in a container, run it with an unmasked /proc, for instance --privileged)",
    )?;
    let mut places = vec!["/run"];
    if fs::symlink_metadata("/var/run").is_ok_and(|meta| meta.is_dir()) {
        places.push("/var/run");
    }
    for place in places {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some("mode=0755"))
            .with_context(|| format!("cannot mount a private {place}"))?;
    }
    fs::create_dir_all("/run/netns")?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    match up {
        Ok(status) if status.success() => {}
        Ok(status) => bail!("`ip link set lo up` ended with {status}"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("the program `ip` is missing: apt install iproute2")
        }
        Err(error) => return Err(error.into()),
    }
    let worker = Pid::from_raw(again("worker")?.spawn()?.id().cast_signed());
    loop {
        match wait() {
            Ok(status) if status.pid() == Some(worker) => {
                if let Some(code) = code_of(status) {
                    return Ok(code);
                }
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes what runs left whose outer process was killed before it could do so itself: their lock is free.
fn sweep(tmp: &Path) {
    for entry in fs::read_dir(tmp).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
        {
            remove(&entry.path());
        }
    }
}

fn remove_cgroups(dir: &Path) {
    let Some(name) = dir.file_name() else { return };
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        remove_cgroup(&hierarchy.join(name));
    }
}

fn remove(dir: &Path) {
    remove_cgroups(dir);
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("lab: cannot remove {}: {error}", dir.display());
    }
}

/// A cgroup is removed by rmdir, children first; the kernel may need a moment after the last process is gone.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    for _ in 0..200 {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => thread::sleep(Duration::from_millis(5)),
            _ => return,
        }
    }
}

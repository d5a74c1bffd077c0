//! keepalived on a host of the lab.

use crate::cluster::DEVICE;
use crate::host::{Host, Lab};
use crate::process::Process;
use crate::wait::secs;
use anyhow::{Result, ensure};
use std::fs;
use std::process::Command;

/// One virtual router.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'a> {
    /// Its id.
    pub id: u8,
    /// Its priority.
    pub priority: u8,
    /// Between two advertisements, in seconds.
    pub interval: &'a str,
    /// Its address, with the length of its prefix.
    pub address: &'a str,
    /// The interface.
    pub on: &'a str,
    /// Version 2 or 3.
    pub version: u8,
    /// The address that its advertisements come from, where that is not its interface's first.
    pub source: Option<&'a str>,
    /// Its own address and the peer's, where it speaks unicast.
    pub unicast: Option<(&'a str, &'a str)>,
}

impl Instance<'_> {
    /// On the interface of the nodes, with an advertisement each second.
    pub fn new(id: u8, priority: u8, address: &str) -> Instance<'_> {
        Instance { id, priority, interval: "1", address, on: DEVICE, version: 3, source: None, unicast: None }
    }
}

/// Starts it as a backup, which becomes master where it hears no better one.
pub fn start(lab: &Lab, host: &Host, instance: Instance<'_>) -> Result<Process> {
    let Instance { id, priority, interval, address, on, version, source, unicast } = instance;
    let unicast = unicast
        .map_or_else(String::new, |(own, peer)| format!("  unicast_src_ip {own}\n  unicast_peer {{ {peer} }}\n"));
    let source = source.map_or_else(String::new, |source| format!("  mcast_src_ip {source}\n"));
    let folder = lab.folder(&format!("keepalived.{}", host.name()))?;
    let conf = folder.join("keepalived.conf");
    fs::write(
        &conf,
        format!(
            "global_defs {{ vrrp_version {version} }}\nvrrp_instance one {{\n  state BACKUP\n  interface {on}\n  \
             virtual_router_id {id}\n  priority {priority}\n  advert_int {interval}\n{source}{unicast}  \
             virtual_ipaddress {{ {address} dev {on} }}\n}}\n"
        ),
    )?;
    let mut command = Command::new("keepalived");
    command.args(["-n", "-P", "-l", "-f"]).arg(&conf).arg("-p").arg(folder.join("pid"));
    command.arg("-r").arg(folder.join("vrrp.pid"));
    host.spawn("keepalived", command)
}

/// What this run of it has logged: all that ran on a host have one log.
pub fn told(keepalived: &Process) -> String {
    keepalived.log().rsplit("Starting Keepalived").next().unwrap_or_default().to_owned()
}

/// Waits until it is a backup.
pub fn until_backup(keepalived: &Process) -> Result<()> {
    keepalived.until("it is a backup", secs(10), || {
        ensure!(told(keepalived).contains("Entering BACKUP STATE"));
        Ok(())
    })
}

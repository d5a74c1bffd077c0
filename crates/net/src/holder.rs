//! Who has a port that we want.

use std::io;
use std::path::Path;

/// A transport: its tables in /proc/net, and the state of a socket that has a port for itself.
pub(crate) type Transport = ([&'static str; 2], &'static str);
/// A UDP socket is never connected here.
pub(crate) const UDP: Transport = (["udp", "udp6"], "07");
/// A TCP socket that listens; its connections have the port too, but do not take it.
pub(crate) const TCP: Transport = (["tcp", "tcp6"], "0A");

/// Who has the port, as far as /proc shows it: a process of another container is not seen.
pub(crate) fn of((tables, state): Transport, port: u16) -> String {
    let read = |table: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{table}"));
    let inodes: Vec<String> = tables.map(read).iter().flatten().flat_map(|table| inodes(table, state, port)).collect();
    inodes
        .iter()
        .find_map(|inode| process(inode))
        .unwrap_or_else(|| "a process that cannot be seen from here".to_owned())
}

/// The sockets that have the port, of the text of a table.
fn inodes(table: &str, state: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1).is_some_and(|local| local.ends_with(&suffix)) && row.get(3) == Some(&state))
        .filter_map(|row| row.get(9).map(|inode| (*inode).to_owned()))
        .collect()
}

/// The process that has this socket open.
fn process(inode: &str) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let pid = process.file_name().to_string_lossy().parse::<u32>().ok();
        let open = std::fs::read_dir(process.path().join("fd"));
        let (Some(pid), Ok(mut open)) = (pid, open) else { continue };
        let has = |entry: io::Result<std::fs::DirEntry>| {
            entry.and_then(|e| std::fs::read_link(e.path())).is_ok_and(|target| target == Path::new(&wanted))
        };
        if open.any(has) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sockets_of_a_port_are_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                     45: 00000000:1F0A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 8312 2 0 0\n\
                     46: 0100007F:1F0B 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 8313 2 0 0\n\
                     47: 0100007F:1F0A 0200007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 8314 2 0 0\n";
        assert_eq!(inodes(table, "07", 7946), ["8312"]);
        assert!(inodes(table, "07", 53).is_empty());
    }
}

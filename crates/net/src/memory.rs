//! A heap that stays as small as what it holds: glibc keeps what was freed, and lets what it keeps grow.

use crate::sys;
use crate::thread::unlocked;
use std::fs;

/// Below this, memory that is free at the end of the heap is kept for the next allocation.
const KEEP: i32 = 256 * 1024;
/// Blocks from this size on have a mapping of their own, and are given back when freed.
const OF_ITS_OWN: i32 = 64 * 1024;
/// One heap for the thread that keeps deadlines, so that it waits for no other's, and one for all the rest.
const HEAPS: i32 = 2;

/// Bounds what the heap keeps for itself. To be called before any thread is started.
///
/// Naming the two thresholds also ends their rise: else one block of 30 MiB that is freed makes glibc keep 60 MiB for
/// ever (mallopt(3), M_MMAP_THRESHOLD).
pub fn keep_heap_small() {
    sys::malloc_option(libc::M_ARENA_MAX, HEAPS);
    sys::malloc_option(libc::M_MMAP_THRESHOLD, OF_ITS_OWN);
    sys::malloc_option(libc::M_TRIM_THRESHOLD, KEEP);
}

/// Gives every whole page that is free back to the system, also those between blocks in use: reading a cluster leaves
/// such behind. Takes well under a millisecond for a heap of 10 MiB.
pub fn give_back_memory() {
    unlocked(sys::malloc_trim);
}

/// Takes from this process the pages of its own program: those in use come back from the page cache as they are used,
/// those that only the start of something needed do not. Where the system does not say what is mapped nothing happens.
pub fn let_go_of_program() {
    let Ok(program) = fs::read_link("/proc/self/exe") else { return };
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    unlocked(|| {
        for (start, end) in program.to_str().map(|program| as_in_file(&maps, program)).unwrap_or_default() {
            // Not let go costs memory, nothing else.
            let _ = sys::let_go_of_pages(start, end);
        }
    });
}

/// Where /proc/PID/smaps says that parts of `program` are mapped that nobody can write to and nobody has written to: what
/// was relocated before it became read-only is not as in the file.
fn as_in_file(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut part = None;
    for line in maps.lines() {
        match line.strip_prefix("Anonymous:") {
            Some(written) if written.trim() == "0 kB" => found.extend(part.take()),
            Some(_) => part = None,
            None => part = part_of(line, program).or(part),
        }
    }
    found
}

/// The part of `program` that the first line about a mapping is about, if nobody can write to it.
fn part_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let part = matches!(fields.next()?, "r-xp" | "r--p") && fields.nth(3)? == program;
    let number = |text| usize::from_str_radix(text, 16).ok();
    part.then_some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_programs_file_is_let_go() {
        let maps = "\
7f434ce00000-7f434d291000 r--p 00000000 fe:00 5310026                    /oxelb
Size:               4676 kB
Anonymous:             0 kB
7f434d291000-7f434dba7000 r-xp 00490000 fe:00 5310026                    /oxelb
Rss:                5468 kB
Anonymous:             0 kB
7f434dba7000-7f434dc54000 r--p 00da6000 fe:00 5310026                    /oxelb
Anonymous:           336 kB
7f434dc54000-7f434dc58000 rw-p 00e51000 fe:00 5310026                    /oxelb
Anonymous:             0 kB
7f434de00000-7f434de10000 r-xp 00000000 fe:00 5310027                    /other
Anonymous:             0 kB
55556bc7a000-55556c323000 rw-p 00000000 00:00 0                          [heap]
Anonymous:             0 kB
7f434de38000-7f434de3a000 r-xp 00000000 00:00 0
Anonymous:             0 kB
";
        let [read_only, code] = [(0x7f43_4ce0_0000, 0x7f43_4d29_1000), (0x7f43_4d29_1000, 0x7f43_4dba_7000)];
        assert_eq!(as_in_file(maps, "/oxelb"), [read_only, code]);
        assert_eq!(as_in_file("", "/oxelb"), []);
    }

    #[test]
    fn the_program_goes_on_after_it_was_let_go() {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        assert_ne!(as_in_file(&maps, program.to_str().unwrap()), [], "nothing would be let go");
        let_go_of_program();
        keep_heap_small();
        give_back_memory();
        assert_eq!(format!("{:?}", (1..4).collect::<Vec<_>>()), "[1, 2, 3]");
    }
}

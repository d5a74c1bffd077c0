//! A heap that stays as small as what it holds: glibc keeps what was freed, and lets what it keeps grow.

use crate::sys;
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
    sys::malloc_trim();
}

/// Takes from this process the pages of its own program: those in use come back from the page cache as they are used,
/// those that only the start needed do not. To be called before [`crate::lock_memory`], which keeps what is there.
/// Where the system does not say what is mapped nothing happens.
pub fn let_go_of_program() {
    let Ok(program) = fs::read_link("/proc/self/exe") else { return };
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in maps.lines().filter_map(|line| code_of(line, program.to_str()?)) {
        // Not let go costs memory, nothing else.
        let _ = sys::let_go_of_code(start, end);
    }
}

/// Where a line of /proc/PID/maps says that code of `program` is mapped that nobody can write to. What is only read may
/// have been written to before, by relocation.
fn code_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let code = fields.next()? == "r-xp" && fields.nth(3)? == program;
    let number = |text| usize::from_str_radix(text, 16).ok();
    code.then_some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_itself_is_let_go() {
        let code = "7f434d291000-7f434dba7000 r-xp 00490000 fe:00 5310026                    /oxelb";
        assert_eq!(code_of(code, "/oxelb"), Some((0x7f43_4d29_1000, 0x7f43_4dba_7000)));
        assert_eq!(code_of(code, "/other"), None);
        for kept in [
            "7f434ce00000-7f434d291000 r--p 00000000 fe:00 5310026                    /oxelb",
            "7f434dc54000-7f434dc58000 rw-p 00e51000 fe:00 5310026                    /oxelb",
            "55556bc7a000-55556c323000 rw-p 00000000 00:00 0                          [heap]",
            "7f434de38000-7f434de3a000 r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(code_of(kept, "/oxelb"), None, "{kept}");
        }
    }

    #[test]
    fn the_program_goes_on_after_its_code_was_let_go() {
        let before = code_of_this_process();
        assert!(before > 0, "nothing would have been let go");
        let_go_of_program();
        keep_heap_small();
        give_back_memory();
        assert_eq!(format!("{:?}", (1..4).collect::<Vec<_>>()), "[1, 2, 3]");
    }

    fn code_of_this_process() -> usize {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter_map(|line| code_of(line, program.to_str()?)).count()
    }
}

//! Which pages of a process have been written, where a file is mapped by copy on write.
//!
//! Such a page is the process's own and no longer the file's. `/proc/PID/pagemap` tells, and since Linux 6.7 also where
//! the next one is (`PAGEMAP_SCAN`; the kernel's `Documentation/admin-guide/mm/pagemap.rst`).
//!
//! The kernel shows its page of zeros where memory without a file was only read. With KSM (`use_zero_pages`), it also puts that
//! in place of any page that was written with zeros, so these pages count where the contents would be others.

use core::ops::Range;
use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{errno::Errno, libc};

use super::descriptors;
use crate::abi::PAGE_SIZE;

/// The page map of a process.
pub(super) struct PageMap {
    file: File,
    /// Whether the kernel does not have `PAGEMAP_SCAN`.
    is_old: AtomicBool,
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    /// Where the kernel has stopped.
    walk_end: u64,
    found: u64,
    found_len: u64,
    max_pages: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    returned: u64,
}

/// `PAGEMAP_SCAN`: `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
/// Categories of pages: a page of a file, one that is in memory, one that is swapped out, and the kernel's page of zeros.
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const ZERO: u64 = 1 << 5;
/// How many ranges one system call finds.
const FOUND: usize = 64;
/// Bits of an entry of the page map: the page of a file, one that is swapped out, one that is in memory.
const ENTRY_FILE: u64 = 1 << 61;
const ENTRY_SWAPPED: u64 = 1 << 62;
const ENTRY_PRESENT: u64 = 1 << 63;
/// How many entries one system call reads.
const ENTRIES: usize = 512;

impl PageMap {
    /// That of this process; `None` if procfs is not mounted, or does not grant access.
    #[cfg(feature = "kvm")]
    pub(super) fn of_this_process() -> Option<Self> {
        Self::open("/proc/self/pagemap")
    }

    /// That of another process, of which this is a descriptor (pidfd_open(2)). Its number is looked up in the PID namespace
    /// of procfs, which may be another one than this program's.
    #[cfg(feature = "process")]
    pub(super) fn of(process: &OwnedFd) -> Option<Self> {
        let info = std::format!("/proc/self/fdinfo/{}", process.as_raw_fd());
        let info = std::fs::read_to_string(info).ok()?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        let pid: u32 = pid.trim().parse().ok().filter(|pid| *pid != 0)?;
        Self::open(&std::format!("/proc/{pid}/pagemap"))
    }

    fn open(path: &str) -> Option<Self> {
        let is_old = AtomicBool::new(false);
        #[cfg(test)]
        match LIKE.get() {
            Like::Here => {}
            Like::Old => is_old.store(true, Ordering::Relaxed),
            Like::WithoutProcfs => return None,
        }
        let file = descriptors::not_standard(File::open(path).ok()?).ok()?;
        Some(Self { file: File::from(file), is_old })
    }

    /// Calls `each` with each run of written pages between two addresses, which are multiples of the page size, and whether it
    /// consists of the kernel's page of zeros: then it was written only if it held something else. A page that was only read
    /// may also be among the others on a kernel before Linux 6.7.
    pub(super) fn written(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(Range<u64>, bool) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end && !self.is_old.load(Ordering::Relaxed) {
            let mut found = [[0_u64; 3]; FOUND];
            let mut scan = Scan {
                size: size_of::<Scan>() as u64,
                flags: 0,
                start: at,
                end: range.end,
                walk_end: 0,
                found: found.as_mut_ptr().expose_provenance() as u64,
                found_len: FOUND as u64,
                max_pages: 0,
                inverted: FILE,
                all_of: FILE,
                any_of: PRESENT | SWAPPED,
                returned: ZERO,
            };
            // SAFETY: the kernel reads and writes one `Scan`, and writes at most `FOUND` ranges of three words to `found`.
            // Both outlive the call.
            let count = unsafe { libc::ioctl(self.file.as_raw_fd(), PAGEMAP_SCAN, &raw mut scan) };
            match Errno::result(count) {
                Ok(count) => {
                    for [start, end, categories] in found.into_iter().take(count as usize) {
                        each(start..end, categories & ZERO != 0)?;
                    }
                    at = scan.walk_end.max(at + PAGE_SIZE);
                }
                Err(Errno::ENOTTY) => self.is_old.store(true, Ordering::Relaxed),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.read(at..range.end, |run| each(run, false))
    }

    /// The same by reading an entry for each page.
    fn read(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(Range<u64>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut entries = [0_u8; 8 * ENTRIES];
        let mut at = range.start;
        let mut run = at..at;
        while at < range.end {
            let count = ((range.end - at) / PAGE_SIZE).min(ENTRIES as u64) as usize;
            let entries = &mut entries[..8 * count];
            self.file.read_exact_at(entries, at / PAGE_SIZE * 8).map_err(|error| {
                // The process has ended, and its page map with it.
                let ended = error.kind() == io::ErrorKind::UnexpectedEof;
                if ended { Errno::ESRCH.into() } else { error }
            })?;
            for entry in entries.chunks_exact(8) {
                let entry = u64::from_ne_bytes(core::array::from_fn(|byte| entry[byte]));
                let own = entry & (ENTRY_PRESENT | ENTRY_SWAPPED) != 0 && entry & ENTRY_FILE == 0;
                if !own || run.end != at {
                    if !run.is_empty() {
                        each(run)?;
                    }
                    run = at..at;
                }
                at += PAGE_SIZE;
                if own {
                    run.end = at;
                }
            }
        }
        if run.is_empty() { Ok(()) } else { each(run) }
    }
}

/// What the system is like for page maps that this thread opens.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Like {
    Here,
    /// It has no `PAGEMAP_SCAN`.
    Old,
    WithoutProcfs,
}

#[cfg(test)]
std::thread_local! {
    pub(super) static LIKE: core::cell::Cell<Like> = const { core::cell::Cell::new(Like::Here) };
}

//! Mapped memory of a machine, which forked children do not inherit.

use core::ops::Range;
use std::{fs::File, io, os::fd::AsRawFd};

use nix::libc;

use crate::memory::ProcessId;

/// Memory that is mapped by this process, and unmapped when this is dropped.
///
/// A forked child does not inherit the mapping (`MADV_DONTFORK`, madvise(2)), and may map something else at its
/// address. Therefore dropping the child's copy of this unmaps nothing.
pub(super) struct Mapping {
    at: *mut u8,
    len: usize,
    process: ProcessId,
}

// SAFETY: munmap(2) may run on any thread, and `at` is the only field that is not `Send`. Whoever accesses the memory
// through `at` does so in an unsafe block, and must rule out data races there.
unsafe impl Send for Mapping {}
// SAFETY: with a shared reference, the methods return the address and the length, which never change, or replace pages by
// a system call, which is no data race of this program. That the pages may be replaced is the promise of their callers.
unsafe impl Sync for Mapping {}

/// How a file is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Writes change the file.
    Shared,
    /// A page that is written becomes the mapping's own (`MAP_PRIVATE`).
    CopyOnWrite,
}

impl Mapping {
    /// Maps the first `len` bytes of a file, to be read and written.
    pub(super) fn of_file(len: u64, file: &File, kind: Kind) -> io::Result<Self> {
        let this = Self::map(len, flags(kind), file.as_raw_fd())?;
        this.keep_from_forks()?;
        Ok(this)
    }

    /// Maps `len` bytes of new zeroed memory, in pages of the usual size: a huge page would become the mapping's own as a
    /// whole when one byte is written.
    ///
    /// The caller calls [`keep_from_forks`](Self::keep_from_forks) when it has mapped what it wants over it.
    #[cfg(feature = "kvm")]
    pub(super) fn anonymous(len: u64) -> io::Result<Self> {
        let this = Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        match this.advise(0..len, libc::MADV_NOHUGEPAGE) {
            // The kernel has no huge pages.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(this),
            done => done.map(|()| this),
        }
    }

    fn map(len: u64, kind: libc::c_int, file: libc::c_int) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, kind | libc::MAP_NORESERVE);
        // SAFETY: without `MAP_FIXED`, the kernel chooses an address range that overlaps no existing mapping.
        let at = unsafe { libc::mmap(core::ptr::null_mut(), len, access, kind, file, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { at: at.cast(), len, process: ProcessId::current() })
    }

    /// Maps a file, from an offset on, in place of a range of the mapping. What the range held before is gone, also if this
    /// fails: then it holds zeros, which can only be read. Nothing else writes there during the call.
    #[cfg(feature = "kvm")]
    pub(super) fn replace(&self, range: &Range<u64>, file: &File, offset: u64) -> io::Result<()> {
        let (at, len) = self.check(range);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = flags(Kind::CopyOnWrite) | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let (file, offset) = (file.as_raw_fd(), offset as i64);
        // SAFETY: `check` has found the range in this mapping, which this value owns, so that nothing else is replaced.
        // The new pages are readable and writable like the old ones.
        let mapped = unsafe { libc::mmap(at.cast(), len, access, kind, file, offset) };
        if mapped != libc::MAP_FAILED {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // The kernel may have unmapped the old pages before it failed. What another thread maps there next would become the
        // guest's memory, and be unmapped with it.
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: as above. No reference leads into the mapping, and this takes no memory of its own.
        let filled = unsafe { libc::mmap(at.cast(), len, libc::PROT_READ, kind, -1, 0) };
        if filled == libc::MAP_FAILED {
            std::process::abort();
        }
        Err(error)
    }

    /// Gives up the pages of a range that are the mapping's own: the next access finds those of the file, or zeros. Nothing
    /// else writes there during the call.
    #[cfg(feature = "kvm")]
    pub(super) fn give_up(&self, range: &Range<u64>) -> io::Result<()> {
        self.advise(range.clone(), libc::MADV_DONTNEED)
    }

    /// Makes forked children not inherit the mapping.
    pub(super) fn keep_from_forks(&self) -> io::Result<()> {
        self.advise(0..self.len as u64, libc::MADV_DONTFORK)
    }

    fn advise(&self, range: Range<u64>, advice: libc::c_int) -> io::Result<()> {
        let (at, len) = self.check(&range);
        // SAFETY: `check` has found the range in this mapping, which this value owns. The advice of the callers above leaves
        // it mapped, and changes at most its contents, as they say.
        let advised = unsafe { libc::madvise(at.cast(), len, advice) };
        if advised == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The address and the length of a range of the mapping.
    fn check(&self, range: &Range<u64>) -> (*mut u8, usize) {
        let len = self.len as u64;
        assert!(range.start <= range.end && range.end <= len, "{range:#x?} of {len:#x} bytes");
        // SAFETY: the assertion has found the offset in the mapping, or at its end.
        let at = unsafe { self.at.add(range.start as usize) };
        (at, (range.end - range.start) as usize)
    }

    pub(super) fn at(&self) -> *mut u8 {
        self.at
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

fn flags(kind: Kind) -> libc::c_int {
    match kind {
        Kind::Shared => libc::MAP_SHARED,
        Kind::CopyOnWrite => libc::MAP_PRIVATE,
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.process != ProcessId::current() {
            return;
        }
        // If the kernel fails, at the limit of its number of mappings, the memory stays mapped and unused.
        // SAFETY: `map` has mapped these bytes in this process, and only this function unmaps them. Owners of a mapping
        // promise, where they hand out pointers into it, that none is used after it is dropped.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}

#[cfg(all(test, feature = "kvm"))]
mod tests {
    use super::*;

    #[test]
    fn a_failed_replacement_leaves_zeros() {
        let map = Mapping::anonymous(3 << 12).unwrap();
        let byte = |page: usize| map.at().wrapping_add(page << 12);
        // SAFETY: the pages are mapped, and no reference leads there.
        (0..3).for_each(|page| unsafe { byte(page).write_volatile(7) });
        // It cannot be read.
        let file = File::options().write(true).open("/dev/null").unwrap();
        map.replace(&(1 << 12..2 << 12), &file, 0).unwrap_err();
        // SAFETY: as above.
        let found = [0, 1, 2].map(|page| unsafe { byte(page).read_volatile() });
        assert_eq!(found, [7, 0, 7]);
    }
}

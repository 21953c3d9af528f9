//! Mapped memory of a machine, which forked children do not inherit.

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
// SAFETY: with a shared reference, the methods only return the address and the length, which never change.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes, to be read and written: the beginning of a file, shared, or new zeroed memory.
    pub(super) fn new(len: u64, file: Option<&File>) -> io::Result<Self> {
        let bytes = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let (kind, file) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, kind | libc::MAP_NORESERVE);
        // SAFETY: without `MAP_FIXED`, the kernel chooses an address range that overlaps no existing mapping.
        let at = unsafe { libc::mmap(core::ptr::null_mut(), bytes, access, kind, file, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let this = Self { at: at.cast(), len: bytes, process: ProcessId::current() };
        // SAFETY: the call above has mapped `bytes` bytes at `at`, and `MADV_DONTFORK` changes no memory of this
        // process.
        if unsafe { libc::madvise(at, bytes, libc::MADV_DONTFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(this)
    }

    pub(super) fn at(&self) -> *mut u8 {
        self.at
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.process != ProcessId::current() {
            return;
        }
        // If the kernel fails, at the limit of its number of mappings, the memory stays mapped and unused.
        // SAFETY: `new` has mapped these bytes in this process, and only this function unmaps them. Owners of a mapping
        // promise, where they hand out pointers into it, that none is used after it is dropped.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}

//! Mapped memory of a machine, which is the process's that has mapped it, and not its children's.

use std::{fs::File, io, os::fd::AsRawFd};

use nix::libc;

use crate::host::fork::ProcessId;

/// Memory that was mapped here, and is unmapped when this is dropped.
///
/// A child that is forked does not have it: not the parent's memory under another name, and nothing at that address,
/// where it may map something of its own. So dropping what the child inherited unmaps nothing.
pub(super) struct Mapping {
    at: *mut u8,
    len: usize,
    process: ProcessId,
}

// SAFETY: the address is used through raw pointers only, which any thread may do; what is reached there is for their
// users to order.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method changes the mapping through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps so many bytes of a file, shared, or of new zeroed memory.
    pub(super) fn new(len: u64, file: Option<&File>) -> io::Result<Self> {
        let bytes = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let (kind, file) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, kind | libc::MAP_NORESERVE);
        // SAFETY: a new mapping, at an address of the kernel's choice, disturbs no other one.
        let at = unsafe { libc::mmap(core::ptr::null_mut(), bytes, access, kind, file, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let this = Self { at: at.cast(), len: bytes, process: ProcessId::current() };
        // SAFETY: as many bytes were mapped there by the call above.
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
        // Where the kernel refuses, for want of room in its list of mappings, the memory stays, which nothing uses.
        // SAFETY: it was mapped by `new` in this process, and nobody else unmaps it.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}

//! A machine's memory: one file without a name, mapped here and wherever the guest runs.

use std::{fs::File, io};

use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{FileOffset, mmap::MmapRegion};

use super::MachineError;

/// Zeroed memory, taken as it is touched.
pub(super) struct Ram {
    map: MmapRegion,
}

impl Ram {
    pub(super) fn new(len: u64) -> Result<Self, MachineError> {
        let file = || -> io::Result<File> {
            let file = File::from(memfd_create(c"vmffi", MFdFlags::MFD_CLOEXEC)?);
            file.set_len(len)?;
            Ok(file)
        };
        let file = file().map_err(MachineError::system("memory for the machine"))?;
        let map = MmapRegion::from_file(FileOffset::new(file, 0), len as usize);
        let map = map.map_err(|error| MachineError::System {
            what: "memory for the machine",
            error: io::Error::other(error),
        })?;
        Ok(Self { map })
    }

    pub(super) fn len(&self) -> u64 {
        self.map.size() as u64
    }

    /// The address of an offset that is in the memory.
    pub(super) fn at(&self, offset: u64) -> *mut u8 {
        debug_assert!(offset < self.len(), "a part of the machine's memory is in it");
        // SAFETY: the offsets of this machine's parts are in its memory.
        unsafe { self.map.as_ptr().add(offset as usize) }
    }

    /// Writes bytes, as far as there is room.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) {
        let room = self.len().saturating_sub(offset).min(bytes.len() as u64) as usize;
        if room != 0 {
            // SAFETY: there is room for as many bytes, and no reference leads there.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(offset), room) };
        }
    }

    /// Reads bytes, as far as there are any; the rest stays as it is.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) {
        let room = self.len().saturating_sub(offset).min(bytes.len() as u64) as usize;
        if room != 0 {
            // SAFETY: there are as many bytes, and no reference leads there.
            unsafe { core::ptr::copy_nonoverlapping(self.at(offset), bytes.as_mut_ptr(), room) };
        }
    }

    /// The file.
    pub(super) fn file(&self) -> Option<&File> {
        self.map.file_offset().map(FileOffset::file)
    }
}

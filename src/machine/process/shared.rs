//! The region of a guest in a process: a file in memory, mapped in both processes.

use std::{
    fs::File,
    io,
    ops::Range,
    os::{fd::AsFd, unix::fs::FileExt},
    sync::atomic::{AtomicBool, Ordering},
    vec::Vec,
};

use nix::fcntl::{FallocateFlags, fallocate};

use super::super::{
    MachineError,
    checkpoint::too_large,
    life::HoldsRegion,
    mapping::{Kind, Mapping},
    memfd, signals,
};
use crate::abi::PAGE_SIZE;

/// Zeroed memory, whose pages are allocated on first access.
pub(super) struct SharedMemory {
    map: Mapping,
    file: File,
    /// The part that the guest can write.
    writable: Range<u64>,
}

impl SharedMemory {
    pub(super) fn new(len: u64, writable: Range<u64>) -> Result<Self, MachineError> {
        let new = || -> io::Result<Self> {
            let file = memfd::new(c"vmffi-region", len)?;
            Ok(Self { map: Mapping::of_file(len, &file, Kind::Shared)?, file, writable })
        };
        new().map_err(MachineError::system("allocating the machine's memory"))
    }

    /// The file, for mapping it elsewhere.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    #[cfg(test)]
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) {
        assert!(offset + bytes.len() as u64 <= self.map.len() as u64);
        // SAFETY: the assertion keeps the bytes within the mapping, into which no reference leads.
        unsafe {
            let to = self.map.at().add(offset as usize);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Reads bytes within the memory, by pread(2), since other threads may be writing release marks: a read of the kernel is no
    /// data race of this program.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    /// Copies all pages that the guest can write and that are not zero, at most `max` bytes. If `cancelled` becomes true, it
    /// fails with [`Interrupted`](io::ErrorKind::Interrupted). The caller has stopped the guest.
    pub(super) fn save(&self, max: u64, cancelled: &AtomicBool) -> io::Result<Contents> {
        let check_cancelled = || match cancelled.load(Ordering::Relaxed) {
            true => Err(io::Error::from(io::ErrorKind::Interrupted)),
            false => Ok(()),
        };
        let mut page = [0; PAGE_SIZE as usize];
        let mut is_zero = |at| {
            self.read(at, &mut page)?;
            Ok::<_, io::Error>(page == [0; PAGE_SIZE as usize])
        };
        let mut runs: Vec<Pages> = Vec::new();
        let mut copied = 0;
        memfd::each_run(&self.file, self.writable.clone(), |data| {
            let mut at = data.start;
            while at < data.end {
                check_cancelled()?;
                let start = at;
                while at < data.end && !is_zero(at)? {
                    check_cancelled()?;
                    at += PAGE_SIZE;
                }
                if at == start {
                    at += PAGE_SIZE;
                    continue;
                }
                copied += at - start;
                if copied > max {
                    return Err(too_large(copied, max));
                }
                let full = |_| too_large(copied, max);
                let mut bytes = Vec::new();
                bytes.try_reserve_exact((at - start) as usize).map_err(full)?;
                bytes.resize((at - start) as usize, 0);
                for (nr, bytes) in (0..).zip(bytes.chunks_mut(COPY_CHUNK)) {
                    check_cancelled()?;
                    self.read(start + nr * COPY_CHUNK as u64, bytes)?;
                }
                runs.try_reserve(1).map_err(full)?;
                runs.push(Pages { at: start, bytes });
            }
            Ok(())
        })?;
        Ok(Contents { runs })
    }

    /// Restores what the guest can write. It writes by pwrite(2), since other threads may be reading the memory by stale
    /// handles: like a write of the guest, a write of the kernel is no data race of this program.
    pub(super) fn restore(&self, contents: &Contents) -> io::Result<()> {
        signals::change_file(self.map.len() as u64, || {
            let mut from = self.writable.start;
            for run in &contents.runs {
                clear(&self.file, from..run.at)?;
                self.file.write_all_at(&run.bytes, run.at)?;
                from = run.end();
            }
            clear(&self.file, from..self.writable.end)
        })
    }
}

impl HoldsRegion for SharedMemory {
    fn region(&self) -> *mut u8 {
        self.map.at()
    }
}

/// Zeroes a range of whole pages of a memory's file, by system calls: like a write of the guest, a write of the kernel
/// is no data race of this program. Pages that have not been allocated stay so.
pub(super) fn clear(file: &File, range: Range<u64>) -> io::Result<()> {
    static ZEROS: [u8; 16 * PAGE_SIZE as usize] = [0; 16 * PAGE_SIZE as usize];
    memfd::each_run(file, range, |run| {
        let len = run.end - run.start;
        if len > MAX_ZEROED_IN_PLACE {
            let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            return Ok(fallocate(file.as_fd(), how, run.start as i64, len as i64)?);
        }
        for at in run.clone().step_by(ZEROS.len()) {
            let len = (run.end - at).min(ZEROS.len() as u64) as usize;
            file.write_all_at(&ZEROS[..len], at)?;
        }
        Ok(())
    })
}

/// How many bytes are copied between two checks for cancellation.
const COPY_CHUNK: usize = 1 << 20;

/// The longest run of allocated pages, in bytes, that is zeroed in place; the pages of a longer one are freed.
const MAX_ZEROED_IN_PLACE: u64 = 1 << 20;

/// The contents of what a guest can write of its region: the runs, sorted by offset, and zeros elsewhere.
pub(super) struct Contents {
    runs: Vec<Pages>,
}

/// Consecutive pages, from the offset `at` on.
struct Pages {
    at: u64,
    bytes: Vec<u8>,
}

impl Pages {
    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

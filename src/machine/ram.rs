//! A machine's memory: an anonymous file (memfd_create(2)), mapped here and in the guest.

use std::{
    fs::File,
    io,
    ops::Range,
    os::{fd::AsFd, unix::fs::FileExt},
    sync::atomic::{AtomicBool, Ordering},
    vec::Vec,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::{Whence, lseek},
};

use super::{MachineError, descriptors, mapping::Mapping, signals};
use crate::abi::PAGE_SIZE;

/// Zeroed memory, whose pages are allocated on first access.
pub(super) struct Ram {
    map: Mapping,
    file: File,
}

impl Ram {
    pub(super) fn new(len: u64) -> Result<Self, MachineError> {
        let new = || -> io::Result<Self> {
            let file = descriptors::not_standard(memfd_create(c"vmffi", MFdFlags::MFD_CLOEXEC)?)?;
            let file = File::from(file);
            signals::change_file(len, || file.set_len(len))?;
            Ok(Self { map: Mapping::new(len, Some(&file))?, file })
        };
        new().map_err(MachineError::system("allocating the machine's memory"))
    }

    pub(super) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The address of an offset that is less than the length of the memory.
    pub(super) fn at(&self, offset: u64) -> *mut u8 {
        assert!(offset < self.len(), "the offset {offset:#x} is outside of the machine's memory");
        // SAFETY: the assertion keeps the offset within the mapping, which is `len` bytes long.
        unsafe { self.map.at().add(offset as usize) }
    }

    /// Writes bytes, up to the end of the memory.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) {
        let room = self.len().saturating_sub(offset).min(bytes.len() as u64) as usize;
        if room != 0 {
            // SAFETY: `room` is at most `bytes.len()`, and at most what the mapping has behind `offset`. No reference
            // leads into the mapping, so `bytes` does not overlap it. The guest is stopped or has not started, see the
            // callers.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(offset), room) };
        }
    }

    /// Reads bytes, up to the end of the memory; the rest of `bytes` is unchanged.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) {
        let room = self.len().saturating_sub(offset).min(bytes.len() as u64) as usize;
        if room != 0 {
            // SAFETY: `room` is at most `bytes.len()`, and at most what the mapping has behind `offset`. No reference
            // leads into the mapping, so `bytes` does not overlap it. The guest is stopped or has not started, see the
            // callers.
            unsafe { core::ptr::copy_nonoverlapping(self.at(offset), bytes.as_mut_ptr(), room) };
        }
    }

    /// The file, for mapping it elsewhere.
    #[cfg(feature = "process")]
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Copies all pages of some ranges that are not zero, at most `max` bytes. If `cancelled` becomes true, it fails
    /// with [`Interrupted`](io::ErrorKind::Interrupted). The caller has stopped the guest.
    pub(super) fn snapshot(
        &self,
        parts: impl Iterator<Item = Range<u64>>,
        max: u64,
        cancelled: &AtomicBool,
    ) -> io::Result<Snapshot> {
        let check_cancelled = || match cancelled.load(Ordering::Relaxed) {
            true => Err(io::Error::from(io::ErrorKind::Interrupted)),
            false => Ok(()),
        };
        let mut page = [0; PAGE_SIZE as usize];
        let mut is_zero = |at| {
            self.read(at, &mut page);
            page == [0; PAGE_SIZE as usize]
        };
        let mut runs: Vec<Run> = Vec::new();
        let mut copied = 0;
        let parts: Vec<_> = parts.collect();
        for part in &parts {
            // No run crosses the end of a part, since `write_back` goes by parts.
            each_run(&self.file, part.clone(), |data| {
                let mut at = data.start;
                while at < data.end {
                    check_cancelled()?;
                    let start = at;
                    while at < data.end && !is_zero(at) {
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
                        self.read(start + nr * COPY_CHUNK as u64, bytes);
                    }
                    runs.try_reserve(1).map_err(full)?;
                    runs.push(Run { at: start, bytes });
                }
                Ok(())
            })?;
        }
        Ok(Snapshot { parts, runs })
    }

    /// Restores the ranges of a snapshot. It writes by pwrite(2), since other threads may be reading the memory by
    /// stale handles: like a write of the guest, a write of the kernel is no data race of this program.
    pub(super) fn restore(&self, snapshot: &Snapshot) -> io::Result<()> {
        signals::change_file(self.len(), || self.write_back(snapshot))
    }

    fn write_back(&self, snapshot: &Snapshot) -> io::Result<()> {
        let mut runs = snapshot.runs.iter().peekable();
        for part in &snapshot.parts {
            let mut from = part.start;
            while let Some(run) = runs.next_if(|run| run.at < part.end) {
                clear(&self.file, from..run.at)?;
                self.file.write_all_at(&run.bytes, run.at)?;
                from = run.end();
            }
            clear(&self.file, from..part.end)?;
        }
        Ok(())
    }
}

/// Zeroes a range of whole pages of a memory's file, by system calls: like a write of the guest, a write of the kernel
/// is no data race of this program. Pages that have not been allocated stay so.
pub(super) fn clear(file: &File, range: Range<u64>) -> io::Result<()> {
    static ZEROS: [u8; 16 * PAGE_SIZE as usize] = [0; 16 * PAGE_SIZE as usize];
    each_run(file, range, |run| {
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

/// Calls `each` with each run of allocated pages in a range (lseek(2), `SEEK_DATA`).
fn each_run(
    file: &File,
    range: Range<u64>,
    mut each: impl FnMut(Range<u64>) -> io::Result<()>,
) -> io::Result<()> {
    let file = file.as_fd();
    let mut at = range.start;
    while at < range.end {
        let start = match lseek(file, at as i64, Whence::SeekData) {
            Ok(start) => start as u64,
            // No data up to the end of the file.
            Err(Errno::ENXIO) => break,
            Err(error) => return Err(error.into()),
        };
        if start >= range.end {
            break;
        }
        let end = lseek(file, start as i64, Whence::SeekHole)? as u64;
        at = end.min(range.end);
        each(start.max(range.start)..at)?;
    }
    Ok(())
}

/// How many bytes are copied between two checks for cancellation.
const COPY_CHUNK: usize = 1 << 20;

fn too_large(copied: u64, max: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        std::format!(
            "the guest's snapshot takes {copied} bytes or more, but only {max} are left of the machine's memory limit: \
             raise `MachineBuilder::memory`"
        ),
    )
}

/// The longest run of allocated pages, in bytes, that is zeroed in place; the pages of a longer one are freed.
const MAX_ZEROED_IN_PLACE: u64 = 1 << 20;

/// The contents of some ranges of a memory: the runs, and zeros elsewhere. Ranges and runs are sorted by offset.
pub(super) struct Snapshot {
    parts: Vec<Range<u64>>,
    runs: Vec<Run>,
}

/// Consecutive pages, from the offset `at` on.
struct Run {
    at: u64,
    bytes: Vec<u8>,
}

impl Run {
    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

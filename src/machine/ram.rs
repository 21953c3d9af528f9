//! A machine's memory: one file without a name, mapped here and wherever the guest runs.

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

use super::{MachineError, mapping::Mapping, signals};
use crate::memory::PAGE;

/// Zeroed memory, taken as it is touched.
pub(super) struct Ram {
    map: Mapping,
    file: File,
}

impl Ram {
    pub(super) fn new(len: u64) -> Result<Self, MachineError> {
        let new = || -> io::Result<Self> {
            let file = File::from(memfd_create(c"vmffi", MFdFlags::MFD_CLOEXEC)?);
            signals::change_file(len, || file.set_len(len))?;
            Ok(Self { map: Mapping::new(len, Some(&file))?, file })
        };
        new().map_err(MachineError::system("memory for the machine"))
    }

    pub(super) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The address of an offset that is in the memory.
    pub(super) fn at(&self, offset: u64) -> *mut u8 {
        debug_assert!(offset < self.len(), "a part of the machine's memory is in it");
        // SAFETY: the offsets of this machine's parts are in its memory.
        unsafe { self.map.at().add(offset as usize) }
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
    #[cfg(feature = "process")]
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Copies what there is in parts of the memory, up to `most` bytes, unless it is cancelled.
    pub(super) fn keep(
        &self,
        parts: impl Iterator<Item = Range<u64>>,
        most: u64,
        cancelled: &AtomicBool,
    ) -> io::Result<Kept> {
        let go_on = || match cancelled.load(Ordering::Relaxed) {
            true => Err(io::Error::from(io::ErrorKind::Interrupted)),
            false => Ok(()),
        };
        let mut page = [0; PAGE as usize];
        let mut is_zero = |at| {
            self.read(at, &mut page);
            page == [0; PAGE as usize]
        };
        let mut runs: Vec<Run> = Vec::new();
        let mut kept = 0;
        let parts: Vec<_> = parts.collect();
        for part in &parts {
            // A run is of one part, also where the next one follows.
            self.each_run(part.clone(), |data| {
                let mut at = data.start;
                while at < data.end {
                    go_on()?;
                    let start = at;
                    while at < data.end && !is_zero(at) {
                        go_on()?;
                        at += PAGE;
                    }
                    if at == start {
                        at += PAGE;
                        continue;
                    }
                    kept += at - start;
                    if kept > most {
                        return Err(too_much(kept, most));
                    }
                    let full = |_| too_much(kept, most);
                    let mut bytes = Vec::new();
                    bytes.try_reserve_exact((at - start) as usize).map_err(full)?;
                    bytes.resize((at - start) as usize, 0);
                    for (nr, bytes) in (0..).zip(bytes.chunks_mut(AT_ONCE)) {
                        go_on()?;
                        self.read(start + nr * AT_ONCE as u64, bytes);
                    }
                    runs.try_reserve(1).map_err(full)?;
                    runs.push(Run { at: start, bytes });
                }
                Ok(())
            })?;
        }
        Ok(Kept { parts, runs })
    }

    /// Makes those parts what they were. The kernel writes, as the guest does, and not this program: other threads may
    /// be reading there, by handles that are stale.
    pub(super) fn restore(&self, kept: &Kept) -> io::Result<()> {
        signals::change_file(self.len(), || self.write_back(kept))
    }

    fn write_back(&self, kept: &Kept) -> io::Result<()> {
        let mut runs = kept.runs.iter().peekable();
        for part in &kept.parts {
            let mut from = part.start;
            while let Some(run) = runs.next_if(|run| run.at < part.end) {
                self.clear(from..run.at)?;
                self.file.write_all_at(&run.bytes, run.at)?;
                from = run.end();
            }
            self.clear(from..part.end)?;
        }
        Ok(())
    }

    /// Makes a range of whole pages zeros, likewise.
    fn clear(&self, range: Range<u64>) -> io::Result<()> {
        static ZEROS: [u8; 16 * PAGE as usize] = [0; 16 * PAGE as usize];
        self.each_run(range, |run| {
            let len = run.end - run.start;
            if len > IN_PLACE {
                let how =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                return Ok(fallocate(self.file.as_fd(), how, run.start as i64, len as i64)?);
            }
            for at in run.clone().step_by(ZEROS.len()) {
                let len = (run.end - at).min(ZEROS.len() as u64) as usize;
                self.file.write_all_at(&ZEROS[..len], at)?;
            }
            Ok(())
        })
    }

    /// Calls with each run of pages in a range that are taken.
    fn each_run(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(Range<u64>) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = self.file.as_fd();
        let mut at = range.start;
        while at < range.end {
            let start = match lseek(file, at as i64, Whence::SeekData) {
                Ok(start) => start as u64,
                // There is none behind it.
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
}

/// As many bytes are copied between two looks at whether to go on.
const AT_ONCE: usize = 1 << 20;

fn too_much(kept: u64, most: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        std::format!(
            "the guest had written {kept} bytes or more when it had started up, and there is room for a copy of {most}; \
             allow the machine more memory"
        ),
    )
}

/// As many bytes of pages are zeroed in place when they are to be none; more are given back to the system.
const IN_PLACE: u64 = 1 << 20;

/// What parts of a memory have held. All else in them is zeros.
pub(super) struct Kept {
    parts: Vec<Range<u64>>,
    runs: Vec<Run>,
}

/// Pages of it, one behind the other.
struct Run {
    at: u64,
    bytes: Vec<u8>,
}

impl Run {
    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

//! A machine's memory in this process: the image and the checkpoint, mapped by copy on write.

use core::ops::Range;
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use super::{
    MachineError,
    checkpoint::{self, COPIED_AT_ONCE, Checkpoint, Draft, Runs, Source},
    image::ZEROS,
    life::HoldsRegion,
    mapping::{Kind, Mapping},
    plan::Plan,
    written::PageMap,
};
use crate::abi::PAGE_SIZE;

/// The memory of one machine. Its pages are allocated when they are written.
pub(super) struct PrivateMemory {
    map: Mapping,
    plan: Arc<Plan>,
    /// Tells which pages are this mapping's own; without it, a reset gives up all.
    pages: Option<PageMap>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    checkpoint: Option<Arc<Checkpoint>>,
    /// Whether the memory is a mapping of the checkpoint, so that the pages of its own are those that were written since.
    is_mapped: bool,
    /// How many resets have found much to copy.
    large_resets: u32,
}

/// A reset copies the contents of up to so many pages in place, since a guest that has written to a page probably does so
/// again. If there are more, every [`GIVE_UP_EVERY`]th reset gives them up instead, so that a guest that has once written
/// much does not keep it.
const MUCH: u64 = 64 * PAGE_SIZE;
const GIVE_UP_EVERY: u32 = 8;

impl PrivateMemory {
    /// The memory of a new machine, or of one that begins with a checkpoint, which holds the image as well.
    pub(super) fn new(
        plan: &Arc<Plan>,
        checkpoint: Option<&Arc<Checkpoint>>,
    ) -> Result<Self, MachineError> {
        let new = || -> io::Result<Self> {
            let map = match checkpoint {
                Some(from) => Mapping::of_file(plan.space.len, &from.file, Kind::CopyOnWrite)?,
                None => Self::of_image(plan)?,
            };
            let state = State { is_mapped: checkpoint.is_some(), ..State::default() };
            Ok(Self {
                map,
                plan: plan.clone(),
                pages: PageMap::of_this_process(),
                state: Mutex::new(State { checkpoint: checkpoint.cloned(), ..state }),
            })
        };
        new().map_err(MachineError::system("allocating the machine's memory"))
    }

    /// Maps the image, and zeros behind it.
    fn of_image(plan: &Plan) -> io::Result<Mapping> {
        let map = Mapping::anonymous(plan.space.len)?;
        let image = 0..plan.space.image_len;
        if !image.is_empty() {
            map.replace(&image, &plan.image_file, 0)?;
        }
        map.keep_from_forks()?;
        Ok(map)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Writes bytes, up to the end of the memory. The guest has not started.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) {
        let room = self.len().saturating_sub(offset).min(bytes.len() as u64) as usize;
        if room != 0 {
            // SAFETY: `room` is at most `bytes.len()`, and at most what the mapping has behind `offset`. No reference
            // leads into the mapping, so `bytes` does not overlap it, and the guest has not started.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(offset), room) };
        }
    }

    /// The checkpoint that a reset restores.
    pub(super) fn checkpoint(&self) -> Option<Arc<Checkpoint>> {
        self.state().checkpoint.clone()
    }

    /// Calls `each` with the runs of pages that the guest may have written since the memory was mapped, of those that it can
    /// write. `last` is the last checkpoint.
    fn each_written(
        &self,
        last: Option<&Checkpoint>,
        mut each: impl FnMut(Range<u64>) -> io::Result<()>,
    ) -> io::Result<()> {
        let base = self.map.at().addr() as u64;
        let (runs, image_len) =
            (last.map_or(&[][..], |last| &last.runs), self.plan.space.image_len);
        for range in self.plan.writable(self.plan.space.len) {
            match &self.pages {
                Some(pages) => {
                    let range = base + range.start..base + range.end;
                    pages.written(range, |run, is_zeros| {
                        let run = run.start - base..run.end - base;
                        if !is_zeros {
                            return each(run);
                        }
                        let mut parts = checkpoint::sources(runs, image_len, run);
                        parts.try_for_each(|(source, part)| match source {
                            Source::Zeros => Ok(()),
                            Source::Image | Source::Checkpoint(_) => each(part),
                        })
                    })?;
                }
                None => each(range)?,
            }
        }
        Ok(())
    }

    /// Makes the present contents the checkpoint. The caller has stopped all vCPUs.
    pub(super) fn save(&self, cancelled: &AtomicBool) -> io::Result<()> {
        let mut state = self.state();
        let mut runs = Runs::default();
        if let Some(last) = &state.checkpoint {
            // Only of what the guest can write: the host's arena is no part of it.
            let mut ranges = self.plan.writable(self.plan.space.len);
            ranges.try_for_each(|range| last.own(range).try_for_each(|run| runs.add(run)))?;
        }
        self.each_written(state.checkpoint.as_deref(), |run| runs.add(run))?;
        let draft = Draft::new(None, self.plan.max_checkpoint, cancelled)?;
        let checkpoint = draft.finish(runs, |draft, runs| {
            for run in runs {
                let mut done = 0;
                while done < run.len {
                    let len = (run.len - done).min(COPIED_AT_ONCE);
                    draft.take(len)?;
                    // SAFETY: the runs are those that `each_written` found in this mapping, and those of its last checkpoint,
                    // joined.
                    unsafe {
                        let from = self.at(run.from + done);
                        checkpoint::write(&draft.file, from, len as usize, run.at + done)
                    }?;
                    done += len;
                }
            }
            Ok(())
        })?;
        let checkpoint = Arc::new(checkpoint);
        state.checkpoint = Some(checkpoint);
        state.is_mapped = false;
        Ok(())
    }

    /// Restores the checkpoint. The caller has stopped all vCPUs; other threads may be reading by stale handles.
    pub(super) fn restore(&self) -> io::Result<()> {
        let mut state = self.state();
        let checkpoint = state.checkpoint.clone().ok_or(io::ErrorKind::NotFound)?;
        if !state.is_mapped {
            self.give_up_all()?;
            map_runs(&self.map, &checkpoint)?;
            self.map.keep_from_forks()?;
            state.is_mapped = true;
            return Ok(());
        }
        if self.pages.is_none() {
            return self.give_up_all();
        }
        let mut written = Runs::default();
        self.each_written(Some(&checkpoint), |run| written.add(run))?;
        if written.len() > MUCH {
            state.large_resets = state.large_resets.wrapping_add(1);
            if state.large_resets % GIVE_UP_EVERY == 0 {
                return self.give_up_all();
            }
        }
        written.iter().try_for_each(|run| self.copy_back(&checkpoint, run))
    }

    fn give_up_all(&self) -> io::Result<()> {
        self.plan.writable(self.plan.space.len).try_for_each(|range| self.map.give_up(&range))
    }

    /// Copies the checkpoint's contents to a run of written pages.
    fn copy_back(&self, checkpoint: &Checkpoint, run: &Range<u64>) -> io::Result<()> {
        for (source, range) in
            checkpoint::sources(&checkpoint.runs, self.plan.space.image_len, run.clone())
        {
            let (image, zeros) = (&*self.plan.image_file, self.plan.space.image_len);
            let (file, offset, at_once) = match source {
                Source::Image => (image, range.start, u64::MAX),
                Source::Checkpoint(at) => (&checkpoint.file, at, u64::MAX),
                Source::Zeros => (image, zeros, ZEROS),
            };
            let mut at = range.start;
            while at < range.end {
                let len = (range.end - at).min(at_once);
                // SAFETY: the run is one that `each_written` found in this mapping. No reference leads into it.
                unsafe { checkpoint::read(file, self.at(at), len as usize, offset) }?;
                at += len;
            }
        }
        Ok(())
    }
}

fn map_runs(map: &Mapping, checkpoint: &Checkpoint) -> io::Result<()> {
    let mut runs = checkpoint.runs.iter();
    runs.try_for_each(|run| map.replace(&(run.from..run.end()), &checkpoint.file, run.at))
}

impl HoldsRegion for PrivateMemory {
    fn region(&self) -> *mut u8 {
        self.at(self.plan.space.region)
    }
}

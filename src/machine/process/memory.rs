//! The guest's memory besides its region: the process has mapped it by copy on write, and the gate copies it to and from the
//! host.
//!
//! The host does not access the memory of the process, which would take privileges in some containers. The gate copies
//! written pages to memory that the host reads (a checkpoint), and from the image and the checkpoint, which a process that
//! begins with a checkpoint can read, to the pages that were written (a reset).

use core::{mem, ops::Range};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    vec::Vec,
};

use super::{
    super::{
        address_space::{AddressSpace, Part},
        checkpoint::{self, Draft, Run, Runs, Source},
    },
    ProcessCheckpoint, ProcessVcpu, STOP, Started,
    child::Child,
    control::{Copied, Frame, MAX_COPIES, WINDOW_LEN},
    gate::{self, CHECKPOINT_AT, Command, IMAGE_AT},
};
use crate::{
    abi::{PAGE_SIZE, Registers, TrapMethod},
    host::GuestExit,
};

/// A reset copies up to so many bytes in place, since a guest that has written to a page probably does so again. If there
/// are more, every [`REPLACE_EVERY`]th reset replaces the process instead, so that a guest that has once written much does
/// not keep it.
const MUCH: u64 = 64 * PAGE_SIZE;
const REPLACE_EVERY: u32 = 8;
/// How long a reset waits for the gate's copies, in milliseconds. Another program may have suspended the process (SIGSTOP, a
/// debugger, the freezer of a cgroup): then it is replaced, which is right at any time and takes a fraction of this.
const PATIENCE: i32 = 1000;

impl ProcessVcpu {
    /// Has the gate save the registers.
    pub(super) fn save_registers(&mut self) -> io::Result<Arc<Frame>> {
        self.command(Command::Keep)?;
        self.expect_kept()?;
        self.child.control.saved_frame(self.number, self.shared.features).map(Arc::new)
    }

    /// Receives the trap behind a command that changes nothing of the guest.
    fn expect_kept(&mut self) -> io::Result<()> {
        match self.receive() {
            Ok(Registers { kind: gate::KEPT, .. }) => Ok(()),
            Ok(Registers { kind, .. }) => {
                Err(io::Error::other(std::format!("unexpected trap of kind {kind:#x}")))
            }
            Err(GuestExit::Stopped) => Err(io::ErrorKind::Interrupted.into()),
            Err(exit) => Err(io::Error::other(exit)),
        }
    }

    /// Has the gate write the vCPU's boot block when it enters the guest (ABI, "Boot block").
    pub(super) fn set_boot_block(&self, log: u32) {
        let trap_method = TrapMethod::Gate(gate::CALL_AT);
        let (to, boot) = self.shared.plan.boot(self.number, trap_method, log);
        let words = boot.to_words();
        let from = self.child.control.put_window(self.number, &words);
        let len = size_of_val(&words) as u64;
        self.child.control.set_copies(self.number, &[Copied { to, from, len }]);
    }

    /// Makes the present contents of the guest's memory the checkpoint. All vCPUs wait.
    pub(super) fn save_memory(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        self.follow();
        let shared = self.shared.clone();
        let (plan, child) = (&shared.plan, self.child.clone());
        let mut runs = Runs::default();
        let from = shared.started().from.clone();
        if let Some(from) = &from {
            for part in private_parts(&plan.space).filter(|part| part.write) {
                let range = part.offset..part.offset + part.len;
                from.private.own(range).try_for_each(|run| runs.add(run))?;
            }
        }
        let last = from.as_ref().map_or(&[][..], |from| &from.private.runs);
        let found = each_written(&child, &plan.space, last, |_, _, range| runs.add(range));
        found.map_err(|error| match has_ended(&error) {
            true => io::Error::other(child.ended()),
            false => error,
        })?;
        // The process can read the file of its first checkpoint, so that a reset need not replace it.
        let file = shared.started().draft.take();
        let is_shown = file.is_some();
        let draft = Draft::new(file, plan.max_checkpoint, cancelled)?;
        let private = draft.finish(runs, |draft, runs| self.copy_out(draft, runs))?;
        let left = plan.max_checkpoint.saturating_sub(private.len());
        let region = Arc::new(shared.region.save(left, cancelled)?);
        let checkpoint = Arc::new(ProcessCheckpoint { private, region });
        if is_shown {
            shared.started().shown = Some(checkpoint.clone());
        }
        *shared.checkpoint() = Some(checkpoint);
        Ok(())
    }

    /// Copies runs of the guest's memory to a checkpoint, window by window.
    fn copy_out(&mut self, draft: &mut Draft<'_>, runs: &[Run]) -> io::Result<()> {
        let shared = self.shared.clone();
        let (_, window) = self.child.control.window(self.number);
        // What the window will hold, and where that will be in the file.
        let (mut copies, mut offsets, mut used) = (Vec::new(), Vec::new(), 0);
        for run in runs {
            for part in private_parts(&shared.plan.space) {
                let (mut at, end) =
                    (run.from.max(part.offset), run.end().min(part.offset + part.len));
                while at < end {
                    let len = (end - at).min(WINDOW_LEN - used);
                    let from = part.address + (at - part.offset);
                    copies.push(Copied { to: window + used, from, len });
                    offsets.push(run.at + (at - run.from));
                    (at, used) = (at + len, used + len);
                    if used == WINDOW_LEN || copies.len() == MAX_COPIES {
                        self.copy_window(draft, &copies, &offsets)?;
                        copies.clear();
                        offsets.clear();
                        used = 0;
                    }
                }
            }
        }
        // Also if there is nothing to copy: a process that still makes copies had its memory when it was looked at, while the
        // kernel may already have taken that of a killed one (`oom_reaper`), whose page map is then empty.
        self.copy_window(draft, &copies, &offsets)
    }

    /// Has the gate fill the window, and copies it to a checkpoint.
    fn copy_window(
        &mut self,
        draft: &mut Draft<'_>,
        copies: &[Copied],
        offsets: &[u64],
    ) -> io::Result<()> {
        let (here, window) = self.child.control.window(self.number);
        draft.take(copies.iter().map(|copied| copied.len).sum())?;
        self.child.control.set_copies(self.number, copies);
        if !self.copy(None)? {
            let ended = self.child.has_ended()?.then(|| self.child.ended());
            let why = ended.unwrap_or("the gate could not copy the guest's memory");
            return Err(io::Error::other(why));
        }
        for (Copied { to, len, .. }, at) in copies.iter().zip(offsets) {
            // SAFETY: the window is `WINDOW_LEN` bytes of the scratch memory, which `self.child` has mapped, and
            // `copy_out` does not exceed it.
            unsafe {
                let from = here.add((to - window) as usize);
                checkpoint::write(&draft.file, from, *len as usize, *at)
            }?;
        }
        Ok(())
    }

    /// Restores the guest's memory to the checkpoint, and begins a life. All vCPUs wait, or have exited.
    pub(super) fn restore_memory(&mut self) -> io::Result<()> {
        self.follow();
        let shared = self.shared.clone();
        let checkpoint = shared.checkpoint().clone().ok_or(io::ErrorKind::NotFound)?;
        shared.region.restore(&checkpoint.region)?;
        if self.copy_back(&checkpoint)? && !shared.forged.load(Ordering::Relaxed) {
            let life = shared.started().life.wrapping_add(1);
            self.child.control.begin_life(u64::from(life) << 32)?;
            shared.started().life = life;
        } else {
            // The process has ended, cannot be trusted, or cannot read this checkpoint.
            self.child.end();
            let new =
                Started::new(&shared.plan, &shared.region, Some(&checkpoint), shared.features);
            *shared.started() = new.map_err(io::Error::other)?;
            shared.forged.store(false, Ordering::Relaxed);
        }
        shared.lives.begin(&*shared.region)
    }

    /// Copies the checkpoint's contents to the pages that were written since. Returns false if the process must be replaced.
    fn copy_back(&mut self, checkpoint: &Arc<ProcessCheckpoint>) -> io::Result<bool> {
        let shared = self.shared.clone();
        let is = |other: &Option<Arc<_>>| {
            other.as_ref().is_some_and(|other| Arc::ptr_eq(other, checkpoint))
        };
        let (is_shown, began_with_it) = {
            let started = shared.started();
            (is(&started.shown), is(&started.from))
        };
        let child = self.child.clone();
        if child.pages.is_none() || !is_shown || child.has_ended()? {
            return Ok(false);
        }
        let space = &shared.plan.space;
        let (mut copies, mut len) = (Vec::new(), 0);
        let found = each_written(&child, space, &checkpoint.private.runs, |part, source, range| {
            let from = match source {
                Source::Checkpoint(at) => CHECKPOINT_AT + at,
                Source::Image => IMAGE_AT + range.start,
                Source::Zeros => 0,
            };
            let to = part.address + (range.start - part.offset);
            let copied = Copied { to, from, len: range.end - range.start };
            copies.try_reserve(1).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
            copies.push(copied);
            len += copied.len;
            Ok(())
        });
        match found {
            Err(error) if has_ended(&error) => return Ok(false),
            found => found?,
        }
        // The pages of a process that began as a new guest are its own since it has started up.
        if len > MUCH && !began_with_it {
            return Ok(false);
        }
        if len > MUCH {
            let mut started = shared.started();
            started.large_resets = started.large_resets.wrapping_add(1);
            if started.large_resets % REPLACE_EVERY == 0 {
                return Ok(false);
            }
        }
        for copies in copies.chunks(MAX_COPIES) {
            self.child.control.set_copies(self.number, copies);
            if !self.copy(Some(PATIENCE))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has the gate make the copies. The vCPU may have exited, and the guest may have chosen all registers. Returns false if
    /// the gate could not make them, or has not in `patience`, in milliseconds. Without that, only a stop resumes a suspended
    /// process.
    fn copy(&mut self, patience: Option<i32>) -> io::Result<bool> {
        let mut was_stopped = false;
        let life = self.shared.started().life;
        loop {
            self.command(Command::Copy)?;
            let listener = &self.child.listeners[self.number as usize];
            if let Some(patience) = patience {
                if !listener.is_ready_within(patience)? {
                    return Ok(false);
                }
            }
            let Some(trap) = listener.receive()? else { return Ok(false) };
            self.trap = trap.id;
            let [kind, .., number, _] = trap.arguments;
            let is_stop = kind == gate::SIGNALLED + STOP as u64;
            // The kernel has begun the trap before again, or a stop of the last life has come first. The copies are made again.
            if number == mem::replace(&mut self.number_of_trap, number) {
                continue;
            }
            if is_stop && !mem::replace(&mut was_stopped, true) {
                continue;
            }
            if (number >> 32) as u32 != life {
                self.shared.forged.store(true, Ordering::Relaxed);
            }
            self.last = None;
            return Ok(kind == gate::KEPT);
        }
    }
}

/// Whether this is the error of the page map of a process that has ended.
fn has_ended(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::ESRCH)
}

/// The parts of the guest's memory that are not of the region.
fn private_parts(space: &AddressSpace) -> impl Iterator<Item = &Part> {
    space.parts.iter().filter(|part| part.offset < space.region)
}

/// Calls `each` with the runs of pages that the guest may have written, as offsets in the machine's memory, their parts, and
/// what a checkpoint with these runs has there.
fn each_written(
    child: &Child,
    space: &AddressSpace,
    runs: &[Run],
    mut each: impl FnMut(&Part, Source, Range<u64>) -> io::Result<()>,
) -> io::Result<()> {
    for part in private_parts(space).filter(|part| part.write) {
        let mut found = |run: Range<u64>, is_zeros| {
            let run =
                part.offset + (run.start - part.address)..part.offset + (run.end - part.address);
            let mut sources = checkpoint::sources(runs, space.image_len, run);
            sources.try_for_each(|(source, range)| match (source, is_zeros) {
                (Source::Zeros, true) => Ok(()),
                _ => each(part, source, range),
            })
        };
        let range = part.address..part.address + part.len;
        match &child.pages {
            Some(pages) => pages.written(range, found)?,
            None => found(range, false)?,
        }
    }
    Ok(())
}

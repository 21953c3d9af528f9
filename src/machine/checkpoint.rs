//! Checkpoints: the memory that a reset of a guest restores.
//!
//! A machine's memory begins as its image, and zeros behind it; a page that the guest writes becomes the machine's own. A
//! checkpoint copies the pages that are the machine's own, and those of the last checkpoint, into a sealed file, one behind the
//! other: a page of the file that is not written would be allocated when a guest reads it. From the next reset on, the
//! machine maps that file by copy on write where it has pages, and the next reset after that only has to look at pages that
//! were written since. All machines of a snapshot map the same file.

use core::ops::Range;
use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering},
    vec::Vec,
};

use nix::{errno::Errno, libc};

use super::{memfd, signals};

/// The greatest number of ranges of a machine's memory that are mapped from a checkpoint, so that a guest cannot use up the
/// mappings of its host (the kernel permits 65,530) by writing every second page.
pub(super) const MAX_RUNS: usize = 32;

/// The contents of a guest's memory where they are neither its image nor zeros.
pub(super) struct Checkpoint {
    /// It is sealed.
    pub(super) file: File,
    /// Sorted, without overlaps.
    pub(super) runs: Vec<Run>,
    /// Those of the runs, or parts of them, that may differ from the image and from zeros.
    own: Vec<Range<u64>>,
}

/// Contents of a range of the machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The offset in the machine's memory, and the length.
    pub(super) from: u64,
    pub(super) len: u64,
    /// The offset in the checkpoint's file.
    pub(super) at: u64,
}

impl Run {
    pub(super) fn end(&self) -> u64 {
        self.from + self.len
    }
}

impl Checkpoint {
    /// The same contents together with the image, in one run. A machine maps that in one piece, which matters if there are many:
    /// the kernel looks at all virtual machines of a program whenever this unmaps something, and at all mappings whenever one is
    /// made.
    ///
    /// The machine's memory has `len` bytes.
    pub(super) fn with_image(&self, image: &File, image_len: u64, len: u64) -> io::Result<Self> {
        let file = memfd::new(c"vmffi-snapshot", len)?;
        signals::change_file(len, || {
            sources(&self.runs, image_len, 0..len).try_for_each(|(source, range)| match source {
                Source::Checkpoint(at) => memfd::copy(&self.file, at, &file, range),
                Source::Image => memfd::copy(image, range.start, &file, range),
                Source::Zeros => Ok(()),
            })
        })?;
        memfd::seal(&file)?;
        Ok(Self { file, runs: std::vec![Run { from: 0, len, at: 0 }], own: self.own.clone() })
    }

    /// The runs of pages in a range that may differ from the image and from zeros.
    pub(super) fn own(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first = self.own.partition_point(|run| run.end <= range.start);
        let runs = self.own[first..].iter().take_while(move |run| run.start < range.end);
        runs.map(move |run| run.start.max(range.start)..run.end.min(range.end))
    }

    /// How many bytes it takes.
    #[cfg(feature = "process")]
    pub(super) fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.len).sum()
    }
}

/// Where the contents of a range come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The checkpoint, at this offset of its file.
    Checkpoint(u64),
    /// The image, at the same offset of its file.
    Image,
    Zeros,
}

/// The parts of a range of a machine's memory, with their sources, for a checkpoint with these runs. The image ends at
/// `image_len`.
pub(super) fn sources(
    runs: &[Run],
    image_len: u64,
    range: Range<u64>,
) -> impl Iterator<Item = (Source, Range<u64>)> {
    let mut at = range.start;
    let mut runs = runs[runs.partition_point(|run| run.end() <= at)..].iter().peekable();
    core::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let (source, end) = match runs.next_if(|run| run.from <= at) {
            Some(run) => (Source::Checkpoint(run.at + (at - run.from)), run.end()),
            None => {
                let next = runs.peek().map_or(u64::MAX, |run| run.from);
                match at < image_len {
                    true => (Source::Image, next.min(image_len)),
                    false => (Source::Zeros, next),
                }
            }
        };
        let part = at..end.min(range.end);
        at = part.end;
        Some((source, part))
    })
}

/// The runs of a new checkpoint.
#[derive(Default)]
pub(super) struct Runs(Vec<Range<u64>>);

impl Runs {
    pub(super) fn add(&mut self, run: Range<u64>) -> io::Result<()> {
        if let Some(last) = self.0.last_mut().filter(|last| last.end == run.start) {
            last.end = run.end;
            return Ok(());
        }
        self.0.try_reserve(1).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        self.0.push(run);
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }

    /// The length of all of them, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.iter().map(|run| run.end - run.start).sum()
    }

    /// Sorts and joins them, until there are at most [`MAX_RUNS`]: the shortest gaps become part of a run.
    fn joined(self) -> io::Result<Vec<Range<u64>>> {
        let Self(mut runs) = self;
        runs.sort_unstable_by_key(|run| run.start);
        let mut gaps = Vec::new();
        let full = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        gaps.try_reserve_exact(runs.len()).map_err(full)?;
        let gap = |pair: &[Range<u64>]| pair[1].start.saturating_sub(pair[0].end);
        gaps.extend(runs.windows(2).map(gap));
        // Runs are joined over gaps of at most this length.
        let excess = runs.len().saturating_sub(MAX_RUNS);
        let longest = match excess.checked_sub(1) {
            Some(last) => *gaps.select_nth_unstable(last).1,
            None => 0,
        };
        runs.dedup_by(|next, run| {
            let joins = next.start.saturating_sub(run.end) <= longest;
            if joins {
                run.end = run.end.max(next.end);
            }
            joins
        });
        Ok(runs)
    }
}

/// How many bytes are copied between two checks for cancellation.
pub(super) const COPIED_AT_ONCE: u64 = 1 << 20;

/// A checkpoint in the making.
pub(super) struct Draft<'c> {
    pub(super) file: File,
    /// How many bytes may still be copied, and could be in all.
    left: u64,
    max: u64,
    /// Becomes true when the guest is stopped.
    cancelled: &'c AtomicBool,
}

impl<'c> Draft<'c> {
    /// At most `max` bytes are copied, to this file, which is empty, or to a new one. If `cancelled` becomes true, copying fails with [`Interrupted`](io::ErrorKind::Interrupted).
    pub(super) fn new(file: Option<File>, max: u64, cancelled: &'c AtomicBool) -> io::Result<Self> {
        let file = match file {
            Some(file) => file,
            None => memfd::new(c"vmffi-checkpoint", 0)?,
        };
        Ok(Self { file, left: max, max, cancelled })
    }

    /// Copies `runs` with `copy`, which calls [`take`](Self::take) for each part of them, and makes the checkpoint.
    pub(super) fn finish(
        mut self,
        runs: Runs,
        copy: impl FnOnce(&mut Self, &[Run]) -> io::Result<()>,
    ) -> io::Result<Checkpoint> {
        let own = runs.joined()?;
        let mut len = 0;
        let place = |range: &Range<u64>| {
            let run = Run { from: range.start, len: range.end - range.start, at: len };
            len += run.len;
            run
        };
        let runs: Vec<_> = own.iter().map(place).collect();
        signals::change_file(len, || {
            self.file.set_len(len)?;
            copy(&mut self, &runs)
        })?;
        memfd::seal(&self.file)?;
        Ok(Checkpoint { file: self.file, own, runs })
    }

    /// Whether so many bytes, at most [`COPIED_AT_ONCE`], may be copied now.
    pub(super) fn take(&mut self, len: u64) -> io::Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let taken = self.max - self.left;
        self.left = self.left.checked_sub(len).ok_or_else(|| too_large(taken + len, self.max))?;
        Ok(())
    }
}

pub(super) fn too_large(copied: u64, max: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        std::format!(
            "the guest's checkpoint takes {copied} bytes or more, but only {max} are left of the machine's memory limit: \
             raise `MachineBuilder::memory`"
        ),
    )
}

/// Writes `len` bytes at an address of this process to an offset of a file. The kernel reads them, so whatever writes there
/// at the same time is no data race of this program.
///
/// # Safety
///
/// The bytes are mapped and readable.
pub(super) unsafe fn write(
    file: &File,
    from: *const u8,
    len: usize,
    offset: u64,
) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        // SAFETY: the caller promises `len` readable bytes, of which `done` are skipped. The kernel only reads them.
        let written = unsafe {
            let from = from.add(done).cast();
            libc::pwrite(file.as_raw_fd(), from, len - done, (offset + done as u64) as i64)
        };
        done += moved(written)?;
    }
    Ok(())
}

/// Reads `len` bytes at an offset of a file to an address of this process. The kernel writes them, so whatever accesses them
/// at the same time is no data race of this program.
///
/// # Safety
///
/// The bytes are mapped and writable, and no reference leads there.
#[cfg(feature = "kvm")]
pub(super) unsafe fn read(file: &File, to: *mut u8, len: usize, offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        // SAFETY: the caller promises `len` writable bytes without references, of which `done` are skipped.
        let read = unsafe {
            let to = to.add(done).cast();
            libc::pread(file.as_raw_fd(), to, len - done, (offset + done as u64) as i64)
        };
        done += moved(read)?;
    }
    Ok(())
}

/// How many bytes a system call has moved; 0 if it is to be made again.
fn moved(result: isize) -> io::Result<usize> {
    match Errno::result(result) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(moved) => Ok(moved as usize),
        Err(Errno::EINTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn joined(runs: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut all = Runs::default();
        runs.iter().for_each(|run| all.add(run.clone()).unwrap());
        all.joined().unwrap()
    }

    #[test]
    fn runs_are_joined_over_their_shortest_gaps() {
        assert_eq!(joined(&[]), []);
        assert_eq!(joined(&[8..9, 0..2, 2..4, 1..3]), vec![0..4, 8..9]);
        // One more than there may be, and the shortest gap is the last one.
        let mut runs: Vec<_> = (0..=MAX_RUNS as u64).map(|n| n * 100..n * 100 + 1).collect();
        runs.last_mut().unwrap().start -= 2;
        let found = joined(&runs);
        assert_eq!(found.len(), MAX_RUNS);
        assert_eq!(found.last().unwrap().start, (MAX_RUNS as u64 - 1) * 100);
        // Every second page of many.
        let runs: Vec<_> = (0..100_000).map(|n| 2 * n..2 * n + 1).collect();
        let found = joined(&runs);
        assert!(found.len() <= MAX_RUNS, "{}", found.len());
        assert_eq!((found[0].start, found.last().unwrap().end), (0, 199_999));
    }

    #[test]
    fn each_part_of_a_range_has_its_source() {
        use Source::{Checkpoint as Own, Image, Zeros};
        let runs = [(10, 10, 0), (30, 30, 10), (70, 10, 40)];
        let runs = runs.map(|(from, len, at)| Run { from, len, at });
        let sources = |range| sources(&runs, 50, range).collect::<Vec<_>>();
        let all = [
            (Image, 0..10),
            (Own(0), 10..20),
            (Image, 20..30),
            (Own(10), 30..60),
            (Zeros, 60..70),
            (Own(40), 70..80),
            (Zeros, 80..100),
        ];
        assert_eq!(sources(0..100), all);
        assert_eq!(sources(20..20), []);
        assert_eq!(sources(12..15), [(Own(2), 12..15)]);
        assert_eq!(sources(19..31), [(Own(9), 19..20), (Image, 20..30), (Own(10), 30..31)]);
        assert_eq!(sources(45..65), [(Own(25), 45..60), (Zeros, 60..65)]);
    }
}

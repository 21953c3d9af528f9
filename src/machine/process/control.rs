//! The memory by which host and gate communicate: the control memory, then the scratch memory.

use core::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};
use std::{boxed::Box, fs::File, io, vec::Vec};

use super::{
    super::{
        mapping::{Kind, Mapping},
        memfd, signals,
    },
    gate::{
        COPIES, COPIES_END, SAVE_AREA, SAVED, SCRATCH_AT, SIGNAL_STACK, SIGNAL_STACK_LEN,
        SIGNAL_STACKS, SLOT_LEN, SLOTS, WORDS,
    },
    native::{Features, MAX_VECTORS_LEN, VECTORS},
    shared,
};
use crate::abi::{PAGE_SIZE, Registers};

/// The memory of one process, as its host sees it. The guest can only read the control memory.
pub(super) struct Control {
    map: Mapping,
    pub(super) file: File,
    /// The length of the control memory; the scratch memory follows.
    pub(super) len: u64,
    pub(super) scratch_len: u64,
}

/// A copy that the gate makes: `len` bytes, a multiple of eight, from one address of the guest to another, which are
/// multiples of eight as well. From 0, it writes zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    pub(super) to: u64,
    pub(super) from: u64,
    pub(super) len: u64,
}

/// The length of a copy in the list, in bytes, and how many fit, besides the end of the list.
const COPY_LEN: u64 = 24;
pub(super) const MAX_COPIES: usize = ((COPIES_END - COPIES) / COPY_LEN) as usize - 1;

/// The length of a vCPU's window, in bytes.
pub(super) const WINDOW_LEN: u64 = SIGNAL_STACK_LEN / 2;
const _: () = assert!(SAVED + VECTORS + MAX_VECTORS_LEN <= COPIES);
// What the kernel writes for a signal besides these registers: `struct rt_sigframe`, less than a page, and alignment.
const _: () = assert!(MAX_VECTORS_LEN + PAGE_SIZE <= SIGNAL_STACK_LEN - WINDOW_LEN);

/// The registers of a vCPU that a call of the gate preserves.
#[derive(Clone)]
pub(super) struct Frame {
    /// In the order of the gate (`native`).
    pub(super) general: [u64; (VECTORS / 8) as usize],
    /// The floating-point and vector registers.
    pub(super) vectors: Box<[u64]>,
}

/// In the flags of a signal stack: see `gate` (sigaltstack(2)).
const SS_AUTODISARM: u64 = 1 << 31;

impl Frame {
    /// Zeros, with this length of the other registers, in bytes.
    pub(super) fn zeros(len: usize) -> Self {
        let vectors = std::vec![0; len.div_ceil(8)].into();
        Self { general: [0; (VECTORS / 8) as usize], vectors }
    }
}

impl Control {
    pub(super) fn new(vcpus: u32) -> io::Result<Self> {
        let len = SLOTS + u64::from(vcpus) * SLOT_LEN;
        let scratch_len = SIGNAL_STACKS + u64::from(vcpus) * SIGNAL_STACK_LEN;
        let all = len + scratch_len;
        let file = memfd::new(c"vmffi-control", all)?;
        Ok(Self { map: Mapping::of_file(all, &file, Kind::Shared)?, file, len, scratch_len })
    }

    /// The eight bytes at an offset of the mapping, a multiple of eight.
    fn word(&self, offset: u64) -> &AtomicU64 {
        let (len, size) = (self.map.len() as u64, size_of::<u64>() as u64);
        assert!(offset % size == 0 && offset < len, "{offset:#x} of {len:#x}");
        // SAFETY: the offset is aligned and, since the length is a multiple of eight as well, the word lies in the
        // mapping, which lives as long as `self`. This program accesses it by atomics only; what the guest's process
        // and the kernel do there are no data races of this program.
        unsafe { AtomicU64::from_ptr(self.map.at().add(offset as usize).cast()) }
    }

    pub(super) fn get(&self, offset: u64) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, offset: u64, value: u64) {
        self.word(offset).store(value, Ordering::Relaxed);
    }

    /// Writes bytes, whose length need not be a multiple of eight, from an offset on that is one.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) {
        for (at, chunk) in (offset..).step_by(8).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.set(at, u64::from_le_bytes(word));
        }
    }

    /// The offset of a vCPU's slot.
    pub(super) fn slot(vcpu: u32) -> u64 {
        SLOTS + u64::from(vcpu) * SLOT_LEN
    }

    /// The offset of a vCPU's signal stack in the scratch memory.
    fn signal_stack(vcpu: u32) -> u64 {
        SIGNAL_STACKS + u64::from(vcpu) * SIGNAL_STACK_LEN
    }

    /// The address of a vCPU's signal stack in the process.
    pub(super) fn signal_stack_at(vcpu: u32) -> u64 {
        SCRATCH_AT + Self::signal_stack(vcpu)
    }

    /// Begins another life of the guest, all of whose threads wait: clears what the last one can have left in the
    /// scratch memory, and sets the number of the next trap, whichever vCPU makes it.
    pub(super) fn begin_life(&self, number: u64) -> io::Result<()> {
        self.clear(self.len..self.map.len() as u64)?;
        self.set(self.len, number);
        Ok(())
    }

    /// Clears a vCPU's signal stack. The vCPU waits in the handler, which does not return.
    pub(super) fn clear_signal_stack(&self, vcpu: u32) -> io::Result<()> {
        let at = self.len + Self::signal_stack(vcpu);
        self.clear(at..at + SIGNAL_STACK_LEN)
    }

    fn clear(&self, range: Range<u64>) -> io::Result<()> {
        signals::change_file(self.map.len() as u64, || shared::clear(&self.file, range))
    }

    /// Prepares a vCPU's slot for its first command.
    pub(super) fn begin(&self, vcpu: u32) {
        let slot = Self::slot(vcpu);
        self.set(slot + SAVE_AREA, Self::signal_stack_at(vcpu));
        // `stack_t`: address, flags (an `int`), length.
        let stack = [Self::signal_stack_at(vcpu), SS_AUTODISARM, SIGNAL_STACK_LEN];
        for (at, word) in (slot + SIGNAL_STACK..).step_by(8).zip(stack) {
            self.set(at, word);
        }
    }

    /// Sets the words of a vCPU's next answer.
    pub(super) fn set_words(&self, vcpu: u32, words: Registers) {
        let slot = Self::slot(vcpu) + WORDS;
        let Registers { kind, word, transport } = words;
        for (at, word) in
            (slot..).step_by(8).zip([kind, word, transport.primary, transport.secondary])
        {
            self.set(at, word);
        }
    }

    /// Sets the copies that [`gate::Command::Copy`] makes, at most [`MAX_COPIES`].
    pub(super) fn set_copies(&self, vcpu: u32, copies: &[Copied]) {
        let end = Copied { to: 0, from: 0, len: 0 };
        let at = Self::slot(vcpu) + COPIES;
        for (at, Copied { to, from, len }) in
            (at..).step_by(COPY_LEN as usize).zip(copies.iter().take(MAX_COPIES).chain([&end]))
        {
            for (at, word) in (at..).step_by(8).zip([*to, *from, len / 8]) {
                self.set(at, word);
            }
        }
    }

    /// Where the host reads what a vCPU copies out of the guest, [`WINDOW_LEN`] bytes: the lower half of its signal stack, by its
    /// address here and in the guest. A stop that comes late has the kernel write to the upper half only.
    pub(super) fn window(&self, vcpu: u32) -> (*const u8, u64) {
        let at = (self.len + Self::signal_stack(vcpu)) as usize;
        // SAFETY: the signal stack is in the scratch memory, which is mapped behind the control memory.
        (unsafe { self.map.at().add(at) }, Self::signal_stack_at(vcpu))
    }

    /// Writes words to the window of a vCPU; returns their address in the guest. No vCPU runs.
    pub(super) fn put_window(&self, vcpu: u32, words: &[u64]) -> u64 {
        let at = self.len + Self::signal_stack(vcpu);
        for (at, word) in (at..).step_by(8).zip(words) {
            self.set(at, *word);
        }
        Self::signal_stack_at(vcpu)
    }

    /// Sets the registers that the next command restores.
    pub(super) fn set_frame(&self, vcpu: u32, frame: &Frame) {
        let at = Self::slot(vcpu) + SAVED;
        for (at, word) in (at..).step_by(8).zip(frame.general.iter().chain(&frame.vectors)) {
            self.set(at, *word);
        }
    }

    /// Copies the registers that a vCPU has saved. Other vCPUs of the guest can write there at the same time, so the
    /// copy holds anything that the gate can restore.
    pub(super) fn saved_frame(&self, vcpu: u32, features: Features) -> io::Result<Frame> {
        let from = self.len + Self::signal_stack(vcpu);
        let mut general = [0; (VECTORS / 8) as usize];
        for (at, word) in (from..).step_by(8).zip(&mut general) {
            *word = self.get(at);
        }
        let mut vectors = Vec::new();
        vectors.try_reserve_exact(features.len.div_ceil(8)).map_err(io::Error::other)?;
        let from = from + VECTORS;
        vectors.extend((0..features.len.div_ceil(8) as u64).map(|word| self.get(from + 8 * word)));
        let mut frame = Frame { general, vectors: vectors.into() };
        frame.make_valid(features);
        Ok(frame)
    }

    /// Reads eight bytes of a vCPU's signal stack at an address of the guest, if they lie there.
    pub(super) fn read_signal_stack(&self, vcpu: u32, address: u64) -> Option<u64> {
        let within = address.checked_sub(Self::signal_stack_at(vcpu))?;
        let there = address % 8 == 0 && within < SIGNAL_STACK_LEN;
        there.then(|| self.get(self.len + Self::signal_stack(vcpu) + within))
    }
}

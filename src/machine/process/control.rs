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
        self, BASES, COPIES, COPIES_END, MAX_VECTORS_LEN, RFLAGS, RSP, SAVE_AREA, SAVED,
        SCRATCH_AT, SIGNAL_STACK, SIGNAL_STACK_LEN, SIGNAL_STACKS, SLOT_LEN, SLOTS, VECTORS, WORDS,
    },
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
// What the kernel writes for a signal besides these registers: `struct rt_sigframe`, less than a page, and alignment.
const _: () = assert!(MAX_VECTORS_LEN + PAGE_SIZE <= SIGNAL_STACK_LEN - WINDOW_LEN);

/// The registers of a vCPU that a call of the gate preserves.
#[derive(Clone)]
pub(super) struct Frame {
    /// In the order of the gate: RBP, R12 to R15, RSP, the bases of FS and GS, RFLAGS.
    general: [u64; (VECTORS / 8) as usize],
    /// The others, in the format of XSAVE or FXSAVE.
    vectors: Box<[u64]>,
}

/// In the flags of a signal stack: see [`gate`] (sigaltstack(2)).
const SS_AUTODISARM: u64 = 1 << 31;

/// The offset of MXCSR and of XSTATE_BV in the format of XSAVE, and the end of its header (Intel SDM, volume 1, "XSAVE
/// Area").
const MXCSR: usize = 24;
const XSTATE: usize = 512;
const HEADER_END: usize = 576;
/// In XSTATE_BV: PKRU. It gets its initial value, with which all memory is accessible, since the gate still needs the
/// control memory when it has restored the registers.
const PKRU: u64 = 1 << 9;

/// How the processor and the kernel save registers.
#[derive(Clone, Copy)]
pub(super) struct Features {
    /// [`gate::FSGSBASE`] and [`gate::XSAVE`].
    pub(super) bits: u64,
    /// The length of the format of XSAVE or FXSAVE, in bytes, and the components that it may have.
    len: usize,
    components: u64,
}

impl Features {
    /// Those of this machine.
    pub(super) fn here() -> io::Result<Self> {
        /// In AT_HWCAP2: the kernel has enabled `rdfsbase` and its kin (Linux, `HWCAP2_FSGSBASE`).
        const HWCAP2_FSGSBASE: u64 = 2;
        // SAFETY: getauxval(3) only reads the auxiliary vector of the process.
        let hwcap2 = unsafe { nix::libc::getauxval(nix::libc::AT_HWCAP2) };
        let mut this = Self { bits: 0, len: XSTATE, components: 3 };
        if hwcap2 & HWCAP2_FSGSBASE != 0 {
            this.bits |= gate::FSGSBASE;
        }
        if std::is_x86_feature_detected!("xsave") {
            // SAFETY: a processor with XSAVE has CPUID leaf 0xd, and the kernel has enabled XGETBV, since
            // `is_x86_feature_detected` checks OSXSAVE.
            let (leaf, components) =
                unsafe { (core::arch::x86_64::__cpuid_count(0xd, 0), enabled_components()) };
            this = Self { bits: this.bits | gate::XSAVE, len: leaf.ebx as usize, components };
        }
        if this.len as u64 > MAX_VECTORS_LEN {
            let what = std::format!("the registers of this processor take {} bytes", this.len);
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        Ok(this)
    }
}

/// XCR0.
///
/// # Safety
///
/// The operating system has enabled XGETBV.
#[target_feature(enable = "xsave")]
unsafe fn enabled_components() -> u64 {
    // SAFETY: the caller guarantees that XGETBV is enabled, and XCR0 exists then.
    unsafe { core::arch::x86_64::_xgetbv(0) }
}

impl Frame {
    /// The registers at the guest's entry point (ABI, "Boot block").
    pub(super) fn entry(stack: u64, features: Features) -> Self {
        let mut general = [0; (VECTORS / 8) as usize];
        general[(RSP / 8) as usize] = stack;
        general[(RFLAGS / 8) as usize] = RFLAGS_SET;
        let mut vectors = std::vec![0; features.len.div_ceil(8)];
        // XSTATE_BV is 0, so all components get their initial values, except for MXCSR, which XRSTOR always loads.
        vectors[MXCSR / 8] = 0x1f80;
        if features.bits & gate::XSAVE == 0 {
            // FXRSTOR loads everything: the x87 control word is 0x37f.
            vectors[0] = 0x37f;
        }
        Self { general, vectors: vectors.into() }
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
    /// copy holds anything, except that XRSTOR accepts it.
    pub(super) fn saved_frame(&self, vcpu: u32, features: Features) -> io::Result<Frame> {
        let from = self.len + Self::signal_stack(vcpu);
        let mut general = [0; (VECTORS / 8) as usize];
        for (at, word) in (from..).step_by(8).zip(&mut general) {
            *word = self.get(at);
        }
        // `wrfsbase` raises an exception for an address that is not canonical.
        for base in &mut general[(BASES / 8) as usize..][..2] {
            *base = ((*base << 16) as i64 >> 16) as u64;
        }
        let rflags = &mut general[(RFLAGS / 8) as usize];
        *rflags = *rflags & RFLAGS_KEPT | RFLAGS_SET;
        let mut vectors = Vec::new();
        vectors.try_reserve_exact(features.len.div_ceil(8)).map_err(io::Error::other)?;
        let from = from + VECTORS;
        vectors.extend((0..features.len.div_ceil(8) as u64).map(|word| self.get(from + 8 * word)));
        vectors[MXCSR / 8] &= MXCSR_BITS;
        if let Some(header) = vectors.get_mut(XSTATE / 8..HEADER_END / 8) {
            header[1..].fill(0);
            header[0] &= features.components & !PKRU;
        }
        Ok(Frame { general, vectors: vectors.into() })
    }

    /// Reads eight bytes of a vCPU's signal stack at an address of the guest, if they lie there.
    pub(super) fn read_signal_stack(&self, vcpu: u32, address: u64) -> Option<u64> {
        let within = address.checked_sub(Self::signal_stack_at(vcpu))?;
        let there = address % 8 == 0 && within < SIGNAL_STACK_LEN;
        there.then(|| self.get(self.len + Self::signal_stack(vcpu) + within))
    }
}

/// The flag that is always set, and those that are kept: DF, AC and ID, and the status flags (Intel SDM, volume 1, "EFLAGS
/// Register"). A guest that is kept in single steps does not go on in them.
const RFLAGS_SET: u64 = 2;
const RFLAGS_KEPT: u64 = 0x24_0cd5;
/// The bits of MXCSR that are not reserved; its mask follows in the same eight bytes, and is ignored by XRSTOR.
const MXCSR_BITS: u64 = 0xffff;

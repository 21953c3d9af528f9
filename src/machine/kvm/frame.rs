//! Traps by a doorbell with a frame (ABI, Traps TR-14), for architectures where KVM would need a system call for each register.
//!
//! KVM reports the value that the guest has stored to the doorbell: the address of the frame. The host reads and writes the
//! frame in the machine's memory, and makes no system call but `KVM_RUN`.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    super::super::{
        MachineError,
        address_space::{AddressSpace, DOORBELL_AT, Part},
        private::PrivateMemory,
        saved::Saved,
    },
    KvmVcpu, kept,
    registers::Values,
};
use crate::{
    abi::{Registers, Transport, TrapMethod},
    host::GuestExit,
};

/// The trap of all guests.
pub(in super::super) const USUAL_TRAP: TrapMethod = TrapMethod::Doorbell(DOORBELL_AT);

/// The length of a frame, and its alignment, in bytes.
const FRAME_LEN: u64 = 32;

/// The frame of a vCPU's last trap, until the next one.
#[derive(Default)]
pub(in super::super) struct TrapState {
    /// Its offset in the machine's memory: a whole frame in a part that the guest can write.
    frame: Option<u64>,
    /// The part of the guest's address space that it is in, which is probably that of the next one.
    part: Option<Part>,
}

impl TrapState {
    pub(in super::super) fn new(_: TrapMethod) -> Self {
        Self::default()
    }

    pub(in super::super) fn method(&self) -> TrapMethod {
        USUAL_TRAP
    }

    /// Finds the frame at an address of the guest. Returns false if there can be none.
    fn find(&mut self, space: &AddressSpace, address: u64) -> bool {
        let within = |part: &Part| address.wrapping_sub(part.address) < part.len;
        if !self.part.as_ref().is_some_and(within) {
            self.part = space.find(address).map(|(_, part)| part).filter(|part| part.write);
        }
        // A part consists of whole pages, so a frame that is aligned is in it with all its bytes.
        let part = self.part.as_ref().filter(|part| address % FRAME_LEN == 0 && within(part));
        self.frame = part.map(|part| part.offset + (address - part.address));
        self.frame.is_some()
    }

    /// The words of the frame. Each is read once, since other vCPUs of the guest may be writing them.
    #[inline]
    fn read(&self, memory: &PrivateMemory) -> Registers {
        let read =
            |words: &[AtomicU64; 4]| words.each_ref().map(|word| word.load(Ordering::Relaxed));
        let [kind, word, primary, secondary] = self.shared(memory).map_or([0; 4], read);
        Registers { kind, word, transport: Transport { primary, secondary } }
    }

    #[inline]
    fn write(&self, memory: &PrivateMemory, Registers { kind, word, transport }: Registers) {
        let Some(frame) = self.shared(memory) else { return };
        for (to, value) in frame.iter().zip([kind, word, transport.primary, transport.secondary]) {
            to.store(value, Ordering::Relaxed);
        }
    }

    /// The frame in the machine's memory, if there is one.
    #[inline]
    fn shared<'m>(&self, memory: &'m PrivateMemory) -> Option<&'m [AtomicU64; 4]> {
        let at = memory.at(self.frame?).cast::<[AtomicU64; 4]>();
        // SAFETY: `find` has set `frame` to the offset of 32 bytes in the memory, which is page-aligned, at a multiple of 32. The
        // memory is mapped as long as `memory` lives, and this program accesses it through raw pointers, system calls and atomics
        // only.
        Some(unsafe { &*at })
    }
}

/// The state of a vCPU that a reset restores.
pub(in super::super) struct State {
    values: Values,
    /// The offset of the frame of its last trap.
    frame: Option<u64>,
}

/// A guest has no clock: at the least privilege, no counter can be read.
pub(in super::super) struct Clock;

impl KvmVcpu {
    /// Sets the state of another machine's vCPU.
    pub(in super::super) fn adopt(&mut self, state: &Arc<State>, _: &Clock) -> io::Result<()> {
        self.load(state)?;
        self.saved = Saved::of(state);
        Ok(())
    }

    /// Sets the registers.
    pub(in super::super) fn load(&mut self, state: &State) -> io::Result<()> {
        self.trap.frame = state.frame;
        state.values.set(&self.fd)
    }

    /// The state that a reset restores. The vCPU is settled, so the program counter is behind the instruction of its trap.
    pub(in super::super) fn state(&mut self) -> io::Result<State> {
        Ok(State { values: Values::of(&self.fd, kept())?, frame: self.trap.frame })
    }

    /// The clock, for a snapshot.
    pub(in super::super) fn clock(&self) -> io::Result<Clock> {
        Ok(Clock)
    }

    /// The trap of guests on this machine: it needs no probe.
    pub(in super::super) fn probe(&mut self) -> Result<TrapMethod, MachineError> {
        Ok(USUAL_TRAP)
    }

    /// Takes the value that the guest has stored to the doorbell. Returns true, or how the guest ends: without a frame there, the
    /// store is no trap.
    #[inline]
    pub(super) fn rung(&mut self, value: u64) -> Result<bool, GuestExit> {
        if self.trap.find(&self.machine.plan.space, value) {
            return Ok(true);
        }
        Err(self.machine.invalid_access(self.machine.doorbell))
    }

    /// The words of the trap that [`resume`](Self::resume) has returned.
    #[inline]
    pub(in super::super) fn words(&mut self) -> Registers {
        self.trap.read(&self.machine.memory)
    }

    /// Sets the words of the answer.
    #[inline]
    pub(in super::super) fn answer(&mut self, words: Registers) {
        self.trap.write(&self.machine.memory, words);
    }

    /// No instruction is repeated: KVM reports no more than one access of an instruction here.
    pub(in super::super) fn end_repetition(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Continues after the state was read: reading has changed nothing.
    pub(in super::super) fn keep(&mut self, _: &State) {}
}

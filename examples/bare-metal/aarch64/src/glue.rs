//! What connects `vmffi` to this hypervisor: its vCPU, its guest-physical memory, and the region.

use core::ptr::NonNull;

use suite::LAYOUT;
use vmffi::{
    RegionMemory,
    abi::Registers,
    host::{
        Fault, FaultCause, GuestExit, GuestMemory, Piece, Vcpu, registers::SavedRegisters as _,
    },
};

use crate::platform::{self, Exit, Machine};

/// The memory of the guest in a slot that lies outside of its region.
pub struct SlotMemory(pub usize);

// SAFETY: a slot is memory that the linker script reserves, valid for reads and writes at any time. Its guest can write what
// `writable` returns, and the hypervisor has no references into it.
unsafe impl GuestMemory for SlotMemory {
    fn translate(&self, address: u64, len: usize) -> Option<Piece> {
        let (at, left) = platform::writable(self.0, address)?;
        Some(Piece { at: NonNull::new(at)?, len: len.min(left) })
    }
}

impl Vcpu for Machine {
    // The trap loop calls it in one place.
    #[inline(always)]
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        let memory = SlotMemory(self.slot());
        if let Some(answer) = answer {
            self.general().complete(&memory, answer)?;
        }
        loop {
            match self.enter() {
                Exit::Hypercall => match self.general().trap(&memory)? {
                    Some(words) => return Ok(words),
                    None => other_call(self),
                },
                exit => return Err(ended(self, exit)),
            }
        }
    }
}

/// Here a hypervisor looks at the calls of its other services.
#[inline(never)]
fn other_call(machine: &mut Machine) {
    machine.general().answer_other();
}

/// What a guest has done that is no call.
#[cold]
fn ended(machine: &Machine, exit: Exit) -> GuestExit {
    let Exit::Fault { class, address } = exit else {
        return GuestExit::Lost("an interrupt came".into());
    };
    let mut fault = Fault::new(FaultCause::Exception(class), machine.pc());
    fault.address = address;
    GuestExit::Fault(fault)
}

/// Loads the guest into a slot. Returns its vCPU, and its region as the hypervisor reaches it.
pub fn machine(slot: usize, mode: u64) -> (Machine, RegionMemory) {
    let machine = Machine::new(slot, &LAYOUT, mode);
    // SAFETY: the bytes are memory of the slot, valid at any time, and its guest has them at its region's address. Nothing else
    // uses them: the suite connects each slot once.
    let region = unsafe { RegionMemory::permanent(platform::region(slot), LAYOUT.len()) };
    (machine, region)
}

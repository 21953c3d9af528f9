//! All that connects `vmffi` to this hypervisor: a virtual processor, and the memory of its guest.

use core::{fmt, ptr::NonNull};

use vmffi::{
    PAGE_SIZE, RegionLayout, RegionMemory,
    abi::{Registers, Side},
    host::{
        Fault, FaultCause, GuestExit, GuestMemory, Piece, ProtocolViolation, SavedRegisters, Vcpu,
    },
};

use crate::svm::{Exit, GUEST_BASE, Machine, REGION};

/// The instruction by which a guest traps. Guest and host have agreed on one (ABI, Traps TR-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `vmmcall`.
    Vmmcall,
    /// `out dx, eax` to this port.
    Out(u16),
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vmmcall => f.write_str("vmmcall"),
            Self::Out(port) => write!(f, "out to port {port:#x}"),
        }
    }
}

/// The only vCPU of a guest.
#[derive(Debug)]
pub struct SvmVcpu {
    machine: Machine,
    memory: Memory,
    method: Method,
}

/// The guest's memory below its region: where the host has its first byte.
#[derive(Debug)]
struct Memory(NonNull<u8>);

/// The length of that.
const BELOW: u64 = REGION.start - GUEST_BASE;

// SAFETY: the memory is in a static, to which no reference exists, and no thread owns it.
unsafe impl Send for Memory {}

// SAFETY: `Machine::memory` has more bytes than these, as long as the host runs. The guest can write them, and no reference
// covers them.
unsafe impl GuestMemory for Memory {
    fn translate(&self, address: u64, len: usize) -> Option<Piece> {
        let offset = address.checked_sub(GUEST_BASE).filter(|offset| *offset < BELOW)?;
        // SAFETY: `offset` is within the guest's memory.
        let at = unsafe { self.0.add(offset as usize) };
        Some(Piece { at, len: len.min((BELOW - offset) as usize) })
    }
}

impl SvmVcpu {
    /// Loads a guest that traps by `method` into a slot, with a region that is laid out as `layout` says. It starts with
    /// `mode` and the region's address as arguments.
    ///
    /// # Panics
    ///
    /// If the image does not fit into the guest's memory, or the layout into its region.
    pub fn load(
        slot: usize,
        image: &[u8],
        mode: u64,
        method: Method,
        layout: &RegionLayout,
    ) -> (Self, RegionMemory) {
        assert!(layout.len() <= REGION.end - REGION.start, "the region is too small");
        // The guest writes neither to the region's header nor to its host's arena (ABI, R-4).
        let (arena, arena_len) = layout.arena(Side::Host);
        let arena = REGION.start + arena;
        let read_only = [REGION.start..REGION.start + PAGE_SIZE, arena..arena + arena_len];
        let machine = Machine::load(slot, image, &read_only, [mode, REGION.start]);
        let memory = Memory(machine.memory());
        // SAFETY: the region follows these bytes in the guest's memory.
        let region = unsafe { memory.0.add(BELOW as usize) };
        // SAFETY: the bytes are in a static, and only this connection uses them as long as the guest is in its slot. The guest
        // cannot write to header and host's arena, by its nested tables, nor can any other guest.
        let region = unsafe { RegionMemory::permanent(region.as_ptr(), layout.len()) };
        (Self { machine, memory, method }, region)
    }

    /// The exception with this vector, at the guest's current instruction; for a page fault, with the address.
    fn fault(&self, vector: u8, address: Option<u64>) -> GuestExit {
        let mut fault = Fault::new(FaultCause::Exception(vector), self.machine.instruction());
        fault.address = address;
        GuestExit::Fault(fault)
    }
}

impl Vcpu for SvmVcpu {
    // The trap loop calls it in one place.
    #[inline(always)]
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        const DOUBLE_FAULT: u8 = 8;
        const GENERAL_PROTECTION: u8 = 13;
        const PAGE_FAULT: u8 = 14;
        // What KVM answers to a call that it does not know.
        const NOT_SUPPORTED: u64 = -1000_i64 as u64;
        if let Some(answer) = answer {
            self.machine.registers.complete(&self.memory, answer)?;
        }
        loop {
            let Some(exit) = self.machine.enter() else {
                return Err(GuestExit::Lost("another guest is in the slot".into()));
            };
            let is_trap = match (exit, self.method) {
                (Exit::Vmmcall, method) => method == Method::Vmmcall,
                (Exit::Port { port, is_out_dword }, Method::Out(ours)) => {
                    is_out_dword && port == ours
                }
                _ => false,
            };
            return Err(match exit {
                Exit::Vmmcall | Exit::Port { .. } if is_trap => {
                    if let Some(words) = self.machine.registers.trap(&self.memory)? {
                        return Ok(words);
                    }
                    // Another hypercall: a host with services of its own has them here.
                    self.machine.registers.rax = NOT_SUPPORTED;
                    continue;
                }
                Exit::Port { port, .. } => {
                    GuestExit::Protocol(ProtocolViolation::Access { at: port.into() })
                }
                Exit::NestedPageFault { address } => self.fault(PAGE_FAULT, Some(address)),
                Exit::PageFault { address } => self.fault(PAGE_FAULT, Some(address)),
                Exit::Exception(vector) => self.fault(vector, None),
                Exit::Shutdown => self.fault(DOUBLE_FAULT, None),
                Exit::Vmmcall | Exit::Forbidden => self.fault(GENERAL_PROTECTION, None),
                Exit::Other(code) => GuestExit::Lost(format_args!("exit code {code:#x}").into()),
            });
        }
    }
}

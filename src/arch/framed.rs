//! The traps that aarch64 and riscv64 have in common: a doorbell with a frame, a gate, and the method of the boot block.
//!
//! A *frame* holds the four words of one trap in memory that the guest can write (ABI, Traps TR-14). The value that is
//! stored to the doorbell is the frame's address, so the host needs no register of the vCPU: KVM reports the stored
//! value, and reading or writing any other register would cost a system call each.

#[cfg(feature = "guest")]
use super::{InlineInstruction, InlineTrap};
use super::{
    Trap,
    native::{call_gate, ring},
};
use crate::abi::{Registers, TrapMethod};

/// Traps by one aligned eight-byte store to an agreed address (ABI, Traps TR-14 and TR-21).
///
/// The value stored is the address of a frame on the caller's stack with the four words. The guest's page tables map the
/// doorbell to guest-physical memory that the host has left unbacked; without page tables of its own, the guest uses an
/// address at which its host intercepts stores.
#[derive(Clone, Copy, Debug)]
pub struct Doorbell {
    address: u64,
}

impl Doorbell {
    /// A trap by a store to `address`, a virtual address of the guest and a multiple of eight.
    ///
    /// # Panics
    ///
    /// If `address` is not a multiple of eight.
    ///
    /// # Safety
    ///
    /// What the section "Safety of the constructors" of this module requires, and: the eight bytes at `address` hold no Rust
    /// object, so that a store that no host intercepts is harmless.
    #[must_use]
    pub const unsafe fn new(address: u64) -> Self {
        assert!(address % 8 == 0, "the address of a doorbell must be a multiple of eight");
        Self { address }
    }

    /// The address of the store.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.address
    }
}

impl Trap for Doorbell {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: the caller of `new` promised that the host intercepts a store to this address, or that it is harmless, and that
        // the host changes only the frame and shared memory.
        unsafe { ring(self.address, out) }
    }
}

/// Traps by a call of a gate: code that the host has mapped, which traps in a way of its own (ABI, Traps TR-24).
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    address: u64,
}

impl Gate {
    /// A trap by a call of `address`.
    ///
    /// # Safety
    ///
    /// What the section "Safety of the constructors" of this module requires, except that the gate may also change the registers
    /// that TR-24 lists. There is such a gate at `address` as long as this value or a copy of it is used; all vCPUs may
    /// call it, also at the same time.
    #[must_use]
    pub const unsafe fn new(address: u64) -> Self {
        Self { address }
    }

    /// The address of the gate.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.address
    }
}

impl Trap for Gate {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: the caller of `new` promised that there is a gate at `address`, and that it changes only shared memory
        // and the registers that the ABI says.
        unsafe { call_gate(self.address, out) }
    }
}

/// Traps by the method in the boot block, so that one guest program runs on any host.
#[derive(Clone, Copy, Debug)]
pub struct NegotiatedTrap {
    kind: NegotiatedKind,
    address: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NegotiatedKind {
    Doorbell,
    Gate,
}

impl NegotiatedTrap {
    /// A trap by this method.
    ///
    /// # Panics
    ///
    /// If the method is a port, which this architecture does not have.
    ///
    /// # Safety
    ///
    /// What [`Doorbell::new`] or [`Gate::new`] requires for the same address.
    #[must_use]
    pub const unsafe fn new(way: TrapMethod) -> Self {
        match way {
            TrapMethod::Out(_) => {
                panic!("the host has chosen a trap by an I/O port, on a processor without ports")
            }
            TrapMethod::Doorbell(address) => Self { kind: NegotiatedKind::Doorbell, address },
            TrapMethod::Gate(address) => Self { kind: NegotiatedKind::Gate, address },
        }
    }

    /// How a call executes the trap inline.
    #[cfg(feature = "guest")]
    #[inline(always)]
    pub(super) fn inline(self) -> InlineTrap {
        match self.kind {
            NegotiatedKind::Gate => InlineTrap::Gate,
            NegotiatedKind::Doorbell => InlineTrap::Instruction,
        }
    }

    /// Traps by a call of the gate.
    ///
    /// # Safety
    ///
    /// `self.kind` is `Gate`.
    #[inline(always)]
    pub(super) unsafe fn by_gate(self, out: Registers) -> Registers {
        // SAFETY: `self` is a gate, so the caller of `new` promised what `Gate::new` requires for `address`.
        unsafe { call_gate(self.address, out) }
    }

    /// Traps by a store to the doorbell.
    ///
    /// # Safety
    ///
    /// `self.kind` is `Doorbell`.
    #[inline(always)]
    pub(super) unsafe fn by_instruction(self, out: Registers) -> Registers {
        // SAFETY: `self` is a doorbell, so the caller of `new` promised what `Doorbell::new` requires for `address`.
        unsafe { ring(self.address, out) }
    }
}

impl Trap for NegotiatedTrap {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        match self.kind {
            // SAFETY: the branch has checked the kind.
            NegotiatedKind::Doorbell => unsafe { self.by_instruction(out) },
            // SAFETY: the branch has checked the kind.
            NegotiatedKind::Gate => unsafe { self.by_gate(out) },
        }
    }

    #[cfg(feature = "guest")]
    fn inline_instruction(&self) -> InlineInstruction {
        InlineInstruction::new(*self)
    }
}

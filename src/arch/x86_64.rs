//! The traps of x86_64 (ABI, "Traps").
//!
//! | register | out | back |
//! |---|---|---|
//! | RAX | kind of trap | kind of answer |
//! | RBX | signature or status | signature or status |
//! | R8 | primary | primary |
//! | R9 | secondary | secondary |
//! | RDX | port or doorbell address, where the instruction needs one | unchanged |
//!
//! Every other register comes back as it was: the rest of the general registers, RFLAGS, segments,
//! x87, vector and mask registers. Each trap is one instruction of a fixed encoding, listed in
//! [`code`], and the host resumes the guest right behind it.
//!
//! # The instruction sequence
//!
//! LLVM keeps RBX for itself, as the base pointer of some stack frames, and Rust refuses it as an
//! operand; moving a value into it unannounced breaks the function around. So the word travels in a
//! register of the compiler's choice, and changes places with RBX twice:
//!
//! ```text
//! xchg rbx, word      ; RBX: our word        word: what the compiler had in RBX
//! out dx, eax         ; RBX: the host's word
//! xchg rbx, word      ; RBX: as before       word: the host's word
//! ```
//!
//! Should the compiler choose RBX itself (it may, for an unnamed register, in a function without a
//! base pointer), both exchanges do nothing and the operand is where it has to be.
//!
//! The options of that assembly are as few as are true:
//!
//! - No `nomem` and no `readonly`: the host changes memory.
//! - No `pure` (two equal traps are two traps), no `noreturn`.
//! - `nostack`: nothing is pushed, and a trap leaves the guest's stack alone. A VM exit stores
//!   guest state outside the guest; an upcall starts only after the trap, as an ordinary function
//!   call. So a red zone below RSP survives. It does too where a trap is a signal to a Linux
//!   process, since the kernel skips the red zone before it lays down the frame.
//! - `preserves_flags`: XCHG, OUT, MOV, VMCALL and VMMCALL change no flag in a guest, and RFLAGS is
//!   among the registers that the host gives back as they were.
//!
//! # Safety of the constructors
//!
//! Executing a trap is as powerful as the host that receives it, so making one of these types is
//! `unsafe`, and using it afterwards is not. All four constructors ask for the same:
//!
//! 1. The code runs as a guest, at a privilege level that may execute the instruction, wherever and
//!    whenever this value or a copy of it is used.
//! 2. The host claims the trap and speaks this ABI; or else completes it as hosts complete a trap
//!    unknown to them, and changes no register but RAX, RBX, R8 and R9.
//! 3. Whatever is answered, the host changes no memory that the guest has not shared with it for
//!    that purpose.

use core::arch::asm;

use super::Trap;
use crate::abi::{Registers, Transport, Way};

/// The bytes of each trapping instruction, for a host that has to recognise one and step over it:
/// the guest is resumed at its instruction pointer plus the length of the array.
///
/// KVM steps over [`OUT`](code::OUT) and [`DOORBELL`](code::DOORBELL) by itself.
pub mod code {
    /// `out dx, eax`: what [`Out`](super::Out) executes. The port is in DX.
    pub const OUT: [u8; 1] = [0xef];
    /// `mov [rdx], rax`: what [`Doorbell`](super::Doorbell) executes. The address is in RDX.
    pub const DOORBELL: [u8; 3] = [0x48, 0x89, 0x02];
    /// `vmcall`: what [`Vmcall`](super::Vmcall) executes.
    pub const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];
    /// `vmmcall`: what [`Vmmcall`](super::Vmmcall) executes.
    pub const VMMCALL: [u8; 3] = [0x0f, 0x01, 0xd9];
}

/// One trap: takes the instruction, the registers that go out, and the operands that the
/// instruction has of its own; gives the registers that come back. Must stand in an `unsafe` block.
macro_rules! exchange {
    ($instruction:literal, $out:expr $(, $($operand:tt)+)?) => {{
        let Registers { mut kind, mut word, transport: Transport { mut primary, mut secondary } } =
            $out;
        asm!(
            "xchg rbx, {word}",
            $instruction,
            "xchg rbx, {word}",
            word = inout(reg) word,
            inout("rax") kind,
            inout("r8") primary,
            inout("r9") secondary,
            $($($operand)+,)?
            options(nostack, preserves_flags),
        );
        Registers { kind, word, transport: Transport { primary, secondary } }
    }};
}

/// Traps by a four-byte write to an I/O port: `out dx, eax`, one byte long.
///
/// The value on the bus is the low half of the kind. It is there for whoever traces port I/O; a
/// host takes the kind from RAX. Below the I/O privilege level all four ports from `PORT` on must
/// be open in the I/O permission bitmap. A `PORT` above `0xfffc`, whose access would run past the
/// last port, does not compile.
#[derive(Clone, Copy, Debug)]
pub struct Out<const PORT: u16>(());

impl<const PORT: u16> Out<PORT> {
    /// A trap by way of `PORT`.
    ///
    /// # Safety
    ///
    /// What the [module](self#safety-of-the-constructors) asks for, and: no device answers at
    /// `PORT` to `PORT + 3` other than the host's end of this ABI.
    #[must_use]
    pub const unsafe fn new() -> Self {
        const { assert!(PORT <= 0xfffc, "the access is four bytes wide: PORT is at most 0xfffc") }
        Self(())
    }
}

impl<const PORT: u16> Trap for Out<PORT> {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: `self` exists, so who made it has promised that code like this one runs as a
        // guest that may write to PORT, and that the host behind it changes the four
        // operands and shared memory only. RBX is exchanged back; memory counts as changed,
        // for lack of `nomem`.
        unsafe { exchange!("out dx, eax", out, in("dx") PORT) }
    }
}

/// Traps by an aligned eight-byte store to an agreed address: `mov [rdx], rax`, three bytes long.
///
/// The value stored is the kind. The address is one that the guest's page tables map to
/// guest-physical memory which the host has left unbacked (or, without page tables of its own, one
/// that the host watches), so that the store reaches nothing but the host.
#[derive(Clone, Copy, Debug)]
pub struct Doorbell {
    address: u64,
}

impl Doorbell {
    /// A trap by a store to `address`, as the guest sees it.
    ///
    /// # Panics
    ///
    /// If `address` is not a multiple of eight.
    ///
    /// # Safety
    ///
    /// What the [module](self#safety-of-the-constructors) asks for, and: no Rust object lies in the
    /// eight bytes at `address`, so that a store that nobody catches overwrites nothing.
    #[must_use]
    pub const unsafe fn new(address: u64) -> Self {
        assert!(address % 8 == 0, "a doorbell's address is a multiple of eight");
        Self { address }
    }

    /// The address that the store goes to.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.address
    }
}

impl Trap for Doorbell {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: `self` exists, so who made it has promised that the host catches a store to
        // `address`, that no Rust object is there if it does not, and that it changes the four
        // operands and shared memory only. RBX is exchanged back; memory counts as changed, for
        // lack of `nomem`.
        unsafe { exchange!("mov [rdx], rax", out, in("rdx") self.address) }
    }
}

/// Traps the way that the boot block says: what a guest uses that runs on any host.
#[derive(Clone, Copy, Debug)]
pub struct Agreed {
    doorbell: bool,
    operand: u64,
}

impl Agreed {
    /// A trap in that way.
    ///
    /// # Safety
    ///
    /// What [`Out::new`] or [`Doorbell::new`] asks for.
    #[must_use]
    pub const unsafe fn new(way: Way) -> Self {
        match way {
            Way::Out(port) => Self { doorbell: false, operand: port as u64 },
            Way::Doorbell(address) => Self { doorbell: true, operand: address },
        }
    }
}

impl Agreed {
    /// Whether it is a store; else it is by port.
    #[cfg(feature = "guest")]
    #[inline]
    pub(crate) fn is_doorbell(self) -> bool {
        self.doorbell
    }

    /// Traps by a store.
    ///
    /// # Safety
    ///
    /// It [is a doorbell](Self::is_doorbell).
    #[inline(always)]
    pub(crate) unsafe fn ring(self, out: Registers) -> Registers {
        // SAFETY: as for `Doorbell`, which whoever made `self` has promised.
        unsafe { exchange!("mov [rdx], rax", out, in("rdx") self.operand) }
    }

    /// Traps by port.
    ///
    /// # Safety
    ///
    /// It is no doorbell.
    #[inline(always)]
    pub(crate) unsafe fn put_out(self, out: Registers) -> Registers {
        // SAFETY: as for `Out`, which whoever made `self` has promised.
        unsafe { exchange!("out dx, eax", out, in("rdx") self.operand) }
    }
}

impl Trap for Agreed {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        if self.doorbell {
            // SAFETY: it is one.
            unsafe { self.ring(out) }
        } else {
            // SAFETY: it is none.
            unsafe { self.put_out(out) }
        }
    }

    #[cfg(feature = "guest")]
    fn agreed(&self) -> Option<Agreed> {
        Some(*self)
    }
}

/// Traps by `vmcall`, three bytes long, to a type-1 host on Intel processors.
///
/// KVM handles this instruction in the kernel and never hands it to user space: a host on KVM
/// listens at an [`Out`] port or a [`Doorbell`].
#[derive(Clone, Copy, Debug)]
pub struct Vmcall(());

impl Vmcall {
    /// A trap by `vmcall`.
    ///
    /// # Safety
    ///
    /// What the [module](self#safety-of-the-constructors) asks for, and: the host gives the kinds
    /// of [`trap`](crate::abi::trap), in RAX, no meaning other than this ABI's.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Trap for Vmcall {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: `self` exists, so who made it has promised that code like this one runs as a
        // guest whose host takes `vmcall` with these kinds as this ABI says, and changes
        // the four operands and shared memory only. RBX is exchanged back; memory counts as
        // changed, for lack of `nomem`.
        unsafe { exchange!("vmcall", out) }
    }
}

/// Traps by `vmmcall`, three bytes long, to a type-1 host on AMD processors.
///
/// KVM handles this instruction in the kernel and never hands it to user space: a host on KVM
/// listens at an [`Out`] port or a [`Doorbell`].
#[derive(Clone, Copy, Debug)]
pub struct Vmmcall(());

impl Vmmcall {
    /// A trap by `vmmcall`.
    ///
    /// # Safety
    ///
    /// What the [module](self#safety-of-the-constructors) asks for, and: the host intercepts
    /// `vmmcall`, and gives the kinds of [`trap`](crate::abi::trap), in RAX, no meaning other than
    /// this ABI's.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Trap for Vmmcall {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: `self` exists, so who made it has promised that code like this one runs as a
        // guest whose host intercepts `vmmcall`, takes these kinds as this ABI says, and
        // changes the four operands and shared memory only. RBX is exchanged back; memory
        // counts as changed, for lack of `nomem`.
        unsafe { exchange!("vmmcall", out) }
    }
}

//! The traps of x86_64 (ABI, "Traps").
//!
//! | register | trap | answer |
//! |---|---|---|
//! | RAX | kind of trap | kind of answer |
//! | RBX | signature or status | signature or status |
//! | R8 | primary | primary |
//! | R9 | secondary | secondary |
//! | RDX | port or doorbell address, where the instruction needs one | unchanged |
//!
//! The host preserves every other register: the other general registers, RFLAGS, segment, x87, vector and mask
//! registers. Each trap is one instruction of a fixed encoding, listed in [`code`], and the host resumes the guest
//! after it. A [`Gate`] is different: the guest calls it, and it may change more registers (ABI, Traps TR-20).
//!
//! # The instruction sequence
//!
//! LLVM reserves RBX as the base pointer of some stack frames, and Rust therefore refuses it as an operand of `asm!`.
//! So the word is in a register of the compiler's choice, which is exchanged with RBX before and after the trap:
//!
//! ```text
//! xchg rbx, word      ; RBX: the guest's word      word: the saved RBX
//! out dx, eax         ; RBX: the host's word
//! xchg rbx, word      ; RBX: the saved RBX         word: the host's word
//! ```
//!
//! If the compiler chooses RBX itself, which it may in a function without a base pointer, both exchanges have no effect
//! and the operand is in RBX already.
//!
//! A gate is called through RDX, between the same two exchanges (`call rdx`).
//!
//! The options of the assembly:
//!
//! - `nomem` and `readonly` are absent, because the host changes memory; so is `pure`, because two equal traps are two
//!   traps; so is `noreturn`.
//! - `nostack`: neither the instructions nor the host write to the guest's stack during a trap. A VM exit stores the
//!   guest state outside of the guest, and an upcall starts after the trap, as an ordinary function call. So the red
//!   zone below RSP stays intact. If the trap is a signal to a Linux process, the kernel skips the red zone before it
//!   writes the signal frame. A call of a gate does write there, so its assembly is without this option.
//! - `preserves_flags`: XCHG, OUT, MOV, VMCALL and VMMCALL do not change flags in a guest (Intel SDM, volume 2; AMD
//!   APM, volume 3), and the host preserves RFLAGS. A gate changes the status flags, so its assembly is without this
//!   option.
//!
//! # Safety of the constructors
//!
//! A trap has whatever effect its host gives it. So the constructors are `unsafe`, and the use of a value is safe. The
//! caller of a constructor promises:
//!
//! 1. Wherever this value or a copy of it is used, the code runs as a guest, at a privilege level that may execute the
//!    instruction.
//! 2. The host implements this ABI for the trap; or it completes the trap as an unknown one, and changes at most the
//!    registers RAX, RBX, R8 and R9.
//! 3. The host changes only memory that the guest has shared with it for that purpose.

use core::arch::asm;

#[cfg(feature = "guest")]
use super::InlineTrap;
use super::Trap;
use crate::abi::{Registers, Transport, TrapMethod};

/// The encodings of the trapping instructions, for a host that must recognise one and skip it: the host resumes the
/// guest at its instruction pointer plus the length of the array.
///
/// KVM itself skips [`OUT`](code::OUT) and [`DOORBELL`](code::DOORBELL).
pub mod code {
    /// `out dx, eax`, the instruction of [`Out`](super::Out). The port is in DX.
    pub const OUT: [u8; 1] = [0xef];
    /// `mov [rdx], rax`, the instruction of [`Doorbell`](super::Doorbell). The address is in RDX.
    pub const DOORBELL: [u8; 3] = [0x48, 0x89, 0x02];
    /// `vmcall`, the instruction of [`Vmcall`](super::Vmcall).
    pub const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];
    /// `vmmcall`, the instruction of [`Vmmcall`](super::Vmmcall).
    pub const VMMCALL: [u8; 3] = [0x0f, 0x01, 0xd9];
}

/// The name of the processor exception with this vector (Intel SDM, volume 3, "Exception and Interrupt Reference").
pub(crate) fn exception(vector: u8) -> Option<&'static str> {
    Some(match vector {
        0 => "division error",
        1 => "debug exception",
        3 => "breakpoint",
        6 => "invalid instruction",
        8 => "double fault",
        12 => "stack fault",
        13 => "general protection fault",
        14 => "page fault",
        16 => "x87 floating-point error",
        17 => "unaligned access",
        19 => "SIMD floating-point error",
        _ => return None,
    })
}

/// Executes one trap by a call of a gate, which changes further registers and the stack below RSP: see `exchange`.
macro_rules! call_gate {
    ($out:expr, $address:expr) => {{
        let Registers { mut kind, mut word, transport: Transport { mut primary, mut secondary } } =
            $out;
        asm!(
            "xchg rbx, {word}",
            "call rdx",
            "xchg rbx, {word}",
            word = inout(reg) word,
            inout("rax") kind,
            inout("r8") primary,
            inout("r9") secondary,
            inout("rdx") $address => _,
            out("rcx") _,
            out("rsi") _,
            out("rdi") _,
            out("r10") _,
            out("r11") _,
        );
        Registers { kind, word, transport: Transport { primary, secondary } }
    }};
}

/// Executes one trap: takes the instruction, the registers to send, and the instruction's own operands; evaluates to
/// the registers of the answer. It must stand in an `unsafe` block.
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
/// The value written is the low half of the kind; a host reads the whole kind from RAX. If the guest's CPL
/// is greater than IOPL, the I/O permission bitmap must permit the four ports from `PORT` on (Intel SDM, volume 1, "I/O
/// Permission Bit Map"). A `PORT` above `0xfffc` does not compile, since the access would extend beyond the last port.
#[derive(Clone, Copy, Debug)]
pub struct Out<const PORT: u16>(());

impl<const PORT: u16> Out<PORT> {
    /// A trap by a write to `PORT`.
    ///
    /// # Safety
    ///
    /// What the [module](self#safety-of-the-constructors) requires, and: at `PORT` to `PORT + 3` there is no device
    /// other than the host's end of this ABI.
    #[must_use]
    pub const unsafe fn new() -> Self {
        const { assert!(PORT <= 0xfffc, "the access is four bytes wide: PORT is at most 0xfffc") }
        Self(())
    }
}

impl<const PORT: u16> Trap for Out<PORT> {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: the caller of `new` promised that this code runs as a guest that may write to `PORT`, and that the
        // host changes only the four operands and shared memory. The second exchange restores RBX, and without `nomem`
        // the compiler assumes that memory has changed.
        unsafe { exchange!("out dx, eax", out, in("dx") PORT) }
    }
}

/// Traps by an aligned eight-byte store to an agreed address: `mov [rdx], rax`, three bytes long.
///
/// The value stored is the kind. The guest's page tables map the address to guest-physical memory that the host has
/// left unbacked; without page tables of its own, the guest uses an address at which its host intercepts stores.
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
    /// What the [module](self#safety-of-the-constructors) requires, and: the eight bytes at `address` hold no Rust
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
        // SAFETY: the caller of `new` promised that the host intercepts a store to `address`, that no Rust object is
        // there if it does not, and that it changes only the four operands and shared memory. The second exchange
        // restores RBX, and without `nomem` the compiler assumes that memory has changed.
        unsafe { exchange!("mov [rdx], rax", out, in("rdx") self.address) }
    }
}

/// Traps by a call of a gate: code that the host has mapped, which traps in a way of its own (ABI, Traps TR-19).
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    address: u64,
}

impl Gate {
    /// A trap by a call of `address`.
    ///
    /// # Safety
    ///
    /// What the [module](self#safety-of-the-constructors) requires, except that the gate may also change RCX, RDX, RSI,
    /// RDI, R10, R11, the status flags of RFLAGS, and the sixteen bytes below RSP. There is such a gate at `address` as
    /// long as this value or a copy of it is used; all vCPUs may call it, also at the same time.
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
        // SAFETY: the caller of `new` promised that there is a gate at `address`, and that it changes only the operands
        // of the assembly, flags, memory below RSP, and shared memory. Without `nostack` the compiler keeps nothing
        // there, without `preserves_flags` and `nomem` it assumes that flags and memory have changed, and the second
        // exchange restores RBX.
        unsafe { call_gate!(out, self.address) }
    }
}

/// Traps by the method in the boot block, so that one guest program runs on any host.
#[derive(Clone, Copy, Debug)]
pub struct NegotiatedTrap {
    kind: NegotiatedKind,
    operand: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NegotiatedKind {
    Out,
    Doorbell,
    Gate,
}

impl NegotiatedTrap {
    /// A trap by this method.
    ///
    /// # Safety
    ///
    /// What [`Out::new`], [`Doorbell::new`] or [`Gate::new`] requires for the same port or address.
    #[must_use]
    pub const unsafe fn new(way: TrapMethod) -> Self {
        match way {
            TrapMethod::Out(port) => Self { kind: NegotiatedKind::Out, operand: port as u64 },
            TrapMethod::Doorbell(address) => {
                Self { kind: NegotiatedKind::Doorbell, operand: address }
            }
            TrapMethod::Gate(address) => Self { kind: NegotiatedKind::Gate, operand: address },
        }
    }

    /// How a call executes the trap inline. A doorbell goes through the call's link: no host of this crate has a guest use
    /// it, except where KVM cannot intercept ports.
    #[cfg(feature = "guest")]
    #[inline(always)]
    pub(super) fn inline(self) -> InlineTrap {
        match self.kind {
            NegotiatedKind::Gate => InlineTrap::Gate,
            NegotiatedKind::Out => InlineTrap::Instruction,
            NegotiatedKind::Doorbell => InlineTrap::None,
        }
    }

    /// Traps by a call of the gate.
    ///
    /// # Safety
    ///
    /// [`inline`](Self::inline) is `Gate`.
    #[inline(always)]
    pub(super) unsafe fn by_gate(self, out: Registers) -> Registers {
        // SAFETY: `self` is a gate, so the caller of `new` promised what `Gate::new` requires for the address in
        // `operand`; `Gate::trap` says why that suffices.
        unsafe { call_gate!(out, self.operand) }
    }

    /// Traps by a write to a port.
    ///
    /// # Safety
    ///
    /// [`inline`](Self::inline) is `Instruction`.
    #[inline(always)]
    pub(super) unsafe fn by_instruction(self, out: Registers) -> Registers {
        // SAFETY: `self` is a port, so the caller of `new` promised what `Out::new` requires for the port in `operand`;
        // `Out::trap` says why that suffices. `operand` was a `u16`, so DX holds all of it.
        unsafe { exchange!("out dx, eax", out, in("rdx") self.operand) }
    }
}

impl Trap for NegotiatedTrap {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        match self.kind {
            // SAFETY: the branch has checked the kind.
            NegotiatedKind::Out => unsafe { self.by_instruction(out) },
            // SAFETY: the caller of `new` promised what `Doorbell::new` requires for the address in `operand`;
            // `Doorbell::trap` says why that suffices.
            NegotiatedKind::Doorbell => unsafe {
                exchange!("mov [rdx], rax", out, in("rdx") self.operand)
            },
            // SAFETY: the branch has checked the kind.
            NegotiatedKind::Gate => unsafe { self.by_gate(out) },
        }
    }

    #[cfg(feature = "guest")]
    fn inline_instruction(&self) -> super::InlineInstruction {
        super::InlineInstruction::new(*self)
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
    /// What the [module](self#safety-of-the-constructors) requires, and: the host gives the kinds of
    /// [`trap`](crate::abi::trap), in RAX, only the meaning that this ABI gives them.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Trap for Vmcall {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: the caller of `new` promised that this code runs as a guest whose host handles `vmcall` with these
        // kinds as this ABI says, and changes only the four operands and shared memory. The second exchange restores
        // RBX, and without `nomem` the compiler assumes that memory has changed.
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
    /// What the [module](self#safety-of-the-constructors) requires, and: the host intercepts `vmmcall`, and gives the
    /// kinds of [`trap`](crate::abi::trap), in RAX, only the meaning that this ABI gives them.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Trap for Vmmcall {
    #[inline(always)]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: the caller of `new` promised that this code runs as a guest whose host intercepts `vmmcall`, handles
        // these kinds as this ABI says, and changes only the four operands and shared memory. The second exchange
        // restores RBX, and without `nomem` the compiler assumes that memory has changed.
        unsafe { exchange!("vmmcall", out) }
    }

    #[cfg(all(not(feature = "guest"), not(feature = "std")))]
    fn inline_instruction(&self) -> super::InlineInstruction {
        super::InlineInstruction::new(*self)
    }
}

/// The instruction by which a program calls its hypervisor, which calls execute inline.
#[cfg(all(not(feature = "guest"), not(feature = "std")))]
pub(crate) use Vmmcall as Hypercall;

//! The traps of riscv64 (ABI, "Traps").
//!
//! | word | `ecall` and doorbell | gate |
//! |---|---|---|
//! | kind | offset 0 of the frame | a0 |
//! | signature or status | offset 8 | a1 |
//! | primary | offset 16 | a2 |
//! | secondary | offset 24 | a3 |
//! | operands of the doorbell | a0: the frame's address, a1: the doorbell's | |
//! | operands of `ecall` | a0: the frame's address, a6: the kind's low half, a7: [`EXTENSION`] | |
//! | operand of the gate | | t1: the gate's address |
//! | may change as well | a0, a1 by `ecall`, nothing by the doorbell | a4 to a7, t0 to t6, ra |
//!
//! The host preserves every other register: the other general registers, the floating-point registers and `fcsr`. Each
//! trap is one instruction of a fixed encoding, listed in [`code`], and the host resumes the guest after it. A [`Gate`] is
//! different: the guest calls it.
//!
//! # SBI
//!
//! [`Ecall`] follows the Supervisor Binary Interface: a7 names an extension in the experimental range, a6 a function of
//! it, and a callee may change only a0 and a1, an error and a value. An answer has four words, so they travel in the
//! frame, both ways. A host that does not know the extension returns an error and leaves the frame unchanged, so its kind
//! is still that of the trap.
//!
//! # The assembly
//!
//! - `nomem` and `readonly` are absent, because the host changes memory, the frame at least; so is `pure`, because two
//!   equal traps are two traps; so is `noreturn`.
//! - `nostack`: neither the instructions nor the host write to the guest's stack during a trap, except to the frame,
//!   which is a variable. There is no red zone, and a gate uses no stack.
//! - `preserves_flags`: only for the instructions; a gate may change `fflags`.
//!
//! # Safety of the constructors
//!
//! A trap has whatever effect its host gives it. So the constructors are `unsafe`, and the use of a value is safe. The
//! caller of a constructor promises:
//!
//! 1. Wherever this value or a copy of it is used, the code runs as a guest, at a privilege level whose traps reach the
//!    host: `ecall` from U-mode reaches the guest's own supervisor.
//! 2. The host implements this ABI for the trap; or it completes the trap as an unknown one, and changes at most the
//!    registers that the table lists.
//! 3. The host changes only memory that the guest has shared with it for that purpose, and the frame.

use core::arch::asm;

use super::Trap;
use crate::abi::{Registers, Transport};

pub use super::framed::{Doorbell, Gate, NegotiatedTrap};

/// The encodings of the trapping instructions, for a host that must recognise one and skip it. None of them is
/// compressed.
///
/// KVM itself skips both.
pub mod code {
    /// `sd a0, 0(a1)`, the instruction of [`Doorbell`](super::Doorbell).
    pub const DOORBELL: [u8; 4] = [0x23, 0xb0, 0xa5, 0x00];
    /// `ecall`, the instruction of [`Ecall`](super::Ecall).
    pub const ECALL: [u8; 4] = [0x73, 0x00, 0x00, 0x00];
}

pub use crate::abi::SBI_EXTENSION as EXTENSION;

/// The name of the exception with this cause (RISC-V Privileged Architecture, `scause`).
pub(crate) fn exception(cause: u8) -> Option<&'static str> {
    Some(match cause {
        0 => "unaligned instruction",
        1 => "instruction access fault",
        2 => "invalid instruction",
        3 => "breakpoint",
        4 => "unaligned load",
        5 => "load access fault",
        6 => "unaligned store",
        7 => "store access fault",
        8 => "environment call",
        12 => "instruction page fault",
        13 => "load page fault",
        15 => "store page fault",
        20 => "instruction guest-page fault",
        21 => "load guest-page fault",
        22 => "virtual instruction",
        23 => "store guest-page fault",
        _ => return None,
    })
}

/// The words of one trap, and then of its answer (ABI, Traps TR-14). Its alignment keeps it within one page.
#[repr(C, align(32))]
struct Frame(Registers);

/// Traps by storing the address of a frame with the words of `out` to the doorbell at `address`.
///
/// # Safety
///
/// The host intercepts a store to `address`, or it is harmless. The host changes only the frame and shared memory.
#[inline(always)]
pub(super) unsafe fn ring(address: u64, out: Registers) -> Registers {
    let mut frame = Frame(out);
    // SAFETY: the caller promises what the store does, and that the host changes only the frame, which this function borrows
    // exclusively, and shared memory. Without `nomem` the compiler assumes that both have changed.
    unsafe {
        asm!(
            ".option push",
            ".option norvc",
            "sd a0, 0(a1)",
            ".option pop",
            in("a0") &raw mut frame,
            in("a1") address,
            options(nostack, preserves_flags),
        );
    }
    frame.0
}

/// Traps by a call of the gate.
///
/// # Safety
///
/// There is a gate at `address`, and it changes only shared memory and the registers that the ABI says.
#[inline(always)]
pub(super) unsafe fn call_gate(address: u64, out: Registers) -> Registers {
    let Registers { mut kind, mut word, transport: Transport { mut primary, mut secondary } } = out;
    // SAFETY: the caller promises that there is a gate, and that it changes only the operands of the assembly and shared
    // memory. Without `nomem` the compiler assumes that memory has changed. A gate uses no stack.
    unsafe {
        asm!(
            "jalr t1",
            inout("a0") kind,
            inout("a1") word,
            inout("a2") primary,
            inout("a3") secondary,
            inout("t1") address => _,
            out("a4") _, out("a5") _, out("a6") _, out("a7") _,
            out("t0") _, out("t2") _, out("t3") _, out("t4") _, out("t5") _, out("t6") _,
            out("ra") _,
            options(nostack),
        );
    }
    Registers { kind, word, transport: Transport { primary, secondary } }
}

/// Traps by `ecall`, four bytes long: from S-mode to the Supervisor Execution Environment, from VS-mode to a hypervisor.
///
/// KVM hands it to user space, but its answer could set a0 and a1 only where the host makes more system calls; and U-mode
/// code cannot execute it: a host on KVM listens at a [`Doorbell`].
#[derive(Clone, Copy, Debug)]
pub struct Ecall(());

impl Ecall {
    /// A trap by `ecall`.
    ///
    /// # Safety
    ///
    /// What the [module](self#safety-of-the-constructors) requires, and: the host gives [`EXTENSION`] only the meaning
    /// that this ABI gives it.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Trap for Ecall {
    #[inline(always)]
    fn trap(&self, out: Registers) -> Registers {
        let mut frame = Frame(out);
        // SAFETY: the caller of `new` promised that this code runs as a guest whose host handles this extension as this ABI
        // says, and changes only a0, a1, the frame, which is a local variable, and shared memory.
        unsafe {
            asm!(
                "ecall",
                inout("a0") &raw mut frame => _,
                out("a1") _,
                in("a6") out.kind & 0xffff_ffff,
                in("a7") EXTENSION,
                options(nostack, preserves_flags),
            );
        }
        frame.0
    }

    #[cfg(all(not(feature = "guest"), not(feature = "std")))]
    fn inline_instruction(&self) -> super::InlineInstruction {
        super::InlineInstruction::new(*self)
    }
}

/// The instruction by which a program calls its hypervisor, which calls execute inline.
#[cfg(all(not(feature = "guest"), not(feature = "std")))]
pub(crate) use Ecall as Hypercall;

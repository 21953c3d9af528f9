//! The traps of aarch64 (ABI, "Traps").
//!
//! | word | `hvc`, `smc` | doorbell | gate |
//! |---|---|---|---|
//! | kind | X0: a function of SMCCC out, the kind of the answer back | offset 0 of the frame | X0 |
//! | signature or status | X1 | offset 8 | X1 |
//! | primary | X2 | offset 16 | X2 |
//! | secondary | X3 | offset 24 | X3 |
//! | operand | none | X0: the frame's address, X1: the doorbell's | X16: the gate's address |
//! | may change as well | X4 to X17, NZCV | nothing | X4 to X17, X30, NZCV |
//!
//! The host preserves every other register: the other general registers, SP, the FP and SIMD registers, FPCR, FPSR and
//! TPIDR_EL0. Each trap is one instruction of a fixed encoding, listed in [`code`], and the host resumes the guest after
//! it. A [`Gate`] is different: the guest calls it.
//!
//! # SMCCC
//!
//! [`Hvc`] and [`Smc`] follow the SMC Calling Convention (Arm DEN 0028): X0 holds [`FUNCTION`] plus the low byte of the
//! kind, a 64-bit fast call in the range of vendor-specific hypervisor services, so that a hypervisor that has other
//! services distinguishes it from them. One that does not know it returns -1, which is no kind of answer. The convention
//! lets the callee change X4 to X17.
//!
//! # The assembly
//!
//! - `nomem` and `readonly` are absent, because the host changes memory, the frame at least; so is `pure`, because two
//!   equal traps are two traps; so is `noreturn`.
//! - `nostack`: neither the instructions nor the host write to the guest's stack during a trap, except to the frame,
//!   which is a variable. There is no red zone, and a gate uses no stack.
//! - `preserves_flags`: only for the doorbell. A store does not change NZCV, and the host preserves PSTATE.
//!
//! # Safety of the constructors
//!
//! A trap has whatever effect its host gives it. So the constructors are `unsafe`, and the use of a value is safe. The
//! caller of a constructor promises:
//!
//! 1. Wherever this value or a copy of it is used, the code runs as a guest, at an exception level that may execute the
//!    instruction. `hvc` and `smc` are undefined at EL0.
//! 2. The host implements this ABI for the trap; or it completes the trap as an unknown one, and changes at most the
//!    registers that the table lists.
//! 3. The host changes only memory that the guest has shared with it for that purpose, and the frame of a doorbell.

use core::{arch::asm, mem::MaybeUninit};

use super::Trap;
use crate::abi::{Registers, Transport};

pub use super::framed::{Doorbell, Gate, NegotiatedTrap};

/// The encodings of the trapping instructions, for a host that must recognise one and skip it.
///
/// KVM itself skips [`DOORBELL`](code::DOORBELL), and the exception return address of [`HVC`](code::HVC) is behind the
/// instruction, that of [`SMC`](code::SMC) at it.
pub mod code {
    /// `str x0, [x1]`, the instruction of [`Doorbell`](super::Doorbell).
    pub const DOORBELL: [u8; 4] = [0x20, 0x00, 0x00, 0xf9];
    /// `hvc #0`, the instruction of [`Hvc`](super::Hvc).
    pub const HVC: [u8; 4] = [0x02, 0x00, 0x00, 0xd4];
    /// `smc #0`, the instruction of [`Smc`](super::Smc).
    pub const SMC: [u8; 4] = [0x03, 0x00, 0x00, 0xd4];
}

pub use crate::abi::SMCCC_FUNCTION as FUNCTION;

/// The name of the exception with this class (Arm ARM, `ESR_ELx.EC`).
pub(crate) fn exception(class: u8) -> Option<&'static str> {
    Some(match class {
        0x00 => "invalid instruction",
        0x01 => "wait instruction",
        0x07 => "use of floating point",
        0x0d => "branch target fault",
        0x0e => "illegal execution state",
        0x15 => "supervisor call",
        0x18 => "access to a system register",
        0x19 => "use of SVE",
        0x1c => "pointer authentication fault",
        0x1d => "use of SME",
        0x20 => "instruction abort",
        0x22 => "unaligned program counter",
        0x24 => "data abort",
        0x26 => "unaligned stack pointer",
        0x2c => "floating-point error",
        0x30 | 0x34 => "debug exception",
        0x3c => "breakpoint",
        _ => return None,
    })
}

/// The four words of one trap, and then of its answer (ABI, Traps TR-14). Its alignment keeps it within one page.
#[repr(align(32))]
struct Frame(MaybeUninit<[u64; 4]>);

/// Traps by storing the address of a frame with the words of `out` to the doorbell at `address`.
///
/// The general registers carry the words to the frame and from there. A compiler may copy them by SIMD registers, and the first
/// use of one after each entry of a guest is an exception to KVM, which gives a vCPU these registers only then.
///
/// # Safety
///
/// The host intercepts a store to `address`, or it is harmless. The host changes only the frame and shared memory.
#[inline(always)]
pub(super) unsafe fn ring(address: u64, out: Registers) -> Registers {
    let Registers { mut kind, mut word, transport: Transport { mut primary, mut secondary } } = out;
    let mut frame = Frame(MaybeUninit::uninit());
    // SAFETY: the caller promises what the store to `address` does, and that the host changes only the frame and shared memory. The
    // other instructions access the 32 bytes of the frame, which this function borrows exclusively. Without `nomem` the compiler
    // assumes that memory has changed.
    unsafe {
        asm!(
            "stp {kind}, {word}, [x0]",
            "stp {primary}, {secondary}, [x0, #16]",
            "str x0, [x1]",
            "ldp {kind}, {word}, [x0]",
            "ldp {primary}, {secondary}, [x0, #16]",
            kind = inout(reg) kind,
            word = inout(reg) word,
            primary = inout(reg) primary,
            secondary = inout(reg) secondary,
            in("x0") frame.0.as_mut_ptr(),
            in("x1") address,
            options(nostack, preserves_flags),
        );
    }
    Registers { kind, word, transport: Transport { primary, secondary } }
}

/// Traps by a call of the gate.
///
/// # Safety
///
/// There is a gate at `address`, and it changes only shared memory and the registers that the ABI says.
#[inline(always)]
pub(super) unsafe fn call_gate(address: u64, out: Registers) -> Registers {
    let Registers { mut kind, mut word, transport: Transport { mut primary, mut secondary } } = out;
    // SAFETY: the caller promises that there is a gate, and that it changes only the operands of the assembly, NZCV, and
    // shared memory. Without `preserves_flags` and `nomem` the compiler assumes that flags and memory have changed. A gate
    // uses no stack.
    unsafe {
        asm!(
            "blr x16",
            inout("x0") kind,
            inout("x1") word,
            inout("x2") primary,
            inout("x3") secondary,
            inout("x16") address => _,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x17") _, out("lr") _,
            options(nostack),
        );
    }
    Registers { kind, word, transport: Transport { primary, secondary } }
}

/// Executes one call of SMCCC: takes the instruction and the words to send; evaluates to the words of the answer. It must
/// stand in an `unsafe` block.
macro_rules! smccc {
    ($instruction:literal, $out:expr) => {{
        let Registers { kind, mut word, transport: Transport { mut primary, mut secondary } } =
            $out;
        let answer: u64;
        asm!(
            $instruction,
            inout("x0") FUNCTION | kind & 0xff => answer,
            inout("x1") word,
            inout("x2") primary,
            inout("x3") secondary,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _,
            options(nostack),
        );
        Registers { kind: answer, word, transport: Transport { primary, secondary } }
    }};
}

/// Traps by `hvc #0`, four bytes long, to a hypervisor at EL2.
///
/// It is undefined at EL0. KVM hands it to user space where the host has set a filter for [`FUNCTION`]
/// (`KVM_ARM_VM_SMCCC_FILTER`), but without the registers X1 to X3: a host on KVM listens at a [`Doorbell`].
#[derive(Clone, Copy, Debug)]
pub struct Hvc(());

impl Hvc {
    /// A trap by `hvc #0`.
    ///
    /// # Safety
    ///
    /// What the [module](self#safety-of-the-constructors) requires, and: the host gives the functions from [`FUNCTION`]
    /// on only the meaning that this ABI gives them.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Trap for Hvc {
    #[inline(always)]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: the caller of `new` promised that this code runs as a guest that may execute `hvc`, whose host handles
        // these functions as this ABI says, and changes only the operands and shared memory.
        unsafe { smccc!("hvc #0", out) }
    }

    #[cfg(all(not(feature = "guest"), not(feature = "std")))]
    fn inline_instruction(&self) -> super::InlineInstruction {
        super::InlineInstruction::new(*self)
    }
}

/// Traps by `smc #0`, four bytes long, to firmware at EL3, or to a hypervisor that intercepts it (`HCR_EL2.TSC`).
#[derive(Clone, Copy, Debug)]
pub struct Smc(());

impl Smc {
    /// A trap by `smc #0`.
    ///
    /// # Safety
    ///
    /// What the [module](self#safety-of-the-constructors) requires, and: the host gives the functions from [`FUNCTION`]
    /// on only the meaning that this ABI gives them.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Trap for Smc {
    #[inline]
    fn trap(&self, out: Registers) -> Registers {
        // SAFETY: the caller of `new` promised that this code runs as a guest that may execute `smc`, whose host handles
        // these functions as this ABI says, and changes only the operands and shared memory.
        unsafe { smccc!("smc #0", out) }
    }
}

/// The instruction by which a program calls its hypervisor, which calls execute inline.
#[cfg(all(not(feature = "guest"), not(feature = "std")))]
pub(crate) use Hvc as Hypercall;

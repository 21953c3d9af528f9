//! The traps of riscv64 in a signal's context.

use std::ffi::c_int;

use vmffi::abi::Registers;
use vmffi::arch::riscv64::{Doorbell, code};

use super::{GATES_DOORBELL, doorbell};

/// The trap of tests that need any.
pub type Usual = Doorbell;

pub fn usual() -> Usual {
    doorbell()
}

/// The signals that traps raise.
pub const SIGNALS: &[c_int] = &[libc::SIGSEGV];

std::arch::global_asm!(
    // A gate: it rings the doorbell with a frame, and changes all registers that a gate may change (ABI, Traps TR-24).
    ".pushsection .text.vmffi_traps_gate, \"ax\", @progbits",
    ".globl vmffi_traps_gate",
    ".hidden vmffi_traps_gate",
    "vmffi_traps_gate:",
    "mv t0, ra",
    "addi sp, sp, -64",
    "andi a4, sp, -32",
    "sd a0, 0(a4)",
    "sd a1, 8(a4)",
    "sd a2, 16(a4)",
    "sd a3, 24(a4)",
    "lla a1, {doorbell}",
    "ld a1, 0(a1)",
    "mv a0, a4",
    ".option push",
    ".option norvc",
    "sd a0, 0(a1)",
    ".option pop",
    "ld a0, 0(a4)",
    "ld a1, 8(a4)",
    "ld a2, 16(a4)",
    "ld a3, 24(a4)",
    "addi sp, sp, 64",
    "li a4, -4",
    "li a5, -5",
    "li a6, -6",
    "li a7, -7",
    "li ra, -1",
    "li t1, -1",
    "li t2, -2",
    "li t3, -3",
    "li t4, -4",
    "li t5, -5",
    "li t6, -6",
    "jr t0",
    ".popsection",
    doorbell = sym GATES_DOORBELL,
);

/// If the faulting instruction is one of the traps, at the doorbell's address: calls `host` with its words, sets those of
/// the answer, and steps over it. Returns whether it has done so.
pub fn serve(
    info: &libc::siginfo_t,
    context: &mut libc::ucontext_t,
    doorbell: Option<u64>,
    host: impl FnOnce(Registers) -> Option<Registers>,
) -> bool {
    // PC, then x1 to x31.
    let regs = &mut context.uc_mcontext.__gregs;
    // SAFETY: called for faults of an instruction during its execution, so it is readable. If it is compressed, it is no trap,
    // and another one follows it, or the rest of the page.
    let instruction = unsafe { (regs[0] as *const [u8; 4]).read_unaligned() };
    // SAFETY: a page fault's `siginfo_t` has an address.
    let address = unsafe { info.si_addr() } as u64;
    if instruction != code::DOORBELL || doorbell != Some(address) || regs[11] != address {
        return false;
    }
    if !super::serve_frame(regs[10], host) {
        return false;
    }
    regs[0] += 4;
    true
}

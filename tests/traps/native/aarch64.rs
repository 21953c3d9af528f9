//! The traps of aarch64 in a signal's context.

use std::ffi::c_int;

use vmffi::abi::{Registers, Transport};
use vmffi::arch::aarch64::{Doorbell, FUNCTION, code};

use super::{GATES_DOORBELL, doorbell};

/// The trap of tests that need any.
pub type Usual = Doorbell;

pub fn usual() -> Usual {
    doorbell()
}

/// The signals that traps raise: the doorbell, and `hvc` and `smc`, which are undefined in a process.
pub const SIGNALS: &[c_int] = &[libc::SIGSEGV, libc::SIGILL];

std::arch::global_asm!(
    // A gate: it rings the doorbell with a frame, and changes all registers that a gate may change (ABI, Traps TR-24).
    ".pushsection .text.vmffi_traps_gate, \"ax\", @progbits",
    ".globl vmffi_traps_gate",
    ".hidden vmffi_traps_gate",
    "vmffi_traps_gate:",
    "sub sp, sp, #64",
    "mov x16, sp",
    "and x4, x16, #-32",
    "stp x0, x1, [x4]",
    "stp x2, x3, [x4, #16]",
    "adrp x5, {doorbell}",
    "ldr x1, [x5, :lo12:{doorbell}]",
    "mov x0, x4",
    "str x0, [x1]",
    "ldp x0, x1, [x4]",
    "ldp x2, x3, [x4, #16]",
    "add sp, sp, #64",
    "mov x17, x30",
    "mov x4, #-4",
    "mov x5, #-5",
    "mov x6, #-6",
    "mov x7, #-7",
    "mov x8, #-8",
    "mov x9, #-9",
    "mov x10, #-10",
    "mov x11, #-11",
    "mov x12, #-12",
    "mov x13, #-13",
    "mov x14, #-14",
    "mov x15, #-15",
    "adds x16, x4, x5",
    "mov x30, #-30",
    "ret x17",
    ".popsection",
    doorbell = sym GATES_DOORBELL,
);

/// If the faulting instruction is one of the traps, at the doorbell's address if there is one: calls `host` with its
/// words, sets those of the answer, and steps over it. Returns whether it has done so.
pub fn serve(
    info: &libc::siginfo_t,
    context: &mut libc::ucontext_t,
    doorbell: Option<u64>,
    host: impl FnOnce(Registers) -> Option<Registers>,
) -> bool {
    let machine = &mut context.uc_mcontext;
    let at = machine.pc as *const [u8; 4];
    // SAFETY: called for faults of an instruction during its execution, so it is readable.
    let instruction = unsafe { at.read() };
    let regs = &mut machine.regs;
    if instruction == code::HVC || instruction == code::SMC {
        if regs[0] & !0xff != FUNCTION {
            return false;
        }
        let transport = Transport { primary: regs[2], secondary: regs[3] };
        let kind = 0x564d_4646_0000_0000 | regs[0] & 0xff;
        let Some(back) = host(Registers { kind, word: regs[1], transport }) else { return false };
        regs[..4].copy_from_slice(&[
            back.kind,
            back.word,
            back.transport.primary,
            back.transport.secondary,
        ]);
        // What SMCCC lets a hypervisor change.
        regs[4..18].fill(u64::MAX);
        machine.pstate ^= 0xf000_0000;
    } else {
        // SAFETY: a page fault's `siginfo_t` has an address.
        let address = unsafe { info.si_addr() } as u64;
        if instruction != code::DOORBELL || doorbell != Some(address) || regs[1] != address {
            return false;
        }
        if !super::serve_frame(regs[0], host) {
            return false;
        }
    }
    machine.pc += 4;
    true
}

//! The traps of x86_64 in a signal's context.

use std::ffi::c_int;

use vmffi::abi::{Registers, Transport};
use vmffi::arch::x86_64::{Out, code};

use super::GATES_DOORBELL;

/// The port for traps. By default the kernel does not let a process write to it, and nothing here
/// requests permission (`ioperm`).
pub const PORT: u16 = 0x0560;

/// The trap of tests that need any.
pub type Usual = Out<PORT>;

/// A trap through [`PORT`], for guests.
pub fn usual() -> Usual {
    // SAFETY: `on_fault` claims PORT on threads with a host, steps over the instruction,
    // changes RAX, RBX, R8 and R9 and no memory of its own; on any other thread the
    // write ends the program. No process without special permission reaches a device.
    unsafe { Out::new() }
}

/// The signals that traps raise.
pub const SIGNALS: &[c_int] = &[libc::SIGSEGV];

std::arch::global_asm!(
    // A gate: it stores to the doorbell, and changes all registers that a gate may change (ABI, Traps TR-20).
    ".pushsection .text.vmffi_traps_gate, \"ax\", @progbits",
    ".globl vmffi_traps_gate",
    ".hidden vmffi_traps_gate",
    "vmffi_traps_gate:",
    "mov rdx, [rip + {doorbell}]",
    "mov [rdx], rax",
    "mov rcx, -1",
    "mov rdx, -2",
    "mov rsi, -3",
    "mov rdi, -4",
    "mov r10, -5",
    "mov r11, -6",
    "push rcx",
    "add rsp, 8",
    "add cl, 1",
    "ret",
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
    let gregs = &mut context.uc_mcontext.gregs;
    let Some(length) = trap_length(info, gregs, doorbell) else { return false };
    let Some(answer) = host(registers(gregs)) else { return false };
    set_registers(gregs, answer);
    gregs[libc::REG_RIP as usize] += length as libc::greg_t;
    true
}

/// The length of the faulting instruction, if it is one of the traps: the negotiated instruction, at
/// the negotiated address.
fn trap_length(
    info: &libc::siginfo_t,
    gregs: &[libc::greg_t; 23],
    doorbell: Option<u64>,
) -> Option<usize> {
    const GENERAL_PROTECTION: u64 = 13;
    const PAGE_FAULT: u64 = 14;
    /// A write, in user mode, to a page without permissions.
    const USER_WRITE: u64 = 0b110;

    let register = |index: c_int| gregs[index as usize] as u64;
    let at_rip = |code: &[u8]| {
        let rip = register(libc::REG_RIP) as *const u8;
        // SAFETY: called only for faults of an instruction during its execution, so its first
        // byte is readable; each further byte is read only if all before it are equal.
        code.iter().enumerate().all(|(i, byte)| unsafe { rip.add(i).read() } == *byte)
    };
    match (register(libc::REG_TRAPNO), register(libc::REG_ERR)) {
        (GENERAL_PROTECTION, 0) => {
            let ours = register(libc::REG_RDX) as u16 == PORT && at_rip(&code::OUT);
            ours.then_some(code::OUT.len())
        }
        (PAGE_FAULT, USER_WRITE) => {
            // SAFETY: a page fault's `siginfo_t` has an address.
            let address = unsafe { info.si_addr() } as u64;
            let ours = doorbell == Some(address) && at_rip(&code::DOORBELL);
            ours.then_some(code::DOORBELL.len())
        }
        _ => None,
    }
}

fn registers(gregs: &[libc::greg_t; 23]) -> Registers {
    let register = |index: c_int| gregs[index as usize] as u64;
    Registers {
        kind: register(libc::REG_RAX),
        word: register(libc::REG_RBX),
        transport: Transport { primary: register(libc::REG_R8), secondary: register(libc::REG_R9) },
    }
}

fn set_registers(gregs: &mut [libc::greg_t; 23], answer: Registers) {
    for (index, value) in [
        (libc::REG_RAX, answer.kind),
        (libc::REG_RBX, answer.word),
        (libc::REG_R8, answer.transport.primary),
        (libc::REG_R9, answer.transport.secondary),
    ] {
        gregs[index as usize] = value as libc::greg_t;
    }
}

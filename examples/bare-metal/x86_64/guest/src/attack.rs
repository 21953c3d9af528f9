//! What no guest of this hypervisor may do, and what the world switch must not change.

use core::arch::asm;

use vmffi::{
    abi::{Registers, Transport, trap},
    arch::{
        Trap,
        x86_64::{Out, Vmmcall},
    },
};

use crate::mode::{self, PORT};

/// Does what the mode says. It returns only if the hypervisor has let it.
pub fn run(mode: u64, by_port: bool, region: usize) {
    /// The number of EFER.
    const EFER: u32 = 0xc000_0080;
    // SAFETY: none of these returns in a guest of this hypervisor, which ends it; or what it does is harmless here: nothing
    // in this guest depends on debug registers, on EFER's unchanged value or on one byte of a port.
    unsafe {
        match mode {
            mode::KEEPS_REGISTERS => keep_registers(by_port),
            mode::WRITES_HEADER => (region as *mut u64).write_volatile(0),
            mode::EXECUTES_REGION => asm!("call {}", in(reg) region + 0x2000),
            mode::CHANGES_TABLES => asm!("mov cr3, {}", in(reg) 0x100_0000_u64),
            mode::WRITES_CR0 => asm!("mov cr0, {}", in(reg) 0x8001_0033_u64),
            mode::USES_VECTORS => asm!(".byte 0x0f, 0x28, 0xc0"), // movaps xmm0, xmm0
            mode::WRITES_DR0 => asm!("mov dr0, {}", in(reg) 0_u64),
            mode::READS_MSR => asm!("rdmsr", in("ecx") EFER, out("eax") _, out("edx") _),
            mode::WRITES_MSR => asm!("wrmsr", in("ecx") EFER, in("eax") 0x1500, in("edx") 0),
            mode::HALTS => asm!("hlt"),
            mode::RUNS_GUEST => asm!("vmrun rax", in("rax") 0x40_0000_u64),
            mode::READS_PORT => asm!("in al, dx", in("dx") 0x3fd_u16, out("al") _),
            mode::WRITES_BYTE => asm!("out dx, al", in("dx") PORT, in("al") 0_u8),
            mode::TRAPS_OTHERWISE => {
                let ready = Registers { kind: trap::READY, word: 0, transport: Transport::EMPTY };
                let _ = match by_port {
                    true => Vmmcall::new().trap(ready),
                    false => Out::<PORT>::new().trap(ready),
                };
            }
            _ => {}
        }
    }
}

/// Traps again and again. Each trap is a `CALL` whose signature is the number of traps before it that changed no register but
/// those of the answer.
fn keep_registers(by_port: bool) -> ! {
    /// Executes a trap with `start`, `start + 1`, ... in the registers that it does not use: RCX, RSI, RDI, RBP, R10 to R15.
    /// Evaluates to true if they, RDX, RSP, the carry flag and the direction flag are the same afterwards.
    macro_rules! keeps {
        ($instruction:literal, $start:expr, $count:expr) => {{
            let start: u64 = $start;
            let ok: u64;
            asm!(
                "push rbx",
                "push rbp",
                "mov rbx, r9",
                "lea rbp, [rcx + 3]",
                "mov [rip + {stack}], rsp",
                "stc",
                "std",
                $instruction,
                // RBX is free now: it collects what differs, first of CF and DF.
                "pushfq",
                "pop rbx",
                "cld",
                "and ebx, 0x401",
                "xor ebx, 0x401",
                "mov r8, rsp", "sub r8, [rip + {stack}]", "or rbx, r8",
                "mov r8, {port}", "xor r8, rdx", "or rbx, r8",
                "lea r8, [rcx + 3]", "xor r8, rbp", "or rbx, r8",
                "lea r8, [rcx + 1]", "xor r8, rsi", "or rbx, r8",
                "lea r8, [rcx + 2]", "xor r8, rdi", "or rbx, r8",
                "lea r8, [rcx + 4]", "xor r8, r10", "or rbx, r8",
                "lea r8, [rcx + 5]", "xor r8, r11", "or rbx, r8",
                "lea r8, [rcx + 6]", "xor r8, r12", "or rbx, r8",
                "lea r8, [rcx + 7]", "xor r8, r13", "or rbx, r8",
                "lea r8, [rcx + 8]", "xor r8, r14", "or rbx, r8",
                "lea r8, [rcx + 9]", "xor r8, r15", "or rbx, r8",
                "mov r9, rbx",
                "pop rbp",
                "pop rbx",
                stack = sym STACK,
                port = const PORT,
                inout("rax") trap::CALL => _,
                inout("r9") $count => ok,
                out("r8") _,
                inout("rcx") start => _,
                in("rdx") u64::from(PORT),
                inout("rsi") start + 1 => _,
                inout("rdi") start + 2 => _,
                inout("r10") start + 4 => _,
                inout("r11") start + 5 => _,
                inout("r12") start + 6 => _,
                inout("r13") start + 7 => _,
                inout("r14") start + 8 => _,
                inout("r15") start + 9 => _,
            );
            ok == 0
        }};
    }
    /// Where RSP is during the trap.
    static STACK: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

    let mut count = 0_u64;
    loop {
        let start = 0x0123_4567_89ab_0000 + count * 0x100;
        // SAFETY: the assembly restores RBX, RBP, RSP and the direction flag, and names all other registers that it changes; the
        // static is only for it.
        let same = unsafe {
            match by_port {
                true => keeps!("out dx, eax", start, count),
                false => keeps!("vmmcall", start, count),
            }
        };
        count += u64::from(same);
    }
}

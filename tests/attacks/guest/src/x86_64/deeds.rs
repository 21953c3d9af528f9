//! Operations that a guest may not execute, or never needs: mostly one instruction each.

use core::{
    arch::{asm, global_asm},
    hint::black_box,
};

use crate::ops::Deed;

// `int n; ret` for every n, four bytes each.
global_asm!(
    ".pushsection .text.interrupts, \"ax\", @progbits",
    "attacks_interrupts:",
    ".set attacks_n, 0",
    ".rept 256",
    ".byte 0xcd, attacks_n, 0xc3, 0x90",
    ".set attacks_n, attacks_n + 1",
    ".endr",
    ".popsection",
);

unsafe extern "C" {
    static attacks_interrupts: u8;
}

/// Executes instructions with operands in registers that the compiler chooses, or in the named ones.
macro_rules! execute {
    ($($asm:tt)*) => {
        // SAFETY: none: the test is that only this guest is harmed.
        unsafe { asm!($($asm)*) }
    };
}

/// The number of the method by which a guest calls its gate (ABI, "Boot block").
const METHOD_GATE: u64 = 3;

/// Executes a deed. If it returns, the deed was permitted. `method` is the number of the guest's method to trap.
#[inline(never)]
pub fn does(deed: Deed, at: u64, value: u64, method: u64) {
    let table = [u64::MAX; 2];
    let table = &raw const table;
    let port = at as u16;
    match deed {
        Deed::Store1 => execute!("mov [rdx], al", in("rdx") at, in("rax") value),
        Deed::Store2 => execute!("mov [rdx], ax", in("rdx") at, in("rax") value),
        Deed::Store4 => execute!("mov [rdx], eax", in("rdx") at, in("rax") value),
        // A trap uses `mov [rdx], rax`.
        Deed::Store8 => execute!("mov [rdi], rax", in("rdi") at, in("rax") value),
        Deed::Store16 => execute!(
            "movups [rdx], xmm0", in("rdx") at, inout("rax") value => _,
            inout("r8") 0_u64 => _, inout("r9") 0_u64 => _,
        ),
        Deed::StoreX87 => execute!("fnsave [rdx]", in("rdx") at),
        Deed::Add => execute!("lock add [rdx], rax", in("rdx") at, in("rax") value),
        Deed::Out1 => execute!("out dx, al", in("dx") port, in("rax") value),
        Deed::Out2 => execute!("out dx, ax", in("dx") port, in("rax") value),
        Deed::Out4 => execute!("out dx, eax", in("dx") port, in("rax") value),
        Deed::In1 => execute!("in al, dx", in("dx") port, out("rax") _),
        Deed::In2 => execute!("in ax, dx", in("dx") port, out("rax") _),
        Deed::In4 => execute!("in eax, dx", in("dx") port, out("rax") _),
        Deed::OutString => execute!(
            "rep outsd", in("dx") port, inout("rcx") value => _, inout("rsi") table => _,
            in("rax") 0x1234_u64,
        ),
        Deed::Jump => execute!("jmp {}", in(reg) at),
        Deed::Call => execute!("call {}", in(reg) at, clobber_abi("C")),
        Deed::Divide => {
            execute!("div {:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _);
        }
        Deed::DivideFloat => {
            let all = 0_u32;
            execute!(
                "ldmxcsr [{}]", "mov {one:e}, 1", "cvtsi2sd xmm0, {one}", "xorps xmm1, xmm1",
                "divsd xmm0, xmm1", in(reg) &raw const all, one = out(reg) _, out("xmm0") _,
                out("xmm1") _,
            );
        }
        Deed::Overflow => {
            black_box(overflow(value));
        }
        Deed::LoadAligned => execute!("movaps xmm0, [{}]", in(reg) at, out("xmm0") _),
        Deed::Checked => execute!(
            "pushfq", "or dword ptr [rsp], 0x40000", "popfq", "mov {to}, [{at}]",
            "pushfq", "and dword ptr [rsp], 0xfffbffff", "popfq", at = in(reg) at, to = out(reg) _,
        ),
        Deed::Halt => execute!("hlt"),
        Deed::Cli => execute!("cli"),
        Deed::Sti => execute!("sti"),
        Deed::Lgdt => execute!("lgdt [{}]", in(reg) table),
        Deed::Lidt => execute!("lidt [{}]", in(reg) table),
        Deed::Lldt => execute!("lldt {:x}", in(reg) value),
        Deed::Ltr => execute!("ltr {:x}", in(reg) value),
        Deed::Cr0 => execute!("mov cr0, {}", in(reg) value),
        Deed::Cr3 => execute!("mov cr3, {}", in(reg) value),
        Deed::Cr4 => execute!("mov cr4, {}", in(reg) value),
        Deed::Dr7 => execute!("mov dr7, {}", in(reg) value),
        Deed::Clts => execute!("clts"),
        Deed::Wrmsr => execute!("wrmsr", in("ecx") at as u32, in("eax") value as u32, in("edx") 0),
        Deed::Rdmsr => execute!("rdmsr", in("ecx") at as u32, out("eax") _, out("edx") _),
        Deed::Invlpg => execute!("invlpg [{}]", in(reg) at),
        Deed::Wbinvd => execute!("wbinvd"),
        Deed::Swapgs => execute!("swapgs"),
        Deed::Xsetbv => execute!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") 0),
        Deed::Sysret => execute!("sysretq", in("rcx") at, in("r11") 2_u64),
        Deed::Sysexit => execute!("sysexit", in("rcx") at, in("rdx") at),
        Deed::Iret => execute!(
            "mov {old}, rsp", "push 0x13", "push {old}", "pushfq", "push {cs}", "push {at}", "iretq",
            old = out(reg) _, cs = in(reg) value, at = in(reg) at,
        ),
        Deed::FarJump => {
            execute!("push {cs}", "push {at}", "retfq", cs = in(reg) value, at = in(reg) at);
        }
        Deed::LoadDs => execute!("mov ds, {:x}", in(reg) value),
        Deed::LoadSs => execute!("mov ss, {:x}", in(reg) value),
        Deed::Int => {
            let at = (&raw const attacks_interrupts).wrapping_add(4 * (value as usize & 0xff));
            execute!("call {}", in(reg) at, clobber_abi("C"));
        }
        Deed::Syscall => execute!("syscall", inout("rax") value => _, out("rcx") _, out("r11") _),
        Deed::Sysenter => execute!("sysenter", in("rax") value),
        Deed::Int80 => execute!("int 0x80", inout("rax") value => _),
        Deed::Vmcall => execute!("vmcall", inout("rax") value => _, out("rcx") _, out("rdx") _),
        Deed::Vmmcall => execute!("vmmcall", inout("rax") value => _, out("rcx") _, out("rdx") _),
        // The code segment is the one that Linux has for 32-bit processes.
        Deed::Compat => {
            let at = (&raw const attacks_interrupts).wrapping_add(4 * 0x80);
            execute!("push 0x23", "push {}", "retfq", in(reg) at, in("rax") value);
        }
        Deed::Undefined => execute!("ud2"),
        Deed::NoStack => execute!("xor esp, esp", "ud2"),
        Deed::Icebp => execute!(".byte 0xf1"),
        Deed::Flagged => {
            let how = match at {
                0..=0xffff => 0_u64,
                _ if method == METHOD_GATE => 2,
                _ => 1,
            };
            execute!(
                "mov r12, rbx", "xor ebx, ebx", "pushfq", "or [rsp], r14", "cmp r15, 1",
                "je 2f", "ja 3f", "popfq", "out dx, eax", "jmp 4f", "2:", "popfq", "mov [rdx], rax",
                "jmp 4f", "3:", "popfq", "call rdx", "4:", "mov rbx, r12", "pushfq",
                "and dword ptr [rsp], 0xfff8baff", "popfq",
                in("r14") value, in("r15") how, inout("rdx") at => _, out("r12") _,
                inout("rax") vmffi::abi::trap::CALL => _, inout("r8") 0_u64 => _,
                inout("r9") 0_u64 => _, out("rcx") _, out("rsi") _, out("rdi") _, out("r10") _,
                out("r11") _,
            );
        }
        Deed::Breakpoint => execute!("int3"),
        Deed::Steps => execute!("pushfq", "or dword ptr [rsp], 0x100", "popfq", "nop", "nop"),
        Deed::Pkru => execute!("wrpkru", in("eax") value as u32, in("ecx") 0, in("edx") 0),
        Deed::FsBase => execute!("wrfsbase {}", in(reg) value),
        Deed::Vectors => execute!(
            "movq xmm0, {}", "punpcklqdq xmm0, xmm0", "movaps xmm1, xmm0", "movaps xmm2, xmm0",
            "movaps xmm3, xmm0", "movaps xmm4, xmm0", "movaps xmm5, xmm0", "movaps xmm6, xmm0",
            "movaps xmm7, xmm0", "movaps xmm8, xmm0", "movaps xmm9, xmm0", "movaps xmm10, xmm0",
            "movaps xmm11, xmm0", "movaps xmm12, xmm0", "movaps xmm13, xmm0", "movaps xmm14, xmm0",
            "movaps xmm15, xmm0", in(reg) value, out("xmm0") _, out("xmm1") _, out("xmm2") _,
            out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _,
            out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
            out("xmm14") _, out("xmm15") _,
        ),
        Deed::Spin => loop {
            core::hint::spin_loop();
        },
    }
}

#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    // This jump does not return, but the compiler must not know that, and must not make it a tail call.
    if room[3] == u64::MAX {
        0
    } else {
        overflow(room[3].wrapping_add(1) >> 1) ^ black_box(&room)[5]
    }
}

/// Loads all general registers except RSP, in the order RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8 to R15, then RIP, RFLAGS and
/// RSP, by one instruction.
pub fn jump(registers: [u64; 15], to: u64, flags: u64, stack: u64) -> ! {
    let mut frame = [0; 20];
    frame[..15].copy_from_slice(&registers);
    (frame[15], frame[17], frame[18]) = (to, flags, stack);
    // SAFETY: none, as above.
    unsafe {
        asm!(
            "mov eax, cs", "mov [rdi + 128], rax", "mov eax, ss", "mov [rdi + 152], rax",
            "mov rsp, rdi", "pop rax", "pop rbx", "pop rcx", "pop rdx", "pop rsi", "pop rdi",
            "pop rbp", "pop r8", "pop r9", "pop r10", "pop r11", "pop r12", "pop r13", "pop r14",
            "pop r15", "iretq", in("rdi") &raw mut frame, options(noreturn),
        )
    }
}

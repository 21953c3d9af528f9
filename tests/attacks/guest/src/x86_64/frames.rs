//! A trap with chosen contents of all registers that a trap preserves; it records their contents afterwards.
//!
//! A frame begins with an area of XSAVE in the standard format. [`GENERAL`] has RBP, R12 to R15, RFLAGS, the bases of FS and GS,
//! and whether to set these bases. The frame is aligned to 64 bytes.

use core::arch::global_asm;

use vmffi::abi::{Registers, Transport};

/// The offset of the other registers.
const GENERAL: usize = 4096;

// `frame`: the frame, the words, RSP, the trap's operand, and the previous bases of FS and GS.
global_asm!(
    ".pushsection .bss.frames, \"aw\", @nobits",
    ".balign 8",
    "attacks_frame: .skip 48",
    ".popsection",
    ".pushsection .text.frames, \"ax\", @progbits",
    // Words, frame, operand, method.
    "attacks_framed:",
    "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15", "pushfq",
    "lea r11, [rip + attacks_frame]",
    "mov [r11], rsi", "mov [r11 + 8], rdi", "mov [r11 + 24], rdx",
    "lea r10, [rip + 2f]",
    "lea r9, [rip + 3f]", "cmp ecx, 2", "cmove r10, r9",
    "lea r9, [rip + 4f]", "cmp ecx, 3", "cmove r10, r9",
    "cmp qword ptr [rsi + {general} + 64], 0", "je 5f",
    "rdfsbase rax", "mov [r11 + 32], rax", "rdgsbase rax", "mov [r11 + 40], rax",
    "mov rax, [rsi + {general} + 48]", "wrfsbase rax",
    "mov rax, [rsi + {general} + 56]", "wrgsbase rax",
    // The components that the processor has: x87, SSE, AVX, AVX-512.
    "5: xor ecx, ecx", "xgetbv", "and eax, 0xe7", "mov [rsi + 512], rax",
    "mov eax, 0xe7", "xor edx, edx", "xrstor64 [rsi]",
    "mov rbp, [rsi + {general}]", "mov r12, [rsi + {general} + 8]", "mov r13, [rsi + {general} + 16]",
    "mov r14, [rsi + {general} + 24]", "mov r15, [rsi + {general} + 32]",
    "mov rax, [rdi]", "mov rbx, [rdi + 8]", "mov r8, [rdi + 16]", "mov r9, [rdi + 24]",
    "mov rdx, [r11 + 24]",
    "mov [r11 + 16], rsp",
    "push qword ptr [rsi + {general} + 40]", "popfq",
    "jmp r10",
    "2: out dx, eax", "jmp 6f",
    "3: mov [rdx], rax", "jmp 6f",
    "4: call rdx",
    "6: lea r11, [rip + attacks_frame]",
    "mov rsi, [r11]", "mov rdi, [r11 + 8]",
    "mov [rsi + {general}], rbp", "mov [rsi + {general} + 8], r12", "mov [rsi + {general} + 16], r13",
    "mov [rsi + {general} + 24], r14", "mov [rsi + {general} + 32], r15",
    "pushfq", "pop qword ptr [rsi + {general} + 40]",
    "cmp rsp, [r11 + 16]", "je 7f", "ud2",
    "7: mov [rdi], rax", "mov [rdi + 8], rbx", "mov [rdi + 16], r8", "mov [rdi + 24], r9",
    "mov eax, 0xe7", "xor edx, edx", "xsave64 [rsi]",
    "cmp qword ptr [rsi + {general} + 64], 0", "je 8f",
    "rdfsbase rax", "mov [rsi + {general} + 48], rax", "rdgsbase rax", "mov [rsi + {general} + 56], rax",
    "mov rax, [r11 + 32]", "wrfsbase rax", "mov rax, [r11 + 40]", "wrgsbase rax",
    "8: fninit", "push 0x1f80", "ldmxcsr [rsp]", "pop rax",
    "popfq", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
    "ret",
    ".popsection",
    general = const GENERAL,
);

unsafe extern "C" {
    fn attacks_framed(words: *mut [u64; 4], frame: u64, operand: u64, method: u64);
}

/// Traps, and returns the answer. Only one vCPU may do so at a time.
#[inline(never)]
pub fn trap(out: Registers, frame: u64, [method, operand]: [u64; 2]) -> Registers {
    let Registers { kind, word, transport: Transport { primary, secondary } } = out;
    let mut words = [kind, word, primary, secondary];
    // SAFETY: none: the test is that only this guest is harmed.
    unsafe { attacks_framed(&raw mut words, frame, operand, method) };
    let [kind, word, primary, secondary] = words;
    Registers { kind, word, transport: Transport { primary, secondary } }
}

//! The program that checks its entry, for x86_64.

use std::arch::global_asm;

use vmffi::abi;

// Exits with a word of the boot block as its status; or, with bit 63 set, with the bits that are not as specified.
global_asm!(
    ".pushsection .rodata",
    "vmffi_probe:",
    // The number of the word is written into the second instruction; the first one has read the register before.
    "or rbx, rcx",
    "mov ecx, 0x55555555",
    "or rbx, rax; or rbx, rdx; or rbx, rsi; or rbx, rbp; or rbx, r8; or rbx, r9; or rbx, r10",
    "or rbx, r11; or rbx, r12; or rbx, r13; or rbx, r14; or rbx, r15",
    "por xmm0, xmm1; por xmm0, xmm2; por xmm0, xmm3; por xmm0, xmm4; por xmm0, xmm5",
    "por xmm0, xmm6; por xmm0, xmm7; por xmm0, xmm8; por xmm0, xmm9; por xmm0, xmm10",
    "por xmm0, xmm11; por xmm0, xmm12; por xmm0, xmm13; por xmm0, xmm14; por xmm0, xmm15",
    "movq rax, xmm0; or rbx, rax; punpckhqdq xmm0, xmm0; movq rax, xmm0; or rbx, rax",
    "mov rax, rsp; xor rax, rdi; or rbx, rax",
    "mov eax, edi; and eax, 63; or rbx, rax",
    "pushfq; pop rax; and eax, 0x400; or rbx, rax",
    "push 0; stmxcsr [rsp]; pop rax; xor eax, 0x1f80; or rbx, rax",
    "mov rax, fs:[rdi]; xor rax, [rdi]; or rbx, rax",
    "mov rax, gs:[rdi]; xor rax, [rdi]; or rbx, rax",
    "bts rbx, 63",
    "mov rax, 0x8000000000000000; cmp rbx, rax; cmove rbx, [rdi + rcx * 8]",
    "mov rax, {exit}",
    "xor r8d, r8d; xor r9d, r9d",
    "mov rdx, [rdi + 32]",
    "cmp qword ptr [rdi + 24], 2",
    "je 2f",
    "ja 3f",
    "out dx, eax",
    "ud2",
    "2: mov [rdx], rax",
    "ud2",
    "3: call rdx",
    "ud2",
    "vmffi_probe_end:",
    ".popsection",
    exit = const abi::trap::EXIT,
);

unsafe extern "C" {
    static vmffi_probe: u8;
    static vmffi_probe_end: u8;
}

/// The code. The four bytes 0x55 are the number of the word.
pub fn code() -> &'static [u8] {
    let (from, to) = (&raw const vmffi_probe, &raw const vmffi_probe_end);
    // SAFETY: the bytes between the two symbols are constant.
    unsafe { std::slice::from_raw_parts(from, to.addr() - from.addr()) }
}

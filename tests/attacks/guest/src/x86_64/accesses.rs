//! Instructions that access memory in other ways than one load or store of a word: in several pieces, through the stack, by
//! the processor's own loads, or with rarely used registers.

use core::arch::{asm, global_asm};

/// Assembles the table, 64 bytes for each instruction, which end with `ret`, and its length.
macro_rules! table {
    ($($instruction:literal),* $(,)?) => {
        global_asm!(
            ".pushsection .text.accesses, \"ax\", @progbits",
            ".balign 64",
            "attacks_accesses:",
            $($instruction, "ret", ".balign 64",)*
            ".popsection",
        );

        /// The number of instructions.
        const COUNT: u64 = [$($instruction),*].len() as u64;
    };
}

// The address is in RDX, RSI and RDI; R11 is free. An instruction that moves the stack restores it.
table! {
    "movups [rdx], xmm0",
    "movups xmm0, [rdx]",
    "movntdq [rdx], xmm0",
    "vmovups [rdx], ymm0",
    "vmovups ymm0, [rdx]",
    "vmovdqu64 [rdx], zmm0",
    "vmovdqu64 zmm0, [rdx]",
    "maskmovdqu xmm0, xmm1",
    "vmaskmovps [rdx], ymm0, ymm1",
    "vmaskmovps ymm0, ymm1, [rdx]",
    "vpcmpeqd ymm1, ymm1, ymm1\nvpxor ymm0, ymm0, ymm0\nvpgatherdd ymm2, [rdx + ymm0], ymm1",
    "kxnorw k1, k1, k1\nvpxord zmm0, zmm0, zmm0\nvpscatterdd [rdx + zmm0] {{k1}}, zmm0",
    "fnsave [rdx]",
    "frstor [rdx]",
    "fnstenv [rdx]",
    "fldenv [rdx]",
    "fxsave [rdx]",
    "fxrstor [rdx]",
    "mov eax, -1\nxor edx, edx\nxsave [rsi]",
    "mov eax, -1\nxor edx, edx\nxrstor [rsi]",
    "fld tbyte ptr [rdx]",
    "fld1\nfstp tbyte ptr [rdx]",
    "fld1\nfbstp [rdx]",
    "fild qword ptr [rdx]",
    "fnstcw [rdx]",
    "fldcw [rdx]",
    "stmxcsr [rdx]",
    "ldmxcsr [rdx]",
    "lock cmpxchg16b [rdx]",
    "lock cmpxchg8b [rdx]",
    "lock cmpxchg [rdx], rcx",
    "lock xadd [rdx], rax",
    "xchg [rdx], rax",
    "lock bts qword ptr [rdx], 3",
    "bt [rdx], rcx",
    "movnti [rdx], rax",
    "movbe [rdx], rax",
    "mul qword ptr [rdx]",
    "div qword ptr [rdx]",
    "cmp [rdx], rax",
    "not qword ptr [rdx]",
    "shld [rdx], rax, 3",
    "xlatb",
    "mov r11, rsp\nmov rsp, rdx\npush rax\nmov rsp, r11",
    "mov r11, rsp\nmov rsp, rdx\npop rax\nmov rsp, r11",
    "mov r11, rsp\nmov rsp, rdx\ncall 2f\n2: mov rsp, r11",
    "mov r11, rsp\nmov rsp, rdx\nret",
    "mov r11, rsp\nmov rsp, rdx\nretfq",
    "mov r11, rsp\nmov rsp, rdx\niretq",
    "mov r11, rsp\nmov rsp, rdx\npushfq\nmov rsp, r11",
    "mov r11, rsp\nmov rsp, rdx\npopfq\nmov rsp, r11",
    "mov r11, rsp\nmov rcx, rbp\nmov rsp, rdx\nenter 16, 3\nmov rbp, rcx\nmov rsp, r11",
    "mov r11, rsp\nmov rcx, rbp\nmov rbp, rdx\nleave\nmov rbp, rcx\nmov rsp, r11",
    "mov r11, rsp\nmov rsp, rdx\npush fs\nmov rsp, r11",
    "mov r11, rsp\nmov rsp, rdx\npop fs\nmov rsp, r11",
    "push [rdx]\npop rax",
    "push rax\npop [rdx]",
    "jmp [rdx]",
    "call [rdx]",
    "rex64 jmp fword ptr [rdx]",
    "rex64 call fword ptr [rdx]",
    "mov ds, [rdx]",
    "mov [rdx], ss",
    "mov ss, [rdx]",
    "lfs eax, [rdx]",
    "lar eax, [rdx]",
    "verr [rdx]",
    "sgdt [rdx]",
    "sldt [rdx]",
    "smsw [rdx]",
    "clflush [rdx]",
    "prefetchw [rdx]",
    "cmpxchg [rdx], al",
    "cmovz rax, [rdx]",
    "adc [rdx], ax",
    // Accesses by the instruction after a change of the stack's segment, or in a single step.
    "mov ecx, ss\nmov ss, ecx\nmov [rdx], rax",
    "pushfq\nor dword ptr [rsp], 0x100\npopfq\nmov [rdx], rax",
    "pushfq\nor dword ptr [rsp], 0x100\npopfq\nmov rax, [rdx]",
    "pushfq\nor dword ptr [rsp], 0x100\npopfq\nrep movsq\nnop",
    // Accesses to the instruction itself.
    "jmp rdx",
    // Counts and addresses of 32 bits, and another segment.
    "rep lods byte ptr [esi]",
    "rep lods byte ptr fs:[rsi]",
    "repne scasb",
    "rep movsq",
}

unsafe extern "C" {
    static attacks_accesses: u8;
}

/// Executes one of these instructions.
#[inline(never)]
pub fn does(which: u64, at: u64, count: u64) {
    let code = (&raw const attacks_accesses).wrapping_add(64 * (which % COUNT) as usize);
    // SAFETY: none: the test is that only this guest is harmed.
    unsafe {
        asm!(
            "push rbx", "mov rbx, rdx", "call r10", "pop rbx", "cld",
            inout("r10") code => _, inout("rsi") at => _, inout("rdi") at => _, inout("rdx") at => _,
            inout("rcx") count => _, inout("rax") vmffi::abi::trap::READY => _,
            clobber_abi("C"),
        );
    }
}

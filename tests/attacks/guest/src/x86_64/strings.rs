//! All string instructions, of all sizes and with all prefixes.

use core::arch::{asm, global_asm};

// Eight bytes each: the instruction, and `ret`. Three of each: plain, with `rep`, with `repne`.
global_asm!(
    ".pushsection .text.strings, \"ax\", @progbits",
    ".macro attacks_string code:vararg",
    ".balign 8",
    ".byte \\code, 0xc3",
    ".endm",
    ".macro attacks_prefixes code:vararg",
    "attacks_string \\code",
    "attacks_string 0xf3, \\code",
    "attacks_string 0xf2, \\code",
    ".endm",
    // Sizes of 1, 2, 4 and 8 bytes.
    ".macro attacks_sizes byte, others",
    "attacks_prefixes \\byte",
    "attacks_prefixes 0x66, \\others",
    "attacks_prefixes \\others",
    "attacks_prefixes 0x48, \\others",
    ".endm",
    ".balign 8",
    "attacks_strings:",
    // movs, cmps, stos, lods, scas
    "attacks_sizes 0xa4, 0xa5",
    "attacks_sizes 0xa6, 0xa7",
    "attacks_sizes 0xaa, 0xab",
    "attacks_sizes 0xac, 0xad",
    "attacks_sizes 0xae, 0xaf",
    // ins, outs: with the last size they are those of 4 bytes again
    "attacks_sizes 0x6c, 0x6d",
    "attacks_sizes 0x6e, 0x6f",
    ".popsection",
);

/// The number of instructions.
const COUNT: u64 = 7 * 4 * 3;

unsafe extern "C" {
    static attacks_strings: u8;
}

/// Executes one of these instructions.
#[inline(never)]
pub fn does(which: u64, from: u64, to: u64, count: u64, port: u64, down: bool) {
    let at = (&raw const attacks_strings).wrapping_add(8 * (which % COUNT) as usize);
    // SAFETY: none: the test is that only this guest is harmed.
    unsafe {
        asm!(
            "test {down:e}, {down:e}", "jz 2f", "std", "2:", "call {at}", "cld",
            down = in(reg) u32::from(down), at = in(reg) at, inout("rsi") from => _,
            inout("rdi") to => _, inout("rcx") count => _, in("rdx") port,
            inout("rax") 0x1234_u64 => _,
        );
    }
}

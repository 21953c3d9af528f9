//! The program that checks its entry, for aarch64.

use std::arch::global_asm;

use vmffi::abi;

// Exits with a word of the boot block as its status; or, with bit 63 set, with the bits that are not as specified. X16 may hold
// anything.
global_asm!(
    ".pushsection .rodata",
    ".balign 4",
    "vmffi_probe:",
    ".irp number, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,17,18,19,20,21,22,23,24,25,26,27,28,29,30",
    "orr x1, x1, x\\number",
    ".endr",
    ".irp number, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "orr v0.16b, v0.16b, v\\number\\().16b",
    ".endr",
    "umov x2, v0.d[0]", "orr x1, x1, x2", "umov x2, v0.d[1]", "orr x1, x1, x2",
    "mov x2, sp", "eor x2, x2, x0", "orr x1, x1, x2",
    "and x2, x0, #63", "orr x1, x1, x2",
    "mrs x2, tpidr_el0", "orr x1, x1, x2",
    "mrs x2, fpcr", "orr x1, x1, x2", "mrs x2, fpsr", "orr x1, x1, x2",
    "mrs x2, nzcv", "orr x1, x1, x2",
    "ldr w3, 5f",
    "cbnz x1, 2f",
    "ldr x1, [x0, x3, lsl #3]",
    "b 3f",
    "2: orr x1, x1, #0x8000000000000000",
    "3: ldp x4, x5, [x0, #24]",
    "ldr x0, 6f",
    "mov x2, #0", "mov x3, #0",
    "cmp x4, #2",
    "b.eq 4f",
    "blr x5",
    "udf #0",
    "4: sub sp, sp, #32",
    "stp x0, x1, [sp]", "stp x2, x3, [sp, #16]",
    "mov x0, sp", "mov x1, x5",
    "str x0, [x1]",
    "udf #0",
    ".balign 8",
    "6: .quad {exit}",
    "5: .word 0x55555555",
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

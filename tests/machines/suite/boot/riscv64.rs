//! The program that checks its entry, for riscv64.

use std::arch::global_asm;

use vmffi::abi;

// Exits with a word of the boot block as its status; or, with bit 63 set, with the bits that are not as specified. t1 may hold
// anything.
global_asm!(
    ".pushsection .rodata",
    ".option push",
    ".option norvc",
    ".option norelax",
    ".option arch, +f, +d, +zicsr",
    ".balign 4",
    "vmffi_probe:",
    ".irp register, a2,a3,a4,a5,a6,a7,t0,t2,t3,t4,t5,t6,s0,s1,s2,s3,s4,s5,s6,s7,s8,s9,s10,s11,ra,gp,tp",
    "or a1, a1, \\register",
    ".endr",
    ".irp number, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "fmv.x.d a2, f\\number",
    "or a1, a1, a2",
    ".endr",
    "xor a2, sp, a0", "or a1, a1, a2",
    "andi a2, a0, 63", "or a1, a1, a2",
    "frcsr a2", "or a1, a1, a2",
    // The address of the two words at the end.
    "lla t0, 6f",
    "lwu t1, 8(t0)",
    "bnez a1, 2f",
    "slli t1, t1, 3", "add t1, t1, a0", "ld a1, 0(t1)",
    "j 3f",
    "2: li t1, 1", "slli t1, t1, 63", "or a1, a1, t1",
    "3: ld t1, 24(a0)", "ld t2, 32(a0)",
    "ld a0, 0(t0)",
    "li a2, 0", "li a3, 0",
    "addi t1, t1, -2",
    "beqz t1, 4f",
    "jalr ra, t2",
    "unimp",
    "4: addi sp, sp, -32",
    "sd a0, 0(sp)", "sd a1, 8(sp)", "sd a2, 16(sp)", "sd a3, 24(sp)",
    "mv a0, sp", "mv a1, t2",
    "sd a0, 0(a1)",
    "unimp",
    ".balign 8",
    "6: .quad {exit}",
    "5: .word 0x55555555",
    "vmffi_probe_end:",
    ".option pop",
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

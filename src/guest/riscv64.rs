//! What is riscv64 in a guest's program: the entry point, and an instruction that ends the guest.

use core::arch::asm;

mod words;

pub use words::{memcmp, memcpy, memmove, memset};

/// The entry point of the program, which calls `$main` with the address of the boot block, in a0. Linkers relax accesses
/// to some data so that they rely on gp (RISC-V ELF psABI, "Global Pointer Relaxation"), unless there is no such symbol.
#[doc(hidden)]
#[macro_export]
macro_rules! __start {
    ($main:path) => {
        $crate::__private::core::arch::global_asm! {
            ".weak __global_pointer$",
            ".globl _start",
            ".type _start, @function",
            "_start:",
            ".option push",
            ".option norelax",
            "lla gp, __global_pointer$",
            ".option pop",
            "mv fp, zero",
            "call {main}",
            "unimp",
            main = sym $main,
        }
    };
}

/// Raises an exception.
#[inline(always)]
pub(super) fn invalid_instruction() {
    // SAFETY: `unimp` raises an exception and has no other effect.
    unsafe { asm!("unimp", options(nomem, nostack)) }
}

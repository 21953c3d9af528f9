//! What is aarch64 in a guest's program: the entry point, and an instruction that ends the guest.

use core::arch::asm;

mod words;

pub use words::{memcmp, memcpy, memmove, memset};

/// The entry point of the program, which calls `$main` with the address of the boot block, in X0.
#[doc(hidden)]
#[macro_export]
macro_rules! __start {
    ($main:path) => {
        $crate::__private::core::arch::global_asm! {
            ".globl _start",
            ".type _start, @function",
            "_start:",
            "mov x29, xzr",
            "bl {main}",
            "udf #0",
            main = sym $main,
        }
    };
}

/// Raises an exception.
#[inline(always)]
pub(super) fn invalid_instruction() {
    // SAFETY: `udf` raises an exception and has no other effect.
    unsafe { asm!("udf #0", options(nomem, nostack)) }
}

//! What the hostile guest executes on x86_64.

mod accesses;
mod deeds;
mod frames;
mod strings;

use core::arch::{asm, global_asm};

pub use accesses::does as access;
pub use deeds::{does as deed, jump};
pub use frames::trap;
pub use strings::does as string;

/// The number of general registers that [`jump`] sets.
pub const GENERAL: usize = 15;

// Lists refer to the code after the first instructions: an endless loop at 16, and one that uses the stack at 32.
global_asm!(
    ".globl _start",
    ".type _start, @function",
    ".balign 16",
    "_start:",
    "xor ebp, ebp",
    "call {enter}",
    "ud2",
    ".balign 16",
    "2: jmp 2b",
    ".balign 16",
    "2: push rax",
    "pop rax",
    "jmp 2b",
    ".balign 16",
    enter = sym super::enter,
);

/// Ends the guest.
pub fn undefined() -> ! {
    // SAFETY: the instruction ends the guest.
    unsafe { asm!("ud2", options(noreturn)) }
}

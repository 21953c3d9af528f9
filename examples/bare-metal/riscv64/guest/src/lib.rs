//! A guest in S-mode or VS-mode: its entry point, and how it traps.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod conformance;

use core::{
    arch::{asm, global_asm},
    panic::PanicInfo,
};

use suite::guest::{Entered, Storage, exit};
use vmffi::{abi, arch::riscv64::Ecall};

static STORAGE: Storage<Ecall> = Storage::new();

/// Traps by `ecall`.
const ECALL: Ecall = {
    // SAFETY: this is a guest in S-mode or VS-mode, whose host gives this extension the meaning of the ABI, and changes only
    // memory that it shares with the guest, and the frame.
    unsafe { Ecall::new() }
};

// The host enters here, with the mode and the region's address in a0 and a1.
global_asm!(
    ".section .text.boot, \"ax\"",
    ".globl _start",
    "_start:",
    "la sp, __stack",
    "call {main}",
    "unimp",
    main = sym main,
);

extern "C" fn main(mode: u64, region: usize) -> ! {
    // SAFETY: the addresses of the host's modes are out of this guest's reach, or without the right that is tried.
    unsafe { suite::conformance::reach(mode, &ECALL) };
    conformance::main(mode);
    // SAFETY: the host has laid out a region at this address, and passes it here only.
    unsafe { suite::guest::main(&STORAGE, Entered { mode, region, trap: ECALL, bare, ticks }) }
}

/// Asks for the version of the SBI.
fn bare() {
    // SAFETY: the function has no effect, and changes a0 and a1.
    unsafe {
        asm!(
            "ecall",
            out("a0") _,
            out("a1") _,
            in("a6") 0,
            in("a7") conformance::BASE,
            options(nostack),
        );
    }
}

/// The number of instructions that the hart has executed.
fn ticks() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("rdinstret {}", out(reg) ticks, options(nostack)) };
    ticks
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(&ECALL, abi::exit::PANICKED)
}

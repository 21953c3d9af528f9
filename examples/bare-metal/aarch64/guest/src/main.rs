//! A guest at EL1: its entry point, and how it traps.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod conformance;

use core::{
    arch::{asm, global_asm},
    panic::PanicInfo,
};

use suite::guest::{Entered, Storage, exit};
use vmffi::{abi, arch::aarch64::Hvc};

static STORAGE: Storage<Hvc> = Storage::new();

/// Traps by `hvc #0`.
const HVC: Hvc = {
    // SAFETY: this is a guest at EL1, whose host gives these functions the meaning of the ABI, and changes only memory that
    // it shares with the guest.
    unsafe { Hvc::new() }
};

// The hypervisor enters here, with the mode and the region's address in X0 and X1.
global_asm!(
    ".section .text.boot, \"ax\"",
    ".globl _start",
    "_start:",
    "adrp x9, __stack",
    "add x9, x9, :lo12:__stack",
    "mov sp, x9",
    "mov x29, xzr",
    "bl {main}",
    "udf #0",
    main = sym main,
);

extern "C" fn main(mode: u64, region: usize) -> ! {
    // SAFETY: the host has not mapped the addresses of its modes, or it has without the right that is tried.
    unsafe { suite::conformance::reach(mode, &HVC) };
    conformance::main(mode);
    // SAFETY: the hypervisor has laid out a region at this address, and passes it here only.
    unsafe { suite::guest::main(&STORAGE, Entered { mode, region, trap: HVC, bare, ticks }) }
}

/// Asks for the version of SMCCC.
fn bare() {
    // SAFETY: the function has no effect, and changes X0 to X3 at most.
    unsafe {
        asm!(
            "hvc #0",
            inout("x0") conformance::SMCCC_VERSION => _,
            out("x1") _,
            out("x2") _,
            out("x3") _,
            options(nostack),
        );
    }
}

/// The virtual counter, which advances with instructions if QEMU counts them.
fn ticks() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack)) };
    ticks
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(&HVC, abi::exit::PANICKED)
}

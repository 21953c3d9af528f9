//! The guest: its entry point, and the two instructions by which it traps.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod attack;
mod mode;

use core::{
    arch::{asm, global_asm, x86_64::_rdtsc},
    panic::PanicInfo,
    sync::atomic::{AtomicBool, Ordering},
};

use mode::{BY_PORT, PORT};
use suite::guest::{Entered, Storage, exit, main};
use vmffi::{
    abi,
    arch::x86_64::{Out, Vmmcall},
};

// The hypervisor enters the first byte, in 64-bit mode at ring 0, with two arguments as those of a function.
global_asm!(
    r#"
.section .text.start, "ax"
.global start
start:
    lea rsp, [rip + stack_top]
    call enter
    ud2

.section .bss
.balign 16
    .skip 0x20000
stack_top:
"#
);

/// This guest traps by `out`.
static BY_PORT_IS_SET: AtomicBool = AtomicBool::new(false);

#[unsafe(no_mangle)]
extern "C" fn enter(mode: u64, region: usize) -> ! {
    static BY_VMMCALL: Storage<Vmmcall> = Storage::new();
    static BY_OUT: Storage<Out<PORT>> = Storage::new();
    let ticks = || {
        // SAFETY: all processors with long mode have a time-stamp counter, and the hypervisor does not intercept it.
        unsafe { _rdtsc() }
    };
    let by_port = mode & BY_PORT != 0;
    BY_PORT_IS_SET.store(by_port, Ordering::Relaxed);
    let mode = mode & !BY_PORT;
    if mode & 0xff >= mode::KEEPS_REGISTERS {
        attack::run(mode, by_port, region);
        panic!("the hypervisor has not ended this guest");
    }
    if !by_port {
        // SAFETY: the hypervisor has entered this guest without the bit, and so handles this instruction.
        let trap = unsafe { Vmmcall::new() };
        let entered = Entered { mode, region, trap, bare: bare_vmmcall, ticks };
        // SAFETY: the hypervisor has laid out the region there, for this guest.
        unsafe { main(&BY_VMMCALL, entered) }
    }
    // SAFETY: the hypervisor has entered this guest with the bit, and so handles this instruction.
    let trap = unsafe { Out::new() };
    let entered = Entered { mode, region, trap, bare: bare_out, ticks };
    // SAFETY: the hypervisor has laid out the region there, for this guest.
    unsafe { main(&BY_OUT, entered) }
}

/// A hypercall that the hypervisor does not know.
fn bare_vmmcall() {
    // SAFETY: the hypervisor changes RAX only.
    unsafe { asm!("vmmcall", inout("rax") 0_u64 => _, options(nostack)) }
}

/// The same by a port.
fn bare_out() {
    // SAFETY: the hypervisor changes RAX only.
    unsafe { asm!("out dx, eax", in("dx") PORT, inout("rax") 0_u64 => _, options(nostack)) }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    if BY_PORT_IS_SET.load(Ordering::Relaxed) {
        // SAFETY: the hypervisor handles this instruction if the static is set.
        exit(&unsafe { Out::<PORT>::new() }, abi::exit::PANICKED)
    }
    // SAFETY: the hypervisor handles this instruction if the static is not set.
    exit(&unsafe { Vmmcall::new() }, abi::exit::PANICKED)
}

//! A hypervisor on a processor with SVM, whose guests talk to it by `vmffi` only: once by `vmmcall`, and once by `out`.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod boot;
mod glue;
mod platform;
mod svm;

use core::fmt;

use glue::{Method, SvmVcpu};
use platform::{exit, fail, print};
use suite::{
    LAYOUT,
    host::{Platform, Storage},
};
use vmffi::RegionMemory;

/// The guest's program, as its memory begins.
static IMAGE: &[u8] = include_bytes!(env!("GUEST_GUEST"));

/// In the mode of a guest that traps by `out`, to the port 0x5658.
const BY_PORT: u64 = 1 << 63;

/// Guests that trap by one method.
struct Guests(Method);

impl Platform for Guests {
    type Vcpu = SvmVcpu;

    fn print(line: fmt::Arguments<'_>) {
        print(line);
    }

    fn machine(&mut self, slot: usize, mode: u64) -> (SvmVcpu, RegionMemory) {
        let mode = match self.0 {
            Method::Vmmcall => mode,
            Method::Out(_) => mode | BY_PORT,
        };
        SvmVcpu::load(slot, IMAGE, mode, self.0, &LAYOUT)
    }

    fn address_of_host(&self) -> u64 {
        (&raw const IMAGE).addr() as u64
    }
}

/// Boot code calls it, once.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    static STORAGE: [Storage<SvmVcpu>; 2] = [const { Storage::new() }; 2];
    boot::report_exceptions();
    if let Err(problem) = svm::enable() {
        fail(format_args!("{problem}"));
    }
    print(format_args!("guests that trap by vmmcall"));
    let failed = suite::host::main(&mut Guests(Method::Vmmcall), &STORAGE[0]);
    print(format_args!("guests that trap by out"));
    let failed_by_port = suite::host::main(&mut Guests(Method::Out(0x5658)), &STORAGE[1]);
    exit(failed == 0 && failed_by_port == 0)
}

//! A hypervisor on a processor with SVM, whose guests talk to it by `vmffi` only: once by `vmmcall`, and once by `out`.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod boot;
mod glue;
mod isolation;
#[path = "../guest/src/mode.rs"]
mod mode;
mod platform;
mod svm;

use core::fmt;

use glue::{Method, SvmVcpu};
use mode::{BY_PORT, PORT};
use platform::{exit, fail, print};
use suite::{
    LAYOUT,
    host::{Platform, Storage},
};
use vmffi::RegionMemory;

/// The guest's program, as its memory begins.
static IMAGE: &[u8] = include_bytes!(env!("GUEST_GUEST"));

/// Loads a guest that traps by `method` into a slot.
fn guest(slot: usize, mode: u64, method: Method) -> (SvmVcpu, RegionMemory) {
    let mode = match method {
        Method::Vmmcall => mode,
        Method::Out(_) => mode | BY_PORT,
    };
    SvmVcpu::load(slot, IMAGE, mode, method, &LAYOUT)
}

/// Guests that trap by one method, for the suite.
struct Guests(Method);

impl Platform for Guests {
    type Vcpu = SvmVcpu;

    // A bare trap takes few: one instruction of this processor switches most of a guest's state.
    const CALL_LIMIT: u64 = 3;

    fn print(line: fmt::Arguments<'_>) {
        print(line);
    }

    fn machine(&mut self, slot: usize, mode: u64) -> (SvmVcpu, RegionMemory) {
        guest(slot, mode, self.0)
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
    let mut failed = 0;
    for (method, storage) in [Method::Vmmcall, Method::Out(PORT)].into_iter().zip(&STORAGE) {
        print(format_args!("guests that trap by {method}"));
        failed += suite::host::main(&mut Guests(method), storage);
        failed += isolation::check(method);
    }
    exit(failed == 0)
}

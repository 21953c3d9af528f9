//! A hypervisor at EL2, with guests at EL1 that talk to it by `vmffi`.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod glue;
mod platform;

use core::{
    fmt::{self, Write as _},
    panic::PanicInfo,
};

use glue::{SlotMemory, machine};
use platform::{Machine, Uart, exit};
use suite::{
    conformance::{self, mode},
    host::{Platform, Storage},
};
use vmffi::RegionMemory;

/// The hypervisor's ends of both guests.
static STORAGE: Storage<Machine> = Storage::new();

/// This architecture, for the suite.
struct Aarch64;

impl Platform for Aarch64 {
    type Vcpu = Machine;

    fn print(line: fmt::Arguments<'_>) {
        let _ = writeln!(Uart, "{line}");
    }

    fn machine(&mut self, slot: usize, mode: u64) -> (Machine, RegionMemory) {
        machine(slot, mode)
    }

    fn address_of_host(&self) -> u64 {
        platform::OWN_MEMORY
    }
}

/// Where the boot code goes.
#[unsafe(no_mangle)]
extern "C" fn hypervisor() -> ! {
    // SAFETY: the boot code calls this once, with the MMU off.
    unsafe { platform::start() };
    let mut failed = suite::host::main(&mut Aarch64, &STORAGE);
    failed += conformance();
    exit(failed)
}

/// The checks of this architecture. Returns how many have failed.
fn conformance() -> u32 {
    let print = Aarch64::print;
    let (guest, other) = (machine(0, mode::CONFORMS).0, || machine(1, mode::DISTURBS).0);
    let mut failed = conformance::answers(print, guest, other, &SlotMemory(0), 19);
    for (name, mode, address) in [
        ("a guest that reads the hypervisor's memory", mode::READS, platform::OWN_MEMORY),
        ("a guest that writes there", mode::WRITES, platform::OWN_MEMORY),
        ("a guest that reads the other guest's memory", mode::READS, platform::slot_address(1)),
        ("a guest that reads a device", mode::READS, platform::UART),
        ("a guest that reads behind its region", mode::READS, platform::REGION + (1 << 20)),
        ("a guest that reads outside of the address space", mode::READS, 1 << 40),
        ("a guest that writes to the header of its region", mode::WRITES, platform::REGION),
        ("a guest that executes its region", mode::EXECUTES, platform::REGION + 0x1000),
    ] {
        failed += conformance::ends(print, name, machine(0, mode | address << 8).0);
    }
    failed
}

/// Where exceptions of the hypervisor itself go.
#[unsafe(no_mangle)]
extern "C" fn hypervisor_fault(syndrome: u64, pc: u64, address: u64) -> ! {
    let at = "the hypervisor faulted";
    let _ = writeln!(Uart, "{at}: ESR {syndrome:#x} at {pc:#x}, address {address:#x}");
    exit(100)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Uart, "{info}");
    exit(101)
}

//! A host in M-mode, with guests in S-mode, and then a hypervisor in HS-mode, with guests in VS-mode. They talk by `vmffi`.
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
use platform::{Machine, Mode, Place, Uart, exit};
use suite::{
    conformance::{self, mode},
    host::{Platform, Storage},
};
use vmffi::RegionMemory;

/// The host's ends of both guests.
static STORAGE: Storage<Machine> = Storage::new();

/// This architecture, for the suite, and the mode in which the host runs.
struct Riscv64(Mode);

impl Platform for Riscv64 {
    type Vcpu = Machine;

    /// SBI lets two registers come back, so that the words are in a frame in memory, which is copied both ways.
    const CALL_LIMIT: u64 = 4;

    fn print(line: fmt::Arguments<'_>) {
        let _ = writeln!(Uart, "{line}");
    }

    fn machine(&mut self, slot: usize, mode: u64) -> (Machine, RegionMemory) {
        machine(Place { mode: self.0, slot }, mode)
    }

    fn address_of_host(&self) -> u64 {
        platform::OWN_MEMORY
    }
}

/// Where the boot code goes first. Returns the number of checks that have failed.
#[unsafe(no_mangle)]
extern "C" fn host_in_machine_mode() -> u32 {
    let _ = writeln!(Uart, "a host in M-mode, with guests in S-mode");
    if !platform::has_hypervisor_extension() {
        let _ = writeln!(Uart, "the processor does not have the hypervisor extension");
        exit(102);
    }
    host(Mode::Machine)
}

/// Where it goes then, in HS-mode.
#[unsafe(no_mangle)]
extern "C" fn host_in_hypervisor_mode(failed: u32) -> ! {
    let _ = writeln!(Uart, "a host in HS-mode, with guests in VS-mode");
    exit(failed + host(Mode::Hypervisor))
}

fn host(mode: Mode) -> u32 {
    let failed = suite::host::main(&mut Riscv64(mode), &STORAGE);
    failed + conformance(mode)
}

/// The checks of this architecture. Returns how many have failed.
fn conformance(mode: Mode) -> u32 {
    let [first, second] = [0, 1].map(|slot| Place { mode, slot });
    let print = Riscv64::print;
    let (guest, other) = (machine(first, mode::CONFORMS).0, || machine(second, mode::DISTURBS).0);
    let mut failed = conformance::answers(print, guest, other, &SlotMemory(first), 19);
    let region = platform::region_address(first);
    for (name, mode, address) in [
        ("a guest that reads the host's memory", mode::READS, platform::OWN_MEMORY),
        ("a guest that writes there", mode::WRITES, platform::OWN_MEMORY),
        ("a guest that reads the other guest's memory", mode::READS, platform::slot_address(1)),
        ("a guest that reads a device", mode::READS, platform::UART),
        ("a guest that reads behind its region", mode::READS, region + (1 << 20)),
        ("a guest that reads outside of the address space", mode::READS, 1 << 45),
        ("a guest that writes to the header of its region", mode::WRITES, region),
        ("a guest that executes its region", mode::EXECUTES, region + 0x1000),
        ("a frame in the host's memory", mode::FRAME, platform::OWN_MEMORY),
        ("a frame in the other guest's memory", mode::FRAME, platform::slot_address(1)),
        ("a frame in the host's arena", mode::FRAME, region + suite::LAYOUT.len() - 32),
        ("a frame that is not aligned", mode::FRAME, platform::slot_address(0) + 8),
    ] {
        failed += conformance::ends(print, name, machine(first, mode | address << 8).0);
    }
    failed
}

/// Where exceptions of the host itself go.
#[unsafe(no_mangle)]
extern "C" fn host_fault(cause: u64, pc: u64, address: u64) -> ! {
    let _ = writeln!(Uart, "the host faulted: cause {cause} at {pc:#x}, address {address:#x}");
    exit(100)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Uart, "{info}");
    exit(101)
}

//! Programs that are loaded in other ways, or cannot be loaded.

use std::{fs, path::Path};

use vmffi::{
    host::{FaultCause, GuestExit, RunOutcome},
    machine::{Image, MachineBuilder, MachineError},
};

use super::{
    Case,
    connection::{On, machine, program},
    host::Host,
    shared::{
        self,
        control::{ControlClient, Crime},
        native,
    },
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(On)| Case::new(name, On::is_new_machine, run);
    vec![
        case("a_position_independent_guest", anywhere),
        case("a_guest_with_packed_relocations", packed),
        case("an_entry_at_the_end_of_the_code", last_byte),
        case("an_entry_among_zeros", zeros),
        case("more_memory_than_the_machine_has", too_much),
        case("sizes_that_no_machine_has", sizes),
        case("a_stack_that_is_small", small_stack),
    ]
}

fn anywhere(on: On) {
    works_anywhere(on, &program("anywhere"));
}

/// A linker that does not know packed relocations links this program like the one above.
fn packed(on: On) {
    let file = program("packed");
    const DT_RELR: [u8; 8] = 36_u64.to_le_bytes();
    if !fs::read(&file).unwrap().chunks_exact(8).any(|word| word == DT_RELR) {
        println!("the linker does not pack relocations");
    }
    works_anywhere(on, &file);
}

fn works_anywhere(on: On, file: &Path) {
    let image = Image::open(file).unwrap();
    let machine = MachineBuilder::new(&image).arenas(1 << 20, 1 << 20);
    let host = machine.build(on.backend(), Host::default()).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
    let control = ControlClient::from(host.guest());
    for nr in 0.. {
        let Some(check) = shared::check(nr) else { break };
        shared::run(check, host.guest());
        assert_eq!(control.check(nr), Ok(()), "{:?}", host.guest_exit());
    }
    let code = control.code().unwrap();
    control.commit(Crime::Undefined, 0).unwrap_err();
    let Some(GuestExit::Fault(fault)) = host.guest_exit() else {
        panic!("{:?}", host.guest_exit())
    };
    let (symbol, offset) = fault.symbol.unwrap();
    assert!(symbol.ends_with("crimes::undefined"), "{symbol}");
    assert_eq!(fault.instruction, code + offset);
    assert!(code >= 0x4000_0000, "{code:#x} is not the address that it was linked at");
}

/// The guest with another entry point, and zeros at the end of its code: the image, and the entry.
fn entering(entry: impl FnOnce(u64) -> u64) -> (Image, u64) {
    let mut file = fs::read(program("fixed")).unwrap();
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let header = (64..).step_by(56).find(|at| word(*at) == 1 | 5 << 32).unwrap();
    let (in_file, len) = (header + 32, word(header + 32));
    let entry = entry(word(header + 16) + len);
    file[in_file..in_file + 8].copy_from_slice(&(len - 64).to_le_bytes());
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    (Image::parse(&file).unwrap(), entry)
}

/// The machine is made or refused, and all faults of its guest are reported.
fn last_byte(on: On) {
    let (image, _) = entering(|end| end.next_multiple_of(4096) - 1);
    let Ok(host) = MachineBuilder::new(&image).build(on.backend(), Host::default()) else { return };
    let ran = host.run();
    assert!(ran.is_err(), "{ran:?}");
    assert!(matches!(host.guest_exit(), Some(GuestExit::Fault(_))), "{:?}", host.guest_exit());
}

fn zeros(on: On) {
    let (image, entry) = entering(|end| end - 64);
    let host = MachineBuilder::new(&image).build(on.backend(), Host::default()).unwrap();
    host.run().unwrap_err();
    let Some(GuestExit::Fault(fault)) = host.guest_exit() else {
        panic!("{:?}", host.guest_exit())
    };
    let (number, address) = native::ZEROS;
    assert_eq!((fault.cause, fault.address), (FaultCause::Exception(number), address), "{fault}");
    assert_eq!(fault.instruction, entry);
}

#[track_caller]
fn refused(machine: &MachineBuilder, on: On) {
    match machine.build(on.backend(), Host::default()) {
        Err(MachineError::Config(_) | MachineError::Region(_)) => {}
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("the machine was made"),
    }
}

fn too_much(on: On) {
    let mut file = fs::read(program("fixed")).unwrap();
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let mut loads = (64..64 + 56 * 8).step_by(56).filter(|at| word(*at) == 1 | 6 << 32);
    let header = loads.next_back().unwrap();
    file[header + 40..header + 48].copy_from_slice(&(32_u64 << 30).to_le_bytes());
    let image = Image::parse(&file).unwrap();
    let machine = MachineBuilder::new(&image).arenas(1 << 20, 1 << 20);
    refused(&machine, on);
    // With enough memory the guest starts, and uses none of it.
    let host = machine.memory(40 << 30).build(on.backend(), Host::default()).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
}

fn sizes(on: On) {
    refused(&machine().arenas(0, 1 << 20), on);
    refused(&machine().arenas(u64::MAX, u64::MAX), on);
    refused(&machine().stack(u64::MAX), on);
    refused(&machine().stack(1 << 40), on);
    refused(&machine().memory(1 << 20), on);
    refused(&machine().memory(0), on);
}

fn small_stack(on: On) {
    let host = machine().stack(0).build(on.backend(), Host::default()).unwrap();
    // A stack of one page may be too small for the guest's startup: then the overflow is reported.
    match host.run() {
        Ok(RunOutcome::Ready) => assert_eq!(ControlClient::from(host.guest()).sum(1), Ok(1)),
        _ => {
            let Some(GuestExit::Fault(fault)) = host.guest_exit() else {
                panic!("{:?}", host.guest_exit())
            };
            assert_eq!(fault.cause, FaultCause::StackOverflow, "{fault}");
        }
    }
    let host =
        machine().stack(1 << 30).memory(2 << 30).build(on.backend(), Host::default()).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
}

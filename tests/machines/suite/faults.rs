//! Operations that are denied to a guest (ABI, Boot block B-4), and how its host sees them.

use vmffi::host::{Fault, FaultCause, GuestExit, ProtocolViolation};

use super::{
    Case,
    connection::{Connection, On},
    host::Host,
    shared::{control::Crime, native},
};

/// The address of the region in a guest, and one at which only a trap is valid.
const REGION: u64 = 0x10_0000_0000;
const DOORBELL: u64 = 0x200_0000_0000;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut fault = |name: &str, run: fn(On)| cases.push(Case::new(name, On::is_machine, run));

    fault("reads_null", |on| page_fault(on, Crime::Read, |_| 0, "reads"));
    fault("reads_unmapped_memory", |on| page_fault(on, Crime::Read, |_| 0x7000_0123, "reads"));
    fault("reads_after_the_region", |on| {
        page_fault(on, Crime::Read, |_| REGION + (1 << 30), "reads")
    });
    fault("reads_the_hosts_half", |on| {
        for place in [0xffff_ff80_0000_0000, 0xffff_ffff_8100_0000] {
            page_fault(on, Crime::Read, |_| place, "reads");
        }
    });
    fault("writes_its_code", |on| {
        page_fault(on, Crime::Write, |guest| guest.control().code().unwrap(), "writes");
    });
    fault("writes_the_regions_header", |on| page_fault(on, Crime::Write, |_| REGION, "writes"));
    fault("writes_the_hosts_arena", |on| page_fault(on, Crime::Write, place, "writes"));
    fault("jumps_nowhere", jumps);
    fault("runs_the_hosts_arena", runs_data);
    fault("an_undefined_instruction", undefined);
    if native::DIVIDE.is_some() {
        fault("divides_by_zero", |on| {
            exception(on, Crime::Divide, 0, native::DIVIDE.unwrap(), "divides")
        });
    }
    if native::NO_ADDRESS.is_some() {
        fault("a_non_canonical_address", |on| {
            exception(on, Crime::Read, 1 << 63, native::NO_ADDRESS.unwrap(), "reads")
        });
    }
    if native::HALT.is_some() {
        fault("halts", |on| exception(on, Crime::Halt, 0, native::HALT.unwrap(), "halts"));
    }
    fault("reads_behind_all_addresses", |on| page_fault(on, Crime::Read, |_| 1 << 46, "reads"));
    fault("breakpoint", |on| exception(on, Crime::Breakpoint, 0, native::BREAKPOINT, "breaks"));
    fault("overflows_its_stack", overflows);
    fault("calls_the_system", calls_the_system);
    fault("rings_with_four_bytes", |on| access(on, Crime::Narrow, DOORBELL));
    fault("rings_beside_the_doorbell", |on| access(on, Crime::Chatter, DOORBELL + 8));
    fault("reads_the_doorbell", |on| access(on, Crime::Read, DOORBELL));
    fault("rings_with_an_unknown_kind", nonsense);
    fault("may_read_the_hosts_arena", may_read);
    cases
}

/// The guest commits the crime, which ends it.
fn commits(on: On, crime: Crime, place: impl FnOnce(&Connection) -> u64) -> (GuestExit, u64) {
    let guest = Connection::new(on, Host::default());
    let place = place(&guest);
    let error = guest.control().commit(crime, place).unwrap_err();
    let end = guest.end().expect("the guest has ended");
    // As its user sees it.
    println!("{on}: {end}");
    assert_eq!((error.kind(), error.reached()), (end.kind(), true), "{end}");
    let error = guest.control().sum(1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (end.kind(), false));
    assert_eq!(guest.guest().arena_stats().blocks, 0, "its loans have ended");
    (end, place)
}

#[track_caller]
fn faulted(on: On, crime: Crime, place: impl FnOnce(&Connection) -> u64) -> (Fault, u64) {
    match commits(on, crime, place) {
        (GuestExit::Fault(fault), place) => (fault, place),
        (end, _) => panic!("{end:?}"),
    }
}

/// The text for people names the function in which the fault occurred.
#[track_caller]
fn in_function(fault: &Fault, name: &str) {
    let Some((symbol, offset)) = &fault.symbol else { panic!("{fault:?}") };
    assert!(symbol.ends_with(&format!("crimes::{name}")), "{fault:?}");
    let text = fault.to_string();
    assert!(text.contains(&format!("(`{symbol}` + {offset:#x})")), "{text}");
    assert!(text.contains(&format!("{:#x}", fault.instruction)), "{text}");
}

#[track_caller]
fn page_fault(on: On, crime: Crime, place: impl FnOnce(&Connection) -> u64, function: &str) {
    let number = match crime {
        Crime::Write => native::WRITE_FAULT,
        _ => native::READ_FAULT,
    };
    let (fault, place) = faulted(on, crime, place);
    assert_eq!(
        (fault.cause, fault.address),
        (FaultCause::Exception(number), Some(place)),
        "{fault}"
    );
    in_function(&fault, function);
    let text = format!("{} at address {place:#x}", fault.cause);
    assert!(fault.to_string().contains(&text) && !text.contains("exception"), "{fault}");
}

#[track_caller]
fn exception(on: On, crime: Crime, place: u64, vector: u8, function: &str) {
    let (fault, _) = faulted(on, crime, |_| place);
    assert_eq!((fault.cause, fault.address), (FaultCause::Exception(vector), None), "{fault}");
    in_function(&fault, function);
}

fn access(on: On, crime: Crime, place: u64) {
    let (end, _) = commits(on, crime, |_| place);
    assert!(
        end == GuestExit::Protocol(ProtocolViolation::Access { at: place })
            || not_mapped(&end, place),
        "{end:?}"
    );
}

/// If the guest does not trap by the doorbell, it has none.
fn not_mapped(end: &GuestExit, place: u64) -> bool {
    matches!(
        end,
        GuestExit::Fault(Fault { cause: FaultCause::Exception(native::READ_FAULT | native::WRITE_FAULT), address, .. })
            if *address == Some(place)
    )
}

/// An address in the host's arena.
fn place(guest: &Connection) -> u64 {
    let place = guest.control().place(b"\xc3 is a return").unwrap();
    assert!((REGION + (1 << 20)..REGION + (3 << 20)).contains(&place), "{place:#x}");
    place
}

fn jumps(on: On) {
    let (fault, place) = faulted(on, Crime::Jump, |_| 0x7000_0124);
    let cause = FaultCause::Exception(native::EXECUTE_FAULT);
    assert_eq!((fault.cause, fault.address), (cause, Some(place)), "{fault}");
    assert_eq!((fault.instruction, &fault.symbol), (place, &None));
}

fn runs_data(on: On) {
    let (fault, place) = faulted(on, Crime::Jump, place);
    let cause = FaultCause::Exception(native::EXECUTE_FAULT);
    assert_eq!((fault.cause, fault.address), (cause, Some(place)), "{fault}");
    assert_eq!((fault.instruction, &fault.symbol), (place, &None));
}

fn undefined(on: On) {
    let (fault, code) = faulted(on, Crime::Undefined, |guest| guest.control().code().unwrap());
    assert_eq!(
        (fault.cause, fault.address),
        (FaultCause::Exception(native::INVALID), None),
        "{fault}"
    );
    in_function(&fault, "undefined");
    let offset = fault.symbol.as_ref().unwrap().1;
    assert_eq!(fault.instruction, code + offset, "the address that the guest reports");
}

fn overflows(on: On) {
    let (fault, _) = faulted(on, Crime::Overflow, |_| 0);
    assert_eq!(fault.cause, FaultCause::StackOverflow, "{fault}");
    assert!(fault.address.is_some());
    in_function(&fault, "overflows");
}

fn calls_the_system(on: On) {
    let (fault, _) = faulted(on, Crime::SystemCall, |_| 0);
    if on.is_kvm() && fault.instruction == 0 {
        // Some implementations of KVM ignore EFER: then the instruction jumps to address 0, which is
        // not mapped.
        assert_eq!(
            (fault.cause, fault.address),
            (FaultCause::Exception(native::EXECUTE_FAULT), Some(0)),
            "{fault}"
        );
        return;
    }
    let cause = if on.is_kvm() {
        FaultCause::Exception(native::SYSTEM_CALL)
    } else {
        FaultCause::SystemCall(native::NUMBER)
    };
    assert_eq!((fault.cause, fault.address), (cause, None), "{fault}");
    in_function(&fault, "calls_the_system");
}

fn nonsense(on: On) {
    let (end, _) = commits(on, Crime::Chatter, |_| DOORBELL);
    let unknown = GuestExit::Protocol(match native::FRAMES {
        true => ProtocolViolation::Access { at: DOORBELL },
        false => ProtocolViolation::Order(0x1234),
    });
    assert!(end == unknown || not_mapped(&end, DOORBELL), "{end:?}");
}

fn may_read(on: On) {
    let guest = Connection::new(on, Host::default());
    let place = place(&guest);
    assert_eq!(guest.control().commit(Crime::Read, place), Ok(()));
    assert_eq!(guest.end(), None);
}

//! Operations that the processor or the system denies to a guest. Each ends the guest, with its cause and its address.

use vmffi::{
    ErrorKind,
    abi::Side,
    host::{Fault, FaultCause, GuestExit, ProtocolViolation},
};

use super::{
    Came, Case,
    connection::{DOORBELL, NOWHERE, On, REGION, SUPERVISOR, Setup, Target, fault},
    list::{List, at, deed},
    native,
    ops::{At, Base, Deed, Op},
};

/// The expected end.
#[derive(Clone, Copy, Debug)]
pub enum Dies {
    /// An exception of this number, and the address.
    Exception(u8, Option<u64>),
    /// A page fault of any kind at this address.
    Page(u64),
    /// A page fault of which this is true.
    PageFault(fn(&Fault) -> bool),
    StackOverflow,
    SystemCall(u64),
    /// An invalid access where a trap would be.
    Access(u64),
    /// A trap of a kind that is invalid there.
    Order(u64),
}

/// Where the stack of the first vCPU is.
const STACK_AT: u64 = 0x100_0000_1000;

/// A page fault at this address.
pub const fn page(address: u64) -> Dies {
    Dies::Page(address)
}

/// An undefined instruction.
pub const UNDEFINED: Dies = Dies::Exception(native::UNDEFINED, None);

impl Dies {
    /// A page fault at any address.
    pub const ANY_PAGE: Self = Self::PageFault(|fault| fault.address.is_some());

    fn is(self, end: &GuestExit) -> bool {
        match (self, end) {
            (Self::Exception(vector, address), GuestExit::Fault(fault)) => {
                (fault.cause, fault.address) == (FaultCause::Exception(vector), address)
            }
            (Self::Page(address), GuestExit::Fault(fault)) => {
                is_page_fault(fault.cause) && fault.address == Some(address)
            }
            (Self::PageFault(is), GuestExit::Fault(fault)) => {
                is_page_fault(fault.cause) && is(fault)
            }
            (Self::StackOverflow, GuestExit::Fault(fault)) => {
                fault.cause == FaultCause::StackOverflow && fault.address.is_some()
            }
            (Self::SystemCall(number), GuestExit::Fault(fault)) => {
                (fault.cause, fault.address) == (FaultCause::SystemCall(number), None)
            }
            (Self::Access(at), GuestExit::Protocol(broken)) => {
                *broken == ProtocolViolation::Access { at }
            }
            (Self::Order(kind), GuestExit::Protocol(broken)) => {
                *broken == ProtocolViolation::Order(kind)
            }
            _ => false,
        }
    }
}

pub fn is_page_fault(cause: FaultCause) -> bool {
    matches!(cause, FaultCause::Exception(number) if native::PAGE_FAULTS.contains(&number))
}

/// Executes a list that must end the guest in one of these ways.
#[track_caller]
pub fn dies(target: &Target, list: &List, ends: &[Dies]) -> Came {
    let error = target.told().does(list.bytes()).expect_err("the guest has ended");
    died(target, ends, error.kind(), error.reached())
}

/// The call in progress has failed with the error for this end of the guest.
#[track_caller]
pub fn died(target: &Target, ends: &[Dies], why: ErrorKind, reached: bool) -> Came {
    let end = target.end().expect("the guest has ended");
    assert!(ends.iter().any(|dies| dies.is(&end)), "{end:?} is not {ends:x?}");
    assert_eq!((why, reached), (end.kind(), true));
    Came::Ended(says(&end))
}

/// The text of an end, for the table.
pub fn says(end: &GuestExit) -> String {
    match end {
        GuestExit::Fault(of) => format!("`PeerDied`: {}", fault(of)),
        GuestExit::Protocol(_) => format!("`Protocol`: {end}"),
        end => format!("`{:?}`: {end}", end.kind()),
    }
}

/// The address of the guest's first instruction.
fn code() -> u64 {
    let file = super::connection::file();
    u64::from_le_bytes(file[24..32].try_into().unwrap())
}

/// An attack, and its expected end in a virtual machine and in a process.
pub type Row = (&'static str, List, Vec<Dies>, Vec<Dies>);

/// The same in both.
pub fn row(name: &'static str, list: List, dies: Dies) -> Row {
    (name, list, vec![dies], vec![dies])
}

/// One of the first in a virtual machine, one of the second in a process: processors and hypervisors differ.
pub fn either(name: &'static str, list: List, kvm: &[Dies], process: &[Dies]) -> Row {
    (name, list, kvm.into(), process.into())
}

fn rows() -> Vec<Row> {
    let value = |what, value| deed(what, at(0), value);
    let place = |what, place| deed(what, at(place), 0);
    let host = REGION + Setup::PLAIN.layout().arena(Side::Host).0;
    let behind = REGION + Setup::PLAIN.layout().len();
    let mut rows = vec![
        row("a_jump_to_unmapped_memory", place(Deed::Jump, NOWHERE & !7), page(NOWHERE & !7)),
        row("a_call_of_unmapped_memory", place(Deed::Call, NOWHERE & !7), page(NOWHERE & !7)),
        row("a_jump_to_null", place(Deed::Jump, 0), page(0)),
        row("a_jump_into_the_region", place(Deed::Jump, REGION + 0x5000), page(REGION + 0x5000)),
        row("a_jump_into_the_hosts_arena", place(Deed::Jump, host), page(host)),
        row("a_jump_to_the_doorbell", place(Deed::Jump, DOORBELL), page(DOORBELL)),
        row("a_stack_overflow", value(Deed::Overflow, 0), Dies::StackOverflow),
        // Without probes, a function with a large frame touches its end first.
        row(
            "a_stack_overflow_by_sixteen_pages",
            place(Deed::Store8, STACK_AT - 0x1_0000),
            Dies::StackOverflow,
        ),
        row(
            "a_stack_overflow_by_a_mebibyte",
            place(Deed::Store8, STACK_AT - 0x10_0000),
            Dies::StackOverflow,
        ),
        row(
            "a_write_below_the_guard_of_a_stack",
            place(Deed::Store8, STACK_AT - 0x10_0008),
            page(STACK_AT - 0x10_0008),
        ),
        row("an_undefined_instruction", value(Deed::Undefined, 0), UNDEFINED),
        row("a_fault_without_a_stack", value(Deed::NoStack, 0), UNDEFINED),
        row("a_write_to_null", place(Deed::Store8, 0), page(0)),
        row("a_write_to_its_code", deed(Deed::Store1, At(Base::Code, 0), 0x90), page(code())),
        row("a_write_to_the_header", place(Deed::Store8, REGION), page(REGION)),
        row("a_write_to_the_hosts_arena", place(Deed::Store8, host), page(host)),
        row("a_locked_write_to_the_hosts_arena", place(Deed::Add, host), page(host)),
        row("a_write_across_into_the_hosts_arena", place(Deed::Store16, host - 8), page(host)),
        row("a_write_after_the_region", place(Deed::Store8, behind), page(behind)),
        row("a_read_after_the_region", List::new().op(Op::Read { at: at(behind) }), page(behind)),
        row("a_write_to_descriptor_tables", place(Deed::Store8, SUPERVISOR), page(SUPERVISOR)),
        row(
            "a_write_to_interrupt_gates",
            place(Deed::Store8, SUPERVISOR + 0x1000),
            page(SUPERVISOR + 0x1000),
        ),
        row(
            "a_write_to_the_hosts_stubs",
            place(Deed::Store8, SUPERVISOR + 0x2000),
            page(SUPERVISOR + 0x2000),
        ),
        row(
            "a_write_to_a_task_segment",
            place(Deed::Store8, SUPERVISOR + 0x4000),
            page(SUPERVISOR + 0x4000),
        ),
        row(
            "a_read_of_descriptor_tables",
            List::new().op(Op::Read { at: at(SUPERVISOR) }),
            page(SUPERVISOR),
        ),
        row(
            "a_jump_to_a_stub",
            place(Deed::Jump, SUPERVISOR + 0x2000 + 14 * 16),
            page(SUPERVISOR + 0x20e0),
        ),
        row(
            "a_jump_into_a_stub",
            place(Deed::Jump, SUPERVISOR + 0x2000 + 14 * 16 + 8),
            page(SUPERVISOR + 0x20e8),
        ),
        row(
            "a_write_to_the_host_kernel",
            place(Deed::Store8, 0xffff_ffff_8100_0000),
            page(0xffff_ffff_8100_0000),
        ),
        row(
            "a_write_to_the_direct_map",
            place(Deed::Store8, 0xffff_8880_0000_0000),
            page(0xffff_8880_0000_0000),
        ),
    ];
    rows.extend(native::rows());
    rows
}

/// A write where the frame of a function would end that runs on the second vCPU, whose stack is above the first one's.
fn second_stack(target: &Target) -> Came {
    let first_end = STACK_AT + Setup::PLAIN.stack;
    let overflow = |below: u64| deed(Deed::Store8, at(first_end + (1 << 20) - below), 0);
    for below in [8, 4096, 64 << 10] {
        dies(target, &overflow(below), &[Dies::StackOverflow]);
        target.assert_ended();
        assert_eq!(target.host.reset(), Ok(()));
    }
    dies(target, &overflow(1 << 20), &[Dies::StackOverflow])
}

/// Probes for page tables: every address where nothing of the guest is mapped. One guest for each.
fn guesses(on: On) -> String {
    let mut tried = 0;
    let places = (12..47).map(|bit| 1_u64 << bit).chain((12..47).map(|bit| !0 << bit));
    // Its stacks, its doorbell, its region and its image are the guest's own.
    let own = [REGION, 0x100_0000_0000, DOORBELL];
    for place in
        places.filter(|place| !own.contains(place) && !(0x1_0000..0x100_0000).contains(place))
    {
        let target = Target::new(on, &Setup::PLAIN);
        dies(&target, &deed(Deed::Store8, at(place), u64::MAX), &[page(place)]);
        target.assert_treasure();
        tried += 1;
    }
    format!("`PeerDied`: a page fault at each of {tried}")
}

/// Changes of registers that belong to the guest, and are permitted.
fn registers(target: &Target) -> Came {
    for value in [0, 0x0123_4567_89ab_cdef, u64::MAX] {
        assert_eq!(target.does(&deed(Deed::Vectors, at(0), value)), 0);
        target.assert_works();
    }
    Came::Lives("no harm, calls work as before".into())
}

/// Executes a list that either has no effect or ends the guest.
pub fn lives_or_dies(target: &Target, list: &List, ends: &[Dies]) -> Came {
    match target.told().does(list.bytes()) {
        Ok(_) => {
            target.assert_works();
            Came::Lives("no harm, calls work as before".into())
        }
        Err(error) => {
            let came = died(target, ends, error.kind(), error.reached());
            target.assert_ended();
            came
        }
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = rows()
        .into_iter()
        .map(|(name, list, kvm, process)| {
            Case::new(name, move |target| {
                dies(target, &list, if target.on.is_kvm() { &kvm } else { &process })
            })
        })
        .collect();
    cases.extend([
        Case::other("writes_all_over_the_address_space", guesses),
        Case::new("vector_registers", registers),
        Case::new("an_overflow_that_would_reach_the_stack_of_another_vcpu", second_stack)
            .with(|setup| setup.vcpus = 2),
    ]);
    cases
}

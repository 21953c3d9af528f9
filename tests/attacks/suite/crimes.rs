//! Operations that the processor or the system denies to a guest. Each ends the guest, with its cause and its address.

use vmffi::{
    ErrorKind,
    abi::Side,
    host::{FaultCause, GuestExit, ProtocolViolation},
};

use super::{
    Came, Case,
    connection::{DOORBELL, NOWHERE, On, REGION, SUPERVISOR, Setup, Target, fault},
    list::{List, at, deed},
    ops::{At, Base, Deed, Op},
};

/// The expected end.
#[derive(Clone, Copy, Debug)]
pub enum Dies {
    /// An exception of this vector, and for page faults the address.
    Exception(u8, Option<u64>),
    /// A page fault at the instruction itself: an outer kernel, or the hypervisor of this machine, has redirected
    /// the guest, or has tried to replace the instruction.
    AtItself,
    /// A page fault at any address.
    AnyPage,
    StackOverflow,
    SystemCall(u64),
    /// An invalid access where a trap would be.
    Access(u64),
    /// A trap of a kind that is invalid there.
    Order(u64),
}

/// A page fault at this address.
const fn page(address: u64) -> Dies {
    Dies::Exception(14, Some(address))
}

const GP: Dies = Dies::Exception(13, None);
const UD: Dies = Dies::Exception(6, None);

impl Dies {
    fn is(self, end: &GuestExit) -> bool {
        match (self, end) {
            (Self::Exception(vector, address), GuestExit::Fault(fault)) => {
                (fault.cause, fault.address) == (FaultCause::Exception(vector), address)
            }
            (Self::AtItself, GuestExit::Fault(fault)) => {
                (fault.cause, fault.address) == (FaultCause::Exception(14), Some(fault.instruction))
            }
            (Self::AnyPage, GuestExit::Fault(fault)) => {
                fault.cause == FaultCause::Exception(14) && fault.address.is_some()
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

/// Executes a list that must end the guest in one of these ways.
#[track_caller]
pub fn dies(target: &Target, list: &List, ends: &[Dies]) -> Came {
    let error = target.told().does(list.bytes()).expect_err("the guest has ended");
    died(target, ends, error.kind(), error.reached())
}

/// The call in progress has failed with the error for this end of the guest.
#[track_caller]
fn died(target: &Target, ends: &[Dies], why: ErrorKind, reached: bool) -> Came {
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
type Row = (&'static str, List, Vec<Dies>, Vec<Dies>);

/// The same in both.
fn row(name: &'static str, list: List, dies: Dies) -> Row {
    (name, list, vec![dies], vec![dies])
}

/// One of the first in a virtual machine, one of the second in a process: processors and hypervisors differ.
fn either(name: &'static str, list: List, kvm: &[Dies], process: &[Dies]) -> Row {
    (name, list, kvm.into(), process.into())
}

fn rows() -> Vec<Row> {
    let value = |what, value| deed(what, at(0), value);
    let place = |what, place| deed(what, at(place), 0);
    let host = REGION + Setup::PLAIN.layout().arena(Side::Host).0;
    let behind = REGION + Setup::PLAIN.layout().len();
    vec![
        row("a_jump_to_unmapped_memory", place(Deed::Jump, NOWHERE), page(NOWHERE)),
        row("a_call_of_unmapped_memory", place(Deed::Call, NOWHERE), page(NOWHERE)),
        row("a_jump_to_null", place(Deed::Jump, 0), page(0)),
        row("a_jump_to_no_address", place(Deed::Jump, 1 << 63), GP),
        row("a_jump_into_the_region", place(Deed::Jump, REGION + 0x5000), page(REGION + 0x5000)),
        row("a_jump_into_the_hosts_arena", place(Deed::Jump, host), page(host)),
        row("a_jump_to_the_doorbell", place(Deed::Jump, DOORBELL), page(DOORBELL)),
        row("a_stack_overflow", value(Deed::Overflow, 0), Dies::StackOverflow),
        row("a_division_by_zero", value(Deed::Divide, 0), Dies::Exception(0, None)),
        row("a_vector_division_by_zero", value(Deed::DivideFloat, 0), Dies::Exception(19, None)),
        row("an_unaligned_vector_access", deed(Deed::LoadAligned, At(Base::Boot, 8), 0), GP),
        row(
            "an_unaligned_access_that_is_checked",
            deed(Deed::Checked, At(Base::Boot, 1), 0),
            Dies::Exception(17, None),
        ),
        row("an_undefined_instruction", value(Deed::Undefined, 0), UD),
        row("a_breakpoint", value(Deed::Breakpoint, 0), Dies::Exception(3, None)),
        row("single_steps", value(Deed::Steps, 0), Dies::Exception(1, None)),
        row("int1", value(Deed::Icebp, 0), Dies::Exception(1, None)),
        row("a_fault_without_a_stack", value(Deed::NoStack, 0), UD),
        row("hlt", value(Deed::Halt, 0), GP),
        row("cli", value(Deed::Cli, 0), GP),
        row("sti", value(Deed::Sti, 0), GP),
        row("lgdt", value(Deed::Lgdt, 0), GP),
        row("lidt", value(Deed::Lidt, 0), GP),
        row("lldt", value(Deed::Lldt, 0), GP),
        row("ltr", value(Deed::Ltr, 0x20), GP),
        row("mov_cr0", value(Deed::Cr0, 0), GP),
        row("mov_cr3", value(Deed::Cr3, 0), GP),
        row("mov_cr4", value(Deed::Cr4, 0), GP),
        row("mov_dr7", value(Deed::Dr7, u64::MAX >> 32), GP),
        row("clts", value(Deed::Clts, 0), GP),
        // EFER, the base of GS, and a number without a register.
        row("wrmsr_efer", deed(Deed::Wrmsr, at(0xc000_0080), 0xd01), GP),
        row("wrmsr_gs_base", deed(Deed::Wrmsr, at(0xc000_0101), 1), GP),
        row("rdmsr", deed(Deed::Rdmsr, at(0xc000_0080), 0), GP),
        row("rdmsr_of_an_unknown_register", deed(Deed::Rdmsr, at(0x1234_5678), 0), GP),
        row("invlpg", place(Deed::Invlpg, REGION), GP),
        row("wbinvd", value(Deed::Wbinvd, 0), GP),
        row("swapgs", value(Deed::Swapgs, 0), GP),
        row("xsetbv", value(Deed::Xsetbv, 1), GP),
        // Without `syscall` enabled, this instruction is undefined as well.
        either("sysret", place(Deed::Sysret, REGION), &[UD, GP], &[GP]),
        either("sysexit", place(Deed::Sysexit, REGION), &[GP, UD], &[GP, UD]),
        row("iret_to_privilege", deed(Deed::Iret, at(SUPERVISOR + 0x2000), 8), GP),
        row("a_far_jump_to_privilege", deed(Deed::FarJump, at(SUPERVISOR + 0x2000), 8), GP),
        // In a process this selects a 32-bit code segment.
        either("a_far_jump_to_32_bits", deed(Deed::FarJump, at(0), 0x23), &[GP], &[page(0)]),
        row("mov_ds", value(Deed::LoadDs, 8), GP),
        row("mov_ss", value(Deed::LoadSs, 8), GP),
        // Not enabled in a virtual machine; in a process it is, if the processor has it, and denies the guest its own memory.
        either("wrpkru", value(Deed::Pkru, 3), &[UD], &[UD, Dies::AnyPage]),
        either("a_system_call", value(Deed::Syscall, 39), &[UD, page(0)], &[Dies::SystemCall(39)]),
        either(
            "a_system_call_that_ends_processes",
            value(Deed::Syscall, 231),
            &[UD, page(0)],
            &[Dies::SystemCall(231)],
        ),
        either(
            "an_unknown_system_call",
            value(Deed::Syscall, u64::MAX),
            &[UD, page(0)],
            &[Dies::SystemCall(u64::MAX)],
        ),
        either(
            "a_system_call_of_32_bits",
            value(Deed::Int80, 20),
            &[GP, UD],
            &[Dies::SystemCall(20)],
        ),
        either(
            "a_system_call_of_32_bits_by_code_of_32_bits",
            value(Deed::Compat, 20),
            &[GP],
            &[Dies::SystemCall(20)],
        ),
        either(
            "sysenter",
            value(Deed::Sysenter, 20),
            &[GP, UD],
            &[Dies::SystemCall(20), UD, Dies::AtItself],
        ),
        // The address of a vsyscall.
        either(
            "a_virtual_system_call",
            place(Deed::Call, 0xffff_ffff_ff60_0000),
            &[page(0xffff_ffff_ff60_0000)],
            &[page(0xffff_ffff_ff60_0000), Dies::SystemCall(96)],
        ),
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
        row("a_write_to_no_address", place(Deed::Store8, 1 << 63), GP),
        row("a_forged_report_of_an_exception", deed(Deed::Out4, at(0x600), 14), GP),
        row("a_forged_report_by_a_string", deed(Deed::OutString, at(0x600), 1), GP),
    ]
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

/// All vectors for which the host has stubs, and others.
fn interrupts(on: On) -> String {
    let vectors = (0..=33).chain([0x40, 0x7f, 0x81, 0xee, 0xff]);
    for vector in vectors {
        let target = Target::new(on, &Setup::PLAIN);
        let list = deed(Deed::Int, at(0), vector);
        if on.is_kvm() && vector != 3 {
            // The guest may not use any of these. If the virtual machine is itself emulated, the interrupt may reach the outer
            // system, or do nothing.
            let overflow = Dies::Exception(4, None);
            lives_or_dies(&target, &list, &[GP, UD, if vector == 4 { overflow } else { GP }]);
            continue;
        }
        // The kernel permits `int 3` and `int 4` to a guest, as processors have instructions for them.
        dies(
            &target,
            &list,
            &[if matches!(vector, 3 | 4) { Dies::Exception(vector as u8, None) } else { GP }],
        );
        target.assert_ended();
    }
    "`PeerDied`: general protection fault; vectors 3 and 4 as such".into()
}

/// Changes of registers that belong to the guest, and are permitted.
fn registers(target: &Target) -> Came {
    for value in [0, 0x0123_4567_89ab_cdef, u64::MAX] {
        assert_eq!(target.does(&deed(Deed::Vectors, at(0), value)), 0);
        target.assert_works();
    }
    Came::Lives("no harm, calls work as before".into())
}

/// System calls that the host's kernel denies itself, and instructions that the processor lacks or denies.
fn hypercalls(on: On) -> String {
    let mut came = Vec::new();
    for what in [Deed::Vmcall, Deed::Vmmcall] {
        let target = Target::new(on, &Setup::PLAIN);
        let text = lives_or_dies(&target, &deed(what, at(0), 1), &[UD, GP, Dies::AtItself]);
        target.assert_treasure();
        came.push(format!("{what:?}: {}", text.text()));
    }
    came.join("; ")
}

/// Executes a list that either has no effect or ends the guest.
fn lives_or_dies(target: &Target, list: &List, ends: &[Dies]) -> Came {
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

/// The base of FS belongs to the guest, if it can be set.
fn fs_base(target: &Target) -> Came {
    lives_or_dies(target, &deed(Deed::FsBase, at(0), 0x1234), &[UD])
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
        Case::other("interrupts_of_all_kinds", interrupts),
        Case::new("vector_registers", registers),
        Case::new("the_base_of_fs", fs_base),
        Case::other("hypercalls_of_other_hypervisors", hypercalls),
    ]);
    cases
}

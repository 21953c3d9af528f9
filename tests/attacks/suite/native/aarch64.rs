//! What the attacks know of aarch64.

use vmffi::{ErrorKind, host::GuestExit};

use std::time::Duration;

use super::{
    Came, Case,
    connection::{On, REGION, Setup, Target, ToldClient},
    crimes::{Dies, Row, died, dies, either, lives_or_dies, page, row, says},
    list::{List, at, deed},
    ops::{At, Base, Deed, Op},
};

/// Classes of exceptions: of an undefined instruction, and of aborts.
pub const UNDEFINED: u8 = 0;
pub const PAGE_FAULTS: [u8; 2] = [0x20, 0x24];

/// The registers that `Op::Jump` sets, in its order.
pub const GENERAL: usize = 31;
pub type General = [u64; GENERAL];

/// The condition flags. There are no single steps.
pub const PLAIN: u64 = 0;
pub const SINGLE_STEP: u64 = 0;
pub const OTHERS: u64 = 0xf000_0000;
pub const HARMLESS_FLAGS: [u64; 3] = [0xf000_0000, 0x4000_0000, 0x9000_0000];

/// Addresses in the gate (`src/machine/process/aarch64.rs`): the trap, its `svc`, the instruction after that, and `udf`.
const CALL: u64 = 0x1f0_0000_0100;
pub const TRAP: u64 = CALL + 0x18;
pub const SYSCALL: u64 = TRAP + 4;
pub const TRAPPED: u64 = TRAP + 8;
pub const UNHEARD: u64 = TRAPPED + 8 * 4;
/// Where the gate takes the answer from the host, and where it has found that it is no error.
pub const ANSWERS: [u64; 2] = [TRAPPED, TRAPPED + 8];
/// The address at which the gate reads after setting the signal mask, if its slot is at 0.
pub const AFTER_MASK: u64 = 64 + 104;
/// What is between instructions in the gate, and in which steps they begin.
pub const FILL: u8 = 0;
pub const STEP: u64 = 4;
/// `svc #0`.
pub const SYSTEM_CALL: [u8; 4] = [0x01, 0x00, 0x00, 0xd4];
/// The numbers of the system calls of a trap, of the signal stack and of the signal mask.
pub const NUMBERS: [u64; 3] = [124, 132, 135];
/// rt_sigprocmask, rt_sigreturn, sched_yield, exit, kill, exit_group, sigaltstack, tgkill, mmap, clone, execve.
pub const DENIED: [u64; 11] = [135, 139, 124, 93, 129, 94, 132, 131, 222, 220, 221];
/// The instruction of system calls.
pub const SYSTEM_CALLS: [Deed; 1] = [Deed::Syscall];
pub const PERHAPS_A_SYSTEM_CALL: Option<Deed> = None;
pub const STORES: [Deed; 7] = [
    Deed::Store1,
    Deed::Store8,
    Deed::Store16,
    Deed::Add,
    Deed::StorePair,
    Deed::StoreVector,
    Deed::StoreMultiple,
];
/// Deeds after which a life ends, or goes on.
pub const ENDS: [(Deed, u64); 4] =
    [(Deed::Matrix, 0), (Deed::Thread, u64::MAX), (Deed::Streaming, 0), (Deed::Sve, 0)];
/// A trap that returns although nothing has called it.
pub const RETURNS_NOWHERE: Dies = Dies::Exception(0x20, Some(0));
/// The trap's access to the doorbell with 0x1234, by another instruction: no frame is there.
pub const RINGS_WITH_1234: Dies = Dies::Access(super::connection::DOORBELL);

/// The ends of a guest whose access to memory that is not there KVM does not decode, without its address.
pub const UNDECODED: &[Dies] = &[];

/// Registers for a system call by a jump to its instruction.
pub fn system_call(number: u64, arguments: [u64; 4]) -> General {
    let mut registers = [0; GENERAL];
    registers[..4].copy_from_slice(&arguments);
    registers[8] = number;
    registers
}

/// Registers for a trap by a jump to its system call.
pub fn trap_by_jump(kind: u64, number: u64) -> General {
    traps_with([0; GENERAL], kind, number)
}

/// The same with these others, without a word and a transport.
pub fn traps_with(mut registers: General, kind: u64, number: u64) -> General {
    registers[..5].copy_from_slice(&[kind, 0, 0, 0, number]);
    registers[8] = NUMBERS[0];
    registers
}

/// These registers, with an answer of the host.
pub fn answered(mut registers: General, answer: u64) -> General {
    registers[0] = answer;
    registers
}

/// Numbers of system calls that the gate makes, and arguments that they may have.
pub fn of_the_gate(control: u64, slot: u64) -> General {
    let mut registers = [0; GENERAL];
    registers[..5].copy_from_slice(&[2, control, 0, 8, 7]);
    (registers[8], registers[20], registers[21]) = (135, 2, slot);
    registers
}

/// What the kernel writes to `siginfo_t` and `ucontext_t` at these addresses, with the class of an exception.
pub fn signal_frame(
    _info: u64,
    context: u64,
    pc: u64,
    number: u64,
    address: u64,
) -> Vec<(u64, u64)> {
    let records = context + 464;
    vec![
        (context + 440, pc),
        (context + 176, address),
        (records, 16 << 32 | 0x4553_5201),
        (records + 8, number << 26),
    ]
}

/// The exception of a signal with such a frame.
pub fn exception(signal: u64, number: u64) -> Option<u8> {
    match signal {
        4 => Some(UNDEFINED),
        5 => Some(0x3c),
        8 => Some(0x2c),
        7 | 11 => Some(number as u8 & 0x3f),
        _ => None,
    }
}

/// V0 to V31, X18 to X30, TPIDR_EL0, FPCR and FPSR, each with another value.
pub fn frame(_: On) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..512_u32).map(|nr| (nr * 7 + nr / 256) as u8 | 1).collect();
    let general = (1..=13).map(|nr: u64| nr * 0x0101_1010_0110_1001);
    let rest = [0x7123_4567_8000, 3 << 22 | 1 << 25, 1 << 27];
    frame.extend(general.chain(rest).flat_map(u64::to_le_bytes));
    frame
}

/// A trap has preserved the registers of the frame, except for X30, which a call changes.
#[track_caller]
pub fn assert_preserved(before: &[u8], now: &[u8], when: &str) {
    for range in [0..512, 512..512 + 96, 512 + 104..512 + 128] {
        assert_eq!(now[range.clone()], before[range.clone()], "{when}: {range:?}");
    }
}

const UD: Dies = Dies::Exception(UNDEFINED, None);
/// An access to a system register that a hypervisor or the kernel has trapped.
const TRAPPED_ACCESS: Dies = Dies::Exception(0x18, None);
/// An instruction of SVE, which is off.
const SVE: Dies = Dies::Exception(0x19, None);
const BREAKPOINT: Dies = Dies::Exception(0x3c, None);

/// Crimes.
pub fn rows() -> Vec<Row> {
    let value = |what, value| deed(what, at(0), value);
    let denied = |name, what| either(name, value(what, 0), &[UD, TRAPPED_ACCESS], &[UD]);
    let alignment = |address| [Dies::Exception(0x22, None), page(address)];
    vec![
        row("a_breakpoint", value(Deed::Breakpoint, 0), BREAKPOINT),
        either(
            "a_jump_to_an_odd_address",
            deed(Deed::Jump, at(REGION + 2), 0),
            &alignment(REGION + 2),
            &alignment(REGION + 2),
        ),
        either(
            "a_stack_that_is_not_aligned",
            deed(Deed::Push, At(Base::Boot, (-7_i64) as u64), 0),
            &[Dies::Exception(0x26, None)],
            &[Dies::Exception(0x26, None)],
        ),
        denied("hvc", Deed::Hvc),
        denied("smc", Deed::Smc),
        denied("eret", Deed::Eret),
        denied("masks_of_interrupts", Deed::Daif),
        denied("the_selection_of_a_stack_pointer", Deed::SpSel),
        denied("hlt", Deed::Halt),
        denied("dcps1", Deed::Dcps),
        denied("drps", Deed::Drps),
        either(
            "a_system_call",
            value(Deed::Syscall, 172),
            &[Dies::Exception(0x15, None)],
            &[Dies::SystemCall(172)],
        ),
        either(
            "a_system_call_that_ends_processes",
            value(Deed::Syscall, 94),
            &[Dies::Exception(0x15, None)],
            &[Dies::SystemCall(94)],
        ),
        either(
            "an_unknown_system_call",
            value(Deed::Syscall, u64::MAX),
            &[Dies::Exception(0x15, None)],
            &[Dies::SystemCall(u64::MAX)],
        ),
    ]
}

pub fn cases() -> Vec<Case> {
    vec![
        Case::other("reads_of_system_registers", |on| {
            registers(on, |nr| (Deed::Mrs, at(nr), 0), &NAMED)
        }),
        Case::other("writes_of_system_registers", |on| {
            registers(on, |nr| (Deed::Msr, at(nr), u64::MAX), &NAMED)
        }),
        Case::other("maintenance_of_caches_and_translations", |on| {
            registers(on, |nr| (Deed::Sys, At(Base::Boot, 0), nr), &MAINTENANCE)
        }),
        Case::new("maintenance_of_the_hosts_memory", maintenance),
        Case::other("waits_for_interrupts_and_events", waits),
        Case::new("unaligned_exclusive_accesses", exclusive),
        Case::other("registers_of_sve_and_sme", vectors),
        Case::new("signed_addresses", signed),
        Case::new("accesses_of_all_kinds_to_the_hosts_arena", accesses),
    ]
}

/// The number of a register: op1, CRn, CRm and op2.
const fn register(op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    op1 << 11 | crn << 7 | crm << 3 | op2
}

/// SCTLR_EL1, TTBR0_EL1, TCR_EL1, VBAR_EL1, ESR_EL1, MAIR_EL1, CNTKCTL_EL1, CPACR_EL1, SP_EL0, CurrentEL, DAIF, HCR_EL2, SCR_EL3,
/// MDSCR_EL1's neighbours, ID registers, and those of EL0: CTR, DCZID, NZCV, FPCR, FPSR, TPIDR, TPIDRRO, TPIDR2, CNTVCT, CNTPCT,
/// CNTV_CTL, CNTV_CVAL, PMCCNTR, PMUSERENR, RNDR.
const NAMED: [u64; 34] = [
    register(0, 1, 0, 0),
    register(0, 2, 0, 0),
    register(0, 2, 0, 2),
    register(0, 12, 0, 0),
    register(0, 5, 2, 0),
    register(0, 10, 2, 0),
    register(0, 14, 1, 0),
    register(0, 1, 0, 2),
    register(0, 4, 1, 0),
    register(0, 4, 2, 2),
    register(3, 4, 2, 1),
    register(4, 1, 1, 0),
    register(6, 1, 1, 0),
    register(0, 0, 0, 0),
    register(0, 0, 0, 5),
    register(0, 0, 4, 0),
    register(0, 0, 6, 0),
    register(0, 0, 7, 0),
    register(3, 0, 0, 1),
    register(3, 0, 0, 7),
    register(3, 4, 2, 0),
    register(3, 4, 4, 0),
    register(3, 4, 4, 1),
    register(3, 13, 0, 2),
    register(3, 13, 0, 3),
    register(3, 13, 0, 5),
    register(3, 14, 0, 0),
    register(3, 14, 0, 1),
    register(3, 14, 0, 2),
    register(3, 14, 3, 1),
    register(3, 14, 3, 2),
    register(3, 9, 13, 0),
    register(3, 9, 14, 0),
    register(3, 2, 4, 0),
];

/// DC IVAC, ISW, CSW, CISW, ZVA, CVAC, CVAU, CIVAC, CVAP; IC IALLU, IALLUIS, IVAU; TLBI VMALLE1, VMALLE1IS, VAE1; AT S1E1R, S1E0R, S1E0W.
const MAINTENANCE: [u64; 18] = [
    register(0, 7, 6, 1),
    register(0, 7, 6, 2),
    register(0, 7, 10, 2),
    register(0, 7, 14, 2),
    register(3, 7, 4, 1),
    register(3, 7, 10, 1),
    register(3, 7, 11, 1),
    register(3, 7, 14, 1),
    register(3, 7, 12, 1),
    register(0, 7, 5, 0),
    register(0, 7, 1, 0),
    register(3, 7, 5, 1),
    register(0, 8, 7, 0),
    register(0, 8, 3, 0),
    register(0, 8, 7, 1),
    register(0, 7, 8, 0),
    register(0, 7, 8, 2),
    register(0, 7, 8, 3),
];

/// Executes an instruction with these numbers, and with a part of all. Each is permitted, or is the end of this guest.
fn registers(on: On, of: impl Fn(u64) -> (Deed, At, u64), named: &[u64]) -> String {
    let target = Target::new(on, &Setup::PLAIN);
    let (mut permitted, mut denied) = (0, 0);
    for number in named.iter().copied().chain((0..1 << 14).step_by(61)) {
        let (what, place, value) = of(number);
        match target.told().does(deed(what, place, value).bytes()) {
            Ok(_) => permitted += 1,
            Err(error) => {
                let ends = [UD, TRAPPED_ACCESS, Dies::ANY_PAGE];
                died(&target, &ends, error.kind(), error.reached());
                denied += 1;
            }
        }
        assert_eq!(target.host.reset(), Ok(()), "{number:#x}");
        if number % 16 == 0 {
            target.assert_works();
        }
    }
    target.assert_works();
    target.assert_treasure();
    assert!(denied > 100, "{denied} of {permitted}");
    format!("{permitted} have no effect on others; `PeerDied` at {denied}")
}

/// Cache maintenance by address, where the guest may only read, and where nothing is.
fn maintenance(target: &Target) -> Came {
    let host = REGION + Setup::PLAIN.layout().arena(vmffi::abi::Side::Host).0;
    for place in [host, REGION, super::connection::NOWHERE & !63] {
        for number in &MAINTENANCE[4..9] {
            let list = deed(Deed::Sys, at(place), *number);
            let _ =
                lives_or_dies(target, &list, &[UD, TRAPPED_ACCESS, page(place), Dies::ANY_PAGE]);
            target.assert_treasure();
            assert_eq!(target.host.reset(), Ok(()));
        }
    }
    Came::Lives("no harm".into())
}

/// `wfi` and `wfe`, which may wait for ever: a deadline ends them.
fn waits(on: On) -> String {
    for what in [Deed::Wfi, Deed::Wfe] {
        let target = Target::new(on, &Setup::PLAIN);
        for _ in 0..3 {
            let within = target.host.with_deadline(Duration::from_millis(30));
            let again = List::new().repeat(0, &deed(what, at(0), 0));
            let error = ToldClient::from(within.guest()).does(again.bytes()).unwrap_err();
            let end = target.end().unwrap();
            assert_eq!((error.kind(), error.reached()), (end.kind(), true));
            let denied = matches!(&end, GuestExit::Fault(_));
            assert!(denied || end == GuestExit::Deadline, "{what:?}: {}", says(&end));
            assert_eq!(target.host.reset(), Ok(()));
            target.assert_works();
        }
    }
    "`Cancelled`: the guest exceeded its deadline".into()
}

/// Exclusive accesses that cross a boundary, and such to each kind of memory.
fn exclusive(target: &Target) -> Came {
    let own = REGION + target.own(0x1000);
    let mut came = None;
    for what in [Deed::LoadExclusive, Deed::LoadExclusivePair] {
        for place in [own + 1, own + 4, own + 15] {
            let ends = [Dies::Exception(0x24, Some(place)), Dies::Exception(0x24, None)];
            came = Some(lives_or_dies(target, &deed(what, at(place), 0), &ends));
            assert_eq!(target.host.reset(), Ok(()));
        }
        for place in [REGION, super::connection::NOWHERE & !15] {
            dies(target, &deed(what, at(place), 0), &[page(place)]);
            assert_eq!(target.host.reset(), Ok(()));
        }
        target.does(&deed(what, at(own), 0));
    }
    drop(came);
    Came::Lives("each that is denied is an abort".into())
}

/// State of SVE and SME that is in use when the guest traps, faults, or is reset.
fn vectors(on: On) -> String {
    let mut texts = Vec::new();
    for what in [Deed::Sve, Deed::Streaming, Deed::Matrix] {
        let target = Target::new(on, &Setup::PLAIN);
        for after in [List::new(), deed(Deed::Undefined, at(0), 0), deed(Deed::Spin, at(0), 0)] {
            let list = deed(what, at(0), 0).and(&after);
            let within = target.host.with_deadline(Duration::from_millis(30));
            let done = ToldClient::from(within.guest()).does(list.bytes());
            match (&done, target.end()) {
                (Ok(_), None) => {}
                (Err(error), Some(end)) => {
                    assert_eq!((error.kind(), error.reached()), (end.kind(), true));
                    let kinds = [ErrorKind::PeerDied, ErrorKind::Cancelled];
                    assert!(kinds.contains(&error.kind()), "{}", says(&end));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(target.host.reset(), Ok(()));
            target.assert_works();
        }
        let done = target.told().does(deed(what, at(0), 0).bytes());
        texts.push(match done {
            Ok(_) => format!("{what:?}: no harm"),
            Err(_) => format!("{what:?}: {}", says(&target.end().unwrap())),
        });
    }
    texts.join("; ")
}

/// A guest signs an address, and uses it.
fn signed(target: &Target) -> Came {
    let place = At(Base::Region, target.own(0x100));
    lives_or_dies(target, &deed(Deed::Sign, place, 7), &[UD, Dies::ANY_PAGE])
}

/// Every instruction of the table of accesses.
fn accesses(target: &Target) -> Came {
    let host = REGION + Setup::PLAIN.layout().arena(vmffi::abi::Side::Host).0 + 0x100;
    for which in 0..10 {
        let list = List::new().op(Op::Access { which, at: at(host), count: 1 });
        let _ = lives_or_dies(target, &list, &[Dies::ANY_PAGE, UD, SVE]);
        target.assert_treasure();
        assert_eq!(target.host.reset(), Ok(()));
    }
    Came::Lives("each store is an abort".into())
}

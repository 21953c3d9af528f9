//! What the attacks know of riscv64.

use std::time::Duration;

use vmffi::{ErrorKind, host::GuestExit};

use super::{
    Came, Case,
    connection::{NOWHERE, On, REGION, Setup, Target, ToldClient},
    crimes::{Dies, Row, died, dies, either, lives_or_dies, page, row, says},
    list::{List, at, deed},
    ops::{At, Base, Deed, Op},
};

/// Causes of exceptions: of an illegal instruction, and of page faults.
pub const UNDEFINED: u8 = 2;
pub const PAGE_FAULTS: [u8; 3] = [12, 13, 15];

/// The registers that `Op::Jump` sets, in its order: x1 to x31.
pub const GENERAL: usize = 31;
pub type General = [u64; GENERAL];
/// The places of s1, a0, a7 and s2.
const S1: usize = 8;
const A0: usize = 9;
const A7: usize = 16;
const S2: usize = 17;

/// There are no flags, and no single steps.
pub const PLAIN: u64 = 0;
pub const SINGLE_STEP: u64 = 0;
pub const OTHERS: u64 = 0;
/// Rounding modes and accrued exceptions.
pub const HARMLESS_FLAGS: [u64; 3] = [0xff, 0x1f, 0x60];

/// Addresses in the gate (`src/machine/process/riscv64.rs`): the trap, its `ecall`, the instruction after that, and `unimp`.
const CALL: u64 = 0x1f0_0000_0100;
pub const TRAP: u64 = CALL + 0x20;
pub const SYSCALL: u64 = TRAP + 4;
pub const TRAPPED: u64 = TRAP + 8;
pub const UNHEARD: u64 = TRAPPED + 9 * 4;
/// Where the gate takes the answer from the host, and where it has found that it is no error.
pub const ANSWERS: [u64; 2] = [TRAPPED, TRAPPED + 4];
/// The address at which the gate reads after setting the signal mask, if its slot is at 0.
pub const AFTER_MASK: u64 = 64 + 8;
/// What is between instructions in the gate, and in which steps they begin.
pub const FILL: u8 = 0;
pub const STEP: u64 = 2;
/// `ecall`.
pub const SYSTEM_CALL: [u8; 4] = [0x73, 0x00, 0x00, 0x00];
/// The numbers of the system calls of a trap, of the signal stack and of the signal mask.
pub const NUMBERS: [u64; 3] = [124, 132, 135];
/// rt_sigprocmask, rt_sigreturn, sched_yield, exit, kill, exit_group, sigaltstack, tgkill, mmap, clone, execve.
pub const DENIED: [u64; 11] = [135, 139, 124, 93, 129, 94, 132, 131, 222, 220, 221];
/// The instruction of system calls.
pub const SYSTEM_CALLS: [Deed; 1] = [Deed::Syscall];
pub const PERHAPS_A_SYSTEM_CALL: Option<Deed> = None;
pub const STORES: [Deed; 6] =
    [Deed::Store1, Deed::Store8, Deed::Store16, Deed::Add, Deed::StoreFloat, Deed::StoreCompressed];
/// Deeds after which a life ends, or goes on.
pub const ENDS: [(Deed, u64); 3] =
    [(Deed::Vsetvli, 0), (Deed::Thread, u64::MAX), (Deed::FenceI, 0)];
/// A trap that returns although nothing has called it.
pub const RETURNS_NOWHERE: Dies = Dies::Exception(12, Some(0));
/// The trap's access to the doorbell with 0x1234, by another instruction: no frame is there.
pub const RINGS_WITH_1234: Dies = Dies::Access(super::connection::DOORBELL);

/// The ends of a guest whose access to memory that is not there KVM does not decode, without its address.
pub const UNDECODED: &[Dies] = &[Dies::Exception(7, None)];

/// Registers for a system call by a jump to its instruction.
pub fn system_call(number: u64, arguments: [u64; 4]) -> General {
    let mut registers = [0; GENERAL];
    registers[A0..A0 + 4].copy_from_slice(&arguments);
    registers[A7] = number;
    registers
}

/// Registers for a trap by a jump to its system call.
pub fn trap_by_jump(kind: u64, number: u64) -> General {
    traps_with([0; GENERAL], kind, number)
}

/// The same with these others, without a word and a transport.
pub fn traps_with(mut registers: General, kind: u64, number: u64) -> General {
    registers[A0..A0 + 5].copy_from_slice(&[kind, 0, 0, 0, number]);
    registers[A7] = NUMBERS[0];
    registers
}

/// These registers, with an answer of the host.
pub fn answered(mut registers: General, answer: u64) -> General {
    registers[A0] = answer;
    registers
}

/// Numbers of system calls that the gate makes, and arguments that they may have.
pub fn of_the_gate(control: u64, slot: u64) -> General {
    let mut registers = [0; GENERAL];
    registers[A0..A0 + 5].copy_from_slice(&[2, control, 0, 8, 7]);
    (registers[A7], registers[S1], registers[S2]) = (135, 2, slot);
    registers
}

/// What the kernel writes to `siginfo_t` and `ucontext_t` at these addresses.
pub fn signal_frame(
    info: u64,
    context: u64,
    pc: u64,
    _number: u64,
    address: u64,
) -> Vec<(u64, u64)> {
    vec![(context + 176, pc), (info + 16, address)]
}

/// The exception of a signal with such a frame, whose instruction is not one of the guest's.
pub fn exception(signal: u64, _: u64) -> Option<u8> {
    match signal {
        4 => Some(UNDEFINED),
        5 => Some(3),
        7 => Some(4),
        11 => Some(12),
        _ => None,
    }
}

/// f0 to f31, ra, gp, tp, s0 to s11 and `fcsr`, each with another value.
pub fn frame(_: On) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..256_u32).map(|nr| (nr * 7 + nr / 256) as u8 | 1).collect();
    let general = (1..=15).map(|nr: u64| nr * 0x0101_1010_0110_1001);
    frame.extend(general.chain([1 << 5]).flat_map(u64::to_le_bytes));
    frame
}

/// A trap has preserved the registers of the frame, except for ra, which a call changes, and the accrued exceptions.
#[track_caller]
pub fn assert_preserved(before: &[u8], now: &[u8], when: &str) {
    for range in [0..256, 256 + 8..256 + 120] {
        assert_eq!(now[range.clone()], before[range.clone()], "{when}: {range:?}");
    }
    assert_eq!(now[256 + 120] & 0xe0, before[256 + 120] & 0xe0, "{when}: the rounding mode");
}

const UD: Dies = Dies::Exception(UNDEFINED, None);
/// A virtual instruction, if the hypervisor does not report it as illegal.
const VIRTUAL: Dies = Dies::Exception(22, None);

/// Crimes.
pub fn rows() -> Vec<Row> {
    let value = |what, value| deed(what, at(0), value);
    let denied = |name, what| either(name, deed(what, At(Base::Boot, 0), 0), &[UD, VIRTUAL], &[UD]);
    vec![
        row("a_breakpoint", value(Deed::Breakpoint, 0), Dies::Exception(3, None)),
        row(
            "a_compressed_breakpoint",
            value(Deed::CompressedBreakpoint, 0),
            Dies::Exception(3, None),
        ),
        denied("sret", Deed::Sret),
        denied("mret", Deed::Mret),
        denied("sfence_vma", Deed::SfenceVma),
        denied("hfence_gvma", Deed::HfenceGvma),
        denied("hlv", Deed::Hlv),
        either(
            "a_system_call",
            value(Deed::Syscall, 172),
            &[Dies::Exception(8, None)],
            &[Dies::SystemCall(172)],
        ),
        either(
            "a_system_call_that_ends_processes",
            value(Deed::Syscall, 94),
            &[Dies::Exception(8, None)],
            &[Dies::SystemCall(94)],
        ),
        either(
            "an_unknown_system_call",
            value(Deed::Syscall, 0x7fff_ffff),
            &[Dies::Exception(8, None)],
            &[Dies::SystemCall(0x7fff_ffff)],
        ),
    ]
}

pub fn cases() -> Vec<Case> {
    vec![
        Case::other("reads_of_registers_of_control_and_status", |on| registers(on, Deed::Csrr)),
        Case::other("writes_of_registers_of_control_and_status", |on| registers(on, Deed::Csrw)),
        Case::other("waits_for_interrupts", waits),
        Case::new("cache_blocks_of_the_hosts_memory", blocks),
        Case::new("atomic_accesses", atomics),
        Case::new("fence_i", |target| lives_or_dies(target, &deed(Deed::FenceI, at(0), 0), &[UD])),
        Case::other("registers_of_the_vector_extension", vectors),
        Case::new("accesses_of_all_kinds_to_the_hosts_arena", accesses),
    ]
}

/// fflags, frm, fcsr, vstart, vcsr, seed, cycle, time, instret, vl, vtype, vlenb, and registers of the privileged modes: sstatus,
/// sie, stvec, scounteren, sscratch, sepc, scause, stval, sip, stimecmp, satp, hstatus, hgatp, vsatp, mstatus, misa, mhartid,
/// tselect, dcsr.
const NAMED: [u64; 31] = [
    0x001, 0x002, 0x003, 0x008, 0x00f, 0x015, 0xc00, 0xc01, 0xc02, 0xc20, 0xc21, 0xc22, 0x100,
    0x104, 0x105, 0x106, 0x140, 0x141, 0x142, 0x143, 0x144, 0x14d, 0x180, 0x600, 0x680, 0x280,
    0x300, 0x301, 0xf14, 0x7a0, 0x7b0,
];

/// Reads or writes these registers, and a part of all. Each is permitted, or is the end of this guest.
fn registers(on: On, what: Deed) -> String {
    let target = Target::new(on, &Setup::PLAIN);
    let (mut permitted, mut denied) = (0, 0);
    for number in NAMED.into_iter().chain((0..4096).step_by(17)) {
        match target.told().does(deed(what, at(number), u64::MAX).bytes()) {
            Ok(_) => permitted += 1,
            Err(error) => {
                // A guest with a rounding mode that does not exist ends at the next floating-point instruction.
                died(&target, &[UD, VIRTUAL], error.kind(), error.reached());
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

/// `wfi` and `wrs.sto`, which may wait for ever: a deadline ends them.
fn waits(on: On) -> String {
    for what in [Deed::Wfi, Deed::Wrs] {
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

fn host() -> u64 {
    REGION + Setup::PLAIN.layout().arena(vmffi::abi::Side::Host).0 + 0x100
}

/// Instructions that manage the cache, where the guest may only read, and where nothing is.
fn blocks(target: &Target) -> Came {
    for place in [host(), REGION, NOWHERE & !63] {
        for what in [Deed::CboInval, Deed::CboClean, Deed::CboZero] {
            let list = deed(what, at(place), 0);
            let _ = lives_or_dies(target, &list, &[UD, VIRTUAL, Dies::ANY_PAGE]);
            target.assert_treasure();
            assert_eq!(target.host.reset(), Ok(()));
        }
    }
    Came::Lives("no harm".into())
}

/// Reserved and conditional accesses, and such that cross a boundary.
fn atomics(target: &Target) -> Came {
    let own = REGION + target.own(0x1000);
    for what in [Deed::LoadReserved, Deed::StoreConditional, Deed::Add] {
        for place in [own + 1, own + 4] {
            let misaligned = |cause| Dies::Exception(cause, None);
            // The kernel, or firmware below it, may perform the access instead.
            let ends = [misaligned(4), misaligned(6), Dies::ANY_PAGE];
            let _ = lives_or_dies(target, &deed(what, at(place), 0), &ends);
            assert_eq!(target.host.reset(), Ok(()));
        }
        target.does(&deed(what, at(own), 0));
    }
    for what in [Deed::LoadReserved, Deed::Add] {
        dies(target, &deed(what, at(NOWHERE & !7), 0), &[page(NOWHERE & !7)]);
        assert_eq!(target.host.reset(), Ok(()));
    }
    dies(target, &deed(Deed::Add, at(host()), 1), &[page(host())])
}

/// Vector state that is in use when the guest traps, faults, or is reset.
fn vectors(on: On) -> String {
    let target = Target::new(on, &Setup::PLAIN);
    for after in [List::new(), deed(Deed::Undefined, at(0), 0), deed(Deed::Spin, at(0), 0)] {
        let list = deed(Deed::Vsetvli, at(0), 0).and(&after);
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
    "no harm, or `PeerDied`: invalid instruction".into()
}

/// Every instruction of the table of accesses.
fn accesses(target: &Target) -> Came {
    for which in 0..10 {
        let list = List::new().op(Op::Access { which, at: at(host()), count: 1 });
        let _ = lives_or_dies(target, &list, &[Dies::ANY_PAGE, UD]);
        target.assert_treasure();
        assert_eq!(target.host.reset(), Ok(()));
    }
    Came::Lives("each store is a page fault".into())
}

//! What the attacks know of x86_64.

use std::{arch::x86_64::__cpuid_count, fs};

use super::{
    Case,
    connection::On,
    crimes::{Dies, Row},
    ops::Deed,
};

mod crimes;
mod ports;
mod strings;

/// The port of a trap in a virtual machine (`src/machine/kvm/x86_64/privileged.rs`).
const PORT: u64 = 0x5658;

/// Vectors: of an undefined instruction, and of page faults.
pub const UNDEFINED: u8 = 6;
pub const PAGE_FAULTS: [u8; 1] = [14];

/// The registers that `Op::Jump` sets, in its order, and the places of some of them.
pub const GENERAL: usize = 15;
pub type General = [u64; GENERAL];
const RAX: usize = 0;
const RDX: usize = 3;
const RSI: usize = 4;
const RDI: usize = 5;
const R8: usize = 7;
const R10: usize = 9;

/// RFLAGS of a guest; the flag of single steps; others that a guest can set: the direction flag, alignment checks, and ID.
pub const PLAIN: u64 = 0x202;
pub const SINGLE_STEP: u64 = 0x100;
pub const OTHERS: u64 = 0x24_0400;
/// Alignment checks, the direction flag, a nested task, and an I/O privilege level that has no effect.
pub const HARMLESS_FLAGS: [u64; 5] = [0x40000, 0x400, 0x4000, 0x3000, 0x47400];

/// Addresses in the gate (`src/machine/process/x86_64.rs`): the trap, its `syscall`, the instruction after that, and `ud2`.
const CALL: u64 = 0x1f0_0000_0100;
pub const TRAP: u64 = CALL + 0x1b;
pub const SYSCALL: u64 = TRAP + 5;
pub const TRAPPED: u64 = TRAP + 7;
pub const UNHEARD: u64 = CALL + 0x3b;
/// Where the gate takes the answer from the host, and where it has found that it is no error.
pub const ANSWERS: [u64; 2] = [TRAPPED, TRAPPED + 5];
/// The address at which the gate reads after setting the signal mask, if its slot is at 0.
pub const AFTER_MASK: u64 = 0x40;
/// What is between instructions in the gate, and in which steps they begin.
pub const FILL: u8 = 0xcc;
pub const STEP: u64 = 1;
/// `syscall`.
pub const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];
/// The numbers of the system calls of a trap, of the signal stack and of the signal mask.
pub const NUMBERS: [u64; 3] = [24, 131, 14];
/// rt_sigprocmask, rt_sigreturn, sched_yield, exit, kill, exit_group, sigaltstack, tgkill, mmap, clone, execve.
pub const DENIED: [u64; 11] = [14, 15, 24, 60, 62, 231, 131, 234, 9, 56, 59];
/// The instructions of system calls, and one that not all processors have.
pub const SYSTEM_CALLS: [Deed; 3] = [Deed::Syscall, Deed::Int80, Deed::Compat];
pub const PERHAPS_A_SYSTEM_CALL: Option<Deed> = Some(Deed::Sysenter);
pub const STORES: [Deed; 5] =
    [Deed::Store1, Deed::Store8, Deed::Store16, Deed::StoreX87, Deed::Add];
/// Deeds after which a life ends, or goes on.
pub const ENDS: [(Deed, u64); 4] =
    [(Deed::Pkru, 3), (Deed::FsBase, 0x7fff_ffff_f000), (Deed::Steps, 0), (Deed::LoadDs, 0x2b)];
/// A trap that returns although nothing has called it.
pub const RETURNS_NOWHERE: Dies = Dies::Exception(13, None);
/// The trap's access to the doorbell with 0x1234, by another instruction.
pub const RINGS_WITH_1234: Dies = Dies::Order(0x1234);

/// The ends of a guest whose access to memory that is not there KVM does not decode, without its address.
pub const UNDECODED: &[Dies] = &[];

/// Registers for a system call by a jump to its instruction.
pub fn system_call(number: u64, arguments: [u64; 4]) -> General {
    let mut registers = [0; GENERAL];
    registers[RAX] = number;
    for (register, value) in [RDI, RSI, RDX, R10].into_iter().zip(arguments) {
        registers[register] = value;
    }
    registers
}

/// Registers for a trap by a jump to its system call.
pub fn trap_by_jump(kind: u64, number: u64) -> General {
    traps_with([0; GENERAL], kind, number)
}

/// The same with these others, without a word and a transport.
pub fn traps_with(mut registers: General, kind: u64, number: u64) -> General {
    (registers[RAX], registers[RDI], registers[R8]) = (NUMBERS[0], kind, number);
    (registers[RSI], registers[RDX], registers[R10]) = (0, 0, 0);
    registers
}

/// These registers, with an answer of the host.
pub fn answered(mut registers: General, answer: u64) -> General {
    registers[RAX] = answer;
    registers
}

/// Numbers of system calls that the gate makes, and arguments that they may have.
pub fn of_the_gate(control: u64, slot: u64) -> General {
    [24, 2, 14, 0, control, 2, slot, 7, 8, 8, 14, 24, 0, 0, slot]
}

/// What the kernel writes to `siginfo_t` and `ucontext_t` at these addresses.
pub fn signal_frame(
    _info: u64,
    context: u64,
    pc: u64,
    number: u64,
    address: u64,
) -> Vec<(u64, u64)> {
    vec![(context + 168, pc), (context + 200, number), (context + 216, address)]
}

/// The exception of a signal with such a frame.
pub fn exception(signal: u64, number: u64) -> Option<u8> {
    let known = matches!(
        (signal, number),
        (11, 0..32) | (4, 6) | (5, 1 | 3) | (8, 0 | 9 | 16 | 19) | (7, 11 | 12 | 14 | 17)
    );
    known.then_some(number as u8)
}

/// A frame of `frames.rs` in the guest, in which every register has a different value; empty without XSAVE.
pub fn frame(on: On) -> Vec<u8> {
    if !std::is_x86_feature_detected!("xsave") {
        return Vec::new();
    }
    let mut frame: Vec<u8> = (0..4096_u32).map(|nr| (nr * 7 + nr / 256) as u8 | 1).collect();
    // x87: rounding and precision; no exceptions; all registers in use, with numbers.
    frame[..32].fill(0);
    frame[..2].copy_from_slice(&0x0b7f_u16.to_le_bytes());
    frame[4] = 0xff;
    frame[24..28].copy_from_slice(&0x3f80_u32.to_le_bytes());
    frame[416..576].fill(0);
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap();
    let has_bases = on.is_process() && flags.split_whitespace().any(|flag| flag == "fsgsbase");
    let general = [1, 2, 3, 4, 5].map(|nr: u64| nr * 0x0101_1010_0110_1001);
    let rest = [PLAIN | OTHERS, 0x7123_4567_8000, 0x7fff_0000_1000, u64::from(has_bases)];
    frame.extend(general.into_iter().chain(rest).flat_map(u64::to_le_bytes));
    frame
}

/// The ranges of a frame that hold registers.
fn ranges(components: u64, has_bases: bool) -> Vec<(usize, usize)> {
    let mut ranges = vec![(0, 2), (4, 1), (24, 4), (160, 256), (4096, 40)];
    ranges.extend((0..8).map(|nr| (32 + 16 * nr, 10)));
    for component in (2..8).filter(|nr| components >> nr & 1 != 0) {
        #[allow(unused_unsafe, reason = "it is safe since Rust 1.89")]
        // SAFETY: a processor with XSAVE has this leaf, and `frame` has checked for it.
        let leaf = unsafe { __cpuid_count(0xd, component) };
        ranges.push((leaf.ebx as usize, leaf.eax as usize));
    }
    if has_bases {
        ranges.push((4096 + 48, 16));
    }
    ranges
}

/// A trap has preserved the registers of the frame.
#[track_caller]
pub fn assert_preserved(before: &[u8], now: &[u8], when: &str) {
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let components = word(now, 512);
    assert_eq!(components & 3, 3, "{when}");
    for (at, len) in ranges(components, word(now, 4096 + 64) != 0) {
        assert_eq!(now[at..at + len], before[at..at + len], "{when}: {at}");
    }
    let flags = [now, before].map(|frame| word(frame, 4096 + 40) & OTHERS);
    assert_eq!(flags[0], flags[1], "{when}");
}

/// Crimes.
pub fn rows() -> Vec<Row> {
    crimes::rows()
}

pub fn cases() -> Vec<Case> {
    let cases = [crimes::cases(), ports::cases(), strings::cases()];
    cases.into_iter().flatten().collect()
}

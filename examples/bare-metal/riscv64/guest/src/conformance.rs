//! What the SBI requires of an execution environment, and what the ABI promises beyond, seen from the guest.

use core::arch::global_asm;

use suite::conformance::{OTHER_GUEST, mode, report};
use vmffi::{
    abi::{answer::ANSWER, trap},
    arch::riscv64::EXTENSION,
};

use crate::ECALL;

/// The base extension and its functions (SBI 2.0, chapter 4).
pub const BASE: u64 = 0x10;
const SPEC_VERSION: u64 = 0;
const IMPLEMENTATION_ID: u64 = 1;
const IMPLEMENTATION_VERSION: u64 = 2;
const PROBE_EXTENSION: u64 = 3;

/// `SBI_SUCCESS` and `SBI_ERR_NOT_SUPPORTED` (SBI 2.0, chapter 3).
const SUCCESS: u64 = 0;
const NOT_SUPPORTED: u64 = -2_i64 as u64;

/// x0 to x31 after a call that was made with the numbers of [`pattern`] in the registers without a meaning.
type After = [u64; 32];

const A0: usize = 10;
const A1: usize = 11;

unsafe extern "C" {
    /// Executes `ecall` with `argument` in a0, `function` in a6, `extension` in a7, and patterns in all other registers but x0, sp
    /// and t6.
    fn call_by_ecall(argument: u64, function: u64, extension: u64, after: &mut After);
    /// Fills f0 to f31 with numbers from `seed` on, executes `ecall` with `argument` in a0, and returns how many of them have
    /// changed.
    fn floating_point_changed(argument: u64, seed: u64, extension: u64) -> u64;
}

/// What is in a register before the call.
fn pattern(register: usize) -> u64 {
    0x7ff - register as u64
}

global_asm!(
    ".globl call_by_ecall",
    "call_by_ecall:",
    "addi sp, sp, -128",
    "sd ra, 0(sp)",
    "sd gp, 8(sp)",
    "sd tp, 16(sp)",
    "sd s0, 24(sp)",
    "sd s1, 32(sp)",
    ".irp register, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    "sd s\\register, 8 * (\\register + 3)(sp)",
    ".endr",
    "mv t6, a3",
    "mv a7, a2",
    "mv a6, a1",
    ".irp register, 1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30",
    "li x\\register, 0x7ff - \\register",
    ".endr",
    "sd sp, 120(sp)",
    "ecall",
    ".irp register, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "sd x\\register, 8 * \\register(t6)",
    ".endr",
    "ld ra, 0(sp)",
    "ld gp, 8(sp)",
    "ld tp, 16(sp)",
    "ld s0, 24(sp)",
    "ld s1, 32(sp)",
    ".irp register, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    "ld s\\register, 8 * (\\register + 3)(sp)",
    ".endr",
    // Whether the stack pointer is the same, in place of its value.
    "ld t0, 120(sp)",
    "xor t0, t0, sp",
    "sd t0, 16(t6)",
    "addi sp, sp, 128",
    "ret",
    ".globl floating_point_changed",
    ".option push",
    ".option arch, +d",
    "floating_point_changed:",
    "mv a7, a2",
    "li a6, 1",
    ".irp register, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "addi t0, a1, \\register",
    "fmv.d.x f\\register, t0",
    ".endr",
    "mv a2, a1",
    "ecall",
    "li a0, 0",
    ".irp register, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "addi t0, a2, \\register",
    "fmv.x.d t1, f\\register",
    "xor t0, t0, t1",
    "snez t0, t0",
    "add a0, a0, t0",
    ".endr",
    "ret",
    ".option pop",
);

/// The words of a trap in memory (ABI, Traps TR-14).
#[repr(C, align(32))]
struct Frame([u64; 4]);

impl Frame {
    const fn call(word: u64) -> Self {
        Self([trap::CALL, word, 0, 0])
    }

    fn address(&mut self) -> u64 {
        (&raw mut *self).expose_provenance() as u64
    }
}

/// Does what the mode says, if it is one of these.
pub fn main(mode: u64) {
    match mode & 0xff {
        mode::CONFORMS => conforms(),
        mode::DISTURBS => loop {
            let mut frame = Frame::call(0);
            // SAFETY: the host answers in the frame, and the function preserves what the compiler expects, since this target has
            // no floating-point registers.
            unsafe { floating_point_changed(frame.address(), 0xdead_0000, EXTENSION) };
        },
        mode::FRAME => {
            let _ = call(EXTENSION, 1, mode >> 8);
            suite::guest::exit(&ECALL, 0);
        }
        _ => (),
    }
}

/// Calls a function, and returns all registers.
fn call(extension: u64, function: u64, argument: u64) -> After {
    let mut after = [0; 32];
    // SAFETY: the host answers with a0 and a1, and in a frame if it is one of this guest's. It preserves all other registers.
    unsafe { call_by_ecall(argument, function, extension, &mut after) };
    after
}

/// Whether all registers but a0 and a1 are as they were before the call (SBI 2.0, chapter 3): patterns, the numbers of function
/// and extension, and the stack pointer.
fn preserved(after: &After, extension: u64, function: u64) -> bool {
    (0..31).all(|register| match register {
        0 | 2 => after[register] == 0,
        A0 | A1 => true,
        16 => after[register] == function,
        17 => after[register] == extension,
        _ => after[register] == pattern(register),
    })
}

/// Makes all checks, and exits.
fn conforms() -> ! {
    let report = |check: &str, passed| report(&ECALL, check, passed);
    let base = |function, argument| {
        let after = call(BASE, function, argument);
        (after[A0], after[A1], preserved(&after, BASE, function))
    };
    let (error, version, preserves) = base(SPEC_VERSION, 0);
    report("sbi_get_spec_version is 2.0", (error, version) == (SUCCESS, 2 << 24));
    report("sbi_get_spec_version changes a0 and a1 only", preserves);
    report("sbi_get_impl_id", base(IMPLEMENTATION_ID, 0) == (SUCCESS, 0x564d_4646, true));
    report("sbi_get_impl_version", base(IMPLEMENTATION_VERSION, 0) == (SUCCESS, 1, true));
    for (name, extension, expected) in [
        ("sbi_probe_extension of the base extension", BASE, true),
        ("sbi_probe_extension of this ABI's", EXTENSION, true),
        ("sbi_probe_extension of the next one", EXTENSION + 1, false),
        ("sbi_probe_extension of the timer", 0x5449_4d45, false),
    ] {
        let (error, value, preserves) = base(PROBE_EXTENSION, extension);
        report(name, error == SUCCESS && preserves && (value != 0) == expected);
    }
    let identifiers = (4..7).all(|function| base(function, 0).0 == SUCCESS);
    report("the identifiers of the processor", identifiers);
    for (name, extension, function) in [
        ("an unknown function of the base extension", BASE, 7),
        ("an unknown extension", 0x0900_0000, 0),
        ("the extension before this ABI's", EXTENSION - 1, 1),
        ("the extension behind this ABI's", EXTENSION + 1, 1),
        ("the timer, which this host does not have", 0x5449_4d45, 0),
        ("a legacy extension", 1, 0),
        ("an extension of 64 bits", EXTENSION | 1 << 32, 1),
    ] {
        let after = call(extension, function, 65);
        report(name, after[A0] == NOT_SUPPORTED && preserved(&after, extension, function));
    }
    let mut frame = Frame::call(OTHER_GUEST);
    let after = call(EXTENSION, 1, frame.address());
    let preserves = preserved(&after, EXTENSION, 1);
    report("a call of this ABI changes a0, a1 and its frame only", preserves);
    report("its answer has a kind of the ABI", frame.0[0] == ANSWER);
    let mut frame = Frame::call(OTHER_GUEST);
    // SAFETY: as in `main`.
    let changed = unsafe { floating_point_changed(frame.address(), 0x1234_0000, EXTENSION) };
    report("f0 to f31 are preserved while the other guest changes them", changed == 0);
    suite::guest::exit(&ECALL, 0)
}

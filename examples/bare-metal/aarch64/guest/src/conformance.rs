//! What SMCCC (Arm DEN 0028) requires of a hypervisor, and what the ABI promises beyond, seen from the guest.

use core::arch::global_asm;

use suite::conformance::{OTHER_GUEST, mode, report};
use vmffi::{
    abi::{Registers, Transport, answer::ANSWER, trap},
    arch::{
        Trap as _,
        aarch64::{FUNCTION, Smc},
    },
    host::registers::aarch64::SERVICE_UID,
};

use crate::HVC;

pub const SMCCC_VERSION: u64 = 0x8000_0000;
const SMCCC_ARCH_FEATURES: u64 = 0x8000_0001;

/// `NOT_SUPPORTED`, as a 64-bit call returns it, and in W0.
const UNKNOWN: u64 = u64::MAX;
const UNKNOWN_32: u64 = 0xffff_ffff;

/// X0 to X30 and SP after a call that was made with the numbers of [`pattern`] in X1 to X30.
type After = [u64; 32];

/// What is in a register before the call.
fn pattern(register: usize) -> u64 {
    0x0123_4567_0000_0000 + register as u64 * 0x101
}

unsafe extern "C" {
    /// Executes `hvc #0` with `function` in X0, `argument` in X1, and patterns in X2 to X30.
    fn call_by_hvc(function: u64, argument: u64, after: &mut After);
    /// The same by `smc #0`.
    fn call_by_smc(function: u64, argument: u64, after: &mut After);
    /// Fills Q0 to Q31 with patterns, executes `hvc #0` with `function` in X0, and returns how many of them have changed.
    fn floating_point_changed(function: u64, seed: u64) -> u64;
}

global_asm!(
    ".macro call_by instruction",
    ".globl call_by_\\instruction",
    "call_by_\\instruction:",
    "stp x19, x20, [sp, #-96]!",
    "stp x21, x22, [sp, #16]",
    "stp x23, x24, [sp, #32]",
    "stp x25, x26, [sp, #48]",
    "stp x27, x28, [sp, #64]",
    "stp x29, x30, [sp, #80]",
    "str x2, [sp, #-16]!",
    ".irp register, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30",
    "mov x\\register, #(\\register * 0x101)",
    "movk x\\register, #0x4567, lsl #32",
    "movk x\\register, #0x0123, lsl #48",
    ".endr",
    "\\instruction #0",
    "stp x0, x1, [sp, #-16]!",
    "ldr x0, [sp, #16]",
    ".irp register, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28",
    "str x\\register, [x0, #(8 * \\register)]",
    ".endr",
    ".irp register, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29",
    "str x\\register, [x0, #(8 * \\register)]",
    ".endr",
    "str x30, [x0, #240]",
    "ldp x1, x2, [sp], #16",
    "stp x1, x2, [x0]",
    "add sp, sp, #16",
    "mov x1, sp",
    "str x1, [x0, #248]",
    "ldp x21, x22, [sp, #16]",
    "ldp x23, x24, [sp, #32]",
    "ldp x25, x26, [sp, #48]",
    "ldp x27, x28, [sp, #64]",
    "ldp x29, x30, [sp, #80]",
    "ldp x19, x20, [sp], #96",
    "ret",
    ".endm",
    "call_by hvc",
    "call_by smc",
    ".globl floating_point_changed",
    ".arch_extension fp",
    ".arch_extension simd",
    "floating_point_changed:",
    ".irp register, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "add x9, x1, #\\register",
    "dup v\\register\\().2d, x9",
    ".endr",
    "mov x10, x1",
    "hvc #0",
    "mov x0, #0",
    ".irp register, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "add x9, x10, #\\register",
    "umov x11, v\\register\\().d[0]",
    "umov x12, v\\register\\().d[1]",
    "cmp x11, x9",
    "ccmp x12, x9, #0, eq",
    "cinc x0, x0, ne",
    ".endr",
    "ret",
);

/// Calls a function, and returns X0 and the other registers.
pub fn call(function: u64, argument: u64) -> (u64, After) {
    let mut after = [0; 32];
    // SAFETY: the host answers with X0 to X3, and preserves all other registers that the compiler expects to be preserved.
    unsafe { call_by_hvc(function, argument, &mut after) };
    (after[0], after)
}

/// Whether X4 to X30 are as they were before the call (SMCCC, "Register use in AArch64 SMC and HVC calls").
fn preserved(after: &After) -> bool {
    (4..31).all(|register| after[register] == pattern(register))
}

/// Does what the mode says, if it is one of these.
pub fn main(mode: u64) {
    match mode & 0xff {
        mode::CONFORMS => conforms(),
        mode::DISTURBS => loop {
            // SAFETY: the function preserves what the compiler expects, since this target has no floating-point registers.
            unsafe { floating_point_changed(CALL, 0xdead_0000) };
        },
        _ => (),
    }
}

/// The function of a `CALL` (ABI, Traps TR-22).
const CALL: u64 = FUNCTION | trap::CALL & 0xff;

/// Makes all checks, and exits.
fn conforms() -> ! {
    let report = |check: &str, passed| report(&HVC, check, passed);
    let (version, after) = call(SMCCC_VERSION, 0);
    report("SMCCC_VERSION is 1.1 or later", (0x1_0001..0x8000_0000).contains(&version));
    report("SMCCC_VERSION preserves X4 to X30", preserved(&after));
    let features = |function| call(SMCCC_ARCH_FEATURES, function).0;
    report("SMCCC_ARCH_FEATURES knows SMCCC_VERSION", features(SMCCC_VERSION) == 0);
    report("SMCCC_ARCH_FEATURES knows itself", features(SMCCC_ARCH_FEATURES) == 0);
    report("SMCCC_ARCH_FEATURES knows no workaround", features(0x8000_8000) == UNKNOWN_32);
    let uid = call(0x8600_ff01, 0).1;
    report("the services' UID", uid[..4] == SERVICE_UID.map(u64::from));
    report("their revision", call(0x8600_ff03, 0).1[..2] == [1, 0]);
    for (name, function, expected) in [
        ("an unknown function, 32-bit", 0x8600_0001, UNKNOWN_32),
        ("an unknown function, 64-bit", 0xc600_0001, UNKNOWN),
        ("an unknown function of the architecture", 0x8000_7fff, UNKNOWN_32),
        ("PSCI, which this host does not have", 0x8400_0000, UNKNOWN_32),
        ("the function before this ABI's", FUNCTION - 1, UNKNOWN),
        ("the function behind this ABI's", FUNCTION + 0x100, UNKNOWN),
        ("a yielding call", 0x4600_5601, UNKNOWN),
    ] {
        let (status, after) = call(function, 0);
        report(name, status == expected && preserved(&after));
    }
    let (mut by_hvc, mut by_smc) = ([0; 32], [0; 32]);
    // SAFETY: as in `call`.
    unsafe { call_by_hvc(SMCCC_VERSION, 0, &mut by_hvc) };
    // SAFETY: as in `call`; the host intercepts the instruction.
    unsafe { call_by_smc(SMCCC_VERSION, 0, &mut by_smc) };
    report("smc does what hvc does", by_hvc == by_smc);

    // Calls of this ABI, for each of which the host runs the other guest.
    let (answer, after) = call(CALL, OTHER_GUEST);
    report("a call of this ABI preserves X4 to X30", preserved(&after));
    report("its answer has a kind of the ABI", answer == ANSWER);
    // SAFETY: the function preserves what the compiler expects, since this target has no floating-point registers.
    let changed = unsafe { floating_point_changed(CALL, OTHER_GUEST) };
    report("Q0 to Q31 are preserved while the other guest changes them", changed == 0);
    // SAFETY: this is a guest whose host intercepts `smc`, and handles it as this ABI says.
    let smc = unsafe { Smc::new() };
    let transport = Transport::EMPTY;
    let answer = smc.trap(Registers { kind: trap::CALL, word: OTHER_GUEST, transport });
    report("smc is a trap of this ABI", answer.kind == ANSWER);
    suite::guest::exit(&HVC, 0)
}

//! A guest's process on aarch64: the code of the gate, the registers that it keeps, and the frames of signals.
//!
//! The system call of a trap has its arguments in these registers. A call of the gate has its words in the same ones (ABI,
//! Traps TR-24).
//!
//! | register | trap of the guest | signal |
//! |---|---|---|
//! | X0 | kind | [`SIGNALLED`] plus the number of the signal |
//! | X1 | word | address of `siginfo_t` |
//! | X2 | primary | address of `ucontext_t` |
//! | X3 | secondary | 0 |
//! | X4 | number of the trap | number of the trap |
//!
//! Where a vCPU's registers must not change, the gate uses only those that a call of the gate may change: X4 to X17, X30
//! and the condition flags. It uses no stack.
//!
//! A system call leaves 128 bits of each SVE register, and ends streaming mode. So what a life leaves in registers besides
//! the ones that the gate restores is the matrix of SME, which the gate discards, and the keys of pointer authentication,
//! which belong to the process: the guest gets none but that of `pacga`, so that it finds the return addresses that it has
//! signed in another process as well.

use core::arch::global_asm;
use std::io;

use nix::libc;

use super::{
    Interrupted,
    control::Frame,
    gate::{
        BLOCKED, CALL, CONTROL_AT, CONTROL_LEN_AT, COPIES, Command, ENTRY_POINT, ERROR,
        FAILED_STEP, FEATURES, GATE_AT, GATE_LEN, KEPT, Places, SAVE_AREA, SAVED, SCRATCH_AT,
        SCRIPT, SIGNAL_STACK, SIGNALLED, SLOTS, STARTED, TRAP_CALL, page_name,
    },
};

/// `AUDIT_ARCH_AARCH64`: 64 bits, little-endian, `EM_AARCH64`.
pub(super) const AUDIT_ARCH: u32 = 0xc000_00b7;

/// Steps of the script that fail where the processor has nothing that they set: names, numbers, arguments.
pub(super) const OPTIONAL_STEPS: [(&str, libc::c_long, [u64; 3]); 3] = {
    const PR_SVE_SET_VL: u64 = 50;
    const PR_PAC_SET_ENABLED_KEYS: u64 = 60;
    const PR_SME_SET_VL: u64 = 63;
    /// The keys IA, IB, DA and DB.
    const KEYS: u64 = 0xf;
    // Vectors of these lengths, in bytes, fit into the frame of a signal. They are the kernel's defaults.
    [
        ("limiting the length of vectors (prctl)", libc::SYS_prctl, [PR_SVE_SET_VL, 64, 0]),
        ("limiting the length of vectors (prctl)", libc::SYS_prctl, [PR_SME_SET_VL, 32, 0]),
        ("disabling keys (prctl)", libc::SYS_prctl, [PR_PAC_SET_ENABLED_KEYS, KEYS, 0]),
    ]
};

/// The ends of the address spaces that a process may have: 52, 48, 47 or 42 bits.
pub(super) const ENDS: [u64; 4] = [1 << 52, 1 << 48, 1 << 47, 1 << 42];

/// `struct sigaction` of the kernel, for a handler that blocks all signals: handler, flags, restorer, mask.
pub(super) fn signal_action(flags: u64) -> [u64; 4] {
    /// It announces a restorer, so that the kernel does not refer to the vDSO (Linux, `SA_RESTORER`).
    const SA_RESTORER: u64 = 0x0400_0000;
    [PLACES.handler, flags | SA_RESTORER, GATE_AT, !0]
}

/// Offsets from [`SAVED`], and in the save area: X18 to X30, SP, TPIDR_EL0, FPCR and FPSR, and those of the registers in
/// [`OPTIONAL`]; then the registers V0 to V31.
const SP: u64 = 104;
const TPIDR: u64 = 112;
const FPCR: u64 = 120;
const FPSR: u64 = 128;
pub(super) const VECTORS: u64 = 192;
pub(super) const MAX_VECTORS_LEN: u64 = 32 * 16;

/// Bits in [`FEATURES`], and the bits of AT_HWCAP and AT_HWCAP2 from which they come: DIT, SSBS, MTE (TCO), FPMR, SME and
/// POE.
const DIT: u64 = 0;
const SSBS: u64 = 1;
const TCO: u64 = 2;
const FPMR: u64 = 3;
const SME: u64 = 4;
const POE: u64 = 5;
const HWCAPS: [(u64, bool, u32); 6] = [
    (DIT, false, 24),
    (SSBS, false, 28),
    (TCO, true, 18),
    (FPMR, true, 48),
    (SME, true, 23),
    (POE, true, 63),
];

/// Offsets in the page: the system call of a trap; the handler of signals; the system calls that set the signal stack
/// and the signal mask; the entry point of the program.
const TRAP: u64 = 0x118;
const HANDLER: u64 = 0x160;
const ALTERNATE: u64 = 0x240;
const MASK: u64 = 0x264;
const ENTRY: u64 = 0x480;
/// The length of `mov w8, #number` and `svc #0`.
const SYSTEM_CALL_LEN: u64 = 8;
pub(super) const PLACES: Places =
    Places::new(TRAP, HANDLER, ALTERNATE, MASK, ENTRY, SYSTEM_CALL_LEN);

global_asm!(
    ".pushsection .rodata.vmffi_gate, \"a\", @progbits",
    // `\to` becomes an address below 2^48.
    ".macro vmffi_address to, address",
    "movz \\to, #(\\address) & 0xffff",
    "movk \\to, #((\\address) >> 16) & 0xffff, lsl #16",
    "movk \\to, #((\\address) >> 32) & 0xffff, lsl #32",
    ".endm",
    // DIT, SSBS, TCO and FPMR, by their encodings, since older assemblers do not know the names.
    ".macro vmffi_optional use",
    "\\use {dit}, S3_3_C4_C2_5, 136",
    "\\use {ssbs}, S3_3_C4_C2_6, 144",
    "\\use {tco}, S3_3_C4_C2_7, 152",
    "\\use {fpmr}, S3_3_C4_C4_2, 160",
    ".endm",
    ".macro vmffi_load bit, register, at",
    "tbz x11, #\\bit, 9f",
    "ldr x9, [x22, #\\at]",
    "msr \\register, x9",
    "9:",
    ".endm",
    ".macro vmffi_store bit, register, at",
    "tbz x11, #\\bit, 9f",
    "mrs x10, \\register",
    "str x10, [x9, #\\at]",
    "9:",
    ".endm",
    concat!(".hidden ", page_name!()),
    concat!(".weak ", page_name!()),
    concat!(page_name!(), ":"),
    ".Lvmffi_gate:",

    // The guest's call.
    ".org .Lvmffi_gate + {call}",
    // The trap takes the next number. An error, or 0 from sched_yield itself, means that no host listens.
    ".Lvmffi_trap:",
    "movz x16, #({scratch} >> 16) & 0xffff, lsl #16",
    "movk x16, #({scratch} >> 32) & 0xffff, lsl #32",
    ".Lvmffi_again:",
    "ldxr x4, [x16]",
    "add x5, x4, #1",
    "stxr w6, x5, [x16]",
    "cbnz w6, .Lvmffi_again",
    ".org .Lvmffi_gate + {trap}",
    "mov w8, #{trap_call}",
    "svc #0",
    "cmp x0, #0",
    "b.le .Lvmffi_unheard",
    "ands x17, x0, #7",
    "and x16, x0, #-8",
    "b.ne .Lvmffi_command",
    // `Answer`: X16 is the address of the slot.
    ".Lvmffi_answer:",
    "ldp x0, x1, [x16]",
    "ldp x2, x3, [x16, #16]",
    "ret",
    // In a handler all signals are blocked, so an exception there ends the process.
    ".Lvmffi_unheard:",
    "udf #0",

    // The handler of signals: X0 is the number, X1 `siginfo_t`, X2 `ucontext_t`.
    ".org .Lvmffi_gate + {handler}",
    "add w0, w0, #{signalled}",
    "mov x3, #0",
    "b .Lvmffi_trap",

    // The other commands: X17 is the command, X16 the slot. Until `Keep` is done, only registers change that a call may
    // change.
    ".Lvmffi_command:",
    "cmp x17, #{keep}",
    "b.eq .Lvmffi_keep",
    "cmp x17, #{copy}",
    "b.eq .Lvmffi_copy",
    // `Back` and `Enter`. X20 is the command, X21 the slot, X22 the registers in it.
    "mov x20, x17",
    "mov x21, x16",
    "add x22, x16, #{saved}",
    "add x9, x22, #{vectors}",
    "ld1 {{v0.2d, v1.2d, v2.2d, v3.2d}}, [x9], #64",
    "ld1 {{v4.2d, v5.2d, v6.2d, v7.2d}}, [x9], #64",
    "ld1 {{v8.2d, v9.2d, v10.2d, v11.2d}}, [x9], #64",
    "ld1 {{v12.2d, v13.2d, v14.2d, v15.2d}}, [x9], #64",
    "ld1 {{v16.2d, v17.2d, v18.2d, v19.2d}}, [x9], #64",
    "ld1 {{v20.2d, v21.2d, v22.2d, v23.2d}}, [x9], #64",
    "ld1 {{v24.2d, v25.2d, v26.2d, v27.2d}}, [x9], #64",
    "ld1 {{v28.2d, v29.2d, v30.2d, v31.2d}}, [x9]",
    "ldr x9, [x22, #{tpidr}]",
    "msr tpidr_el0, x9",
    "ldr x9, [x22, #{fpcr}]",
    "msr fpcr, x9",
    "ldr x9, [x22, #{fpsr}]",
    "msr fpsr, x9",
    "vmffi_address x9, {control}",
    "ldr x11, [x9, #{features}]",
    "cmp x20, #{enter}",
    "b.eq .Lvmffi_unblock",
    "vmffi_optional vmffi_load",
    // `smstop za`, and TPIDR2_EL0.
    "tbz x11, #{sme}, 9f",
    ".inst 0xd503447f",
    "msr S3_3_C13_C0_5, xzr",
    "9:",
    // POR_EL0: its initial value, with which all memory is accessible.
    "tbz x11, #{poe}, .Lvmffi_unblock",
    "mov x9, #7",
    "msr S3_3_C10_C2_4, x9",
    // sigaltstack(the signal stack in the slot, null)
    ".Lvmffi_unblock:",
    "mov x9, #{signal_stack}",
    "add x0, x21, x9",
    "mov x1, #0",
    "b .Lvmffi_alternate",
    ".org .Lvmffi_gate + {alternate}",
    ".Lvmffi_alternate:",
    "mov w8, #132",
    "svc #0",
    "cbnz x0, .Lvmffi_unheard",
    // rt_sigprocmask(SIG_SETMASK, the mask in the common part, null, 8)
    "mov x0, #2",
    "vmffi_address x1, {control} + {blocked}",
    "mov x2, #0",
    "mov x3, #8",
    ".org .Lvmffi_gate + {mask}",
    "mov w8, #135",
    "svc #0",
    "cbnz x0, .Lvmffi_unheard",
    "cmp x20, #{enter}",
    "mov x16, x21",
    "add x9, x16, #{saved}",
    "ldr x10, [x9, #{sp}]",
    "mov sp, x10",
    "ldp x18, x19, [x9]",
    "ldp x20, x21, [x9, #16]",
    "ldp x22, x23, [x9, #32]",
    "ldp x24, x25, [x9, #48]",
    "ldp x26, x27, [x9, #64]",
    "ldp x28, x29, [x9, #80]",
    "ldr x30, [x9, #96]",
    "mov x4, #0",
    "mov x5, #0",
    "mov x6, #0",
    "mov x7, #0",
    "mov x8, #0",
    "mov x9, #0",
    "mov x10, #0",
    "mov x11, #0",
    "mov x12, #0",
    "mov x13, #0",
    "mov x14, #0",
    "mov x15, #0",
    "mov x17, #0",
    "b.ne .Lvmffi_answer",
    // `Enter`: the copies, then the entry point. The stack pointer is the address of the boot block. The entry point is in
    // X16.
    "adr x17, .Lvmffi_enter",
    "b .Lvmffi_copies",
    ".Lvmffi_enter:",
    "vmffi_address x16, {control}",
    "ldr x16, [x16, #{entry_point}]",
    "mov x0, sp",
    "mov x1, #0",
    "mov x2, #0",
    "mov x3, #0",
    "mov x11, #0",
    "mov x12, #0",
    "mov x13, #0",
    "mov x14, #0",
    "mov x15, #0",
    "mov x17, #0",
    "cmn x0, #0",
    "br x16",

    // `Keep`: saves the registers in the save area, and traps again.
    ".Lvmffi_keep:",
    "ldr x9, [x16, #{save_area}]",
    "stp x18, x19, [x9]",
    "stp x20, x21, [x9, #16]",
    "stp x22, x23, [x9, #32]",
    "stp x24, x25, [x9, #48]",
    "stp x26, x27, [x9, #64]",
    "stp x28, x29, [x9, #80]",
    "str x30, [x9, #96]",
    "mov x10, sp",
    "str x10, [x9, #{sp}]",
    "mrs x10, tpidr_el0",
    "str x10, [x9, #{tpidr}]",
    "mrs x10, fpcr",
    "str x10, [x9, #{fpcr}]",
    "mrs x10, fpsr",
    "str x10, [x9, #{fpsr}]",
    "vmffi_address x10, {control}",
    "ldr x11, [x10, #{features}]",
    "vmffi_optional vmffi_store",
    "add x9, x9, #{vectors}",
    "st1 {{v0.2d, v1.2d, v2.2d, v3.2d}}, [x9], #64",
    "st1 {{v4.2d, v5.2d, v6.2d, v7.2d}}, [x9], #64",
    "st1 {{v8.2d, v9.2d, v10.2d, v11.2d}}, [x9], #64",
    "st1 {{v12.2d, v13.2d, v14.2d, v15.2d}}, [x9], #64",
    "st1 {{v16.2d, v17.2d, v18.2d, v19.2d}}, [x9], #64",
    "st1 {{v20.2d, v21.2d, v22.2d, v23.2d}}, [x9], #64",
    "st1 {{v24.2d, v25.2d, v26.2d, v27.2d}}, [x9], #64",
    "st1 {{v28.2d, v29.2d, v30.2d, v31.2d}}, [x9]",
    ".Lvmffi_kept:",
    "mov w0, #{kept}",
    "b .Lvmffi_trap",

    // `Copy`. X17 says where to continue.
    ".Lvmffi_copy:",
    "adr x17, .Lvmffi_kept",
    ".Lvmffi_copies:",
    "mov x11, #{copies}",
    "add x11, x16, x11",
    ".Lvmffi_next_copy:",
    "ldp x12, x13, [x11]",
    "ldr x14, [x11, #16]",
    "add x11, x11, #24",
    "cbz x14, .Lvmffi_copied",
    "cbz x13, .Lvmffi_clear",
    ".Lvmffi_word:",
    "ldr x15, [x13], #8",
    "str x15, [x12], #8",
    "sub x14, x14, #1",
    "cbnz x14, .Lvmffi_word",
    "b .Lvmffi_next_copy",
    ".Lvmffi_clear:",
    "str xzr, [x12], #8",
    "sub x14, x14, #1",
    "cbnz x14, .Lvmffi_clear",
    "b .Lvmffi_next_copy",
    ".Lvmffi_copied:",
    "br x17",

    // The entry point of the program. Descriptor 0 is the control memory: mmap(2), shared, at its address.
    ".org .Lvmffi_gate + {entry}",
    "vmffi_address x19, {control}",
    "mov x0, x19",
    "adr x1, .Lvmffi_gate + {control_len_at}",
    "ldr w1, [x1]",
    "mov x2, #3",
    "mov x3, #0x11",
    "mov x4, #0",
    "mov x5, #0",
    "mov w8, #222",
    "svc #0",
    "cmp x0, x19",
    "b.ne .Lvmffi_exit",
    "add x19, x19, #({slots} + {script})",
    // A step.
    ".Lvmffi_step:",
    "ldr x20, [x19]",
    "tbnz x20, #63, .Lvmffi_started",
    "ldp x0, x1, [x19, #8]",
    "ldp x2, x3, [x19, #24]",
    "ldp x4, x5, [x19, #40]",
    "mov w8, w20",
    "svc #0",
    "cmn x0, #4095",
    "b.lo .Lvmffi_done",
    "tbnz x20, #32, .Lvmffi_next",
    "b .Lvmffi_failed",
    ".Lvmffi_done:",
    "ldr x9, [x19, #56]",
    "cbz x9, .Lvmffi_stored",
    "str w0, [x9]",
    ".Lvmffi_stored:",
    "cmp w20, #220",
    "b.ne .Lvmffi_next",
    "cbnz x0, .Lvmffi_next",
    "mov x19, x5",
    "b .Lvmffi_step",
    ".Lvmffi_next:",
    "add x19, x19, #64",
    "b .Lvmffi_step",
    // It has failed: exit_group(1). Without the control memory, the error remains unknown.
    ".Lvmffi_failed:",
    "neg x0, x0",
    "vmffi_address x9, {control}",
    "str x0, [x9, #{error}]",
    "str x19, [x9, #{failed_step}]",
    ".Lvmffi_exit:",
    "mov x0, #1",
    "mov w8, #94",
    "svc #0",
    "udf #0",
    // The end of the script: the first trap.
    ".Lvmffi_started:",
    "mov w0, #{started}",
    "b .Lvmffi_trap",
    ".org .Lvmffi_gate + {gate_len}",
    ".purgem vmffi_address",
    ".purgem vmffi_optional",
    ".purgem vmffi_load",
    ".purgem vmffi_store",
    ".popsection",
    gate_len = const GATE_LEN,
    control = const CONTROL_AT,
    blocked = const BLOCKED,
    features = const FEATURES,
    entry_point = const ENTRY_POINT,
    error = const ERROR,
    failed_step = const FAILED_STEP,
    slots = const SLOTS,
    save_area = const SAVE_AREA,
    saved = const SAVED,
    sp = const SP,
    tpidr = const TPIDR,
    fpcr = const FPCR,
    fpsr = const FPSR,
    vectors = const VECTORS,
    script = const SCRIPT,
    dit = const DIT,
    ssbs = const SSBS,
    tco = const TCO,
    fpmr = const FPMR,
    sme = const SME,
    poe = const POE,
    control_len_at = const CONTROL_LEN_AT,
    scratch = const SCRATCH_AT,
    call = const CALL,
    trap = const TRAP,
    handler = const HANDLER,
    signal_stack = const SIGNAL_STACK,
    alternate = const ALTERNATE,
    mask = const MASK,
    entry = const ENTRY,
    trap_call = const TRAP_CALL,
    signalled = const SIGNALLED,
    kept = const KEPT,
    started = const STARTED,
    keep = const Command::Keep as u64,
    copy = const Command::Copy as u64,
    copies = const COPIES,
    enter = const Command::Enter as u64,
);

/// The registers that the processor has besides those that all have.
#[derive(Clone, Copy)]
pub(super) struct Features {
    /// Bits of [`HWCAPS`].
    pub(super) bits: u64,
    /// The length of the registers V0 to V31, in bytes.
    pub(super) len: usize,
}

impl Features {
    /// Those of this machine.
    pub(super) fn here() -> io::Result<Self> {
        // SAFETY: getauxval(3) only reads the auxiliary vector of the process.
        if unsafe { libc::getauxval(libc::AT_RANDOM) } < GATE_AT {
            // This is an address of the stack, which is at the end of the address space.
            let what =
                "addresses have fewer than 42 bits here: boot a kernel with larger address spaces";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        // SAFETY: getauxval(3) only reads the auxiliary vector of the process.
        let [first, second] =
            [libc::AT_HWCAP, libc::AT_HWCAP2].map(|nr| unsafe { libc::getauxval(nr) });
        let bits = HWCAPS.iter().fold(0, |bits, (bit, is_second, hwcap)| {
            let word = if *is_second { second } else { first };
            bits | (word >> hwcap & 1) << bit
        });
        Ok(Self { bits, len: MAX_VECTORS_LEN as usize })
    }
}

impl Frame {
    /// The registers at the guest's entry point (ABI, "Boot block").
    pub(super) fn entry(stack: u64, features: Features) -> Self {
        let mut this = Self::zeros(features.len);
        this.general[(SP / 8) as usize] = stack;
        this
    }

    /// Changes what the gate could not restore in a frame that the guest may have written: it can restore any.
    pub(super) fn make_valid(&mut self, _: Features) {}
}

/// Offsets in `ucontext_t`: the address of the last abort, PC, and the records of further registers.
const CONTEXT_FAULT_ADDRESS: u64 = 176;
const CONTEXT_PC: u64 = 440;
const CONTEXT_RECORDS: u64 = 464;
/// The magic number of the record with ESR (Linux, `ESR_MAGIC`), and how many records of less than a page there can be.
const ESR_MAGIC: u32 = 0x4553_5201;
const MAX_RECORDS: usize = 32;
/// The classes of the exceptions for which the kernel makes no such record: an undefined instruction, a trapped
/// floating-point exception, and `brk`.
const UNDEFINED: u8 = 0;
const FLOATING_POINT: u8 = 0x2c;
const BREAKPOINT: u8 = 0x3c;

/// What a signal has interrupted, as its frame says; `None` if there is no frame. `_info` and `context` read words of
/// `siginfo_t` and of `ucontext_t`, and `_code` reads the instruction at an address.
pub(super) fn interrupted(
    signal: i32,
    _info: impl Fn(u64) -> Option<u64>,
    context: impl Fn(u64) -> Option<u64>,
    _code: impl Fn(u64) -> Option<u32>,
) -> Option<Interrupted> {
    let (instruction, address) = (context(CONTEXT_PC)?, context(CONTEXT_FAULT_ADDRESS)?);
    let exception = match signal {
        libc::SIGSEGV | libc::SIGBUS => class(context),
        libc::SIGILL => Some(UNDEFINED),
        libc::SIGFPE => Some(FLOATING_POINT),
        libc::SIGTRAP => Some(BREAKPOINT),
        _ => None,
    };
    Some(Interrupted { instruction, exception, address })
}

/// The class of the last abort, from the record with ESR.
fn class(context: impl Fn(u64) -> Option<u64>) -> Option<u8> {
    let mut at = CONTEXT_RECORDS;
    for _ in 0..MAX_RECORDS {
        let head = context(at)?;
        let (magic, len) = (head as u32, head >> 32);
        if magic == ESR_MAGIC {
            return Some((context(at + 8)? >> 26) as u8 & 0x3f);
        }
        // The records end with one of no magic number and no length.
        if magic == 0 || len % 16 != 0 || len == 0 {
            return None;
        }
        at = at.checked_add(len)?;
    }
    None
}

/// What tests know of the architecture.
#[cfg(test)]
pub(super) mod tests {
    use super::libc::user_regs_struct;

    /// `mov w8, #number` and `svc #0`.
    pub(in super::super) fn system_call(number: u32) -> [u8; 8] {
        let [mov, svc] = [0x5280_0008 | number << 5, 0xd400_0001].map(u32::to_le_bytes);
        [mov[0], mov[1], mov[2], mov[3], svc[0], svc[1], svc[2], svc[3]]
    }

    /// The length of `svc`.
    pub(in super::super) const TRAPPING_LEN: u64 = 4;

    pub(in super::super) fn program_counter(registers: &user_regs_struct) -> u64 {
        registers.pc
    }

    /// The greatest numbers of instructions between two traps: of a guest that calls with one scalar, with three, and of the gate.
    pub(in super::super) const MOST: [u32; 3] = [25, 120, 19];
}

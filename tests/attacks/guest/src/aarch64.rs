//! What the hostile guest executes on aarch64.

use core::{
    arch::{asm, global_asm},
    hint::black_box,
};

use vmffi::abi::{Registers, Transport};

use crate::ops::Deed;

/// The number of general registers that [`jump`] sets.
pub const GENERAL: usize = 31;

// Lists refer to the code after the first instructions: an endless loop at 16, and one that uses the stack at 32.
global_asm!(
    ".globl _start",
    ".type _start, @function",
    ".balign 16",
    "_start:",
    "mov x29, xzr",
    "bl {enter}",
    "udf #0",
    ".balign 16",
    "2: b 2b",
    ".balign 16",
    "2: str x0, [sp, #-16]!",
    "ldr x0, [sp], #16",
    "b 2b",
    ".balign 16",
    enter = sym super::enter,
);

// `mrs`, `msr` and `sys` with every number, eight bytes each: the instruction, and `ret`. X0 is the operand.
global_asm!(
    ".pushsection .text.registers, \"ax\", @progbits",
    ".macro attacks_numbers opcode",
    ".set attacks_n, 0",
    ".rept 1 << 14",
    ".inst \\opcode | attacks_n << 5",
    "ret",
    ".set attacks_n, attacks_n + 1",
    ".endr",
    ".endm",
    ".balign 8",
    "attacks_mrs: attacks_numbers 0xd5380000",
    "attacks_msr: attacks_numbers 0xd5180000",
    "attacks_sys: attacks_numbers 0xd5080000",
    ".popsection",
);

unsafe extern "C" {
    static attacks_mrs: u8;
    static attacks_msr: u8;
    static attacks_sys: u8;
}

/// Ends the guest.
pub fn undefined() -> ! {
    // SAFETY: the instruction ends the guest.
    unsafe { asm!("udf #0", options(noreturn)) }
}

/// There are no string instructions.
pub fn string(_: u64, _: u64, _: u64, _: u64, _: u64, _: bool) {}

/// Executes instructions with operands in registers that the compiler chooses, or in the named ones.
macro_rules! execute {
    ($($asm:tt)*) => {
        // SAFETY: none: the test is that only this guest is harmed.
        unsafe { asm!($($asm)*) }
    };
}

/// The number of the method by which a guest calls its gate (ABI, "Boot block").
const METHOD_GATE: u64 = 3;

/// Executes an instruction of a table.
fn of_table(table: *const u8, number: u64, operand: u64) {
    let at = table.wrapping_add(8 * (number as usize & 0x3fff));
    execute!("blr {at}", at = in(reg) at, inout("x0") operand => _, out("lr") _);
}

/// Executes a deed. If it returns, the deed was permitted. `method` is the number of the guest's method to trap.
#[inline(never)]
pub fn deed(deed: Deed, at: u64, value: u64, method: u64) {
    match deed {
        Deed::Store1 => execute!("strb w0, [x1]", in("x1") at, in("x0") value),
        Deed::Store2 => execute!("strh w0, [x1]", in("x1") at, in("x0") value),
        Deed::Store4 => execute!("str w0, [x1]", in("x1") at, in("x0") value),
        // A trap uses `str x0, [x1]`.
        Deed::Store8 => execute!("str x2, [x3]", in("x3") at, in("x2") value),
        Deed::Store16 => execute!("str q0, [x1]", in("x1") at),
        Deed::Add => execute!(
            "2: ldxr x2, [x1]", "add x2, x2, x0", "stxr w3, x2, [x1]", "cbnz w3, 2b",
            in("x1") at, in("x0") value, out("x2") _, out("x3") _,
        ),
        Deed::Jump => execute!("br {}", in(reg) at),
        Deed::Call => execute!("blr {}", in(reg) at, clobber_abi("C")),
        Deed::Overflow => {
            black_box(overflow(value));
        }
        Deed::Undefined => execute!("udf #0"),
        Deed::Breakpoint => execute!("brk #7"),
        Deed::Syscall => execute!("svc #0", in("x8") value, inout("x0") 0_u64 => _),
        Deed::Hvc => execute!("hvc #0", in("x8") value, inout("x0") value => _),
        Deed::Smc => execute!("smc #0", in("x8") value, inout("x0") value => _),
        Deed::Vectors => execute!(
            "dup v0.2d, {0}", "dup v1.2d, {0}", "dup v7.2d, {0}", "dup v8.2d, {0}", "dup v15.2d, {0}",
            "dup v16.2d, {0}", "dup v31.2d, {0}", in(reg) value, out("v0") _, out("v1") _, out("v7") _,
            out("v8") _, out("v15") _, out("v16") _, out("v31") _,
        ),
        Deed::Spin => loop {
            core::hint::spin_loop();
        },
        Deed::NoStack => execute!("mov x0, #0", "mov sp, x0", "udf #0"),
        Deed::Flagged => {
            let mut frame = [0_u64; 8];
            let frame = (&raw mut frame).map_addr(|at| at.next_multiple_of(32)).cast::<u64>();
            // SAFETY: none: the frame is on this stack.
            unsafe { frame.write(vmffi::abi::trap::CALL) };
            if method == METHOD_GATE {
                execute!(
                    "msr nzcv, {flags}", "blr x16", flags = in(reg) value, inout("x16") at => _,
                    inout("x0") vmffi::abi::trap::CALL => _, inout("x1") 0_u64 => _,
                    inout("x2") 0_u64 => _, inout("x3") 0_u64 => _, clobber_abi("C"),
                );
            } else {
                execute!(
                    "msr nzcv, {flags}", "str x0, [x1]", flags = in(reg) value, in("x0") frame,
                    in("x1") at,
                );
            }
        }
        Deed::Thread => execute!("msr tpidr_el0, {}", in(reg) value),
        Deed::Wfi => execute!("wfi"),
        Deed::Wfe => execute!("sevl", "wfe", "wfe"),
        Deed::Eret => execute!("eret"),
        Deed::Mrs => of_table(&raw const attacks_mrs, at, 0),
        Deed::Msr => of_table(&raw const attacks_msr, at, value),
        Deed::Sys => of_table(&raw const attacks_sys, value, at),
        Deed::Daif => execute!("msr daifset, #15", "msr daifclr, #15"),
        Deed::SpSel => execute!("msr spsel, #1"),
        Deed::LoadExclusive => {
            execute!("ldxr x0, [x1]", "stxr w2, x0, [x1]", in("x1") at, out("x0") _, out("x2") _);
        }
        Deed::LoadExclusivePair => execute!(
            "ldaxp x0, x2, [x1]", "stlxp w3, x0, x2, [x1]", in("x1") at, out("x0") _, out("x2") _,
            out("x3") _,
        ),
        Deed::StorePair => execute!("stp x0, x0, [x1]", in("x1") at, in("x0") value),
        Deed::StoreVector => execute!("str d0, [x1]", in("x1") at),
        Deed::StoreMultiple => execute!("st1 {{v0.2d, v1.2d}}, [x1]", in("x1") at),
        Deed::StoreWriteBack => {
            execute!("str x0, [x1, #8]!", inout("x1") at => _, in("x0") value);
        }
        Deed::LoadPair => execute!("ldp x0, x2, [x1]", in("x1") at, out("x0") _, out("x2") _),
        Deed::Prefetch => execute!("prfm pstl1keep, [x1]", "dsb sy", "isb", in("x1") at),
        Deed::Push => execute!(
            "mov x2, sp", "mov sp, x1", "str x0, [sp, #-16]!", "mov sp, x2", in("x1") at, in("x0") value,
            out("x2") _,
        ),
        // `rdvl x0, #1`; `ptrue p0.d`; `dup z0.d, x0`.
        Deed::Sve => execute!(
            ".inst 0x04bf5020", ".inst 0x25d8e3e0", ".inst 0x05e03800", out("x0") _, out("v0") _,
            out("p0") _,
        ),
        // `ptrue p0.d`, `st1d {z0.d}, p0, [x1]`.
        Deed::SveStore => execute!(
            ".inst 0x25d8e3e0", ".inst 0xe5e0e020", in("x1") at, out("p0") _,
        ),
        // `smstart sm`, and `smstop sm`.
        Deed::Streaming => execute!(".inst 0xd503437f", ".inst 0xd503427f", clobber_abi("C")),
        // `smstart za`, and `zero {za}`.
        Deed::Matrix => execute!(".inst 0xd503457f", ".inst 0xc00800ff"),
        Deed::Halt => execute!("hlt #0"),
        Deed::Dcps => execute!("dcps1 #0"),
        Deed::Drps => execute!("drps"),
        // `pacia x0, x1`, `autia x0, x1`, and an access there.
        Deed::Sign => execute!(
            ".inst 0xdac10020", ".inst 0xdac11020", "ldr x2, [x0]", inout("x0") at => _, in("x1") value,
            out("x2") _,
        ),
    }
}

#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    // This jump does not return, but the compiler must not know that, and must not make it a tail call.
    if room[3] == u64::MAX {
        0
    } else {
        overflow(room[3].wrapping_add(1) >> 1) ^ black_box(&room)[5]
    }
}

/// The instructions of [`access`]. X1 is the address.
const ACCESSES: [Deed; 10] = [
    Deed::Store16,
    Deed::StorePair,
    Deed::StoreVector,
    Deed::StoreMultiple,
    Deed::StoreWriteBack,
    Deed::LoadPair,
    Deed::LoadExclusive,
    Deed::LoadExclusivePair,
    Deed::Push,
    Deed::SveStore,
];

/// Executes one of these instructions.
pub fn access(which: u64, at: u64, count: u64) {
    deed(ACCESSES[(which % ACCESSES.len() as u64) as usize], at, count, 0);
}

/// Loads X0 to X30 except X16, then SP and the condition flags, and jumps by X16.
pub fn jump(registers: [u64; GENERAL], to: u64, flags: u64, stack: u64) -> ! {
    let mut words = registers;
    words[16] = to;
    // SAFETY: none, as above.
    unsafe {
        asm!(
            "msr nzcv, x1", "mov sp, x2",
            "ldp x2, x3, [x0, #16]", "ldp x4, x5, [x0, #32]", "ldp x6, x7, [x0, #48]",
            "ldp x8, x9, [x0, #64]", "ldp x10, x11, [x0, #80]", "ldp x12, x13, [x0, #96]",
            "ldp x14, x15, [x0, #112]", "ldp x16, x17, [x0, #128]", "ldp x18, x19, [x0, #144]",
            "ldp x20, x21, [x0, #160]", "ldp x22, x23, [x0, #176]", "ldp x24, x25, [x0, #192]",
            "ldp x26, x27, [x0, #208]", "ldp x28, x29, [x0, #224]", "ldr x30, [x0, #240]",
            "ldp x0, x1, [x0]", "br x16",
            in("x0") &raw const words, in("x1") flags, in("x2") stack, options(noreturn),
        )
    }
}

/// The offset in a frame of X18 to X30, TPIDR_EL0, FPCR and FPSR; V0 to V31 are before these.
const FRAME_GENERAL: usize = 512;

// The frame, SP, and the previous TPIDR_EL0.
global_asm!(
    ".pushsection .bss.frames, \"aw\", @nobits",
    ".balign 16",
    "attacks_frame: .skip 48",
    ".popsection",
    ".pushsection .text.frames, \"ax\", @progbits",
    ".macro attacks_vectors instruction, base",
    ".irp number, 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30",
    "attacks_vector \\instruction, \\base, \\number",
    ".endr",
    ".endm",
    ".macro attacks_vector instruction, base, number",
    ".if \\number == 0", "\\instruction q0, q1, [\\base, #0]", ".endif",
    ".if \\number == 2", "\\instruction q2, q3, [\\base, #32]", ".endif",
    ".if \\number == 4", "\\instruction q4, q5, [\\base, #64]", ".endif",
    ".if \\number == 6", "\\instruction q6, q7, [\\base, #96]", ".endif",
    ".if \\number == 8", "\\instruction q8, q9, [\\base, #128]", ".endif",
    ".if \\number == 10", "\\instruction q10, q11, [\\base, #160]", ".endif",
    ".if \\number == 12", "\\instruction q12, q13, [\\base, #192]", ".endif",
    ".if \\number == 14", "\\instruction q14, q15, [\\base, #224]", ".endif",
    ".if \\number == 16", "\\instruction q16, q17, [\\base, #256]", ".endif",
    ".if \\number == 18", "\\instruction q18, q19, [\\base, #288]", ".endif",
    ".if \\number == 20", "\\instruction q20, q21, [\\base, #320]", ".endif",
    ".if \\number == 22", "\\instruction q22, q23, [\\base, #352]", ".endif",
    ".if \\number == 24", "\\instruction q24, q25, [\\base, #384]", ".endif",
    ".if \\number == 26", "\\instruction q26, q27, [\\base, #416]", ".endif",
    ".if \\number == 28", "\\instruction q28, q29, [\\base, #448]", ".endif",
    ".if \\number == 30", "\\instruction q30, q31, [\\base, #480]", ".endif",
    ".endm",
    // Words, frame, operand, method.
    "attacks_framed:",
    "stp x18, x19, [sp, #-192]!", "stp x20, x21, [sp, #16]", "stp x22, x23, [sp, #32]",
    "stp x24, x25, [sp, #48]", "stp x26, x27, [sp, #64]", "stp x28, x29, [sp, #80]",
    "str x30, [sp, #96]", "stp d8, d9, [sp, #112]", "stp d10, d11, [sp, #128]",
    "stp d12, d13, [sp, #144]", "stp d14, d15, [sp, #160]",
    "adrp x9, attacks_frame", "add x9, x9, :lo12:attacks_frame",
    "mrs x10, tpidr_el0", "mov x11, sp",
    "stp x0, x1, [x9]", "stp x2, x11, [x9, #16]", "stp x3, x10, [x9, #32]",
    "attacks_vectors ldp, x1",
    "ldr x10, [x1, #{general} + 104]", "msr tpidr_el0, x10",
    "ldr x10, [x1, #{general} + 112]", "msr fpcr, x10",
    "ldr x10, [x1, #{general} + 120]", "msr fpsr, x10",
    "add x12, x1, #{general}",
    "ldp x18, x19, [x12]", "ldp x20, x21, [x12, #16]", "ldp x22, x23, [x12, #32]",
    "ldp x24, x25, [x12, #48]", "ldp x26, x27, [x12, #64]", "ldp x28, x29, [x12, #80]",
    "mov x16, x2", "mov x11, x0",
    "cmp x3, #3", "b.eq 2f",
    // A doorbell: the words are a frame of the ABI.
    "mov x1, x16", "str x0, [x1]", "ldp x4, x5, [x11]", "ldp x6, x7, [x11, #16]", "b 3f",
    "2: ldp x0, x1, [x11]", "ldp x2, x3, [x11, #16]", "blr x16",
    "mov x4, x0", "mov x5, x1", "mov x6, x2", "mov x7, x3",
    "3: adrp x9, attacks_frame", "add x9, x9, :lo12:attacks_frame",
    "ldp x0, x1, [x9]", "ldp x2, x11, [x9, #16]", "ldp x3, x10, [x9, #32]",
    "mov x13, sp", "cmp x13, x11", "b.eq 4f", "udf #0",
    "4: stp x4, x5, [x0]", "stp x6, x7, [x0, #16]",
    "attacks_vectors stp, x1",
    "add x12, x1, #{general}",
    "stp x18, x19, [x12]", "stp x20, x21, [x12, #16]", "stp x22, x23, [x12, #32]",
    "stp x24, x25, [x12, #48]", "stp x26, x27, [x12, #64]", "stp x28, x29, [x12, #80]",
    "mrs x13, tpidr_el0", "str x13, [x12, #104]",
    "mrs x13, fpcr", "str x13, [x12, #112]",
    "mrs x13, fpsr", "str x13, [x12, #120]",
    "msr tpidr_el0, x10", "msr fpcr, xzr", "msr fpsr, xzr",
    "ldp d8, d9, [sp, #112]", "ldp d10, d11, [sp, #128]", "ldp d12, d13, [sp, #144]",
    "ldp d14, d15, [sp, #160]", "ldr x30, [sp, #96]", "ldp x20, x21, [sp, #16]",
    "ldp x22, x23, [sp, #32]", "ldp x24, x25, [sp, #48]", "ldp x26, x27, [sp, #64]",
    "ldp x28, x29, [sp, #80]", "ldp x18, x19, [sp], #192",
    "ret",
    ".popsection",
    general = const FRAME_GENERAL,
);

unsafe extern "C" {
    fn attacks_framed(words: *mut Words, frame: u64, operand: u64, method: u64);
}

/// The four words, as a frame of the ABI.
#[repr(C, align(32))]
struct Words([u64; 4]);

/// Traps with the contents of a frame in all registers that a trap preserves, and returns the answer. Only one vCPU may do so
/// at a time.
#[inline(never)]
pub fn trap(out: Registers, frame: u64, [method, operand]: [u64; 2]) -> Registers {
    let Registers { kind, word, transport: Transport { primary, secondary } } = out;
    let mut words = Words([kind, word, primary, secondary]);
    // SAFETY: none: the test is that only this guest is harmed.
    unsafe { attacks_framed(&raw mut words, frame, operand, method) };
    // SAFETY: it is a variable of this function. The host has changed it.
    let [kind, word, primary, secondary] = unsafe { (&raw const words.0).read_volatile() };
    Registers { kind, word, transport: Transport { primary, secondary } }
}

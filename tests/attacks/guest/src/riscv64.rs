//! What the hostile guest executes on riscv64.

use core::{
    arch::{asm, global_asm},
    hint::black_box,
};

use vmffi::abi::{Registers, Transport};

use crate::ops::Deed;

/// The number of general registers that [`jump`] sets: x1 to x31.
pub const GENERAL: usize = 31;

// Lists refer to the code after the first instructions: an endless loop at 16, and one that uses the stack at 32.
global_asm!(
    ".option push",
    ".option norvc",
    ".option norelax",
    ".globl _start",
    ".type _start, @function",
    ".balign 16",
    "_start:",
    "call {enter}",
    "unimp",
    ".balign 16",
    "2: j 2b",
    ".balign 16",
    "2: sd a0, -8(sp)",
    "ld a0, -8(sp)",
    "j 2b",
    ".balign 16",
    ".option pop",
    enter = sym super::enter,
);

// `csrr a0, n` and `csrw n, a0` with every number, eight bytes each: the instruction, and `ret`.
global_asm!(
    ".pushsection .text.registers, \"ax\", @progbits",
    ".option push",
    ".option norvc",
    ".option norelax",
    ".macro attacks_numbers opcode",
    ".set attacks_n, 0",
    ".rept 4096",
    ".word \\opcode | attacks_n << 20",
    "ret",
    ".set attacks_n, attacks_n + 1",
    ".endr",
    ".endm",
    ".balign 8",
    // csrrs a0, n, zero; csrrw zero, n, a0.
    "attacks_csrr: attacks_numbers 0x00002573",
    "attacks_csrw: attacks_numbers 0x00051073",
    ".option pop",
    ".popsection",
);

unsafe extern "C" {
    static attacks_csrr: u8;
    static attacks_csrw: u8;
}

/// Ends the guest.
pub fn undefined() -> ! {
    // SAFETY: the instruction ends the guest.
    unsafe { asm!("unimp", options(noreturn)) }
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
    let at = table.wrapping_add(8 * (number as usize & 0xfff));
    execute!("jalr ra, {at}", at = in(reg) at, inout("a0") operand => _, out("ra") _);
}

/// Executes a deed. If it returns, the deed was permitted. `method` is the number of the guest's method to trap.
#[inline(never)]
pub fn deed(deed: Deed, at: u64, value: u64, method: u64) {
    match deed {
        Deed::Store1 => execute!("sb a0, 0(a1)", in("a1") at, in("a0") value),
        Deed::Store2 => execute!("sh a0, 0(a1)", in("a1") at, in("a0") value),
        Deed::Store4 => execute!("sw a0, 0(a1)", in("a1") at, in("a0") value),
        // A trap uses `sd a0, 0(a1)`.
        Deed::Store8 => execute!("sd a2, 0(a3)", in("a3") at, in("a2") value),
        Deed::Store16 => execute!("sd a0, 0(a1)", "sd a0, 8(a1)", in("a1") at, in("a0") value),
        Deed::Add => execute!("amoadd.d a2, a0, (a1)", in("a1") at, in("a0") value, out("a2") _),
        Deed::Jump => execute!("jr {}", in(reg) at),
        Deed::Call => execute!("jalr ra, {}", in(reg) at, clobber_abi("C")),
        Deed::Overflow => {
            black_box(overflow(value));
        }
        Deed::Undefined => execute!("unimp"),
        Deed::Breakpoint => execute!("ebreak"),
        Deed::CompressedBreakpoint => execute!(".half 0x9002", ".half 0x0001"),
        Deed::Syscall => execute!("ecall", in("a7") value, inout("a0") 0_u64 => _, out("a1") _),
        Deed::Vectors => execute!(
            "fmv.d.x ft0, {0}", "fmv.d.x fa0, {0}", "fmv.d.x fs0, {0}", "fmv.d.x fs11, {0}",
            "fmv.d.x ft11, {0}", in(reg) value, out("ft0") _, out("fa0") _, out("fs0") _, out("fs11") _,
            out("ft11") _,
        ),
        Deed::Spin => loop {
            core::hint::spin_loop();
        },
        Deed::NoStack => execute!("li sp, 0", "unimp"),
        Deed::Flagged => {
            let mut frame = [0_u64; 8];
            let frame = (&raw mut frame).map_addr(|at| at.next_multiple_of(32)).cast::<u64>();
            // SAFETY: none: the frame is on this stack.
            unsafe { frame.write(vmffi::abi::trap::CALL) };
            execute!("fscsr {}", in(reg) value & 0xff);
            if method == METHOD_GATE {
                execute!(
                    "jalr ra, t1", inout("t1") at => _, inout("a0") vmffi::abi::trap::CALL => _,
                    inout("a1") 0_u64 => _, inout("a2") 0_u64 => _, inout("a3") 0_u64 => _,
                    clobber_abi("C"),
                );
            } else {
                execute!("sd a0, 0(a1)", in("a0") frame, in("a1") at);
            }
            execute!("fscsr zero");
        }
        Deed::Thread => execute!("mv tp, {}", in(reg) value),
        Deed::Wfi => execute!("wfi"),
        Deed::Csrr => of_table(&raw const attacks_csrr, at, 0),
        Deed::Csrw => of_table(&raw const attacks_csrw, at, value),
        Deed::Sret => execute!("sret"),
        Deed::Mret => execute!("mret"),
        Deed::SfenceVma => execute!("sfence.vma"),
        // `hfence.gvma`, and `hlv.d a0, (a1)`.
        Deed::HfenceGvma => execute!(".word 0x62000073"),
        Deed::Hlv => execute!(".word 0x6c05c573", in("a1") at, out("a0") _),
        Deed::FenceI => execute!(".word 0x0000100f"),
        Deed::LoadReserved => execute!(
            "lr.d a0, (a1)", "sc.d a2, a0, (a1)", in("a1") at, out("a0") _, out("a2") _,
        ),
        Deed::StoreConditional => {
            execute!("sc.d a2, a0, (a1)", in("a1") at, in("a0") value, out("a2") _);
        }
        Deed::StoreFloat => execute!("fsd fa0, 0(a1)", in("a1") at),
        Deed::StoreCompressed => execute!(".half 0xe188", ".half 1", in("a1") at, in("a0") value),
        // `vsetivli zero, 2, e64, m1, ta, ma`, and `vse64.v v0, (a1)`.
        Deed::StoreVector => execute!(".word 0xcd817057", ".word 0x0205f027", in("a1") at),
        Deed::LoadFloat => execute!("fld fa0, 0(a1)", in("a1") at, out("fa0") _),
        Deed::CboInval => execute!(".word 0x0005a00f", in("a1") at),
        Deed::CboClean => execute!(".word 0x0015a00f", in("a1") at),
        Deed::CboZero => execute!(".word 0x0045a00f", in("a1") at),
        Deed::Vsetvli => execute!(".word 0xcd817057"),
        Deed::Push => execute!(
            "mv a2, sp", "mv sp, a1", "sd a0, -8(sp)", "mv sp, a2", in("a1") at, in("a0") value,
            out("a2") _,
        ),
        // `wrs.sto`: waits on a reservation for a short time.
        Deed::Wrs => execute!(".word 0x01d00073"),
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

/// The instructions of [`access`].
const ACCESSES: [Deed; 10] = [
    Deed::Add,
    Deed::LoadReserved,
    Deed::StoreConditional,
    Deed::StoreFloat,
    Deed::StoreCompressed,
    Deed::StoreVector,
    Deed::LoadFloat,
    Deed::CboZero,
    Deed::Push,
    Deed::Store16,
];

/// Executes one of these instructions.
pub fn access(which: u64, at: u64, count: u64) {
    deed(ACCESSES[(which % ACCESSES.len() as u64) as usize], at, count, 0);
}

/// Loads x1 to x31 except x6, with `stack` in x2, and jumps by x6.
pub fn jump(registers: [u64; GENERAL], to: u64, _: u64, stack: u64) -> ! {
    let mut words = registers;
    (words[1], words[5]) = (stack, to);
    // SAFETY: none, as above.
    unsafe {
        asm!(
            "ld x1, 0(a0)", "ld x2, 8(a0)", "ld x3, 16(a0)", "ld x4, 24(a0)", "ld x5, 32(a0)",
            "ld x6, 40(a0)", "ld x7, 48(a0)", "ld x8, 56(a0)", "ld x9, 64(a0)", "ld x11, 80(a0)",
            "ld x12, 88(a0)", "ld x13, 96(a0)", "ld x14, 104(a0)", "ld x15, 112(a0)",
            "ld x16, 120(a0)", "ld x17, 128(a0)", "ld x18, 136(a0)", "ld x19, 144(a0)",
            "ld x20, 152(a0)", "ld x21, 160(a0)", "ld x22, 168(a0)", "ld x23, 176(a0)",
            "ld x24, 184(a0)", "ld x25, 192(a0)", "ld x26, 200(a0)", "ld x27, 208(a0)",
            "ld x28, 216(a0)", "ld x29, 224(a0)", "ld x30, 232(a0)", "ld x31, 240(a0)",
            "ld x10, 72(a0)", "jr x6",
            in("a0") &raw const words, options(noreturn),
        )
    }
}

/// The offset in a frame of ra, gp, tp, s0 to s11 and `fcsr`; f0 to f31 are before these.
const FRAME_GENERAL: usize = 256;

// The words, the frame, sp, gp, tp.
global_asm!(
    ".pushsection .bss.frames, \"aw\", @nobits",
    ".balign 16",
    "attacks_frame: .skip 48",
    ".popsection",
    ".pushsection .text.frames, \"ax\", @progbits",
    ".option push",
    ".option norelax",
    ".option arch, +d, +zicsr",
    ".macro attacks_floats instruction, base",
    ".irp number, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "\\instruction f\\number, 8 * \\number(\\base)",
    ".endr",
    ".endm",
    ".macro attacks_saved instruction, base, offset",
    ".irp pair, 0,1,2,3,4,5,6,7,8,9,10,11",
    "\\instruction s\\pair, 8 * \\pair + \\offset(\\base)",
    ".endr",
    ".endm",
    // Words, frame, operand, method.
    "attacks_framed:",
    "addi sp, sp, -224", "sd ra, 0(sp)",
    "attacks_saved sd, sp, 8",
    "fsd fs0, 112(sp)", "fsd fs1, 120(sp)", "fsd fs2, 128(sp)", "fsd fs3, 136(sp)",
    "fsd fs4, 144(sp)", "fsd fs5, 152(sp)", "fsd fs6, 160(sp)", "fsd fs7, 168(sp)",
    "fsd fs8, 176(sp)", "fsd fs9, 184(sp)", "fsd fs10, 192(sp)", "fsd fs11, 200(sp)",
    "lla t0, attacks_frame",
    "sd a0, 0(t0)", "sd a1, 8(t0)", "sd sp, 16(t0)", "sd gp, 24(t0)", "sd tp, 32(t0)",
    "attacks_floats fld, a1",
    "ld gp, {general} + 8(a1)", "ld tp, {general} + 16(a1)",
    "attacks_saved ld, a1, {general} + 24",
    "ld t1, {general} + 120(a1)", "fscsr t1",
    "mv t1, a2", "mv t2, a0",
    "li t3, 3", "beq a3, t3, 2f",
    // A doorbell: the words are a frame of the ABI.
    "mv a1, t1", "sd a0, 0(a1)",
    "ld a4, 0(t2)", "ld a5, 8(t2)", "ld a6, 16(t2)", "ld a7, 24(t2)", "j 3f",
    "2: ld a0, 0(t2)", "ld a1, 8(t2)", "ld a2, 16(t2)", "ld a3, 24(t2)", "jalr ra, t1",
    "mv a4, a0", "mv a5, a1", "mv a6, a2", "mv a7, a3",
    "3: lla t0, attacks_frame",
    "ld a0, 0(t0)", "ld a1, 8(t0)", "ld t1, 16(t0)",
    "beq sp, t1, 4f", "unimp",
    "4: sd a4, 0(a0)", "sd a5, 8(a0)", "sd a6, 16(a0)", "sd a7, 24(a0)",
    "attacks_floats fsd, a1",
    "sd gp, {general} + 8(a1)", "sd tp, {general} + 16(a1)",
    "attacks_saved sd, a1, {general} + 24",
    "frcsr t1", "sd t1, {general} + 120(a1)", "fscsr zero",
    "ld gp, 24(t0)", "ld tp, 32(t0)",
    "fld fs0, 112(sp)", "fld fs1, 120(sp)", "fld fs2, 128(sp)", "fld fs3, 136(sp)",
    "fld fs4, 144(sp)", "fld fs5, 152(sp)", "fld fs6, 160(sp)", "fld fs7, 168(sp)",
    "fld fs8, 176(sp)", "fld fs9, 184(sp)", "fld fs10, 192(sp)", "fld fs11, 200(sp)",
    "attacks_saved ld, sp, 8",
    "ld ra, 0(sp)", "addi sp, sp, 224",
    "ret",
    ".option pop",
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

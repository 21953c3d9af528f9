//! What is riscv64 in the guest: instructions that are denied, registers that a trap preserves, and the exceptions that the
//! host sees.

use core::arch::asm;

use super::state::Registers;

/// Causes of exceptions.
pub const INVALID: u8 = 2;
pub const BREAKPOINT: u8 = 3;
pub const READ_FAULT: u8 = 13;
pub const WRITE_FAULT: u8 = 15;
pub const EXECUTE_FAULT: u8 = 12;
/// Of a system call in a virtual machine.
pub const SYSTEM_CALL: u8 = 8;
/// A division by zero is -1, and a guest may wait for an interrupt.
pub const DIVIDE: Option<u8> = None;
pub const HALT: Option<u8> = None;
pub const NO_ADDRESS: Option<u8> = None;

/// Whether the doorbell's words are in a frame, so that a store without one is no trap.
pub const FRAMES: bool = true;

/// Zeros are no instruction: the exception, which has no address.
pub const ZEROS: (u8, Option<u64>) = (INVALID, None);

/// getpid(2).
pub const NUMBER: u64 = 172;

#[inline(always)]
pub fn read(place: u64) {
    // SAFETY: none: the test is that the guest is stopped. That holds for all of these functions.
    unsafe { asm!("ld {to}, 0({at})", at = in(reg) place, to = lateout(reg) _) }
}

#[inline(always)]
pub fn write(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("sb zero, 0({at})", at = in(reg) place) }
}

#[inline(always)]
pub fn jump(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("jr {at}", at = in(reg) place) }
}

#[inline(always)]
pub fn undefined() {
    // SAFETY: see above.
    unsafe { asm!("unimp") }
}

#[inline(always)]
pub fn divide() {
    // SAFETY: see above.
    unsafe { asm!("divu {0}, {0}, zero", inout(reg) 1_u64 => _) }
}

#[inline(always)]
pub fn system_call() {
    // SAFETY: see above.
    unsafe { asm!("ecall", in("a7") NUMBER, inout("a0") 0_u64 => _) }
}

#[inline(always)]
pub fn halt() {
    // SAFETY: see above.
    unsafe { asm!("wfi") }
}

#[inline(always)]
pub fn breakpoint() {
    // SAFETY: see above.
    unsafe { asm!("ebreak") }
}

#[inline(always)]
pub fn store_4(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("sw a0, 0(a1)", in("a1") place, in("a0") 1_u64) }
}

#[inline(always)]
pub fn store_8(place: u64, value: u64) {
    // SAFETY: see above.
    unsafe { asm!("sd a0, 0(a1)", in("a1") place, in("a0") value) }
}

/// `frm` that rounds towards zero, and a thread pointer.
const CHANGED: u32 = 1;
const OTHER: u64 = 0x1234_5678_9abc_def0;

/// Changes the registers, if `change`, and returns their contents.
pub fn registers(change: bool) -> Registers {
    let (rounding, other): (u64, u64);
    if change {
        // QEMU tells a hypervisor that the state of floating point has changed after the last instruction only, not after
        // `fsrm`, and the hypervisor does not save what has not changed.
        // SAFETY: it changes the rounding mode, on which no code here depends, the thread pointer, which no code uses, and ft0.
        unsafe {
            asm!(
                "fsrm {}", "mv tp, {}", "fmv.d.x ft0, zero", in(reg) u64::from(CHANGED), in(reg) OTHER, out("ft0") _,
            )
        };
    }
    // SAFETY: it reads registers.
    unsafe { asm!("frrm {}", "mv {}, tp", out(reg) rounding, out(reg) other) };
    Registers { rounding: rounding as u32, x87: 0, other }
}

/// Whether these are the contents at the guest's entry.
pub fn is_initial(registers: &Registers) -> bool {
    *registers == Registers { rounding: 0, x87: 0, other: 0 }
}

/// Whether these are the contents after a change.
pub fn is_changed(registers: &Registers) -> bool {
    *registers == Registers { rounding: CHANGED, x87: 0, other: OTHER }
}

/// The counter of time.
pub fn ticks() -> u64 {
    let ticks;
    // SAFETY: the instruction only reads a counter, and a guest may execute it.
    unsafe { asm!("rdtime {}", out(reg) ticks) };
    ticks
}

/// Adds in floating-point registers.
pub fn add_vectors() {
    let sum: u64;
    // SAFETY: the instructions use the registers that they name.
    unsafe {
        asm!(
            "fcvt.d.l {f}, {one}", "fadd.d {f}, {f}, {f}", "fmv.x.d {sum}, {f}", f = out(freg) _, one = in(reg) 3_u64,
            sum = lateout(reg) sum,
        );
    }
    assert_eq!(f64::from_bits(sum), 6.0);
}

//! What is aarch64 in the guest: instructions that are denied, registers that a trap preserves, and the exceptions that the
//! host sees.

use core::arch::asm;

use super::state::Registers;

/// Classes of exceptions.
pub const INVALID: u8 = 0;
pub const BREAKPOINT: u8 = 0x3c;
pub const READ_FAULT: u8 = 0x24;
pub const WRITE_FAULT: u8 = 0x24;
pub const EXECUTE_FAULT: u8 = 0x20;
/// Of a system call in a virtual machine.
pub const SYSTEM_CALL: u8 = 0x15;
/// A division by zero is 0, and a guest may wait for an interrupt.
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
    unsafe { asm!("ldr {to}, [{at}]", at = in(reg) place, to = lateout(reg) _) }
}

#[inline(always)]
pub fn write(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("strb wzr, [{at}]", at = in(reg) place) }
}

#[inline(always)]
pub fn jump(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("br {at}", at = in(reg) place) }
}

#[inline(always)]
pub fn undefined() {
    // SAFETY: see above.
    unsafe { asm!("udf #0") }
}

#[inline(always)]
pub fn divide() {
    // SAFETY: see above.
    unsafe { asm!("udiv {0}, {0}, xzr", inout(reg) 1_u64 => _) }
}

#[inline(always)]
pub fn system_call() {
    // SAFETY: see above.
    unsafe { asm!("svc #0", in("x8") NUMBER, inout("x0") 0_u64 => _) }
}

#[inline(always)]
pub fn halt() {
    // SAFETY: see above.
    unsafe { asm!("wfi") }
}

#[inline(always)]
pub fn breakpoint() {
    // SAFETY: see above.
    unsafe { asm!("brk #7") }
}

#[inline(always)]
pub fn store_4(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("str w0, [x1]", in("x1") place, in("x0") 1_u64) }
}

#[inline(always)]
pub fn store_8(place: u64, value: u64) {
    // SAFETY: see above.
    unsafe { asm!("str x0, [x1]", in("x1") place, in("x0") value) }
}

/// FPCR that rounds towards zero, and a thread pointer.
const CHANGED: u32 = 3 << 22;
const OTHER: u64 = 0x1234_5678_9abc_def0;

/// Changes the registers, if `change`, and returns their contents.
pub fn registers(change: bool) -> Registers {
    let (fpcr, other): (u64, u64);
    if change {
        // SAFETY: it changes the rounding mode, on which no code here depends, and the thread pointer, which no code uses.
        unsafe {
            asm!("msr fpcr, {}", "msr tpidr_el0, {}", in(reg) u64::from(CHANGED), in(reg) OTHER);
        }
    }
    // SAFETY: it reads registers.
    unsafe { asm!("mrs {}, fpcr", "mrs {}, tpidr_el0", out(reg) fpcr, out(reg) other) };
    Registers { rounding: fpcr as u32, x87: 0, other }
}

/// Whether these are the contents at the guest's entry.
pub fn is_initial(registers: &Registers) -> bool {
    *registers == Registers { rounding: 0, x87: 0, other: 0 }
}

/// Whether these are the contents after a change.
pub fn is_changed(registers: &Registers) -> bool {
    *registers == Registers { rounding: CHANGED, x87: 0, other: OTHER }
}

/// The virtual counter.
pub fn ticks() -> u64 {
    let ticks;
    // SAFETY: the instruction only reads a counter, and a guest may execute it.
    unsafe { asm!("mrs {}, cntvct_el0", out(reg) ticks) };
    ticks
}

/// Adds in SIMD registers.
pub fn add_vectors() {
    let sum: u64;
    // SAFETY: the instructions use the registers that they name.
    unsafe {
        asm!(
            "fmov v0.2d, #1.5", "fadd v0.2d, v0.2d, v0.2d", "umov {}, v0.d[1]", out(reg) sum, out("v0") _,
        );
    }
    assert_eq!(f64::from_bits(sum), 3.0);
}

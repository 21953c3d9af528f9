//! What is x86_64 in the guest: instructions that are denied, registers that a trap preserves, and the exceptions that the
//! host sees.

use core::arch::{
    asm,
    x86_64::{__cpuid, _mm256_add_ps, _mm256_loadu_ps, _mm256_storeu_ps, _rdtsc, _xgetbv},
};

use super::state::Registers;

/// Vectors of exceptions.
pub const INVALID: u8 = 6;
pub const BREAKPOINT: u8 = 3;
pub const READ_FAULT: u8 = 14;
pub const WRITE_FAULT: u8 = 14;
pub const EXECUTE_FAULT: u8 = 14;
/// Of a system call in a virtual machine: it is undefined.
pub const SYSTEM_CALL: u8 = 6;
/// Those of [`divide`], of [`halt`], and of a read at `1 << 63`.
pub const DIVIDE: Option<u8> = Some(0);
pub const HALT: Option<u8> = Some(13);
pub const NO_ADDRESS: Option<u8> = Some(13);

/// Whether the doorbell's words are in a frame, so that a store without one is no trap.
pub const FRAMES: bool = false;

/// Zeros are an instruction, `add [rax], al`: its exception, and the address.
pub const ZEROS: (u8, Option<u64>) = (14, Some(0));

/// getpid(2).
pub const NUMBER: u64 = 39;

#[inline(always)]
pub fn read(place: u64) {
    // SAFETY: none: the test is that the guest is stopped. That holds for all of these functions.
    unsafe { asm!("mov {to}, [{at}]", at = in(reg) place, to = lateout(reg) _) }
}

#[inline(always)]
pub fn write(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("mov byte ptr [{at}], 1", at = in(reg) place) }
}

#[inline(always)]
pub fn jump(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("jmp {at}", at = in(reg) place) }
}

#[inline(always)]
pub fn undefined() {
    // SAFETY: see above.
    unsafe { asm!("ud2") }
}

#[inline(always)]
pub fn divide() {
    // SAFETY: see above.
    unsafe { asm!("div {by:e}", by = in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) }
}

#[inline(always)]
pub fn system_call() {
    // SAFETY: see above.
    unsafe { asm!("syscall", inout("rax") NUMBER => _, out("rcx") _, out("r11") _) }
}

#[inline(always)]
pub fn halt() {
    // SAFETY: see above.
    unsafe { asm!("hlt") }
}

#[inline(always)]
pub fn breakpoint() {
    // SAFETY: see above.
    unsafe { asm!("int3") }
}

#[inline(always)]
pub fn store_4(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("mov [rdx], eax", in("rdx") place, in("eax") 1) }
}

#[inline(always)]
pub fn store_8(place: u64, value: u64) {
    // SAFETY: see above.
    unsafe { asm!("mov [rdx], rax", in("rdx") place, in("rax") value) }
}

/// Changes the registers, if `change`, and returns their contents.
pub fn registers(change: bool) -> Registers {
    let (mut rounding, mut x87, mut other) = (0_u32, 0_u16, 0_u64);
    if change {
        // SAFETY: it changes the rounding mode, on which no code here depends.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &0x7f80_u32) };
        // SAFETY: as above.
        unsafe { asm!("fldcw [{}]", in(reg) &0x0f7f_u16) };
    }
    // SAFETY: the instruction stores 4 bytes in the variable.
    unsafe { asm!("stmxcsr [{}]", in(reg) &mut rounding) };
    // SAFETY: the instruction stores 2 bytes in the variable.
    unsafe { asm!("fnstcw [{}]", in(reg) &mut x87) };
    if has_avx() {
        if change {
            // SAFETY: the processor has AVX, and no code here is compiled for it, so none uses that half. All bits are set.
            unsafe { asm!("vcmptrueps ymm15, ymm15, ymm15", out("xmm15") _) };
        }
        // SAFETY: as above.
        unsafe {
            asm!("vextractf128 xmm14, ymm15, 1", "movq {}, xmm14", out(reg) other, out("xmm14") _)
        };
    }
    // Without the flags of exceptions.
    Registers { rounding: rounding & !0x3f, x87, other }
}

/// Whether these are the contents at the guest's entry, except for the control word of x87, which is not the same everywhere.
pub fn is_initial(registers: &Registers) -> bool {
    (registers.rounding, registers.other) == (0x1f80, 0)
}

/// Whether these are the contents after a change.
pub fn is_changed(registers: &Registers) -> bool {
    (registers.rounding, registers.x87) == (0x7f80, 0x0f7f)
}

/// The time-stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: the instruction only reads a counter, and a guest may execute it.
    unsafe { _rdtsc() }
}

/// Adds in AVX registers, if there is AVX.
pub fn add_vectors() {
    if has_avx() {
        let mut sum = [0.0; 8];
        // SAFETY: the processor has AVX.
        unsafe { add(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &[0.5; 8], &mut sum) };
        assert_eq!(sum, [1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5]);
    }
}

/// Whether there is AVX; then its registers must be enabled, too.
fn has_avx() -> bool {
    #[allow(unused_unsafe, reason = "it is safe in newer compilers")]
    // SAFETY: every 64-bit processor has CPUID.
    let features = unsafe { __cpuid(1) }.ecx;
    // SAFETY: the processor reports that it has the instruction.
    let on = features >> 27 & 1 != 0 && unsafe { enabled() } & 6 == 6;
    assert!(on || features >> 28 & 1 == 0, "the processor has AVX, and it is not enabled");
    on
}

/// # Safety
///
/// The processor has XSAVE.
#[target_feature(enable = "xsave")]
unsafe fn enabled() -> u64 {
    // SAFETY: register 0 always exists.
    unsafe { _xgetbv(0) }
}

/// # Safety
///
/// The processor has AVX.
#[target_feature(enable = "avx")]
unsafe fn add(a: &[f32; 8], b: &[f32; 8], sum: &mut [f32; 8]) {
    // SAFETY: each array has eight values.
    let (a, b) = unsafe { (_mm256_loadu_ps(a.as_ptr()), _mm256_loadu_ps(b.as_ptr())) };
    #[allow(unused_unsafe, reason = "it is safe in newer compilers")]
    // SAFETY: the processor has AVX.
    let all = unsafe { _mm256_add_ps(a, b) };
    // SAFETY: the array has eight values.
    unsafe { _mm256_storeu_ps(sum.as_mut_ptr(), all) };
}

//! The processor's vector registers can be used.

use core::arch::x86_64::{__cpuid, _mm256_add_ps, _mm256_loadu_ps, _mm256_storeu_ps, _xgetbv};

use vmffi::Peer;

use super::{Check, nesting::NestingClient};

pub const CHECKS: &[Check] = &[("avx", avx), ("vectors_across_calls", across)];

/// Whether there is AVX; then its registers must be enabled, too.
pub fn has_avx() -> bool {
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

fn avx(_: &Peer) {
    if has_avx() {
        let mut sum = [0.0; 8];
        // SAFETY: the processor has AVX.
        unsafe { add(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &[0.5; 8], &mut sum) };
        assert_eq!(sum, [1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5]);
    }
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

/// Sums in vector registers that continue across calls, in both directions, nested.
fn across(peer: &Peer) {
    let mut sums = [0.0_f64; 4];
    for i in 0..20_u32 {
        for (sum, by) in sums.iter_mut().zip([1.0, 0.5, 0.25, 0.125]) {
            *sum += by * f64::from(i);
        }
        assert_eq!(NestingClient::from(peer).down(3, 0), Ok(4));
    }
    assert_eq!(sums, [190.0, 95.0, 47.5, 23.75]);
}

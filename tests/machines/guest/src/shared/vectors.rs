//! The processor's vector registers can be used.

use vmffi::Peer;

use super::{Check, native, nesting::NestingClient};

pub const CHECKS: &[Check] = &[("vectors", vectors), ("vectors_across_calls", across)];

fn vectors(_: &Peer) {
    native::add_vectors();
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

//! What a work costs at least on this machine.

use std::hint::black_box;

use crate::measure::{Run, each};

#[inline(never)]
fn next(x: u64) -> u64 {
    x.wrapping_add(1)
}

pub fn indirect_call() -> Run {
    #[inline(never)]
    fn call(function: fn(u64) -> u64, x: u64) -> u64 {
        function(x)
    }
    each(|| call(black_box(next), black_box(7)))
}

pub fn clone(len: usize) -> Run {
    #[inline(never)]
    fn clone(bytes: &Vec<u8>) -> Vec<u8> {
        bytes.clone()
    }
    let bytes = vec![7; len];
    each(move || drop(black_box(clone(black_box(&bytes)))))
}

/// The copies that the contract requires: into shared memory, and out of it, into a vector.
pub fn two_copies(len: usize) -> Run {
    #[inline(never)]
    fn send(shared: &mut [u8], bytes: &[u8]) {
        shared.copy_from_slice(bytes);
    }
    #[inline(never)]
    fn receive(shared: &[u8]) -> Vec<u8> {
        shared.to_vec()
    }
    let (bytes, mut shared) = (vec![7; len], vec![0; len]);
    each(move || {
        send(black_box(&mut shared), black_box(&bytes));
        drop(black_box(receive(black_box(&shared))));
    })
}

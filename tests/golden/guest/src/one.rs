//! A guest that calls one function, in code that `tests/golden` looks at.
#![no_std]
#![no_main]

use vmffi::{CallError, Peer};

vmffi::ffi_interface! {
    pub interface Meter { fn scalar(x: u64) -> u64; }
}

/// A hypercall with a scalar, whose failure is a 0.
#[unsafe(no_mangle)]
#[inline(never)]
fn hypercall(host: &Peer, x: u64) -> u64 {
    MeterClient::from(host).scalar(x).unwrap_or(0)
}

/// So many hypercalls, each with the result of the one before.
#[unsafe(no_mangle)]
#[inline(never)]
fn hypercalls(host: &Peer, times: u64, x: u64) -> Result<u64, CallError> {
    let meter = MeterClient::from(host);
    (0..times).try_fold(x, |x, _| meter.scalar(x))
}

fn start(host: &Peer) {
    let _ = hypercalls(host, hypercall(host, 1), 2);
}

struct Guest;
vmffi::serve!(Guest; calls Meter);
vmffi::entry! { server: Guest = Guest, arena: 4096, start: start }
vmffi::panic_handler!();
vmffi::memory_functions!();

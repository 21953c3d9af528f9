//! Operations that the system denies to a guest: one function each, whose name the host must find.

use core::hint::black_box;

use super::{control::Crime, native};

/// Executes a crime. If it returns, the crime was not prevented.
pub fn commit(crime: Crime, place: u64) {
    match crime {
        Crime::Read => reads(place),
        Crime::Write => writes(place),
        Crime::Jump => jumps(place),
        Crime::Undefined => undefined(),
        Crime::Divide => divides(),
        Crime::Overflow => drop(black_box(overflows(0))),
        Crime::SystemCall => calls_the_system(),
        Crime::Halt => halts(),
        Crime::Breakpoint => breaks(),
        Crime::Narrow => rings_narrow(place),
        Crime::Chatter => rings_nonsense(place),
    }
}

#[inline(never)]
fn reads(place: u64) {
    native::read(place);
}

#[inline(never)]
fn writes(place: u64) {
    native::write(place);
}

#[inline(never)]
fn jumps(place: u64) {
    native::jump(place);
}

#[inline(never)]
pub fn undefined() {
    native::undefined();
}

#[inline(never)]
fn divides() {
    native::divide();
}

#[inline(never)]
fn overflows(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    // This call does not return, but the compiler must not know that, and must not make it a tail call.
    if room[3] == u64::MAX { 0 } else { overflows(room[3] + 1) + black_box(&room)[5] }
}

#[inline(never)]
fn calls_the_system() {
    native::system_call();
}

#[inline(never)]
fn halts() {
    native::halt();
}

#[inline(never)]
fn breaks() {
    native::breakpoint();
}

/// Stores to the doorbell with a width of four bytes.
#[inline(never)]
fn rings_narrow(place: u64) {
    native::store_4(place);
}

/// A store of a trap's width.
#[inline(never)]
fn rings_nonsense(place: u64) {
    native::store_8(place, 0x1234);
}

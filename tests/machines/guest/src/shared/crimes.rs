//! Operations that the system denies to a guest: one function each, whose name the host must find.

use core::{arch::asm, hint::black_box};

use super::control::Crime;

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
    // SAFETY: none: the test is that the guest is stopped. That holds for all of these functions.
    unsafe { asm!("mov {to}, [{at}]", at = in(reg) place, to = lateout(reg) _) }
}

#[inline(never)]
fn writes(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("mov byte ptr [{at}], 1", at = in(reg) place) }
}

#[inline(never)]
fn jumps(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("jmp {at}", at = in(reg) place) }
}

#[inline(never)]
pub fn undefined() {
    // SAFETY: see above.
    unsafe { asm!("ud2") }
}

#[inline(never)]
fn divides() {
    // SAFETY: see above.
    unsafe { asm!("div {by:e}", by = in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) }
}

#[inline(never)]
fn overflows(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    // This call does not return, but the compiler must not know that, and must not make it a tail call.
    if room[3] == u64::MAX { 0 } else { overflows(room[3] + 1) + black_box(&room)[5] }
}

#[inline(never)]
fn calls_the_system() {
    // getpid(2)
    // SAFETY: see above.
    unsafe { asm!("syscall", inout("rax") 39_u64 => _, out("rcx") _, out("r11") _) }
}

#[inline(never)]
fn halts() {
    // SAFETY: see above.
    unsafe { asm!("hlt") }
}

#[inline(never)]
fn breaks() {
    // SAFETY: see above.
    unsafe { asm!("int3") }
}

/// Stores to the doorbell with a width of four bytes.
#[inline(never)]
fn rings_narrow(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("mov [rdx], eax", in("rdx") place, in("eax") 1) }
}

/// A store of a trap's width.
#[inline(never)]
fn rings_nonsense(place: u64) {
    // SAFETY: see above.
    unsafe { asm!("mov [rdx], rax", in("rdx") place, in("rax") 0x1234_u64) }
}

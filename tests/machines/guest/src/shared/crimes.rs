//! What a guest may not do: one function each, whose name the host is to find.

use core::{arch::asm, hint::black_box};

use super::control::Crime;

/// Does it. Who comes back has not been caught.
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
    // SAFETY: none: that it is stopped is what is tested. That goes for all of these.
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
    // It does not end, but the compiler is not to know; nor is the call to be the last thing it does.
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

/// Rings at the doorbell, but with four bytes.
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

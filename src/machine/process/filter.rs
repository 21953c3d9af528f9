//! The filters of system calls of a guest's process (seccomp(2)), as classic BPF.
//!
//! There are two, since a filter with a listener must be there before the listener can be handed over, which takes
//! system calls. The kernel runs both, and acts on the result that denies more: `SECCOMP_RET_TRAP` comes before
//! `SECCOMP_RET_USER_NOTIF`, and that before `SECCOMP_RET_ALLOW`.

use core::mem::offset_of;
use std::vec::Vec;

use nix::libc::{self, seccomp_data, sock_filter};

use super::{
    control::Control,
    gate::{BLOCKED, CONTROL_AT, SIGNAL_STACK, TRAP_CALL},
    native::{AUDIT_ARCH, PLACES},
};

/// Loads the 32 bits at an offset of `struct seccomp_data`.
fn load(offset: usize) -> sock_filter {
    sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset as u32,
    }
}

/// Ends the filter with a result.
fn done(result: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: result }
}

/// Skips `jt` instructions if the loaded value is `k`, else `jf`.
fn if_equal(k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt, jf, k }
}

/// Appends a comparison of eight bytes of `struct seccomp_data`. If they differ, the system call is denied.
fn compare(filter: &mut Vec<sock_filter>, offset: usize, with: u64) {
    for (offset, half) in [(offset, with as u32), (offset + 4, (with >> 32) as u32)] {
        filter.extend([load(offset), if_equal(half, 1, 0), done(libc::SECCOMP_RET_TRAP)]);
    }
}

/// The filter with the listener: it hands over the system call of traps, and allows all others.
pub(super) fn listening() -> Vec<sock_filter> {
    std::vec![
        load(offset_of!(seccomp_data, nr)),
        if_equal(TRAP_CALL as u32, 0, 1),
        done(libc::SECCOMP_RET_USER_NOTIF),
        done(libc::SECCOMP_RET_ALLOW),
    ]
}

/// The filter that confines a vCPU to three system calls of the gate: the trap, and setting the signal stack and the
/// signal mask to the one value that each may have. All others raise SIGSYS, which the handler of signals reports as a
/// fault.
pub(super) fn confining(vcpu: u32) -> Vec<sock_filter> {
    let mut filter = std::vec![
        load(offset_of!(seccomp_data, arch)),
        if_equal(AUDIT_ARCH, 1, 0),
        done(libc::SECCOMP_RET_TRAP),
    ];
    let stack = [CONTROL_AT + Control::slot(vcpu) + SIGNAL_STACK, 0];
    let mask = [libc::SIG_SETMASK as u64, CONTROL_AT + BLOCKED, 0];
    for (number, at, arguments) in [
        (TRAP_CALL, PLACES.trapped, &[][..]),
        (libc::SYS_sigaltstack, PLACES.alternated, &stack),
        (libc::SYS_rt_sigprocmask, PLACES.masked, &mask),
    ] {
        let mut rule = Vec::new();
        compare(&mut rule, offset_of!(seccomp_data, instruction_pointer), at);
        for (index, argument) in arguments.iter().enumerate() {
            compare(&mut rule, offset_of!(seccomp_data, args) + 8 * index, *argument);
        }
        rule.push(done(libc::SECCOMP_RET_ALLOW));
        filter.extend([
            load(offset_of!(seccomp_data, nr)),
            if_equal(number as u32, 0, rule.len() as u8),
        ]);
        filter.extend(rule);
    }
    filter.push(done(libc::SECCOMP_RET_TRAP));
    filter
}

//! The calling thread's signals, as sets of 64 bits like the kernel's: signal 1 is bit 0.

use std::io;

use nix::{
    libc::{self, c_int},
    sys::resource::{Resource, getrlimit},
};

/// The set of one signal, whose number is 1 to 64.
pub(super) const fn set(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// The length of a set, in bytes.
const LEN: usize = size_of::<u64>();

fn answer(result: libc::c_long) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as c_int) }
}

/// The signals that this thread blocks.
pub(super) fn blocked() -> io::Result<u64> {
    let (none, mut blocked) = (core::ptr::null::<u64>(), 0_u64);
    // SAFETY: without a new set, rt_sigprocmask(2) only writes `LEN` bytes, the size of `blocked`, which outlives the
    // call.
    let asked = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, none, &raw mut blocked, LEN)
    };
    answer(asked).map(|_| blocked)
}

/// The signals that are pending for this thread or its process.
pub(super) fn pending() -> io::Result<u64> {
    let mut pending = 0_u64;
    // SAFETY: rt_sigpending(2) writes `LEN` bytes, the size of `pending`, which outlives the call.
    let asked = unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, LEN) };
    answer(asked).map(|_| pending)
}

/// Sets this thread's signal mask; returns the previous one.
fn replace(set: u64) -> io::Result<u64> {
    let mut before = 0_u64;
    // SAFETY: rt_sigprocmask(2) reads `LEN` bytes of `set` and writes as many of `before`; both have that size, and
    // outlive the call.
    let done = unsafe {
        let how = libc::SIG_SETMASK;
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut before, LEN)
    };
    answer(done).map(|_| before)
}

/// Consumes one pending signal of this number, without waiting. Returns whether there was one.
pub(super) fn take(signal: c_int) -> io::Result<bool> {
    let (set, info) = (set(signal), core::ptr::null_mut::<libc::siginfo_t>());
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: rt_sigtimedwait(2) reads `LEN` bytes of `set` and the timeout, which outlive the call, and writes
    // nothing, since `info` is null.
    let taken = unsafe {
        libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, info, &raw const now, LEN)
    };
    match answer(taken) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Restores a signal mask of this thread when it is dropped.
struct Restored(u64);

impl Drop for Restored {
    fn drop(&mut self) {
        // rt_sigprocmask(2) with valid pointers and `SIG_SETMASK` does not fail.
        let _ = replace(self.0);
    }
}

/// Calls `run` while this thread blocks all signals.
#[cfg(feature = "process")]
pub(super) fn with_all_blocked<T>(run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _restored = Restored(replace(!0)?);
    run()
}

/// Calls `change`, which changes a file within its first `len` bytes. If RLIMIT_FSIZE forbids that, the kernel also
/// sends this thread SIGXFSZ, whose default action ends the program: the signal is blocked and consumed, so that only
/// the error remains.
pub(super) fn change_file<T>(len: u64, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let this = set(libc::SIGXFSZ);
    let before = blocked()?;
    // If the program blocks the signal and one is pending already, that one is the program's and must stay pending. A
    // second one merges with it.
    let others = before & this != 0 && pending()? & this != 0;
    let _restored = Restored(replace(before | this)?);
    match change() {
        Err(error) if error.raw_os_error() == Some(libc::EFBIG) => {
            if !others {
                take(libc::SIGXFSZ)?;
            }
            let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
            if limit >= len {
                return Err(error);
            }
            Err(io::Error::other(std::format!(
                "RLIMIT_FSIZE is {limit} bytes, but a file of {len} bytes is needed: raise the limit"
            )))
        }
        done => done,
    }
}

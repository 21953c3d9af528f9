//! The calling thread's signals, as the kernel has them: sets of 64 bits, in which signal 1 is bit 0.

use std::io;

use nix::libc::{self, c_int};

/// The set of one signal, whose number is 1 to 64.
pub(super) const fn set(signal: c_int) -> u64 {
    1 << (signal - 1)
}

const LEN: usize = size_of::<u64>();

fn answer(result: libc::c_long) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as c_int) }
}

/// The signals that this thread blocks.
pub(super) fn blocked() -> io::Result<u64> {
    let (none, mut blocked) = (core::ptr::null::<u64>(), 0_u64);
    // SAFETY: the kernel writes as many bytes as it is told, and reads no set.
    let asked = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, none, &raw mut blocked, LEN)
    };
    answer(asked).map(|_| blocked)
}

/// The signals that wait until this thread blocks them no longer.
pub(super) fn pending() -> io::Result<u64> {
    let mut pending = 0_u64;
    // SAFETY: the kernel writes as many bytes as it is told.
    let asked = unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, LEN) };
    answer(asked).map(|_| pending)
}

/// Has this thread block these signals and no others; says which it has blocked before.
fn replace(set: u64) -> io::Result<u64> {
    let mut before = 0_u64;
    // SAFETY: the kernel reads and writes as many bytes as it is told.
    let done = unsafe {
        let how = libc::SIG_SETMASK;
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut before, LEN)
    };
    answer(done).map(|_| before)
}

/// Takes a signal that is pending, without a wait. Says whether there was one.
pub(super) fn take(signal: c_int) -> io::Result<bool> {
    let (set, info) = (set(signal), core::ptr::null_mut::<libc::siginfo_t>());
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel reads a set of as many bytes as it is told, and a time; it is given no place for a description.
    let taken = unsafe {
        libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, info, &raw const now, LEN)
    };
    match answer(taken) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Changes a file that has, or is to have, `len` bytes. Where RLIMIT_FSIZE forbids that, the kernel sends this thread a SIGXFSZ,
/// which would end the program: the error is all that comes of it here.
pub(super) fn change_file<T>(len: u64, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    struct Restored(u64);
    impl Drop for Restored {
        fn drop(&mut self) {
            // It was this thread's mask before, so there is nothing about it to refuse.
            let _ = replace(self.0);
        }
    }
    let this = set(libc::SIGXFSZ);
    let before = blocked()?;
    // One that is pending is for the program, which blocks it, and is not told apart from another one.
    let others = before & this != 0 && pending()? & this != 0;
    let _restored = Restored(replace(before | this)?);
    match change() {
        Err(error) if error.raw_os_error() == Some(libc::EFBIG) => {
            if !others {
                take(libc::SIGXFSZ)?;
            }
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the kernel writes the limit there.
            answer(unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) }.into())?;
            let libc::rlimit { rlim_cur: limit, .. } = limit;
            if limit >= len {
                return Err(error);
            }
            Err(io::Error::other(std::format!(
                "RLIMIT_FSIZE is {limit} bytes, and a file of {len} bytes is needed: raise the limit"
            )))
        }
        done => done,
    }
}

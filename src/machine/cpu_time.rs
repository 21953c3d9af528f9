//! Clocks of the processor time of threads and processes (clock_gettime(2), clock_getcpuclockid(3)).

use std::{io, time::Duration};

use nix::{errno::Errno, libc};

/// The kernel's encoding of such a clock: the complement of the ID above three bits, of which 2 stands for the time
/// that the scheduler counts, and 4 for a thread (Linux, `include/linux/posix-timers_types.h`).
const SCHEDULED: libc::clockid_t = 2;
#[cfg(feature = "kvm")]
const THREAD: libc::clockid_t = 4;

/// The processor time of the calling thread.
#[cfg(feature = "kvm")]
pub(super) fn of_this_thread() -> io::Result<Duration> {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The processor time of a thread of this process.
#[cfg(feature = "kvm")]
pub(super) fn of_thread(id: libc::pid_t) -> io::Result<Duration> {
    read(!id << 3 | SCHEDULED | THREAD)
}

/// The processor time of all threads of a process.
#[cfg(feature = "process")]
pub(super) fn of_process(id: libc::pid_t) -> io::Result<Duration> {
    read(!id << 3 | SCHEDULED)
}

fn read(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) writes one `timespec`, which outlives the call, and accesses no other memory of the
    // caller.
    Errno::result(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

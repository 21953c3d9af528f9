//! The host's end of a vCPU's traps: notifications of seccomp(2).

use core::mem;
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc::{self, seccomp_notif, seccomp_notif_resp},
};
use once_cell::race::OnceBool;

/// The listener of one vCPU.
pub(super) struct Listener(OwnedFd);

/// A system call of the gate that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notification {
    /// Names it in the answer.
    pub(super) id: u64,
    pub(super) arguments: [u64; 6],
    /// The thread that made it, in this program's PID namespace.
    pub(super) thread: u32,
}

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`: the kernel expects that host and guest alternate, and runs both on one
/// processor.
const SYNC_WAKE_UP: u64 = 1;

impl Listener {
    pub(super) fn new(fd: OwnedFd) -> Self {
        // Linux before 6.6 does not have it: then each trap may wake up another processor.
        // SAFETY: this ioctl takes its flags by value, and accesses no memory of the caller.
        let _ = unsafe {
            libc::ioctl(fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP)
        };
        Self(fd)
    }

    /// Waits for the vCPU's next trap. Returns `None` if its process has ended.
    pub(super) fn receive(&self) -> io::Result<Option<Notification>> {
        loop {
            if !wakes_at_exit() && self.poll(-1)? & (libc::POLLIN | libc::POLLHUP) == libc::POLLHUP
            {
                return Ok(None);
            }
            // SAFETY: `seccomp_notif` consists of integers, for which zeros are valid, and the kernel wants zeros.
            let mut found: seccomp_notif = unsafe { mem::zeroed() };
            // SAFETY: the kernel writes one `seccomp_notif`, whose size is part of the request, to `found`.
            let received = unsafe {
                libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut found)
            };
            match Errno::result(received) {
                Ok(_) => {
                    let seccomp_notif { id, pid, data, .. } = found;
                    return Ok(Some(Notification { id, arguments: data.args, thread: pid }));
                }
                // A signal for this thread.
                Err(Errno::EINTR) => {}
                // The system call was interrupted before it was received, or the process has ended.
                Err(Errno::ENOENT) => {
                    if self.has_hung_up()? {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns `value` from a system call. If it has been interrupted, this has no effect.
    pub(super) fn answer(&self, id: u64, value: u64) -> io::Result<()> {
        let mut answer = seccomp_notif_resp { id, val: value as i64, error: 0, flags: 0 };
        // SAFETY: the kernel reads one `seccomp_notif_resp`, whose size is part of the request, from `answer`.
        let sent = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer)
        };
        match Errno::result(sent) {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the process has ended.
    fn has_hung_up(&self) -> io::Result<bool> {
        Ok(self.poll(0)? & libc::POLLHUP != 0)
    }

    /// Whether a system call still waits for its answer. Its thread exists then.
    pub(super) fn is_waiting(&self, id: u64) -> bool {
        // SAFETY: the kernel reads one integer, whose size is part of the request, from `id`.
        let asked = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id)
        };
        asked == 0
    }

    /// Whether a trap comes in this time, or the process ends.
    pub(super) fn is_ready_within(&self, milliseconds: libc::c_int) -> io::Result<bool> {
        Ok(self.poll(milliseconds)? != 0)
    }

    fn poll(&self, milliseconds: libc::c_int) -> io::Result<libc::c_short> {
        let mut events = [readable(&self.0)];
        poll(&mut events, milliseconds)?;
        Ok(events[0].revents)
    }
}

/// What poll(2) waits for: that a descriptor can be read, or, for one of a process, that this has ended.
pub(super) fn readable(fd: &impl AsRawFd) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// Waits for one of these; returns how many there are.
pub(super) fn poll(
    events: &mut [libc::pollfd],
    milliseconds: libc::c_int,
) -> nix::Result<libc::c_int> {
    loop {
        let (first, len) = (events.as_mut_ptr(), events.len() as libc::nfds_t);
        // SAFETY: poll(2) accesses `len` elements, which `events` borrows exclusively.
        match Errno::result(unsafe { libc::poll(first, len, milliseconds) }) {
            Err(Errno::EINTR) => {}
            ready => return ready,
        }
    }
}

/// Whether `SECCOMP_IOCTL_NOTIF_RECV` returns when the process ends, as since Linux 6.11. On older kernels each trap
/// costs one more system call, poll(2), which does.
fn wakes_at_exit() -> bool {
    static KNOWN: OnceBool = OnceBool::new();
    KNOWN.get_or_init(|| release().is_some_and(|release| release >= (6, 11)))
}

/// The version of the running kernel, if it can be read.
fn release() -> Option<(u32, u32)> {
    // SAFETY: `utsname` consists of bytes, for which zeros are valid.
    let mut names: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: uname(2) writes one `utsname`, which outlives the call.
    Errno::result(unsafe { libc::uname(&raw mut names) }).ok()?;
    let text: std::string::String = names
        .release
        .iter()
        .map(|byte| *byte as u8 as char)
        .take_while(|char| *char != '\0')
        .collect();
    let mut numbers = text.split(|char: char| !char.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The flags of a filter with a listener, as far as the kernel has them.
///
/// `WAIT_KILLABLE_RECV`, since Linux 5.19: a signal does not interrupt a system call that the host has received.
/// `SPEC_ALLOW`: the filter does not turn on the mitigation of speculative store bypass, which would slow the guest down.
/// The guest's address space holds nothing that the guest may not read.
pub(super) fn filter_flags() -> libc::c_ulong {
    #[cfg(test)]
    if LIKE_AN_OLD_KERNEL.get() {
        return libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    }
    static WAITS_KILLABLY: OnceBool = OnceBool::new();
    let (least, most) = (
        libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    );
    let waits_killably = WAITS_KILLABLY.get_or_init(|| {
        let (mode, none) = (libc::SECCOMP_SET_MODE_FILTER, core::ptr::null::<libc::sock_fprog>());
        let flags = most | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // SAFETY: the kernel checks the flags first (EINVAL), and then fails to read a filter at address 0 (EFAULT).
        let asked = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, none) };
        Errno::result(asked) != Err(Errno::EINVAL)
    });
    if waits_killably { most } else { least }
}

#[cfg(test)]
std::thread_local! {
    /// Whether this thread makes filters without `WAIT_KILLABLE_RECV`.
    pub(super) static LIKE_AN_OLD_KERNEL: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

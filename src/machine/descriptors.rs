//! Descriptors with other numbers than the standard ones.
//!
//! If a program has closed one of its descriptors 0 to 2, the kernel gives that number to the next file. What the
//! program prints, and each panic message, would then be written to a machine's memory. A program may also close these
//! numbers, or open others in their place, as daemons do.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

/// The least number of a descriptor of a machine.
pub(super) const FIRST: RawFd = 5;

/// The same file, with a descriptor that is none of 0 to [`FIRST`] - 1, and is closed by execve(2).
pub(super) fn not_standard(file: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
    let file = file.into();
    if file.as_raw_fd() >= FIRST {
        return Ok(file);
    }
    match fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(FIRST)) {
        // SAFETY: fcntl(2) has just returned this new, open descriptor, so this is its only owner.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        // RLIMIT_NOFILE is not greater than `FIRST`.
        Err(Errno::EINVAL) => Err(Errno::EMFILE.into()),
        Err(error) => Err(error.into()),
    }
}

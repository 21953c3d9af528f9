//! Resource limits of this process (getrlimit(2)), for error messages.

use std::io;

use nix::{errno::Errno, libc};

/// The current ("soft") limit of a resource, such as `RLIMIT_FSIZE`.
pub(super) fn get(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) writes one `rlimit` to `limit`, which outlives the call.
    Errno::result(unsafe { libc::getrlimit(resource, &mut limit) })?;
    Ok(limit.rlim_cur)
}

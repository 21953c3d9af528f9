//! The results of running and of resetting a guest.

use std::{fmt, string::String};

/// Why a guest has returned control to its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the guest may have exited, for example after a panic, which is not an `Err`"]
pub enum RunOutcome {
    /// The guest waits for upcalls.
    Ready,
    /// The guest has exited with this status, 0 for success. [`Host::guest_exit`](super::Host::guest_exit) returns its
    /// last text.
    Exited(u64),
}

/// Why a guest could not be reset. The guest is unchanged, unless this is [`Failed`](Self::Failed).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetError {
    /// A call or another reset, on any thread, is using one of the vCPUs.
    Busy,
    /// The guest has not yet waited for upcalls, so there is no snapshot to restore.
    NotStarted,
    /// The snapshot could not be taken, with this message: the guest is unchanged. Or it could not be restored: the
    /// guest has exited with [`GuestExit::Lost`](super::GuestExit::Lost).
    Failed(String),
}

impl fmt::Display for ResetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str(
                "the guest cannot be reset during a call: reset it when all calls have returned",
            ),
            Self::NotStarted => f.write_str(
                "the guest cannot be reset before it has waited for upcalls: run it first",
            ),
            Self::Failed(why) => write!(f, "the guest cannot be reset: {why}"),
        }
    }
}

impl std::error::Error for ResetError {}

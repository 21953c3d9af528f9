//! The results of running and of resetting a guest.

use core::fmt;

use super::GuestExit;
use crate::{
    abi::Side,
    error::{CallError, ErrorKind, ErrorText, debug_by_display},
    handshake::ConnectError,
};

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

impl RunOutcome {
    /// The outcome of running a guest, which has exited as `exit` says.
    pub(super) fn of(
        ran: Result<(), ErrorKind>,
        exit: impl FnOnce() -> Option<GuestExit>,
    ) -> Result<Self, ConnectError> {
        match ran {
            Ok(()) => Ok(Self::Ready),
            Err(why) => match exit() {
                Some(GuestExit::Exited { status, .. }) => Ok(Self::Exited(status)),
                Some(GuestExit::Unfit(mismatch)) => Err(mismatch.into()),
                Some(end) => Err(ConnectError::Exited(end)),
                None => Err(CallError::new(why).on(Side::Host).into()),
            },
        }
    }
}

/// Why a guest could not be reset. The guest is unchanged, unless this is [`Failed`](Self::Failed).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetError {
    /// A call or another reset, on any thread, is using one of the vCPUs.
    Busy,
    /// The guest has not yet waited for upcalls, so there is no checkpoint to restore.
    NotStarted,
    /// The first checkpoint could not be made, with this message: the guest is unchanged. Or it could not be restored: the
    /// guest has exited with [`GuestExit::Lost`](super::GuestExit::Lost).
    Failed(ErrorText),
}

debug_by_display!(ResetError);

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

impl core::error::Error for ResetError {}

/// Why a guest's present state could not become its checkpoint. The guest is unchanged, and so is its earlier checkpoint, if
/// there is one.
#[cfg(feature = "std")]
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A call, a reset or another checkpoint, on any thread, is using one of the vCPUs.
    Busy,
    /// The guest, or one of its vCPUs, has not yet waited for upcalls.
    NotStarted,
    /// The guest has exited, in this way.
    Exited(GuestExit),
    /// The state could not be copied, with this message. If there is no earlier checkpoint, a
    /// [`reset`](super::Host::reset) fails with the same message.
    Failed(ErrorText),
}

#[cfg(feature = "std")]
debug_by_display!(CheckpointError);

#[cfg(feature = "std")]
impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str(
                "there is no checkpoint during a call: make it when all calls have returned",
            ),
            Self::NotStarted => f.write_str(
                "there is no checkpoint before the guest has waited for upcalls on all of its vCPUs: run it first",
            ),
            Self::Exited(exit) => write!(f, "there is no checkpoint of a guest that has exited: {exit}"),
            Self::Failed(why) => write!(f, "the guest's checkpoint cannot be made: {why}"),
        }
    }
}

#[cfg(feature = "std")]
impl core::error::Error for CheckpointError {}

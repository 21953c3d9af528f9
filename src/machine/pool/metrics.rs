//! What a pool counts.

use std::time::Duration;

use crate::host::GuestExit;

/// What a pool does and has done, at one moment: [`Pool::metrics`](super::Pool::metrics).
///
/// All guests are counted once: `made == discarded + in_use + idle + resetting`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Calls and leases that have ended.
    pub leases: u64,
    /// The sum of their times, from when the caller got the guest to when it gave it back.
    pub lease_time: Duration,
    /// Guests that were reset.
    pub resets: u64,
    /// Guests that were made.
    pub made: u64,
    /// Guests that were dropped: because their reset failed, they were no longer needed, or the pool was closed.
    pub discarded: u64,
    /// Attempts to make a guest that failed.
    pub failures: u64,
    /// How the guests had exited that had when their call or lease ended. One that its holder has reset since counts no more.
    pub exits: Exits,
    /// Guests in use now.
    pub in_use: usize,
    /// Guests that are ready now.
    pub idle: usize,
    /// Guests that have exited, and that the pool's thread has still to reset or replace.
    pub resetting: usize,
    /// Callers that wait now.
    pub waiting: usize,
}

/// How many guests exited in each way: a number for each kind of [`GuestExit`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exits {
    /// [`GuestExit::Exited`].
    pub exited: u64,
    /// [`GuestExit::Fault`].
    pub fault: u64,
    /// [`GuestExit::Stopped`].
    pub stopped: u64,
    /// [`GuestExit::Deadline`].
    pub deadline: u64,
    /// [`GuestExit::CpuTime`].
    pub cpu_time: u64,
    /// [`GuestExit::TooManyCalls`].
    pub too_many_calls: u64,
    /// [`GuestExit::Unfit`].
    pub unfit: u64,
    /// [`GuestExit::Protocol`].
    pub protocol: u64,
    /// [`GuestExit::Lost`].
    pub lost: u64,
}

impl Exits {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { exited, fault, stopped, deadline, cpu_time, too_many_calls, .. } = self;
        let Self { unfit, protocol, lost, .. } = self;
        exited + fault + stopped + deadline + cpu_time + too_many_calls + unfit + protocol + lost
    }

    pub(super) fn count(&mut self, exit: &GuestExit) {
        *match exit {
            GuestExit::Exited { .. } => &mut self.exited,
            GuestExit::Fault(_) => &mut self.fault,
            GuestExit::Stopped => &mut self.stopped,
            GuestExit::Deadline => &mut self.deadline,
            GuestExit::CpuTime => &mut self.cpu_time,
            GuestExit::TooManyCalls => &mut self.too_many_calls,
            GuestExit::Unfit(_) => &mut self.unfit,
            GuestExit::Protocol(_) => &mut self.protocol,
            GuestExit::Lost(_) => &mut self.lost,
        } += 1;
    }
}

//! The thread of a pool that makes guests, resets those that have exited, and drops those that are not needed.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
    vec::Vec,
};

use super::{
    PoolError, events,
    lease::PooledGuest,
    start,
    state::{PoolInner, State},
};

/// How long the keeper waits after a first failure to make a guest; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// How long it waits at most.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// How long a guest beyond the pool's size is kept without need.
const LINGER: Duration = Duration::from_secs(1);

impl PoolInner {
    pub(super) fn spawn_keeper(&self) -> Result<(), PoolError> {
        self.state().threads += 1;
        self.spawn("vmffi pool", Self::keep)
    }

    /// Makes a guest that is ready.
    pub(super) fn make(&self) -> Result<PooledGuest, PoolError> {
        let began = Instant::now();
        let (machine, ready) =
            (self.make)().map_err(|error| PoolError::Machine(Arc::new(error)))?;
        if !ready {
            self.starts(Some(machine.stopper()))?;
            let started = start(&machine);
            self.starts(None)?;
            started?;
        }
        events::made(began);
        Ok(PooledGuest::new(machine))
    }

    fn keep(&self) {
        let mut retry = Retry::default();
        let mut trim: Option<Instant> = None;
        let mut state = self.state();
        while !state.closed {
            if let Some(guest) = state.broken.pop() {
                drop(state);
                self.repair(guest);
                state = self.state();
                continue;
            }
            let now = Instant::now();
            let wanted = self.wants_more(&state);
            if wanted && retry.at.is_none_or(|at| at <= now) {
                drop(state);
                // The server's constructor, or its destructor, may panic.
                let made = panic::catch_unwind(AssertUnwindSafe(|| self.make()));
                match made.unwrap_or(Err(PoolError::Server)) {
                    Ok(guest) => {
                        retry = Retry::default();
                        self.add(guest);
                    }
                    Err(error) => {
                        retry.failed();
                        self.add_failed(error);
                    }
                }
                state = self.state();
                continue;
            }
            let surplus = state.guests().saturating_sub(self.size);
            if surplus == 0 {
                trim = None;
            } else if trim.is_none() {
                state.least_idle = state.idle.len();
                trim = Some(now + LINGER);
            } else if trim.is_some_and(|at| at <= now) {
                trim = None;
                let unneeded = surplus.min(state.least_idle);
                let coldest: Vec<PooledGuest> = state.idle.drain(..unneeded).collect();
                self.discard(state, coldest);
                state = self.state();
                continue;
            }
            let next = trim.into_iter().chain(retry.at.filter(|_| wanted)).min();
            let wait = next.map_or(Duration::MAX, |at| at - now);
            let waited = self.kept.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wants_more(&self, state: &State) -> bool {
        let guests = state.guests();
        guests < self.size || state.waiting() != 0 && guests < self.max
    }
}

/// When the keeper tries again to make a guest.
struct Retry {
    at: Option<Instant>,
    wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { at: None, wait: FIRST_WAIT }
    }
}

impl Retry {
    fn failed(&mut self) {
        self.at = Some(Instant::now() + self.wait);
        self.wait = LAST_WAIT.min(self.wait * 2);
    }
}

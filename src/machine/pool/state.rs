//! The state of a pool: its guests, and the callers that wait for one.
//!
//! One lock protects the state. It is held to move guests from one place to another, never while a guest is made,
//! reset, dropped, or handed to a thread. A guest that becomes free goes to the one who has waited longest, so as long
//! as somebody waits, no guest is idle.

use std::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    mem,
    ops::RangeInclusive,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
    vec::Vec,
};

use super::{
    CLOSE_WAIT, DeadlineThread, Exits, Make, Metrics, PoolError, drop_caught, events,
    lease::{PooledGuest, Seat, Use},
    tasks::Job,
};
use crate::{
    host::{GuestExit, Stopper},
    memory::ProcessId,
};

/// What a pool shares with its leases, calls and threads.
pub(super) struct PoolInner {
    pub(super) make: Box<Make>,
    pub(super) size: usize,
    pub(super) max: usize,
    pub(super) lease_time: Option<Duration>,
    pub(super) deadlines: Arc<DeadlineThread>,
    state: Mutex<State>,
    /// Notified when the keeper has something to do.
    pub(super) kept: Condvar,
    /// Notified when a task has got a guest.
    pub(super) tasks: Condvar,
    /// Notified when the pool is closed and its last thread ends.
    ended: Condvar,
    process: ProcessId,
    /// For the threads.
    this: Weak<Self>,
}

#[derive(Default)]
pub(super) struct State {
    /// The guests that are ready, the one that was used last at the end.
    pub(super) idle: Vec<PooledGuest>,
    /// The least number of idle guests since the keeper last looked.
    pub(super) least_idle: usize,
    /// Guests that have exited, for the keeper.
    pub(super) broken: Vec<PooledGuest>,
    /// Those who wait, by their order of arrival.
    queue: BTreeMap<u64, Waiter>,
    ticket: u64,
    /// Tasks that have got a guest, for the next thread that is free.
    pub(super) ready: VecDeque<(PooledGuest, Arc<dyn Job>)>,
    /// The threads that call guests for tasks, and how many of them wait for one.
    pub(super) callers: usize,
    pub(super) free_callers: usize,
    /// All threads of the pool.
    pub(super) threads: usize,
    /// What stops each guest that exists: its length is their number.
    seats: Vec<Arc<Seat>>,
    /// Why no guest could be made at the last attempt.
    pub(super) failure: Option<PoolError>,
    /// Stops the guest that starts up.
    starting: Option<Stopper>,
    pub(super) closed: bool,
    in_use: usize,
    leases: u64,
    lease_time: Duration,
    resets: u64,
    made: u64,
    discarded: u64,
    pub(super) failures: u64,
    exits: Exits,
}

/// Who waits for a guest.
enum Waiter {
    Thread(Arc<Waiting>, Use),
    Task(Arc<dyn Job>),
}

/// A task that has got a guest, but no thread. The caller takes back the guest.
struct NoThread {
    guest: PooledGuest,
    job: Arc<dyn Job>,
    error: PoolError,
}

impl Waiter {
    fn fail(self, error: &PoolError) {
        match self {
            Self::Thread(waiting, _) => waiting.set(Err(error.clone())),
            Self::Task(job) => job.fail(error.clone()),
        }
    }
}

/// A thread that waits for a guest.
struct Waiting {
    outcome: Mutex<Option<Result<PooledGuest, PoolError>>>,
    set: Condvar,
}

impl Waiting {
    fn set(&self, outcome: Result<PooledGuest, PoolError>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.set.notify_one();
    }

    /// Waits for the outcome; returns `None` at `until`.
    fn wait(&self, until: Option<Instant>) -> Option<Result<PooledGuest, PoolError>> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = outcome.take() {
                return Some(outcome);
            }
            let Some(until) = until else {
                outcome = self.set.wait(outcome).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.set.wait_timeout(outcome, left);
            outcome = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// The number of guests that exist.
    pub(super) fn guests(&self) -> usize {
        self.seats.len()
    }

    /// The number of callers that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes the idle guest that was used last.
    fn idle(&mut self, what: Use) -> Option<PooledGuest> {
        let guest = self.idle.pop()?;
        self.least_idle = self.least_idle.min(self.idle.len());
        self.lend(&guest, what);
        Some(guest)
    }

    fn lend(&mut self, guest: &PooledGuest, what: Use) {
        guest.seat.begin(what);
        self.in_use += 1;
    }

    /// Why nobody who waits would get a guest.
    fn hopeless(&self) -> Option<PoolError> {
        match self.closed {
            true => Some(PoolError::Closed),
            false => self.failure.clone().filter(|_| self.seats.is_empty()),
        }
    }

    fn wait(&mut self, waiter: Waiter) -> u64 {
        self.ticket += 1;
        self.queue.insert(self.ticket, waiter);
        self.ticket
    }

    /// Removes guests, which the caller drops without the lock.
    fn forget(&mut self, guests: &[PooledGuest]) {
        guests.iter().for_each(|guest| guest.seat.leave());
        self.seats.retain(|seat| !seat.has_left());
        self.discarded += guests.len() as u64;
    }
}

impl PoolInner {
    pub(super) fn new(
        make: Box<Make>,
        sizes: RangeInclusive<usize>,
        lease_time: Option<Duration>,
        deadlines: Arc<DeadlineThread>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            make,
            size: *sizes.start(),
            max: *sizes.end(),
            lease_time,
            deadlines,
            state: Mutex::default(),
            kept: Condvar::new(),
            tasks: Condvar::new(),
            ended: Condvar::new(),
            process: ProcessId::current(),
            this: this.clone(),
        })
    }

    /// Whether this process has built the pool; false in a forked child, in which nothing may lock the state.
    pub(super) fn is_here(&self) -> bool {
        self.process == ProcessId::current()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a guest; if none is idle, waits until `until`.
    pub(super) fn take(&self, what: Use, until: Option<Instant>) -> Result<PooledGuest, PoolError> {
        if !self.is_here() {
            return Err(PoolError::Forked);
        }
        let mut state = self.state();
        if let Some(guest) = state.idle(what) {
            return Ok(guest);
        }
        if let Some(error) = state.hopeless() {
            return Err(error);
        }
        let waiting = Arc::new(Waiting { outcome: Mutex::default(), set: Condvar::new() });
        let ticket = state.wait(Waiter::Thread(waiting.clone(), what));
        self.grow(state);
        if let Some(outcome) = waiting.wait(until) {
            return outcome;
        }
        if self.state().queue.remove(&ticket).is_some() {
            return Err(PoolError::Timeout);
        }
        // The outcome has been taken from the queue, and is set without the lock.
        waiting.wait(None).unwrap_or(Err(PoolError::Timeout))
    }

    /// Takes a guest for a task, or has the task wait. Returns its place in the queue.
    pub(super) fn take_for(&self, job: Arc<dyn Job>) -> Option<u64> {
        let mut state = self.state();
        if let Some(guest) = state.idle(Use::Call) {
            state.ready.push_back((guest, job));
            if let Some(NoThread { guest, job, error }) = self.call_tasks(state) {
                self.unused(guest);
                job.fail(error);
            }
            return None;
        }
        if let Some(error) = state.hopeless() {
            drop(state);
            job.fail(error);
            return None;
        }
        let ticket = state.wait(Waiter::Task(job));
        self.grow(state);
        Some(ticket)
    }

    /// Wakes the keeper if it may make another guest for a caller that waits.
    fn grow(&self, state: MutexGuard<'_, State>) {
        let may_grow = state.guests() < self.max;
        drop(state);
        if may_grow {
            self.kept.notify_one();
        }
    }

    /// Takes a task out of the queue, if it is still there.
    pub(super) fn leave(&self, ticket: u64) {
        let left = self.state().queue.remove(&ticket);
        // Without the lock, since it may drop what the task holds.
        drop(left);
    }

    /// A lease is over: resets the guest and puts it back, or leaves it to the keeper if it has exited or cannot be
    /// reset. No stop of this lease reaches it any more.
    pub(super) fn finish(&self, guest: PooledGuest, began: Instant) {
        let time = began.elapsed();
        let reset = match guest.machine.has_exited() {
            true => None,
            false => reset(&guest),
        };
        let exit = match &reset {
            Some(exit) => exit.clone(),
            None => guest.machine.guest_exit().map(Arc::new),
        };
        if let Some(exit) = &exit {
            events::ended(exit);
        }
        let mut state = self.state();
        state.in_use -= 1;
        state.leases += 1;
        state.lease_time = state.lease_time.saturating_add(time);
        if let Some(exit) = exit {
            state.exits.count(&exit);
        }
        if reset.is_some() {
            state.resets += 1;
            self.put(state, guest);
        } else if state.closed {
            self.discard(state, [guest]);
        } else {
            state.broken.push(guest);
            drop(state);
            self.kept.notify_one();
        }
    }

    /// Takes back a guest that nobody has used.
    pub(super) fn unused(&self, guest: PooledGuest) {
        guest.seat.end();
        let mut state = self.state();
        state.in_use -= 1;
        self.put(state, guest);
    }

    /// Resets a guest that has exited, or drops it.
    pub(super) fn repair(&self, guest: PooledGuest) {
        let reset = reset(&guest);
        let mut state = self.state();
        if reset.is_some() {
            state.resets += 1;
            self.put(state, guest);
        } else {
            self.discard(state, [guest]);
        }
    }

    /// Adds a guest that was made.
    pub(super) fn add(&self, guest: PooledGuest) {
        let mut state = self.state();
        state.failure = None;
        state.made += 1;
        state.seats.push(guest.seat.clone());
        self.put(state, guest);
    }

    /// No guest could be made. If there is none at all, this is the error for all who wait.
    pub(super) fn add_failed(&self, error: PoolError) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.failures += 1;
        let mut queue = BTreeMap::new();
        if state.seats.is_empty() {
            state.failure = Some(error.clone());
            queue = mem::take(&mut state.queue);
        }
        drop(state);
        queue.into_values().for_each(|waiter| waiter.fail(&error));
        events::not_made(&error);
    }

    /// Gives a guest that is ready to the one who has waited longest. A task for which there is no thread fails, and the next
    /// one who waits gets the guest.
    fn put<'s>(&'s self, mut state: MutexGuard<'s, State>, mut guest: PooledGuest) {
        let mut failed = Vec::new();
        loop {
            if state.closed {
                self.discard(state, [guest]);
                break;
            }
            match state.queue.pop_first() {
                None => {
                    state.idle.push(guest);
                    drop(state);
                    break;
                }
                Some((_, Waiter::Thread(waiting, what))) => {
                    state.lend(&guest, what);
                    drop(state);
                    waiting.set(Ok(guest));
                    break;
                }
                Some((_, Waiter::Task(job))) => {
                    state.lend(&guest, Use::Call);
                    state.ready.push_back((guest, job));
                    let Some(next) = self.call_tasks(state) else { break };
                    failed.push((next.job, next.error));
                    (guest, state) = (next.guest, self.state());
                    guest.seat.end();
                    state.in_use -= 1;
                }
            }
        }
        // This may run code of the tasks, so the guest has its place before.
        failed.into_iter().for_each(|(job, error)| job.fail(error));
    }

    /// Drops guests.
    pub(super) fn discard<I>(&self, mut state: MutexGuard<'_, State>, guests: I)
    where
        I: IntoIterator<Item = PooledGuest>,
    {
        let guests: Vec<PooledGuest> = guests.into_iter().collect();
        state.forget(&guests);
        drop(state);
        guests.into_iter().for_each(drop_caught);
    }

    /// A task has got a guest: wakes a thread for it, or spawns one. If it cannot, the task that has waited least for a thread
    /// gets none: else its guest would wait with it for as long as a call of another task lasts.
    fn call_tasks(&self, mut state: MutexGuard<'_, State>) -> Option<NoThread> {
        if state.ready.len() <= state.free_callers {
            drop(state);
            self.tasks.notify_one();
            return None;
        }
        // There are as many threads as guests. Each has a guest, or is about to look for a task that has one.
        if state.callers == self.max {
            return None;
        }
        state.callers += 1;
        state.threads += 1;
        drop(state);
        let Err(error) = self.spawn("vmffi calls", Self::run_tasks) else { return None };
        let mut state = self.state();
        state.callers -= 1;
        if state.ready.len() <= state.free_callers {
            return None;
        }
        let (guest, job) = state.ready.pop_back()?;
        Some(NoThread { guest, job, error })
    }

    /// Spawns a thread, which the caller has counted.
    pub(super) fn spawn(&self, name: &str, run: fn(&Self)) -> Result<(), PoolError> {
        let Some(shared) = self.this.upgrade() else { return Err(PoolError::Closed) };
        let thread = thread::Builder::new().name(name.into());
        let spawned = thread.spawn(move || {
            run(&shared);
            shared.thread_ends();
        });
        spawned.map(drop).map_err(|error| {
            self.thread_ends();
            PoolError::Thread(Arc::new(error))
        })
    }

    fn thread_ends(&self) {
        let mut state = self.state();
        state.threads -= 1;
        if state.threads == 0 {
            self.ended.notify_all();
        }
    }

    /// Registers what stops a guest that starts up, or removes it.
    pub(super) fn starts(&self, stopper: Option<Stopper>) -> Result<(), PoolError> {
        let mut state = self.state();
        state.starting = stopper;
        if state.closed { Err(PoolError::Closed) } else { Ok(()) }
    }

    pub(super) fn close(&self) {
        if !self.is_here() {
            return;
        }
        let until = Instant::now() + CLOSE_WAIT;
        let mut state = self.state();
        if mem::replace(&mut state.closed, true) {
            return;
        }
        let (queue, ready) = (mem::take(&mut state.queue), mem::take(&mut state.ready));
        state.in_use -= ready.len();
        let (guests, jobs): (Vec<_>, Vec<_>) = ready.into_iter().unzip();
        let idle = mem::take(&mut state.idle).into_iter().chain(mem::take(&mut state.broken));
        let guests: Vec<PooledGuest> = guests.into_iter().chain(idle).collect();
        state.forget(&guests);
        let (in_use, starting) = (state.seats.clone(), state.starting.take());
        drop(state);
        self.kept.notify_all();
        self.tasks.notify_all();
        in_use.iter().for_each(|seat| seat.stop_call());
        starting.iter().for_each(Stopper::stop);
        jobs.into_iter().for_each(|job| job.fail(PoolError::Closed));
        queue.into_values().for_each(|waiter| waiter.fail(&PoolError::Closed));
        guests.into_iter().for_each(drop_caught);
        let mut state = self.state();
        while state.threads != 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.ended.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn metrics(&self) -> Metrics {
        if !self.is_here() {
            return Metrics::default();
        }
        let state = self.state();
        Metrics {
            leases: state.leases,
            lease_time: state.lease_time,
            resets: state.resets,
            made: state.made,
            discarded: state.discarded,
            failures: state.failures,
            exits: state.exits.clone(),
            in_use: state.in_use,
            idle: state.idle.len(),
            resetting: state.guests() - state.in_use - state.idle.len(),
            waiting: state.queue.len(),
        }
    }
}

/// Resets a guest; returns how it had exited, if it had. `None` if it cannot be reset.
fn reset(guest: &PooledGuest) -> Option<Option<Arc<GuestExit>>> {
    let began = events::reset_begins();
    let exit = guest.reset()?;
    events::reset(began);
    Some(exit)
}

//! Deadlines: a thread that stops guests whose calls take too long, by the clock or in processor time.
//!
//! A guest that has so much processor time left cannot use it up in less time than that, as a vCPU has one processor at
//! a time. So a limit of processor time is a deadline at which the thread asks how much the guest has used, and sets
//! the next deadline if that is not all.
//!
//! Setting a deadline wakes the thread only if it expires before the time until which the thread sleeps; other calls
//! that end in time make no system call for their deadlines. When the thread wakes, it ignores deadlines that were
//! removed.
//!
//! Under the lock, either the call removes its entry from the queue, and was in time, or the thread does. The thread
//! reads clocks and stops guests without the lock, so that no guest delays the deadlines of others. A call that ends
//! meanwhile waits for that.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{CpuClock, GuestExit};
use crate::memory::{
    ProcessId,
    sync::threads::{Arc, Condvar, Mutex, MutexGuard, PoisonError, wait_timeout},
};

/// A guest with deadlines.
pub(crate) trait Expire: Send + Sync {
    /// Stops the guest in the life with this number, or during the lease with it, for this reason; does nothing if that has
    /// ended. It does not wait for the guest.
    fn expire(&self, life: usize, exit: GuestExit);
}

/// What a call has left of its processor time.
pub(super) struct CpuBudget {
    clock: CpuClock,
    limit: Duration,
    /// The reading of the clock at which the time is used up.
    end: Duration,
}

impl CpuBudget {
    /// A budget of this much from now on; `None` if the clock cannot be read.
    pub(super) fn new(clock: &CpuClock, limit: Duration) -> Option<Self> {
        let end = clock.read()?.saturating_add(limit);
        Some(Self { clock: clock.clone(), limit, end })
    }

    /// When to read the clock next. An error is how the guest exits: the time is used up, or cannot be measured.
    fn next(&self) -> Result<Instant, GuestExit> {
        let used = self.clock.read().ok_or_else(|| GuestExit::Lost(UNMEASURED.into()))?;
        match self.end.saturating_sub(used) {
            Duration::ZERO => Err(GuestExit::CpuTime),
            left => Ok(self.after(left)),
        }
    }

    /// The time at which so much time may have been used up. Between two readings there are at least 1 ms and a 64th of
    /// the limit, so that a guest that waits with little time left costs little, and at most a day.
    fn after(&self, left: Duration) -> Instant {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let pause = (self.limit / 64).max(Duration::from_millis(1));
        Instant::now() + left.max(pause).min(DAY)
    }
}

/// Why a guest with a limit of processor time is not run.
pub(super) const UNMEASURED: &str =
    "the processor time of a vCPU cannot be measured, which `Limits::cpu_time` needs";

/// A call with a deadline.
struct Due {
    guest: Arc<dyn Expire>,
    life: usize,
    /// For a limit of processor time. Without it, the guest is stopped at the deadline.
    budget: Option<CpuBudget>,
}

impl Due {
    /// The deadline has passed: stops the guest, or returns the next deadline.
    fn check(&self) -> Option<Instant> {
        let next = || self.budget.as_ref().map_or(Err(GuestExit::Deadline), CpuBudget::next);
        // A panic, of a clock or a stopper of the embedder, must not end the thread.
        let next = panic::catch_unwind(AssertUnwindSafe(next));
        next.unwrap_or_else(|_| Err(GuestExit::Lost(UNMEASURED.into())))
            .map_err(|exit| self.stop(exit))
            .ok()
    }

    fn stop(&self, exit: GuestExit) {
        let _ = panic::catch_unwind(AssertUnwindSafe(|| self.guest.expire(self.life, exit)));
    }
}

/// The time of a deadline, and a number that distinguishes deadlines of the same time.
pub(crate) type Key = (Instant, u64);

/// The thread that enforces the deadlines of all hosts that share this. It is spawned at the first deadline.
pub(crate) struct DeadlineThread {
    queue: Arc<DeadlineQueue>,
    /// The process that has made this, in which the thread runs.
    process: ProcessId,
}

struct DeadlineQueue {
    state: Mutex<State>,
    /// Notified when an earlier deadline is set, and when the thread is to end.
    changed: Condvar,
    /// Notified when the thread has checked a deadline.
    checked: Condvar,
}

#[derive(Default)]
struct State {
    due: BTreeMap<Key, Due>,
    /// By their numbers, the times of deadlines that are not those with which they were set.
    moved: BTreeMap<u64, Instant>,
    /// The number of the next deadline.
    number: u64,
    /// Whether the thread was spawned. A loom model sets it without a thread.
    has_thread: bool,
    thread: Option<JoinHandle<()>>,
    /// When the thread's sleep times out; `None` if it sleeps without a timeout, or has not started.
    wakes: Option<Instant>,
    /// The number of the deadline that the thread is checking.
    checks: Option<u64>,
    closing: bool,
}

impl Default for DeadlineThread {
    fn default() -> Self {
        let state = Mutex::new(State::default());
        let queue = DeadlineQueue { state, changed: Condvar::new(), checked: Condvar::new() };
        Self { queue: Arc::new(queue), process: ProcessId::current() }
    }
}

impl DeadlineQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops guests at their deadlines until the queue is closed.
    fn run(&self) {
        let mut state = self.state();
        while !state.closing {
            let now = Instant::now();
            let checked;
            (state, checked) = self.check_first(state, now);
            if checked.is_none() {
                state.wakes = state.due.first_key_value().map(|(at, _)| at.0);
                let wait = state.wakes.map_or(Duration::MAX, |at| at - now);
                state = wait_timeout(&self.changed, state, wait);
            }
        }
    }

    /// Checks the first deadline, if that has passed: the guest is stopped, or the deadline is moved. Returns which;
    /// `None` if no deadline has passed.
    fn check_first<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        now: Instant,
    ) -> (MutexGuard<'s, State>, Option<Checked>) {
        let Some(first) = state.due.first_entry().filter(|first| first.key().0 <= now) else {
            return (state, None);
        };
        let ((_, number), due) = first.remove_entry();
        state.checks = Some(number);
        drop(state);
        let next = due.check();
        // The call waits in `Armed::in_time` until `checks` is cleared, and owns a reference to the guest until then.
        // So this is not the last reference, and the guest is not dropped on this thread.
        let due = next.map(|next| (next, due));
        state = self.state();
        state.checks = None;
        let checked = if let Some((next, due)) = due {
            state.due.insert((next, number), due);
            state.moved.insert(number, next);
            Checked::Moved
        } else {
            state.moved.remove(&number);
            Checked::Stopped
        };
        self.checked.notify_all();
        (state, Some(checked))
    }

    fn clear(&self, (at, number): Key) -> bool {
        let mut state = self.state();
        while state.checks == Some(number) {
            state = self.checked.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let at = state.moved.remove(&number).unwrap_or(at);
        let known = state.due.remove(&(at, number));
        drop(state);
        known.is_some()
    }
}

/// What came of a deadline that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// The guest was stopped.
    Stopped,
    /// The guest has processor time left, and the next deadline is set.
    Moved,
}

impl DeadlineThread {
    /// Whether this was made by this process; false in a forked child, in which the thread does not exist.
    pub(crate) fn is_here(&self) -> bool {
        self.process == ProcessId::current()
    }

    /// Sets a deadline: the guest's life ends at this time, unless [`Armed::in_time`] is called before. If the thread
    /// cannot be spawned, the life ends at once, so that no call runs without its deadline.
    pub(super) fn arm(&self, at: Instant, guest: Arc<dyn Expire>, life: usize) -> Armed<'_> {
        Armed { queue: &self.queue, key: self.set(at, guest, life) }
    }

    /// Sets a deadline: the guest's life ends at this time, unless the deadline is [cleared](Self::clear) before; the
    /// caller clears it, and keeps a reference to the guest until then. If the thread cannot be spawned, the life ends
    /// at once, so that no call runs without its deadline.
    pub(crate) fn set(&self, at: Instant, guest: Arc<dyn Expire>, life: usize) -> Key {
        self.add(at, Due { guest, life, budget: None })
    }

    /// The same at the time at which the guest has used up its processor time.
    pub(super) fn arm_cpu_time(
        &self,
        budget: CpuBudget,
        guest: Arc<dyn Expire>,
        life: usize,
    ) -> Armed<'_> {
        let first = budget.after(budget.limit);
        let key = self.add(first, Due { guest, life, budget: Some(budget) });
        Armed { queue: &self.queue, key }
    }

    fn add(&self, at: Instant, due: Due) -> Key {
        let mut state = self.queue.state();
        let key = (at, state.number);
        state.number += 1;
        if !state.has_thread {
            let queue = self.queue.clone();
            let thread = thread::Builder::new().name("vmffi deadlines".into());
            match thread.spawn(move || queue.run()) {
                Ok(thread) => (state.has_thread, state.thread) = (true, Some(thread)),
                Err(_) => {
                    drop(state);
                    due.stop(match due.budget {
                        None => GuestExit::Deadline,
                        Some(_) => GuestExit::CpuTime,
                    });
                    return key;
                }
            }
        }
        state.due.insert(key, due);
        if state.wakes.is_none_or(|wakes| at < wakes) {
            state.wakes = Some(at);
            self.queue.changed.notify_one();
        }
        key
    }

    /// Removes a deadline, and returns whether it had not passed. If it had, the life has ended when this returns.
    #[cfg_attr(not(feature = "machine"), expect(dead_code, reason = "for machines"))]
    pub(crate) fn clear(&self, key: &Key) -> bool {
        self.queue.clear(*key)
    }
}

#[cfg(all(test, loom))]
impl DeadlineThread {
    /// A queue without a thread, for a model, which calls [`passes`](Self::passes) instead.
    pub(super) fn of_a_model() -> Self {
        let deadlines = Self::default();
        deadlines.queue.state().has_thread = true;
        deadlines
    }

    /// Checks the first deadline, if that has passed at `now`; returns what came of it.
    pub(super) fn passes(&self, now: Instant) -> Option<Checked> {
        self.queue.check_first(self.queue.state(), now).1
    }
}

impl Drop for DeadlineThread {
    fn drop(&mut self) {
        if !self.is_here() {
            // In a forked child, neither the thread nor the holder of the lock exists, and the ID of the thread may
            // belong to another one. So neither the lock nor the handle is used, and the queue is leaked.
            core::mem::forget(self.queue.clone());
            return;
        }
        let mut state = self.queue.state();
        state.closing = true;
        let thread = state.thread.take();
        drop(state);
        self.queue.changed.notify_one();
        if let Some(thread) = thread {
            // The thread does not panic: `Due` catches panics.
            let _ = thread.join();
        }
    }
}

/// A deadline of one call; dropping it removes the deadline.
pub(super) struct Armed<'w> {
    queue: &'w DeadlineQueue,
    key: Key,
}

impl Armed<'_> {
    /// Removes the deadline, and returns whether the call was in time. If not, the life has ended when this returns.
    pub(super) fn in_time(&self) -> bool {
        self.queue.clear(self.key)
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.in_time();
    }
}

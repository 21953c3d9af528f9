//! Deadlines: a thread that stops guests whose calls take too long.
//!
//! Setting a deadline wakes the thread only if it expires before the time until which the thread sleeps; other calls
//! that end in time make no system call for their deadlines. When the thread wakes, it ignores deadlines that were
//! removed.
//!
//! Under the lock, either the call removes its entry from the queue, and was in time, or the thread does. The thread
//! stops the guest without the lock, so that no guest delays the deadlines of others.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::memory::{
    Epoch, ProcessId,
    sync::threads::{Arc, Condvar, Mutex, MutexGuard, PoisonError, wait_timeout},
};

/// A guest with deadlines.
pub(super) trait Expire: Send + Sync {
    /// Stops the guest in this life; does nothing if the life has ended. It does not wait for the guest.
    fn expire(&self, life: Epoch);
}

/// The time of a deadline, and a number that distinguishes deadlines of the same time.
type Key = (Instant, u64);

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
    /// Notified when the thread has stopped a guest.
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    due: BTreeMap<Key, (Arc<dyn Expire>, Epoch)>,
    /// The number of the next deadline.
    number: u64,
    /// Whether the thread was spawned. A loom model sets it without a thread.
    has_thread: bool,
    thread: Option<JoinHandle<()>>,
    /// When the thread's sleep times out; `None` if it sleeps without a timeout, or has not started.
    wakes: Option<Instant>,
    /// The deadline whose guest the thread is stopping.
    stops: Option<Key>,
    closing: bool,
}

impl Default for DeadlineThread {
    fn default() -> Self {
        let state = Mutex::new(State::default());
        let queue = DeadlineQueue { state, changed: Condvar::new(), stopped: Condvar::new() };
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
            let late;
            (state, late) = self.stop_first(state, now);
            if !late {
                state.wakes = state.due.first_key_value().map(|(at, _)| at.0);
                let wait = state.wakes.map_or(Duration::MAX, |at| at - now);
                state = wait_timeout(&self.changed, state, wait);
            }
        }
    }

    /// Stops the guest of the first deadline, if that has passed; returns whether it has.
    fn stop_first<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        now: Instant,
    ) -> (MutexGuard<'s, State>, bool) {
        let Some(first) = state.due.first_entry().filter(|first| first.key().0 <= now) else {
            return (state, false);
        };
        let (key, (guest, life)) = first.remove_entry();
        state.stops = Some(key);
        drop(state);
        stop(&*guest, life);
        // The call waits in `Armed::in_time` until `stops` is cleared, and owns a reference to the guest until then. So
        // this is not the last reference, and the guest is not dropped on this thread.
        drop(guest);
        state = self.state();
        state.stops = None;
        self.stopped.notify_all();
        (state, true)
    }
}

/// Stops a guest. A panic, of a stopper of the embedder, must not end the thread.
fn stop(guest: &dyn Expire, life: Epoch) {
    let _ = panic::catch_unwind(AssertUnwindSafe(|| guest.expire(life)));
}

impl DeadlineThread {
    /// Whether this was made by this process; false in a forked child, in which the thread does not exist.
    pub(crate) fn is_here(&self) -> bool {
        self.process == ProcessId::current()
    }

    /// Sets a deadline: the guest's life ends at this time, unless [`Armed::in_time`] is called before. If the thread
    /// cannot be spawned, the life ends at once, so that no call runs without its deadline.
    pub(super) fn arm(&self, at: Instant, guest: Arc<dyn Expire>, life: Epoch) -> Armed<'_> {
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
                    stop(&*guest, life);
                    return Armed { queue: &self.queue, key };
                }
            }
        }
        state.due.insert(key, (guest, life));
        if state.wakes.is_none_or(|wakes| at < wakes) {
            state.wakes = Some(at);
            self.queue.changed.notify_one();
        }
        Armed { queue: &self.queue, key }
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

    /// Stops the guest of the first deadline, if that has passed at `now`; returns whether it has.
    pub(super) fn passes(&self, now: Instant) -> bool {
        self.queue.stop_first(self.queue.state(), now).1
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
            // The thread does not panic: `stop` catches panics.
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
    /// Removes the deadline, and returns whether it had not passed. If it had, the life has ended when this returns.
    pub(super) fn in_time(&self) -> bool {
        let mut state = self.queue.state();
        let known = state.due.remove(&self.key);
        while state.stops == Some(self.key) {
            state = self.queue.stopped.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        known.is_some()
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.in_time();
    }
}

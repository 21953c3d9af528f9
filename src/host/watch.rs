//! Deadlines: a thread that stops guests whose time is up.
//!
//! A call that ends in time makes no system call for its deadline, unless it is due before all that the thread
//! sleeps for: then it wakes the thread, once. What is no longer due is found when the thread wakes by itself.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::Stopper;

/// The thread, once it is needed, for all the hosts that share this.
#[derive(Default)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What is due when. The number tells apart what is due at the same time.
    due: BTreeMap<(Instant, u64), Stopper>,
    number: u64,
    thread: Option<JoinHandle<()>>,
    /// When the thread wakes by itself; `None` while it sleeps for ever, or is on its way.
    wakes: Option<Instant>,
    closing: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        let mut state = self.state();
        while !state.closing {
            let now = Instant::now();
            while let Some(first) = state.due.first_entry().filter(|first| first.key().0 <= now) {
                // Under the lock: a call that finds its deadline still there has ended in time.
                let stop = first.remove();
                // One that an embedder has made may panic; the others' deadlines are no less due.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| stop.stop()));
            }
            state.wakes = state.due.first_key_value().map(|(at, _)| at.0);
            let wait = state.wakes.map_or(Duration::MAX, |at| at - now);
            let woken = self.changed.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Watch {
    /// Stops something at a time, unless the result is dropped before. Without a thread, which the system may
    /// refuse, that is at once: no call goes without its deadline.
    pub(super) fn arm(&self, at: Instant, what: Stopper) -> Armed<'_> {
        let mut state = self.shared.state();
        if state.thread.is_none() {
            let shared = self.shared.clone();
            let thread = thread::Builder::new().name("vmffi deadlines".into());
            match thread.spawn(move || shared.watch()) {
                Ok(thread) => state.thread = Some(thread),
                Err(_) => what.stop(),
            }
        }
        let key = (at, state.number);
        state.number += 1;
        state.due.insert(key, what);
        if state.wakes.is_none_or(|wakes| at < wakes) {
            state.wakes = Some(at);
            self.shared.changed.notify_one();
        }
        Armed { shared: &self.shared, key }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closing = true;
        let thread = state.thread.take();
        drop(state);
        self.shared.changed.notify_one();
        if let Some(thread) = thread {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

/// A deadline that is still to come, or has been.
pub(super) struct Armed<'w> {
    shared: &'w Shared,
    key: (Instant, u64),
}

impl Armed<'_> {
    /// Lets go of it, and says whether it was still to come.
    pub(super) fn in_time(&self) -> bool {
        self.shared.state().due.remove(&self.key).is_some()
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.in_time();
    }
}

//! Deadlines: a thread that ends lives of guests whose time is up.
//!
//! A call that ends in time makes no system call for its deadline, unless it is due before all that the thread
//! sleeps for: then it wakes the thread, once. What is no longer due is found when the thread wakes by itself.
//!
//! Whether a call was in time is decided under the lock, by who takes its entry out. Its guest is stopped without the
//! lock, so that no guest delays the deadlines of others.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::fork::ProcessId;
use crate::{
    memory::Epoch,
    sync::threads::{Arc, Condvar, Mutex, MutexGuard, PoisonError, wait_timeout},
};

/// What has lives that end when a deadline is over.
pub(super) trait Expire: Send + Sync {
    /// Ends this life, unless it is over. It does not wait for what runs in it.
    fn expire(&self, life: Epoch);
}

/// When a deadline is over, and a number that tells apart those of the same time.
type Key = (Instant, u64);

/// The thread, once it is needed, for all the hosts that share this.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    /// The process that has the thread.
    process: ProcessId,
}

struct Shared {
    state: Mutex<State>,
    /// There is an earlier deadline, or no thread is wanted any more.
    changed: Condvar,
    /// What was over has been stopped.
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    due: BTreeMap<Key, (Arc<dyn Expire>, Epoch)>,
    number: u64,
    /// Somebody looks at what is due: the thread, in this program.
    watched: bool,
    thread: Option<JoinHandle<()>>,
    /// When the thread wakes by itself; `None` while it sleeps for ever, or is on its way.
    wakes: Option<Instant>,
    /// What the thread stops at this moment.
    stops: Option<Key>,
    closing: bool,
}

impl Default for Watch {
    fn default() -> Self {
        let state = Mutex::new(State::default());
        let shared = Shared { state, changed: Condvar::new(), stopped: Condvar::new() };
        Self { shared: Arc::new(shared), process: ProcessId::current() }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
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

    /// Stops the first of what is due, if anything is.
    fn stop_first<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        now: Instant,
    ) -> (MutexGuard<'s, State>, bool) {
        let Some(first) = state.due.first_entry().filter(|first| first.key().0 <= now) else {
            return (state, false);
        };
        let (key, (what, life)) = first.remove_entry();
        state.stops = Some(key);
        drop(state);
        stop(&*what, life);
        // Before its call is let go, which keeps it: the last of it is not dropped here.
        drop(what);
        state = self.state();
        state.stops = None;
        self.stopped.notify_all();
        (state, true)
    }
}

/// One that an embedder has made may panic; the others' deadlines are no less due.
fn stop(what: &dyn Expire, life: Epoch) {
    let _ = panic::catch_unwind(AssertUnwindSafe(|| what.expire(life)));
}

impl Watch {
    /// Whether its thread is one of this process, and not of one that this was forked from.
    pub(crate) fn is_here(&self) -> bool {
        self.process == ProcessId::current()
    }

    /// Ends a life at a time, unless the result is asked before. Without a thread, which the system may
    /// refuse, that is at once: no call goes without its deadline.
    pub(super) fn arm(&self, at: Instant, what: Arc<dyn Expire>, life: Epoch) -> Armed<'_> {
        let mut state = self.shared.state();
        let key = (at, state.number);
        state.number += 1;
        if !state.watched {
            let shared = self.shared.clone();
            let thread = thread::Builder::new().name("vmffi deadlines".into());
            match thread.spawn(move || shared.watch()) {
                Ok(thread) => (state.watched, state.thread) = (true, Some(thread)),
                Err(_) => {
                    drop(state);
                    stop(&*what, life);
                    return Armed { shared: &self.shared, key };
                }
            }
        }
        state.due.insert(key, (what, life));
        if state.wakes.is_none_or(|wakes| at < wakes) {
            state.wakes = Some(at);
            self.shared.changed.notify_one();
        }
        Armed { shared: &self.shared, key }
    }
}

#[cfg(all(test, loom))]
impl Watch {
    /// One without a thread, for a model: its time passes when it is told so.
    pub(super) fn of_a_model() -> Self {
        let watch = Self::default();
        watch.shared.state().watched = true;
        watch
    }

    /// It is that time. Says whether something was late.
    pub(super) fn passes(&self, now: Instant) -> bool {
        self.shared.stop_first(self.shared.state(), now).1
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_here() {
            // The thread is not there, whoever holds the lock is not either, and a handle of the thread may name another
            // one: all of it is left as it is.
            core::mem::forget(self.shared.clone());
            return;
        }
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
    key: Key,
}

impl Armed<'_> {
    /// Lets go of it, and says whether it was still to come. If not, the life has been ended by then.
    pub(super) fn in_time(&self) -> bool {
        let mut state = self.shared.state();
        let known = state.due.remove(&self.key);
        while state.stops == Some(self.key) {
            state = self.shared.stopped.wait(state).unwrap_or_else(PoisonError::into_inner);
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

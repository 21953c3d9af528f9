//! Leases: guests of a pool in use.

use std::{
    boxed::Box,
    fmt,
    mem::ManuallyDrop,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{super::Machine, GuestExit, Stopper, drop_caught, state::PoolInner};
use crate::host::{DeadlineKey, Expire};

/// A guest of a pool, wherever it is.
pub(super) struct PooledGuest {
    pub(super) machine: Machine,
    pub(super) seat: Arc<Seat>,
    /// How many checkpoints it had when it was made. One more is the state of one lease, in which no other must begin.
    checkpoints: usize,
}

impl PooledGuest {
    /// The machine waits for upcalls.
    pub(super) fn new(machine: Machine) -> Self {
        Self { seat: Seat::new(machine.stops_with()), checkpoints: machine.checkpoints(), machine }
    }

    /// Resets the guest to how it was made, and returns how it had exited, if it had. `None` if that is impossible.
    pub(super) fn reset(&self) -> Option<Option<Arc<GuestExit>>> {
        if self.machine.checkpoints() != self.checkpoints {
            return None;
        }
        self.machine.next_life().ok()
    }
}

/// What a guest is used for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Use {
    /// A [`Lease`], which outlives the pool.
    Lease,
    /// A call, which ends with the pool.
    Call,
}

/// What stops a guest, but only as long as a certain lease lasts: each lease of a guest has a number.
pub(super) struct Seat {
    /// The number of the lease, or of the next one. Held during a stop, so that the stop is over before the lease ends.
    lease: Mutex<usize>,
    /// Whether the pool stops the guest when it is closed. Written under the pool's lock.
    call: AtomicBool,
    /// Whether the guest is no longer in the pool.
    left: AtomicBool,
    stop: Box<dyn Fn(GuestExit) + Send + Sync>,
}

impl Seat {
    fn new(stop: impl Fn(GuestExit) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            lease: Mutex::new(0),
            call: AtomicBool::new(false),
            left: AtomicBool::new(false),
            stop: Box::new(stop),
        })
    }

    fn lease(&self) -> MutexGuard<'_, usize> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a lease. The caller holds the pool's lock.
    pub(super) fn begin(&self, what: Use) {
        self.call.store(what == Use::Call, Ordering::Relaxed);
    }

    /// Ends the lease: no stop reaches the guest any more.
    pub(super) fn end(&self) {
        let mut lease = self.lease();
        *lease = lease.wrapping_add(1);
        self.call.store(false, Ordering::Relaxed);
    }

    /// What stops the guest during this lease. Its holder calls this.
    pub(super) fn watch(self: &Arc<Self>) -> Watch {
        Watch { seat: self.clone(), number: *self.lease() }
    }

    /// Stops the guest if it is in a call. The pool is closed.
    pub(super) fn stop_call(&self) {
        let _lease = self.lease();
        if self.call.load(Ordering::Relaxed) {
            (self.stop)(GuestExit::Stopped);
        }
    }

    /// The guest leaves the pool. The caller holds the pool's lock.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    fn stop(&self, exit: GuestExit, number: usize) {
        let lease = self.lease();
        if *lease == number {
            (self.stop)(exit);
        }
    }
}

impl Expire for Seat {
    fn expire(&self, lease: usize, exit: GuestExit) {
        self.stop(exit, lease);
    }
}

/// Stops a guest during one lease.
pub(super) struct Watch {
    seat: Arc<Seat>,
    number: usize,
}

impl Watch {
    pub(super) fn stop(&self) {
        self.seat.stop(GuestExit::Stopped, self.number);
    }
}

/// A guest in use. Dropping this resets it and puts it back, or has the pool's thread do so.
pub(super) struct Leased<S: Deref<Target = PoolInner>> {
    pub(super) shared: S,
    guest: ManuallyDrop<PooledGuest>,
    began: Instant,
    /// The deadline of the lease.
    due: Option<DeadlineKey>,
    /// Whether something may stop the guest, so that the end of the lease must be known.
    watched: AtomicBool,
}

impl<S: Deref<Target = PoolInner>> Leased<S> {
    pub(super) fn new(shared: S, guest: PooledGuest) -> Self {
        let began = Instant::now();
        let until = shared.lease_time.and_then(|limit| began.checked_add(limit));
        // Not locked when the deadline is set, which stops the guest at once if there can be no thread for it.
        let lease = *guest.seat.lease();
        let due = until.map(|at| shared.deadlines.set(at, guest.seat.clone(), lease));
        let watched = due.is_some() || guest.seat.call.load(Ordering::Relaxed);
        let guest = ManuallyDrop::new(guest);
        Self { shared, guest, began, due, watched: AtomicBool::new(watched) }
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.guest.machine
    }

    /// What stops the guest as long as this lasts.
    pub(super) fn watch(&self) -> Watch {
        self.watched.store(true, Ordering::Relaxed);
        self.guest.seat.watch()
    }
}

impl<S: Deref<Target = PoolInner>> Drop for Leased<S> {
    fn drop(&mut self) {
        // SAFETY: this is the only place that takes the guest, and it runs once. `self.guest` is not used after this.
        let guest = unsafe { ManuallyDrop::take(&mut self.guest) };
        if !self.shared.is_here() {
            // In a forked child, a thread that does not exist may hold any of the locks.
            drop_caught(guest.machine);
            core::mem::forget(guest.seat);
            return;
        }
        if let Some(due) = &self.due {
            self.shared.deadlines.clear(due);
        }
        if *self.watched.get_mut() {
            guest.seat.end();
        }
        self.shared.finish(guest, self.began);
    }
}

/// A guest on lease from a [`Pool`](super::Pool), which is its [`Machine`]. Dropping the lease gives the guest back.
///
/// All loans end then, and handles to the guest's memory are [`Stale`](crate::ErrorKind::Stale). If the pool was closed
/// before, or the holder has made a [checkpoint](crate::host::Host::checkpoint) or a [snapshot](Machine::snapshot) of a guest
/// that had run, the machine is dropped instead, so that no other lease begins there.
///
/// A [`Stopper`] of the [`Machine`] behind the lease stops the guest whoever uses it: take [`Lease::stopper`].
pub struct Lease(Leased<Arc<PoolInner>>);

impl Lease {
    pub(super) fn new(out: Leased<Arc<PoolInner>>) -> Self {
        Self(out)
    }

    /// Stops the guest, as that of [`Host::stopper`](crate::host::Host::stopper) does, but only as long as the lease
    /// lasts: who leases the guest after that is not stopped. A stopper of the machine behind the lease has no such end.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        let watch = self.0.watch();
        Stopper::new(move || watch.stop())
    }
}

impl Deref for Lease {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        self.0.machine()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.0.shared.is_here() {
            // A thread of the parent may have been changing it.
            core::mem::forget(self.0.shared.clone());
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(self.0.machine()).finish()
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicUsize;
    use std::sync::Weak;

    use super::*;

    #[test]
    fn a_stop_ends_before_its_lease() {
        let stopped = Arc::new(AtomicUsize::new(0));
        let seat = Arc::new_cyclic(|this: &Weak<Seat>| {
            let (this, stopped) = (this.clone(), stopped.clone());
            let stop = move |_| {
                let seat = this.upgrade().unwrap();
                assert!(seat.lease.try_lock().is_err(), "the lease may end during the stop");
                stopped.fetch_add(1, Ordering::Relaxed);
            };
            Arc::into_inner(Seat::new(stop)).unwrap()
        });
        seat.begin(Use::Call);
        let watch = seat.watch();
        watch.stop();
        seat.stop_call();
        let lease = *seat.lease();
        seat.expire(lease, GuestExit::Deadline);
        assert_eq!(stopped.load(Ordering::Relaxed), 3);
        seat.end();
        watch.stop();
        seat.stop_call();
        assert_eq!(stopped.load(Ordering::Relaxed), 3);
    }
}

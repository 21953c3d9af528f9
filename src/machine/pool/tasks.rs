//! Calls for tasks: a future, and the threads of a pool that make the calls.

use std::{
    boxed::Box,
    fmt,
    future::Future,
    mem,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
};

use super::{
    PoolError, drop_caught,
    lease::{Leased, PooledGuest, Watch},
    state::PoolInner,
};
use crate::call::Peer;

/// A task's call, whatever its result is.
pub(super) trait Job: Send + Sync {
    /// Calls the guest, unless the task has left.
    fn run(&self, shared: &PoolInner, guest: PooledGuest);

    /// The call is not made.
    fn fail(&self, error: PoolError);
}

type Call<R> = Box<dyn FnOnce(&Peer) -> R + Send>;

/// A call, and where it stands. No other lock is taken under this one but that of a seat.
struct Task<R> {
    stage: Mutex<Stage<R>>,
}

enum Stage<R> {
    Waiting(Call<R>, Option<Waker>),
    Running(Watch, Option<Waker>),
    Done(Result<thread::Result<R>, PoolError>),
    /// The future has returned the result, or was dropped.
    Over,
}

impl<R> Task<R> {
    fn stage(&self) -> MutexGuard<'_, Stage<R>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call runs from now on, unless the task has left.
    fn begin(&self, guest: &PooledGuest) -> Option<Call<R>> {
        let mut stage = self.stage();
        match mem::replace(&mut *stage, Stage::Over) {
            Stage::Waiting(call, waker) => {
                *stage = Stage::Running(guest.seat.watch(), waker);
                Some(call)
            }
            other => {
                *stage = other;
                None
            }
        }
    }

    /// Sets the result and wakes the task, unless it has left. User code, such as a destructor, runs without the lock.
    fn complete(&self, result: Result<thread::Result<R>, PoolError>) {
        let mut stage = self.stage();
        let (call, waker) = match mem::replace(&mut *stage, Stage::Over) {
            Stage::Waiting(call, waker) => (Some(call), waker),
            Stage::Running(_, waker) => (None, waker),
            Stage::Done(_) | Stage::Over => {
                drop(stage);
                return drop_caught(result);
            }
        };
        *stage = Stage::Done(result);
        drop(stage);
        drop_caught(call);
        if let Some(waker) = waker {
            let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

impl<R: Send> Job for Task<R> {
    fn run(&self, shared: &PoolInner, guest: PooledGuest) {
        let Some(call) = self.begin(&guest) else { return shared.unused(guest) };
        let out = Leased::new(shared, guest);
        let result = panic::catch_unwind(AssertUnwindSafe(|| call(out.machine().guest())));
        // The guest is reset before the task goes on, as in `Pool::call`.
        drop(out);
        self.complete(Ok(result));
    }

    fn fail(&self, error: PoolError) {
        self.complete(Err(error));
    }
}

impl PoolInner {
    /// Makes the calls of tasks, until the pool is closed.
    pub(super) fn run_tasks(&self) {
        let mut state = self.state();
        loop {
            if let Some((guest, job)) = state.ready.pop_front() {
                drop(state);
                job.run(self, guest);
                drop_caught(job);
                state = self.state();
            } else if state.closed {
                state.callers -= 1;
                return;
            } else {
                state.free_callers += 1;
                state = self.tasks.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.free_callers -= 1;
            }
        }
    }
}

/// The result of [`Pool::call_async`](super::Pool::call_async), as a future. Dropping it cancels the call.
///
/// In a forked child it is ready with [`PoolError::Forked`]. Once it has returned its result, it stays pending.
#[must_use = "dropping the future cancels the call"]
pub struct PoolCall<R> {
    task: Arc<Task<R>>,
    shared: Arc<PoolInner>,
    /// The place in the pool's queue, if the task had to wait.
    ticket: Option<u64>,
}

impl<R: Send + 'static> PoolCall<R> {
    pub(super) fn new(shared: &Arc<PoolInner>, call: Call<R>) -> Self {
        let task = Arc::new(Task { stage: Mutex::new(Stage::Waiting(call, None)) });
        let ticket = match shared.is_here() {
            true => shared.take_for(task.clone()),
            false => None,
        };
        Self { task, shared: shared.clone(), ticket }
    }
}

impl<R> Future for PoolCall<R> {
    type Output = Result<R, PoolError>;

    /// # Panics
    ///
    /// If the call panicked.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.shared.is_here() {
            return Poll::Ready(Err(PoolError::Forked));
        }
        let mut stage = self.task.stage();
        match &mut *stage {
            Stage::Waiting(_, waker) | Stage::Running(_, waker) => {
                let known = waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
                let before = match known {
                    true => None,
                    false => waker.replace(context.waker().clone()),
                };
                drop(stage);
                drop(before);
                return Poll::Pending;
            }
            Stage::Over => return Poll::Pending,
            Stage::Done(_) => {}
        }
        let done = mem::replace(&mut *stage, Stage::Over);
        drop(stage);
        match done {
            Stage::Done(Ok(Ok(result))) => Poll::Ready(Ok(result)),
            Stage::Done(Ok(Err(panic))) => panic::resume_unwind(panic),
            Stage::Done(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    }
}

impl<R> Drop for PoolCall<R> {
    fn drop(&mut self) {
        if !self.shared.is_here() {
            // A thread of the parent may have been changing them.
            mem::forget((self.task.clone(), self.shared.clone()));
            return;
        }
        let stage = mem::replace(&mut *self.task.stage(), Stage::Over);
        match (&stage, self.ticket) {
            (Stage::Waiting(..), Some(ticket)) => self.shared.leave(ticket),
            (Stage::Running(watch, _), _) => watch.stop(),
            _ => {}
        }
    }
}

impl<R> fmt::Debug for PoolCall<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolCall").finish_non_exhaustive()
    }
}

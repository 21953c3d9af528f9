//! A pool of guests that are ready.
//!
//! [`state`] says which guest is where and who waits, [`lease`] has a guest that somebody uses, [`keeper`] the thread
//! that makes and resets guests off the callers' path, [`tasks`] the calls of [`Pool::call_async`].

use std::{
    boxed::Box,
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Backend, Machine, MachineBuilder, MachineError, Snapshot};
use crate::{
    call::{Peer, Serve},
    handshake::ConnectError,
    host::{DeadlineThread, GuestExit, RunOutcome, Stopper},
};

mod error;
mod events;
mod keeper;
mod lease;
mod metrics;
mod state;
mod tasks;

pub use error::PoolError;
pub use lease::Lease;
use lease::{Leased, Use};
pub use metrics::{Exits, Metrics};
use state::PoolInner;
pub use tasks::PoolCall;

/// How long [`Pool::close`] waits for the pool's threads.
const CLOSE_WAIT: Duration = Duration::from_millis(50);

/// A pool of guests that are ready: each caller gets one for itself, and it is [reset](super::Machine::reset) before
/// the next one gets it.
///
/// ```no_run
/// use vmffi::machine::{Backend, Image, MachineBuilder, Pool};
/// # vmffi::ffi_interface! { pub interface Bill { fn sum(first: u32, count: u32) -> u64; } }
///
/// let image = Image::open("plugin")?;
/// let backend = Backend::best().ok_or("neither KVM nor processes can be used here")?;
/// let pool = Pool::builder(&MachineBuilder::new(&image), backend).size(4).build(|| ())?;
/// let sum = pool.call(|guest| BillClient::from(guest).sum(10, 20))??;
/// # let _: u64 = sum;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Threads share a pool by reference, or in an [`Arc`]. Who waits for a guest gets one in the order of arrival, whether
/// by [`get`](Self::get), [`call`](Self::call) or [`call_async`](Self::call_async). The guest that was used last is
/// used next.
///
/// A guest is reset when its lease or call ends, on the thread on which that happens. A thread of the pool's resets a
/// guest that has exited, or replaces it if it cannot be reset, and makes guests. If it cannot make one, it tries
/// again, after 10 ms at first and after a second at most. As long as the pool has no guest at all for that reason,
/// callers get the error; if it has some, callers wait for those.
///
/// The pool belongs to the process that has built it: in a forked child, everything fails with [`PoolError::Forked`].
///
/// Dropping a pool [closes](Self::close) it.
pub struct Pool {
    shared: Arc<PoolInner>,
}

impl Pool {
    /// A builder for a pool of machines as `machine` describes them, on this backend.
    ///
    /// Its [limits](MachineBuilder::limits) apply to each call. Set a [deadline](crate::host::Limits::deadline), which
    /// also limits the start-up of a guest: without one, a guest that never gets ready keeps the pool from making
    /// others.
    #[must_use]
    pub fn builder(machine: &MachineBuilder, backend: Backend) -> PoolBuilder {
        PoolBuilder {
            source: MachineSource::Image(Box::new(machine.clone()), backend),
            size: 1,
            max: None,
            lease_time: None,
        }
    }

    /// A builder for a pool of machines of this snapshot, whose limits apply to each call. They are warm, and their guests do
    /// not start up.
    #[must_use]
    pub fn from_snapshot(snapshot: &Snapshot) -> PoolBuilder {
        let source = MachineSource::Snapshot(snapshot.clone());
        PoolBuilder { source, size: 1, max: None, lease_time: None }
    }

    /// Leases a guest; waits until one is ready.
    ///
    /// A handler of a guest may lease another one. If all callers do so at once, they wait for each other.
    ///
    /// # Errors
    ///
    /// [`PoolError::Closed`], [`PoolError::Forked`], and why no guest can be made if the pool has none.
    pub fn get(&self) -> Result<Lease, PoolError> {
        self.lease(None)
    }

    /// [`get`](Self::get), which waits for at most this time. With a time of zero it does not wait.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), and [`PoolError::Timeout`].
    pub fn get_timeout(&self, wait: Duration) -> Result<Lease, PoolError> {
        self.lease(Some(wait))
    }

    fn lease(&self, wait: Option<Duration>) -> Result<Lease, PoolError> {
        let until = wait.and_then(|wait| Instant::now().checked_add(wait));
        let guest = self.shared.take(Use::Lease, until)?;
        Ok(Lease::new(Leased::new(self.shared.clone(), guest)))
    }

    /// Calls a guest: `call` makes any number of calls to it, on this thread. The guest is reset before this returns,
    /// also if `call` panics. So handles to the guest's memory that `call` returns are
    /// [`Stale`](crate::ErrorKind::Stale): copy the data.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get). `call` returns its own.
    ///
    /// # Panics
    ///
    /// If `call` panics.
    pub fn call<R>(&self, call: impl FnOnce(&Peer) -> R) -> Result<R, PoolError> {
        let out = Leased::new(&*self.shared, self.shared.take(Use::Call, None)?);
        Ok(call(out.machine().guest()))
    }

    /// [`call`](Self::call) for tasks: a thread of the pool's calls the guest, and the result is a future that any
    /// runtime can poll. It has its place among those who wait from now on, whether it is polled or not. There are at
    /// most as many threads as guests; if one cannot be spawned, the result is [`PoolError::Thread`].
    ///
    /// Dropping the future cancels the call. If it has not begun, it never does. Otherwise the guest is
    /// [stopped](super::Machine::stopper): calls to it fail with [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled),
    /// and the guest is free when `call` has returned. Handlers, and what `call` itself does, are not stopped. What
    /// `call` returns is dropped on the pool's thread, and must not wait for the pool there.
    ///
    /// A panic of `call` is passed on to the task that polls the future.
    pub fn call_async<R: Send + 'static>(
        &self,
        call: impl FnOnce(&Peer) -> R + Send + 'static,
    ) -> PoolCall<R> {
        PoolCall::new(&self.shared, Box::new(call))
    }

    /// What the pool does and has done. In a forked child everything is zero.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    /// Ends the pool. Who waits for a guest, now or later, gets [`PoolError::Closed`]. The guests of
    /// [`call`](Self::call) and [`call_async`](Self::call_async) are stopped. Other guests are dropped, but those on
    /// lease stay as they are, and are dropped with the lease.
    ///
    /// Handlers, and the closures of calls, are not stopped. This waits for the pool's threads to end, but not longer
    /// than 50 ms: a thread whose call does not return ends later, when it does. Machines and their servers are dropped here,
    /// however long that takes.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.shared.is_here() {
            self.close();
        } else {
            // A thread of the parent may have been changing it.
            core::mem::forget(self.shared.clone());
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("metrics", &self.metrics()).finish_non_exhaustive()
    }
}

/// Builds a [`Pool`].
#[derive(Debug)]
pub struct PoolBuilder {
    source: MachineSource,
    size: usize,
    max: Option<usize>,
    lease_time: Option<Duration>,
}

impl PoolBuilder {
    /// Sets how many guests the pool keeps ready or in use; 1 by default.
    #[must_use]
    pub fn size(mut self, guests: usize) -> Self {
        self.size = guests;
        self
    }

    /// Lets the pool grow up to this number of guests while callers wait. It drops guests beyond its
    /// [`size`](Self::size) that were not needed for a second.
    #[must_use]
    pub fn grow_to(mut self, guests: usize) -> Self {
        self.max = Some(guests);
        self
    }

    /// Limits the time from when a caller gets a guest to when it gives it back: then the guest is stopped, and exits
    /// with [`GuestExit::Deadline`]. If the holder of a [`Lease`] [resets](super::Machine::reset) the guest after that,
    /// it runs without this limit.
    #[must_use]
    pub fn lease_time(mut self, limit: Duration) -> Self {
        self.lease_time = Some(limit);
        self
    }

    /// Builds the pool. `server` is called for each machine, and makes what serves its guest's calls.
    ///
    /// The first guest is ready when this returns; a thread of the pool's makes the others.
    ///
    /// # Errors
    ///
    /// [`PoolError::Config`] if the size is 0 or greater than what the pool may grow to, otherwise why the first guest
    /// cannot be made, or why there is no thread.
    ///
    /// # Panics
    ///
    /// If the first call of `server` panics.
    pub fn build<S: Serve>(
        self,
        server: impl Fn() -> S + Send + Sync + 'static,
    ) -> Result<Pool, PoolError> {
        let Self { source, size, max, lease_time } = self;
        let max = max.unwrap_or(size);
        if size == 0 || max < size {
            return Err(PoolError::Config(
                "a pool has one guest at least, and grows to no less than its size: \
                 set `PoolBuilder::size` and `PoolBuilder::grow_to`",
            ));
        }
        let deadlines = source.deadlines();
        let make = Box::new(move || source.build(server()));
        let shared = PoolInner::new(make, size..=max, lease_time, deadlines);
        shared.add(shared.make()?);
        shared.spawn_keeper()?;
        Ok(Pool { shared })
    }
}

/// What machines are made from.
#[derive(Debug)]
enum MachineSource {
    Image(Box<MachineBuilder>, Backend),
    Snapshot(Snapshot),
}

impl MachineSource {
    /// Builds a machine, and says whether it is ready or is to be [run](Machine::run) first.
    fn build(&self, server: impl Serve) -> Result<(Machine, bool), MachineError> {
        match self {
            Self::Image(builder, backend) => Ok((builder.build(*backend, server)?, false)),
            Self::Snapshot(snapshot) => Ok((snapshot.build(server)?, true)),
        }
    }

    /// The thread that stops those whose lease is over.
    fn deadlines(&self) -> Arc<DeadlineThread> {
        let deadlines = match self {
            Self::Image(builder, _) => builder.deadlines(),
            Self::Snapshot(snapshot) => snapshot.deadlines(),
        };
        if deadlines.is_here() { deadlines.clone() } else { Arc::default() }
    }
}

/// Makes a machine, and says whether it is ready or is to be run first.
type Make = dyn Fn() -> Result<(Machine, bool), MachineError> + Send + Sync;

/// Runs a guest that was built until it is ready.
fn start(machine: &Machine) -> Result<(), PoolError> {
    let failed = match machine.run() {
        Ok(RunOutcome::Ready) => return Ok(()),
        Ok(RunOutcome::Exited(status)) => {
            let text = crate::error::ErrorText::default();
            let exit = machine.guest_exit().unwrap_or(GuestExit::Exited { status, text });
            ConnectError::Exited(exit)
        }
        Err(error) => error,
    };
    Err(PoolError::Start(failed))
}

/// Drops what may run the user's code, such as a server's destructor, and catches its panic.
fn drop_caught<T>(value: T) {
    let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(value)));
}

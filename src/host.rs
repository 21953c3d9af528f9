//! The host's end of a connection: runs a vCPU from trap to trap, serves its hypercalls, and makes
//! upcalls into it.
//!
//! What a virtual machine monitor has to bring is a [`Vcpu`] and the memory of the region. The
//! [guide](crate::guide::host) shows both.

use std::{boxed::Box, fmt, io, ops::Deref, string::String, sync::Arc, time::Duration};

mod end;
pub(crate) mod fork;
mod limits;
mod log;
mod vm;
mod watch;

#[cfg(all(feature = "machine", target_os = "linux", target_arch = "x86_64"))]
pub(crate) use end::Escaped;
pub use end::{Broken, Cause, End, Fault};
pub use limits::{Limits, Options};

use crate::{
    abi::{Registers, Side},
    dispatch::Serve,
    error::{CallError, ConnectError, RegionError},
    memory::{Layout, Memory},
    owned::{Fixed, MemoryRef, Owned},
    peer::{Core, Lane, Link, Peer, Server},
    sync::threads::AtomicBool,
};
use vm::Vm;
pub(crate) use watch::Watch;

/// A virtual processor that runs until it traps: all that a host needs of a virtual machine monitor.
pub trait Vcpu: Send {
    /// Completes the trap that is pending, if there is one, with `answer`, and runs to the next: the
    /// four words of the ABI's register table, in both directions. The first call has no answer: it
    /// starts the guest.
    ///
    /// # Errors
    ///
    /// How the guest has come to its end: it crashed, did something that is no trap, or was stopped. None
    /// of its vCPUs is run any further.
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, End>;

    /// What stops this vCPU from any thread: a `run` that is under way then fails with [`End::Stopped`],
    /// and so may one that begins later; a stop that comes in between is not lost. Without one, a guest
    /// that is stopped runs on to its next trap. It is used under a lock of the host's, so it must neither use
    /// that nor wait for the vCPU.
    fn stopper(&self) -> Stopper {
        Stopper::new(|| ())
    }

    /// Completes what is pending from the last exit, without running guest code: behind it, nothing that the guest began
    /// is left to be carried out. It is called on all vCPUs of the guest before any of them keeps or restores
    /// anything. The default does nothing, for a vCPU whose exits leave nothing pending.
    ///
    /// # Errors
    ///
    /// Why it cannot: then nothing is kept or restored.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Keeps what [`restore`](Self::restore) brings back. It is called once, when the guest has started up and all of its
    /// vCPUs wait, the pending trap of this one being `READY`: all registers of the vCPU, and, with one of the guest's
    /// vCPUs, what the guest can write of its memory. The host's arena is not for it to keep. `cancelled` becomes true when
    /// the guest is stopped or its deadline is over: then it returns soon, with
    /// [`Interrupted`](io::ErrorKind::Interrupted).
    ///
    /// # Errors
    ///
    /// Why it cannot: then [`Host::reset`] is refused with that. Without a method of one's own it cannot.
    fn keep(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        let _ = cancelled;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this kind of vCPU keeps nothing"))
    }

    /// Brings back what was kept, whatever the guest has come to since, a stop included; its pending trap is `READY`
    /// again. No vCPU of the guest runs.
    ///
    /// # Errors
    ///
    /// Why it could not: then the guest stays ended.
    fn restore(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether this thread can run it. A vCPU that belongs to one thread says no on the others; calls
    /// from there are then [`Why::Busy`](crate::Why::Busy).
    fn runs_here(&self) -> bool {
        true
    }
}

impl<V: Vcpu + ?Sized> Vcpu for Box<V> {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, End> {
        (**self).run(answer)
    }

    fn stopper(&self) -> Stopper {
        (**self).stopper()
    }

    fn settle(&mut self) -> io::Result<()> {
        (**self).settle()
    }

    fn keep(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        (**self).keep(cancelled)
    }

    fn restore(&mut self) -> io::Result<()> {
        (**self).restore()
    }

    fn runs_here(&self) -> bool {
        (**self).runs_here()
    }
}

/// Stops a vCPU, or all of a guest's ([`Host::stopper`]), from any thread, at any time, as often as one
/// likes. It does not wait until they have stopped. A stopped guest is not run again, unless its host
/// [resets](Host::reset) it.
#[derive(Clone)]
pub struct Stopper(Arc<dyn Fn() + Send + Sync>);

impl Stopper {
    /// A stopper that calls `stop`.
    pub fn new(stop: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(stop))
    }

    /// Stops it.
    pub fn stop(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").finish_non_exhaustive()
    }
}

/// What a guest has come to when it stops running by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a guest that has ended, by a panic say, is no error of whoever has run it"]
pub enum Ran {
    /// It waits for upcalls.
    Ready,
    /// It has ended, with this status: 0 for a good end. [`Host::end`] has its last text.
    Exited(u64),
}

/// Why a process that is forked from a guest's cannot use it.
const ELSEWHERE: &str = "the guest belongs to the process that this one was forked from";

/// A guest that could not be reset. It is what it was before, but for a failure, which is its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetError {
    /// One of its vCPUs is in the hands of a call, this thread's or another one's, or of another reset.
    Busy,
    /// One of its vCPUs can be run by another thread only: the one that made it.
    WrongThread,
    /// It has never come to wait for upcalls, so there is nothing to go back to.
    NotStarted,
    /// What runs it could not keep it or bring it back, with this message.
    Failed(String),
}

impl fmt::Display for ResetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => {
                f.write_str("the guest cannot be reset from within a call, nor during one")
            }
            Self::WrongThread => {
                f.write_str("the guest can only be reset by the thread that made its vCPU")
            }
            Self::NotStarted => f.write_str("the guest has not started up, so it cannot be reset"),
            Self::Failed(why) => write!(f, "the guest cannot be reset: {why}"),
        }
    }
}

impl std::error::Error for ResetError {}

/// A host's end of a connection with the vCPUs of one guest.
pub struct Host<V> {
    peer: Peer,
    core: Fixed<Core>,
    vm: Arc<Vm<V>>,
}

impl<V: Vcpu + 'static> Host<V> {
    /// Lays out a region of `layout.len()` bytes from `base` on and connects `vcpus`, whose guest will
    /// find it there; nothing runs yet.
    ///
    /// - `len` is how much there is from `base` on, at least `layout.len()`; `base` is a multiple of
    ///   [`PAGE`](crate::PAGE).
    /// - `keep` owns that memory: it is dropped when host and handles are, and a handler may keep handles
    ///   for longer than this host lives.
    /// - `server` serves the guest's calls.
    /// - `vcpus` are the guest's, in the order in which they are started, at least one.
    /// - `options` are the guest's limits, and who hears of what it is refused.
    ///
    /// # Safety
    ///
    /// `base` is valid for reads and writes of `len` bytes until `keep` is dropped, and no Rust
    /// reference covers them. The guest cannot write to the host's arena.
    ///
    /// # Errors
    ///
    /// What is wrong with the memory, and [`RegionError::OutOfMemory`].
    pub unsafe fn new(
        layout: Layout,
        base: *mut u8,
        len: u64,
        keep: Box<dyn Send + Sync>,
        server: impl Serve,
        vcpus: impl IntoIterator<Item = V>,
        options: Options,
    ) -> Result<Self, RegionError> {
        let Options { limits, observer } = options;
        let books = [None, Some(Memory::new_books(&layout, Side::Host)?)];
        // SAFETY: the caller's promise; the books are new.
        let mut memory = unsafe { Memory::new(base, len, layout, books, keep.into()) }?;
        memory.limit(Side::Host, limits.lent_blocks, limits.lent_bytes, limits.handles);
        memory.belongs_here();
        // SAFETY: the memory has a page and more.
        unsafe { layout.write_header(base) };
        let text = limits.text;
        let vm = Vm::new(vcpus, limits, memory.epoch());
        let core = Fixed::new(|_| Core {
            memory: MemoryRef::Counted(Arc::new(memory)),
            side: Side::Host,
            server: Server::new(Owned::Boxed(Box::new(server))),
            link: Link::Far(Owned::Boxed(Box::new(vm.clone()))),
            #[cfg(all(feature = "guest", target_arch = "x86_64"))]
            trap: None,
            observer: observer.map(Owned::Boxed),
            text,
        });
        // SAFETY: the core stays in its place for as long as the host, and the peer in it, live.
        let peer = unsafe { Peer::top(core.address(), Lane::NONE) };
        Ok(Self { peer, core, vm })
    }

    /// Starts the guest, or lets a parked one go on, and serves its hypercalls, on this thread, until it
    /// waits for upcalls (again) or ends. It takes as long as the guest does. Where the guest has several
    /// vCPUs, that goes for one after the other, in their order.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Contract`] where guest and host do not fit together, and [`ConnectError::Ended`] where
    /// the guest has come to another end, now or before: then it is run no further. [`Why::Busy`](crate::Why::Busy) in a handler
    /// of this guest, and on a thread that cannot run it.
    pub fn run(&self) -> Result<Ran, ConnectError> {
        self.run_until(None)
    }

    /// Has this guest's deadlines watched with those of others, before the first of them.
    #[cfg_attr(not(feature = "machine"), expect(dead_code, reason = "for machines"))]
    pub(crate) fn watched_by(&self, watch: &Arc<Watch>) {
        self.vm.watched_by(watch.clone());
    }

    fn run_until(&self, limit: Option<Duration>) -> Result<Ran, ConnectError> {
        match self.vm.run(&self.core, limit) {
            Ok(()) => Ok(Ran::Ready),
            Err(why) => match self.end() {
                Some(End::Exited { status, .. }) => Ok(Ran::Exited(status)),
                Some(End::Unfit(mismatch)) => Err(mismatch.into()),
                Some(end) => Err(ConnectError::Ended(end)),
                None => Err(CallError::new(why).on(Side::Host).into()),
            },
        }
    }

    /// The guest: calls through it are upcalls, on a parked vCPU. They wait while other threads have all
    /// of them, in [`run`](Self::run) or in a call; before the first `run`, and on a thread that has
    /// one itself, that is in a handler of this guest, they are then [`Why::Busy`](crate::Why::Busy). A handler uses the
    /// [`Peer`] that it got instead.
    #[must_use]
    pub fn guest(&self) -> &Peer {
        &self.peer
    }

    /// The guest, with a deadline: each call through the result that is made outside of handlers, and each
    /// [`run`](Within::run), may take so long, with all that is nested in it, and with the time that it waits for
    /// a vCPU. One that gets none in that time is [`Why::Busy`](crate::Why::Busy); one whose guest takes longer fails with
    /// [`Why::Cancelled`](crate::Why::Cancelled), and the guest has come to [`End::Deadline`]. A handler is not
    /// stopped, but its guest is not run on after it.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use vmffi::{CallError, host::{Host, Vcpu}};
    /// # vmffi::ffi_interface! { pub interface Codec { fn frames() -> u32; } }
    /// # fn get<V: Vcpu + 'static>(host: &Host<V>) -> Result<u32, CallError> {
    /// let guest = host.within(Duration::from_millis(20));
    /// let frames = CodecClient::from(&*guest).frames()?;
    /// # Ok(frames)
    /// # }
    /// ```
    #[must_use]
    pub fn within(&self, limit: Duration) -> Within<'_, V> {
        let limit = Fixed::new(|_| limit);
        let lane = Lane(limit.address().as_ptr().cast_const().cast());
        // SAFETY: the core stays in its place for as long as the host, which is borrowed.
        let peer = unsafe { Peer::top(self.core.address(), lane) };
        Within { host: self, peer, limit }
    }

    /// Brings the guest back to where it was when it had started up, all of its vCPUs waiting for upcalls: its
    /// memory, both arenas and release maps, all registers. Whatever it has come to since, a crash or a stop, is gone.
    ///
    /// What was lent since, either way, has ended: a handle to it that is still there reads as
    /// [`Why::Stale`](crate::Why::Stale) and drops as nothing. That goes for what the guest lent while it started up,
    /// too. What the guest has got then, it has again; the host keeps those blocks for that. All else that is free of
    /// the host's arena is zeroed.
    /// What was made here and not yet handed over stays what it is, and the server stays with what it has kept.
    ///
    /// It takes a fraction of what making a machine takes: `cargo bench --bench machines` has figures.
    ///
    /// # Errors
    ///
    /// [`ResetError`]: it is refused in a handler of this guest, while another thread runs it, and before it has
    /// started up.
    pub fn reset(&self) -> Result<(), ResetError> {
        self.vm.reset(&self.core)
    }

    /// How the guest has come to its end; `None` while it lives, and after a [`reset`](Self::reset).
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.vm.ended()
    }

    /// What stops this guest, all of its vCPUs, from any thread: the call that is under way, and every
    /// later one, fails with [`Why::Cancelled`](crate::Why::Cancelled). It stops guest code: a handler runs on to
    /// its end.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.vm.stopper()
    }
}

/// A guest whose calls have a deadline: a [`Peer`], from [`Host::within`].
pub struct Within<'h, V> {
    host: &'h Host<V>,
    peer: Peer,
    limit: Fixed<Duration>,
}

impl<V: Vcpu + 'static> Within<'_, V> {
    /// [`Host::run`], with that deadline.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn run(&self) -> Result<Ran, ConnectError> {
        self.host.run_until(Some(*self.limit))
    }
}

impl<V> Deref for Within<'_, V> {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl<V> fmt::Debug for Within<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within").field("limit", &*self.limit).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Host<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("peer", &self.peer).finish_non_exhaustive()
    }
}

//! One side of a connection: its memory, what it serves, and how it reaches the other side.

use core::ptr::NonNull;

use crate::{
    abi::{Answer, Side, Transport, signature},
    dispatch::{Serve, Table},
    error::{CallError, Why},
    owned::{MemoryRef, Owned},
    wire::FfiType,
};

#[cfg(feature = "std")]
use crate::memory::Epoch;

use super::{Incoming, Lane, MAX_DEPTH, Passage, Peer};

/// How calls leave for the other side.
pub(crate) enum Link {
    /// As a function call: the other side is in this process, and lives as long as this one.
    #[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "for the loopback"))]
    Near(NonNull<Core>),
    /// By a trap, or as the completion of one.
    Far(Owned<dyn Far>),
}

// SAFETY: a core is `Sync`, and so is what is far.
unsafe impl Send for Link {}
// SAFETY: as above.
unsafe impl Sync for Link {}

/// A way to the other side of a real boundary.
pub(crate) trait Far: Send + Sync {
    /// Carries one call over and brings its answer back. Errors of the connection itself are status
    /// words, as the peer's are. `loans` are those of the call; a host's link has them know in which life of its
    /// guest the call ran.
    fn call(
        &self,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
    ) -> Answer;

    /// How the peer has come to its end in this life of its, if that is known here.
    #[cfg(feature = "std")]
    fn end(&self, _: Epoch) -> Option<std::sync::Arc<crate::host::End>> {
        None
    }
}

/// Is told of each call that this side refused or failed, with the function and the bad field.
pub(crate) type Observer = dyn Fn(&CallError) + Send + Sync;

/// Stands for a server whose type is forgotten.
#[repr(C)]
struct Opaque([u8; 0]);

/// A server and its table, whatever its type.
pub(crate) struct Server {
    server: NonNull<Opaque>,
    table: &'static Table<Opaque>,
    pub(crate) contract: &'static [u8],
    /// Frees the server, where it is on the heap.
    drop: Option<unsafe fn(NonNull<Opaque>)>,
}

// SAFETY: made from a `Serve`, which is `Send + Sync`.
unsafe impl Send for Server {}
// SAFETY: as above.
unsafe impl Sync for Server {}

impl Server {
    pub(crate) fn new<S: Serve>(server: Owned<S>) -> Self {
        let (server, drop) = match server {
            Owned::Static(server) => (NonNull::from(server).cast(), None),
            #[cfg(feature = "alloc")]
            Owned::Boxed(server) => {
                let drop: unsafe fn(NonNull<Opaque>) = |server| {
                    // SAFETY: called once, with the pointer that was leaked below.
                    drop(unsafe { alloc::boxed::Box::from_raw(server.cast::<S>().as_ptr()) });
                };
                (NonNull::from(alloc::boxed::Box::leak(server)).cast(), Some(drop))
            }
        };
        let table: *const Table<S> = S::TABLE;
        // SAFETY: `Table` and `Entry` are `repr(C)` and hold `S` only behind the reference that
        // their functions take; `&S` and `&Opaque` are both thin, and compatible in every ABI.
        let table = unsafe { &*table.cast::<Table<Opaque>>() };
        Self { server, table, contract: S::CONTRACT, drop }
    }

    #[inline]
    fn get(&self) -> &Opaque {
        // SAFETY: points to the server that `new` took, which lives until `drop`.
        unsafe { self.server.as_ref() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: `server` is what `new` leaked, and nothing can use it after this.
            unsafe { drop(self.server) }
        }
    }
}

/// One side of a connection: its memory, what it serves, and how it reaches the other side.
pub(crate) struct Core {
    pub(crate) memory: MemoryRef,
    pub(crate) side: Side,
    pub(crate) server: Server,
    pub(crate) link: Link,
    /// How calls leave where that is one instruction: the short way, which `link` knows too.
    #[cfg(all(feature = "guest", target_arch = "x86_64"))]
    pub(crate) trap: Option<crate::arch::x86_64::Agreed>,
    pub(crate) observer: Option<Owned<Observer>>,
    /// How many bytes of a text of the peer's are looked at, that is for people.
    #[cfg(feature = "std")]
    pub(crate) text: u32,
}

impl Core {
    /// Adds to an error that this side has found for a call what it knows of the peer's end.
    #[cfg(feature = "std")]
    #[cold]
    pub(crate) fn explain(&self, error: CallError, epoch: Epoch) -> CallError {
        match (&self.link, error.why()) {
            (_, Why::Stale | Why::Busy | Why::TooDeep) | (Link::Near(_), _) => error,
            (Link::Far(link), _) => error.by_end(link.end(epoch)),
        }
    }

    /// Serves one call of the peer's: the host-side code behind a `CALL`, the guest-side code behind
    /// an `UPCALL`. `depth` counts this call, `lane` is where nested calls go.
    pub(crate) fn serve(
        &self,
        signature: u64,
        transport: Transport,
        depth: u32,
        lane: Lane,
    ) -> Answer {
        if depth > MAX_DEPTH {
            return self.refuse(CallError::new(Why::TooDeep));
        }
        let mut status = 0;
        let transport = self.dispatch(signature, transport, depth, lane, &mut status);
        Answer { status, transport }
    }

    /// The same for a call from this process, whose depth its caller has checked. Writes a status
    /// that is not 0; a transport then comes back in registers.
    #[inline(never)]
    pub(super) fn serve_near(
        &self,
        signature: u64,
        transport: Transport,
        depth: u32,
        status: &mut u64,
    ) -> Transport {
        self.dispatch(signature, transport, depth, Lane::NONE, status)
    }

    #[inline(always)]
    fn dispatch(
        &self,
        signature: u64,
        transport: Transport,
        depth: u32,
        lane: Lane,
        status: &mut u64,
    ) -> Transport {
        let peer = Peer::new(self, depth, lane);
        let server = &self.server;
        let served =
            catch(|| match server.table.call(server.get(), &peer, signature, transport, status) {
                Some(transport) => transport,
                None => self.unserved(signature, transport, status),
            });
        match served {
            Ok(transport) => transport,
            Err(Panicked) => self.panicked(status),
        }
    }

    /// A signature that is not in the table: one of the ABI's own, or nobody's.
    #[cold]
    #[inline(never)]
    fn unserved(&self, signature: u64, transport: Transport, status: &mut u64) -> Transport {
        let error = match signature {
            signature::HAS => {
                let from =
                    Incoming { memory: &self.memory, side: self.side, epoch: self.memory.epoch() };
                match u64::from_transport(transport, from) {
                    Ok(asked) => return Transport::word(u64::from(self.server.table.has(asked))),
                    Err(error) => error,
                }
            }
            #[cfg(feature = "alloc")]
            signature::MEET if self.side == Side::Host => match self.meet(transport) {
                Ok(()) => return Transport::EMPTY,
                Err(error) => crate::meet::refusal(error),
            },
            #[cfg(feature = "std")]
            signature::LOG if self.side == Side::Host => match self.log(transport) {
                Ok(()) => return Transport::EMPTY,
                Err(error) => error,
            },
            _ => CallError::new(Why::UnknownFunction),
        };
        *status = self.refuse(error).status;
        Transport::EMPTY
    }

    #[cold]
    #[inline(never)]
    fn panicked(&self, status: &mut u64) -> Transport {
        *status = self.refuse(CallError::new(Why::PeerPanicked).reached_handler()).status;
        Transport::EMPTY
    }

    /// Turns an error into an answer, and lets the observer know.
    #[cold]
    pub(crate) fn refuse(&self, error: CallError) -> Answer {
        let error = error.on(self.side);
        if let Some(observer) = &self.observer {
            // A panic in it is no matter of the call, nor of whoever runs the guest.
            let _ = catch(|| observer(&error));
        }
        Answer::status(error.status())
    }
}

struct Panicked;

#[cfg(feature = "std")]
#[inline]
fn catch<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    // A server is shared by all calls anyway, so whatever a panic leaves half done, the type itself
    // must stand (a poisoned mutex, say); nothing of ours is left half done.
    std::panic::catch_unwind(core::panic::AssertUnwindSafe(call)).map_err(forget)
}

#[cfg(feature = "std")]
#[cold]
#[inline(never)]
fn forget(mut panic: alloc::boxed::Box<dyn core::any::Any + Send>) -> Panicked {
    // What a panic carries may panic again when it is dropped, and what that one carries too.
    for _ in 0..4 {
        match std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| drop(panic))) {
            Ok(()) => return Panicked,
            Err(next) => panic = next,
        }
    }
    core::mem::forget(panic);
    Panicked
}

#[cfg(not(feature = "std"))]
#[inline]
fn catch<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    Ok(call())
}

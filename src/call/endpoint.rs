//! An endpoint: one side of a connection, with its memory, its server and its link to the other side.

use core::ptr::NonNull;

use crate::{
    abi::{MAX_DEPTH, Transport, signature},
    arch::InlineInstruction,
    error::{CallError, ErrorKind, Observer},
    memory::{Incoming, Outgoing, Passage, SideMemory, storage::Owned},
    types::FfiType,
};
#[cfg(feature = "std")]
use crate::{error::GuestEnd, memory::Epoch};

use super::{
    CallContext, Peer,
    dispatch::{Serve, Table},
};

/// How calls reach the other side.
pub(crate) enum Link {
    /// By a function call: the other endpoint is in this process. Whoever makes the link keeps both endpoints alive
    /// until neither is used any more.
    #[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "for the loopback"))]
    Local(NonNull<Endpoint>),
    /// By a trap, or by the completion of a trap.
    Remote(Owned<dyn RemoteLink>),
}

// SAFETY: the pointer of `Local` is only used as a `&Endpoint`, which may be sent to other threads, since `Endpoint` is
// `Sync`. A `dyn RemoteLink` is `Send + Sync` by its supertraits.
unsafe impl Send for Link {}
// SAFETY: a `&Link` gives access to a `&Endpoint` or a `&dyn RemoteLink` only, and both types are `Sync`.
unsafe impl Sync for Link {}

/// A link to the other side across a real boundary.
pub(crate) trait RemoteLink: Send + Sync {
    /// Makes one call: returns the answer's transport, and writes its status. Errors of the connection are status words
    /// like those of the peer. `passage` names the loans of the call; a host's link writes to it the life of the guest
    /// in which the call ran.
    fn call(
        &self,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
        status: &mut u64,
    ) -> Transport;

    /// How the peer exited in this life, if this side knows.
    #[cfg(feature = "std")]
    fn exit(&self, _: Epoch) -> Option<GuestEnd> {
        None
    }
}

/// Serves the signatures that the ABI reserves for hosts, `HANDSHAKE` and `LOG`.
pub(crate) trait Reserved: Send + Sync {
    /// Serves one call; `None` for other signatures.
    fn serve(
        &self,
        endpoint: &Endpoint,
        signature: u64,
        transport: Transport,
    ) -> Option<Result<(), CallError>>;
}

/// The type of an erased server.
#[repr(C)]
struct Opaque([u8; 0]);

/// A server with its dispatch table, type-erased.
pub(crate) struct Server {
    server: NonNull<Opaque>,
    /// A copy, so that a call reads no pointer to it.
    table: Table<Opaque>,
    pub(crate) contract: &'static [u8],
    /// Frees the server, if it is on the heap.
    drop: Option<unsafe fn(NonNull<Opaque>)>,
}

// SAFETY: `new` takes a server whose type implements `Serve`, a subtrait of `Send`, so it may be used and dropped on
// another thread. The other fields are references to immutable statics, and a function.
unsafe impl Send for Server {}
// SAFETY: a `&Server` gives access to the server as `&S` only, in `get`, and `Serve` is a subtrait of `Sync`.
unsafe impl Sync for Server {}

impl Server {
    pub(crate) fn new<S: Serve>(server: Owned<S>) -> Self {
        let (server, drop) = match server {
            Owned::Static(server) => (NonNull::from(server).cast(), None),
            #[cfg(feature = "alloc")]
            Owned::Boxed(server) => {
                let drop: unsafe fn(NonNull<Opaque>) = |server| {
                    // SAFETY: `Server::drop` calls this once, with the pointer to the `Box<S>` that is leaked below.
                    drop(unsafe { alloc::boxed::Box::from_raw(server.cast::<S>().as_ptr()) });
                };
                (NonNull::from(alloc::boxed::Box::leak(server)).cast(), Some(drop))
            }
        };
        let table: *const Table<S> = S::TABLE;
        // SAFETY: `Table` and `Entry` are `repr(C)` and mention `S` only in the parameter `&S` of their functions, so
        // both have the same layout for `S` and `Opaque`. A function that takes a `&S` may be called with a `&Opaque`,
        // since both are thin references, which are ABI-compatible; `get` passes a reference to a real `S`.
        let table = unsafe { *table.cast::<Table<Opaque>>() };
        Self { server, table, contract: S::CONTRACT, drop }
    }

    #[inline]
    fn get(&self) -> &Opaque {
        // SAFETY: the pointer is to the server that `new` took: a static, or a leaked box that only `drop` frees.
        unsafe { self.server.as_ref() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: `new` sets the function only for a pointer that it leaked, and `self.server` is unused after
            // this.
            unsafe { drop(self.server) }
        }
    }
}

/// One side of a connection: its memory, its server and its link to the other side.
pub(crate) struct Endpoint {
    pub(crate) own: SideMemory,
    pub(crate) server: Server,
    /// Serves reserved signatures other than `HAS`; `None` for a guest.
    pub(crate) reserved: Option<Owned<dyn Reserved>>,
    pub(crate) link: Link,
    /// The inline trap instruction, if available: calls execute it themselves instead of calling `link`.
    pub(crate) inline: InlineInstruction,
    pub(crate) observer: Option<Owned<Observer>>,
}

impl Endpoint {
    /// Adds to an error of a call, detected on this side, how the peer exited, if that is the reason.
    #[cfg(feature = "std")]
    #[cold]
    pub(crate) fn explain(&self, error: CallError, epoch: Option<Epoch>) -> CallError {
        match (&self.link, error.kind()) {
            (_, ErrorKind::Stale | ErrorKind::Busy | ErrorKind::TooDeep) | (Link::Local(_), _) => {
                error
            }
            (Link::Remote(link), _) => {
                let epoch = epoch.unwrap_or_else(|| self.own.memory.epoch());
                error.because(link.exit(epoch))
            }
        }
    }

    /// Serves one call of the peer: a `CALL` on the host, an `UPCALL` in a guest. `depth` includes this call, and calls
    /// of its handler are made in `context`. Returns the transport of the answer, and writes the status if that is not
    /// 0.
    pub(crate) fn serve(
        &self,
        signature: u64,
        transport: Transport,
        depth: u32,
        context: CallContext,
        status: &mut u64,
    ) -> Transport {
        if depth > MAX_DEPTH {
            *status = self.refuse(CallError::new(ErrorKind::TooDeep));
            return Transport::EMPTY;
        }
        self.dispatch(signature, transport, depth, context, status)
    }

    /// The same for a call in this process. The caller has checked the depth.
    #[inline(never)]
    pub(super) fn serve_local(
        &self,
        signature: u64,
        transport: Transport,
        depth: u32,
        status: &mut u64,
    ) -> Transport {
        self.dispatch(signature, transport, depth, CallContext::Outside, status)
    }

    #[inline(always)]
    fn dispatch(
        &self,
        signature: u64,
        transport: Transport,
        depth: u32,
        context: CallContext,
        status: &mut u64,
    ) -> Transport {
        // SAFETY: the peer is dropped when this function returns, which borrows the endpoint. Whoever gives a `context` keeps
        // what it points to until `serve` has returned.
        let peer = unsafe { Peer::new(self, depth, context) };
        let server = &self.server;
        let served =
            catch(|| match server.table.call(server.get(), &peer, signature, transport, status) {
                Some(transport) => transport,
                None => self.serve_reserved(signature, transport, status, &peer),
            });
        match served {
            Ok(transport) => transport,
            Err(Panicked) => self.panicked(status),
        }
    }

    /// Serves a signature that is not in the table: a reserved or an unknown one. The peer is the last parameter, so that the
    /// others stay in the registers that they are in.
    #[cold]
    #[inline(never)]
    fn serve_reserved(
        &self,
        signature: u64,
        transport: Transport,
        status: &mut u64,
        peer: &Peer,
    ) -> Transport {
        let served = match (signature, &self.reserved) {
            (signature::HAS, _) => self.has(transport),
            (signature::CONTRACT, _) => self.contract(transport),
            (signature::BATCH, _) => self.serve_batch(peer, transport),
            (_, Some(reserved)) => reserved
                .serve(self, signature, transport)
                .map(|served| served.map(|()| Transport::EMPTY))
                .unwrap_or(Err(CallError::new(ErrorKind::UnknownFunction))),
            (_, None) => Err(CallError::new(ErrorKind::UnknownFunction)),
        };
        served.unwrap_or_else(|error| {
            *status = self.refuse(error);
            Transport::EMPTY
        })
    }

    fn has(&self, transport: Transport) -> Result<Transport, CallError> {
        let SideMemory { ref memory, side } = self.own;
        let from = Incoming::new(memory, side, None);
        let asked = u64::from_transport(transport, from)?;
        Ok(Transport::word(u64::from(self.server.table.has(asked))))
    }

    /// Lends a copy of this side's contract.
    fn contract(&self, transport: Transport) -> Result<Transport, CallError> {
        if transport != Transport::EMPTY {
            return Err(CallError::new(ErrorKind::BadValue));
        }
        // At a depth of 1 or more, so that the loan is delivered with this answer.
        let mut out = Outgoing::new(&self.own, 1);
        let lent = out.lend_bytes(self.server.contract);
        // Without memory for its result, it was reached (ABI, S-6).
        let lent = lent.map_err(CallError::reached_handler)?;
        out.depart();
        Ok(lent)
    }

    #[cold]
    #[inline(never)]
    fn panicked(&self, status: &mut u64) -> Transport {
        let error = CallError::new(ErrorKind::PeerPanicked);
        // The entry has left this status if decoding the parameters has panicked.
        let error = if *status == error.status() { error } else { error.reached_handler() };
        *status = self.refuse(error);
        Transport::EMPTY
    }

    /// Notifies the observer of an error, and returns its status for the peer.
    #[cold]
    pub(crate) fn refuse(&self, error: CallError) -> u64 {
        let error = error.on(self.own.side);
        if let Some(observer) = &self.observer {
            // A panic of the observer must affect neither the call nor the thread that runs the guest.
            let _ = catch(|| observer(&error));
        }
        error.status()
    }
}

struct Panicked;

#[cfg(feature = "std")]
#[inline]
fn catch<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    // Unwind safety: all calls share the server, so its type must handle a state that a panic has left (for example by
    // a poisoned mutex). The crate's own state is consistent whenever it calls a handler.
    std::panic::catch_unwind(core::panic::AssertUnwindSafe(call)).map_err(forget)
}

#[cfg(feature = "std")]
#[cold]
#[inline(never)]
fn forget(mut panic: alloc::boxed::Box<dyn core::any::Any + Send>) -> Panicked {
    // Dropping the payload of a panic may panic, and so may dropping that panic's payload.
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

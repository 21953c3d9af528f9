//! The client's half of a call: what a generated client does before and after sending it.

use core::{fmt, marker::PhantomData};

use super::{Peer, span::Span};
use crate::{
    abi::{Answer, Function, Transport},
    error::{CallError, ErrorKind},
    memory::{Epoch, Outgoing, Passage, sealed},
    types::FfiReturn,
};

/// Makes the calls of a client: a `&Peer` makes each of them at once, and a [`&Batch`](crate::Batch) collects them. A client is
/// made from either, and has the same methods. The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "no client can be made from `{Self}`",
    label = "not a `&Peer` or a `&Batch`"
)]
pub trait Caller: Copy + fmt::Debug + sealed::Sealed {
    /// What a method returns for a function that returns `R`: the result, or a [`Pending`](crate::Pending) one.
    type Returned<R: FfiReturn>;

    /// The other side of the connection.
    #[doc(hidden)]
    fn peer(&self) -> &Peer;

    /// Begins a call.
    #[doc(hidden)]
    fn outgoing(&self) -> Outgoing<'_>;

    /// Makes the call.
    ///
    /// # Safety
    ///
    /// As for `finish`.
    #[doc(hidden)]
    unsafe fn finish<R: FfiReturn>(
        &self,
        out: Outgoing<'_>,
        function: &'static Function,
        transport: Result<Transport, CallError>,
    ) -> Self::Returned<R>;
}

impl sealed::Sealed for &Peer {}

impl Caller for &Peer {
    type Returned<R: FfiReturn> = R::Received;

    #[inline(always)]
    fn peer(&self) -> &Peer {
        self
    }

    #[inline(always)]
    fn outgoing(&self) -> Outgoing<'_> {
        Peer::outgoing(self).for_call()
    }

    #[inline(always)]
    unsafe fn finish<R: FfiReturn>(
        &self,
        out: Outgoing<'_>,
        function: &'static Function,
        transport: Result<Transport, CallError>,
    ) -> R::Received {
        // SAFETY: the caller promises what `finish` requires.
        unsafe { finish::<R>(self, out, function, transport) }
    }
}

/// What a generated client holds.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Via<'p, C> {
    pub caller: C,
    borrowed: PhantomData<&'p ()>,
}

impl<C> Via<'_, C> {
    #[inline]
    pub fn new(caller: C) -> Self {
        Self { caller, borrowed: PhantomData }
    }
}

/// The transport of a call without parameters.
#[doc(hidden)]
#[inline]
pub fn nothing() -> Result<Transport, CallError> {
    Ok(Transport::EMPTY)
}

/// Sends a call and converts its answer. Code for failures is in separate functions, so that the rest is small enough
/// to be inlined into every caller.
///
/// # Safety
///
/// `out` was made by `peer`; `transport` was made through `out` by an implementation of [`SendAs`](crate::SendAs) for
/// the parameters that `function` declares; and `function` returns `R`.
#[inline(always)]
unsafe fn finish<R: FfiReturn>(
    peer: &Peer,
    mut out: Outgoing<'_>,
    function: &'static Function,
    transport: Result<Transport, CallError>,
) -> R::Received {
    let transport = match transport {
        Ok(transport) => transport,
        Err(error) => {
            // Dropping `out` ends its loans, since it has not departed.
            return R::received(Err(error.on(peer.side()).in_function(function)));
        }
    };
    let mut status = 0;
    let span = Span::call(peer, function);
    let mut passage = out.passage();
    let loans = out.depart();
    let transport =
        peer.exchange(R::WIDE, function.signature, transport, &mut passage, &mut status);
    out.drop_params();
    span.end(status);
    if status > 1 {
        let (kind, reached) = read_status(status);
        let error = CallError::new(kind).in_function(function);
        let error = if reached {
            error.reached_handler()
        } else {
            out.come_back(loans);
            error
        };
        let Passage { epoch, failed_here, .. } = passage;
        return R::received(Err(found(peer, error, epoch, failed_here)));
    }
    match R::receive(Answer { status, transport }, peer.received(passage.epoch)) {
        Ok(received) => R::received(Ok(received)),
        Err(error) => {
            // The answer does not fit this function.
            let error = error.reached_handler().on(peer.side());
            R::received(Err(error.in_function(function)))
        }
    }
}

/// Adds to an error which side detected it, and how the peer exited, if this side knows. The last two parameters are those
/// of the call's passage, by themselves: a reference to it would keep it in memory, also in calls that succeed.
#[inline]
pub(crate) fn found(
    peer: &Peer,
    error: CallError,
    epoch: Option<Epoch>,
    failed_here: bool,
) -> CallError {
    if !failed_here {
        return error.on(peer.side().other());
    }
    #[cfg(feature = "std")]
    let error = peer.endpoint().explain(error, epoch);
    #[cfg(not(feature = "std"))]
    let _ = epoch;
    error.on(peer.side())
}

/// Returns two small values in registers. If it returned the error, the compiler would place the result of a successful
/// call in memory as well.
#[cold]
#[inline(never)]
fn read_status(status: u64) -> (ErrorKind, bool) {
    let error = CallError::from_status(status);
    (error.kind(), error.reached())
}

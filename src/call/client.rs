//! The client's half of a call: what a generated client does before and after sending it.

use super::{Peer, span::Span};
use crate::{
    abi::{Answer, Function, Transport},
    error::{CallError, ErrorKind},
    memory::{Outgoing, Passage},
    types::FfiReturn,
};

/// The transport of a call without parameters.
#[doc(hidden)]
#[inline]
pub fn nothing() -> Result<Transport, CallError> {
    Ok(Transport::EMPTY)
}

/// Sends a call and converts its answer. Code for failures is in separate functions, so that the rest is small enough
/// to be inlined into every caller, and no result passes through memory.
///
/// # Safety
///
/// `out` was made by `peer`; `transport` was made through `out` by an implementation of [`SendAs`](crate::SendAs) for
/// the parameters that `function` declares; and `function` returns `R`.
#[doc(hidden)]
#[inline(always)]
pub unsafe fn finish<R: FfiReturn>(
    peer: &Peer,
    out: &mut Outgoing<'_>,
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
    let signature = function.signature;
    let transport = peer.exchange(R::WIDE, signature, transport, &mut passage, &mut status);
    out.ran_in(passage.epoch);
    span.end(status);
    if status > 1 {
        return R::received(Err(failed(peer, out, loans, function, status, &passage)));
    }
    match R::receive(Answer { status, transport }, out.received()) {
        Ok(received) => R::received(Ok(received)),
        Err(error) => {
            // The answer does not fit this function.
            let error = error.reached_handler().on(peer.side());
            R::received(Err(error.in_function(function)))
        }
    }
}

/// The error of a call that failed with `status`. If its handler was not reached, this side owns the loans again.
#[inline]
fn failed(
    peer: &Peer,
    out: &mut Outgoing<'_>,
    loans: u32,
    function: &'static Function,
    status: u64,
    passage: &Passage,
) -> CallError {
    let (kind, reached) = read_status(status);
    if !reached {
        out.come_back(loans);
    }
    let error = CallError::new(kind).in_function(function);
    let error = if reached { error.reached_handler() } else { error };
    found(peer, error, passage)
}

/// Adds to an error which side detected it, and how the peer exited, if this side knows.
pub(crate) fn found(peer: &Peer, error: CallError, passage: &Passage) -> CallError {
    if !passage.failed_here {
        return error.on(peer.side().other());
    }
    #[cfg(feature = "std")]
    let error = peer.endpoint().explain(error, passage.epoch);
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

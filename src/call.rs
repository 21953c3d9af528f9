//! The two ends of a call: what a client does around sending it, and a server around its handler.

use crate::{
    abi::{Answer, Function, Transport},
    error::{CallError, Failure, Why},
    peer::{Incoming, Outgoing, Passage, Peer},
    shape::Shape,
    trace::Span,
    wire::{FfiType, SendAs, Unpackable, copied},
};

/// What a function may return: an [`FfiType`], or a `Result` of two.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned between guest and host",
    note = "return a type that can be a parameter, or a `Result` of two of them"
)]
///
/// # Safety
///
/// [`answer`](Self::answer) keeps what [`SendAs`] asks for, and [`receive`](Self::receive) what [`FfiType`] asks for.
pub unsafe trait FfiReturn: Sized {
    /// What the handler returns: what the sender of a value gives, or a failure.
    type Handled;
    /// What the client returns: the value, or the same failure.
    type Received;
    /// The type, for signatures and contracts.
    #[doc(hidden)]
    const SHAPE: &'static Shape;

    /// Turns a handler's result into an answer.
    ///
    /// # Errors
    ///
    /// Those of the handler, and those of sending its value.
    #[doc(hidden)]
    fn answer(handled: Self::Handled, out: &mut Outgoing<'_>) -> Result<Answer, CallError>;

    /// Turns an answer into a client's result.
    #[doc(hidden)]
    fn receive(answer: Answer, from: Incoming<'_>) -> Result<Self, CallError>;

    /// Puts the failure of the call beside the declared one.
    #[doc(hidden)]
    fn received(result: Result<Self, CallError>) -> Self::Received;
}

// SAFETY: the transport is what `T::Shared` has lent, and `T` judges it once.
unsafe impl<T: FfiType> FfiReturn for T {
    type Handled = Result<T::Shared, CallError>;
    type Received = Result<T, CallError>;
    const SHAPE: &'static Shape = T::SHAPE;

    #[inline]
    fn answer(handled: Self::Handled, out: &mut Outgoing<'_>) -> Result<Answer, CallError> {
        Ok(Answer { status: 0, transport: handled?.into_transport(out)? })
    }

    #[inline]
    fn receive(answer: Answer, from: Incoming<'_>) -> Result<Self, CallError> {
        let Answer { status, transport } = answer;
        match status {
            0 => T::from_transport(transport, from),
            // This function declares no error of its own.
            _ => Err(CallError::new(Why::Protocol)),
        }
    }

    #[inline]
    fn received(result: Result<Self, CallError>) -> Self::Received {
        result
    }
}

// SAFETY: as for a type by itself, with the one of the two types that the status names.
unsafe impl<T: FfiType, E: FfiType> FfiReturn for Result<T, E> {
    type Handled = Result<T::Shared, Failure<E::Shared>>;
    type Received = Result<T, Failure<E>>;
    const SHAPE: &'static Shape = &Shape::result(T::SHAPE, E::SHAPE);

    #[inline]
    fn answer(handled: Self::Handled, out: &mut Outgoing<'_>) -> Result<Answer, CallError> {
        match handled {
            Ok(value) => Ok(Answer { status: 0, transport: value.into_transport(out)? }),
            Err(Failure::App(error)) => {
                Ok(Answer { status: 1, transport: error.into_transport(out)? })
            }
            Err(Failure::Call(error)) => Err(error),
        }
    }

    #[inline]
    fn receive(answer: Answer, from: Incoming<'_>) -> Result<Self, CallError> {
        let Answer { status, transport } = answer;
        match status {
            0 => T::from_transport(transport, from).map(Ok),
            _ => E::from_transport(transport, from).map(Err),
        }
    }

    #[inline]
    fn received(result: Result<Self, CallError>) -> Self::Received {
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure::App(error)),
            Err(error) => Err(Failure::Call(error)),
        }
    }
}

/// What a call without parameters sends.
#[doc(hidden)]
#[inline]
pub fn nothing() -> Result<Transport, CallError> {
    Ok(Transport::EMPTY)
}

/// Where the words come from that a handler's call has brought along.
///
/// # Safety
///
/// `peer` is what an [`Entry`](crate::dispatch::Entry) is called with. The words that are judged with the result are those
/// of that call, each once.
#[doc(hidden)]
#[must_use]
#[inline]
pub unsafe fn incoming(peer: &Peer) -> Incoming<'_> {
    peer.incoming()
}

/// Judges the only parameter of a call.
#[doc(hidden)]
#[inline]
pub fn alone<T: FfiType>(
    transport: Transport,
    from: Incoming<'_>,
    name: &'static str,
) -> Result<(T,), CallError> {
    match T::from_transport(transport, from) {
        Ok(value) => Ok((value,)),
        Err(error) => Err(error.in_field(name)),
    }
}

/// Takes the parameters of a call out of the caller's memory: copies the struct once, gives its
/// memory back, and unpacks the copy.
#[doc(hidden)]
#[inline]
pub fn receive<P: Unpackable>(
    transport: Transport,
    from: Incoming<'_>,
) -> Result<P::Output, CallError> {
    copied::<P, _>(transport, from, |wire| P::unpack(wire, from))
}

/// The client's half of a call. What is not for a call that succeeds is kept out of it, so that the
/// rest is small enough for every caller: no result passes through memory.
///
/// # Safety
///
/// `transport` was made through `out` by what [`SendAs`] is implemented for, as `function` declares its parameters, and
/// `function` returns `R`.
#[doc(hidden)]
#[inline(always)]
pub unsafe fn finish<R: FfiReturn>(
    out: &mut Outgoing<'_>,
    function: &'static Function,
    transport: Result<Transport, CallError>,
) -> R::Received {
    let transport = match transport {
        Ok(transport) => transport,
        Err(error) => {
            // Everything lent comes back when `out` is dropped.
            return R::received(Err(error.on(out.peer().side()).in_function(function)));
        }
    };
    let peer = out.peer();
    let mut status = 0;
    let span = Span::call(peer, function);
    let mut passage = out.passage();
    let loans = out.depart();
    let transport = peer.exchange(function.signature, transport, &mut passage, &mut status);
    out.ran_in(passage.epoch);
    span.end(status);
    if status > 1 {
        return R::received(Err(failed(out, loans, function, status, &passage)));
    }
    match R::receive(Answer { status, transport }, out.received()) {
        Ok(received) => R::received(Ok(received)),
        Err(error) => {
            // The answer is none of this function's.
            let error = error.reached_handler().on(peer.side());
            R::received(Err(error.in_function(function)))
        }
    }
}

/// The peer, or the way to it, says that the call failed. Where its function was not reached,
/// everything lent comes back when `out` is dropped.
#[inline]
fn failed(
    out: &mut Outgoing<'_>,
    loans: u32,
    function: &'static Function,
    status: u64,
    passage: &Passage,
) -> CallError {
    let (why, reached) = read_status(status);
    if !reached {
        out.come_back(loans);
    }
    let error = CallError::new(why).in_function(function);
    let error = if reached { error.reached_handler() } else { error };
    found(out.peer(), error, passage)
}

/// Says which side has found an error, and what this side knows of the peer's end.
pub(crate) fn found(peer: &Peer, error: CallError, passage: &Passage) -> CallError {
    if !passage.failed_here {
        return error.on(peer.side().other());
    }
    #[cfg(feature = "std")]
    let error = peer.core().explain(error, passage.epoch);
    error.on(peer.side())
}

/// Two small values, in registers: an error that came through memory would drag the result of a call
/// that succeeds there as well.
#[cold]
#[inline(never)]
fn read_status(status: u64) -> (Why, bool) {
    let error = CallError::from_status(status);
    (error.why(), error.reached())
}

/// The server's half of a call, behind its handler.
#[doc(hidden)]
#[inline]
pub fn answer<R: FfiReturn>(
    peer: &Peer,
    function: &'static Function,
    handled: R::Handled,
    status: &mut u64,
) -> Transport {
    let mut out = peer.outgoing();
    match R::answer(handled, &mut out) {
        Ok(answer) => {
            if answer.status != 0 {
                *status = answer.status;
            }
            out.depart();
            answer.transport
        }
        Err(error) => refuse(error.reached_handler(), peer, function, status),
    }
}

/// The end of a call that this side refuses or fails.
#[doc(hidden)]
#[cold]
#[inline(never)]
pub fn refuse(
    error: CallError,
    peer: &Peer,
    function: &'static Function,
    status: &mut u64,
) -> Transport {
    let answer = peer.core().refuse(error.in_function(function));
    *status = answer.status;
    answer.transport
}

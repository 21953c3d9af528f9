//! The server's half of a call: what a generated table entry does before and after its handler.

use super::{Peer, batch};
use crate::{
    abi::{Function, Transport},
    error::{CallError, ErrorKind},
    memory::Incoming,
    types::{FfiReturn, FfiType, Local, Unpackable, copied},
};

/// The source of the words of a call, for the entry that serves it.
///
/// # Safety
///
/// `peer` is the one with which an [`Entry`](super::dispatch::Entry) was called, and the result is used to validate
/// each word of that call at most once, and no other words.
#[doc(hidden)]
#[must_use]
#[inline]
pub unsafe fn incoming(peer: &Peer) -> Incoming<'_> {
    peer.incoming()
}

/// Set while parameters are decoded. If that panics, as a [`CrossesAs`](crate::CrossesAs) of the user's can, the function was
/// not reached: the caller takes its loans back, of which some were not decoded (ABI, S-4).
struct Decoding<'s>(&'s mut u64);

impl Drop for Decoding<'_> {
    #[cold]
    fn drop(&mut self) {
        *self.0 = CallError::new(ErrorKind::PeerPanicked).status();
    }
}

/// Checks the transport of a call without parameters. Returns the answer if it is invalid.
#[doc(hidden)]
#[inline]
pub fn nothing_sent(
    peer: &Peer,
    function: &'static Function,
    transport: Transport,
    status: &mut u64,
) -> Result<(), Transport> {
    if transport == Transport::EMPTY { Ok(()) } else { Err(bad_word(peer, function, &"", status)) }
}

/// Validates the only parameter of a call. Returns the answer if it is invalid.
#[doc(hidden)]
#[inline]
pub fn alone<T: FfiType>(
    peer: &Peer,
    function: &'static Function,
    transport: Transport,
    from: Incoming<'_>,
    name: &'static &'static str,
    status: &mut u64,
) -> Result<(T,), Transport> {
    let decoding = Decoding(status);
    let value = T::from_transport(transport, from);
    core::mem::forget(decoding);
    match value {
        Ok(value) => Ok((value,)),
        Err(_) if !T::WIDE => Err(bad_word(peer, function, name, status)),
        Err(error) => Err(refuse(error.in_field(name), peer, function, status)),
    }
}

/// Unpacks the parameters of a call: copies the parameter struct out of the caller's memory, releases it, and validates
/// the copy. Returns the answer if they are invalid.
#[doc(hidden)]
#[inline]
pub fn receive<P: Unpackable>(
    peer: &Peer,
    function: &'static Function,
    transport: Transport,
    from: Incoming<'_>,
    status: &mut u64,
) -> Result<P::Output, Transport> {
    let decoding = Decoding(status);
    let parameters = if transport.secondary == 0 {
        copied::<P, _>(transport, from, |wire| P::unpack(wire, from))
    } else {
        unpack_taking::<P>(peer, transport, from)
    };
    core::mem::forget(decoding);
    parameters.map_err(|error| refuse(error, peer, function, status))
}

/// Unpacks the parameters of a call that takes results of its batch.
#[cold]
#[inline(never)]
fn unpack_taking<P: Unpackable>(
    peer: &Peer,
    transport: Transport,
    from: Incoming<'_>,
) -> Result<P::Output, CallError> {
    let mut local = Local::<P>::uninit();
    let wire = local.zeroed();
    batch::copy_taking(peer, transport, from, align_of::<P>(), wire)?;
    P::unpack(wire, from)
}

/// Converts the result of a handler to an answer.
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

/// Answers a call whose transport is invalid for a type that needs no more than one word: that is its only error
/// ([`FfiType::WIDE`]). An entry that made the error itself would be three times as long.
#[cold]
#[inline(never)]
fn bad_word(
    peer: &Peer,
    function: &'static Function,
    name: &'static &'static str,
    status: &mut u64,
) -> Transport {
    refuse(CallError::new(ErrorKind::BadValue).in_field(name), peer, function, status)
}

/// Answers a call with an error, and notifies the observer.
#[cold]
#[inline(never)]
fn refuse(
    error: CallError,
    peer: &Peer,
    function: &'static Function,
    status: &mut u64,
) -> Transport {
    *status = peer.endpoint().refuse(error.in_function(function));
    Transport::EMPTY
}

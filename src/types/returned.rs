//! The return types of functions.

use super::{FfiType, SendAs, descriptor::Shape};
use crate::{
    abi::Answer,
    error::{CallError, ErrorKind, Failure},
    memory::{Incoming, Outgoing},
};

/// A return type of a function: an [`FfiType`], or a `Result` of two. It is not meant to be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned between guest and host",
    note = "return a type that can be a parameter, or a `Result` of two of them"
)]
///
/// # Safety
///
/// [`answer`](Self::answer) keeps the contract of [`SendAs`], and [`receive`](Self::receive) that of [`FfiType`].
pub unsafe trait FfiReturn: Sized {
    /// The type that a handler returns: the value to send, or a failure.
    type Handled;
    /// The type that a client returns: the received value, or the failure.
    type Received;
    /// The type, for signatures and contracts.
    #[doc(hidden)]
    const SHAPE: &'static Shape;

    /// Whether the secondary word of an answer with status 0 may be other than 0 ([`FfiType::WIDE`]).
    #[doc(hidden)]
    const WIDE: bool;
    /// Whether an answer may have something to release: a handle, or a wire form.
    #[doc(hidden)]
    const OWNS: bool;

    /// Converts a handler's result into an answer.
    ///
    /// # Errors
    ///
    /// The errors of the handler, and those of sending its value.
    #[doc(hidden)]
    fn answer(handled: Self::Handled, out: &mut Outgoing<'_>) -> Result<Answer, CallError>;

    /// Converts an answer with status 0 or 1 into a client's result.
    #[doc(hidden)]
    fn receive(answer: Answer, from: Incoming<'_>) -> Result<Self, CallError>;

    /// Merges the error of the call with the declared one.
    #[doc(hidden)]
    fn received(result: Result<Self, CallError>) -> Self::Received;
}

// SAFETY: `answer` returns the transport of `T::Shared` unchanged, which keeps the contract of `SendAs<T>`; `receive`
// decodes the transport at most once, with `T`.
unsafe impl<T: FfiType> FfiReturn for T {
    type Handled = Result<T::Shared, CallError>;
    type Received = Result<T, CallError>;
    const SHAPE: &'static Shape = T::SHAPE;
    const WIDE: bool = T::WIDE;
    const OWNS: bool = T::WIDE;

    #[inline]
    fn answer(handled: Self::Handled, out: &mut Outgoing<'_>) -> Result<Answer, CallError> {
        Ok(Answer { status: 0, transport: handled?.into_transport(out)? })
    }

    #[inline]
    fn receive(answer: Answer, from: Incoming<'_>) -> Result<Self, CallError> {
        let Answer { status, transport } = answer;
        match status {
            0 => T::from_transport(transport, from),
            // The function declares no error, so status 1 violates the protocol (ABI, S-5).
            _ => Err(CallError::new(ErrorKind::Protocol)),
        }
    }

    #[inline]
    fn received(result: Result<Self, CallError>) -> Self::Received {
        result
    }
}

// SAFETY: the status selects one of the two types. `answer` returns the transport of its `Shared` unchanged, and
// `receive` decodes the transport once, with that type.
unsafe impl<T: FfiType, E: FfiType> FfiReturn for Result<T, E> {
    type Handled = Result<T::Shared, Failure<E::Shared>>;
    type Received = Result<T, Failure<E>>;
    const SHAPE: &'static Shape = &Shape::result(T::SHAPE, E::SHAPE);
    const WIDE: bool = T::WIDE;
    const OWNS: bool = T::WIDE || E::WIDE;

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

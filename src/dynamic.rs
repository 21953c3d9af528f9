//! Calls of functions that this program does not declare: for debuggers, proxies, hosts with a scripting language, and
//! fuzzers.
//!
//! [`Peer::contract`] asks the other side for its contract, [`Contract`](crate::contract::Contract) shows it as data, and
//! [`Peer::call_dynamic`] calls one of its functions with [`Value`]s. They are checked against the declaration before
//! anything is written or sent, and so is the result: the caller gets a copy of all that it refers to.
//!
//! ```
//! use vmffi::{CallError, ForeignStr, Peer, contract::Contract, dynamic::Value, loopback::Loopback};
//!
//! # mod guest {
//! # use vmffi::{CallError, ForeignStr, Peer, Failure};
//! vmffi::ffi_interface! {
//!     pub enum Refusal: u8 { TooLoud }
//!     pub interface Speaker { fn say(text: ForeignStr, times: u8) -> Result<u64, Refusal>; }
//! }
//! # pub struct Guest;
//! # impl Speaker for Guest {
//! #     fn say(&self, _: &Peer, text: ForeignStr, times: u8) -> Result<u64, Failure<Refusal>> {
//! #         if times > 3 { return Err(Refusal::TooLoud.into()) }
//! #         Ok((text.len() * usize::from(times)) as u64)
//! #     }
//! # }
//! # vmffi::serve!(Guest: Speaker);
//! # }
//! # use guest::Guest;
//! let pair = Loopback::new(Guest, ())?;
//! let guest = pair.guest();
//!
//! let bytes = guest.contract()?;
//! let contract = Contract::read(&bytes)?;
//! let say = contract.served("Speaker", "say").ok_or("the guest does not speak")?;
//! assert_eq!(say.to_string(), "fn Speaker::say(text: ForeignStr, times: u8) -> Result<u64, Refusal>");
//!
//! assert_eq!(guest.call_dynamic(say, &["hey".into(), 2_u8.into()])?, Value::U64(6));
//! let error = guest.call_dynamic(say, &["hey".into(), 4_u8.into()]).unwrap_err();
//! assert_eq!(error.to_string(), "the function returned the error TooLoud");
//! let error = guest.call_dynamic(say, &["hey".into(), 300.into()]).unwrap_err();
//! assert_eq!(error.to_string(), "`times` is a u8, but the I32 300 was given");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::vec::Vec;

use crate::{
    abi::{Transport, signature},
    call::{Peer, span::Span},
    contract::{Form, FunctionRef, MAX_LEN, TypeRef},
    error::{CallError, ErrorKind},
    foreign::ForeignBuf,
};

mod check;
mod decode;
mod encode;
mod error;
mod value;

pub use {
    error::{BadArgument, DynamicError},
    value::Value,
};

/// The maximum of the memory in bytes that a result of [`Peer::call_dynamic`] takes: its wire form, the bytes and texts that
/// it refers to, and each [`Value`] in it, of 48 bytes. So of a `ForeignSlice<u64>` about 300,000 values fit.
pub const MAX_RESULT: usize = 16 << 20;

/// Calls that are not declared ([`dynamic`](crate::dynamic)).
impl Peer {
    /// Asks the other side for its contract: the functions that it serves and calls, with their types.
    /// [`Contract::read`](crate::contract::Contract::read) reads the bytes. It makes one call (ABI, CT-11).
    ///
    /// A peer may say anything here. That is safe: it can only make its own functions look different.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownFunction`] if the other side is not this crate's and does not answer,
    /// [`ErrorKind::BadValue`] if the contract is longer than [`MAX_LEN`], and those of any call.
    pub fn contract(&self) -> Result<Vec<u8>, CallError> {
        let contract: ForeignBuf =
            self.ask(self.outgoing(), signature::CONTRACT, Transport::EMPTY)?;
        if contract.len() > MAX_LEN {
            return Err(CallError::new(ErrorKind::BadValue).reached_handler().on(self.side()));
        }
        contract.read_vec().map_err(|error| error.reached_handler().on(self.side()))
    }

    /// Calls a function of a contract with values, in the order of its parameters, and returns a copy of its result, which
    /// takes at most [`MAX_RESULT`] bytes of memory.
    ///
    /// An integer may be given as any integer that fits, a float as any float that is exact, a `ForeignSlice<u8>` as
    /// bytes; see [`Value`] for the other types. The result has the types of the declaration. What it refers to is
    /// released before the call returns.
    ///
    /// # Errors
    ///
    /// [`DynamicError::Argument`] and [`DynamicError::Count`] before anything is sent; [`DynamicError::App`] with the
    /// error that the function declares; [`DynamicError::Call`] as of any call, also if the result is too large or not a
    /// value of the declared type.
    pub fn call_dynamic(
        &self,
        function: FunctionRef<'_>,
        arguments: &[Value<'_>],
    ) -> Result<Value<'static>, DynamicError> {
        self.call_dynamic_with_max(function, arguments, MAX_RESULT)
    }

    /// As [`call_dynamic`](Self::call_dynamic), with another maximum in place of [`MAX_RESULT`].
    ///
    /// # Errors
    ///
    /// As [`call_dynamic`](Self::call_dynamic).
    pub fn call_dynamic_with_max(
        &self,
        function: FunctionRef<'_>,
        arguments: &[Value<'_>],
        max: usize,
    ) -> Result<Value<'static>, DynamicError> {
        let here = |error: CallError| DynamicError::Call(error.on(self.side()));
        check::arguments(function, arguments)?;
        let returned = Returned::of(function.returned())?;
        // The room for the copy is there before the call, so that every block of the result can be looked at.
        let form = decode::room(returned.size(), returned.values(), max).map_err(here)?;
        let mut out = self.outgoing();
        let transport = encode::arguments(function, arguments, &mut out).map_err(here)?;
        let (interface, name) = (function.interface(), function.name());
        let span = Span::call(self, format_args!("{interface}::{name}"));
        let answer = self.ask_any(&mut out, function.signature(), transport);
        span.end(match &answer {
            Ok(answer) => answer.status,
            Err(error) => error.status(),
        });
        let answer = answer?;
        let (of, declared_error) = match (answer.status, returned) {
            (0, Returned { ok, .. }) => (ok, false),
            (_, Returned { error: Some(error), .. }) => (error, true),
            // A function that declares no error has returned one (ABI, S-5).
            _ => {
                let error = CallError::new(ErrorKind::Protocol).reached_handler();
                return Err(here(error));
            }
        };
        let value = decode::result(of, answer.transport, out.received(), form, max)
            .map_err(|error| here(error.reached_handler()))?;
        if declared_error { Err(DynamicError::App(value)) } else { Ok(value) }
    }
}

/// The types that a function returns.
struct Returned<'a> {
    ok: TypeRef<'a>,
    error: Option<TypeRef<'a>>,
}

impl<'a> Returned<'a> {
    fn of(of: TypeRef<'a>) -> Result<Self, DynamicError> {
        let layout = of.layout().filter(|layout| !layout.data);
        let layout = layout.ok_or_else(|| DynamicError::unknown(of))?;
        let mut arguments = of.arguments();
        match (layout.form, arguments.next(), arguments.next()) {
            (Form::Result, Some(ok), error) => Ok(Self { ok, error }),
            _ => Ok(Self { ok: of, error: None }),
        }
    }

    /// The maximum number of values in either that a search for handles visits.
    fn values(&self) -> usize {
        let values = |of: TypeRef<'_>| of.layout().map_or(0, |layout| layout.values - 1);
        values(self.ok).max(self.error.map_or(0, values))
    }

    /// The size of the larger wire form.
    fn size(&self) -> usize {
        let size = |of: TypeRef<'_>| of.layout().map_or(0, |layout| layout.size);
        size(self.ok).max(self.error.map_or(0, size))
    }
}

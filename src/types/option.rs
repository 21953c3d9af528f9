//! `Option` of every type that may cross (ABI, TY-10 and TY-11).

use zerocopy::FromBytes;

use crate::{
    abi::{Transport, pointer},
    error::{CallError, ErrorKind},
    memory::{Incoming, Outgoing},
};

use super::{FfiType, Plain, SendAs, Tagged, copied, descriptor::Shape, no_secondary, read};

/// The beginning and end of the value in a [`Tagged`], in bytes.
const fn tagged<W>() -> (usize, usize) {
    let start = memoffset::offset_of!(Tagged<W>, value);
    (start, start + size_of::<W>())
}

// SAFETY: `T`, which keeps the contract, decodes the bytes after the tag, or the words themselves, at most once; `None`
// makes no handle. The shape of `T` is part of this shape, so equal shapes have equal wire forms.
unsafe impl<T: FfiType> FfiType for Option<T> {
    type Wire = T::OptionWire;
    type OptionWire = Tagged<T::OptionWire>;
    type Shared = Option<T::Shared>;
    const SHAPE: &'static Shape = &Shape::of("Option", T::SHAPE);
    const HANDLES: bool = T::HANDLES;

    fn decode(wire: &[u8], from: Incoming<'_>) -> Result<Self, CallError> {
        if T::NULLABLE {
            let word = read!(u64, wire.get(..8).unwrap_or_default());
            return if word == 0 { none_is_empty(wire) } else { T::decode(wire, from).map(Some) };
        }
        let (start, end) = tagged::<T::Wire>();
        let value = wire.get(start..end).unwrap_or_default();
        match read!(u32, wire.get(..4).unwrap_or_default()) {
            0 => Ok(None),
            1 => T::decode(value, from).map(Some),
            _ => Err(CallError::new(ErrorKind::BadValue)),
        }
    }

    fn from_transport(transport: Transport, from: Incoming<'_>) -> Result<Self, CallError> {
        if !T::NULLABLE {
            return copied::<Self::Wire, _>(transport, from, |wire| Self::decode(wire, from));
        }
        if transport.primary != 0 {
            return T::from_transport(transport, from).map(Some);
        }
        no_secondary(transport).map(|()| None)
    }

    fn write(&self, wire: &mut [u8]) {
        // Only plain types are written, and these are tagged.
        if let (Some(value), false) = (self, T::NULLABLE) {
            let (start, end) = tagged::<T::Wire>();
            if let Some(tag) = wire.get_mut(..4) {
                1_u32.write(tag);
            }
            if let Some(wire) = wire.get_mut(start..end) {
                value.write(wire);
            }
        }
    }
}

/// The `None` of a nullable type: all bytes of the wire form must be 0, the byte count of a buffer included.
fn none_is_empty<T>(wire: &[u8]) -> Result<Option<T>, CallError> {
    if wire.iter().all(|byte| *byte == 0) {
        Ok(None)
    } else {
        Err(CallError::new(ErrorKind::BadValue))
    }
}

// SAFETY: the wire form is a tag and that of `T`, which has no pointer words because `T` is `Plain`.
unsafe impl<T: Plain> Plain for Option<T> {}

// SAFETY: `S`, which keeps the contract, encodes the value once, where the wire form of `Option<T>` has that of `T`.
// Null and `pointer::EMPTY`, which are written otherwise, refer to no block.
unsafe impl<T: FfiType, S: SendAs<T>> SendAs<Option<T>> for Option<S> {
    fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        let Some(value) = self else { return Ok(()) };
        if T::NULLABLE {
            value.encode(wire, out)?;
            if let Some(word) = wire.get_mut(..8) {
                if word.iter().all(|byte| *byte == 0) {
                    pointer::EMPTY.write(word);
                }
            }
            return Ok(());
        }
        let (start, end) = tagged::<T::Wire>();
        if let Some(tag) = wire.get_mut(..4) {
            1_u32.write(tag);
        }
        value.encode(wire.get_mut(start..end).unwrap_or_default(), out)
    }

    fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        if !T::NULLABLE {
            return out.send_form::<T::OptionWire>(|wire, out| self.encode(wire, out));
        }
        let Some(value) = self else { return Ok(Transport::EMPTY) };
        let mut transport = value.into_transport(out)?;
        if transport.primary == 0 {
            transport.primary = pointer::EMPTY;
        }
        Ok(transport)
    }
}

// SAFETY: the value is plain, so `encode` writes no pointer words.
unsafe impl<T: Plain> SendAs<Option<T>> for &Option<T> {
    fn encode(self, wire: &mut [u8], _: &mut Outgoing<'_>) -> Result<(), CallError> {
        self.write(wire);
        Ok(())
    }
}

/// The type of the value that [`NONE`] does not have. It has no values.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

/// A `None` for every `Option` parameter of a client's method.
///
/// A value may be sent as several types, for example a text as `&str`, `&String` or [`SharedStr`](crate::SharedStr), so a
/// bare `None` there is `Option<_>` of a type that nothing names, and the compiler asks for it. In results of handlers and
/// in fields the type is known, and a bare `None` is right.
///
/// ```
/// # use vmffi::{CallError, ForeignStr, Peer, loopback::Loopback};
/// use vmffi::NONE;
///
/// vmffi::ffi_interface! {
///     pub interface Index { fn find(name: Option<ForeignStr>, line: Option<u32>) -> Option<u32>; }
/// }
/// # struct Host;
/// # impl Index for Host {
/// #     fn find(&self, _: &Peer, name: Option<ForeignStr>, line: Option<u32>) -> Result<Option<u32>, CallError> {
/// #         if name.is_none() { return Ok(None) }
/// #         Ok(line)
/// #     }
/// # }
/// # vmffi::serve!(Host: Index);
/// # let pair = Loopback::new((), Host)?;
/// # let index = IndexClient::from(pair.host());
/// assert_eq!(index.find(NONE, Some(7_u32))?, None);
/// assert_eq!(index.find(Some("name"), NONE)?, None);
/// # assert_eq!(index.find(Some("name"), Some(7_u32))?, Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const NONE: Option<Never> = None;

// SAFETY: there is no value, so nothing is encoded.
unsafe impl<T> SendAs<T> for Never {
    fn encode(self, _: &mut [u8], _: &mut Outgoing<'_>) -> Result<(), CallError> {
        match self {}
    }
}

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
            return out.lend_wire::<T::OptionWire>(|wire, out| self.encode(wire, out));
        }
        let Some(value) = self else { return Ok(Transport::EMPTY) };
        let mut transport = value.into_transport(out)?;
        if transport.primary == 0 {
            transport.primary = pointer::EMPTY;
        }
        Ok(transport)
    }
}

//! The built-in plain types: scalars and `()` (ABI, "Types").

use zerocopy::FromBytes;

use crate::{
    abi::Transport,
    error::{CallError, ErrorKind, Failure},
    memory::{Incoming, Outgoing},
};

use super::{
    FfiType, Plain, SendAs, Tagged, W8, W16, W32, W64, W128, descriptor::Shape, no_secondary, read,
};

/// Implements `SendAs` and the conversion to `Failure` for built-in plain types.
macro_rules! plain {
    ($($t:ty),*) => { $(
        // SAFETY: `encode` writes a number and no pointer word. `put` returns a number, or the word of the one block
        // that it lends through `out`.
        unsafe impl SendAs<$t> for $t {
            #[inline]
            fn encode(self, wire: &mut [u8], _: &mut Outgoing<'_>) -> Result<(), CallError> {
                self.write(wire);
                Ok(())
            }
            #[inline]
            fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                InTransport::put(self, out)
            }
        }
        impl From<$t> for Failure<$t> {
            fn from(error: $t) -> Self {
                Self::App(error)
            }
        }
        $crate::__packed_plain! { type: $t where: [] }
    )* };
}

/// The encoding of a scalar alone in a transport.
trait InTransport: Sized {
    fn put(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError>;
}

/// Integers and floats of up to 8 bytes: `$bits` is the integer of the same size, `$wide` the type to which it is
/// extended.
macro_rules! numbers {
    ($($t:ident $w:ident $bits:ident $wide:ident)*) => { $(
        // SAFETY: the wire form is a number without pointer words, so no handle is made, and the shape's name
        // determines it.
        unsafe impl FfiType for $t {
            type Wire = $w;
            type OptionWire = Tagged<$w>;
            type Shared = Self;
            const SHAPE: &'static Shape = &Shape::builtin(stringify!($t));
            const HANDLES: bool = false;
            const ANY_BITS: bool = true;
            const WIDE: bool = false;
            #[inline]
            fn decode(wire: &[u8], _: Incoming<'_>) -> Result<Self, CallError> {
                Ok(read!($t, wire))
            }
            #[inline]
            fn from_transport(transport: Transport, _: Incoming<'_>) -> Result<Self, CallError> {
                let bits = transport.primary as $bits;
                no_secondary(transport)?;
                if bits as $wide as u64 == transport.primary {
                    Ok(bytemuck::cast(bits))
                } else {
                    Err(CallError::new(ErrorKind::BadValue))
                }
            }
            #[inline]
            fn write(&self, wire: &mut [u8]) {
                wire.copy_from_slice(bytemuck::bytes_of(self));
            }
        }
        // SAFETY: the wire form is a number without pointer words, and decoding ignores `from`.
        unsafe impl Plain for $t {}
        impl InTransport for $t {
            #[inline]
            fn put(self, _: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                Ok(Transport::word(bytemuck::cast::<$t, $bits>(self) as $wide as u64))
            }
        }
        plain!($t);
    )* };
}

numbers! {
    u8 W8 u8 u64
    u16 W16 u16 u64
    u32 W32 u32 u64
    u64 W64 u64 u64
    i8 W8 i8 i64
    i16 W16 i16 i64
    i32 W32 i32 i64
    i64 W64 i64 i64
    f32 W32 u32 u64
    f64 W64 u64 u64
}

/// Types that cross as another one: `$to` is infallible, `$from` validates.
macro_rules! through {
    ($($t:ident as $as:ident, any bits if $bits:expr, $to:expr, $from:expr;)*) => { $(
        // SAFETY: the wire form is a number without pointer words, so no handle is made, and the shape's name
        // determines it. `$bits` is true only for integers with as many bytes as `$as` has.
        unsafe impl FfiType for $t {
            type Wire = <$as as FfiType>::Wire;
            type OptionWire = Tagged<Self::Wire>;
            type Shared = Self;
            const SHAPE: &'static Shape = &Shape::builtin(stringify!($t));
            const HANDLES: bool = false;
            const ANY_BITS: bool = $bits;
            const WIDE: bool = false;
            #[inline]
            fn decode(wire: &[u8], _: Incoming<'_>) -> Result<Self, CallError> {
                $from(read!($as, wire)).ok_or(CallError::new(ErrorKind::BadValue))
            }
            #[inline]
            fn from_transport(transport: Transport, from: Incoming<'_>) -> Result<Self, CallError> {
                $from($as::from_transport(transport, from)?).ok_or(CallError::new(ErrorKind::BadValue))
            }
            #[inline]
            fn write(&self, wire: &mut [u8]) {
                $as::write(&$to(*self), wire);
            }
        }
        // SAFETY: the wire form is a number without pointer words, and decoding ignores `from`.
        unsafe impl Plain for $t {}
        impl InTransport for $t {
            #[inline]
            fn put(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                $to(self).put(out)
            }
        }
        plain!($t);
    )* };
}

through! {
    usize as u64, any bits if size_of::<usize>() == 8, |value| value as u64, |value: u64| usize::try_from(value).ok();
    isize as i64, any bits if size_of::<isize>() == 8, |value| value as i64, |value: i64| isize::try_from(value).ok();
    bool as u8, any bits if false, u8::from, |value: u8| match value { 0 => Some(false), 1 => Some(true), _ => None };
    char as u32, any bits if false, u32::from, char::from_u32;
}

/// Integers of 16 bytes, which do not fit into `primary`: alone, they cross as a wire form.
macro_rules! wide {
    ($($t:ident)*) => { $(
        // SAFETY: the wire form is a number without pointer words, so no handle is made, and the shape's name
        // determines it.
        unsafe impl FfiType for $t {
            type Wire = W128;
            type OptionWire = Tagged<W128>;
            type Shared = Self;
            const SHAPE: &'static Shape = &Shape::builtin(stringify!($t));
            const HANDLES: bool = false;
            const ANY_BITS: bool = true;
            #[inline]
            fn decode(wire: &[u8], _: Incoming<'_>) -> Result<Self, CallError> {
                Ok(read!($t, wire))
            }
            #[inline]
            fn write(&self, wire: &mut [u8]) {
                wire.copy_from_slice(bytemuck::bytes_of(self));
            }
        }
        // SAFETY: the wire form is a number without pointer words, and decoding ignores `from`.
        unsafe impl Plain for $t {}
        impl InTransport for $t {
            fn put(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                out.send_form::<Self>(|wire, _| {
                    self.write(wire);
                    Ok(())
                })
            }
        }
        plain!($t);
    )* };
}

wide!(u128 i128);

// SAFETY: the wire form has no bytes, so no handle is made, and the shape's name determines it.
unsafe impl FfiType for () {
    type Wire = ();
    type OptionWire = Tagged<()>;
    type Shared = Self;
    const SHAPE: &'static Shape = &Shape::builtin("()");
    const HANDLES: bool = false;
    const WIDE: bool = false;
    #[inline]
    fn decode(_: &[u8], _: Incoming<'_>) -> Result<Self, CallError> {
        Ok(())
    }
    #[inline]
    fn from_transport(transport: Transport, _: Incoming<'_>) -> Result<Self, CallError> {
        if transport == Transport::EMPTY {
            Ok(())
        } else {
            Err(CallError::new(ErrorKind::BadValue))
        }
    }
    fn write(&self, _: &mut [u8]) {}
}

// SAFETY: the wire form has no bytes, and so no pointer words.
unsafe impl Plain for () {}

impl InTransport for () {
    #[inline]
    fn put(self, _: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        Ok(Transport::EMPTY)
    }
}

plain!(());

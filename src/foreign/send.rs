//! The values that may be sent for each `Foreign…` type: the corresponding `Shared…` type, or a borrowed value, which
//! is copied.

use super::{Foreign, ForeignBuf, ForeignPacked, ForeignSlice, ForeignStr};
use crate::{
    abi::Transport,
    error::CallError,
    memory::Outgoing,
    shared::{self, Shared, SharedBuf, SharedPacked, SharedSlice, SharedStr},
    types::{FfiType, Packed, Plain, SendAs},
};

// SAFETY: `Block::lend` makes the only word, through `out`, and consumes the block, so the word is sent once.
unsafe impl<T: Plain> SendAs<Foreign<T>> for Shared<T> {
    #[inline]
    fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        self.into_transport(out)?.primary.write(wire);
        Ok(())
    }

    #[inline]
    fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        self.lend(out)
    }
}

/// Implements `SendAs` for a type that is sent as a buffer; `$sent` lends it.
macro_rules! as_buffer {
    ($([$($generics:tt)*] $from:ty => $t:ty: $sent:expr;)*) => { $(
        // SAFETY: `$sent` lends one block through `out` and consumes it, and its word is used once: as the first word
        // of the wire form, where a `WBuf` has its pointer word, or as the primary.
        unsafe impl<$($generics)*> SendAs<$t> for $from {
            #[inline]
            fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
                encode_buffer($sent(self, out)?, wire);
                Ok(())
            }

            #[inline(always)]
            fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                $sent(self, out)
            }
        }
    )* };
}

/// Writes the wire form of a buffer: pointer word and byte count.
#[inline]
fn encode_buffer(transport: Transport, wire: &mut [u8]) {
    let (word, len) = wire.split_at_mut(8);
    transport.primary.write(word);
    transport.secondary.write(len);
}

/// Lends a copy of the bytes.
#[inline]
fn copied(bytes: impl AsRef<[u8]>, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
    out.lend_bytes(bytes.as_ref())
}

fn slice<T: Plain>(values: &[T], out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
    SharedSlice::copy_from(out, values)?.bytes.lend(out)
}

fn packed<S: Packed + ?Sized>(value: &S, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
    shared::packed_value(value, out)?.lend(out)
}

as_buffer! {
    [] SharedBuf => ForeignBuf: SharedBuf::lend;
    [] &[u8] => ForeignBuf: copied;
    [const N: usize] &[u8; N] => ForeignBuf: copied;
    [] SharedStr => ForeignStr: |text: SharedStr, out| text.bytes.lend(out);
    [] &str => ForeignStr: copied;
    [T: Plain] SharedSlice<T> => ForeignSlice<T>: |slice: SharedSlice<T>, out| slice.bytes.lend(out);
    [T: Plain] &[T] => ForeignSlice<T>: slice;
    [T: Plain, const N: usize] &[T; N] => ForeignSlice<T>: |values: &[T; N], out| slice(values, out);
    [T: Packed + ?Sized + 'static] SharedPacked<T> => ForeignPacked<T>: |packed: SharedPacked<T>, out| packed.bytes.lend(out);
    [T: Packed + ?Sized + 'static, S: Packed<View<'static> = T::View<'static>> + ?Sized] &S => ForeignPacked<T>: packed;
}

#[cfg(feature = "alloc")]
as_buffer! {
    [] &alloc::vec::Vec<u8> => ForeignBuf: copied;
    [] &alloc::string::String => ForeignStr: copied;
    [T: Plain] &alloc::vec::Vec<T> => ForeignSlice<T>: |values: &alloc::vec::Vec<T>, out| slice(values, out);
}

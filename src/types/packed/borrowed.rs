//! `&str` and `&[u8]`: a length in the fixed part, and the bytes as data (ABI, PK-3).

use super::{Packed, Packer, Unread, bad_value, put_word, word};
use crate::{
    error::CallError,
    types::{W64, descriptor::Shape},
};

/// `$valid` says whether bytes are a value, and `$view` makes the value of such bytes.
macro_rules! borrowed {
    ($($t:ty, $shape:literal, $bytes:expr, $valid:expr, $view:expr;)*) => { $(
        // SAFETY: the data is as many bytes as `bytes` appends. `check` and `view` read its length at the same place, and
        // `check` accepts only bytes of which `$view` may make a value.
        unsafe impl Packed for &$t {
            type Wire = W64;
            type View<'v> = &'v $t;
            const SHAPE: &'static Shape = &Shape::builtin($shape);
            const DATA: bool = true;

            #[inline]
            fn data_len(&self) -> usize {
                self.len()
            }

            #[inline]
            fn pack(&self, fixed: &mut [u8], data: &mut Packer<'_>) {
                put_word(fixed, 0, self.len());
                data.bytes($bytes(self));
            }

            #[inline]
            fn check(fixed: &[u8], data: &mut Unread<'_>) -> Result<(), CallError> {
                let bytes = data.take(word(fixed, 0))?;
                if $valid(bytes) { Ok(()) } else { Err(bad_value()) }
            }

            #[inline]
            unsafe fn view<'v>(fixed: &'v [u8], data: &mut Unread<'v>) -> &'v $t {
                let bytes = data.part(word(fixed, 0) as usize); // at most the size of the data, by `check`
                // SAFETY: the caller promises that `check` has accepted the bytes.
                #[allow(unused_unsafe, reason = "bytes need no promise")]
                unsafe { $view(bytes) }
            }

            #[inline]
            fn again(&self) -> &$t {
                self
            }
        }
    )* };
}

borrowed! {
    str, "&str", str::as_bytes, |bytes: &[u8]| bytes.is_ascii() || core::str::from_utf8(bytes).is_ok(), core::str::from_utf8_unchecked;
    [u8], "&[u8]", |bytes| bytes, |_| true, core::convert::identity;
}

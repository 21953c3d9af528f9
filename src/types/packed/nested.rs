//! `Option`s and arrays of what can be packed: the fixed parts are laid out as wire forms are, and the data follows in the
//! same order (ABI, PK-2).

use core::array;

use super::{Packed, Packer, Unread, bad_value, check_field, pack_field, view_field};
use crate::{
    error::CallError,
    types::{Tagged, W32, descriptor::Shape},
};

/// The offset of the value in a [`Tagged`] in bytes.
const fn value_at<W>() -> usize {
    memoffset::offset_of!(Tagged<W>, value)
}

/// The tag of an `Option`.
fn tag(fixed: &[u8]) -> Option<u32> {
    let tag = fixed.first_chunk::<{ size_of::<W32>() }>()?;
    Some(u32::from_le_bytes(*tag))
}

// SAFETY: the data is that of the value, if there is one, which `check` and `view` tell by the same tag.
unsafe impl<T: Packed> Packed for Option<T> {
    type Wire = Tagged<T::Wire>;
    type View<'v> = Option<T::View<'v>>;
    const SHAPE: &'static Shape = &Shape::of("Option", T::SHAPE);
    const DATA: bool = T::DATA;

    #[inline]
    fn data_len(&self) -> usize {
        self.as_ref().map_or(0, T::data_len)
    }

    #[inline]
    fn pack(&self, fixed: &mut [u8], data: &mut Packer<'_>) {
        if let (Some(value), Some(tag)) = (self, fixed.first_chunk_mut()) {
            *tag = 1_u32.to_le_bytes();
            pack_field(value, fixed, const { value_at::<T::Wire>() }, data);
        }
    }

    #[inline]
    fn check(fixed: &[u8], data: &mut Unread<'_>) -> Result<(), CallError> {
        match tag(fixed) {
            Some(0) => Ok(()),
            Some(1) => {
                let at = const { value_at::<T::Wire>() };
                Ok(check_field::<T>(fixed, at, "", data)?)
            }
            _ => Err(bad_value()),
        }
    }

    #[inline]
    unsafe fn view<'v>(fixed: &'v [u8], data: &mut Unread<'v>) -> Option<T::View<'v>> {
        let at = const { value_at::<T::Wire>() };
        // SAFETY: the caller promises that `check` has accepted the bytes, and so those of the value.
        (tag(fixed) == Some(1)).then(|| unsafe { view_field::<T>(fixed, at, data) })
    }

    #[inline]
    fn again(&self) -> Option<T::View<'_>> {
        self.as_ref().map(T::again)
    }
}

// SAFETY: the data is that of the elements, in their order.
unsafe impl<T: Packed, const N: usize> Packed for [T; N] {
    type Wire = [T::Wire; N];
    type View<'v> = [T::View<'v>; N];
    const SHAPE: &'static Shape = &Shape::array(T::SHAPE, N);
    const DATA: bool = T::DATA && N != 0;
    const ANY_BITS: bool = T::ANY_BITS;

    #[inline]
    fn data_len(&self) -> usize {
        if !T::DATA {
            return 0;
        }
        self.iter().fold(0, |sum, value| sum.saturating_add(value.data_len()))
    }

    #[inline]
    fn pack(&self, fixed: &mut [u8], data: &mut Packer<'_>) {
        for (index, value) in self.iter().enumerate() {
            pack_field(value, fixed, index * size_of::<T::Wire>(), data);
        }
    }

    #[inline]
    fn check(fixed: &[u8], data: &mut Unread<'_>) -> Result<(), CallError> {
        if T::ANY_BITS {
            return Ok(());
        }
        for index in 0..N {
            check_field::<T>(fixed, index * size_of::<T::Wire>(), "", data)?;
        }
        Ok(())
    }

    #[inline]
    unsafe fn view<'v>(fixed: &'v [u8], data: &mut Unread<'v>) -> [T::View<'v>; N] {
        // `from_fn` makes the elements in their order.
        array::from_fn(|index| {
            // SAFETY: the caller promises that `check` has accepted the bytes, and so those of each element.
            unsafe { view_field::<T>(fixed, index * size_of::<T::Wire>(), data) }
        })
    }

    #[inline]
    fn again(&self) -> [T::View<'_>; N] {
        array::from_fn(|index| self[index].again())
    }
}

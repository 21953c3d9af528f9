//! Arrays of plain values: read value by value, or all at once.

use core::{fmt, marker::PhantomData};

#[cfg(feature = "alloc")]
use core::slice;

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use super::ForeignBuf;
use crate::{
    error::{CallError, ErrorKind},
    types::{Local, Plain},
};

/// An array of plain values in the peer's memory, whose loan this handle owns.
///
/// Dropping it releases the loan. The sender passes a [`SharedSlice<T>`](crate::SharedSlice), or a `&[T]`, which is copied.
pub struct ForeignSlice<T> {
    pub(super) bytes: ForeignBuf,
    pub(super) value: PhantomData<fn() -> T>,
}

impl<T: Plain> ForeignSlice<T> {
    pub(super) const SIZE: usize = {
        assert!(
            size_of::<T::Wire>() != 0,
            "a slice of a zero-sized type cannot be received: its byte count would not give its length"
        );
        size_of::<T::Wire>()
    };

    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / Self::SIZE
    }

    /// Whether the length is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Copies and validates one value. Returns `None` if the index is not less than [`len`](Self::len).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadValue`] if the bytes are invalid for `T`, [`ErrorKind::Stale`] after a reset.
    pub fn get(&self, index: usize) -> Result<Option<T>, CallError> {
        if index >= self.len() {
            return Ok(None);
        }
        let mut local = Local::<T::Wire>::uninit();
        let wire = local.zeroed();
        self.bytes.read_at(index * Self::SIZE, wire)?;
        T::decode(wire, self.bytes.loan.incoming()).map(Some)
    }

    /// Copies and validates the values in order. An invalid value gives an error, as in [`get`](Self::get), and the
    /// iterator continues after it.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<T, CallError>> + '_ {
        (0..self.len()).map(|index| match self.get(index) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(CallError::new(ErrorKind::BadPointer)), // unreachable: the index is less than `len`
            Err(error) => Err(error),
        })
    }

    /// Copies values from the beginning until the slice ends or `out` is full, and returns the part of `out` that it
    /// wrote.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); some values of `out` may then be overwritten.
    pub fn read_into<'o>(&self, out: &'o mut [T]) -> Result<&'o mut [T], CallError> {
        let len = out.len().min(self.len());
        let out = out.split_at_mut(len).0;
        if T::ANY_BITS && !core::mem::needs_drop::<T>() {
            // SAFETY: `out` has `len` values, which are as many bytes as their wire forms (`ANY_BITS`), at most those of
            // the slice. Any bytes are values, also those that are there after an error.
            unsafe { self.bytes.loan.copy_to(0, out.as_mut_ptr().cast(), len * Self::SIZE) }?;
            return Ok(out);
        }
        let mut places = out.iter_mut();
        self.for_each(len, |value| {
            if let Some(place) = places.next() {
                *place = value;
            }
        })?;
        Ok(out)
    }

    /// Copies and validates the first `count` values, at most all. The copies are chunks that fit on the stack, so that each
    /// byte of the peer is read once.
    #[inline]
    fn for_each(&self, count: usize, mut take: impl FnMut(T)) -> Result<(), CallError> {
        let mut local = [0_u8; 1024];
        let at_once = local.len() / Self::SIZE * Self::SIZE;
        if at_once == 0 {
            // One value is larger than the buffer.
            return self.iter().take(count).try_for_each(|value| value.map(&mut take));
        }
        let (mut from, end) = (0, count * Self::SIZE);
        while from < end {
            let local = local.split_at_mut(at_once.min(end - from)).0;
            self.bytes.read_at(from, local)?;
            for wire in local.chunks_exact(Self::SIZE) {
                take(T::decode(wire, self.bytes.loan.incoming())?);
            }
            from += local.len();
        }
        Ok(())
    }

    /// Copies and validates all values.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`ErrorKind::OutOfMemory`] if the heap cannot hold them.
    #[cfg(feature = "alloc")]
    pub fn read_vec(&self) -> Result<Vec<T>, CallError> {
        let (mut values, len) = (Vec::<T>::new(), self.len());
        let size = len.saturating_mul(size_of::<T>());
        values.try_reserve_exact(len).map_err(|_| CallError::no_heap(size))?;
        let from = self.bytes.loan.incoming();
        if T::ANY_BITS {
            let out = values.as_mut_ptr().cast();
            // SAFETY: the vector has room for `len` values, which are as many bytes as their wire forms (`ANY_BITS`): those
            // of the slice.
            unsafe { self.bytes.loan.copy_to(0, out, len * Self::SIZE) }?;
            // SAFETY: `copy_to` returned `Ok`, so it initialised the bytes of `len` values, and any bytes are values.
            unsafe { values.set_len(len) };
        } else if Self::SIZE <= size_of::<T>() {
            let (start, behind) = (values.as_mut_ptr(), len * (size_of::<T>() - Self::SIZE));
            // SAFETY: the vector has room for `len` values, which `behind` and the wire forms fill.
            let mut wire = unsafe { start.cast::<u8>().add(behind) };
            // SAFETY: as above; the wire forms are those of the slice.
            unsafe { self.bytes.loan.copy_to(0, wire, len * Self::SIZE) }?;
            for index in 0..len {
                // SAFETY: `copy_to` initialised `len` wire forms there. The values before this one, none of which is smaller
                // than a wire form, end where it begins or before.
                let value = T::decode(unsafe { slice::from_raw_parts(wire, Self::SIZE) }, from)?;
                // SAFETY: the vector has room for `len` values, and the wire form that the value may overlap was read.
                unsafe { start.add(index).write(value) };
                // SAFETY: the value with this index was just written, and those before it earlier.
                unsafe { values.set_len(index + 1) };
                // SAFETY: at most the end of the wire forms.
                wire = unsafe { wire.add(Self::SIZE) };
            }
        } else {
            self.for_each(len, |value| values.push(value))?;
        }
        Ok(values)
    }
}

impl<T: Plain> fmt::Debug for ForeignSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignSlice").field("len", &self.len()).finish_non_exhaustive()
    }
}

//! Packed values that are to be sent: copied from a value at once, or a list that grows.

use core::{fmt, marker::PhantomData, mem::MaybeUninit, slice};

use super::SharedBuf;
use crate::{
    error::{CallError, ErrorKind},
    memory::Lender,
    types::{
        Packed,
        packed::{list_count, pack_into, packed_len, write_list},
        wire::WList,
    },
};

/// A packed value to send as a [`ForeignPacked<T>`](crate::ForeignPacked). Its ownership is that of a [`SharedBuf`].
///
/// [`copy_from`](Self::copy_from) packs a value that is there. A list can also grow, element by element, in this side's arena;
/// then nothing is allocated but its block:
///
/// ```
/// use vmffi::{SharedList, loopback::Loopback};
///
/// vmffi::ffi_interface! {
///     pub struct Entry<'a> { name: &'a str, size: u64 }
/// }
///
/// let pair = Loopback::new((), ())?;
/// let mut list = SharedList::<Entry>::new(pair.host())?;
/// for size in 0..3 {
///     list.push(&Entry { name: &format!("file-{size}"), size })?;
/// }
/// list.extend([Entry { name: "last", size: 3 }])?;
/// assert_eq!(list.len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The lifetimes in `T` have no meaning: what is packed is a copy.
pub struct SharedPacked<T: ?Sized> {
    pub(crate) bytes: SharedBuf,
    value: PhantomData<fn(*const T)>,
}

/// A list of packed elements to send as a [`ForeignList<T>`](crate::ForeignList).
pub type SharedList<T> = SharedPacked<[T]>;

/// Packs a value into a new buffer of its exact size.
#[inline]
pub(crate) fn packed_value<S: Packed + ?Sized>(
    value: &S,
    lender: &impl Lender,
) -> Result<SharedBuf, CallError> {
    let mut bytes = SharedBuf::with_capacity(lender, packed_len(value))?;
    bytes.append_packed(value)?;
    Ok(bytes)
}

impl SharedBuf {
    /// Appends a packed value; on an error the buffer is unchanged.
    #[inline]
    fn append_packed<S: Packed + ?Sized>(&mut self, value: &S) -> Result<(), CallError> {
        let len = packed_len(value);
        self.reserve(len)?;
        if len == 0 {
            return Ok(());
        }
        // SAFETY: `reserve` has made room for `len` bytes behind the length, in a block that this buffer owns.
        let room = unsafe { self.block.address().add(self.len) }.cast::<MaybeUninit<u8>>();
        // SAFETY: the same `len` bytes are valid for reads and writes, and need not be initialised. The block is owned and
        // `self` is borrowed mutably, so no other reference to them exists.
        let room = unsafe { slice::from_raw_parts_mut(room, len) };
        if !pack_into(value, room) {
            // Unreachable: `Packed::pack` writes what `data_len` counts.
            return Err(CallError::new(ErrorKind::BadValue));
        }
        self.len += len;
        Ok(())
    }
}

impl<T: Packed + ?Sized> SharedPacked<T> {
    /// Packs a value into a new block of its exact size.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    pub fn copy_from<S: Packed<View<'static> = T::View<'static>> + ?Sized>(
        peer: &impl Lender,
        value: &S,
    ) -> Result<Self, CallError> {
        Ok(Self { bytes: packed_value(value, peer)?, value: PhantomData })
    }
}

/// The size of the fixed part of a list in bytes.
const HEAD: usize = size_of::<WList>();

/// A list that grows like a [`SharedBuf`].
impl<T: Packed> SharedList<T> {
    /// An empty list, in a block of 16 bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block.
    pub fn new(peer: &impl Lender) -> Result<Self, CallError> {
        Self::copy_from::<[T]>(peer, &[])
    }

    /// Appends an element.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if the list has to grow and cannot; it is then unchanged. [`ErrorKind::BadValue`] if it was
    /// made from bytes that are too short to be a list.
    pub fn push<S: Packed<View<'static> = T::View<'static>>>(
        &mut self,
        element: &S,
    ) -> Result<(), CallError> {
        if self.bytes.len < HEAD {
            return Err(CallError::new(ErrorKind::BadValue));
        }
        self.bytes.append_packed(element)?;
        let (count, len) = (self.len().saturating_add(1), self.bytes.len - HEAD);
        write_list(self.bytes.as_mut_slice(), count, len);
        Ok(())
    }

    /// Appends elements.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push); the elements before are then in the list.
    pub fn extend<S: Packed<View<'static> = T::View<'static>>>(
        &mut self,
        elements: impl IntoIterator<Item = S>,
    ) -> Result<(), CallError> {
        elements.into_iter().try_for_each(|element| self.push(&element))
    }

    /// Makes room for at least `additional` bytes of elements, as [`SharedBuf::reserve`].
    ///
    /// # Errors
    ///
    /// As [`SharedBuf::reserve`].
    pub fn reserve(&mut self, additional: usize) -> Result<(), CallError> {
        self.bytes.reserve(additional)
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        list_count(self.bytes.as_slice())
    }

    /// Whether the list has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: ?Sized> SharedPacked<T> {
    /// The size of the packed value in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len
    }
}

/// Bytes that were packed elsewhere, such as those of a [`ForeignPacked`](crate::ForeignPacked) that is passed on. They are not
/// checked here; the receiver checks them when it reads the value.
impl<T: ?Sized> From<SharedBuf> for SharedPacked<T> {
    fn from(bytes: SharedBuf) -> Self {
        Self { bytes, value: PhantomData }
    }
}

impl<T: ?Sized> fmt::Debug for SharedPacked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPacked").field("byte_len", &self.byte_len()).finish_non_exhaustive()
    }
}

//! Lists: a count and a byte count in the fixed part, and the elements one behind the other as data (ABI, PK-4).

use core::{fmt, iter::FusedIterator, marker::PhantomData, slice};

use super::{Packed, Packer, Unread, bad_value, put_word, word};
use crate::{
    error::CallError,
    types::{descriptor::Shape, wire::WList},
};

/// A list in a packed value.
///
/// A sender makes it from a slice: `List::from(&headers[..])`, or from an array or a vector by reference. A receiver gets a
/// view of the bytes that it has copied and checked. Both iterate over elements by value: an element is small, and refers to
/// its text and its bytes.
///
/// ```
/// use vmffi::List;
///
/// let names = List::from(&["cpu", "memory"]);
/// assert_eq!(names.len(), 2);
/// assert_eq!(names.iter().map(str::len).sum::<usize>(), 9);
/// ```
pub struct List<'a, T> {
    source: Source<'a, T>,
}

enum Source<'a, T> {
    /// What a sender has made.
    Slice(&'a [T]),
    /// `count` elements that have been checked.
    Packed { count: usize, data: Unread<'a>, element: PhantomData<fn() -> T> },
}

impl<T> Clone for Source<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Source<'_, T> {}

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<'_, T> {}

/// An empty list.
impl<T> Default for List<'_, T> {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl<'a, T> From<&'a [T]> for List<'a, T> {
    fn from(elements: &'a [T]) -> Self {
        Self::new(elements)
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for List<'a, T> {
    fn from(elements: &'a [T; N]) -> Self {
        Self::new(elements)
    }
}

#[cfg(feature = "alloc")]
impl<'a, T> From<&'a alloc::vec::Vec<T>> for List<'a, T> {
    fn from(elements: &'a alloc::vec::Vec<T>) -> Self {
        Self::new(elements)
    }
}

impl<'a, T> List<'a, T> {
    /// A list of these elements, as `List::from`, for constants.
    #[must_use]
    pub const fn new(elements: &'a [T]) -> Self {
        Self { source: Source::Slice(elements) }
    }

    /// The number of elements.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        match self.source {
            Source::Slice(elements) => elements.len(),
            Source::Packed { count, .. } => count,
        }
    }

    /// Whether the list has no elements.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Packed> List<'a, T> {
    /// The elements by value, in order.
    ///
    /// # Panics
    ///
    /// The iterator panics if an element contains a [`CrossesAs`](crate::CrossesAs) whose `from_wire` refuses what it has
    /// accepted before, or what its `to_wire` has made. No bytes of a peer's lead to that.
    #[must_use]
    #[inline]
    pub fn iter(&self) -> ListIter<'a, T> {
        ListIter {
            rest: match self.source {
                Source::Slice(elements) => Rest::Slice(elements.iter()),
                Source::Packed { count, data, element } => Rest::Packed { count, data, element },
            },
        }
    }

    /// The first element, or `None` if the list is empty.
    ///
    /// # Panics
    ///
    /// As [`iter`](Self::iter).
    #[must_use]
    pub fn first(&self) -> Option<T::View<'a>> {
        self.iter().next()
    }
}

impl<'a, T: Packed> IntoIterator for List<'a, T> {
    type Item = T::View<'a>;
    type IntoIter = ListIter<'a, T>;

    #[inline]
    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Packed> IntoIterator for &List<'a, T> {
    type Item = T::View<'a>;
    type IntoIter = ListIter<'a, T>;

    #[inline]
    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Packed<View<'a>: fmt::Debug>> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a, 'b, T: Packed, U: Packed> PartialEq<List<'b, U>> for List<'a, T>
where
    T::View<'a>: PartialEq<U::View<'b>>,
{
    fn eq(&self, other: &List<'b, U>) -> bool {
        self.len() == other.len() && self.iter().zip(other).all(|(a, b)| a == b)
    }
}

impl<'a, T: Packed<View<'a>: Eq>> Eq for List<'a, T> {}

/// The elements of a [`List`].
pub struct ListIter<'a, T> {
    rest: Rest<'a, T>,
}

enum Rest<'a, T> {
    Slice(slice::Iter<'a, T>),
    Packed { count: usize, data: Unread<'a>, element: PhantomData<fn() -> T> },
}

impl<T> Clone for ListIter<'_, T> {
    fn clone(&self) -> Self {
        let rest = match &self.rest {
            Rest::Slice(elements) => Rest::Slice(elements.clone()),
            Rest::Packed { count, data, element } => {
                Rest::Packed { count: *count, data: *data, element: *element }
            }
        };
        Self { rest }
    }
}

impl<T> fmt::Debug for ListIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListIter").finish_non_exhaustive()
    }
}

impl<'a, T: Packed> Iterator for ListIter<'a, T> {
    type Item = T::View<'a>;

    #[inline]
    fn next(&mut self) -> Option<T::View<'a>> {
        match &mut self.rest {
            Rest::Slice(elements) => elements.next().map(T::again),
            Rest::Packed { count, data, .. } => {
                *count = count.checked_sub(1)?;
                let fixed = data.part(size_of::<T::Wire>());
                // SAFETY: `view` of the list, which alone makes this variant, was called with bytes that `check` has
                // accepted: element by element, in this order.
                Some(unsafe { T::view(fixed, data) })
            }
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.rest {
            Rest::Slice(elements) => elements.len(),
            Rest::Packed { count, .. } => *count,
        };
        (left, Some(left))
    }
}

impl<T: Packed> ExactSizeIterator for ListIter<'_, T> {}
impl<T: Packed> FusedIterator for ListIter<'_, T> {}

/// The size of the fixed part of an element in bytes.
const fn element<T: Packed>() -> usize {
    assert!(
        size_of::<T::Wire>() != 0,
        "a list of a zero-sized type cannot cross: its bytes would not bound its length"
    );
    size_of::<T::Wire>()
}

/// A list of elements, with the lifetime of the reference to them.
fn again<T: Packed>(elements: &[T]) -> List<'_, T::View<'_>> {
    const { assert!(size_of::<T>() == size_of::<T::View<'_>>()) };
    // SAFETY: `T::View` is `T` with the lifetime of the reference, which those in `T` outlive, and in which `T` is covariant
    // (`Packed`).
    List::new(unsafe { slice::from_raw_parts(elements.as_ptr().cast(), elements.len()) })
}

/// The elements as bytes, if these are their packed form.
fn as_bytes<T: Packed>(elements: &[T]) -> Option<&[u8]> {
    // SAFETY: the elements are borrowed, and all of their bytes are initialised: `ANY_BITS` says that none is padding.
    T::ANY_BITS
        .then(|| unsafe { slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) })
}

/// Writes the fixed part of a list: the number of its elements, and of their bytes.
#[inline]
pub(crate) fn write_list(fixed: &mut [u8], count: usize, len: usize) {
    put_word(fixed, 0, count);
    put_word(fixed, 8, len);
}

/// The number of elements in the fixed part of a list that this side has written.
#[inline]
pub(crate) fn list_count(fixed: &[u8]) -> usize {
    word(fixed, 0) as usize
}

// SAFETY: as for a `List`, as which it is packed, checked and read.
unsafe impl<T: Packed> Packed for [T] {
    type Wire = WList;
    type View<'v> = List<'v, T::View<'v>>;
    const SHAPE: &'static Shape = <List<'_, T> as Packed>::SHAPE;
    const DATA: bool = true;

    #[inline]
    fn data_len(&self) -> usize {
        List::new(self).data_len()
    }

    #[inline]
    fn pack(&self, fixed: &mut [u8], data: &mut Packer<'_>) {
        List::new(self).pack(fixed, data);
    }

    #[inline]
    fn check(fixed: &[u8], data: &mut Unread<'_>) -> Result<(), CallError> {
        List::<T>::check(fixed, data)
    }

    #[inline]
    unsafe fn view<'v>(fixed: &'v [u8], data: &mut Unread<'v>) -> List<'v, T::View<'v>> {
        // SAFETY: the caller promises that the bytes have been accepted.
        unsafe { List::<T>::view(fixed, data) }
    }

    #[inline]
    fn again(&self) -> List<'_, T::View<'_>> {
        again(self)
    }
}

// SAFETY: the elements append what they count, and the list has no other data. `check` accepts a list only if its elements,
// accepted one behind the other, end where its byte count says, and `view` takes as many bytes.
unsafe impl<'a, T: Packed> Packed for List<'a, T> {
    type Wire = WList;
    type View<'v> = List<'v, T::View<'v>>;
    const SHAPE: &'static Shape = &Shape::of("List", T::SHAPE);
    const DATA: bool = true;

    #[inline]
    fn data_len(&self) -> usize {
        let fixed = const { element::<T>() }.saturating_mul(self.len());
        if !T::DATA {
            return fixed;
        }
        match self.source {
            Source::Slice(elements) => {
                elements.iter().fold(fixed, |sum, value| sum.saturating_add(value.data_len()))
            }
            Source::Packed { data, .. } => data.0.len(),
        }
    }

    #[inline]
    fn pack(&self, fixed: &mut [u8], data: &mut Packer<'_>) {
        let before = data.rest.len();
        match self.source {
            Source::Slice(elements) => match as_bytes(elements) {
                Some(bytes) => data.bytes(bytes),
                None => elements.iter().for_each(|value| data.value(value)),
            },
            // The packed form is the same wherever it lies.
            Source::Packed { data: packed, .. } => data.bytes(packed.0),
        }
        write_list(fixed, self.len(), before - data.rest.len());
    }

    fn check(fixed: &[u8], data: &mut Unread<'_>) -> Result<(), CallError> {
        let size = const { element::<T>() };
        let (count, mut data) = (word(fixed, 0), Unread(data.take(word(fixed, 8))?));
        // An element has at least its fixed part, so the bytes bound the number of rounds.
        if count > (data.0.len() / size) as u64 {
            return Err(bad_value());
        }
        if !T::DATA && T::ANY_BITS {
            data.take(count * size as u64)?;
        } else {
            for _ in 0..count {
                let fixed = data.take(size as u64)?;
                T::check(fixed, &mut data)?;
            }
        }
        if data.0.is_empty() { Ok(()) } else { Err(bad_value()) }
    }

    #[inline]
    unsafe fn view<'v>(fixed: &'v [u8], data: &mut Unread<'v>) -> List<'v, T::View<'v>> {
        // Both are at most the size of the data, by `check`.
        let (count, len) = (word(fixed, 0) as usize, word(fixed, 8) as usize);
        let data = Unread(data.part(len));
        List { source: Source::Packed { count, data, element: PhantomData } }
    }

    #[inline]
    fn again(&self) -> List<'_, T::View<'_>> {
        match self.source {
            Source::Slice(elements) => again(elements),
            Source::Packed { count, data, .. } => {
                List { source: Source::Packed { count, data, element: PhantomData } }
            }
        }
    }
}

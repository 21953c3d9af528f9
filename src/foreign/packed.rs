//! Packed values: copied and checked once, and then read by reference.

use core::{
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicBool, Ordering},
};

use super::ForeignBuf;
use crate::{
    error::CallError,
    types::{Packed, packed},
};

/// A value with text, bytes and lists inside, packed into one block in the peer's memory, whose loan this handle owns.
///
/// One `ForeignPacked` costs one loan, one copy, one check and one release, however long the lists in it are. What it holds is
/// read by reference: dropping the handle releases the loan and frees the copy. The sender passes a reference to a value of the
/// type, which is packed into a block of its exact size, or a [`SharedPacked`](crate::SharedPacked).
///
/// ```
/// use vmffi::{CallError, ForeignList, ForeignPacked, ForeignStr, List, Peer, SharedList, loopback::Loopback};
///
/// vmffi::ffi_interface! {
///     pub struct Entry<'a> { name: &'a str, size: u64 }
///     pub struct Query<'a> { path: &'a str, endings: List<'a, &'a str> }
///
///     pub interface Files {
///         fn find(query: ForeignPacked<Query>) -> ForeignList<Entry>;
///     }
/// }
///
/// struct Host;
/// impl Files for Host {
///     fn find(
///         &self,
///         peer: &Peer,
///         query: ForeignPacked<Query>,
///     ) -> Result<SharedList<Entry<'_>>, CallError> {
///         let Query { path, endings } = query.read()?;
///         let mut found = SharedList::new(peer)?;
///         for ending in &endings {
///             found.push(&Entry { name: &format!("{path}/a.{ending}"), size: 5 })?;
///         }
///         Ok(found)
///     }
/// }
/// vmffi::serve!(Host: Files);
///
/// let pair = Loopback::new((), Host)?;
/// let files = FilesClient::from(pair.host());
/// let found = files.find(&Query { path: "tmp", endings: List::from(&["c", "h"]) })?;
/// let mut names = Vec::new();
/// for entry in found.read()? {
///     // A reference ends with `found`: what is kept is copied.
///     names.push(entry.name.to_owned());
/// }
/// assert_eq!(names, ["tmp/a.c", "tmp/a.h"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ForeignPacked<T: ?Sized> {
    bytes: ForeignBuf,
    /// Whether the contents, which no longer change, have been checked.
    checked: AtomicBool,
    value: PhantomData<fn(*const T)>,
}

/// A list of packed elements: one loan, whatever its length. [`read`](ForeignPacked::read) returns a
/// [`List`](crate::List).
pub type ForeignList<T> = ForeignPacked<[T]>;

impl<T: ?Sized> ForeignPacked<T> {
    pub(super) fn new(bytes: ForeignBuf) -> Self {
        Self { bytes, checked: AtomicBool::new(false), value: PhantomData }
    }

    /// The size of the packed value in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

impl<T: Packed + ?Sized> ForeignPacked<T> {
    /// The value, which borrows from this handle.
    ///
    /// On a host, the first call copies the bytes to private memory, which the handle keeps, and checks the copy. In a guest, to
    /// whose memory its host does not write while it is lent, the bytes are checked in place. Later calls return the same value.
    /// The guest's half of a loopback copies as a host does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadValue`](crate::ErrorKind::BadValue) if the bytes are not a packed `T`,
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if the heap cannot hold the copy,
    /// [`ErrorKind::Stale`](crate::ErrorKind::Stale) after a reset, and
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a host without the feature `alloc`, which uses
    /// [`read_into`](Self::read_into).
    ///
    /// # Panics
    ///
    /// If a [`CrossesAs`](crate::CrossesAs) in `T` accepts a value when it is checked and refuses it when it is read.
    pub fn read(&self) -> Result<T::View<'_>, CallError> {
        let bytes = self.bytes.loan.contents()?;
        if !self.checked.load(Ordering::Acquire) {
            packed::check_all::<T>(bytes)?;
            self.checked.store(true, Ordering::Release);
        }
        // SAFETY: `check_all` has accepted these bytes, now or in an earlier call. `contents` returns the same ones each time,
        // and they do not change while the handle is borrowed.
        Ok(unsafe { packed::view_all::<T>(bytes) })
    }

    /// Copies the bytes to `out`, which must be at least [`byte_len`](Self::byte_len) bytes long, and returns the value,
    /// which borrows from `out`. It needs no heap.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if `out` is too short,
    /// [`ErrorKind::BadValue`](crate::ErrorKind::BadValue) if the bytes are not a packed `T`, and
    /// [`ErrorKind::Stale`](crate::ErrorKind::Stale) after a reset.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    pub fn read_into<'o>(&self, out: &'o mut [u8]) -> Result<T::View<'o>, CallError> {
        let bytes = self.bytes.read_whole(out)?;
        packed::check_all::<T>(bytes)?;
        // SAFETY: `check_all` has accepted the bytes, which are borrowed since.
        Ok(unsafe { packed::view_all::<T>(bytes) })
    }
}

/// The bytes of a packed value.
impl<T: ?Sized> From<ForeignPacked<T>> for ForeignBuf {
    fn from(packed: ForeignPacked<T>) -> Self {
        packed.bytes
    }
}

/// The bytes as a packed value, which [`read`](ForeignPacked::read) checks.
impl<T: ?Sized> From<ForeignBuf> for ForeignPacked<T> {
    fn from(bytes: ForeignBuf) -> Self {
        Self::new(bytes)
    }
}

impl<T: ?Sized> fmt::Debug for ForeignPacked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignPacked").field("byte_len", &self.byte_len()).finish_non_exhaustive()
    }
}

//! The handles that a receiver owns: loans of the peer.
//!
//! The memory stays in the sender's arena. A handle may outlive its call and move to other threads; dropping it
//! releases the loan. A hostile sender can still write to the memory, so handles copy the bytes and validate the copy.

use core::{fmt, marker::PhantomData};

#[cfg(feature = "alloc")]
use alloc::{string::String, vec::Vec};

use crate::{
    abi::{Side, Transport, pointer},
    error::{CallError, Detail, ErrorKind},
    memory::{Epoch, Incoming, MemoryRef, stale},
    shared::{Shared, SharedBuf, SharedPacked, SharedSlice, SharedStr},
    types::{FfiType, Local, Packed, Plain, W64, WBuf, descriptor::Shape, no_secondary},
};

#[cfg(feature = "alloc")]
mod copies;
mod packed;
mod send;
mod slice;

pub use {
    packed::{ForeignList, ForeignPacked},
    slice::ForeignSlice,
};

/// A loan of the peer, or an empty buffer, whose word is 0.
struct Loan {
    memory: MemoryRef,
    word: u64,
    /// In bytes. `new` has validated the word and the length.
    len: usize,
    epoch: Epoch,
    side: Side,
    /// What a loopback lends in place of the bytes.
    #[cfg(feature = "alloc")]
    copy: copies::PrivateCopy,
}

impl Loan {
    #[inline]
    fn new(from: Incoming<'_>, word: u64, len: u64, align: usize) -> Result<Self, CallError> {
        let (side, (memory, epoch)) = (from.side, from.source()?);
        // The pointer of an empty buffer is ignored (ABI, T-4).
        let word = if len == 0 { 0 } else { word };
        if len != 0 {
            memory.check(side, word, len, align as u64)?;
            if pointer::loan(word) == 0 {
                // Loan 0 cannot be released, so a handle refuses it (ABI, A-5).
                return Err(CallError::new(ErrorKind::BadPointer).at(pointer::offset(word), len));
            }
        }
        let len = len as usize; // at most the size of the arena, which is mapped
        let Some(counted) = memory.for_handle() else {
            // Over the handle limit: release the loan now.
            memory.release(side, word, epoch);
            let error =
                CallError::new(ErrorKind::OutOfMemory).at(pointer::offset(word), len as u64);
            return Err(error.because_of(Detail::Handles));
        };
        Ok(Self {
            memory: counted,
            word,
            len,
            epoch,
            side,
            #[cfg(feature = "alloc")]
            copy: copies::PrivateCopy::none(),
        })
    }

    /// Copies `out.len()` bytes from the offset `from` on, if the block has as many.
    #[inline]
    fn copy(&self, from: usize, out: &mut [u8]) -> Result<(), CallError> {
        let end = from.checked_add(out.len()).filter(|end| *end <= self.len);
        if end.is_none() {
            return Err(self.outside(from, out.len()));
        }
        // SAFETY: `from + out.len()` is at most `self.len`, as checked above. `out` is a mutable slice, which no block
        // that is lent overlaps.
        unsafe { self.copy_to(from, out.as_mut_ptr(), out.len()) }
    }

    /// Copies to memory that need not be initialised. On an error the bytes at `out` are unspecified, and the caller
    /// must not use them: a reset happened, and they may be another loan's.
    ///
    /// # Safety
    ///
    /// `from + len` is at most `self.len`, and `out` is valid for writes of `len` bytes that do not overlap the loan.
    #[inline]
    unsafe fn copy_to(&self, from: usize, out: *mut u8, len: usize) -> Result<(), CallError> {
        if len == 0 {
            return Ok(());
        }
        let at = pointer::offset(self.word) + from as u64;
        // SAFETY: `new` checked `self.len` bytes at the word's offset, and the caller promises that the range is within
        // them and that `out` is valid for writes and does not overlap them.
        unsafe { self.memory.copy_lent(self.epoch, at, out, len) }
    }

    #[cold]
    fn outside(&self, from: usize, len: usize) -> CallError {
        let at = pointer::offset(self.word).saturating_add(from as u64);
        CallError::new(ErrorKind::BadPointer).at(at, len as u64)
    }

    /// The bytes in place, on a guest's side; in a loopback, which a host may reset, a copy of them that the handle keeps.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on a host's side.
    fn borrow(&self) -> Result<&[u8], CallError> {
        let refused = CallError::new(ErrorKind::Unsupported).because_of(Detail::Borrow);
        match (self.side, self.memory.is_loopback()) {
            // SAFETY: this is a guest in a program of its own, and whoever connected it has promised that only its host
            // writes to the host's arena, and not to a block that is lent (`RegionMemory`; ABI, A-3). The loan lasts as
            // long as this handle, which the slice borrows. A guest does not reset connections. If its host does,
            // the guest does not run on, or is restored to a point at which it held the loan, whose block the host
            // leaves as it was (ABI, A-11): the same was promised.
            (Side::Guest, false) => unsafe { self.as_slice() },
            #[cfg(feature = "alloc")]
            (Side::Guest, true) => {
                if self.epoch != self.memory.epoch() {
                    return Err(stale());
                }
                self.copy.get(self.len, |copy| self.copy(0, copy))
            }
            _ => Err(refused.on(self.side)),
        }
    }

    /// The bytes, which do not change while they are borrowed: in place, in a guest in a program of its own, and otherwise a
    /// copy that the handle keeps.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] after a reset; for the copy, [`ErrorKind::OutOfMemory`], and [`ErrorKind::Unsupported`] without
    /// the feature `alloc`.
    fn contents(&self) -> Result<&[u8], CallError> {
        #[cfg(feature = "alloc")]
        if self.side == Side::Host {
            if self.epoch != self.memory.epoch() {
                return Err(stale());
            }
            return self.copy.get(self.len, |copy| self.copy(0, copy));
        }
        self.borrow()
    }

    /// The bytes in place.
    ///
    /// # Safety
    ///
    /// While the slice lives, the peer does not write to the block and the connection is not reset.
    unsafe fn as_slice(&self) -> Result<&[u8], CallError> {
        if self.len == 0 {
            return Ok(&[]);
        }
        if self.epoch != self.memory.epoch() || !self.memory.is_here() {
            return Err(stale());
        }
        // SAFETY: `new` accepted the word with `check`, so its offset is in the region.
        let at = unsafe { self.memory.peer_address(pointer::offset(self.word)) };
        // SAFETY: `new` checked `self.len` bytes at the offset, which `self.memory` keeps mapped, and the caller
        // promises that they do not change.
        Ok(unsafe { core::slice::from_raw_parts(at, self.len) })
    }

    fn incoming(&self) -> Incoming<'_> {
        Incoming::new(&self.memory, self.side, Some(self.epoch))
    }
}

impl Drop for Loan {
    #[inline]
    fn drop(&mut self) {
        self.memory.release(self.side, self.word, self.epoch);
        #[cfg(feature = "alloc")]
        self.copy.free(self.len);
    }
}

/// A plain value in the peer's memory, whose loan this handle owns.
///
/// Dropping it releases the loan. The sender passes a [`Shared<T>`](Shared). It is for values that are kept, or not
/// always read; a `T` that a declaration names without `Foreign` is copied and validated before the function is called.
pub struct Foreign<T> {
    loan: Loan,
    value: PhantomData<fn() -> T>,
}

impl<T: Plain> Foreign<T> {
    /// Copies the value and validates the copy. Two reads may give two values, if the peer writes in between.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadValue`] if the bytes are invalid for `T`, [`ErrorKind::Stale`] after a reset.
    pub fn read(&self) -> Result<T, CallError> {
        let mut local = Local::<T::Wire>::uninit();
        let wire = local.zeroed();
        self.loan.copy(0, wire)?;
        T::decode(wire, self.loan.incoming())
    }
}

impl<T: Plain> fmt::Debug for Foreign<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").field("len", &self.loan.len).finish_non_exhaustive()
    }
}

// SAFETY: `from_transport` makes one handle of the transport's one pointer word, and `Loan::new` uses `from` only to
// validate that word. The shape determines the wire form: one word.
unsafe impl<T: Plain> FfiType for Foreign<T> {
    type Wire = W64;
    type OptionWire = W64;
    type Shared = Shared<T>;
    const SHAPE: &'static Shape = &Shape::of("Foreign", T::SHAPE);
    const HANDLES: bool = true;
    const NULLABLE: bool = true;

    #[inline]
    fn decode(wire: &[u8], from: Incoming<'_>) -> Result<Self, CallError> {
        Self::from_transport(Transport::word(u64::decode(wire, from)?), from)
    }

    #[inline]
    fn from_transport(transport: Transport, from: Incoming<'_>) -> Result<Self, CallError> {
        no_secondary(transport)?;
        // A zero-sized type has a block of one byte, so that there is a loan.
        let len = size_of::<T::Wire>().max(1) as u64;
        let loan = Loan::new(from, transport.primary, len, align_of::<T::Wire>())?;
        Ok(Self { loan, value: PhantomData })
    }

    fn write(&self, _: &mut [u8]) {}
}

/// Bytes in the peer's memory, whose loan this handle owns.
///
/// It may outlive its call and move to other threads; dropping it releases the loan. The sender passes a [`SharedBuf`],
/// or a `&[u8]`, which is copied.
pub struct ForeignBuf {
    loan: Loan,
}

impl ForeignBuf {
    /// The loan that a transport or a wire form names: of bytes, or of an array of wire forms with this alignment.
    #[cfg(feature = "alloc")]
    pub(crate) fn received(
        transport: Transport,
        from: Incoming<'_>,
        align: usize,
    ) -> Result<Self, CallError> {
        let loan = Loan::new(from, transport.primary, transport.secondary, align)?;
        Ok(Self { loan })
    }

    /// The number of bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.loan.len
    }

    /// Whether the length is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.loan.len == 0
    }

    /// Copies `out.len()` bytes to `out`, from the byte `offset` on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`] if the range is not within the buffer, [`ErrorKind::Stale`] after a reset. The
    /// contents of `out` are then unspecified.
    #[inline]
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), CallError> {
        self.loan.copy(offset, out)
    }

    /// Copies bytes from the beginning until the buffer ends or `out` is full, and returns the part of `out` that it
    /// wrote.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] after a reset.
    #[inline]
    pub fn read_into<'o>(&self, out: &'o mut [u8]) -> Result<&'o mut [u8], CallError> {
        let len = out.len().min(self.len());
        let out = out.split_at_mut(len).0;
        self.loan.copy(0, out)?;
        Ok(out)
    }

    /// Copies all bytes to `out`, or fails with [`ErrorKind::OutOfMemory`] if it is too short.
    fn read_whole<'o>(&self, out: &'o mut [u8]) -> Result<&'o mut [u8], CallError> {
        if out.len() < self.len() {
            let short = CallError::new(ErrorKind::OutOfMemory);
            let short = short.at(out.len() as u64, self.len() as u64);
            return Err(short.because_of(Detail::Room));
        }
        self.read_into(out)
    }

    /// Copies all bytes to a new vector.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if the heap cannot hold them, [`ErrorKind::Stale`] after a reset.
    #[cfg(feature = "alloc")]
    pub fn read_vec(&self) -> Result<Vec<u8>, CallError> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Appends a copy of all bytes to a vector.
    ///
    /// # Errors
    ///
    /// As [`read_vec`](Self::read_vec); the vector is then unchanged.
    #[cfg(feature = "alloc")]
    pub fn append_to(&self, bytes: &mut Vec<u8>) -> Result<(), CallError> {
        let (old, len) = (bytes.len(), self.len());
        bytes.try_reserve(len).map_err(|_| CallError::no_heap(len))?;
        // SAFETY: the vector has a capacity of at least `old + len` bytes.
        let out = unsafe { bytes.as_mut_ptr().add(old) };
        // SAFETY: `len` is the length of the loan, and `out` points to as many reserved bytes of the vector, which is
        // on the heap.
        unsafe { self.loan.copy_to(0, out, len) }?;
        // SAFETY: the vector has that capacity, and `copy_to` returned `Ok`, so it initialised the `len` bytes from
        // `old`.
        unsafe { bytes.set_len(old + len) };
        Ok(())
    }

    /// A reader of the bytes from the beginning, which implements [`std::io::Read`].
    #[cfg(feature = "std")]
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { buf: self, at: 0 }
    }

    /// The bytes in place, for a guest, whose host does not write to what it has lent: parsers and the like need no copy.
    ///
    /// It depends on the side that received the buffer, not on the features of the program. The guest's half of a loopback
    /// gets a copy that the buffer keeps, so that code for guests can be tested there.
    ///
    /// ```
    /// # use vmffi::{CallError, ErrorKind, ForeignBuf, Peer, SharedBuf, loopback::Loopback};
    /// vmffi::ffi_interface! {
    ///     pub interface Disk { fn block() -> ForeignBuf; }
    /// }
    /// struct Machine;
    /// impl Disk for Machine {
    ///     fn block(&self, peer: &Peer) -> Result<SharedBuf, CallError> {
    ///         SharedBuf::copy_from(peer, b"GET /")
    ///     }
    /// }
    /// vmffi::serve!(Machine: Disk);
    ///
    /// let pair = Loopback::new(Machine, Machine)?;
    /// // In the guest, which calls its host:
    /// let block = DiskClient::from(pair.host()).block()?;
    /// assert!(block.as_slice()?.starts_with(b"GET"));
    /// // In the host, which must copy:
    /// let block = DiskClient::from(pair.guest()).block()?;
    /// assert_eq!(block.as_slice().unwrap_err().kind(), ErrorKind::Unsupported);
    /// assert_eq!(block.read_vec()?, b"GET /");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on a host's side, since its guest can change the bytes; [`ErrorKind::Stale`] after a
    /// reset; in a loopback, [`ErrorKind::OutOfMemory`] for the copy.
    pub fn as_slice(&self) -> Result<&[u8], CallError> {
        self.loan.borrow()
    }

    /// The bytes in place, on either side.
    ///
    /// # Safety
    ///
    /// While the slice lives, the peer must not write to the bytes, and the connection must not be reset, since the
    /// bytes may then be lent again. A host may not rely on a guest that it does not trust.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] after a reset.
    pub unsafe fn as_slice_unchecked(&self) -> Result<&[u8], CallError> {
        // SAFETY: the caller promises that the peer does not write and that there is no reset.
        unsafe { self.loan.as_slice() }
    }
}

impl fmt::Debug for ForeignBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Reads a [`ForeignBuf`] from its beginning to its end.
#[cfg(feature = "std")]
#[derive(Debug)]
pub struct Reader<'b> {
    buf: &'b ForeignBuf,
    at: usize,
}

#[cfg(feature = "std")]
impl std::io::Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let len = out.len().min(self.buf.len() - self.at);
        self.buf.read_at(self.at, &mut out[..len]).map_err(std::io::Error::other)?;
        self.at += len;
        Ok(len)
    }
}

/// Text in the peer's memory, whose loan this handle owns.
///
/// Dropping it releases the loan. Each read validates that its copy is UTF-8. The sender passes a [`SharedStr`], or a
/// `&str`, which is copied.
pub struct ForeignStr {
    bytes: ForeignBuf,
}

impl ForeignStr {
    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the length is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Copies the text to `out`, which must be at least [`len`](Self::len) bytes long.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if `out` is too short, [`ErrorKind::BadValue`] if the bytes are not UTF-8,
    /// [`ErrorKind::Stale`] after a reset.
    pub fn read_into<'o>(&self, out: &'o mut [u8]) -> Result<&'o str, CallError> {
        utf8(self.bytes.read_whole(out)?)
    }

    /// Copies the text to a new string.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadValue`] if the bytes are not UTF-8, [`ErrorKind::OutOfMemory`] if the heap cannot hold them,
    /// [`ErrorKind::Stale`] after a reset.
    #[cfg(feature = "alloc")]
    #[allow(clippy::inherent_to_string, reason = "it can fail, and `Display` must not")]
    pub fn read_string(&self) -> Result<String, CallError> {
        String::from_utf8(self.bytes.read_vec()?).map_err(|_| CallError::new(ErrorKind::BadValue))
    }

    /// The text in place, for a guest, as [`ForeignBuf::as_slice`]. Each call validates it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadValue`] if the bytes are not UTF-8, and those of [`ForeignBuf::as_slice`].
    pub fn as_str(&self) -> Result<&str, CallError> {
        utf8(self.bytes.as_slice()?)
    }

    /// The text in place, on either side.
    ///
    /// # Safety
    ///
    /// As for [`ForeignBuf::as_slice_unchecked`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadValue`] if the bytes are not UTF-8, [`ErrorKind::Stale`] after a reset.
    pub unsafe fn as_str_unchecked(&self) -> Result<&str, CallError> {
        // SAFETY: the caller promises what `ForeignBuf::as_slice_unchecked` requires.
        utf8(unsafe { self.bytes.as_slice_unchecked() }?)
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, CallError> {
    core::str::from_utf8(bytes).map_err(|_| CallError::new(ErrorKind::BadValue))
}

/// The bytes of a text.
impl From<ForeignStr> for ForeignBuf {
    fn from(text: ForeignStr) -> Self {
        text.bytes
    }
}

/// The bytes as a text, which each read validates.
impl From<ForeignBuf> for ForeignStr {
    fn from(bytes: ForeignBuf) -> Self {
        Self { bytes }
    }
}

impl fmt::Debug for ForeignStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignStr").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Implements `FfiType` for a buffer, string or slice. `$align` is the alignment of the pointer, the byte count must be
/// a multiple of `$size`, and `$make` converts the validated `ForeignBuf`.
macro_rules! buffer {
    ([$($generics:tt)*] $t:ty, $shared:ty, $shape:expr, $align:expr, $size:expr, $make:expr) => {
        // SAFETY: `from_transport` makes one handle of the transport's one pointer word, and `Loan::new` uses `from`
        // only to validate that word. The shape determines the wire form, a `WBuf`, whose first word is the pointer
        // word.
        unsafe impl<$($generics)*> FfiType for $t {
            type Wire = WBuf;
            type OptionWire = WBuf;
            type Shared = $shared;
            const SHAPE: &'static Shape = &$shape;
            const HANDLES: bool = true;
            const NULLABLE: bool = true;

            #[inline]
            fn decode(wire: &[u8], from: Incoming<'_>) -> Result<Self, CallError> {
                let (word, len) = wire.split_at(8);
                let (primary, secondary) = (u64::decode(word, from)?, u64::decode(len, from)?);
                Self::from_transport(Transport { primary, secondary }, from)
            }

            #[inline]
            fn from_transport(t: Transport, from: Incoming<'_>) -> Result<Self, CallError> {
                let loan = Loan::new(from, t.primary, t.secondary, $align)?;
                if t.secondary % $size as u64 != 0 {
                    return Err(CallError::new(ErrorKind::BadValue));
                }
                Ok($make(ForeignBuf { loan }))
            }

            fn write(&self, _: &mut [u8]) {}
        }
    };
}

buffer!([] ForeignBuf, SharedBuf, Shape::builtin("ForeignBuf"), 1, 1, |bytes| bytes);
buffer!([] ForeignStr, SharedStr, Shape::builtin("ForeignStr"), 1, 1, |bytes| Self { bytes });
buffer!(
    [T: Plain] ForeignSlice<T>,
    SharedSlice<T>,
    Shape::of("ForeignSlice", T::SHAPE),
    align_of::<T::Wire>(),
    Self::SIZE,
    |bytes| Self { bytes, value: PhantomData }
);
buffer!(
    [T: Packed + ?Sized + 'static] ForeignPacked<T>,
    SharedPacked<T>,
    Shape::of("ForeignPacked", T::SHAPE),
    1,
    1,
    Self::new
);

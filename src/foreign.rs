//! Memory of the other side, owned: what a receiver gets.
//!
//! The memory stays where its sender has put it, in the sender's arena. A handle may be kept for as
//! long as one likes, sent to other threads, and outlive its call; dropping it gives the memory back
//! to the allocator that it came from. The sender can still write to it, if it is hostile: so
//! everything here reads by copying, and judges the copy.

use core::{fmt, marker::PhantomData};

#[cfg(feature = "alloc")]
use alloc::{string::String, vec::Vec};

use crate::{
    abi::{Side, Transport, pointer},
    error::{CallError, Why},
    memory::{Epoch, stale},
    owned::MemoryRef,
    peer::Incoming,
    shape::Shape,
    shared::{Shared, SharedBuf, SharedSlice, SharedStr},
    wire::{FfiType, Local, Plain, W64, WBuf, no_secondary},
};

/// A block that the peer has lent to this side, or nothing.
struct Held {
    memory: MemoryRef,
    word: u64,
    /// In bytes; checked, with the word, when this was made.
    len: usize,
    epoch: Epoch,
    side: Side,
}

impl Held {
    #[inline]
    fn new(from: Incoming<'_>, word: u64, len: u64, align: usize) -> Result<Self, CallError> {
        let Incoming { memory, side, epoch } = from;
        // The pointer of an empty buffer is never looked at.
        let word = if len == 0 { 0 } else { word };
        if len != 0 {
            memory.check(side, word, len, align as u64)?;
            if pointer::loan(word) == 0 {
                // Not lent: its owner would never learn that it was given back.
                return Err(CallError::new(Why::BadPointer).at(pointer::offset(word), len));
            }
        }
        let len = len as usize; // no longer than the arena, so it fits
        let Some(counted) = memory.for_handle() else {
            // It was received, and nobody is to have it.
            memory.give_back(side, word, epoch);
            return Err(CallError::new(Why::OutOfMemory).at(pointer::offset(word), len as u64));
        };
        Ok(Self { memory: counted, word, len, epoch, side })
    }

    /// Copies bytes out, if there are so many.
    #[inline]
    fn copy(&self, from: usize, out: &mut [u8]) -> Result<(), CallError> {
        let end = from.checked_add(out.len()).filter(|end| *end <= self.len);
        if end.is_none() {
            return Err(self.outside(from, out.len()));
        }
        // SAFETY: the range is within the block, and `out` has room for it.
        unsafe { self.copy_to(from, out.as_mut_ptr(), out.len()) }
    }

    /// The same, to memory that need not be initialised. On an error nobody may use what is there: a
    /// reset has come in between, and the bytes may be another loan's.
    ///
    /// # Safety
    ///
    /// `from + len` is not more than `self.len`, and `out` is valid for writes of `len` bytes.
    #[inline]
    unsafe fn copy_to(&self, from: usize, out: *mut u8, len: usize) -> Result<(), CallError> {
        if len == 0 {
            return Ok(());
        }
        let at = pointer::offset(self.word) + from as u64;
        // SAFETY: the block was checked when the handle was made, and the range is within it.
        unsafe { self.memory.copy_lent(self.epoch, at, out, len) }
    }

    #[cold]
    fn outside(&self, from: usize, len: usize) -> CallError {
        let at = pointer::offset(self.word).saturating_add(from as u64);
        CallError::new(Why::BadPointer).at(at, len as u64)
    }

    /// # Safety
    ///
    /// The peer does not write to the block while the slice lives, and there is no reset.
    unsafe fn as_slice(&self) -> Result<&[u8], CallError> {
        if self.len == 0 {
            return Ok(&[]);
        }
        if self.epoch != self.memory.epoch() || !self.memory.is_here() {
            return Err(stale());
        }
        // SAFETY: the offset was checked when the handle was made.
        let at = unsafe { self.memory.peer_address(pointer::offset(self.word)) };
        // SAFETY: so was the length; that nobody writes is the caller's promise.
        Ok(unsafe { core::slice::from_raw_parts(at, self.len) })
    }

    fn incoming(&self) -> Incoming<'_> {
        Incoming { memory: &self.memory, side: self.side, epoch: self.epoch }
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        self.memory.give_back(self.side, self.word, self.epoch);
    }
}

/// A plain value in the peer's memory.
///
/// Owned: dropping it gives the memory back. What the sender of one gives is a
/// [`Shared<T>`](Shared). It is for values that are kept, or not always looked at; one that a
/// declaration names without `Foreign` is copied and judged before its function is called.
pub struct Foreign<T: Plain> {
    held: Held,
    value: PhantomData<fn() -> T>,
}

impl<T: Plain> Foreign<T> {
    /// Copies the value out and judges the copy. Reading twice may give two values, if the peer
    /// writes in between.
    ///
    /// # Errors
    ///
    /// [`Why::BadValue`] where the bytes are no value of `T`, [`Why::Stale`] after a reset.
    pub fn read(&self) -> Result<T, CallError> {
        let mut local = Local::<T::Wire>::uninit();
        let wire = local.zeroed();
        self.held.copy(0, wire)?;
        T::decode(wire, self.held.incoming())
    }
}

impl<T: Plain> fmt::Debug for Foreign<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").field("len", &self.held.len).finish_non_exhaustive()
    }
}

// SAFETY: one handle is made, of the one word, which `Held::new` checks.
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
        // A type without bytes still has a block, of one byte.
        let len = size_of::<T::Wire>().max(1) as u64;
        let held = Held::new(from, transport.primary, len, align_of::<T::Wire>())?;
        Ok(Self { held, value: PhantomData })
    }

    fn write(&self, _: &mut [u8]) {}
}

/// Bytes in the peer's memory: exactly as many as the sender has initialised.
///
/// Owned: it may be kept for as long as one likes and sent to other threads; dropping it gives the
/// memory back. What the sender of one gives is a [`SharedBuf`], or a `&[u8]`, which is copied into one.
pub struct ForeignBuf {
    held: Held,
}

impl ForeignBuf {
    /// The number of bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.held.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.len == 0
    }

    /// Copies `out.len()` bytes out, from the byte at `offset` on.
    ///
    /// # Errors
    ///
    /// [`Why::BadPointer`] where there are not so many, [`Why::Stale`] after a reset; what `out` then
    /// holds is not specified.
    #[inline]
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), CallError> {
        self.held.copy(offset, out)
    }

    /// Copies as many bytes out as there are and as `out` takes, and returns what was written.
    ///
    /// # Errors
    ///
    /// [`Why::Stale`] after a reset.
    #[inline]
    pub fn read_into<'o>(&self, out: &'o mut [u8]) -> Result<&'o mut [u8], CallError> {
        let len = out.len().min(self.len());
        let out = out.split_at_mut(len).0;
        self.held.copy(0, out)?;
        Ok(out)
    }

    /// Copies all bytes out.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where the heap has no room, [`Why::Stale`] after a reset.
    #[cfg(feature = "alloc")]
    pub fn to_vec(&self) -> Result<Vec<u8>, CallError> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Copies all bytes to the end of a vector.
    ///
    /// # Errors
    ///
    /// As [`to_vec`](Self::to_vec); the vector is then as it was.
    #[cfg(feature = "alloc")]
    pub fn append_to(&self, bytes: &mut Vec<u8>) -> Result<(), CallError> {
        let (old, len) = (bytes.len(), self.len());
        let full = |_| CallError::new(Why::OutOfMemory).at(0, len as u64);
        bytes.try_reserve(len).map_err(full)?;
        // SAFETY: so many bytes were reserved behind the old ones.
        let out = unsafe { bytes.as_mut_ptr().add(old) };
        // SAFETY: `len` is all that there is, and `out` has room for it.
        unsafe { self.held.copy_to(0, out, len) }?;
        // SAFETY: the copy has initialised them.
        unsafe { bytes.set_len(old + len) };
        Ok(())
    }

    /// A view that implements [`std::io::Read`].
    #[cfg(feature = "std")]
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { buf: self, at: 0 }
    }

    /// The bytes where they lie.
    ///
    /// # Safety
    ///
    /// The peer must not write to them while the slice lives. That holds in a guest, for buffers of
    /// its host, and in no host whose guest it does not trust. Nor may the connection be reset: then
    /// the bytes are another's.
    ///
    /// # Errors
    ///
    /// [`Why::Stale`] after a reset.
    pub unsafe fn as_slice(&self) -> Result<&[u8], CallError> {
        // SAFETY: the caller's promise is the same.
        unsafe { self.held.as_slice() }
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

/// Text in the peer's memory.
///
/// Owned: dropping it gives the memory back. Whether it is UTF-8 is judged when it is read, on the
/// copy. What the sender of one gives is a [`SharedStr`], or a `&str`, which is copied into one.
pub struct ForeignStr {
    bytes: ForeignBuf,
}

impl ForeignStr {
    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Copies the text out; `out` must have room for all of it.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where `out` is too small, [`Why::BadValue`] where the bytes are not
    /// UTF-8, [`Why::Stale`] after a reset.
    pub fn read_into<'o>(&self, out: &'o mut [u8]) -> Result<&'o str, CallError> {
        if out.len() < self.len() {
            return Err(CallError::new(Why::OutOfMemory).at(0, self.len() as u64));
        }
        let bytes = self.bytes.read_into(out)?;
        core::str::from_utf8(bytes).map_err(|_| CallError::new(Why::BadValue))
    }

    /// Copies the text out.
    ///
    /// # Errors
    ///
    /// [`Why::BadValue`] where the bytes are not UTF-8, [`Why::OutOfMemory`] where the heap has no
    /// room, [`Why::Stale`] after a reset.
    #[cfg(feature = "alloc")]
    #[allow(clippy::inherent_to_string, reason = "it can fail, as `Display` must not")]
    pub fn to_string(&self) -> Result<String, CallError> {
        String::from_utf8(self.bytes.to_vec()?).map_err(|_| CallError::new(Why::BadValue))
    }

    /// The text where it lies.
    ///
    /// # Safety
    ///
    /// As for [`ForeignBuf::as_slice`].
    ///
    /// # Errors
    ///
    /// [`Why::BadValue`] where the bytes are not UTF-8, [`Why::Stale`] after a reset.
    pub unsafe fn as_str(&self) -> Result<&str, CallError> {
        // SAFETY: the caller's promise is the same.
        let bytes = unsafe { self.bytes.as_slice() }?;
        core::str::from_utf8(bytes).map_err(|_| CallError::new(Why::BadValue))
    }
}

/// The bytes of a text.
impl From<ForeignStr> for ForeignBuf {
    fn from(text: ForeignStr) -> Self {
        text.bytes
    }
}

/// Bytes as a text, to be judged when they are read.
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

/// Plain values one behind the other in the peer's memory.
///
/// Owned: dropping it gives the memory back. What the sender of one gives is a
/// [`SharedSlice<T>`](SharedSlice), or a `&[T]`, which is copied into one.
pub struct ForeignSlice<T: Plain> {
    bytes: ForeignBuf,
    value: PhantomData<fn() -> T>,
}

impl<T: Plain> ForeignSlice<T> {
    const SIZE: usize = {
        assert!(size_of::<T::Wire>() != 0, "a slice of values without bytes has no length");
        size_of::<T::Wire>()
    };

    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / Self::SIZE
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Copies one value out; `None` where the index is not below [`len`](Self::len).
    ///
    /// # Errors
    ///
    /// [`Why::BadValue`] where the bytes are no value of `T`, [`Why::Stale`] after a reset.
    pub fn get(&self, index: usize) -> Result<Option<T>, CallError> {
        if index >= self.len() {
            return Ok(None);
        }
        let mut local = Local::<T::Wire>::uninit();
        let wire = local.zeroed();
        self.bytes.read_at(index * Self::SIZE, wire)?;
        T::decode(wire, self.bytes.held.incoming()).map(Some)
    }

    /// Copies the values out one after the other, in their order. A bad one is an error, as in
    /// [`get`](Self::get), and those behind it still follow.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<T, CallError>> + '_ {
        (0..self.len()).map(|index| match self.get(index) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(CallError::new(Why::BadPointer)), // not for an index below `len`
            Err(error) => Err(error),
        })
    }

    /// Copies as many values out as there are and as `out` takes, and returns what was written.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); some values may then have been written.
    pub fn read_into<'o>(&self, out: &'o mut [T]) -> Result<&'o mut [T], CallError> {
        let len = out.len().min(self.len());
        let out = out.split_at_mut(len).0;
        // As many at a time as fit into some memory on the stack, so that each byte is copied once.
        let mut local = [0_u8; 1024];
        let at_once = (local.len() / Self::SIZE).max(1);
        for (nr, out) in out.chunks_mut(at_once).enumerate() {
            let from = nr * at_once * Self::SIZE;
            match local.get_mut(..out.len() * Self::SIZE) {
                Some(local) => {
                    self.bytes.read_at(from, local)?;
                    T::read_all(local, out, self.bytes.held.incoming())?;
                }
                None => {
                    // One value is larger than that.
                    for (i, out) in out.iter_mut().enumerate() {
                        let Some(value) = self.get(nr * at_once + i)? else { break };
                        *out = value;
                    }
                }
            }
        }
        Ok(out)
    }

    /// Copies all values out.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`Why::OutOfMemory`] where the heap has no room.
    #[cfg(feature = "alloc")]
    pub fn to_vec(&self) -> Result<Vec<T>, CallError> {
        let bytes = self.bytes.to_vec()?;
        let mut values = Vec::new();
        let full = |_| CallError::new(Why::OutOfMemory).at(0, bytes.len() as u64);
        values.try_reserve_exact(self.len()).map_err(full)?;
        for wire in bytes.chunks_exact(Self::SIZE) {
            values.push(T::decode(wire, self.bytes.held.incoming())?);
        }
        Ok(values)
    }
}

impl<T: Plain> fmt::Debug for ForeignSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignSlice").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What buffers, strings and slices have in common: `$align` of the pointer, `$size` that the byte
/// count must be a multiple of, and how one is made from bytes that have passed.
macro_rules! buffer {
    ([$($generics:tt)*] $t:ty, $shared:ty, $shape:expr, $align:expr, $size:expr, $make:expr) => {
        // SAFETY: one handle is made, of the one word, which `Held::new` checks.
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
                let held = Held::new(from, t.primary, t.secondary, $align)?;
                if t.secondary % $size as u64 != 0 {
                    return Err(CallError::new(Why::BadValue));
                }
                Ok($make(ForeignBuf { held }))
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

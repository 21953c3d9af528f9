//! The values that a sender owns: blocks of this side's arena that are to be sent.
//!
//! A value is allocated in the sender's own arena, initialised, and sent as an argument or a result. The receiver then
//! owns the loan and releases it. A value that is dropped without being sent is freed.

use core::{fmt, marker::PhantomData, mem::ManuallyDrop};

use crate::{
    abi::Transport,
    error::{CallError, ErrorKind},
    memory::{GRANULE_SIZE, Lender, Outgoing, SideMemory, alloc, arena::Allocated},
    types::{Local, Plain},
};

mod grow;
mod packed;

pub(crate) use packed::packed_value;
pub use packed::{SharedList, SharedPacked};

/// A block of this side's arena that this side owns, or none, which takes no memory.
struct Block {
    own: SideMemory,
    block: Allocated,
}

impl Block {
    #[inline]
    fn new(lender: &impl Lender, len: usize) -> Result<Self, CallError> {
        let own = lender.own();
        let block = alloc(own, len)?;
        Ok(Self { own: own.clone(), block })
    }

    fn none(lender: &impl Lender) -> Self {
        Self { own: lender.own().clone(), block: Allocated::NONE }
    }

    #[inline]
    fn is_none(&self) -> bool {
        self.block.index == Allocated::NONE.index
    }

    /// The address of a block that is not none.
    #[inline]
    fn address(&self) -> *mut u8 {
        self.own.memory.address(self.own.side, self.block)
    }

    /// Lends the block through `out`; returns its pointer word.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`] if the block is of another connection; it is then freed there.
    #[inline(always)]
    fn lend(self, out: &mut Outgoing<'_>) -> Result<u64, CallError> {
        if !out.is_of(&self.own) {
            return Err(self.not_ours());
        }
        let this = ManuallyDrop::new(self);
        let word = out.lend(this.block);
        // SAFETY: `this` is never dropped and not used below, so `own` is moved out of it once. That drops the
        // reference to the memory without dropping the block.
        let _own = unsafe { core::ptr::read(&this.own) };
        word
    }
}

impl Block {
    /// The error for a block of another connection. Dropping `self` frees it.
    #[cold]
    #[inline(never)]
    fn not_ours(self) -> CallError {
        CallError::new(ErrorKind::BadPointer)
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        if self.is_none() {
            return;
        }
        if let Ok(arena) = self.own.memory.arena(self.own.side) {
            arena.drop_owned(self.block);
        }
    }
}

/// Bytes to send as a [`ForeignBuf`](crate::ForeignBuf).
///
/// It is in this side's arena and grows like a `Vec<u8>`, but each method that may allocate returns an error if the arena
/// is full. The receiver gets exactly the bytes up to the length. A capacity of 0 allocates no memory.
///
/// A buffer that exceeds its capacity doubles it, or grows by less if the arena has no more: in place if the memory behind it
/// is free, otherwise in a new block, to which the bytes are moved; the old ones are overwritten with zeros. What a buffer
/// that has grown does not use is freed when it is sent. Sending consumes the buffer, so memory that has been lent never
/// moves.
///
/// ```
/// use std::io::Write;
/// use vmffi::{SharedBuf, loopback::Loopback};
///
/// let pair = Loopback::new((), ())?;
/// let mut page = SharedBuf::new(pair.host());
/// page.extend_from_slice(b"<h1>")?;
/// write!(page, "{} of {}", 1, 2)?;
/// page.push(b'\n')?;
/// assert_eq!(page.as_slice(), b"<h1>1 of 2\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It belongs to the connection of the peer through which it was created: sending it on another connection fails with
/// [`ErrorKind::BadPointer`]. Sending it makes the receiver the owner of the loan; dropping it frees the memory. A
/// guest can read its host's arena, so it sees bytes as its host writes them, before the buffer is sent.
pub struct SharedBuf {
    block: Block,
    len: usize,
    /// At most the block's size; 0 without a block.
    capacity: usize,
    /// Whether the capacity was chosen by growth, and not by the user.
    grown: bool,
}

impl SharedBuf {
    /// An empty buffer without memory.
    #[must_use]
    pub fn new(peer: &impl Lender) -> Self {
        Self { block: Block::none(peer), len: 0, capacity: 0, grown: false }
    }

    /// An empty buffer with a capacity in bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    #[inline]
    pub fn with_capacity(peer: &impl Lender, capacity: usize) -> Result<Self, CallError> {
        let block = if capacity == 0 { Block::none(peer) } else { Block::new(peer, capacity)? };
        Ok(Self { block, len: 0, capacity, grown: false })
    }

    /// A buffer of `len` zero bytes, which [`as_mut_slice`](Self::as_mut_slice) can overwrite in place.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    #[inline]
    pub fn zeroed(peer: &impl Lender, len: usize) -> Result<Self, CallError> {
        let mut buf = Self::with_capacity(peer, len)?;
        if len != 0 {
            // SAFETY: the block was allocated with `len` bytes, and this buffer owns it.
            unsafe { buf.block.address().write_bytes(0, len) };
        }
        buf.len = len;
        Ok(buf)
    }

    /// A buffer with a copy of `bytes`, and a capacity of as many.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    #[inline]
    pub fn copy_from(peer: &impl Lender, bytes: &[u8]) -> Result<Self, CallError> {
        let mut buf = Self::with_capacity(peer, bytes.len())?;
        // SAFETY: the capacity is that of `bytes`, and the buffer is empty.
        unsafe { buf.append(bytes) };
        Ok(buf)
    }

    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if the buffer has to grow and cannot; it is then unchanged.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        self.reserve(bytes.len())?;
        // SAFETY: `reserve` has made room for them.
        unsafe { self.append(bytes) };
        Ok(())
    }

    /// Appends bytes for which there is room.
    ///
    /// # Safety
    ///
    /// The capacity is at least the length and `bytes.len()` together.
    #[inline]
    unsafe fn append(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            // SAFETY: `self.len` is at most the capacity, which is at most the block's size, and there is a block, since the
            // capacity is not 0.
            let to = unsafe { self.block.address().add(self.len) };
            // SAFETY: the caller promises room for `bytes.len()` bytes behind `to`. This buffer owns the block and is
            // borrowed mutably, so `bytes` does not overlap it.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        }
        self.len += bytes.len();
    }

    /// Appends a byte.
    ///
    /// # Errors
    ///
    /// As [`extend_from_slice`](Self::extend_from_slice).
    #[inline]
    pub fn push(&mut self, byte: u8) -> Result<(), CallError> {
        self.extend_from_slice(&[byte])
    }

    /// The length in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the length is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The capacity in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Removes all bytes. The capacity stays.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Truncates the buffer to `len` bytes, if it is longer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The bytes up to the length.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        if self.block.is_none() {
            return &[];
        }
        // SAFETY: every method that increases `len` has initialised the bytes below it. The block is owned and `self` is
        // borrowed, so nothing writes to it: page tables keep a guest from its host's arena, and a guest trusts its host
        // (ABI, O-5).
        unsafe { core::slice::from_raw_parts(self.block.address(), self.len) }
    }

    /// The bytes up to the length, mutably.
    #[must_use]
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        if self.block.is_none() {
            return &mut [];
        }
        // SAFETY: the bytes below `len` are initialised, as for `as_slice`. The block is owned and `self` is borrowed
        // mutably, so no other reference to the bytes exists.
        unsafe { core::slice::from_raw_parts_mut(self.block.address(), self.len) }
    }
}

impl SharedBuf {
    /// Lends the buffer through `out`; returns its pointer word and its length.
    #[inline(always)]
    pub(crate) fn lend(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        if self.len == 0 {
            return Ok(Transport::EMPTY);
        }
        if self.grown {
            self.block.shorten(self.len)?;
        }
        Ok(Transport { primary: self.block.lend(out)?, secondary: self.len as u64 })
    }
}

impl fmt::Debug for SharedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuf")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl fmt::Write for SharedBuf {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend_from_slice(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// Appends all bytes, or fails with [`std::io::ErrorKind::OutOfMemory`], whose source is the [`CallError`].
#[cfg(feature = "std")]
impl std::io::Write for SharedBuf {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let full = |error| std::io::Error::new(std::io::ErrorKind::OutOfMemory, error);
        self.extend_from_slice(bytes).map(|()| bytes.len()).map_err(full)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Text to send as a [`ForeignStr`](crate::ForeignStr): a [`SharedBuf`] whose bytes are UTF-8, and that grows as one. Its
/// [`fmt::Write`] fails, and appends nothing, if the arena is full.
pub struct SharedStr {
    pub(crate) bytes: SharedBuf,
}

impl SharedStr {
    /// An empty text without memory.
    #[must_use]
    pub fn new(peer: &impl Lender) -> Self {
        Self { bytes: SharedBuf::new(peer) }
    }

    /// An empty text with a capacity in bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    #[inline]
    pub fn with_capacity(peer: &impl Lender, capacity: usize) -> Result<Self, CallError> {
        SharedBuf::with_capacity(peer, capacity).map(|bytes| Self { bytes })
    }

    /// A copy of `text`, with a capacity of as many bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    #[inline]
    pub fn copy_from(peer: &impl Lender, text: &str) -> Result<Self, CallError> {
        SharedBuf::copy_from(peer, text.as_bytes()).map(|bytes| Self { bytes })
    }

    /// Appends text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if the text has to grow and cannot; it is then unchanged.
    pub fn push_str(&mut self, text: &str) -> Result<(), CallError> {
        self.bytes.extend_from_slice(text.as_bytes())
    }

    /// Appends a character.
    ///
    /// # Errors
    ///
    /// As [`push_str`](Self::push_str).
    pub fn push(&mut self, char: char) -> Result<(), CallError> {
        self.push_str(char.encode_utf8(&mut [0; 4]))
    }

    /// As [`SharedBuf::reserve`].
    ///
    /// # Errors
    ///
    /// As [`SharedBuf::reserve`].
    pub fn reserve(&mut self, additional: usize) -> Result<(), CallError> {
        self.bytes.reserve(additional)
    }

    /// Removes all text. The capacity stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len
    }

    /// Whether the length is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len == 0
    }

    /// The capacity in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // SAFETY: `bytes` is only ever extended by whole `&str`s, in `copy_from`, `push_str` and `write_str`, and never
        // truncated but to nothing, so it is UTF-8.
        unsafe { core::str::from_utf8_unchecked(self.bytes.as_slice()) }
    }
}

impl fmt::Debug for SharedStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStr").field("len", &self.bytes.len).finish_non_exhaustive()
    }
}

impl fmt::Write for SharedStr {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes.write_str(text)
    }
}

/// An array of plain values to send as a [`ForeignSlice<T>`](crate::ForeignSlice). Its ownership is that of a [`SharedBuf`].
pub struct SharedSlice<T: Plain> {
    pub(crate) bytes: SharedBuf,
    value: PhantomData<fn(T)>,
}

/// The wire forms of values, if those are their own bytes ([`ANY_BITS`](crate::FfiType::ANY_BITS)).
fn wire_forms<T: Plain>(values: &[T]) -> Option<&[u8]> {
    // SAFETY: the values are borrowed, and all of their bytes are initialised: `ANY_BITS` says that none is padding.
    T::ANY_BITS.then(|| unsafe {
        core::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values))
    })
}

impl<T: Plain> SharedSlice<T> {
    const SIZE: usize = {
        assert!(
            size_of::<T::Wire>() != 0,
            "a slice of a zero-sized type cannot be sent: its byte count would not give its length"
        );
        size_of::<T::Wire>()
    };

    /// The wire forms of `values`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    pub fn copy_from(peer: &impl Lender, values: &[T]) -> Result<Self, CallError> {
        if let Some(wire) = wire_forms(values) {
            return Ok(Self { bytes: SharedBuf::copy_from(peer, wire)?, value: PhantomData });
        }
        let len = values.len().saturating_mul(Self::SIZE);
        let mut bytes = SharedBuf::with_capacity(peer, len)?;
        if !values.is_empty() {
            let mut place = bytes.block.address();
            for value in values {
                // One at a time: the compiler leaves out the zeros that `write` overwrites.
                // SAFETY: the block was allocated with `SIZE` bytes for each value, and `bytes` owns it.
                unsafe { place.write_bytes(0, Self::SIZE) };
                // SAFETY: as above; the bytes are initialised.
                value.write(unsafe { core::slice::from_raw_parts_mut(place, Self::SIZE) });
                // SAFETY: at most the end of the block.
                place = unsafe { place.add(Self::SIZE) };
            }
        }
        bytes.len = len;
        Ok(Self { bytes, value: PhantomData })
    }

    /// The number of values.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len / Self::SIZE
    }

    /// Whether the length is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<T: Plain> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSlice").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A plain value to send as a [`Foreign<T>`](crate::Foreign). Its ownership is that of a [`SharedBuf`].
pub struct Shared<T: Plain> {
    block: Block,
    value: PhantomData<fn(T)>,
}

impl<T: Plain> Shared<T> {
    /// Writes the wire form of `value` to a new block of this side's arena.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    #[inline]
    pub fn new(peer: &impl Lender, value: T) -> Result<Self, CallError> {
        const { assert!(align_of::<T::Wire>() <= GRANULE_SIZE) };
        let mut local = Local::<T::Wire>::uninit();
        let wire = local.zeroed();
        value.write(wire);
        let block = Block::new(peer, wire.len())?;
        // SAFETY: the block was allocated with `wire.len()` bytes and is owned; `wire` is a local array.
        unsafe { core::ptr::copy_nonoverlapping(wire.as_ptr(), block.address(), wire.len()) };
        Ok(Self { block, value: PhantomData })
    }
}

impl<T: Plain> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl<T: Plain> Shared<T> {
    /// Lends the value through `out`; returns its pointer word.
    #[inline]
    pub(crate) fn lend(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        self.block.lend(out).map(Transport::word)
    }
}

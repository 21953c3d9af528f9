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

/// A block of this side's arena that this side owns.
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
        if let Ok(arena) = self.own.memory.arena(self.own.side) {
            arena.drop_owned(self.block);
        }
    }
}

/// Bytes to send as a [`ForeignBuf`](crate::ForeignBuf).
///
/// It is in this side's arena and has a fixed capacity and a length. The receiver gets exactly the bytes up to the
/// length. A capacity of 0 allocates no memory.
///
/// It belongs to the connection of the peer through which it was created: sending it on another connection fails with
/// [`ErrorKind::BadPointer`]. Sending it makes the receiver the owner of the loan; dropping it frees the memory. A
/// guest can read its host's arena, so it sees bytes as its host writes them, before the buffer is sent.
pub struct SharedBuf {
    block: Option<Block>,
    len: usize,
    capacity: usize,
}

impl SharedBuf {
    /// An empty buffer with a capacity in bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    #[inline]
    pub fn with_capacity(peer: &impl Lender, capacity: usize) -> Result<Self, CallError> {
        let block = if capacity == 0 { None } else { Some(Block::new(peer, capacity)?) };
        Ok(Self { block, len: 0, capacity })
    }

    /// A buffer of `len` zero bytes, which [`as_mut_slice`](Self::as_mut_slice) can overwrite in place.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    #[inline]
    pub fn zeroed(peer: &impl Lender, len: usize) -> Result<Self, CallError> {
        let mut buf = Self::with_capacity(peer, len)?;
        if let Some(block) = &buf.block {
            // SAFETY: the block was allocated with `len` bytes, and this buffer owns it.
            unsafe { block.address().write_bytes(0, len) };
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
        buf.extend_from_slice(bytes)?;
        Ok(buf)
    }

    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if they exceed the remaining capacity; the buffer is then unchanged.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        if bytes.len() > self.capacity - self.len {
            return Err(CallError::new(ErrorKind::OutOfMemory).at(0, bytes.len() as u64));
        }
        if let Some(block) = &self.block {
            // SAFETY: `self.len` is at most the capacity, with which the block was allocated.
            let to = unsafe { block.address().add(self.len) };
            // SAFETY: the check above leaves `bytes.len()` bytes of the block behind `to`. This buffer owns the block
            // and is borrowed mutably, so `bytes` does not overlap it.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        }
        self.len += bytes.len();
        Ok(())
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

    /// Truncates the buffer to `len` bytes, if it is longer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The bytes up to the length.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.block {
            // SAFETY: every method that increases `len` has initialised the bytes below it. The block is owned and
            // `self` is borrowed, so nothing writes to it: page tables keep a guest from its host's arena, and a guest
            // trusts its host (ABI, O-5).
            Some(block) => unsafe { core::slice::from_raw_parts(block.address(), self.len) },
            None => &[],
        }
    }

    /// The bytes up to the length, mutably.
    #[must_use]
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        match &self.block {
            // SAFETY: the bytes below `len` are initialised, as for `as_slice`. The block is owned and `self` is
            // borrowed mutably, so no other reference to the bytes exists.
            Some(block) => unsafe { core::slice::from_raw_parts_mut(block.address(), self.len) },
            None => &mut [],
        }
    }
}

impl SharedBuf {
    /// Lends the buffer through `out`; returns its pointer word and its length.
    #[inline(always)]
    pub(crate) fn lend(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        match self.block {
            Some(block) if self.len != 0 => {
                Ok(Transport { primary: block.lend(out)?, secondary: self.len as u64 })
            }
            _ => Ok(Transport::EMPTY),
        }
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

/// Writes up to the remaining capacity; `write` returns 0 if the buffer is full.
#[cfg(feature = "std")]
impl std::io::Write for SharedBuf {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let len = bytes.len().min(self.capacity - self.len);
        self.extend_from_slice(&bytes[..len]).map_err(std::io::Error::other)?;
        Ok(len)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Text to send as a [`ForeignStr`](crate::ForeignStr): a [`SharedBuf`] whose bytes are UTF-8. Its [`fmt::Write`] fails, and appends
/// nothing, if a text exceeds the remaining capacity.
pub struct SharedStr {
    pub(crate) bytes: SharedBuf,
}

impl SharedStr {
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
    /// [`ErrorKind::OutOfMemory`] if it exceeds the remaining capacity; the text is then unchanged.
    pub fn push_str(&mut self, text: &str) -> Result<(), CallError> {
        self.bytes.extend_from_slice(text.as_bytes())
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
        // truncated, so it is UTF-8.
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
        if T::ANY_BITS {
            let (at, len) = (values.as_ptr().cast(), size_of_val(values));
            // SAFETY: the values are borrowed, and all of their bytes are initialised: `ANY_BITS` says that none is padding.
            let wire = unsafe { core::slice::from_raw_parts(at, len) };
            return SharedBuf::copy_from(peer, wire)
                .map(|bytes| Self { bytes, value: PhantomData });
        }
        let full = CallError::new(ErrorKind::OutOfMemory);
        let len = values.len().checked_mul(Self::SIZE).ok_or(full)?;
        let mut bytes = SharedBuf::zeroed(peer, len)?;
        for (value, wire) in values.iter().zip(bytes.as_mut_slice().chunks_exact_mut(Self::SIZE)) {
            value.write(wire);
        }
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

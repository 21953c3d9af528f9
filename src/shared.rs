//! Memory of this side, made to be handed over: what a sender gives.
//!
//! A block is allocated in the sender's own arena, filled, and handed over by using it as an argument
//! or as a result. From then on it belongs to the receiver, who gives it back. One that was never
//! handed over is freed when it is dropped.

use core::{fmt, marker::PhantomData, mem::ManuallyDrop};

use crate::{
    abi::{Side, Transport},
    arena::{Allocated, GRANULE},
    error::{CallError, Why},
    foreign::{Foreign, ForeignBuf, ForeignSlice, ForeignStr},
    memory::Memory,
    owned::MemoryRef,
    peer::{Outgoing, Peer, alloc},
    wire::{FfiType, Local, Plain, SendAs},
};

/// A block of this side's arena that has not been handed over.
struct Block {
    memory: MemoryRef,
    block: Allocated,
    side: Side,
}

impl Block {
    #[inline]
    fn new(peer: &Peer, len: usize) -> Result<Self, CallError> {
        let block = alloc(peer, len)?;
        Ok(Self { memory: peer.memory().clone(), block, side: peer.side() })
    }

    #[inline]
    fn address(&self) -> *mut u8 {
        self.memory.address(self.side, self.block)
    }

    /// Hands the block over; returns its pointer word.
    #[inline(always)]
    fn lend(self, out: &mut Outgoing<'_>) -> Result<u64, CallError> {
        let ours: &Memory = &self.memory;
        let theirs: &Memory = out.peer().memory();
        if !core::ptr::eq(ours, theirs) || self.side != out.peer().side() {
            return Err(self.not_ours());
        }
        let this = ManuallyDrop::new(self);
        let word = out.lend(this.block);
        // SAFETY: `this` is never dropped, so the reference is read out of it once.
        let _memory = unsafe { core::ptr::read(&this.memory) };
        word
    }
}

impl Block {
    /// A block of another connection: it stays there, and is freed.
    #[cold]
    #[inline(never)]
    fn not_ours(self) -> CallError {
        CallError::new(Why::BadPointer)
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        if let Ok(arena) = self.memory.arena(self.side) {
            arena.drop_owned(self.block);
        }
    }
}

/// Bytes to hand over as a [`ForeignBuf`].
///
/// It has a fixed capacity, in this side's arena, and the length to which it has been filled; the
/// receiver sees exactly that many bytes. An empty one takes no memory.
///
/// It is made through the peer that it is for, and handed over as an argument or a result; on any other
/// connection that fails with [`Why::BadPointer`]. One that is dropped instead is freed. A guest can read
/// what its host writes here as it is written, not only when it has been handed over.
pub struct SharedBuf {
    block: Option<Block>,
    len: usize,
    capacity: usize,
}

impl SharedBuf {
    /// An empty buffer with room for `capacity` bytes.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where this side's arena has no such block left.
    #[inline]
    pub fn with_capacity(peer: &Peer, capacity: usize) -> Result<Self, CallError> {
        let block = if capacity == 0 { None } else { Some(Block::new(peer, capacity)?) };
        Ok(Self { block, len: 0, capacity })
    }

    /// A buffer of `len` zeros, to be filled in place ([`as_mut_slice`](Self::as_mut_slice)).
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where this side's arena has no such block left.
    #[inline]
    pub fn zeroed(peer: &Peer, len: usize) -> Result<Self, CallError> {
        let mut buf = Self::with_capacity(peer, len)?;
        if let Some(block) = &buf.block {
            // SAFETY: the block has room for `len` bytes, and nobody else has it.
            unsafe { block.address().write_bytes(0, len) };
        }
        buf.len = len;
        Ok(buf)
    }

    /// A copy of some bytes.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where this side's arena has no such block left.
    #[inline]
    pub fn copied(peer: &Peer, bytes: &[u8]) -> Result<Self, CallError> {
        let mut buf = Self::with_capacity(peer, bytes.len())?;
        buf.append(bytes)?;
        Ok(buf)
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where there is no room for all of them; then nothing is added.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        if bytes.len() > self.capacity - self.len {
            return Err(CallError::new(Why::OutOfMemory).at(0, bytes.len() as u64));
        }
        if let Some(block) = &self.block {
            // SAFETY: `len` is within the block.
            let to = unsafe { block.address().add(self.len) };
            // SAFETY: the block has room for as many, and nobody else has it.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        }
        self.len += bytes.len();
        Ok(())
    }

    /// The number of bytes that are filled.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of bytes that there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Shortens the buffer to `len` bytes, if it is longer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The bytes that are filled.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.block {
            // SAFETY: `len` bytes of the block are initialised, and it was not handed over, so that
            // its owner alone writes to it.
            Some(block) => unsafe { core::slice::from_raw_parts(block.address(), self.len) },
            None => &[],
        }
    }

    /// The bytes that are filled, to be changed.
    #[must_use]
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        match &self.block {
            // SAFETY: as above, and the owner is borrowed mutably.
            Some(block) => unsafe { core::slice::from_raw_parts_mut(block.address(), self.len) },
            None => &mut [],
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
        self.append(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// Writes as much as there is room for; where there is none left, `write` returns 0.
#[cfg(feature = "std")]
impl std::io::Write for SharedBuf {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let len = bytes.len().min(self.capacity - self.len);
        self.append(&bytes[..len]).map_err(std::io::Error::other)?;
        Ok(len)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Text to hand over as a [`ForeignStr`]: a [`SharedBuf`] that holds nothing but whole characters. Both
/// implement [`fmt::Write`], and fail where there is no room for all of a text.
pub struct SharedStr {
    bytes: SharedBuf,
}

impl SharedStr {
    /// An empty text with room for `capacity` bytes.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where this side's arena has no such block left.
    #[inline]
    pub fn with_capacity(peer: &Peer, capacity: usize) -> Result<Self, CallError> {
        SharedBuf::with_capacity(peer, capacity).map(|bytes| Self { bytes })
    }

    /// A copy of a text.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where this side's arena has no such block left.
    #[inline]
    pub fn copied(peer: &Peer, text: &str) -> Result<Self, CallError> {
        SharedBuf::copied(peer, text.as_bytes()).map(|bytes| Self { bytes })
    }

    /// Adds text at the end.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where there is no room for all of it; then nothing is added.
    pub fn append(&mut self, text: &str) -> Result<(), CallError> {
        self.bytes.append(text.as_bytes())
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len == 0
    }

    /// The number of bytes that there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // SAFETY: only whole texts are ever added.
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

/// Plain values, one behind the other, to hand over as a [`ForeignSlice<T>`](ForeignSlice). For whose it
/// is, see [`SharedBuf`].
pub struct SharedSlice<T: Plain> {
    bytes: SharedBuf,
    value: PhantomData<fn(T)>,
}

impl<T: Plain> SharedSlice<T> {
    const SIZE: usize = {
        assert!(size_of::<T::Wire>() != 0, "a slice of values without bytes has no length");
        size_of::<T::Wire>()
    };

    /// The wire forms of some values.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where this side's arena has no such block left.
    pub fn copied(peer: &Peer, values: &[T]) -> Result<Self, CallError> {
        let full = CallError::new(Why::OutOfMemory);
        let len = values.len().checked_mul(Self::SIZE).ok_or(full)?;
        let mut bytes = SharedBuf::zeroed(peer, len)?;
        T::write_all(values, bytes.as_mut_slice());
        Ok(Self { bytes, value: PhantomData })
    }

    /// The number of values.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len / Self::SIZE
    }

    /// Whether there are none.
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

/// A plain value to hand over as a [`Foreign<T>`](Foreign). For whose it is, see [`SharedBuf`].
pub struct Shared<T: Plain> {
    block: Block,
    value: PhantomData<fn(T)>,
}

impl<T: Plain> Shared<T> {
    /// Puts a value into this side's arena.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`] where this side's arena has no such block left.
    #[inline]
    pub fn new(peer: &Peer, value: T) -> Result<Self, CallError> {
        const { assert!(align_of::<T::Wire>() <= GRANULE) };
        let mut local = Local::<T::Wire>::uninit();
        let wire = local.zeroed();
        value.write(wire);
        let block = Block::new(peer, wire.len())?;
        // SAFETY: the block has room for a wire form, and nobody else has it.
        unsafe { core::ptr::copy_nonoverlapping(wire.as_ptr(), block.address(), wire.len()) };
        Ok(Self { block, value: PhantomData })
    }
}

impl<T: Plain> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

// SAFETY: `Block::lend` makes the word, through `out`, and consumes the block.
unsafe impl<T: Plain> SendAs<Foreign<T>> for Shared<T> {
    #[inline]
    fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        self.into_transport(out)?.primary.write(wire);
        Ok(())
    }

    #[inline]
    fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        self.block.lend(out).map(Transport::word)
    }
}

/// What is sent as a buffer: `$sent` lends it.
macro_rules! as_buffer {
    ($([$($generics:tt)*] $from:ty => $t:ty: $sent:expr;)*) => { $(
        // SAFETY: `$sent` lends through `out`, and its transport is handed over as it is.
        unsafe impl<$($generics)*> SendAs<$t> for $from {
            #[inline]
            fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
                encode_buffer($sent(self, out)?, wire);
                Ok(())
            }

            #[inline(always)]
            fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                $sent(self, out)
            }
        }
    )* };
}

/// The wire form of a buffer.
#[inline]
fn encode_buffer(transport: Transport, wire: &mut [u8]) {
    let (word, len) = wire.split_at_mut(8);
    transport.primary.write(word);
    transport.secondary.write(len);
}

/// The bytes of any of these are copied.
#[inline]
fn copied(bytes: impl AsRef<[u8]>, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
    out.lend_bytes(bytes.as_ref())
}

fn slice<T: Plain>(values: &[T], out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
    lend(SharedSlice::copied(out.peer(), values)?.bytes, out)
}

#[inline(always)]
fn lend(buf: SharedBuf, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
    match buf.block {
        Some(block) if buf.len != 0 => {
            Ok(Transport { primary: block.lend(out)?, secondary: buf.len as u64 })
        }
        _ => Ok(Transport::EMPTY),
    }
}

as_buffer! {
    [] SharedBuf => ForeignBuf: lend;
    [] &[u8] => ForeignBuf: copied;
    [const N: usize] &[u8; N] => ForeignBuf: copied;
    [] SharedStr => ForeignStr: |text: SharedStr, out| lend(text.bytes, out);
    [] &str => ForeignStr: copied;
    [T: Plain] SharedSlice<T> => ForeignSlice<T>: |slice: SharedSlice<T>, out| lend(slice.bytes, out);
    [T: Plain] &[T] => ForeignSlice<T>: slice;
    [T: Plain, const N: usize] &[T; N] => ForeignSlice<T>: |values: &[T; N], out| slice(values, out);
}

#[cfg(feature = "alloc")]
as_buffer! {
    [] &alloc::vec::Vec<u8> => ForeignBuf: copied;
    [] &alloc::string::String => ForeignStr: copied;
    [T: Plain] &alloc::vec::Vec<T> => ForeignSlice<T>: |values: &alloc::vec::Vec<T>, out| slice(values, out);
}

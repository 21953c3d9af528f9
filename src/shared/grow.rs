//! The growth of values that are not sent yet: in place, or by moving them to a larger block.

use super::{Block, SharedBuf, SharedSlice, wire_forms};
use crate::{
    error::CallError,
    memory::{GRANULE_SIZE, Lender, SideMemory, alloc, arena},
    types::Plain,
};

impl Block {
    /// Makes the block at least `want` bytes long, of which the first `len` are kept. On an error it is unchanged.
    fn grow(&mut self, len: usize, want: usize) -> Result<(), CallError> {
        if !self.is_none()
            && self.own.memory.arena(self.own.side)?.extend(self.block, arena::granules(want))
        {
            return Ok(());
        }
        let own: &SideMemory = &self.own;
        let new = Self { block: alloc(own, want)?, own: own.clone() };
        if len != 0 {
            // SAFETY: both blocks are owned, so they do not overlap. `len` bytes of the old one are initialised, and the
            // new one is larger.
            unsafe { core::ptr::copy_nonoverlapping(self.address(), new.address(), len) };
            // SAFETY: the old block has at least `len` bytes and is still owned. Nothing reads it before it is reused, but
            // the peer can read all of this side's arena.
            unsafe { self.address().write_bytes(0, len) };
        }
        *self = new;
        Ok(())
    }

    /// Frees the memory behind the first `len` bytes, at least one, so that it is not lent.
    #[cold]
    pub(super) fn shorten(&self, len: usize) -> Result<(), CallError> {
        self.own.memory.arena(self.own.side)?.shorten(self.block, arena::granules(len));
        Ok(())
    }
}

impl SharedBuf {
    /// Makes room for at least `additional` bytes beyond the length. If the buffer has to grow, its capacity at least
    /// doubles, unless the arena has only room for less.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if this side's arena has no room; the buffer is then
    /// unchanged.
    #[inline]
    pub fn reserve(&mut self, additional: usize) -> Result<(), CallError> {
        if additional <= self.capacity - self.len { Ok(()) } else { self.grow(additional) }
    }

    #[cold]
    fn grow(&mut self, additional: usize) -> Result<(), CallError> {
        let least = self.len.saturating_add(additional);
        // A granule belongs to one block, so all of the last one can be used.
        let whole = |len: usize| len.checked_next_multiple_of(GRANULE_SIZE).unwrap_or(len);
        let least = whole(least);
        // Half as much more each time, so that the buffer grows seldom also where the arena is almost full.
        let mut more = self.capacity;
        loop {
            let want = least.max(whole(self.capacity.saturating_add(more)));
            match self.block.grow(self.len, want) {
                Ok(()) => {
                    (self.capacity, self.grown) = (want, true);
                    return Ok(());
                }
                Err(error) if want == least => return Err(error),
                Err(_) => more /= 2,
            }
        }
    }
}

impl<T: Plain> SharedSlice<T> {
    /// An empty slice without memory, which grows like a `Vec<T>`.
    ///
    /// ```
    /// use vmffi::{SharedSlice, loopback::Loopback};
    ///
    /// let pair = Loopback::new((), ())?;
    /// let mut primes = SharedSlice::new(pair.host());
    /// primes.extend_from_slice(&[2_u32, 3, 5])?;
    /// primes.push(7)?;
    /// assert_eq!(primes.len(), 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(peer: &impl Lender) -> Self {
        Self { bytes: SharedBuf::new(peer), value: core::marker::PhantomData }
    }

    /// An empty slice with room for `capacity` values.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if this side's arena has no free block of this size.
    pub fn with_capacity(peer: &impl Lender, capacity: usize) -> Result<Self, CallError> {
        let bytes = SharedBuf::with_capacity(peer, capacity.saturating_mul(Self::SIZE))?;
        Ok(Self { bytes, value: core::marker::PhantomData })
    }

    /// How many values fit without growing.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity / Self::SIZE
    }

    /// Makes room for at least `additional` values beyond the length, as [`SharedBuf::reserve`].
    ///
    /// # Errors
    ///
    /// As [`SharedBuf::reserve`].
    pub fn reserve(&mut self, additional: usize) -> Result<(), CallError> {
        self.bytes.reserve(additional.saturating_mul(Self::SIZE))
    }

    /// Appends a value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if the slice has to grow and cannot; it is then
    /// unchanged.
    pub fn push(&mut self, value: T) -> Result<(), CallError> {
        value.write(self.bytes.extend_zeroed(Self::SIZE)?);
        Ok(())
    }

    /// Appends values.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn extend_from_slice(&mut self, values: &[T]) -> Result<(), CallError> {
        let len = values.len().saturating_mul(Self::SIZE);
        if let Some(wire) = wire_forms(values) {
            return self.bytes.extend_from_slice(wire);
        }
        let wire = self.bytes.extend_zeroed(len)?;
        for (value, wire) in values.iter().zip(wire.chunks_exact_mut(Self::SIZE)) {
            value.write(wire);
        }
        Ok(())
    }
}

impl SharedBuf {
    /// Appends `len` zero bytes and returns them.
    pub(crate) fn extend_zeroed(&mut self, len: usize) -> Result<&mut [u8], CallError> {
        self.reserve(len)?;
        let old = self.len;
        if len != 0 {
            // SAFETY: `reserve` has made room for `len` bytes behind the length, in a block that this buffer owns.
            let to = unsafe { self.block.address().add(old) };
            // SAFETY: the same `len` bytes are valid for writes.
            unsafe { to.write_bytes(0, len) };
        }
        self.len += len;
        Ok(&mut self.as_mut_slice()[old..])
    }
}

//! Values of a batch in this side's arena, one behind the other.

use crate::{
    abi::batch::Entry,
    call::Peer,
    error::CallError,
    memory::{GRANULE_SIZE, Lender as _, SideMemory, alloc, arena::Allocated},
};

/// Values in a block that only this side writes: page tables keep a guest from its host's arena, and a guest trusts its host
/// (ABI, O-5).
pub(super) struct InArena<'p, T> {
    own: &'p SideMemory,
    block: Allocated,
    /// The address of the block, where the first `len` values are initialised, and there is room for `room`.
    at: *mut T,
    len: usize,
    room: usize,
}

impl<'p, T: Copy> InArena<'p, T> {
    pub(super) fn new(peer: &'p Peer) -> Self {
        const { assert!(align_of::<T>() <= GRANULE_SIZE && size_of::<T>() != 0) };
        let (own, at) = (peer.own(), core::ptr::null_mut());
        Self { own, block: Allocated::NONE, at, len: 0, room: 0 }
    }

    /// Makes room for another value.
    #[inline]
    pub(super) fn reserve(&mut self) -> Result<(), CallError> {
        if self.len < self.room { Ok(()) } else { self.grow() }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> Result<(), CallError> {
        let size = size_of::<T>();
        let bytes = |values: usize| (values * size).next_multiple_of(GRANULE_SIZE);
        // Room for 64 values at first, then twice as much; a granule more if the arena has no room for that.
        let more = bytes((self.room * 2).max(64));
        let least = bytes(self.room + 1);
        let (block, bytes) = match alloc(self.own, more) {
            Ok(block) => (block, more),
            Err(_) => (alloc(self.own, least)?, least),
        };
        let at = self.own.memory.address(self.own.side, block).cast::<T>();
        if self.len != 0 {
            // SAFETY: both blocks are owned, so they do not overlap; the old one has `len` values, and the new one is larger.
            unsafe { core::ptr::copy_nonoverlapping(self.at, at, self.len) };
        }
        self.free();
        (self.block, self.at, self.room) = (block, at, bytes / size);
        Ok(())
    }

    /// Appends a value. If there is no room for it, which [`reserve`](Self::reserve) makes, this does nothing.
    #[inline]
    pub(super) fn push(&mut self, value: T) {
        if self.len < self.room {
            // SAFETY: the block has room for `room` values, is owned, and is aligned to a granule.
            unsafe { self.at.add(self.len).write(value) };
            self.len += 1;
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    #[inline]
    pub(super) fn get(&self, nr: usize) -> Option<T> {
        // SAFETY: the first `len` values of the block are initialised, and nothing writes to them meanwhile.
        (nr < self.len).then(|| unsafe { self.at.add(nr).read() })
    }

    /// Replaces a value.
    #[inline]
    pub(super) fn set(&mut self, nr: usize, value: T) {
        if nr < self.len {
            // SAFETY: the block has more values than `nr`, and is owned.
            unsafe { self.at.add(nr).write(value) };
        }
    }

    /// A number of the block, which no other block has meanwhile, and the next ones at its place have not either.
    pub(super) fn id(&self) -> u64 {
        u64::from(self.block.index) | u64::from(self.block.serial) << 32
    }
}

impl InArena<'_, [u64; 3]> {
    /// The offset of the values in the region, if there are any.
    pub(super) fn offset(&self) -> u64 {
        self.own.memory.offset(self.own.side, self.block)
    }

    /// The bytes of all values.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: the block has `len` values, which are integers, so that any bytes are values. It is owned, and `self` is
        // borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.at.cast::<u8>(), self.len * Entry::LEN) }
    }
}

impl<T> InArena<'_, T> {
    /// Frees the block, if there is one.
    fn free(&self) {
        if let (true, Ok(arena)) = (self.room != 0, self.own.memory.arena(self.own.side)) {
            arena.drop_owned(self.block);
        }
    }
}

impl<T> Drop for InArena<'_, T> {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::*;
    use crate::loopback::Loopback;

    /// The block grows several times, and each value is what it was; also a pointer to a function.
    #[test]
    fn values_are_kept_while_the_block_grows() {
        let pair = Loopback::new((), ()).unwrap();
        let functions: [fn(u64) -> u64; 2] = [|nr| nr + 1, |nr| nr * 2];
        let value = |nr: u64| (nr, functions[nr as usize % 2]);
        let mut values = InArena::new(pair.host());
        assert!(values.get(0).is_none());
        for nr in 0..1000 {
            values.reserve().unwrap();
            values.push(value(nr));
        }
        for nr in (0..1000).step_by(7) {
            values.set(nr as usize, value(nr + 2));
        }
        assert_eq!(values.len(), 1000);
        for nr in 0..1000 {
            let (is, function) = values.get(nr as usize).unwrap();
            assert_eq!(is, if nr % 7 == 0 { nr + 2 } else { nr });
            assert_eq!(function(is), if nr % 2 == 0 { is + 1 } else { is * 2 });
        }
        assert!(values.get(1000).is_none() && values.get(usize::MAX).is_none());
        values.truncate(3);
        assert!(values.get(2).is_some() && values.get(3).is_none());
        drop(values);
        assert_eq!(pair.host().arena_stats().blocks, 0);
    }

    /// A full arena has room for a granule more, and then for nothing.
    #[test]
    fn an_arena_that_is_full() {
        let pair = Loopback::builder().arenas(4096, 4096).build((), ()).unwrap();
        let mut values = InArena::new(pair.host());
        while values.reserve().is_ok() {
            values.push(values.len());
        }
        assert!(values.len() > 4096 / 8 / 3, "{} values", values.len());
        values.push(0);
        assert!((0..values.len()).all(|nr| values.get(nr) == Some(nr)));
        drop(values);
        assert_eq!(pair.host().arena_stats().blocks, 0);
    }
}

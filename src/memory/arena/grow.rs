//! Blocks that are extended or shortened in their place, and what is short if there is no block.

use core::ops::Deref;

use super::{Allocated, Arena, FREE, GRANULE_SIZE, KIND, Slot, get, granules};
use crate::error::Detail;

impl<B: Deref<Target = [Slot]>> Arena<B> {
    /// Extends an owned block in its place to `len` granules, if the granules behind it are free or finished and no limit
    /// is exceeded. Otherwise the block is unchanged.
    pub(crate) fn extend(&self, block: Allocated, len: u32) -> bool {
        let mut lists = self.lists.lock();
        let lists = &mut *lists;
        let has = get(&self.slot(block.index).len);
        if len <= has {
            return true;
        }
        let (more, next) = (len - has, block.index + has);
        if more > self.most.1.saturating_sub(lists.granules) || next as usize >= self.metadata.len()
        {
            return false;
        }
        if self.finished(next) {
            if lists.rover == next {
                lists.rover = get(&self.slot(next).next);
            }
            self.retire(lists, next);
        }
        let slot = self.slot(next);
        let free = get(&slot.len);
        if get(&slot.state) & KIND != FREE || free < more {
            return false;
        }
        self.pull(lists, next);
        self.measure(block.index, len);
        if free > more {
            self.measure(next + more, free - more);
            self.put(lists, next + more);
        }
        lists.granules += more;
        lists.used_end = lists.used_end.max(next + more);
        true
    }

    /// Shortens an owned block to `len` granules, at least one, and frees those behind them.
    pub(crate) fn shorten(&self, block: Allocated, len: u32) {
        let mut lists = self.lists.lock();
        let has = get(&self.slot(block.index).len);
        if len < has {
            let rest = block.index + len;
            self.measure(block.index, len);
            self.measure(rest, has - len);
            lists.granules -= has - len;
            self.free(&mut lists, rest);
        }
    }

    /// Why an allocation of `len` bytes has failed, and the size in bytes of what is too small.
    pub(crate) fn shortage(&self, len: usize) -> (Detail, u64) {
        let lists = self.lists.lock();
        let (blocks, most) = self.most;
        if len <= self.metadata.len() * GRANULE_SIZE
            && (lists.blocks >= blocks || granules(len) > most.saturating_sub(lists.granules))
        {
            return (Detail::Limit, 0);
        }
        (Detail::Arena, (self.metadata.len() * GRANULE_SIZE) as u64)
    }
}

//! Loans that outlast resets, since a checkpoint of the peer holds them (ABI, A-11).

use core::ops::Deref;

#[cfg(feature = "std")]
use alloc::{boxed::Box, vec::Vec};

use super::{Arena, DELIVERED, DONE, KEPT, KIND, LENT, NIL, Slot, get, set};
use crate::memory::sync::Ordering;

/// A block that the peer holds at its checkpoint, for an arena that begins with it.
#[cfg(feature = "std")]
#[derive(Debug)]
pub(crate) struct KeptBlock {
    pub(crate) index: u32,
    pub(crate) granules: u32,
    /// The serial number of the loan.
    serial: u32,
    /// All bytes of the block.
    pub(crate) bytes: Box<[u8]>,
}

impl<B: Deref<Target = [Slot]>> Arena<B> {
    /// Keeps every loan that the peer holds now in all later lives, since a checkpoint of the peer holds it (ABI, A-11).
    /// Loans that an earlier checkpoint held are kept on, unless the peer has released them since.
    pub(crate) fn keep_loans(&self) {
        let lists = self.lists.lock();
        let delivered = get(&self.life) | DELIVERED;
        let mut at = lists.used;
        while at != NIL {
            let slot = self.slot(at);
            let state = get(&slot.state);
            if state & KIND == LENT {
                let released = self.release_mark(at).load(Ordering::Acquire) == state as u8;
                match get(&slot.life) {
                    KEPT if released => slot.state.store(state | DONE, Ordering::Release),
                    life if life == delivered && !released => set(&slot.life, KEPT),
                    _ => {}
                }
            }
            at = get(&slot.next);
        }
    }

    /// Ends all kept loans, since no later life begins with that checkpoint.
    pub(crate) fn end_kept(&self) {
        let lists = self.lists.lock();
        let mut at = lists.used;
        while at != NIL {
            let slot = self.slot(at);
            let state = get(&slot.state);
            if state & KIND == LENT && get(&slot.life) == KEPT {
                slot.state.store(state | DONE, Ordering::Release);
            }
            at = get(&slot.next);
        }
    }
}

#[cfg(feature = "std")]
impl<B: Deref<Target = [Slot]>> Arena<B> {
    /// The blocks that are kept. `copy` returns all bytes of the block with an index and a number of granules, or `None`
    /// if there is no memory for them; then this returns `None`. Nothing else keeps or releases blocks meanwhile.
    pub(crate) fn kept(
        &self,
        mut copy: impl FnMut(u32, u32) -> Option<Box<[u8]>>,
    ) -> Option<Vec<KeptBlock>> {
        let mut kept = Vec::new();
        let count = self.each_kept(|_, _| ());
        kept.try_reserve_exact(count).ok()?;
        self.each_kept(|index, serial| {
            if kept.len() < count {
                let granules = get(&self.slot(index).len);
                kept.push(KeptBlock { index, granules, serial, bytes: Box::default() });
            }
        });
        for block in &mut kept {
            block.bytes = copy(block.index, block.granules)?;
        }
        kept.sort_unstable_by_key(|block| block.index);
        Some(kept)
    }

    /// Calls `each` with the index and the serial number of each kept block; returns how many there are.
    fn each_kept(&self, mut each: impl FnMut(u32, u32)) -> usize {
        let lists = self.lists.lock();
        let (mut at, mut count) = (lists.used, 0);
        while at != NIL {
            let slot = self.slot(at);
            let state = get(&slot.state);
            if state & KIND == LENT && get(&slot.life) == KEPT {
                each(at, state & !KIND);
                count += 1;
            }
            at = get(&slot.next);
        }
        count
    }

    /// Makes blocks, sorted by index, kept loans of this arena, in which nothing was allocated before.
    pub(crate) fn adopt(&self, kept: &[KeptBlock]) {
        let mut lists = self.lists.lock();
        let lists = &mut *lists;
        // The free block behind the last kept one.
        let mut rest = 0;
        for block in kept {
            let end = block.index + block.granules;
            let whole_end = rest + get(&self.slot(rest).len);
            assert!(rest <= block.index && end <= whole_end, "the blocks do not fit the arena");
            self.pull(lists, rest);
            if rest < block.index {
                self.measure(rest, block.index - rest);
                self.put(lists, rest);
            }
            self.measure(block.index, block.granules);
            let slot = self.slot(block.index);
            set(&slot.life, KEPT);
            slot.state.store(LENT | block.serial, Ordering::Release);
            let head = lists.used;
            self.push(&mut lists.used, block.index, head);
            lists.blocks += 1;
            lists.granules += block.granules;
            lists.used_end = end;
            if end == whole_end {
                // Nothing is left, so there is no further block.
                rest = end.min(self.metadata.len() as u32 - 1);
                continue;
            }
            self.measure(end, whole_end - end);
            self.put(lists, end);
            rest = end;
        }
    }
}

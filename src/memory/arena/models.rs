//! The arena under loom, which runs its code in every interleaving that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib models`. A `loom::cell::UnsafeCell` stands for
//! the bytes of a block; loom fails the test if two conflicting accesses to it are not ordered.
//!
//! Two lock-free atomics of the crate have no model, because no other data depends on their ordering: the flag of
//! `GuestStorage` is swapped, so that one caller gets `false`; and a reader that finds a host's exit flag set takes its
//! lock before it reads the exit.

use loom::{
    model::Builder,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use crate::memory::sync::UnsafeCell;

use super::*;

/// Runs a model. `bound` limits the preemptions per execution; interleavings that need more are not explored.
fn model(bound: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 10_000;
    builder.check(run);
}

/// An arena, its release map, and the contents of its granules.
struct World {
    arena: Arena<Box<[Slot]>>,
    marks: Box<[AtomicU8]>,
    bytes: Box<[UnsafeCell<u32>]>,
}

impl World {
    fn new(granules: usize) -> Arc<Self> {
        let metadata: Box<[Slot]> = (0..granules).map(|_| Slot::default()).collect();
        let marks: Box<[AtomicU8]> = (0..granules).map(|_| AtomicU8::new(0)).collect();
        let bytes = (0..granules).map(|_| UnsafeCell::new(0)).collect();
        // SAFETY: `marks` has as many bytes as `metadata` has slots, is on the heap, and is stored beside the arena.
        let arena = unsafe { Arena::new(metadata, marks.as_ptr()) };
        Arc::new(Self { arena, marks, bytes })
    }

    /// A block of one granule.
    fn alloc(&self) -> Option<Allocated> {
        self.arena.alloc(GRANULE_SIZE)
    }

    /// The owner writes to a block that it owns.
    fn fill(&self, block: Allocated, value: u32) {
        // SAFETY: loom fails the test if another access to the cell is concurrent.
        self.bytes[block.index as usize].with_mut(|bytes| unsafe { bytes.write(value) });
    }

    /// The receiver reads a loan.
    fn read(&self, block: Allocated) -> u32 {
        // SAFETY: loom fails the test if a write to the cell is concurrent.
        self.bytes[block.index as usize].with(|bytes| unsafe { bytes.read() })
    }

    fn lend(&self, block: Allocated) {
        self.arena.lend(block, Allocated::NONE, true);
    }

    fn release(&self, block: Allocated) {
        release(&self.marks[block.index as usize], block.loan());
    }

    fn blocks(&self) -> usize {
        self.arena.stats().blocks
    }

    /// Asserts that no block is in use, and that all memory is one free block that no thread accesses.
    fn assert_whole(&self) {
        assert_eq!(self.blocks(), 0);
        let all =
            self.arena.alloc(self.marks.len() * GRANULE_SIZE).expect("all memory as one block");
        for index in 0..self.marks.len() as u32 {
            self.fill(Allocated { index, ..all }, 0);
        }
        self.arena.drop_owned(all);
        assert_eq!(self.blocks(), 0);
    }
}

/// A receiver on another thread, which reads the loan and releases it.
fn receiver(world: &Arc<World>, block: Allocated, value: u32) -> JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || {
        assert_eq!(world.read(block), value);
        world.release(block);
    })
}

/// ABI, M-2 and M-3: the reads of a receiver before its mark happen before the owner's next write, in the block's first
/// loan and in its second.
#[test]
fn a_block_is_written_again_after_it_was_read() {
    model(None, || {
        let world = World::new(1);
        let mut receivers = Vec::new();
        for value in [7, 8, 9] {
            // If the release mark is not visible yet, waits for the receiver.
            let block = world.alloc().or_else(|| {
                receivers.drain(..).for_each(|receiver: JoinHandle<()>| receiver.join().unwrap());
                world.alloc()
            });
            let block = block.expect("the only block, released");
            world.fill(block, value);
            if value == 9 {
                world.arena.drop_owned(block);
            } else {
                world.lend(block);
                receivers.push(receiver(&world, block, value));
            }
        }
        receivers.into_iter().for_each(|receiver| receiver.join().unwrap());
        world.assert_whole();
    });
}

/// A block is dropped by a thread to which it was moved: another thread's writes to it happen after that.
#[test]
fn a_block_is_dropped_on_another_thread() {
    model(None, || {
        let world = World::new(1);
        let block = world.alloc().expect("room");
        let owner = {
            let world = world.clone();
            thread::spawn(move || {
                world.fill(block, 1);
                world.arena.drop_owned(block);
            })
        };
        if let Some(block) = world.alloc() {
            world.fill(block, 2);
            world.lend(block);
            world.release(block);
        }
        owner.join().unwrap();
        world.assert_whole();
    });
}

/// ABI, A-4 and M-5: a late or repeated mark does not end the next loan of its block.
#[test]
fn a_late_mark_ends_no_other_loan() {
    model(None, || {
        let world = World::new(1);
        let first = world.alloc().expect("room");
        world.lend(first);
        let peer = {
            let world = world.clone();
            thread::spawn(move || {
                world.release(first);
                world.release(first);
            })
        };
        let second = world.alloc();
        if let Some(second) = second {
            world.lend(second);
            assert!(world.alloc().is_none(), "not released");
        }
        peer.join().unwrap();
        if let Some(second) = second {
            assert!(world.alloc().is_none(), "not released");
            world.release(second);
        }
        world.assert_whole();
    });
}

/// Two threads allocate, write and lend in a small arena, and a receiver reads and releases: no block is allocated
/// twice, and none is lost.
#[test]
fn two_owners_and_a_receiver() {
    model(Some(2), || {
        let world = World::new(2);
        let (sender, loans) = mpsc::channel::<Option<(Allocated, u32)>>();
        let owner = |values: &'static [u32]| {
            let (world, sender) = (world.clone(), sender.clone());
            move || {
                for &value in values {
                    if let Some(block) = world.alloc() {
                        world.fill(block, value);
                        world.lend(block);
                        sender.send(Some((block, value))).unwrap();
                    }
                }
                sender.send(None).unwrap();
            }
        };
        let (first, second) = (owner(&[1, 2]), owner(&[3]));
        let receiver = {
            let world = world.clone();
            thread::spawn(move || {
                let mut owners = 2;
                while owners > 0 {
                    let Some((block, value)) = loans.recv().unwrap() else {
                        owners -= 1;
                        continue;
                    };
                    assert_eq!(world.read(block), value);
                    world.release(block);
                }
            })
        };
        let other = thread::spawn(second);
        first();
        other.join().unwrap();
        receiver.join().unwrap();
        world.assert_whole();
    });
}

/// ABI, S-4: a call fails after its callee has released its loans, and takes them back, while another thread makes a
/// call with the same blocks: the loans of that call last.
#[test]
fn a_failed_call_takes_back_its_own_loans() {
    model(Some(3), || {
        let world = World::new(2);
        let call = |values: [u32; 2]| {
            let mut latest = Allocated::NONE;
            let mut loans = Vec::new();
            for value in values {
                let Some(block) = world.alloc() else { break };
                world.fill(block, value);
                world.arena.lend(block, latest, true);
                latest = block;
                loans.push((block, value));
            }
            loans
        };
        let failed = call([1, 2]);
        let other = {
            let world = world.clone();
            thread::spawn(move || {
                // The callee, on the thread of the call.
                failed.iter().for_each(|(block, value)| {
                    assert_eq!(world.read(*block), *value);
                    world.release(*block);
                });
                world.arena.take_back(failed[1].0, 2);
            })
        };
        let loans = call([3, 4]);
        other.join().unwrap();
        assert_eq!(world.blocks(), loans.len());
        for (block, value) in loans {
            assert_eq!(world.read(block), value);
            world.release(block);
        }
        world.assert_whole();
    });
}

/// All loans end while another thread allocates and lends, and while the peer writes its last mark: blocks lent before
/// become free, owned blocks stay owned, and no block is lost.
#[test]
fn a_peer_is_given_up() {
    model(Some(3), || {
        let world = World::new(2);
        let marked = world.alloc().expect("room");
        world.fill(marked, 1);
        world.lend(marked);
        let peer = {
            let world = world.clone();
            thread::spawn(move || world.release(marked))
        };
        let owner = {
            let world = world.clone();
            thread::spawn(move || {
                let lent = world.alloc().expect("room");
                world.fill(lent, 2);
                world.lend(lent);
                let kept = world.alloc();
                if let Some(kept) = kept {
                    world.fill(kept, 3);
                }
                kept
            })
        };
        world.arena.end_loans();
        let ours = world.alloc();
        if let Some(ours) = ours {
            world.fill(ours, 4);
        }
        peer.join().unwrap();
        let owned = [ours, owner.join().unwrap()];
        // All threads have finished: this ends each loan that is left.
        world.arena.end_loans();
        assert_eq!(world.blocks(), owned.iter().flatten().count());
        for (block, value) in owned.into_iter().zip([4, 3]) {
            if let Some(block) = block {
                assert_eq!(world.read(block), value);
                world.arena.drop_owned(block);
            }
        }
        world.assert_whole();
    });
}

/// The lock gives one thread at a time access to its value, and each thread sees the writes of the one before.
#[test]
fn the_lock() {
    model(None, || {
        let lock = Arc::new(Lock::new(0_u32));
        let twice = |lock: &Lock<u32>| {
            for _ in 0..2 {
                let mut value = lock.lock();
                let old = *value;
                *value = old + 1;
            }
        };
        let other = {
            let lock = lock.clone();
            thread::spawn(move || twice(&lock))
        };
        twice(&lock);
        other.join().unwrap();
        assert_eq!(*lock.lock(), 4);
    });
}

//! Calls, resets, stops and deadlines of one guest, in every order of their steps that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib models -- --nocapture` says how many orders that are. The guest is a
//! number: what its memory holds, which a reset counts on. A call returns what it finds there.

use core::ptr;
use std::{
    boxed::Box,
    println,
    sync::atomic::{AtomicUsize as Counter, Ordering::Relaxed},
    vec::Vec,
};

use loom::{
    model::Builder,
    sync::atomic::{AtomicBool as Flag, AtomicUsize as Cell},
    thread,
};

use super::*;
use crate::{
    arena::Allocated,
    memory::{Layout, Memory, PAGE},
    owned::{Fixed, MemoryRef, Owned},
    peer::{Link, Server},
};

/// What a vCPU and its stopper share.
struct Guest {
    memory: Cell,
    stopped: Flag,
}

struct ModelVcpu(Arc<Guest>);

impl Vcpu for ModelVcpu {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, End> {
        if self.0.stopped.load(Ordering::Acquire) {
            return Err(End::Stopped);
        }
        let kind = if answer.is_some() { trap::RETURN } else { trap::READY };
        let found = self.0.memory.load(Ordering::Relaxed) as u64;
        Ok(Registers { kind, word: 0, transport: Transport::word(found) })
    }

    fn stopper(&self) -> Stopper {
        let guest = self.0.clone();
        Stopper::new(move || guest.stopped.store(true, Ordering::Release))
    }

    fn keep(&mut self, _: &AtomicBool) -> std::io::Result<()> {
        Ok(())
    }

    fn restore(&mut self) -> std::io::Result<()> {
        self.0.memory.store(self.0.memory.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.0.stopped.store(false, Ordering::Release);
        Ok(())
    }
}

/// A guest that has started up, and its host.
struct World {
    vm: Arc<Vm<ModelVcpu>>,
    core: Fixed<Core>,
    guest: Arc<Guest>,
    watch: Arc<Watch>,
}

impl World {
    fn new() -> Arc<Self> {
        let layout = Layout::new(PAGE, PAGE).unwrap();
        let base = ptr::without_provenance_mut(PAGE as usize);
        // SAFETY: without books, nothing in the region is touched.
        let memory =
            unsafe { Memory::new(base, layout.len(), layout, [None, None], Owned::Static(&())) };
        let memory = memory.unwrap();
        let guest = Arc::new(Guest { memory: Cell::new(0), stopped: Flag::new(false) });
        let vm = Vm::new([ModelVcpu(guest.clone())], Limits::NONE, memory.epoch());
        let watch = Arc::new(Watch::of_a_model());
        vm.watched_by(watch.clone());
        let core = Fixed::new(|_| Core {
            memory: MemoryRef::Counted(Arc::new(memory)),
            side: Side::Host,
            server: Server::new(Owned::Boxed(Box::new(()))),
            link: Link::Far(Owned::Boxed(Box::new(vm.clone()))),
            #[cfg(all(feature = "guest", target_arch = "x86_64"))]
            trap: None,
            observer: None,
            text: 0,
        });
        vm.run(&core, None).unwrap();
        Arc::new(Self { vm, core, guest, watch })
    }

    /// One call that has lent something, and the copy of its result. Says in which life it was made, and what has come.
    fn call(&self, limit: Option<Duration>) -> (Epoch, Result<(), Why>) {
        let lane = Lane(limit.as_ref().map_or(ptr::null(), ptr::from_ref).cast());
        // SAFETY: the core stays in its place for as long as the world, and the limit until the end of this.
        let peer = unsafe { Peer::top(self.core.address(), lane) };
        let epoch = self.core.memory.epoch();
        let life = self.number(epoch);
        let mut passage = Passage { latest: Allocated::NONE, count: 1, epoch, failed_here: false };
        let done = Vm::call(&self.vm, &peer, 16, Transport::EMPTY, &mut passage);
        match done {
            Ok(answer) => {
                assert_eq!(Some(answer.transport.primary), life, "it ran in the life it lent to");
                assert_eq!(passage.epoch, epoch);
                // The result, and the look behind it.
                let copied = self.guest.memory.load(Ordering::Relaxed) as u64;
                if self.core.memory.is_still(epoch) {
                    assert_eq!(Some(copied), life, "a result of another life");
                }
                (epoch, Ok(()))
            }
            Err(error) => {
                if error.why() == Why::Stale {
                    assert!(!error.reached());
                }
                (epoch, Err(error.why()))
            }
        }
    }

    /// The number that the guest's memory holds in a life; none between two lives.
    fn number(&self, epoch: Epoch) -> Option<u64> {
        epoch.is_a_life().then(|| epoch.number() as u64 / 2)
    }

    fn reset(&self) -> bool {
        match self.vm.reset(&self.core) {
            Ok(()) => true,
            Err(ResetError::Busy) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// All that there is has come to rest, and the guest can be used or reset.
    fn at_rest(&self) -> Option<End> {
        let end = {
            let pool = self.vm.pool();
            assert_eq!((pool.free.len(), pool.held.len(), pool.waiting), (1, 0, 0));
            assert_eq!(pool.life, self.core.memory.epoch());
            assert!(pool.life.is_a_life());
            pool.end.as_deref().cloned()
        };
        assert_eq!(self.vm.ended.load(Ordering::Acquire), end.is_some());
        let (_, done) = self.call(None);
        assert_eq!(done, end.as_ref().map_or(Ok(()), |end| Err(end.why())));
        assert!(self.reset());
        assert_eq!(self.call(None).1, Ok(()));
        end
    }
}

/// Runs a model, and says how many orders there were.
fn model(name: &str, bound: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    let orders: &'static Counter = Box::leak(Box::new(Counter::new(0)));
    let mut builder = Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 100_000;
    builder.check(move || {
        orders.fetch_add(1, Relaxed);
        run();
    });
    println!("{name}: {} orders", orders.load(Relaxed));
}

/// How often a thread is interrupted where it could go on, with five of them: without a bound it takes hours.
const FOUR: Option<usize> = Some(3);

fn spawn<R: 'static>(
    world: &Arc<World>,
    does: impl FnOnce(&World) -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    let world = world.clone();
    thread::spawn(move || does(&world))
}

#[test]
fn a_call_and_a_reset() {
    model("a call and a reset", None, || {
        let world = World::new();
        let call = spawn(&world, |world| world.call(None));
        world.reset();
        let (_, done) = call.join().unwrap();
        assert!(matches!(done, Ok(()) | Err(Why::Stale)), "{done:?}");
        assert_eq!(world.at_rest(), None);
    });
}

#[test]
fn a_call_and_two_resets() {
    model("a call and two resets", None, || {
        let world = World::new();
        let call = spawn(&world, |world| world.call(None));
        world.reset();
        world.reset();
        let (_, done) = call.join().unwrap();
        assert!(matches!(done, Ok(()) | Err(Why::Stale)), "{done:?}");
        assert_eq!(world.at_rest(), None);
    });
}

#[test]
fn a_stop_and_a_reset() {
    model("a stop and a reset", None, || {
        let world = World::new();
        let stop = spawn(&world, |world| world.vm.stopper().stop());
        assert!(world.reset());
        stop.join().unwrap();
        assert!(matches!(world.at_rest(), None | Some(End::Stopped)));
    });
}

#[test]
fn a_call_a_reset_and_a_stop() {
    model("a call, a reset and a stop", None, || {
        let world = World::new();
        let call = spawn(&world, |world| world.call(None));
        let stop = spawn(&world, |world| world.vm.stopper().stop());
        world.reset();
        let (_, done) = call.join().unwrap();
        assert!(matches!(done, Ok(()) | Err(Why::Stale | Why::Cancelled)), "{done:?}");
        stop.join().unwrap();
        assert!(matches!(world.at_rest(), None | Some(End::Stopped)));
    });
}

/// A deadline is over while its call returns and another thread resets: it ends its own life or none.
#[test]
fn a_call_with_a_deadline_and_a_reset() {
    model("a call with a deadline and a reset", None, || {
        let world = World::new();
        let call = spawn(&world, |world| world.call(Some(Duration::from_secs(3600))));
        let clock =
            spawn(&world, |world| world.watch.passes(Instant::now() + Duration::from_secs(7200)));
        let reset = world.reset();
        let (epoch, done) = call.join().unwrap();
        let late = clock.join().unwrap();
        match done {
            Ok(()) => assert!(!late, "a call that returns has ended in time"),
            Err(Why::Cancelled) => assert!(late),
            Err(why) => assert_eq!((why, late), (Why::Stale, false)),
        }
        let life = world.core.memory.epoch();
        let end = world.at_rest();
        match end {
            None => assert!(!late || reset),
            Some(end) => assert_eq!((end, epoch), (End::Deadline, life), "an end of another life"),
        }
    });
}

/// Two calls wait for one vCPU.
#[test]
fn two_calls_and_a_reset() {
    model("two calls and a reset", None, || {
        let world = World::new();
        let calls: Vec<_> = (0..2).map(|_| spawn(&world, |world| world.call(None))).collect();
        world.reset();
        for call in calls {
            let (_, done) = call.join().unwrap();
            assert!(matches!(done, Ok(()) | Err(Why::Stale)), "{done:?}");
        }
        assert_eq!(world.at_rest(), None);
    });
}

/// All four at once.
#[test]
fn a_call_with_a_deadline_a_reset_and_a_stop() {
    model("a call with a deadline, a reset and a stop", FOUR, || {
        let world = World::new();
        let call = spawn(&world, |world| world.call(Some(Duration::from_secs(3600))));
        let clock =
            spawn(&world, |world| world.watch.passes(Instant::now() + Duration::from_secs(7200)));
        let stop = spawn(&world, |world| world.vm.stopper().stop());
        world.reset();
        let (epoch, done) = call.join().unwrap();
        let late = clock.join().unwrap();
        stop.join().unwrap();
        match done {
            Ok(()) => assert!(!late, "a call that returns has ended in time"),
            Err(Why::Cancelled) => {}
            Err(why) => assert_eq!((why, late), (Why::Stale, false)),
        }
        let life = world.core.memory.epoch();
        match world.at_rest() {
            Some(End::Deadline) => assert_eq!((late, epoch), (true, life)),
            end => assert!(matches!(end, None | Some(End::Stopped)), "{end:?}"),
        }
    });
}

//! Loom models: calls, resets, stops and deadlines of one guest, in every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib models -- --nocapture` prints the number of orders. The guest's
//! memory is a number, which a reset increments and a call returns.

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

use super::{
    super::{CpuClock, deadline::Checked},
    *,
};
use crate::{
    abi::{PAGE_SIZE, trap},
    arch::InlineInstruction,
    call::{Link, Server},
    memory::{
        Memory, RegionLayout, RegionMemory, SideMemory,
        arena::Allocated,
        storage::{Fixed, MemoryRef, Owned},
        sync::{AtomicBool, Ordering},
    },
};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The state that a vCPU shares with its stopper.
struct GuestState {
    memory: Cell,
    stopped: Flag,
    /// The hours of processor time that it has used: two for each run.
    used: Cell,
}

struct ModelVcpu(Arc<GuestState>);

impl Vcpu for ModelVcpu {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        if self.0.stopped.load(Ordering::Acquire) {
            return Err(GuestExit::Stopped);
        }
        let kind = if answer.is_some() { trap::RETURN } else { trap::READY };
        self.0.used.fetch_add(2, Ordering::Relaxed);
        let found = self.0.memory.load(Ordering::Relaxed) as u64;
        Ok(Registers { kind, word: 0, transport: Transport::word(found) })
    }

    fn stopper(&self) -> Stopper {
        let guest = self.0.clone();
        Stopper::new(move || guest.stopped.store(true, Ordering::Release))
    }

    fn cpu_clock(&self) -> Option<CpuClock> {
        let guest = self.0.clone();
        let read = move || HOUR * guest.used.load(Ordering::Relaxed) as u32;
        Some(CpuClock::new(move || Some(read())))
    }

    fn snapshot(&mut self, _: &AtomicBool) -> std::io::Result<()> {
        Ok(())
    }

    fn restore(&mut self) -> std::io::Result<()> {
        self.0.memory.store(self.0.memory.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.0.stopped.store(false, Ordering::Release);
        Ok(())
    }
}

/// A guest that waits for upcalls, and its host.
struct PoolModel {
    pool: Arc<VcpuPool<ModelVcpu>>,
    endpoint: Fixed<Endpoint>,
    guest: Arc<GuestState>,
    deadlines: Arc<DeadlineThread>,
}

impl PoolModel {
    fn new() -> Arc<Self> {
        Self::with_limits(Limits::new())
    }

    fn with_limits(limits: Limits) -> Arc<Self> {
        let layout = RegionLayout::new(PAGE_SIZE, PAGE_SIZE).unwrap();
        let base = ptr::without_provenance_mut(PAGE_SIZE as usize);
        // SAFETY: without allocator metadata for either arena, `Memory` accesses no byte of the region, and the calls
        // of the models carry no pointer words.
        let region = unsafe { RegionMemory::permanent(base, layout.len()) };
        let memory = Memory::new(region, layout, [None, None]).unwrap();
        let (memory_of_guest, used) = (Cell::new(0), Cell::new(0));
        let guest = GuestState { memory: memory_of_guest, stopped: Flag::new(false), used };
        let guest = Arc::new(guest);
        let pool = VcpuPool::new([ModelVcpu(guest.clone())], limits, memory.epoch(), None);
        let deadlines = Arc::new(DeadlineThread::of_a_model());
        pool.share_deadlines(deadlines.clone());
        let endpoint = Fixed::new(|_| Endpoint {
            own: SideMemory { memory: MemoryRef::Counted(Arc::new(memory)), side: Side::Host },
            reserved: None,
            inline: InlineInstruction::NONE,
            server: Server::new(Owned::Boxed(Box::new(()))),
            link: Link::Remote(Owned::Boxed(Box::new(pool.clone()))),
            observer: None,
        });
        pool.run(&endpoint, None).unwrap();
        Arc::new(Self { pool, endpoint, guest, deadlines })
    }

    /// Makes one call with a loan, and copies its result. Returns the life in which the loan was made, and the call's
    /// result.
    fn call(&self, deadline: Option<Duration>) -> (Epoch, Result<(), ErrorKind>) {
        let context = deadline.map_or(CallContext::Outside, CallContext::WithDeadline);
        // SAFETY: `self.endpoint` is at a fixed address until `self` is dropped, after the peer.
        let peer = unsafe { Peer::top(self.endpoint.address(), context) };
        let epoch = self.endpoint.own.memory.epoch();
        let life = self.number(epoch);
        let (latest, lent) = (Allocated::NONE, Some(epoch));
        let mut passage = Passage { latest, count: 1, epoch: lent, failed_here: false };
        let mut status = 0;
        let transport = self.pool.call(&peer, 16, Transport::EMPTY, &mut passage, &mut status);
        match status {
            0 => {
                assert_eq!(Some(transport.primary), life, "the call ran in another life");
                assert_eq!(passage.epoch, lent);
                // A copy of the result counts only if the life has not changed after it.
                let copied = self.guest.memory.load(Ordering::Relaxed) as u64;
                if self.endpoint.own.memory.is_still(epoch) {
                    assert_eq!(Some(copied), life, "a result of another life");
                }
                (epoch, Ok(()))
            }
            status => {
                let error = CallError::from_status(status);
                if error.kind() == ErrorKind::Stale {
                    assert!(!error.reached());
                }
                (epoch, Err(error.kind()))
            }
        }
    }

    /// The contents of the guest's memory in a life; `None` between two lives.
    fn number(&self, epoch: Epoch) -> Option<u64> {
        epoch.is_a_life().then(|| epoch.number() as u64 / 2)
    }

    fn reset(&self) -> bool {
        match self.pool.reset(&self.endpoint) {
            Ok(_) => true,
            Err(ResetError::Busy) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Checks the state after all threads have ended, and that the guest can be called and reset. Returns its exit.
    fn at_rest(&self) -> Option<GuestExit> {
        let exit = {
            let state = self.pool.state();
            assert_eq!((state.free.len(), state.held.len(), state.waiting), (1, 0, 0));
            assert_eq!(state.life, self.endpoint.own.memory.epoch());
            assert!(state.life.is_a_life());
            state.exit.as_deref().cloned()
        };
        assert_eq!(self.pool.has_exited(), exit.is_some());
        let (_, done) = self.call(None);
        assert_eq!(done, exit.as_ref().map_or(Ok(()), |exit| Err(exit.kind())));
        assert!(self.reset());
        assert_eq!(self.call(None).1, Ok(()));
        exit
    }
}

/// Runs a model, and prints the number of orders.
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

/// The bound on preemptions in a model with four threads, which takes hours without one.
const FOUR: Option<usize> = Some(3);

fn spawn<R: 'static>(
    world: &Arc<PoolModel>,
    does: impl FnOnce(&PoolModel) -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    let world = world.clone();
    thread::spawn(move || does(&world))
}

#[test]
fn a_call_and_a_reset() {
    model("a call and a reset", None, || {
        let world = PoolModel::new();
        let call = spawn(&world, |world| world.call(None));
        world.reset();
        let (_, done) = call.join().unwrap();
        assert!(matches!(done, Ok(()) | Err(ErrorKind::Stale)), "{done:?}");
        assert_eq!(world.at_rest(), None);
    });
}

#[test]
fn a_call_and_two_resets() {
    model("a call and two resets", None, || {
        let world = PoolModel::new();
        let call = spawn(&world, |world| world.call(None));
        world.reset();
        world.reset();
        let (_, done) = call.join().unwrap();
        assert!(matches!(done, Ok(()) | Err(ErrorKind::Stale)), "{done:?}");
        assert_eq!(world.at_rest(), None);
    });
}

#[test]
fn a_stop_and_a_reset() {
    model("a stop and a reset", None, || {
        let world = PoolModel::new();
        let stop = spawn(&world, |world| world.pool.stops_with()(GuestExit::Stopped));
        assert!(world.reset());
        stop.join().unwrap();
        assert!(matches!(world.at_rest(), None | Some(GuestExit::Stopped)));
    });
}

#[test]
fn a_call_a_reset_and_a_stop() {
    model("a call, a reset and a stop", None, || {
        let world = PoolModel::new();
        let call = spawn(&world, |world| world.call(None));
        let stop = spawn(&world, |world| world.pool.stops_with()(GuestExit::Stopped));
        world.reset();
        let (_, done) = call.join().unwrap();
        assert!(matches!(done, Ok(()) | Err(ErrorKind::Stale | ErrorKind::Cancelled)), "{done:?}");
        stop.join().unwrap();
        assert!(matches!(world.at_rest(), None | Some(GuestExit::Stopped)));
    });
}

/// A deadline passes while its call returns and another thread resets: it ends its own life or none.
#[test]
fn a_call_with_a_deadline_and_a_reset() {
    model("a call with a deadline and a reset", None, || {
        let world = PoolModel::new();
        let call = spawn(&world, |world| world.call(Some(HOUR)));
        let clock =
            spawn(&world, |world| world.deadlines.passes(Instant::now() + 2 * HOUR).is_some());
        let reset = world.reset();
        let (epoch, done) = call.join().unwrap();
        let late = clock.join().unwrap();
        match done {
            Ok(()) => assert!(!late, "a call that returns has ended in time"),
            Err(ErrorKind::Cancelled) => assert!(late),
            Err(why) => assert_eq!((why, late), (ErrorKind::Stale, false)),
        }
        let life = world.endpoint.own.memory.epoch();
        let end = world.at_rest();
        match end {
            None => assert!(!late || reset),
            Some(end) => {
                assert_eq!((end, epoch), (GuestExit::Deadline, life), "an end of another life")
            }
        }
    });
}

/// The deadline thread asks twice how much processor time a call has used, while the call returns and another thread
/// resets: it ends its own life or none, and never a call that has not used up its time.
#[test]
fn a_call_with_processor_time_and_a_reset() {
    model("a call with processor time and a reset", None, || {
        let world = PoolModel::with_limits(Limits::new().cpu_time(HOUR));
        let call = spawn(&world, |world| world.call(None));
        let clock = spawn(&world, |world| {
            [(); 2].map(|()| world.deadlines.passes(Instant::now() + 2 * HOUR))
        });
        let reset = world.reset();
        let (epoch, done) = call.join().unwrap();
        let late = clock.join().unwrap().contains(&Some(Checked::Stopped));
        match done {
            Ok(()) => assert!(!late, "a call that returns has ended in time"),
            Err(ErrorKind::Cancelled) => assert!(late),
            Err(why) => assert_eq!((why, late), (ErrorKind::Stale, false)),
        }
        let life = world.endpoint.own.memory.epoch();
        match world.at_rest() {
            None => assert!(!late || reset),
            Some(end) => {
                assert_eq!((end, epoch), (GuestExit::CpuTime, life), "an end of another life")
            }
        }
    });
}

/// Two calls wait for one vCPU.
#[test]
fn two_calls_and_a_reset() {
    model("two calls and a reset", None, || {
        let world = PoolModel::new();
        let calls: Vec<_> = (0..2).map(|_| spawn(&world, |world| world.call(None))).collect();
        world.reset();
        for call in calls {
            let (_, done) = call.join().unwrap();
            assert!(matches!(done, Ok(()) | Err(ErrorKind::Stale)), "{done:?}");
        }
        assert_eq!(world.at_rest(), None);
    });
}

/// A call, a deadline, a stop and a reset at once.
#[test]
fn a_call_with_a_deadline_a_reset_and_a_stop() {
    model("a call with a deadline, a reset and a stop", FOUR, || {
        let world = PoolModel::new();
        let call = spawn(&world, |world| world.call(Some(HOUR)));
        let clock =
            spawn(&world, |world| world.deadlines.passes(Instant::now() + 2 * HOUR).is_some());
        let stop = spawn(&world, |world| world.pool.stops_with()(GuestExit::Stopped));
        world.reset();
        let (epoch, done) = call.join().unwrap();
        let late = clock.join().unwrap();
        stop.join().unwrap();
        match done {
            Ok(()) => assert!(!late, "a call that returns has ended in time"),
            Err(ErrorKind::Cancelled) => {}
            Err(why) => assert_eq!((why, late), (ErrorKind::Stale, false)),
        }
        let life = world.endpoint.own.memory.epoch();
        match world.at_rest() {
            Some(GuestExit::Deadline) => assert_eq!((late, epoch), (true, life)),
            end => assert!(matches!(end, None | Some(GuestExit::Stopped)), "{end:?}"),
        }
    });
}

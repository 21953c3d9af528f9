//! The host's end of a connection: runs a vCPU from trap to trap, serves its hypercalls, and makes
//! upcalls into it.
//!
//! What a virtual machine monitor has to bring is a [`Vcpu`] and the memory of the region. The
//! [guide](crate::guide::host) shows both.

use std::{
    boxed::Box,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    vec::Vec,
};

mod end;
mod log;

pub use end::{Broken, Cause, End, Fault};

use crate::{
    abi::{Answer, Registers, Side, Transport, answer, signature, trap},
    dispatch::Serve,
    error::{CallError, ConnectError, RegionError, Why},
    meet,
    memory::{Layout, Memory},
    owned::{Fixed, MemoryRef, Owned},
    peer::{Core, Far, Lane, Link, MAX_DEPTH, Observer, Peer, Server},
};

/// A virtual processor that runs until it traps: all that a host needs of a virtual machine monitor.
pub trait Vcpu: Send {
    /// Completes the trap that is pending, if there is one, with `answer`, and runs to the next: the
    /// four words of the ABI's register table, in both directions. The first call has no answer: it
    /// starts the guest.
    ///
    /// # Errors
    ///
    /// How the guest has come to its end: it crashed, did something that is no trap, or was stopped. None
    /// of its vCPUs is run any further.
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, End>;

    /// What stops this vCPU from any thread: a `run` that is under way then fails with [`End::Stopped`],
    /// and so may one that begins later; a stop that comes in between is not lost. Without one, a guest
    /// that is stopped runs on to its next trap.
    fn stopper(&self) -> Stopper {
        Stopper::new(|| ())
    }

    /// Whether this thread can run it. A vCPU that belongs to one thread says no on the others; calls
    /// from there are then [`Why::Busy`].
    fn runs_here(&self) -> bool {
        true
    }
}

impl<V: Vcpu + ?Sized> Vcpu for Box<V> {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, End> {
        (**self).run(answer)
    }

    fn stopper(&self) -> Stopper {
        (**self).stopper()
    }

    fn runs_here(&self) -> bool {
        (**self).runs_here()
    }
}

/// Stops a vCPU, or all of a guest's ([`Host::stopper`]), from any thread, at any time, as often as one
/// likes. It does not wait until they have stopped. A stopped guest is not run again.
#[derive(Clone)]
pub struct Stopper(Arc<dyn Fn() + Send + Sync>);

impl Stopper {
    /// A stopper that calls `stop`.
    pub fn new(stop: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(stop))
    }

    /// Stops it.
    pub fn stop(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").finish_non_exhaustive()
    }
}

/// A vCPU, and how far it has come.
struct Cpu<V> {
    vcpu: V,
    number: usize,
    /// It waits in `READY`, or in the `RETURN` of the last upcall.
    parked: bool,
}

/// What all vCPUs of a guest have in common.
struct Vm<V> {
    pool: Mutex<Pool<V>>,
    /// A vCPU has come back while somebody waited.
    freed: Condvar,
    /// No vCPU is run any more.
    ended: AtomicBool,
    stoppers: Vec<Stopper>,
}

struct Pool<V> {
    /// The vCPUs that nobody has, the one that was used last at the end.
    free: Vec<Cpu<V>>,
    /// The threads that have the others.
    held: Vec<ThreadId>,
    /// How many threads wait for one.
    waiting: usize,
    end: Option<End>,
}

/// A number that no other thread has at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ThreadId(usize);

impl ThreadId {
    fn here() -> Self {
        std::thread_local!(static HERE: u8 = const { 0 });
        Self(HERE.with(|here| (&raw const *here).addr()))
    }
}

/// A vCPU in the hands of one thread.
struct Held<'m, V> {
    vm: &'m Vm<V>,
    cpu: Option<Cpu<V>>,
}

impl<V> Drop for Held<'_, V> {
    fn drop(&mut self) {
        let mut pool = self.vm.pool();
        let here = ThreadId::here();
        if let Some(at) = pool.held.iter().rposition(|thread| *thread == here) {
            pool.held.swap_remove(at);
        }
        pool.free.extend(self.cpu.take());
        let waiting = pool.waiting;
        drop(pool);
        // Several may wait for different ones.
        if waiting != 0 {
            self.vm.freed.notify_all();
        }
    }
}

impl<V> Vm<V> {
    fn pool(&self) -> MutexGuard<'_, Pool<V>> {
        // Nothing that can panic is done under this lock.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest runs no more, and gives nothing back. The first end is the one that counts.
    #[cold]
    fn end(&self, core: &Core, end: End) -> Why {
        let mut pool = self.pool();
        let why = pool.end.get_or_insert(end).why();
        drop(pool);
        self.ended.store(true, Ordering::Release);
        if self.stoppers.len() > 1 {
            self.stoppers.iter().for_each(Stopper::stop);
        }
        take_back(core);
        why
    }

    /// Why the guest, which has ended, has ended.
    fn why(&self) -> Why {
        self.pool().end.as_ref().map_or(Why::Cancelled, End::why)
    }
}

/// Takes back all that was lent to the guest.
fn take_back(core: &Core) {
    if let Ok(arena) = core.memory.arena(Side::Host) {
        arena.take_back_all();
    }
}

impl<V: Vcpu> Vm<V> {
    /// Takes a vCPU of those that `fits`, and waits for other threads' calls to end.
    fn take(&self, fits: impl Fn(&Cpu<V>) -> bool) -> Result<Held<'_, V>, Why> {
        let here = ThreadId::here();
        let mut pool = self.pool();
        loop {
            if let Some(end) = &pool.end {
                return Err(end.why());
            }
            if let Some(at) = pool.free.iter().rposition(|cpu| fits(cpu) && cpu.vcpu.runs_here()) {
                let cpu = pool.free.remove(at);
                pool.held.push(here);
                return Ok(Held { vm: self, cpu: Some(cpu) });
            }
            // It must not wait for itself, nor for what does not come.
            if pool.held.is_empty() || pool.held.contains(&here) {
                return Err(Why::Busy);
            }
            pool.waiting += 1;
            pool = self.freed.wait(pool).unwrap_or_else(PoisonError::into_inner);
            pool.waiting -= 1;
        }
    }
}

impl<V: Vcpu> Cpu<V> {
    fn run(
        &mut self,
        vm: &Vm<V>,
        core: &Core,
        answer: Option<Registers>,
    ) -> Result<Registers, Why> {
        if vm.ended.load(Ordering::Acquire) {
            // Where the guest has ended in an upcall, the handler that made it may have lent its
            // result since.
            take_back(core);
            return Err(vm.why());
        }
        self.vcpu.run(answer).map_err(|end| vm.end(core, end))
    }

    /// Completes a trap, and serves hypercalls until one comes that is none. `depth` counts the calls
    /// under way in the guest.
    fn until_done(
        &mut self,
        vm: &Vm<V>,
        core: &Core,
        depth: u32,
        first: Option<Registers>,
    ) -> Result<Registers, Why> {
        let mut trap = self.run(vm, core, first)?;
        while trap.kind == trap::CALL {
            let done = if trap.word == signature::MEET && depth < MAX_DEPTH {
                match core.meet(trap.transport) {
                    Err(ConnectError::Contract(mismatch)) => {
                        return Err(vm.end(core, End::Unfit(mismatch)));
                    }
                    Err(error) => core.refuse(meet::refusal(error)),
                    Ok(()) => Answer::status(0),
                }
            } else {
                let lane = Nested { vm, cpu: Mutex::new(self) };
                let lane_at = Lane((&raw const lane).cast());
                core.serve(trap.word, trap.transport, depth + 1, lane_at)
            };
            let answer =
                Registers { kind: answer::ANSWER, word: done.status, transport: done.transport };
            trap = self.run(vm, core, Some(answer))?;
        }
        if trap.kind == trap::EXIT {
            let text = core.last_text(trap.transport);
            return Err(vm.end(core, End::Exited { status: trap.word, text }));
        }
        Ok(trap)
    }

    /// One upcall. `depth` counts it.
    fn upcall(
        &mut self,
        vm: &Vm<V>,
        core: &Core,
        depth: u32,
        signature: u64,
        transport: Transport,
    ) -> Result<Answer, Why> {
        let call = Registers { kind: answer::UPCALL, word: signature, transport };
        let trap = self.until_done(vm, core, depth, Some(call))?;
        if trap.kind == trap::RETURN {
            Ok(Answer { status: trap.word, transport: trap.transport })
        } else {
            Err(vm.end(core, End::Protocol(Broken::Order(trap.kind))))
        }
    }
}

/// The vCPU whose hypercall a handler serves: what the handler's upcalls run on.
struct Nested<'c, V> {
    vm: &'c Vm<V>,
    cpu: Mutex<&'c mut Cpu<V>>,
}

impl<V: Vcpu> Vm<V> {
    fn call(&self, peer: &Peer, signature: u64, transport: Transport) -> Result<Answer, CallError> {
        let not_reached = |why| CallError::new(why);
        let call = |vm: &Self, cpu: &mut Cpu<V>| {
            // A guest that fails while it runs the call may have done some of it, and its loans have
            // ended with it; one that could not be run at all has done nothing.
            let runs = !vm.ended.load(Ordering::Acquire);
            let depth = peer.depth() + 1;
            cpu.upcall(vm, peer.core(), depth, signature, transport).map_err(|why| {
                let error = CallError::new(why);
                if runs { error.reached_handler() } else { error }
            })
        };
        if !peer.lane.0.is_null() {
            // SAFETY: the peer is a handler's, which has it for the time of its call, and `lane` is
            // this machine's `Nested` of that very call.
            let nested = unsafe { &*peer.lane.0.cast::<Nested<'_, V>>() };
            // The handler may have several threads, but the vCPU is one, and may be one thread's.
            let mut cpu = nested.cpu.try_lock().map_err(|_| not_reached(Why::Busy))?;
            if !cpu.vcpu.runs_here() {
                return Err(not_reached(Why::Busy));
            }
            return call(nested.vm, &mut cpu);
        }
        let mut held = self.take(|cpu| cpu.parked).map_err(|why| {
            // A guest that was stopped while it was parked gives nothing back.
            if self.ended.load(Ordering::Acquire) {
                take_back(peer.core());
            }
            not_reached(why)
        })?;
        match &mut held.cpu {
            Some(cpu) => call(self, cpu),
            None => Err(not_reached(Why::Busy)), // it is there until `held` is dropped
        }
    }
}

impl<V: Vcpu> Far for Arc<Vm<V>> {
    fn call(&self, peer: &Peer, signature: u64, transport: Transport) -> Answer {
        Vm::call(self, peer, signature, transport)
            .unwrap_or_else(|error| Answer::status(error.status()))
    }
}

/// What a guest has come to when it stops running by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a guest that has ended, by a panic say, is no error of whoever has run it"]
pub enum Ran {
    /// It waits for upcalls.
    Ready,
    /// It has ended, with this status: 0 for a good end. [`Host::end`] has its last text.
    Exited(u64),
}

/// A host's end of a connection with the vCPUs of one guest.
pub struct Host<V> {
    peer: Peer,
    core: Fixed<Core>,
    vm: Arc<Vm<V>>,
    vcpus: usize,
}

impl<V: Vcpu + 'static> Host<V> {
    /// Lays out a region of `layout.len()` bytes from `base` on and connects `vcpus`, whose guest will
    /// find it there; nothing runs yet.
    ///
    /// - `len` is how much there is from `base` on, at least `layout.len()`; `base` is a multiple of
    ///   [`PAGE`](crate::PAGE).
    /// - `keep` owns that memory: it is dropped when host and handles are, and a handler may keep handles
    ///   for longer than this host lives.
    /// - `server` serves the guest's calls.
    /// - `vcpus` are the guest's, in the order in which they are started, at least one.
    /// - `observer` is told of each call that the host refuses or fails, on the thread that serves it: with
    ///   the function and the bad field, where they are known. A panic in it is caught and ignored.
    ///
    /// # Safety
    ///
    /// `base` is valid for reads and writes of `len` bytes until `keep` is dropped, and no Rust
    /// reference covers them. The guest cannot write to the host's arena.
    ///
    /// # Errors
    ///
    /// What is wrong with the memory, and [`RegionError::OutOfMemory`].
    pub unsafe fn new(
        layout: Layout,
        base: *mut u8,
        len: u64,
        keep: Box<dyn Send + Sync>,
        server: impl Serve,
        vcpus: impl IntoIterator<Item = V>,
        observer: Option<Box<Observer>>,
    ) -> Result<Self, RegionError> {
        let books = [None, Some(Memory::new_books(&layout, Side::Host)?)];
        // SAFETY: the caller's promise; the books are new.
        let memory = unsafe { Memory::new(base, len, layout, books, keep.into()) }?;
        // SAFETY: the memory has a page and more.
        unsafe { layout.write_header(base) };
        let cpu = |(number, vcpu)| Cpu { vcpu, number, parked: false };
        let free: Vec<Cpu<V>> = vcpus.into_iter().enumerate().map(cpu).collect();
        let (vcpus, stoppers) = (free.len(), free.iter().map(|cpu| cpu.vcpu.stopper()).collect());
        let held = Vec::with_capacity(vcpus);
        let vm = Arc::new(Vm {
            pool: Mutex::new(Pool { free, held, waiting: 0, end: None }),
            freed: Condvar::new(),
            ended: AtomicBool::new(false),
            stoppers,
        });
        let core = Fixed::new(|_| Core {
            memory: MemoryRef::Counted(Arc::new(memory)),
            side: Side::Host,
            server: Server::new(Owned::Boxed(Box::new(server))),
            link: Link::Far(Owned::Boxed(Box::new(vm.clone()))),
            #[cfg(all(feature = "guest", target_arch = "x86_64"))]
            trap: None,
            observer: observer.map(Owned::Boxed),
        });
        // SAFETY: the core stays in its place for as long as the host, and the peer in it, live.
        let peer = unsafe { Peer::top(core.address()) };
        Ok(Self { peer, core, vm, vcpus })
    }

    /// Starts the guest, or lets a parked one go on, and serves its hypercalls, on this thread, until it
    /// waits for upcalls (again) or ends. It takes as long as the guest does. Where the guest has several
    /// vCPUs, that goes for one after the other, in their order.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Contract`] where guest and host do not fit together, and [`ConnectError::Ended`] where
    /// the guest has come to another end, now or before: then it is run no further. [`Why::Busy`] in a handler
    /// of this guest, and on a thread that cannot run it.
    pub fn run(&self) -> Result<Ran, ConnectError> {
        for number in 0..self.vcpus {
            let ran = self.vm.take(|cpu| cpu.number == number).and_then(|mut held| {
                let Some(cpu) = &mut held.cpu else { return Err(Why::Busy) };
                let go_on =
                    Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
                let answer = cpu.parked.then_some(go_on);
                let trap = cpu.until_done(&self.vm, &self.core, 0, answer)?;
                if trap.kind == trap::READY {
                    cpu.parked = true;
                    Ok(())
                } else {
                    Err(self.vm.end(&self.core, End::Protocol(Broken::Order(trap.kind))))
                }
            });
            if let Err(why) = ran {
                return match self.end() {
                    Some(End::Exited { status, .. }) => Ok(Ran::Exited(status)),
                    Some(End::Unfit(mismatch)) => Err(mismatch.into()),
                    Some(end) => Err(ConnectError::Ended(end)),
                    None => Err(CallError::new(why).on(Side::Guest).into()),
                };
            }
        }
        Ok(Ran::Ready)
    }

    /// The guest: calls through it are upcalls, on a parked vCPU. They wait while other threads have all
    /// of them, in [`run`](Self::run) or in a call; before the first `run`, and on a thread that has
    /// one itself, that is in a handler of this guest, they are then [`Why::Busy`]. A handler uses the
    /// [`Peer`] that it got instead.
    #[must_use]
    pub fn guest(&self) -> &Peer {
        &self.peer
    }

    /// How the guest has come to its end; `None` while it lives.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.vm.pool().end.clone()
    }

    /// What stops this guest, all of its vCPUs, from any thread: the call that is under way, and every
    /// later one, fails with [`Why::Cancelled`]. It stops guest code: a handler runs on to its end.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        let vm = Arc::downgrade(&self.vm);
        Stopper::new(move || {
            let Some(vm) = vm.upgrade() else { return };
            vm.pool().end.get_or_insert(End::Stopped);
            vm.ended.store(true, Ordering::Release);
            vm.stoppers.iter().for_each(Stopper::stop);
        })
    }
}

impl<V> fmt::Debug for Host<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("peer", &self.peer).finish_non_exhaustive()
    }
}

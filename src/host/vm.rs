//! The vCPUs of one guest: which thread has which, and what happens from one trap to the next.
//!
//! A guest has *lives*: a reset ends one and begins the next. A call takes a vCPU and learns in which life it runs under
//! one lock, [`Pool`], which a reset, a stop and a deadline take as well; nothing else is done under it. What is long, copying a
//! guest's memory or bringing it back, is done with all vCPUs taken, and without the lock.

use std::{
    panic::{self, AssertUnwindSafe},
    string::String,
    time::{Duration, Instant},
    vec::Vec,
};

use super::{
    Broken, End, Limits, ResetError, Stopper, Vcpu,
    fork::ProcessId,
    watch::{Expire, Watch},
};
use crate::{
    abi::{Answer, Registers, Side, Transport, answer, signature, trap},
    error::{CallError, ConnectError, Why},
    meet,
    memory::Epoch,
    peer::{Core, Far, Lane, MAX_DEPTH, Passage, Peer},
    sync::threads::{Arc, AtomicBool, Condvar, Mutex, MutexGuard, OnceLock, Ordering, PoisonError},
};

mod pool;

use pool::Pool;

/// A vCPU, and how far it has come.
struct Cpu<V> {
    vcpu: V,
    number: usize,
    /// It waits in `READY`, or in the `RETURN` of the last upcall.
    parked: bool,
    /// What its guest has done on it in the outermost call that is under way: hypercalls, and bytes of log.
    calls: u64,
    logged: u64,
}

/// What all vCPUs of a guest have in common.
pub(super) struct Vm<V> {
    pool: Mutex<Pool<V>>,
    /// A vCPU has come back while somebody waited.
    freed: Condvar,
    /// No vCPU is run any more.
    ended: AtomicBool,
    stoppers: Vec<Stopper>,
    limits: Limits,
    watch: OnceLock<Arc<Watch>>,
    /// The process that runs the guest. One that is forked from it takes no lock of this: a thread that is not there may
    /// hold it.
    process: ProcessId,
}

/// How a guest is to trap when it runs no call: what its host waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Ready,
    Return,
}

impl<V: Vcpu + 'static> Vm<V> {
    pub(super) fn new(
        vcpus: impl IntoIterator<Item = V>,
        limits: Limits,
        life: Epoch,
    ) -> Arc<Self> {
        let limits = Limits { depth: limits.depth.min(MAX_DEPTH), ..limits };
        let cpu = |(number, vcpu)| Cpu { vcpu, number, parked: false, calls: 0, logged: 0 };
        let free: Vec<Cpu<V>> = vcpus.into_iter().enumerate().map(cpu).collect();
        let stoppers = free.iter().map(|cpu| cpu.vcpu.stopper()).collect();
        Arc::new(Self {
            pool: Mutex::new(Pool::new(free, life)),
            freed: Condvar::new(),
            ended: AtomicBool::new(false),
            stoppers,
            limits,
            watch: OnceLock::new(),
            process: ProcessId::current(),
        })
    }

    /// What stops all vCPUs from any thread.
    pub(super) fn stopper(self: &Arc<Self>) -> Stopper {
        let vm = Arc::downgrade(self);
        Stopper::new(move || {
            if let Some(vm) = vm.upgrade() {
                vm.stop(End::Stopped, None);
            }
        })
    }
}

impl<V: Vcpu> Expire for Vm<V> {
    fn expire(&self, life: Epoch) {
        self.stop(End::Deadline, Some(life));
    }
}

impl<V> Vm<V> {
    fn pool(&self) -> MutexGuard<'_, Pool<V>> {
        // What may panic under this lock, a stopper of the embedder's own, is caught.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process runs the guest, and is not forked from the one that does.
    fn is_here(&self) -> bool {
        self.process == ProcessId::current()
    }

    /// Shares the thread that watches deadlines, if there was no deadline yet.
    pub(super) fn watched_by(&self, watch: Arc<Watch>) {
        let _ = self.watch.set(watch);
    }

    /// How the guest has come to its end.
    pub(super) fn ended(&self) -> Option<End> {
        if !self.is_here() {
            return Some(End::Lost(super::ELSEWHERE.into()));
        }
        self.pool().end.as_deref().cloned()
    }

    /// Stops the guest: the life that runs, or only this one. A stop that comes during a reset ends the next life.
    fn stop(&self, end: End, life: Option<Epoch>) {
        if !self.is_here() {
            return;
        }
        // All of it under the lock: a reset comes before it or after it.
        let mut pool = self.pool();
        if life.is_none_or(|life| life == pool.life) {
            pool.ends(end);
            self.ended.store(true, Ordering::Release);
            self.stop_all();
        }
    }

    fn stop_all(&self) {
        for stopper in &self.stoppers {
            // One that an embedder has made may panic; the others are no less to be stopped.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| stopper.stop()));
        }
    }

    /// The guest runs no more, and gives nothing back. The first end is the one that counts. The caller has a vCPU, so
    /// that this is the life that it has seen end.
    #[cold]
    fn end(&self, core: &Core, end: End) -> Why {
        let mut pool = self.pool();
        let why = pool.ends(end).why();
        drop(pool);
        self.ended.store(true, Ordering::Release);
        if self.stoppers.len() > 1 {
            self.stop_all();
        }
        core.memory.end_loans();
        why
    }

    /// Why the guest, which has ended, has ended.
    fn why(&self) -> Why {
        self.pool().end.as_ref().map_or(Why::Cancelled, |end| end.why())
    }

    /// When a call that begins now is to be over.
    fn due(&self, limit: Option<Duration>) -> Option<Instant> {
        limit.or(self.limits.deadline).and_then(|limit| Instant::now().checked_add(limit))
    }
}

impl<V: Vcpu + 'static> Vm<V> {
    /// Has what a held vCPU does end in time, or the guest end with it. That is decided before the vCPU is let go: a life
    /// is ended by its own deadlines.
    fn timed<R>(
        self: &Arc<Self>,
        core: &Core,
        until: Option<Instant>,
        life: Epoch,
        call: impl FnOnce() -> Result<R, Why>,
    ) -> Result<R, Why> {
        let Some(at) = until else { return call() };
        let armed = self.watch.get_or_init(Arc::default).arm(at, self.clone(), life);
        let done = call();
        if armed.in_time() {
            return done;
        }
        core.memory.end_loans();
        done.and(Err(self.why()))
    }

    /// Starts the guest, or lets it go on, one vCPU after the other.
    pub(super) fn run(self: &Arc<Self>, core: &Core, limit: Option<Duration>) -> Result<(), Why> {
        let until = self.due(limit);
        (0..self.stoppers.len()).try_for_each(|number| self.start(core, number, until))
    }

    /// Starts a vCPU, or lets it go on, and serves its calls until it waits for upcalls. When the last of them does
    /// so for the first time, the guest has started up, and is kept as it is then.
    fn start(
        self: &Arc<Self>,
        core: &Core,
        number: usize,
        until: Option<Instant>,
    ) -> Result<(), Why> {
        let held = self.take(core, until, None, |cpu| cpu.number == number);
        let mut held = held.map_err(|(why, _)| why)?;
        let Some(cpu) = &mut held.cpu else { return Err(Why::Busy) };
        let go_on = Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
        let answer = cpu.parked.then_some(go_on);
        self.timed(core, until, held.life, || {
            cpu.go_on(Awaited::Ready, self, core, 0, answer)?;
            cpu.parked = true;
            if number + 1 == self.stoppers.len() { self.keep(core, cpu, until) } else { Ok(()) }
        })
    }

    /// Keeps the guest as it is, once. The caller has this vCPU; all others wait, or will.
    fn keep(&self, core: &Core, last: &mut Cpu<V>, until: Option<Instant>) -> Result<(), Why> {
        let mut pool = self.pool();
        while pool.kept.is_none() && pool.end.is_none() && pool.held.len() > 1 {
            pool = self.wait(pool, until).ok_or(Why::Busy)?;
        }
        if pool.kept.is_some() || pool.end.is_some() {
            return Ok(());
        }
        let mut others = self.take_all(&mut pool);
        drop(pool);
        let mut all: Vec<_> = others.cpus.iter_mut().chain([last]).collect();
        let settled = all.iter_mut().try_for_each(|cpu| cpu.vcpu.settle());
        let kept =
            settled.and_then(|()| all.iter_mut().try_for_each(|cpu| cpu.vcpu.keep(&self.ended)));
        if let (Ok(()), Ok(arena)) = (&kept, core.memory.arena(Side::Host)) {
            // It has them after each reset.
            arena.keep_loans();
        }
        let mut ended = None;
        others.finish(|pool| match (kept, &pool.end) {
            // It was stopped, or took too long, before it had started up.
            (Err(_), Some(end)) => ended = Some(end.why()),
            (kept, _) => pool.kept = Some(kept.map_err(|error| std::format!("{error}"))),
        });
        ended.map_or(Ok(()), Err)
    }

    /// Brings the guest back to where it was kept.
    pub(super) fn reset(&self, core: &Core) -> Result<(), ResetError> {
        if !self.is_here() {
            return Err(ResetError::Failed(super::ELSEWHERE.into()));
        }
        let mut pool = self.pool();
        if !pool.held.is_empty() {
            return Err(ResetError::Busy);
        }
        if !pool.free.iter().all(|cpu| cpu.vcpu.runs_here()) {
            return Err(ResetError::WrongThread);
        }
        match &pool.kept {
            None => return Err(ResetError::NotStarted),
            Some(Err(why)) => return Err(ResetError::Failed(why.clone())),
            Some(Ok(())) => {}
        }
        let mut all = self.take_all(&mut pool);
        // From here on the old life has no calls: those that lent something to it are stale, its deadlines are nobody's.
        pool.life = core.memory.begin_reset();
        // A stop that comes from here on is one of the next life.
        let end = pool.end.take();
        self.ended.store(true, Ordering::Release);
        drop(pool);
        let done = bring_back(core, &mut all.cpus);
        all.finish(|pool| {
            pool.life = core.memory.end_reset();
            if let Err(why) = &done {
                pool.end = end;
                pool.ends(End::Lost(why.clone()));
            } else if let Some(end) = &pool.end {
                pool.latest = Some((pool.life, end.clone()));
                self.stop_all();
            } else {
                self.ended.store(false, Ordering::Release);
            }
        });
        done.map_err(ResetError::Failed)
    }
}

/// What a reset does with all vCPUs in its hands. Nothing that the guest has begun is left when memory is brought back.
fn bring_back<V: Vcpu>(core: &Core, cpus: &mut [Cpu<V>]) -> Result<(), String> {
    let text = |error| std::format!("{error}");
    cpus.iter_mut().try_for_each(|cpu| cpu.vcpu.settle()).map_err(text)?;
    core.memory.wipe(Side::Host);
    cpus.iter_mut().try_for_each(|cpu| {
        cpu.parked = true;
        cpu.vcpu.restore().map_err(text)
    })
}

const PANICKED: &str = "a vCPU panicked";

/// Ends the guest when a vCPU of the embedder's own panics: how far its guest has come is not known.
struct EndOnPanic<'r, V> {
    vm: &'r Vm<V>,
    core: &'r Core,
}

impl<V> Drop for EndOnPanic<'_, V> {
    fn drop(&mut self) {
        self.vm.end(self.core, End::Lost(PANICKED.into()));
    }
}

impl<V: Vcpu> Cpu<V> {
    fn run(
        &mut self,
        vm: &Vm<V>,
        core: &Core,
        answer: Option<Registers>,
    ) -> Result<Registers, Why> {
        if !vm.is_here() {
            return Err(Why::PeerDied);
        }
        if vm.ended.load(Ordering::Acquire) {
            // Where the guest has ended in an upcall, the handler that made it may have lent its
            // result since.
            core.memory.end_loans();
            return Err(vm.why());
        }
        let unless_panic = EndOnPanic { vm, core };
        let ran = self.vcpu.run(answer);
        core::mem::forget(unless_panic);
        ran.map_err(|end| vm.end(core, end))
    }

    /// Completes a trap, and serves hypercalls until the guest traps as it is to. `depth` counts the calls under
    /// way in the guest.
    fn go_on(
        &mut self,
        awaited: Awaited,
        vm: &Vm<V>,
        core: &Core,
        depth: u32,
        mut answer: Option<Registers>,
    ) -> Result<Answer, Why> {
        loop {
            let Registers { kind, word, transport } = self.run(vm, core, answer)?;
            let end = match (kind, awaited) {
                (trap::CALL, _) if self.calls == vm.limits.calls => End::TooManyCalls,
                (trap::CALL, _) => {
                    self.calls += 1;
                    let done = self.serve(vm, core, depth, word, transport)?;
                    let Answer { status: word, transport } = done;
                    answer = Some(Registers { kind: answer::ANSWER, word, transport });
                    continue;
                }
                (trap::RETURN, Awaited::Return) | (trap::READY, Awaited::Ready) => {
                    return Ok(Answer { status: word, transport });
                }
                (trap::EXIT, _) => End::Exited { status: word, text: core.last_text(transport) },
                (kind, _) => End::Protocol(Broken::Order(kind)),
            };
            return Err(vm.end(core, end));
        }
    }

    /// Serves one hypercall.
    fn serve(
        &mut self,
        vm: &Vm<V>,
        core: &Core,
        depth: u32,
        word: u64,
        transport: Transport,
    ) -> Result<Answer, Why> {
        if depth >= vm.limits.depth {
            return Ok(core.refuse(CallError::new(Why::TooDeep)));
        }
        match word {
            signature::MEET => match core.meet(transport) {
                Err(ConnectError::Contract(mismatch)) => {
                    return Err(vm.end(core, End::Unfit(mismatch)));
                }
                Err(error) => return Ok(core.refuse(meet::refusal(error))),
                Ok(()) => return Ok(Answer::status(0)),
            },
            signature::LOG => {
                self.logged = self.logged.saturating_add(transport.secondary);
                if self.logged > vm.limits.log {
                    return Ok(core.refuse(CallError::refused()));
                }
            }
            _ => {}
        }
        let lane = Nested { vm, cpu: Mutex::new(self) };
        Ok(core.serve(word, transport, depth + 1, Lane((&raw const lane).cast())))
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
        self.go_on(Awaited::Return, vm, core, depth, Some(call))
    }
}

/// The vCPU whose hypercall a handler serves: what the handler's upcalls run on.
struct Nested<'c, V> {
    vm: &'c Vm<V>,
    cpu: Mutex<&'c mut Cpu<V>>,
}

impl<V: Vcpu + 'static> Vm<V> {
    fn call(
        self: &Arc<Self>,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
    ) -> Result<Answer, CallError> {
        let not_reached = |why| CallError::new(why);
        // A guest that fails while it runs the call may have done some of it, and its loans have ended with it;
        // one that could not be run at all has done nothing.
        let run = |runs, why| {
            let error = CallError::new(why);
            if runs { error.reached_handler() } else { error }
        };
        let (core, depth) = (peer.core(), peer.depth() + 1);
        if depth > self.limits.depth {
            return Err(not_reached(Why::TooDeep));
        }
        if peer.depth() > 0 {
            // SAFETY: the peer is a handler's, which has it for the time of its call, and `lane` is
            // this machine's `Nested` of that very call.
            let nested = unsafe { &*peer.lane.0.cast::<Nested<'_, V>>() };
            // The handler may have several threads, but the vCPU is one, and may be one thread's.
            let mut cpu = nested.cpu.try_lock().map_err(|_| not_reached(Why::Busy))?;
            if !cpu.vcpu.runs_here() {
                return Err(not_reached(Why::Busy));
            }
            let runs = !self.ended.load(Ordering::Acquire);
            let done = cpu.upcall(nested.vm, core, depth, signature, transport);
            return done.map_err(|why| run(runs, why));
        }
        // SAFETY: outside of handlers it is nothing, or the limit of a `Within`, which has the peer.
        let limit = unsafe { peer.lane.0.cast::<Duration>().as_ref() };
        let until = self.due(limit.copied());
        let lent = (passage.count != 0).then_some(passage.epoch);
        let mut held = self.take(core, until, lent, |cpu| cpu.parked).map_err(|(why, life)| {
            passage.epoch = life;
            not_reached(why)
        })?;
        // What comes back is of this life.
        passage.epoch = held.life;
        if let (true, Ok(arena)) = (held.early, core.memory.arena(Side::Host)) {
            arena.deliver(passage.latest, passage.count);
        }
        let Some(cpu) = &mut held.cpu else {
            return Err(not_reached(Why::Busy)); // it is there until `held` is dropped
        };
        let runs = !self.ended.load(Ordering::Acquire);
        let upcall = || cpu.upcall(self, core, depth, signature, transport);
        let done = self.timed(core, until, held.life, upcall);
        done.map_err(|why| run(runs, why))
    }
}

impl<V: Vcpu + 'static> Far for Arc<Vm<V>> {
    fn end(&self, life: Epoch) -> Option<Arc<End>> {
        if !self.is_here() {
            return Some(Arc::new(End::Lost(super::ELSEWHERE.into())));
        }
        let pool = self.pool();
        pool.latest.as_ref().filter(|latest| latest.0 == life).map(|latest| latest.1.clone())
    }

    fn call(
        &self,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
    ) -> Answer {
        Vm::call(self, peer, signature, transport, passage).unwrap_or_else(|error| {
            passage.failed_here = true;
            Answer::status(error.status())
        })
    }
}

#[cfg(all(test, loom))]
mod models;

//! The vCPUs of one guest: who has which, and what happens from one trap to the next.

use std::{
    string::String,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
    vec::Vec,
};

use super::{Broken, End, Limits, ResetError, Stopper, Vcpu, watch::Watch};
use crate::{
    abi::{Answer, Registers, Side, Transport, answer, signature, trap},
    error::{CallError, ConnectError, Why},
    meet,
    peer::{Core, Far, Lane, MAX_DEPTH, Peer},
};

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
    /// Ends the guest when a deadline is over.
    late: Stopper,
}

struct Pool<V> {
    /// The vCPUs that nobody has, the one that was used last at the end.
    free: Vec<Cpu<V>>,
    /// The threads that have the others.
    held: Vec<ThreadId>,
    /// How many threads wait for one.
    waiting: usize,
    end: Option<End>,
    /// Whether the guest was kept as it was after start-up, or why not.
    kept: Option<Result<(), String>>,
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

/// How a guest is to trap when it runs no call: what its host waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Ready,
    Return,
}

impl<V: Vcpu + 'static> Vm<V> {
    pub(super) fn new(vcpus: impl IntoIterator<Item = V>, limits: Limits) -> Arc<Self> {
        let limits = Limits { depth: limits.depth.min(MAX_DEPTH), ..limits };
        let cpu = |(number, vcpu)| Cpu { vcpu, number, parked: false, calls: 0, logged: 0 };
        let free: Vec<Cpu<V>> = vcpus.into_iter().enumerate().map(cpu).collect();
        let stoppers = free.iter().map(|cpu| cpu.vcpu.stopper()).collect();
        let held = Vec::with_capacity(free.len());
        Arc::new_cyclic(|vm| Self {
            pool: Mutex::new(Pool { free, held, waiting: 0, end: None, kept: None }),
            freed: Condvar::new(),
            ended: AtomicBool::new(false),
            stoppers,
            limits,
            watch: OnceLock::new(),
            late: Self::stops(vm.clone(), End::Deadline),
        })
    }

    /// What stops all vCPUs from any thread.
    pub(super) fn stopper(self: &Arc<Self>) -> Stopper {
        Self::stops(Arc::downgrade(self), End::Stopped)
    }

    fn stops(vm: std::sync::Weak<Self>, end: End) -> Stopper {
        Stopper::new(move || {
            let Some(vm) = vm.upgrade() else { return };
            // All of it under the lock: a reset comes before it or after it.
            let mut pool = vm.pool();
            pool.end.get_or_insert_with(|| end.clone());
            vm.ended.store(true, Ordering::Release);
            vm.stoppers.iter().for_each(Stopper::stop);
            drop(pool);
        })
    }
}

impl<V> Vm<V> {
    fn pool(&self) -> MutexGuard<'_, Pool<V>> {
        // Nothing that can panic is done under this lock.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shares the thread that watches deadlines, if there was no deadline yet.
    pub(super) fn watched_by(&self, watch: Arc<Watch>) {
        let _ = self.watch.set(watch);
    }

    /// How the guest has come to its end.
    pub(super) fn ended(&self) -> Option<End> {
        self.pool().end.clone()
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

    /// When a call that begins now is to be over.
    fn due(&self, limit: Option<Duration>) -> Option<Instant> {
        limit.or(self.limits.deadline).and_then(|limit| Instant::now().checked_add(limit))
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
    fn take(
        &self,
        until: Option<Instant>,
        fits: impl Fn(&Cpu<V>) -> bool,
    ) -> Result<Held<'_, V>, Why> {
        let here = ThreadId::here();
        let mut pool = self.pool();
        loop {
            if let Some(end) = &pool.end {
                return Err(end.why());
            }
            if let Some(at) = pool.free.iter().rposition(|cpu| fits(cpu) && cpu.vcpu.runs_here()) {
                let mut cpu = pool.free.remove(at);
                (cpu.calls, cpu.logged) = (0, 0);
                pool.held.push(here);
                return Ok(Held { vm: self, cpu: Some(cpu) });
            }
            // It must not wait for itself, nor for what does not come.
            if pool.held.is_empty() || pool.held.contains(&here) {
                return Err(Why::Busy);
            }
            pool = self.wait(pool, until).ok_or(Why::Busy)?;
        }
    }

    /// Waits until a vCPU has come back, but no longer than until then.
    fn wait<'p>(
        &'p self,
        mut pool: MutexGuard<'p, Pool<V>>,
        until: Option<Instant>,
    ) -> Option<MutexGuard<'p, Pool<V>>> {
        pool.waiting += 1;
        let left = until.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        let woken = self.freed.wait_timeout(pool, left);
        pool = woken.unwrap_or_else(PoisonError::into_inner).0;
        pool.waiting -= 1;
        (!left.is_zero()).then_some(pool)
    }

    /// Has a call from outside end in time, or the guest end with it.
    fn timed<R>(
        &self,
        core: &Core,
        until: Option<Instant>,
        call: impl FnOnce() -> Result<R, Why>,
    ) -> Result<R, Why> {
        let Some(at) = until else { return call() };
        let armed = self.watch.get_or_init(Arc::default).arm(at, self.late.clone());
        let done = call();
        if armed.in_time() {
            return done;
        }
        take_back(core);
        done.and(Err(self.why()))
    }

    /// Starts the guest, or lets it go on, one vCPU after the other.
    pub(super) fn run(&self, core: &Core, limit: Option<Duration>) -> Result<(), Why> {
        let until = self.due(limit);
        self.timed(core, until, || {
            (0..self.stoppers.len()).try_for_each(|number| self.start(core, number, until))
        })
    }

    /// Starts a vCPU, or lets it go on, and serves its calls until it waits for upcalls. When the last of them does
    /// so for the first time, the guest has started up, and is kept as it is then.
    fn start(&self, core: &Core, number: usize, until: Option<Instant>) -> Result<(), Why> {
        let mut held = self.take(until, |cpu| cpu.number == number)?;
        let Some(cpu) = &mut held.cpu else { return Err(Why::Busy) };
        let go_on = Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
        let answer = cpu.parked.then_some(go_on);
        cpu.go_on(Awaited::Ready, self, core, 0, answer)?;
        cpu.parked = true;
        if number + 1 == self.stoppers.len() {
            self.keep(core, cpu, until)?;
        }
        Ok(())
    }

    /// Keeps the guest as it is, once. The caller has this vCPU; all others wait, or will.
    fn keep(&self, core: &Core, last: &mut Cpu<V>, until: Option<Instant>) -> Result<(), Why> {
        let mut pool = self.pool();
        while pool.kept.is_none() && pool.end.is_none() && pool.held.len() > 1 {
            pool = self.wait(pool, until).ok_or(Why::Busy)?;
        }
        if pool.kept.is_none() && pool.end.is_none() {
            let others = pool.free.iter_mut();
            let kept = others.chain([last]).try_for_each(|cpu| cpu.vcpu.keep(&self.ended));
            if let (Ok(()), Ok(arena)) = (&kept, core.memory.arena(Side::Host)) {
                // It has them after each reset.
                arena.keep_loans();
            }
            pool.kept = Some(kept.map_err(|error| std::format!("{error}")));
        }
        Ok(())
    }

    /// Brings the guest back to where it was kept.
    pub(super) fn reset(&self, core: &Core) -> Result<(), ResetError> {
        let mut pool = self.pool();
        let idle = pool.held.is_empty() && pool.free.iter().all(|cpu| cpu.vcpu.runs_here());
        match &pool.kept {
            _ if !idle => return Err(ResetError::Busy),
            None => return Err(ResetError::NotStarted),
            Some(Err(why)) => return Err(ResetError::Failed(why.clone())),
            Some(Ok(())) => {}
        }
        // Handles are stale before there is anything else in their place.
        core.memory.reset();
        core.memory.wipe(Side::Host);
        for cpu in &mut pool.free {
            if let Err(error) = cpu.vcpu.restore() {
                let why = std::format!("{error}");
                pool.end.get_or_insert_with(|| End::Lost(why.clone()));
                self.ended.store(true, Ordering::Release);
                return Err(ResetError::Failed(why));
            }
            cpu.parked = true;
        }
        pool.end = None;
        self.ended.store(false, Ordering::Release);
        Ok(())
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

impl<V: Vcpu> Vm<V> {
    fn call(&self, peer: &Peer, signature: u64, transport: Transport) -> Result<Answer, CallError> {
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
        let mut held = self.take(until, |cpu| cpu.parked).map_err(|why| {
            // A guest that was stopped while it was parked gives nothing back.
            if self.ended.load(Ordering::Acquire) {
                take_back(core);
            }
            not_reached(why)
        })?;
        let Some(cpu) = &mut held.cpu else {
            return Err(not_reached(Why::Busy)); // it is there until `held` is dropped
        };
        let runs = !self.ended.load(Ordering::Acquire);
        let done = self.timed(core, until, || cpu.upcall(self, core, depth, signature, transport));
        done.map_err(|why| run(runs, why))
    }
}

impl<V: Vcpu> Far for Arc<Vm<V>> {
    fn call(&self, peer: &Peer, signature: u64, transport: Transport) -> Answer {
        Vm::call(self, peer, signature, transport)
            .unwrap_or_else(|error| Answer::status(error.status()))
    }
}

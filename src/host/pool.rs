//! The vCPUs of one guest: starting, checkpoints, reset, stop and deadlines, and calls to the guest. The loop from one trap to
//! the next is that of all hosts; [`state`] has which thread holds which vCPU.
//!
//! A guest has *lives*: one begins when the guest is started or reset, and ends with the next reset. The life of a pool
//! is identified by its region's [`Epoch`]. A call takes a vCPU and reads the life in which it runs under one lock,
//! [`PoolState`]; a reset, a stop and a deadline take the same lock. Long operations, to copy or restore the guest's
//! memory, run without the lock, but with all vCPUs taken.

use std::{
    panic::{self, AssertUnwindSafe},
    time::{Duration, Instant},
    vec::Vec,
};

use super::{
    CheckpointError, GuestExit, Limits, ResetError, Stopper, Vcpu,
    cpu::{Awaited, Cpu, failed, failed_here},
    deadline::{CpuBudget, DeadlineThread, Expire, UNMEASURED},
    hosted::ELSEWHERE,
    rules::{self, Owner, Rules},
};
use crate::{
    abi::{Registers, Side, Transport, answer},
    call::{CallContext, Endpoint, Peer, RemoteLink, Reserved},
    error::{CallError, ErrorKind, ErrorText, GuestEnd},
    handshake::ContractCopy,
    log::{self, Line},
    memory::{
        Epoch, Passage, ProcessId,
        sync::threads::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    },
};

mod state;

pub(crate) use state::HostCheckpoint;
use state::{HeldAll, PoolState};

/// The vCPUs of a guest, and what they share.
pub(super) struct VcpuPool<V> {
    state: Mutex<PoolState<V>>,
    /// Notified when a vCPU is put back while a thread waits for one.
    freed: Condvar,
    rules: Rules,
    /// The guest's contract once it has been compared in this life, for checkpoints.
    contract: Mutex<Option<Arc<Vec<u8>>>>,
    stoppers: Vec<Stopper>,
    deadlines: OnceLock<Arc<DeadlineThread>>,
    /// The process that runs the guest. A forked child must not lock the mutex, which a thread that does not exist in
    /// the child may hold.
    process: ProcessId,
}

impl<V: Vcpu + 'static> VcpuPool<V> {
    /// The vCPUs of a guest that has not started, or that waits for upcalls in a life that begins with a checkpoint.
    pub(super) fn new(
        vcpus: impl IntoIterator<Item = V>,
        limits: Limits,
        life: Epoch,
        checkpoint: Option<HostCheckpoint>,
    ) -> Arc<Self> {
        let parked = checkpoint.is_some();
        let contract = checkpoint.as_ref().and_then(|checkpoint| checkpoint.contract.clone());
        let cpu = |(number, vcpu): (usize, V)| {
            let clock = limits.cpu_time.and_then(|_| vcpu.cpu_clock());
            Cpu { clock, parked, number, ..Cpu::new(vcpu) }
        };
        let free: Vec<Cpu<V>> = vcpus.into_iter().enumerate().map(cpu).collect();
        let stoppers = free.iter().map(|cpu| cpu.vcpu.stopper()).collect();
        Arc::new(Self {
            state: Mutex::new(PoolState::new(free, life, checkpoint)),
            freed: Condvar::new(),
            rules: Rules::new(limits, contract.is_some()),
            contract: Mutex::new(contract),
            stoppers,
            deadlines: OnceLock::new(),
            process: ProcessId::current(),
        })
    }

    /// Stops all vCPUs, with this exit. It does nothing when the pool has been dropped.
    pub(super) fn stops_with(self: &Arc<Self>) -> impl Fn(GuestExit) + Send + Sync + use<V> {
        let pool = Arc::downgrade(self);
        move |exit| {
            if let Some(pool) = pool.upgrade() {
                pool.stop(exit, None);
            }
        }
    }
}

impl<V: Vcpu> Expire for VcpuPool<V> {
    fn expire(&self, life: usize, exit: GuestExit) {
        self.stop(exit, Some(life));
    }
}

impl<V> VcpuPool<V> {
    fn state(&self) -> MutexGuard<'_, PoolState<V>> {
        // A poisoned lock is no problem: the embedder's stoppers are the only foreign code that runs under it, and
        // `stop_all` catches their panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contract(&self) -> MutexGuard<'_, Option<Arc<Vec<u8>>>> {
        // Nothing panics while it is locked.
        self.contract.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process runs the guest; false in a forked child.
    fn is_home(&self) -> bool {
        self.process == ProcessId::current()
    }

    /// Sets the thread that enforces the deadlines, unless a deadline has been set before.
    pub(super) fn share_deadlines(&self, thread: Arc<DeadlineThread>) {
        let _ = self.deadlines.set(thread);
    }

    /// Whether the guest has exited in this life, or is being reset.
    pub(super) fn has_exited(&self) -> bool {
        !self.rules.runs()
    }

    /// How the guest has exited in this life, if it has.
    pub(super) fn ended(&self) -> Option<GuestExit> {
        if !self.is_home() {
            return Some(GuestExit::Lost(ELSEWHERE.into()));
        }
        self.state().exit.as_deref().cloned()
    }

    /// Stops the guest in the current life, whichever that is, or in the given one only. A stop during a reset stops
    /// the next life.
    fn stop(&self, exit: GuestExit, life: Option<usize>) {
        if !self.is_home() {
            return;
        }
        // The lock is held throughout, so that a reset runs either before or after.
        let mut state = self.state();
        if life.is_none_or(|life| life == state.life.number()) {
            state.record_exit(exit);
            self.rules.set_exited(true);
            self.stop_all();
        }
    }

    fn stop_all(&self) {
        for stopper in &self.stoppers {
            // A stopper of the embedder may panic; the other vCPUs must still be stopped.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| stopper.stop()));
        }
    }

    /// The deadline of a call that begins now.
    fn due(&self, limit: Option<Duration>) -> Option<Instant> {
        limit.or(self.rules.limits.deadline).and_then(|limit| Instant::now().checked_add(limit))
    }
}

impl<V: Vcpu + 'static> VcpuPool<V> {
    /// Runs `call` on a vCPU that the caller holds, and stops the guest at the deadline, or when it has used up its
    /// processor time. Whether the call was in time is decided before the vCPU is put back, so a deadline never ends a
    /// later life.
    fn timed<R>(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        until: Option<Instant>,
        life: Epoch,
        cpu: &mut Cpu<V>,
        call: impl FnOnce(&mut Cpu<V>) -> Result<R, ErrorKind>,
    ) -> Result<R, ErrorKind> {
        let budget = match self.rules.limits.cpu_time {
            None => None,
            Some(limit) => {
                let budget = cpu.clock.as_ref().and_then(|clock| CpuBudget::new(clock, limit));
                let unmeasured = || self.end(endpoint, GuestExit::Lost(UNMEASURED.into()));
                Some(budget.ok_or_else(unmeasured)?)
            }
        };
        if until.is_none() && budget.is_none() {
            return call(cpu);
        }
        let deadlines = self.deadlines.get_or_init(Arc::default);
        let deadline = until.map(|at| deadlines.arm(at, self.clone(), life.number()));
        let budget =
            budget.map(|budget| deadlines.arm_cpu_time(budget, self.clone(), life.number()));
        let done = call(cpu);
        // Each is removed, also if the other one has passed.
        let late = [deadline, budget].iter().flatten().filter(|armed| !armed.in_time()).count();
        if late == 0 {
            return done;
        }
        endpoint.own.memory.end_loans();
        done.and(Err(self.kind()))
    }

    /// Starts or resumes the guest, one vCPU after the other.
    pub(super) fn run(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        limit: Option<Duration>,
    ) -> Result<(), ErrorKind> {
        let until = self.due(limit);
        (0..self.stoppers.len()).try_for_each(|number| self.start(endpoint, number, until))
    }

    /// Starts or resumes a vCPU, and serves its calls until it traps with `READY`. When the last vCPU does so for the
    /// first time, takes the first checkpoint.
    fn start(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        number: usize,
        until: Option<Instant>,
    ) -> Result<(), ErrorKind> {
        let held = self.take(endpoint, until, None, |cpu| cpu.number == number);
        let mut held = held.map_err(|(why, _)| why)?;
        let Some(cpu) = &mut held.cpu else { return Err(ErrorKind::Busy) };
        let resume = Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
        let answer = cpu.parked.then_some(resume);
        self.timed(endpoint, until, held.life, cpu, |cpu| {
            cpu.run_until(Awaited::Ready, &**self, endpoint, 0, answer, &mut 0)?;
            cpu.parked = true;
            if number + 1 == self.stoppers.len() {
                self.first_checkpoint(endpoint, cpu, until)
            } else {
                Ok(())
            }
        })
    }

    /// Takes the first checkpoint of the guest, unless there is one. The caller holds the vCPU `last`; this waits until the
    /// others are free.
    fn first_checkpoint(
        &self,
        endpoint: &Endpoint,
        last: &mut Cpu<V>,
        until: Option<Instant>,
    ) -> Result<(), ErrorKind> {
        let mut state = self.state();
        while state.checkpoint.is_none() && state.exit.is_none() && state.held.len() > 1 {
            state = self.wait(state, until).ok_or(ErrorKind::Busy)?;
        }
        if state.checkpoint.is_some() || state.exit.is_some() {
            return Ok(());
        }
        let mut others = self.take_all(&mut state);
        drop(state);
        others.cpus.sort_unstable_by_key(|cpu| cpu.number);
        let saved = self.save_all(endpoint, others.cpus.iter_mut().chain([last]));
        match self.record(others, saved.map(|checkpoint| (checkpoint, ()))) {
            Err(CheckpointError::Exited(exit)) => Err(exit.kind()),
            // A reset tells why.
            _ => Ok(()),
        }
    }

    /// Makes the guest's present state what resets restore, and calls `then` with its vCPUs, which do not run meanwhile.
    pub(super) fn checkpoint<R>(
        &self,
        endpoint: &Endpoint,
        then: impl FnOnce(HostCheckpoint, &mut dyn Iterator<Item = &mut V>) -> R,
    ) -> Result<R, CheckpointError> {
        if !self.is_home() {
            return Err(CheckpointError::Failed(ELSEWHERE.into()));
        }
        let mut state = self.state();
        if let Some(exit) = &state.exit {
            return Err(CheckpointError::Exited((**exit).clone()));
        }
        if !state.held.is_empty() {
            return Err(CheckpointError::Busy);
        }
        if state.free.iter().any(|cpu| !cpu.parked) {
            return Err(CheckpointError::NotStarted);
        }
        let known = match &state.checkpoint {
            Some(Ok(checkpoint)) if !state.changed => Some(checkpoint.clone()),
            _ => None,
        };
        let mut all = self.take_all(&mut state);
        drop(state);
        // The order of their numbers.
        all.cpus.sort_unstable_by_key(|cpu| cpu.number);
        let saved = known.map_or_else(|| self.save_all(endpoint, all.cpus.iter_mut()), Ok);
        let saved = saved.map(|checkpoint| {
            let vcpus = &mut all.cpus.iter_mut().map(|cpu| &mut cpu.vcpu);
            (checkpoint.clone(), then(checkpoint, vcpus))
        });
        self.record(all, saved)
    }

    /// How many checkpoints were made.
    #[cfg(feature = "machine")]
    pub(super) fn checkpoints(&self) -> usize {
        self.state().checkpoints
    }

    /// Has all vCPUs of the guest, in the order of their numbers, save their states: the first one last, so that the earlier
    /// checkpoint remains if one fails.
    fn save_all<'c>(
        &self,
        endpoint: &Endpoint,
        cpus: impl Iterator<Item = &'c mut Cpu<V>>,
    ) -> Result<HostCheckpoint, ErrorText> {
        let mut cpus: Vec<_> = cpus.collect();
        let settled = cpus.iter_mut().try_for_each(|cpu| cpu.vcpu.settle());
        let save = |cpu: &mut &mut Cpu<V>| cpu.vcpu.snapshot(self.rules.exited());
        let saved = settled.and_then(|()| cpus.iter_mut().rev().try_for_each(save));
        saved.map_err(|error| ErrorText::from(format_args!("{error}")))?;
        if let Ok(arena) = endpoint.own.memory.arena(Side::Host) {
            // The guest's memory in the checkpoint may refer to them, so they remain valid after each reset.
            arena.keep_loans();
        }
        Ok(HostCheckpoint { contract: self.contract().clone() })
    }

    /// Records a checkpoint, or why there is none, and puts the vCPUs back.
    fn record<R>(
        &self,
        cpus: HeldAll<'_, V>,
        saved: Result<(HostCheckpoint, R), ErrorText>,
    ) -> Result<R, CheckpointError> {
        let recorded = cpus.finish(|state| match (saved, &state.exit) {
            (Ok((checkpoint, result)), _) => {
                state.checkpoints += usize::from(state.changed);
                (state.checkpoint, state.changed) = (Some(Ok(checkpoint)), false);
                Ok(result)
            }
            (Err(_), Some(exit)) => Err(CheckpointError::Exited((**exit).clone())),
            (Err(why), None) => {
                // Of a first checkpoint, resets tell why there is none, unless a stop or a deadline has cancelled it.
                if !matches!(state.checkpoint, Some(Ok(_))) {
                    state.checkpoint = Some(Err(why.clone()));
                }
                Err(CheckpointError::Failed(why))
            }
        });
        recorded.unwrap_or_else(|| Err(CheckpointError::Failed(ELSEWHERE.into())))
    }

    /// Restores the checkpoint of the guest, and begins a new life. Returns how the guest had exited in the old one, if
    /// it had.
    pub(super) fn reset(&self, endpoint: &Endpoint) -> Result<Option<Arc<GuestExit>>, ResetError> {
        if !self.is_home() {
            return Err(ResetError::Failed(ELSEWHERE.into()));
        }
        let mut state = self.state();
        if !state.held.is_empty() {
            return Err(ResetError::Busy);
        }
        let HostCheckpoint { contract } = match &state.checkpoint {
            None => return Err(ResetError::NotStarted),
            Some(Err(why)) => return Err(ResetError::Failed(why.clone())),
            Some(Ok(checkpoint)) => checkpoint.clone(),
        };
        let mut all = self.take_all(&mut state);
        // This ends the old life: calls that have lent to it fail with `Stale`, and its deadlines have no effect.
        state.life = endpoint.own.memory.begin_reset();
        // From here on, a stop stops the next life.
        let exit = state.exit.take();
        self.rules.set_exited(true);
        drop(state);
        let done = restore_all(endpoint, &mut all.cpus);
        all.finish(|state| {
            state.changed = false;
            state.life = endpoint.own.memory.end_reset();
            self.rules.set_known(contract.is_some());
            *self.contract() = contract;
            if let Err(why) = &done {
                state.exit = exit.clone();
                state.record_exit(GuestExit::Lost(why.clone()));
            } else if let Some(exit) = &state.exit {
                state.latest = Some((state.life, exit.clone()));
                self.stop_all();
            } else {
                self.rules.set_exited(false);
            }
        });
        done.map(|()| exit).map_err(ResetError::Failed)
    }
}

/// Restores all vCPUs and the guest's memory. All pending operations are completed before, so that none writes to the
/// restored memory.
fn restore_all<V: Vcpu>(endpoint: &Endpoint, cpus: &mut [Cpu<V>]) -> Result<(), ErrorText> {
    let text = |error| ErrorText::from(format_args!("{error}"));
    cpus.iter_mut().try_for_each(|cpu| cpu.vcpu.settle()).map_err(text)?;
    endpoint.own.memory.wipe(Side::Host);
    cpus.iter_mut().try_for_each(|cpu| {
        cpu.parked = true;
        cpu.vcpu.restore().map_err(text)
    })
}

impl<V: Vcpu> Owner for VcpuPool<V> {
    fn rules(&self) -> &Rules {
        &self.rules
    }

    #[cold]
    fn end(&self, endpoint: &Endpoint, exit: GuestExit) -> ErrorKind {
        let mut state = self.state();
        let kind = state.record_exit(exit).kind();
        drop(state);
        self.rules.set_exited(true);
        if self.stoppers.len() > 1 {
            self.stop_all();
        }
        endpoint.own.memory.end_loans();
        kind
    }

    fn kind(&self) -> ErrorKind {
        self.state().exit.as_ref().map_or(ErrorKind::Cancelled, |exit| exit.kind())
    }

    fn is_here(&self) -> bool {
        self.is_home()
    }

    fn keep(&self, contract: ContractCopy) {
        *self.contract() = Some(Arc::new(contract));
    }

    fn log(&self, line: Line<'_>) {
        log::trace(line);
    }
}

impl<V: Vcpu + 'static> VcpuPool<V> {
    /// One call from outside of any handler.
    fn outermost(
        self: &Arc<Self>,
        peer: &Peer,
        deadline: Option<Duration>,
        (signature, transport): (u64, Transport),
        passage: &mut Passage,
        status: &mut u64,
    ) -> Result<Transport, CallError> {
        let (endpoint, depth) = (peer.endpoint(), self.rules.depth_of_call(peer)?);
        let until = self.due(deadline);
        let lent = passage.epoch.filter(|_| passage.count != 0);
        let held = self.take(endpoint, until, lent, |cpu| cpu.parked);
        let mut held = held.map_err(|(kind, life)| {
            passage.epoch = Some(life);
            CallError::new(kind)
        })?;
        // The answer is validated in the life in which the call runs.
        passage.epoch = Some(held.life);
        if let (true, Ok(arena)) = (passage.count != 0, endpoint.own.memory.arena(Side::Host)) {
            arena.deliver(passage.latest, passage.count);
        }
        let Some(cpu) = &mut held.cpu else {
            return Err(CallError::new(ErrorKind::Busy)); // unreachable: `cpu` is taken only when `held` is dropped
        };
        let runs = self.rules.runs();
        let done = self.timed(endpoint, until, held.life, cpu, |cpu| {
            cpu.upcall(&**self, endpoint, depth, (signature, transport), status)
        });
        done.map_err(|kind| failed(runs, kind))
    }
}

impl<V: Vcpu + 'static> RemoteLink for Arc<VcpuPool<V>> {
    fn exit(&self, life: Epoch) -> Option<GuestEnd> {
        if !self.is_home() {
            return Some(Arc::new(GuestExit::Lost(ELSEWHERE.into())));
        }
        let state = self.state();
        let latest = state.latest.as_ref().filter(|latest| latest.0 == life);
        latest.map(|latest| latest.1.clone() as GuestEnd)
    }

    fn call(
        &self,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
        status: &mut u64,
    ) -> Transport {
        let done = match peer.nested() {
            Some(calls) => calls.call(peer, signature, transport, status),
            None => {
                let deadline = match peer.outer_context() {
                    CallContext::WithDeadline(limit) => Some(limit),
                    _ => None,
                };
                self.outermost(peer, deadline, (signature, transport), passage, status)
            }
        };
        done.unwrap_or_else(|error| failed_here(&error, passage, status))
    }
}

impl<V: Vcpu + 'static> Reserved for Arc<VcpuPool<V>> {
    fn serve(
        &self,
        endpoint: &Endpoint,
        signature: u64,
        transport: Transport,
    ) -> Option<Result<(), CallError>> {
        rules::serve_reserved(&**self, endpoint, signature, transport)
    }
}

#[cfg(all(test, loom))]
mod models;

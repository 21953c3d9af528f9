//! Which thread holds which vCPU.
//!
//! A call takes one vCPU; a checkpoint and a reset take all of them.

use std::{
    time::{Duration, Instant},
    vec::Vec,
};

use super::VcpuPool;
#[cfg(feature = "machine")]
use crate::contract::{self, Mismatch};
use crate::{
    call::Endpoint,
    error::{ErrorKind, ErrorText},
    host::{
        GuestExit, Vcpu,
        cpu::{Cpu, PANICKED},
    },
    memory::{
        Epoch,
        sync::threads::{Arc, MutexGuard, ThreadId, wait_timeout},
    },
};

/// The state of a pool that its lock protects.
pub(super) struct PoolState<V> {
    /// The free vCPUs, the one that was used last at the end.
    pub(super) free: Vec<Cpu<V>>,
    /// For each vCPU that is held, the thread that holds it.
    pub(super) held: Vec<ThreadId>,
    /// The number of threads that wait for a vCPU.
    pub(super) waiting: usize,
    /// The current life; during a reset, the epoch between two lives.
    pub(super) life: Epoch,
    /// How the guest has exited in this life.
    pub(super) exit: Option<Arc<GuestExit>>,
    /// The latest exit and its life, for calls that return after a reset.
    pub(super) latest: Option<(Epoch, Arc<GuestExit>)>,
    /// Once the guest has started up: the checkpoint that resets restore, or why there is none.
    pub(super) checkpoint: Option<Result<HostCheckpoint, ErrorText>>,
    /// How many checkpoints were made of the guest by this host.
    pub(super) checkpoints: usize,
    /// Whether a vCPU may have run since the checkpoint, or the last reset to it.
    pub(super) changed: bool,
}

/// The host's part of a guest's checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct HostCheckpoint {
    /// The guest's contract, if it had been compared.
    pub(super) contract: Option<Arc<Vec<u8>>>,
}

impl HostCheckpoint {
    /// Compares the guest's contract with that of another host.
    #[cfg(feature = "machine")]
    pub(crate) fn compare(&self, host: &[u8]) -> Result<(), Mismatch> {
        self.contract.as_ref().map_or(Ok(()), |guest| contract::compare(guest, host))
    }
}

impl<V> PoolState<V> {
    pub(super) fn new(free: Vec<Cpu<V>>, life: Epoch, checkpoint: Option<HostCheckpoint>) -> Self {
        let (held, checkpoint) = (Vec::with_capacity(free.len()), checkpoint.map(Ok));
        let (exit, latest, checkpoints) = (None, None, 0);
        let (waiting, changed) = (0, false);
        Self { free, held, waiting, life, exit, latest, checkpoint, checkpoints, changed }
    }

    /// Records how the guest has exited, unless it has exited in this life before. Returns the recorded exit.
    pub(super) fn record_exit(&mut self, exit: GuestExit) -> &GuestExit {
        let life = self.life;
        let exit = self.exit.get_or_insert_with(|| Arc::new(exit));
        self.latest = Some((life, exit.clone()));
        exit
    }
}

/// A vCPU that one thread holds; dropping this puts it back.
pub(super) struct Held<'m, V> {
    pool: &'m VcpuPool<V>,
    pub(super) cpu: Option<Cpu<V>>,
    /// The life, which does not change while a vCPU is held.
    pub(super) life: Epoch,
}

impl<V> Drop for Held<'_, V> {
    fn drop(&mut self) {
        self.pool.put_back(self.cpu.take(), |_| ());
    }
}

/// All vCPUs of a guest, which one thread holds for a checkpoint or a reset. Dropping this puts them back. If it is
/// dropped without [`finish`](Self::finish), a vCPU has panicked, and the guest exits.
pub(super) struct HeldAll<'m, V> {
    pool: &'m VcpuPool<V>,
    pub(super) cpus: Vec<Cpu<V>>,
    finished: bool,
}

impl<V> HeldAll<'_, V> {
    /// Puts all vCPUs back, and calls `with` under the same lock; `None` in a forked child.
    pub(super) fn finish<R>(mut self, with: impl FnOnce(&mut PoolState<V>) -> R) -> Option<R> {
        self.finished = true;
        self.pool.put_back(core::mem::take(&mut self.cpus), with)
    }
}

impl<V> Drop for HeldAll<'_, V> {
    fn drop(&mut self) {
        if !self.finished {
            self.pool.rules.set_exited(true);
            self.pool.put_back(core::mem::take(&mut self.cpus), |state| {
                state.record_exit(GuestExit::Lost(PANICKED.into()));
            });
        }
    }
}

impl<V> VcpuPool<V> {
    /// Puts vCPUs back that this thread holds, and calls `with` under the same lock; `None` in a forked child.
    pub(super) fn put_back<R>(
        &self,
        cpus: impl IntoIterator<Item = Cpu<V>>,
        with: impl FnOnce(&mut PoolState<V>) -> R,
    ) -> Option<R> {
        if !self.is_home() {
            // In a child that was forked while the vCPUs were held, a thread that does not exist may hold the lock.
            return None;
        }
        let mut state = self.state();
        let here = ThreadId::here();
        for cpu in cpus {
            if let Some(at) = state.held.iter().rposition(|thread| *thread == here) {
                state.held.swap_remove(at);
            }
            state.free.push(cpu);
        }
        let done = with(&mut state);
        let waiting = state.waiting;
        drop(state);
        // Threads may wait for different vCPUs, so all of them are woken.
        if waiting != 0 {
            self.freed.notify_all();
        }
        Some(done)
    }

    /// Takes all free vCPUs.
    pub(super) fn take_all(&self, state: &mut PoolState<V>) -> HeldAll<'_, V> {
        let cpus = core::mem::take(&mut state.free);
        // `put_back` allocates nothing.
        state.free.reserve_exact(cpus.len());
        state.held.extend(cpus.iter().map(|_| ThreadId::here()));
        HeldAll { pool: self, cpus, finished: false }
    }
}

impl<V: Vcpu> VcpuPool<V> {
    /// Takes a vCPU for which `fits` returns true; if other threads hold all of them, waits until `until`. `lent` is
    /// the life in which the call's loans were made: in another one, the call fails with `Stale`. An error comes with
    /// the life in which it occurred.
    pub(super) fn take(
        &self,
        endpoint: &Endpoint,
        until: Option<Instant>,
        lent: Option<Epoch>,
        fits: impl Fn(&Cpu<V>) -> bool,
    ) -> Result<Held<'_, V>, (ErrorKind, Epoch)> {
        if !self.is_home() {
            return Err((ErrorKind::PeerDied, endpoint.own.memory.epoch()));
        }
        let here = ThreadId::here();
        let mut state = self.state();
        loop {
            let life = state.life;
            if lent.is_some_and(|lent| lent != life) {
                return Err((ErrorKind::Stale, life));
            }
            if let Some(exit) = &state.exit {
                // A stop does not end the loans, and a guest that has exited never releases them.
                endpoint.own.memory.end_loans();
                return Err((exit.kind(), life));
            }
            if let Some(at) = state.free.iter().rposition(&fits) {
                let mut cpu = state.free.remove(at);
                cpu.begin();
                state.held.push(here);
                state.changed = true;
                return Ok(Held { pool: self, cpu: Some(cpu), life });
            }
            // Waiting would never end if no vCPU is held, or deadlock if this thread holds one.
            if state.held.is_empty() || state.held.contains(&here) {
                return Err((ErrorKind::Busy, life));
            }
            state = self.wait(state, until).ok_or((ErrorKind::Busy, life))?;
        }
    }

    /// Waits until a vCPU is put back; `None` if `until` has passed before.
    pub(super) fn wait<'p>(
        &'p self,
        mut state: MutexGuard<'p, PoolState<V>>,
        until: Option<Instant>,
    ) -> Option<MutexGuard<'p, PoolState<V>>> {
        state.waiting += 1;
        let left = until.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        state = wait_timeout(&self.freed, state, left);
        state.waiting -= 1;
        (!left.is_zero()).then_some(state)
    }
}

//! Who has which vCPU.
//!
//! A call takes one and learns in which life it runs, under the lock of the pool; keeping and resetting a guest take all of them.

use std::{
    string::String,
    time::{Duration, Instant},
    vec::Vec,
};

use super::{Cpu, PANICKED, Vm};
use crate::{
    error::Why,
    host::{End, Vcpu},
    memory::Epoch,
    peer::Core,
    sync::threads::{Arc, MutexGuard, Ordering, ThreadId, wait_timeout},
};

/// Which thread has which vCPU, and what is decided under the same lock.
pub(super) struct Pool<V> {
    /// The vCPUs that nobody has, the one that was used last at the end.
    pub(super) free: Vec<Cpu<V>>,
    /// The threads that have the others.
    pub(super) held: Vec<ThreadId>,
    /// How many threads wait for one.
    pub(super) waiting: usize,
    /// The life that runs, or, during a reset, the time between two.
    pub(super) life: Epoch,
    /// How this life has come to its end.
    pub(super) end: Option<Arc<End>>,
    /// The latest end, and the life that it was of: for calls that come back after a reset.
    pub(super) latest: Option<(Epoch, Arc<End>)>,
    /// Whether the guest was kept as it was after start-up, or why not.
    pub(super) kept: Option<Result<(), String>>,
}

impl<V> Pool<V> {
    pub(super) fn new(free: Vec<Cpu<V>>, life: Epoch) -> Self {
        let held = Vec::with_capacity(free.len());
        Self { free, held, waiting: 0, life, end: None, latest: None, kept: None }
    }

    /// The life has come to an end. The first one is the one that counts.
    pub(super) fn ends(&mut self, end: End) -> &End {
        let life = self.life;
        let end = self.end.get_or_insert_with(|| Arc::new(end));
        self.latest = Some((life, end.clone()));
        end
    }
}

/// A vCPU in the hands of one thread.
pub(super) struct Held<'m, V> {
    vm: &'m Vm<V>,
    pub(super) cpu: Option<Cpu<V>>,
    /// The life that it runs, which does not change while it is held.
    pub(super) life: Epoch,
    /// The guest was not yet kept when the vCPU was taken.
    pub(super) early: bool,
}

impl<V> Drop for Held<'_, V> {
    fn drop(&mut self) {
        self.vm.put_back(self.cpu.take(), |_| ());
    }
}

/// All vCPUs in the hands of one thread, while they are kept or reset. Whatever happens, they come back; what
/// [`finish`](Self::finish) was not told of is a failure, which ends the guest.
pub(super) struct HeldAll<'m, V> {
    vm: &'m Vm<V>,
    pub(super) cpus: Vec<Cpu<V>>,
    finished: bool,
}

impl<V> HeldAll<'_, V> {
    /// Lets all of them go, and does `with` under the same lock.
    pub(super) fn finish(mut self, with: impl FnOnce(&mut Pool<V>)) {
        self.finished = true;
        self.vm.put_back(core::mem::take(&mut self.cpus), with);
    }
}

impl<V> Drop for HeldAll<'_, V> {
    fn drop(&mut self) {
        if !self.finished {
            // A vCPU of the embedder's own has panicked.
            self.vm.ended.store(true, Ordering::Release);
            self.vm.put_back(core::mem::take(&mut self.cpus), |pool| {
                pool.ends(End::Lost(PANICKED.into()));
            });
        }
    }
}

impl<V> Vm<V> {
    /// Gives vCPUs back that this thread has, and does `with` under the same lock.
    pub(super) fn put_back(
        &self,
        cpus: impl IntoIterator<Item = Cpu<V>>,
        with: impl FnOnce(&mut Pool<V>),
    ) {
        if !self.is_here() {
            // This process was forked while the vCPUs were held: the lock may be that of a thread which is not there.
            return;
        }
        let mut pool = self.pool();
        let here = ThreadId::here();
        for cpu in cpus {
            if let Some(at) = pool.held.iter().rposition(|thread| *thread == here) {
                pool.held.swap_remove(at);
            }
            pool.free.push(cpu);
        }
        with(&mut pool);
        let waiting = pool.waiting;
        drop(pool);
        // Several may wait for different ones.
        if waiting != 0 {
            self.freed.notify_all();
        }
    }

    /// Takes all vCPUs that nobody has, of a guest whose pool is locked.
    pub(super) fn take_all(&self, pool: &mut Pool<V>) -> HeldAll<'_, V> {
        let cpus = core::mem::take(&mut pool.free);
        // Where they come back to.
        pool.free.reserve_exact(cpus.len());
        pool.held.extend(cpus.iter().map(|_| ThreadId::here()));
        HeldAll { vm: self, cpus, finished: false }
    }
}

impl<V: Vcpu> Vm<V> {
    /// Takes a vCPU of those that `fits`, and waits for other threads' calls to end. `lent` is the life in which something
    /// was lent that goes along: it is not for another one. Where there is none to be had, it says why, and in which life.
    pub(super) fn take(
        &self,
        core: &Core,
        until: Option<Instant>,
        lent: Option<Epoch>,
        fits: impl Fn(&Cpu<V>) -> bool,
    ) -> Result<Held<'_, V>, (Why, Epoch)> {
        if !self.is_here() {
            return Err((Why::PeerDied, core.memory.epoch()));
        }
        let here = ThreadId::here();
        let mut pool = self.pool();
        loop {
            let life = pool.life;
            if lent.is_some_and(|lent| lent != life) {
                return Err((Why::Stale, life));
            }
            if let Some(end) = &pool.end {
                // A guest that was stopped while it was parked gives nothing back.
                core.memory.end_loans();
                return Err((end.why(), life));
            }
            if let Some(at) = pool.free.iter().rposition(|cpu| fits(cpu) && cpu.vcpu.runs_here()) {
                let mut cpu = pool.free.remove(at);
                (cpu.calls, cpu.logged) = (0, 0);
                pool.held.push(here);
                let early = pool.kept.is_none();
                return Ok(Held { vm: self, cpu: Some(cpu), life, early });
            }
            // It must not wait for itself, nor for what does not come.
            if pool.held.is_empty() || pool.held.contains(&here) {
                return Err((Why::Busy, life));
            }
            pool = self.wait(pool, until).ok_or((Why::Busy, life))?;
        }
    }

    /// Waits until a vCPU has come back, but no longer than until then.
    pub(super) fn wait<'p>(
        &'p self,
        mut pool: MutexGuard<'p, Pool<V>>,
        until: Option<Instant>,
    ) -> Option<MutexGuard<'p, Pool<V>>> {
        pool.waiting += 1;
        let left = until.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        pool = wait_timeout(&self.freed, pool, left);
        pool.waiting -= 1;
        (!left.is_zero()).then_some(pool)
    }
}

//! Snapshots: warm guests, from which any number of machines are made.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    vec::Vec,
};

#[cfg(feature = "kvm")]
use super::kvm::KvmSnapshot;
#[cfg(feature = "process")]
use super::process::ProcessSnapshot;
use super::{
    Backend, Machine, MachineError,
    made::{HostOptions, Made},
    plan::Plan,
    vcpu::{BackendVcpu, MachineVcpu},
};
use crate::{
    call::Serve,
    error::CallError,
    host::{CheckpointError, DeadlineThread, HostCheckpoint, Limits},
    memory::{KeptBlock, ProcessId},
};

/// The state of a guest that waited for upcalls: its memory and its registers. Any number of machines are made from it, on any
/// thread, each with a server of its own, also after the guest is gone. [`Machine::snapshot`](super::Machine::snapshot)
/// returns one; clones share it.
///
/// A machine of a snapshot begins where the guest was, and waits for upcalls at once. It shares the guest's pages with all
/// others; a page that it writes becomes its own. So it costs what it writes, whatever the size of the guest. The snapshot
/// costs the pages of the guest that were written, and up to the guest's whole memory if its machines read the others.
///
/// - The guest has what it had: its arena, the loans that it had received from its host, and its registers. The time-stamp
///   counter continues from the snapshot.
/// - The host has nothing of the other host but the loans that the guest holds. The other arena's contents and the other
///   server do not come along: what the guest remembers of that server, such as numbers of its sessions, must mean the same to
///   the new one.
/// - The guest is told that it lives anew, by a new generation and seed ([`guest::seed`](crate::guest)).
/// - [`reset`](super::Machine::reset) brings the machine back to the snapshot, or to a later checkpoint of its own.
///
/// ```no_run
/// # use vmffi::machine::{Backend, Image, MachineBuilder};
/// # fn warm_up(_: &vmffi::Peer) {}
/// # fn template() -> Result<(), Box<dyn std::error::Error>> {
/// let image = Image::open("target/guest/release/guest")?;
/// let first = MachineBuilder::new(&image).build(Backend::best().ok_or("no backend")?, ())?;
/// first.run()?;
/// warm_up(first.guest());
/// let snapshot = first.snapshot()?;
/// drop(first);
/// let [one, other] = [snapshot.build(())?, snapshot.build(())?];
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Snapshot {
    state: Arc<State>,
    options: Arc<HostOptions>,
}

/// What the clones of a snapshot share.
struct State {
    plan: Arc<Plan>,
    host: HostCheckpoint,
    kept: Vec<KeptBlock>,
    machine: MachineSnapshot,
    /// Machines that [`Snapshot::prepare`] has made.
    prepared: Mutex<Vec<Made<BackendVcpu>>>,
    /// The process that has made them.
    process: ProcessId,
}

enum MachineSnapshot {
    #[cfg(feature = "kvm")]
    Kvm(KvmSnapshot),
    #[cfg(feature = "process")]
    Process(ProcessSnapshot),
}

impl Machine {
    /// Takes a snapshot of the guest as it is now, while all of its vCPUs wait for upcalls. This also makes a
    /// [`checkpoint`](Self::checkpoint), unless no vCPU has run since the last one.
    ///
    /// Machines of the snapshot have the limits and the observer of this one's builder.
    ///
    /// # Errors
    ///
    /// As [`checkpoint`](Self::checkpoint): during a call, before the guest has waited for upcalls on all vCPUs, after it has
    /// exited, or if its state cannot be copied.
    pub fn snapshot(&self) -> Result<Snapshot, CheckpointError> {
        let (taken, host, kept) = self.checkpoint_with(|host, vcpus| {
            (MachineSnapshot::of(vcpus), host, self.kept_blocks())
        })?;
        let failed = |error: io::Error| CheckpointError::Failed(format_args!("{error}").into());
        let (machine, plan, options) = taken.map_err(failed)?;
        let kept = kept.ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        let (prepared, process) = (Mutex::default(), ProcessId::current());
        let state = Arc::new(State { plan, host, kept, machine, prepared, process });
        Ok(Snapshot { state, options })
    }
}

impl MachineSnapshot {
    /// The snapshot of the guest with these vCPUs, with its plan and options.
    fn of(
        vcpus: &mut dyn Iterator<Item = &mut MachineVcpu>,
    ) -> io::Result<(Self, Arc<Plan>, Arc<HostOptions>)> {
        let mut vcpus = vcpus.peekable();
        let first = vcpus.peek().ok_or(io::ErrorKind::NotFound)?;
        let options = first.options.clone();
        match &first.running {
            #[cfg(feature = "kvm")]
            BackendVcpu::Kvm(vcpu) => {
                let plan = vcpu.plan().clone();
                let vcpus = vcpus.filter_map(|vcpu| match &mut vcpu.running {
                    BackendVcpu::Kvm(vcpu) => Some(&mut **vcpu),
                    #[cfg(feature = "process")]
                    BackendVcpu::Process(_) => None,
                });
                Ok((Self::Kvm(KvmSnapshot::of(vcpus)?), plan, options))
            }
            #[cfg(feature = "process")]
            BackendVcpu::Process(vcpu) => {
                let plan = vcpu.plan().clone();
                let vcpus = vcpus.filter_map(|vcpu| match &mut vcpu.running {
                    #[cfg(feature = "kvm")]
                    BackendVcpu::Kvm(_) => None,
                    BackendVcpu::Process(vcpu) => Some(&mut **vcpu),
                });
                Ok((Self::Process(ProcessSnapshot::of(vcpus)?), plan, options))
            }
        }
    }
}

impl Snapshot {
    /// The backend on which it was taken, and which runs its machines.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match &self.state.machine {
            #[cfg(feature = "kvm")]
            MachineSnapshot::Kvm(_) => Backend::Kvm,
            #[cfg(feature = "process")]
            MachineSnapshot::Process(_) => Backend::Process,
        }
    }

    /// Sets what guests of this snapshot may use, as [`MachineBuilder::limits`](super::MachineBuilder::limits) does.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        Arc::make_mut(&mut self.options).limits = limits;
        self
    }

    /// Notifies `observer` of every call that a host of this snapshot refuses or fails, as
    /// [`MachineBuilder::observe`](super::MachineBuilder::observe) does.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&CallError) + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.options).observer = Some(Arc::new(observer));
        self
    }

    /// Makes a machine, whose guest waits for upcalls. `server` serves its calls.
    ///
    /// # Errors
    ///
    /// [`MachineError::Contract`] if the server does not fit the guest, [`MachineError::System`] if the system refuses a
    /// request, and [`MachineError::Region`] if the heap has no room for the metadata of the host's arena.
    pub fn build<S: Serve>(&self, server: S) -> Result<Machine, MachineError> {
        let state = &*self.state;
        state.host.compare(S::CONTRACT).map_err(MachineError::Contract)?;
        let made = match self.prepared().and_then(|mut prepared| prepared.pop()) {
            Some(made) => made,
            None => self.make()?,
        };
        made.connect(&self.options, &state.plan, server, Some((state.host.clone(), &state.kept)))
    }

    /// Makes machines ahead of time, until `count` are ready: [`build`](Self::build) takes one, which then costs a fraction of
    /// making it. They are shared by all clones of the snapshot. In a process that was forked from the one that has taken the
    /// snapshot, this makes none.
    ///
    /// # Errors
    ///
    /// [`MachineError::System`]: then fewer are ready.
    pub fn prepare(&self, count: usize) -> Result<(), MachineError> {
        while self.prepared().is_some_and(|prepared| prepared.len() < count) {
            let made = self.make()?;
            if let Some(mut prepared) = self.prepared() {
                prepared.push(made);
            }
        }
        Ok(())
    }

    /// The machines that are ready; `None` in a process that was forked from the one that has made them, which must not lock
    /// what a thread of that one may have locked.
    fn prepared(&self) -> Option<MutexGuard<'_, Vec<Made<BackendVcpu>>>> {
        let here = self.state.process == ProcessId::current();
        // Nothing panics while it is locked.
        here.then(|| self.state.prepared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The thread that enforces the deadlines of its machines.
    pub(super) fn deadlines(&self) -> &Arc<DeadlineThread> {
        &self.options.deadlines
    }

    /// Makes a machine without a host.
    fn make(&self) -> Result<Made<BackendVcpu>, MachineError> {
        let plan = &self.state.plan;
        match &self.state.machine {
            #[cfg(feature = "kvm")]
            MachineSnapshot::Kvm(machine) => Ok(machine.start(plan)?.map(BackendVcpu::kvm)),
            #[cfg(feature = "process")]
            MachineSnapshot::Process(machine) => Ok(machine.start(plan)?.map(BackendVcpu::process)),
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("backend", &self.backend()).finish_non_exhaustive()
    }
}

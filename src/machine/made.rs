//! A machine that has been made, and how a host is connected to it.

use std::{boxed::Box, sync::Arc, vec::Vec};

use super::{
    Machine, MachineError,
    life::{HoldsRegion, Lives},
    plan::Plan,
    vcpu::{BackendVcpu, MachineVcpu},
};
use crate::{
    call::Serve,
    error::Observer,
    host::{DeadlineThread, Host, HostBuilder, HostCheckpoint, Limits, Vcpu},
    memory::{KeptBlock, RegionMemory},
};

/// A machine that no host is connected to yet.
pub(super) struct Made<V> {
    pub(super) vcpus: Vec<V>,
    pub(super) memory: Arc<dyn HoldsRegion>,
    pub(super) lives: Arc<Lives>,
}

impl<V> Made<V> {
    /// The same machine with its vCPUs changed.
    pub(super) fn map<W>(self, vcpu: impl Fn(V) -> W) -> Made<W> {
        let Self { vcpus, memory, lives } = self;
        Made { vcpus: vcpus.into_iter().map(vcpu).collect(), memory, lives }
    }
}

fn begin_life(lives: &Lives, memory: &dyn HoldsRegion) -> Result<(), MachineError> {
    lives.begin(memory).map_err(MachineError::system("drawing the guest's seed (getrandom)"))
}

impl Made<BackendVcpu> {
    /// Begins the guest's first life without a host.
    pub(super) fn begin_life(&self) -> Result<(), MachineError> {
        begin_life(&self.lives, &*self.memory)
    }

    /// Connects a host with these options.
    pub(super) fn connect(
        self,
        options: &Arc<HostOptions>,
        plan: &Plan,
        server: impl Serve,
        from: Option<(HostCheckpoint, &[KeptBlock])>,
    ) -> Result<Machine, MachineError> {
        let vcpus = self.map(|running| MachineVcpu { running, options: options.clone() });
        options.connect(plan, vcpus, server, from)
    }
}

/// What a builder sets that does not concern the guest's memory.
#[derive(Clone, Default)]
pub(super) struct HostOptions {
    pub(super) limits: Limits,
    pub(super) observer: Option<Arc<Observer>>,
    pub(super) deadlines: Arc<DeadlineThread>,
}

impl HostOptions {
    /// Connects a host to a machine, which begins with a checkpoint if there is one.
    pub(super) fn connect<V: Vcpu + 'static>(
        &self,
        plan: &Plan,
        made: Made<V>,
        server: impl Serve,
        from: Option<(HostCheckpoint, &[KeptBlock])>,
    ) -> Result<Host<V>, MachineError> {
        let Made { vcpus, memory, lives } = made;
        if self.limits.cpu_time.is_some() && vcpus.iter().any(|vcpu| vcpu.cpu_clock().is_none()) {
            return Err(MachineError::Config(
                "the processor time of the guest cannot be measured: `Limits::cpu_time` needs the clocks of threads and \
                 processes (clock_gettime(2)), and for several vCPUs in a process `/proc`",
            ));
        }
        let (base, len) = (memory.region(), plan.layout.len());
        // SAFETY: the machine has `len` bytes for the region at `base`. They stay mapped as long as `memory`, which the host
        // keeps, and `machine` accesses them through raw pointers and by system calls only. The guest cannot write the header
        // and the host's arena: their parts are not writable, and both backends map them as such.
        let region = unsafe { RegionMemory::new(base, len, Box::new(memory.clone())) };
        let mut builder = HostBuilder::new(region, plan.layout).limits(self.limits.clone());
        if let Some(observer) = self.observer.clone() {
            builder = builder.observe(move |error| observer(error));
        }
        let host = builder.build_from(server, vcpus, from)?;
        // The host has written the rest of the header.
        begin_life(&lives, &*memory)?;
        if self.deadlines.is_here() {
            host.share_deadlines(&self.deadlines);
        }
        Ok(host)
    }
}

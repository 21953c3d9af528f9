//! A virtual machine's part of a snapshot.

use std::{io, sync::Arc, vec::Vec};

use super::{
    super::{MachineError, Made, checkpoint::Checkpoint, life::Lives, plan::Plan},
    KvmMachine, KvmVcpu, StopSignal, native,
};
use crate::abi::TrapMethod;

/// A machine's part of a snapshot.
pub(in super::super) struct KvmSnapshot {
    checkpoint: Arc<Checkpoint>,
    vcpus: Vec<(Arc<native::State>, native::Clock)>,
    trap_method: TrapMethod,
    signal: StopSignal,
    generation: u64,
}

impl KvmSnapshot {
    /// The snapshot of the machine with these vCPUs, all of which have just saved their states.
    pub(in super::super) fn of<'v>(
        vcpus: impl Iterator<Item = &'v mut KvmVcpu>,
    ) -> io::Result<Self> {
        let mut found = None;
        let mut states = Vec::new();
        for vcpu in vcpus {
            let state = vcpu.saved.get(&vcpu.machine.checkpoints);
            let state = state.ok_or(io::ErrorKind::NotFound)?;
            states.push((state, vcpu.clock()?));
            found = Some((vcpu.machine.clone(), vcpu.trap.method()));
        }
        let (machine, trap_method) = found.ok_or(io::ErrorKind::NotFound)?;
        let checkpoint = machine.memory.checkpoint().ok_or(io::ErrorKind::NotFound)?;
        let plan = &machine.plan;
        let checkpoint = Arc::new(checkpoint.with_image(
            &plan.image_file,
            plan.space.image_len,
            plan.space.len,
        )?);
        let (signal, generation) = (machine.signal, machine.lives.generation());
        Ok(Self { checkpoint, vcpus: states, trap_method, signal, generation })
    }

    /// Makes a virtual machine whose vCPUs wait in the state of the snapshot.
    pub(in super::super) fn start(&self, plan: &Arc<Plan>) -> Result<Made<KvmVcpu>, MachineError> {
        self.signal.install()?;
        let (checkpoint, lives) = (Some(&self.checkpoint), Arc::new(Lives::after(self.generation)));
        let (machine, mut vcpus) =
            KvmMachine::new(plan, self.signal, checkpoint, lives, self.trap_method)?;
        machine.map_doorbell(self.trap_method);
        for (vcpu, (state, clock)) in vcpus.iter_mut().zip(&self.vcpus) {
            vcpu.adopt(state, clock)
                .map_err(MachineError::system("setting the registers of a vCPU"))?;
        }
        Ok(Made { vcpus, memory: machine.memory.clone(), lives: machine.lives.clone() })
    }
}

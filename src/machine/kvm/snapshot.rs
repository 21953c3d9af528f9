//! A virtual machine's part of a snapshot.

use std::{io, sync::Arc, vec::Vec};

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::{
    super::{MachineError, Made, checkpoint::Checkpoint, life::Lives, plan::Plan},
    KvmMachine, KvmVcpu, PORT, StopSignal, VcpuSnapshot,
};
use crate::abi::TrapMethod;

/// A machine's part of a snapshot.
pub(in super::super) struct KvmSnapshot {
    checkpoint: Arc<Checkpoint>,
    vcpus: Vec<(Arc<VcpuSnapshot>, Tsc)>,
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
            states.push((state, Tsc::of(&vcpu.fd)?));
            found = Some((vcpu.machine.clone(), vcpu.trap_method));
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
        let (machine, mut vcpus) = KvmMachine::new(plan, self.signal, checkpoint, lives)?;
        if self.trap_method != TrapMethod::Out(PORT) {
            machine.privileged.map_doorbell();
        }
        for (vcpu, (state, tsc)) in vcpus.iter_mut().zip(&self.vcpus) {
            vcpu.trap_method = self.trap_method;
            vcpu.adopt(state, tsc)
                .map_err(MachineError::system("setting the registers of a vCPU"))?;
        }
        Ok(Made { vcpus, memory: machine.memory.clone(), lives: machine.lives.clone() })
    }
}

/// The time-stamp counter of a vCPU (`KVM_GET_MSRS`, Intel SDM, volume 3, "Time-Stamp Counter"), so that it does not go back
/// in a machine that is made from a snapshot.
pub(super) struct Tsc(u64);

impl Tsc {
    const MSR: u32 = 0x10;

    fn entries(data: u64) -> io::Result<Msrs> {
        let entry = kvm_msr_entry { index: Self::MSR, data, ..Default::default() };
        Msrs::from_entries(&[entry]).map_err(|error| io::Error::other(std::format!("{error:?}")))
    }

    fn of(vcpu: &VcpuFd) -> io::Result<Self> {
        let mut entries = Self::entries(0)?;
        vcpu.get_msrs(&mut entries)?;
        Ok(Self(entries.as_slice().first().map_or(0, |entry| entry.data)))
    }

    pub(super) fn set(&self, vcpu: &VcpuFd) -> io::Result<()> {
        vcpu.set_msrs(&Self::entries(self.0)?)?;
        Ok(())
    }
}

//! A process's part of a snapshot.

use std::{io, sync::Arc, vec::Vec};

use super::{
    super::{MachineError, Made, life::Lives, plan::Plan, saved::Saved},
    Command, ProcessCheckpoint, ProcessVcpu,
    control::Frame,
    make,
};

/// What a process needs to begin in the state of another one.
pub(in super::super) struct ProcessSnapshot {
    checkpoint: Arc<ProcessCheckpoint>,
    vcpus: Vec<Arc<Frame>>,
    generation: u64,
}

impl ProcessSnapshot {
    /// The snapshot of the guest with these vCPUs, all of which have just saved their states.
    pub(in super::super) fn of<'v>(
        vcpus: impl Iterator<Item = &'v mut ProcessVcpu>,
    ) -> io::Result<Self> {
        let (mut shared, mut states) = (None, Vec::new());
        for vcpu in vcpus {
            let saved = vcpu.saved.get(&vcpu.shared.checkpoints);
            states.push(saved.ok_or(io::ErrorKind::NotFound)?);
            shared = Some(vcpu.shared.clone());
        }
        let shared = shared.ok_or(io::ErrorKind::NotFound)?;
        let checkpoint = shared.checkpoint().clone().ok_or(io::ErrorKind::NotFound)?;
        let plan = &shared.plan;
        let private = checkpoint.private.with_image(
            &plan.image_file,
            plan.space.image_len,
            plan.space.region,
        )?;
        let checkpoint = Arc::new(ProcessCheckpoint { private, region: checkpoint.region.clone() });
        Ok(Self { checkpoint, vcpus: states, generation: shared.lives.generation() })
    }

    /// Makes a process whose vCPUs wait in the state of the snapshot.
    pub(in super::super) fn start(
        &self,
        plan: &Arc<Plan>,
    ) -> Result<Made<ProcessVcpu>, MachineError> {
        let (shared, mut vcpus) =
            make(plan, Some(&self.checkpoint), Arc::new(Lives::after(self.generation)))?;
        for (vcpu, frame) in vcpus.iter_mut().zip(&self.vcpus) {
            (vcpu.next, vcpu.back_to) = (Command::Back, Some(frame.clone()));
            vcpu.saved = Saved::of(frame);
            // Its thread has had no life before.
            vcpu.has_gone_back_again = true;
        }
        Ok(Made { vcpus, memory: shared.region.clone(), lives: shared.lives.clone() })
    }
}

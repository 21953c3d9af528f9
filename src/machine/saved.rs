//! The registers of a machine's vCPUs in its checkpoint.
//!
//! The vCPUs save their states one after the other, the first one last. Only then there is a new checkpoint: if one of them
//! fails before, the earlier checkpoint remains as a whole.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How many checkpoints a machine has made.
#[derive(Default)]
pub(super) struct Checkpoints(AtomicU64);

impl Checkpoints {
    /// There is one more: all vCPUs have saved their states.
    pub(super) fn made(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a vCPU has saved.
pub(super) struct Saved<T> {
    /// Its state in the checkpoint.
    current: Option<Arc<T>>,
    /// Its state in the checkpoint with this number, if that is made.
    next: Option<(Arc<T>, u64)>,
}

impl<T> Saved<T> {
    pub(super) const NOTHING: Self = Self { current: None, next: None };

    /// The state of a vCPU that begins with a checkpoint.
    pub(super) fn of(state: &Arc<T>) -> Self {
        Self { current: Some(state.clone()), next: None }
    }

    /// Saves a state for the next checkpoint.
    pub(super) fn save(&mut self, state: Arc<T>, checkpoints: &Checkpoints) {
        let _ = self.get(checkpoints);
        self.next = Some((state, checkpoints.count() + 1));
    }

    /// The state in the latest checkpoint.
    pub(super) fn get(&mut self, checkpoints: &Checkpoints) -> Option<Arc<T>> {
        if let Some((state, _)) = self.next.take_if(|next| next.1 == checkpoints.count()) {
            self.current = Some(state);
        }
        self.current.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_counts_when_all_are_saved() {
        let checkpoints = Checkpoints::default();
        let mut vcpus = [Saved::NOTHING, Saved::NOTHING];
        let get = |vcpus: &mut [Saved<u32>; 2], checkpoints: &Checkpoints| {
            vcpus.each_mut().map(|vcpu| vcpu.get(checkpoints).map(|state| *state))
        };
        vcpus[1].save(Arc::new(11), &checkpoints);
        assert_eq!(get(&mut vcpus, &checkpoints), [None, None]);
        vcpus[1].save(Arc::new(12), &checkpoints);
        vcpus[0].save(Arc::new(2), &checkpoints);
        checkpoints.made();
        assert_eq!(get(&mut vcpus, &checkpoints), [Some(2), Some(12)]);
        // Without a look between, one that is not made, then one that is.
        vcpus[1].save(Arc::new(13), &checkpoints);
        vcpus[1].save(Arc::new(14), &checkpoints);
        assert_eq!(get(&mut vcpus, &checkpoints), [Some(2), Some(12)]);
        vcpus[0].save(Arc::new(4), &checkpoints);
        checkpoints.made();
        vcpus[1].save(Arc::new(15), &checkpoints);
        assert_eq!(get(&mut vcpus, &checkpoints), [Some(4), Some(14)]);
    }
}

//! The processor time of a vCPU.

use std::{fmt, sync::Arc, time::Duration};

/// A clock of the processor time that the guest has used on one vCPU ([`Vcpu::cpu_clock`](super::Vcpu::cpu_clock)). Any
/// thread may read it, at any time, whether the vCPU runs or not.
#[derive(Clone)]
pub struct CpuClock(Arc<dyn Fn() -> Option<Duration> + Send + Sync>);

impl CpuClock {
    /// A clock that `read` reads: the processor time since some moment before the vCPU first ran, or `None` if it
    /// cannot be read. It never goes back between two resets of the guest.
    pub fn new(read: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The processor time that the guest has used on the vCPU so far; `None` if that cannot be read.
    #[must_use]
    pub fn read(&self) -> Option<Duration> {
        (self.0)()
    }
}

impl fmt::Debug for CpuClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuClock").finish_non_exhaustive()
    }
}

//! Stopping a guest from any thread.

use std::{fmt, sync::Arc};

/// Stops a vCPU, or a guest with all its vCPUs ([`Host::stopper`](super::Host::stopper)). Any thread may use it, at any
/// time, repeatedly. A stopped guest does not run again, unless it is [reset](super::Host::reset).
#[derive(Clone)]
pub struct Stopper(Arc<dyn Fn() + Send + Sync>);

impl Stopper {
    /// A stopper that calls `stop`.
    pub fn new(stop: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(stop))
    }

    /// Stops the vCPU or guest. It does not wait until the guest has stopped.
    pub fn stop(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").finish_non_exhaustive()
    }
}

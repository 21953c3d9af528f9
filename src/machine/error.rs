//! Why a machine could not be built.

use std::{fmt, io};

use crate::{
    contract::Mismatch,
    error::{RegionError, debug_by_display},
};

/// Why a machine could not be built. Nothing of it is left: its memory is unmapped, its process has ended.
#[non_exhaustive]
pub enum MachineError {
    /// The sizes of the arenas make no valid region.
    Region(RegionError),
    /// An option of the builder is out of its range, or exceeds a limit: the message says which, and what to set.
    Config(&'static str),
    /// The server of a machine that is made from a snapshot does not serve what the guest calls, or otherwise than the guest
    /// says; or it calls what the guest does not serve.
    Contract(Mismatch),
    /// The backend is unavailable, or the system refused a request.
    System {
        /// What was requested.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
}

impl MachineError {
    pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System { what, error: error.into() }
    }
}

debug_by_display!(MachineError);

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(error) => error.fmt(f),
            Self::Config(what) => f.write_str(what),
            Self::Contract(mismatch) => mismatch.fmt(f),
            Self::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for MachineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Region(error) => Some(error),
            Self::Config(_) | Self::Contract(_) => None,
            Self::System { error, .. } => Some(error),
        }
    }
}

impl From<RegionError> for MachineError {
    fn from(error: RegionError) -> Self {
        Self::Region(error)
    }
}

//! The handshake, a guest's first call: it sends its contract, which the host compares with its own (ABI, "Contracts").

use core::fmt;

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

#[cfg(feature = "alloc")]
use crate::{
    abi::Transport,
    call::Endpoint,
    contract::{self, MAX_LEN, Mismatch},
    error::ErrorKind,
    memory::SideMemory,
};
use crate::{
    abi::signature,
    call::Peer,
    error::{CallError, RegionError, debug_by_display},
};

/// Sends the guest's contract to the host.
pub(crate) fn introduce(host: &Peer) -> Result<(), ConnectError> {
    let mut out = host.outgoing();
    let contract = out.lend_bytes(host.endpoint().server.contract)?;
    Ok(host.ask(out, signature::HANDSHAKE, contract)?)
}

/// Copies the guest's contract out of its memory, releases that, and compares the copy with the host's contract. Returns the
/// copy.
#[cfg(feature = "alloc")]
pub(crate) fn compare(endpoint: &Endpoint, sent: Transport) -> Result<Vec<u8>, ConnectError> {
    let SideMemory { memory, side } = &endpoint.own;
    // One byte more than the maximum, so that a contract that is too long is detected.
    let bytes = memory.copy_buffer(*side, sent, MAX_LEN + 1)?;
    if sent.secondary != 0 {
        memory.release(*side, sent.primary, memory.epoch());
    }
    contract::compare(&bytes, endpoint.server.contract)?;
    Ok(bytes)
}

/// The error that the guest gets for an error of [`compare`].
#[cfg(feature = "alloc")]
#[cold]
pub(crate) fn refusal(error: ConnectError) -> CallError {
    match error {
        ConnectError::Call(error) => error,
        _ => CallError::new(ErrorKind::VersionMismatch),
    }
}

/// Why two sides could not be connected.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The memory is not a valid region.
    Region(RegionError),
    /// The call of the handshake failed, or no vCPU was free to run the guest. If the contracts do not fit, the guest
    /// gets [`ErrorKind::VersionMismatch`](crate::ErrorKind::VersionMismatch), and the host gets `Contract`, with the details.
    Call(CallError),
    /// A side does not serve what the other calls.
    #[cfg(feature = "alloc")]
    Contract(Mismatch),
    /// The guest has exited: how.
    #[cfg(feature = "std")]
    Exited(crate::exit::GuestExit),
}

impl From<RegionError> for ConnectError {
    fn from(error: RegionError) -> Self {
        Self::Region(error)
    }
}

impl From<CallError> for ConnectError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

#[cfg(feature = "alloc")]
impl From<Mismatch> for ConnectError {
    fn from(error: Mismatch) -> Self {
        Self::Contract(error)
    }
}

debug_by_display!(ConnectError);

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
            #[cfg(feature = "alloc")]
            Self::Contract(error) => error.fmt(f),
            #[cfg(feature = "std")]
            Self::Exited(exit) => exit.fmt(f),
        }
    }
}

impl core::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        // The text is that of the error within, so its source is this one's.
        match self {
            Self::Region(error) => error.source(),
            Self::Call(error) => error.source(),
            #[cfg(feature = "alloc")]
            Self::Contract(error) => error.source(),
            #[cfg(feature = "std")]
            Self::Exited(exit) => exit.source(),
        }
    }
}

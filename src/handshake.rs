//! The handshake, a guest's first call: it sends its contract, which the host compares with its own (ABI, "Contracts").

use core::fmt;

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use crate::{
    abi::{Transport, signature},
    call::{Endpoint, Peer},
    contract::{self, MAX_LEN, Mismatch},
    error::{CallError, ErrorKind, RegionError, debug_by_display},
    exit::GuestExit,
    memory::SideMemory,
};
#[cfg(not(feature = "alloc"))]
use crate::{memory::Outgoing, shared::SharedBuf};

/// Sends the guest's contract to the host.
pub(crate) fn introduce(host: &Peer) -> Result<(), ConnectError> {
    let mut out = host.outgoing();
    let contract = out.lend_bytes(host.endpoint().server.contract)?;
    Ok(host.ask(out, signature::HANDSHAKE, contract)?)
}

/// The host's copy of the guest's contract, for checkpoints; a host without a heap does not keep it.
#[cfg(feature = "alloc")]
pub(crate) type ContractCopy = Vec<u8>;
#[cfg(not(feature = "alloc"))]
pub(crate) type ContractCopy = ();

/// Copies the guest's contract out of its memory, releases that, and compares the copy with the host's contract.
#[cfg(feature = "alloc")]
pub(crate) fn compare(endpoint: &Endpoint, sent: Transport) -> Result<ContractCopy, ConnectError> {
    let SideMemory { memory, side } = &endpoint.own;
    let host = endpoint.server.contract;
    // One byte more than the maximum, so that a contract that is too long is detected.
    let guest = memory.copy_buffer(*side, sent, MAX_LEN + 1)?;
    release(endpoint, sent);
    let words = |contract| {
        let (mut words, len) = (Vec::new(), contract::words(contract));
        words.try_reserve_exact(len).map_err(|_| CallError::no_heap(8 * len))?;
        words.resize(len, 0);
        Ok::<_, CallError>(words)
    };
    let mut words = [words(&guest)?, words(host)?];
    let agree = contract::agree(&guest, host, words.each_mut().map(Vec::as_mut_slice));
    if agree.is_err() {
        // It finds the same differences, and describes them.
        contract::compare(&guest, host)?;
    }
    Ok(guest)
}

/// The same without a heap: the copy is in this side's arena, which the guest cannot write.
#[cfg(not(feature = "alloc"))]
pub(crate) fn compare(endpoint: &Endpoint, sent: Transport) -> Result<ContractCopy, ConnectError> {
    let SideMemory { memory, side } = &endpoint.own;
    let host = endpoint.server.contract;
    let own = Outgoing::new(&endpoint.own, 1);
    let len = sent.secondary.min(MAX_LEN as u64 + 1) as usize;
    let mut guest = SharedBuf::zeroed(&own, len)?;
    memory.copy_into(*side, sent, guest.as_mut_slice())?;
    release(endpoint, sent);
    let [guest_words, host_words] = [guest.as_slice(), host].map(contract::words);
    let mut words = SharedBuf::zeroed(&own, 8 * (guest_words + host_words))?;
    // A block begins at a multiple of 64, and an empty one is a multiple of 8 bytes as well.
    let words = bytemuck::try_cast_slice_mut(words.as_mut_slice());
    let (guest_words, host_words) = words.unwrap_or_default().split_at_mut(guest_words);
    contract::agree(guest.as_slice(), host, [guest_words, host_words]).map_err(Mismatch::from)?;
    Ok(())
}

/// Releases the contract that the guest has lent.
fn release(endpoint: &Endpoint, sent: Transport) {
    let SideMemory { memory, side } = &endpoint.own;
    if sent.secondary != 0 {
        memory.release(*side, sent.primary, memory.epoch());
    }
}

/// The error that the guest gets for an error of [`compare`].
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
    Contract(Mismatch),
    /// The guest has exited: how.
    Exited(GuestExit),
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
            Self::Contract(error) => error.fmt(f),
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
            Self::Contract(error) => error.source(),
            Self::Exited(exit) => exit.source(),
        }
    }
}

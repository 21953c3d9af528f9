//! The host's half of the first call: a guest hands over its contract, and its host compares that with
//! its own (ABI, "Contracts").

use alloc::vec::Vec;

use crate::{
    abi::Transport,
    contract::{self, MAX_LEN},
    error::{CallError, ConnectError, Why},
    peer::Core,
};

impl Core {
    /// Copies what the guest says of itself, and compares the copy.
    pub(crate) fn meet(&self, transport: Transport) -> Result<(), ConnectError> {
        let Transport { primary, secondary } = transport;
        let mut bytes = Vec::new();
        if secondary != 0 {
            let at = self.memory.check(self.side, primary, secondary, 1)?;
            // One byte more than a contract may have says that there are too many.
            let len = secondary.min(MAX_LEN as u64 + 1) as usize;
            let full = |_| CallError::new(Why::OutOfMemory).at(0, secondary);
            bytes.try_reserve_exact(len).map_err(full)?;
            bytes.resize(len, 0);
            // SAFETY: the range is within the one that was checked.
            unsafe { self.memory.copy_out(at, bytes.as_mut_ptr(), len) };
            self.memory.give_back(self.side, primary, self.memory.epoch());
        }
        Ok(contract::compare(&bytes, self.server.contract)?)
    }
}

/// What the guest is told of it.
#[cold]
pub(crate) fn refusal(error: ConnectError) -> CallError {
    match error {
        ConnectError::Call(error) => error,
        _ => CallError::new(Why::VersionMismatch),
    }
}

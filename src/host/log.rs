//! The guest's log, line by line (ABI, "Log").

use crate::{
    abi::Transport,
    error::{CallError, Why},
    peer::Core,
};

impl Core {
    /// Takes one line of the guest's log, and hands it on: to `tracing`, where that feature is on.
    pub(crate) fn log(&self, line: Transport) -> Result<(), CallError> {
        let Transport { primary, secondary } = line;
        if secondary == 0 {
            return Err(CallError::new(Why::BadValue));
        }
        self.memory.check(self.side, primary, secondary, 1)?;
        let bytes = self.bytes_of(line);
        self.memory.give_back(self.side, primary, self.memory.epoch());
        let bad = || CallError::new(Why::BadValue);
        let [level @ 1..=5, target_len, rest @ ..] = bytes.as_slice() else { return Err(bad()) };
        let (target, text) = rest.split_at_checked(usize::from(*target_len)).ok_or_else(bad)?;
        hand_on(*level, target, text);
        Ok(())
    }
}

#[cfg(not(feature = "tracing"))]
fn hand_on(_level: u8, _target: &[u8], _text: &[u8]) {}

#[cfg(feature = "tracing")]
fn hand_on(level: u8, target: &[u8], text: &[u8]) {
    use super::end::Escaped;
    use std::string::String;

    let (target, text) = (String::from_utf8_lossy(target), String::from_utf8_lossy(text));
    let (target, text) = (Escaped(&target), Escaped(&text));
    match level {
        1 => tracing::error!(target: "vmffi::guest", module = %target, "{text}"),
        2 => tracing::warn!(target: "vmffi::guest", module = %target, "{text}"),
        3 => tracing::info!(target: "vmffi::guest", module = %target, "{text}"),
        4 => tracing::debug!(target: "vmffi::guest", module = %target, "{text}"),
        _ => tracing::trace!(target: "vmffi::guest", module = %target, "{text}"),
    }
}

//! Lines of the guest's log (ABI, "Log").

use crate::{
    abi::Transport,
    call::Endpoint,
    error::{CallError, ErrorKind},
    memory::SideMemory,
};

/// Copies one line, at most `max` bytes, releases it, and emits it as a `tracing` event, if that feature is enabled.
pub(crate) fn receive(endpoint: &Endpoint, line: Transport, max: u32) -> Result<(), CallError> {
    let bad = || CallError::new(ErrorKind::BadValue);
    if line.secondary == 0 {
        return Err(bad());
    }
    let SideMemory { memory, side } = &endpoint.own;
    let bytes = memory.copy_buffer(*side, line, max as usize)?;
    memory.release(*side, line.primary, memory.epoch());
    let [level @ 1..=5, target_len, rest @ ..] = bytes.as_slice() else { return Err(bad()) };
    let (target, text) = rest.split_at_checked(usize::from(*target_len)).ok_or_else(bad)?;
    emit(*level, target, text);
    Ok(())
}

#[cfg(not(feature = "tracing"))]
fn emit(_level: u8, _target: &[u8], _text: &[u8]) {}

#[cfg(feature = "tracing")]
fn emit(level: u8, target: &[u8], text: &[u8]) {
    use crate::contract::Escaped;
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

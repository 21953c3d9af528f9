//! Lines of the guest's log (ABI, "Log").

use crate::{
    abi::Transport,
    call::Endpoint,
    error::{CallError, ErrorKind},
    memory::SideMemory,
};

/// A line of a guest's log. The guest has chosen the texts: they are not escaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'l> {
    /// From 1, an error, to 5, a trace.
    pub(crate) level: u8,
    pub(crate) target: &'l [u8],
    pub(crate) text: &'l [u8],
}

/// Copies one line, at most `max` bytes, releases it, and passes it to `emit`.
pub(crate) fn receive(
    endpoint: &Endpoint,
    line: Transport,
    max: u32,
    emit: impl FnOnce(Line<'_>),
) -> Result<(), CallError> {
    let bad = || CallError::new(ErrorKind::BadValue);
    if line.secondary == 0 {
        return Err(bad());
    }
    let SideMemory { memory, side } = &endpoint.own;
    memory.with_text(*side, line, max as usize, |bytes| {
        memory.release(*side, line.primary, memory.epoch());
        let [level @ 1..=5, target_len, rest @ ..] = bytes else { return Err(bad()) };
        let (target, text) = rest.split_at_checked(usize::from(*target_len)).ok_or_else(bad)?;
        emit(Line { level: *level, target, text });
        Ok(())
    })?
}

/// Emits a line as a `tracing` event, if that feature is enabled.
#[cfg(feature = "alloc")]
pub(crate) fn trace(line: Line<'_>) {
    #[cfg(not(feature = "tracing"))]
    let Line { level: _, target: _, text: _ } = line;
    #[cfg(feature = "tracing")]
    {
        use crate::contract::Escaped;
        use std::string::String;

        let Line { level, target, text } = line;
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
}

//! With the feature `tracing`, events with the target `vmffi::pool`; without it, nothing.
//!
//! `DEBUG`: `made` (`nanos`), `ended` (`exit`, as text). `TRACE`: `reset` (`nanos`). `WARN`: `not made` (`error`, as
//! text). The field `nanos` is a duration in nanoseconds.

#![cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "for the events"))]

use std::time::Instant;

use super::PoolError;
use crate::host::GuestExit;

/// The beginning of a reset, if a subscriber may be interested in its duration.
pub(super) fn reset_begins() -> Option<Instant> {
    #[cfg(feature = "tracing")]
    if tracing::level_filters::LevelFilter::current() >= tracing::level_filters::LevelFilter::TRACE
    {
        return Some(Instant::now());
    }
    None
}

pub(super) fn reset(began: Option<Instant>) {
    #[cfg(feature = "tracing")]
    if let Some(began) = began {
        let nanos = nanos(began);
        emit(|| tracing::trace!(target: "vmffi::pool", nanos, "reset"));
    }
}

pub(super) fn made(began: Instant) {
    #[cfg(feature = "tracing")]
    {
        let nanos = nanos(began);
        emit(|| tracing::debug!(target: "vmffi::pool", nanos, "made"));
    }
}

pub(super) fn not_made(error: &PoolError) {
    #[cfg(feature = "tracing")]
    emit(|| tracing::warn!(target: "vmffi::pool", %error, "not made"));
}

pub(super) fn ended(exit: &GuestExit) {
    #[cfg(feature = "tracing")]
    emit(|| tracing::debug!(target: "vmffi::pool", %exit, "ended"));
}

#[cfg(feature = "tracing")]
fn nanos(began: Instant) -> u64 {
    began.elapsed().as_nanos() as u64
}

/// Calls the subscriber, and catches its panic: a guest must get back to the pool all the same.
#[cfg(feature = "tracing")]
fn emit(event: impl FnOnce()) {
    let _ = crate::call::span::subscriber(event);
}

//! Times for operations that run some dozens of times.

use std::time::{Duration, Instant};

/// The median of `rounds` times.
pub fn median(rounds: usize, mut one: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<_> = (0..rounds).map(|_| one()).collect();
    times.sort();
    times[rounds / 2]
}

/// The time that `what` takes, without the drop of its result.
pub fn timed<R>(what: impl FnOnce() -> R) -> Duration {
    let start = Instant::now();
    let result = what();
    let time = start.elapsed();
    drop(result);
    time
}

/// By how much processors are slower than those for which tests state times: `VMFFI_SLOWER`, where they are emulated, else 1.
///
/// # Panics
///
/// If the variable is no number.
#[must_use]
pub fn slower() -> u32 {
    std::env::var("VMFFI_SLOWER")
        .map_or(1, |times| times.parse().expect("a number in VMFFI_SLOWER"))
}

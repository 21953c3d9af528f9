//! How long something takes that is done some dozens of times.

use std::time::{Duration, Instant};

/// The median of so many times.
pub fn median(rounds: usize, mut one: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<_> = (0..rounds).map(|_| one()).collect();
    times.sort();
    times[rounds / 2]
}

/// How long `what` takes, without dropping what it returns.
pub fn timed<R>(what: impl FnOnce() -> R) -> Duration {
    let start = Instant::now();
    let result = what();
    let time = start.elapsed();
    drop(result);
    time
}

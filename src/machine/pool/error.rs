//! Why a pool has no guest for a caller.

use std::{fmt, io, sync::Arc};

use super::{super::MachineError, ConnectError};
use crate::error::debug_by_display;

/// Why a [`Pool`](super::Pool) has no guest for a caller.
#[derive(Clone)]
#[non_exhaustive]
pub enum PoolError {
    /// An option of the builder is out of its range: the message says which.
    Config(&'static str),
    /// No machine could be built.
    Machine(Arc<MachineError>),
    /// A machine was built, but its guest did not get ready.
    Start(ConnectError),
    /// The closure that makes a server for each machine panicked.
    Server,
    /// No thread could be spawned.
    Thread(Arc<io::Error>),
    /// No guest was free in the time of [`Pool::get_timeout`](super::Pool::get_timeout).
    Timeout,
    /// The pool is [closed](super::Pool::close).
    Closed,
    /// The pool belongs to the process that this one was forked from.
    Forked,
}

debug_by_display!(PoolError);

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => f.write_str(what),
            Self::Machine(error) => write!(f, "the pool cannot build a machine: {error}"),
            Self::Start(error) => write!(f, "a guest of the pool did not get ready: {error}"),
            Self::Server => f.write_str("the closure that makes the pool's servers panicked"),
            Self::Thread(error) => write!(f, "the pool cannot spawn a thread: {error}"),
            Self::Timeout => f.write_str("no guest of the pool was free in time"),
            Self::Closed => f.write_str("the pool is closed"),
            Self::Forked => f.write_str(
                "the pool belongs to the process that this one was forked from: build another one",
            ),
        }
    }
}

impl std::error::Error for PoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Machine(error) => Some(&**error),
            Self::Start(error) => Some(error),
            Self::Thread(error) => Some(&**error),
            _ => None,
        }
    }
}

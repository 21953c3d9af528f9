//! The checks that guests in machines run as well: `tests/machines` compiles the same modules.

use vmffi::Peer;

/// Serves all interfaces that are declared there.
pub trait Side: Send + Sync + 'static {}

/// A name, and a check of the peer.
pub type Check = (&'static str, fn(&Peer));

pub mod compounds;
pub mod packed;
pub mod plain;
pub mod results;

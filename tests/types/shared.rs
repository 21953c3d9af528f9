//! What guests in machines are asked too: `tests/machines` has these modules as well.

use vmffi::Peer;

/// Serves whatever is declared there.
pub trait Side: Send + Sync + 'static {}

/// A name, and what must hold of the peer.
pub type Check = (&'static str, fn(&Peer));

pub mod compounds;
pub mod packed;
pub mod plain;
pub mod results;

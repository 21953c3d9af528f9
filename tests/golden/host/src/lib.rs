//! The host of one function, in code that `tests/golden` looks at.

use vmffi::{CallError, Peer, loopback::Loopback};

vmffi::ffi_interface! {
    pub interface Meter { fn scalar(x: u64) -> u64; }
}

struct Host;

impl Meter for Host {
    /// The number marks the code.
    fn scalar(&self, _: &Peer, x: u64) -> Result<u64, CallError> {
        Ok(x ^ 0x601d)
    }
}

vmffi::serve!(Host: Meter);

/// Brings the table, the dispatch and the loopback into the library.
#[unsafe(no_mangle)]
pub fn connection() -> Loopback {
    Loopback::new((), Host).expect("memory")
}

/// A call through a loopback.
#[unsafe(no_mangle)]
pub fn call(peer: &Peer, x: u64) -> u64 {
    MeterClient::from(peer).scalar(x).unwrap_or(0)
}

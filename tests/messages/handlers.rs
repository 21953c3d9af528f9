//! Handlers that are not what the declaration says.

use vmffi::{CallError, Peer};

vmffi::ffi_interface! {
    pub interface Clock { fn now() -> u64; }
    pub interface Log { fn line(level: u8) -> u64; }
}

pub struct Wrong;

impl Log for Wrong {
    fn line(&self, _: &Peer, _: u32) -> Result<u64, CallError> {
        Ok(1)
    }
}

impl Clock for Wrong {
    fn now(&self, _: &Peer) -> u64 {
        1
    }
}

fn main() {}

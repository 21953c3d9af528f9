//! Functions that a table cannot tell apart.

use vmffi::{CallError, Peer};

vmffi::ffi_interface! {
    pub interface Clock { fn now() -> u64; }
}

pub struct Machine;

impl Clock for Machine {
    fn now(&self, _: &Peer) -> Result<u64, CallError> {
        Ok(7)
    }
}

vmffi::serve!(Machine: Clock, Clock);

fn main() {}

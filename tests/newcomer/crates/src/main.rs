//! A guest with many crates, each used for its main purpose.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{string::String, vec::Vec};

use vmffi::{CallError, ForeignBuf, ForeignStr, Peer, SharedStr};

mod interface;
mod work;

struct Guest;

impl interface::Crates for Guest {
    fn work(
        &self,
        host: &Peer,
        name: ForeignStr,
        input: ForeignBuf,
    ) -> Result<SharedStr, CallError> {
        let (name, input): (String, Vec<u8>) = (name.read_string()?, input.read_vec()?);
        SharedStr::copy_from(host, &work::of(&name, &input))
    }
}

vmffi::serve!(Guest: interface::Crates);
vmffi::entry! { server: Guest = Guest, arena: 1 << 20 }
vmffi::heap!(16 << 20);
vmffi::panic_handler!();
vmffi::memory_functions!();

//! A handle in an enum (ABI, Types TY-13).

use vmffi::ForeignBuf;

vmffi::ffi_interface! {
    pub enum Event: u8 { Quit, Sent(ForeignBuf) }
}

fn main() {}

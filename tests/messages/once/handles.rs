//! Handles where there can be none, and values of variants that are wrong.

use vmffi::{Foreign, ForeignBuf, ForeignSlice, ForeignStr};

vmffi::ffi_interface! {
    pub struct Owner { name: ForeignStr }
    pub enum Event: u8 {
        Quit,
        Sent(u8, ForeignBuf), //~ 18: `ForeignBuf` holds handles
        Named { name: Option<ForeignStr> }, //~ 23: `ForeignStr` holds handles
        Owned(Owner), //~ 15: this struct holds handles, so it is not a plain value
        Pair((u8, ForeignSlice<u8>)), //~ 14: `ForeignSlice<u8>` holds handles
        Where(Foreign<u64>), //~ 15: `Foreign<u64>` holds handles
    }
    pub enum Many: u8 {
        Fits(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8),
        Long(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u16), //~ 62: a tuple variant has at most 12 values
        Longer(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u32, u8), //~ 64: a tuple variant has at most 12 values
    }
    pub enum Texts<'a>: u8 {
        Long(&'a str, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u64), //~ 67: a tuple variant has at most 12 values
    }
    pub enum LeftOut: u8 {
        Value(u8, #[cfg(all())] u16), //~ 33: a value of a tuple variant cannot be left out by `#[cfg]`
        Named { #[cfg(any())] a: u8, b: u8 },
        More(#[cfg(any())] u32, u8), //~ 28: a value of a tuple variant cannot be left out by `#[cfg]`
    }
    pub interface Events {
        fn uses(event: Event, many: Many, left: LeftOut, text: vmffi::ForeignPacked<Texts>) -> Result<Many, Event>;
    }
}

fn main() {}

//! As many errors as mistakes: in fields, variants, parameters and results, and where types nest.

use vmffi::{Foreign, ForeignBuf, ForeignSlice};

pub struct Mine {
    pub value: u32,
}

vmffi::ffi_interface! {
    pub struct Owned {
        path: String, //~ `String` cannot cross between guest and host
        bytes: Vec<u8>, //~ `Vec<u8>` cannot cross between guest and host
    }
    pub enum Event: u8 {
        Named { name: Box<u8> }, //~ `Box<u8>` cannot cross between guest and host
        Sent(u8, Mine), //~ `Mine` cannot cross between guest and host
    }
    pub struct Uses { owned: Owned, event: Event, more: Option<Owned> }
    pub struct Request { body: ForeignBuf }
    pub interface Files {
        fn mine(a: u8, value: Mine) -> u32; //~ `Mine` cannot cross between guest and host
        fn nested(value: Option<Mine>); //~ `Mine` cannot cross between guest and host
        fn returned(a: u8) -> String; //~ `String` cannot be returned between guest and host
        fn error() -> Result<u32, String>; //~ `Result<u32, String>` cannot be returned between guest and host
        fn in_tuple(value: (u32, String)); //~ 28: `String` cannot cross between guest and host
        fn in_array(value: [Mine; 4]); //~ `Mine` cannot cross between guest and host
        fn handles(value: ForeignSlice<ForeignBuf>); //~ `ForeignBuf` holds handles
        fn owner(a: u8, value: Foreign<Request>); //~ 32: this struct holds handles
        fn good(owned: Owned, event: Event) -> Result<Uses, Event>;
    }
}

fn main() {}

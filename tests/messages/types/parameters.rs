//! Types that cannot cross, as parameters and results. The sentence about each comes first, at the type.

use vmffi::{Foreign, ForeignBuf, ForeignSlice, SharedBuf};

pub struct Mine {
    pub value: u32,
}

vmffi::ffi_interface! {
    pub struct Request { body: ForeignBuf }

    pub interface Files {
        fn text(path: &str); //~ `&str` cannot cross between guest and host
        fn bytes(body: &[u8]) -> u32; //~ `&[u8]` cannot cross between guest and host
        fn reference(value: &u32); //~ `&u32` cannot cross between guest and host
        fn string(a: u32, path: String); //~ `String` cannot cross between guest and host
        fn vec(body: Vec<u8>); //~ `Vec<u8>` cannot cross between guest and host
        fn mine(value: Mine); //~ `Mine` cannot cross between guest and host
        fn tuple(value: (u32, String)); //~ `String` cannot cross between guest and host
        fn array(value: [Mine; 4]); //~ `Mine` cannot cross between guest and host
        fn pointer(value: *const u8); //~ `*const u8` cannot cross between guest and host
        fn function(value: fn()); //~ `fn()` cannot cross between guest and host
        fn result(value: Result<u8, u8>); //~ `Result<u8, u8>` cannot cross between guest and host
        fn shared(value: SharedBuf); //~ `SharedBuf` cannot cross between guest and host
        fn handles(value: ForeignSlice<ForeignBuf>); //~ `ForeignBuf` holds handles
        fn owner(value: Foreign<Request>); //~ this struct holds handles, so it is not a plain value
        fn returned() -> String; //~ `String` cannot be returned between guest and host
        fn error() -> Result<u32, String>; //~ `Result<u32, String>` cannot be returned between guest and host
        fn option(value: Option<String>); //~ `String` cannot cross between guest and host
    }
}

fn main() {}

//! References, with and without lifetimes, and unknown types, wherever a type can stand.

use vmffi::*;

vmffi::ffi_interface! {
    pub struct Texts {
        name: &str, //~ 15: `&str` cannot cross between guest and host
        title: &'static str, //~ 16: `&'static str` cannot cross between guest and host
        count: u32,
    }
    pub enum Event: u8 {
        Named(u8, &str), //~ 19: `&str` cannot cross between guest and host
        Sent { bytes: &[u8] } = 7, //~ 23: `&[u8]` cannot cross between guest and host
    }
    pub interface Files {
        fn open(path: &str) -> u64; //~ 23: `&str` cannot cross between guest and host
        fn write(file: u64, bytes: &mut [u8]); //~ 36: `&mut [u8]` cannot cross between guest and host
        fn find(name: Option<&str>) -> u64; //~ 23: `&str` cannot cross between guest and host
        fn name(file: u64) -> &str; //~ 31: `&str` cannot be returned between guest and host
        fn error(file: u64) -> Result<u64, &'static str>; //~ 32: `Result<u64, &'static str>` cannot be returned
        fn host(peer: &Peer, file: u64); //~ 23: `&vmffi::Peer` cannot cross between guest and host
        fn good(texts: Texts, event: Event) -> Option<Event>;
    }
}

vmffi::ffi_interface! {
    pub struct Unknown {
        at: Instant, //~ 13: cannot find type `Instant` in this scope
    }
    pub enum Unknowns: u8 {
        At(Moment), //~ 12: cannot find type `Moment` in this scope
    }
    pub interface Clock {
        fn at(time: Time) -> Unknown; //~ 21: cannot find type `Time` in this scope
        fn now(a: Unknowns, b: Unknown) -> Now; //~ 44: cannot find type `Now` in this scope
    }
}

struct Server;
impl Files for Server {
    fn open(&self, _: &Peer, _: &str) -> Result<u64, CallError> { Ok(1) }
    fn write(&self, _: &Peer, _: u64, _: &mut [u8]) -> Result<(), CallError> { Ok(()) }
    fn find(&self, _: &Peer, _: Option<&str>) -> Result<u64, CallError> { Ok(1) }
    fn name(&self, _: &Peer, _: u64) -> Result<&str, CallError> { Ok("") }
    fn error(&self, _: &Peer, _: u64) -> Result<u64, Failure<&'static str>> { Ok(1) }
    fn host(&self, _: &Peer, _: &Peer, _: u64) -> Result<(), CallError> { Ok(()) }
    fn good(&self, _: &Peer, _: Texts, _: Event) -> Result<Option<Event>, CallError> { Ok(None) }
}
vmffi::serve!(Server: Files);

fn main() {}

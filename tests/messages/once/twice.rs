//! Parameters and fields of variants that stand twice: the error is at the second one, and what uses the rest is good.

use vmffi::{CallError, Peer};

vmffi::ffi_interface! {
    pub enum Event: u8 {
        Opened { by: u8, at: u64 },
        Closed { by: u8, at: u64, by: u8 }, //~ 35: field `by` is already declared
        Moved(u8),
    }
    pub enum Text<'a>: u8 {
        Named { name: &'a str, nr: u8, nr: u16 }, //~ 40: field `nr` is already declared
    }
    pub enum Same: u8 { A { a: u8 }, B { a: u8 } }
    pub interface Files {
        fn read(file: u64, file: u32); //~ 28: identifier `file` is bound more than once
        fn write(file: u64, at: u64, file: Event, to: u8) -> u64; //~ 38: identifier `file` is bound more than once
        fn good(event: Event, text: vmffi::ForeignPacked<Text>, same: Same) -> Event;
    }
}

struct Server;
impl Files for Server {
    fn read(&self, _: &Peer, file: u64, _: u32) -> Result<(), CallError> { drop(file); Ok(()) }
    fn write(&self, _: &Peer, file: u64, _: u64, _: Event, _: u8) -> Result<u64, CallError> { Ok(file) }
    fn good(&self, _: &Peer, event: Event, _: vmffi::ForeignPacked<Text>, _: Same) -> Result<Event, CallError> { Ok(event) }
}
vmffi::serve!(Server: Files);

fn main() {}

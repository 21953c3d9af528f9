//! One field of a type that cannot cross is one error, though much of the declaration is made of its struct.

use vmffi::*;
vmffi::ffi_interface! {
    /// What is known of a file.
    #[derive(Clone, Debug)]
    pub struct Stat {
        size: u64,
        mode: u32,
        owner: Owner,
    }
    #[derive(Clone, Debug)]
    pub struct Owner {
        id: u32,
        name: String, //~ `String` cannot cross between guest and host
    }
    pub enum OpenError: u32 { NotFound = 1, Denied = 2 }
    pub enum Event: u8 {
        Opened { by: Owner },
        Closed(u32, Stat),
        Nothing,
    }
    pub struct Request { path: ForeignStr, body: ForeignBuf, owner: Owner }
    pub interface Files {
        fn open(path: ForeignStr, flags: u32) -> Result<u64, OpenError>;
        fn read(file: u64, max: u32) -> ForeignBuf;
        fn stat(file: u64) -> Foreign<Stat>;
        fn stats(file: u64, all: ForeignSlice<Stat>) -> Result<Stat, Event>;
        fn event(event: Event);
        fn request(event: Event, request: Request) -> Option<Request>;
    }
}
struct Server;
impl Files for Server {
    fn open(&self, _: &Peer, _: ForeignStr, _: u32) -> Result<u64, Failure<OpenError>> { Ok(1) }
    fn read(&self, peer: &Peer, _: u64, _: u32) -> Result<SharedBuf, CallError> { SharedBuf::copy_from(peer, b"text") }
    fn stat(&self, _: &Peer, _: u64) -> Result<Shared<Stat>, CallError> { Err(CallError::new(ErrorKind::Busy)) }
    fn stats(&self, _: &Peer, _: u64, _: ForeignSlice<Stat>) -> Result<Stat, Failure<Event>> { Err(Event::Nothing.into()) }
    fn event(&self, _: &Peer, _: Event) -> Result<(), CallError> { Ok(()) }
    fn request(&self, _: &Peer, _: Event, _: Request) -> Result<Option<SharedRequest>, CallError> { Ok(None) }
}
vmffi::serve!(Server: Files);
fn main() {
}

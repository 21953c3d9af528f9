//! The comparison of contracts before the first call (ABI, "Contracts"): what a person reads where two
//! sides do not fit together, and what a hostile description comes to.

use vmffi::{
    CallError, ConnectError, Foreign, ForeignBuf, ForeignStr, Peer, Serve, Shared, SharedBuf, Why,
    abi::{Side, Transport, signature},
    contract::{BadContract, Contract, MAX_LEN, Mismatch, compare},
    loopback::Loopback,
};

/// What the host was built with.
mod host {
    use super::*;

    vmffi::ffi_interface! {
        pub struct Deep { x: u64 }
        pub struct Inner { a: u8, deep: Deep }
        pub struct Stat { size: u64, inner: Inner }
        pub struct Same { a: u8, b: u32 }
        pub enum Event: u8 { Quit, Key { code: u32, down: bool } = 5, Moved(Deep) }
        pub enum Level: i8 { Low = -1, High = 1 }

        pub interface Files {
            fn open(path: ForeignStr, flags: u32) -> Result<u64, Level>;
            fn read(file: u64, max: u32) -> ForeignBuf;
            fn stat(file: u64) -> Foreign<Stat>;
            fn event(all: Event, same: Same);
            fn level() -> Level;
            fn wide(value: Option<u64>) -> bool;
            fn unchanged(same: Same) -> bool;
            fn rename(from: ForeignStr, to: ForeignStr);
            fn sync();
        }

        pub interface Screen {
            fn clear();
            fn draw(at: u32, text: ForeignStr);
            #[optional]
            fn blink(times: u8);
        }
    }

    pub struct Host;
    impl Files for Host {
        fn open(&self, _: &Peer, _: ForeignStr, _: u32) -> Result<u64, vmffi::Failure<Level>> {
            Ok(1)
        }
        fn read(&self, guest: &Peer, _: u64, _: u32) -> Result<SharedBuf, CallError> {
            SharedBuf::copied(guest, b"read")
        }
        fn stat(&self, guest: &Peer, _: u64) -> Result<Shared<Stat>, CallError> {
            Shared::new(guest, Stat { size: 1, inner: Inner { a: 2, deep: Deep { x: 3 } } })
        }
        fn event(&self, _: &Peer, _: Event, _: Same) -> Result<(), CallError> {
            Ok(())
        }
        fn level(&self, _: &Peer) -> Result<Level, CallError> {
            Ok(Level::Low)
        }
        fn wide(&self, _: &Peer, _: Option<u64>) -> Result<bool, CallError> {
            Ok(true)
        }
        fn unchanged(&self, _: &Peer, _: Same) -> Result<bool, CallError> {
            Ok(true)
        }
        fn rename(&self, _: &Peer, _: ForeignStr, _: ForeignStr) -> Result<(), CallError> {
            Ok(())
        }
        fn sync(&self, _: &Peer) -> Result<(), CallError> {
            Ok(())
        }
    }
    vmffi::serve!(Host: Files; calls Screen);
}

/// What an older guest was built with.
mod guest {
    use super::*;

    vmffi::ffi_interface! {
        pub struct Deep { x: u32, y: u32 }
        pub struct Inner { a: u8, deep: Deep }
        pub struct Stat { size: u64, inner: Inner }
        pub struct Same { a: u8, b: u32 }
        pub enum Event: u8 { Quit, Key { code: u32, down: bool } = 5, Moved(Deep) }
        pub enum Level: i8 { Low = -1, Middle, High = 1 }

        pub interface Files {
            fn open(path: ForeignStr) -> Result<u64, Level>;
            fn read(file: u64, max: u64) -> ForeignStr;
            fn stat(file: u64) -> Foreign<Stat>;
            fn event(all: Event, same: Same);
            fn level() -> Level;
            fn wide(value: Option<u32>) -> bool;
            fn unchanged(other_name: Same) -> bool;
            fn delete(path: ForeignStr) -> bool;
            #[optional]
            fn watch(path: ForeignStr);
        }

        pub interface Screen {
            fn clear() -> u8;
        }
    }

    pub struct Guest;
    impl Screen for Guest {
        fn clear(&self, _: &Peer) -> Result<u8, CallError> {
            Ok(0)
        }
    }
    vmffi::serve!(Guest: Screen; calls Files);
}

const TEXT: &str = "\
guest and host do not agree on 9 functions

Files::open, which the guest calls
    guest: fn open(path: ForeignStr) -> Result<u64, Level>
    host:  fn open(path: ForeignStr, flags: u32) -> Result<u64, Level>
    they differ in the list of parameters:
        guest: 1 parameter
        host:  2 parameters

Files::read, which the guest calls
    guest: fn read(file: u64, max: u64) -> ForeignStr
    host:  fn read(file: u64, max: u32) -> ForeignBuf
    they differ in parameter `max`:
        guest: u64
        host:  u32
    they differ in the result:
        guest: ForeignStr
        host:  ForeignBuf

Files::stat, which the guest calls
    guest: fn stat(file: u64) -> Foreign<Stat>
    host:  fn stat(file: u64) -> Foreign<Stat>
    they differ in the result at `.inner.deep`:
        guest: struct Deep { x: u32 at 0, y: u32 at 4 } of 8 bytes, aligned to 4
        host:  struct Deep { x: u64 at 0 } of 8 bytes, aligned to 8

Files::event, which the guest calls
    guest: fn event(all: Event, same: Same)
    host:  fn event(all: Event, same: Same)
    they differ in parameter `all` at `.Moved`:
        guest: struct Deep { x: u32 at 0, y: u32 at 4 } of 8 bytes, aligned to 4
        host:  struct Deep { x: u64 at 0 } of 8 bytes, aligned to 8

Files::level, which the guest calls
    guest: fn level() -> Level
    host:  fn level() -> Level
    they differ in the result:
        guest: enum Level: i8 { Low = -1, Middle = 0, High = 1 } of 1 bytes, aligned to 1
        host:  enum Level: i8 { Low = -1, High = 1 } of 1 bytes, aligned to 1

Files::wide, which the guest calls
    guest: fn wide(value: Option<u32>) -> bool
    host:  fn wide(value: Option<u64>) -> bool
    they differ in parameter `value`:
        guest: Option<u32>
        host:  Option<u64>

Files::delete, which the guest calls
    guest: fn delete(path: ForeignStr) -> bool
    host:  does not serve it

Screen::clear, which the host calls
    guest: fn clear() -> u8
    host:  fn clear()
    they differ in the result:
        guest: u8
        host:  ()

Screen::draw, which the host calls
    guest: does not serve it
    host:  fn draw(at: u32, text: ForeignStr)

optional, not served by the host: Files::watch
optional, not served by the guest: Screen::blink
served by the host, not called: Files::rename, Files::sync";

fn mismatch(error: ConnectError) -> Mismatch {
    match error {
        ConnectError::Contract(mismatch) => mismatch,
        other => panic!("{other}"),
    }
}

/// ABI, "Contracts" CT-1, CT-7: missing and extra functions, changed parameters and results, a struct
/// that changed three levels down, and optional functions, function by function.
#[test]
fn what_does_not_fit_is_told() {
    let error = Loopback::new(guest::Guest, host::Host).unwrap_err();
    println!("{error}");
    assert_eq!(error.to_string(), TEXT);
    assert!(format!("{error:?}").contains("Files::delete"), "that is what `unwrap` shows");
    let found = mismatch(error);
    let first = &found.differences()[0];
    assert_eq!((first.caller, &*first.function), (Side::Guest, "Files::open"));
    assert_eq!(found.differences()[6].served, None);
    assert_eq!(found.unreadable(), None);
}

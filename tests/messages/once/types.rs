//! Types that are none, or have no size: each is one error at its place, wherever it stands, and what uses the rest is good.

use vmffi::{CallError, Foreign, ForeignList, ForeignPacked, ForeignSlice, Peer};

vmffi::ffi_interface! {
    pub struct Itself {
        value: Foreign<Self>, //~ 24: cannot find type `Self` in this scope
        array: [Self; 2], //~ 17: cannot find type `Self` in this scope
        name: String, //~ 15: `String` cannot cross between guest and host
    }
    pub struct Left {
        value: _, //~ 16: the placeholder `_` is not allowed
        tuple: (u8, _), //~ 21: the placeholder `_` is not allowed
        text: &str, //~ 15: `&str` cannot cross between guest and host
    }
    pub struct Made { value: u8, made: impl Copy, list: ForeignList<u8> } //~ 45: `impl Trait` stands for any type of a trait
    pub struct Undeclared { value: &'a u8 } //~ 37: use of undeclared lifetime name `'a`
    pub struct Sizes {
        text: str, //~ 15: `str` cannot cross between guest and host
        bytes: [u8], //~ 16: `[u8]` cannot cross between guest and host
        call: dyn Fn(u8) -> u8, //~ 15: `dyn Fn(u8) -> u8` cannot cross between guest and host
        list: [u8; 4],
    }
    pub enum Event: u8 {
        Named { value: Self, text: u8 }, //~ 24: cannot find type `Self` in this scope
        Sent(u8, _), //~ 18: the placeholder `_` is not allowed
        Bytes(u8, [u8]), //~ 19: `[u8]` cannot cross between guest and host
        Good(u8, [u8; 4]),
    }
    pub enum Made2: u8 {
        Sent([u8; 4], impl Copy), //~ 28: `impl Trait` stands for any type of a trait
        Named { value: Option<impl Clone> }, //~ 36: `impl Trait` stands for any type of a trait
    }
    pub enum Undeclared2: u8 {
        Sent(u8, &'b u8), //~ 19: use of undeclared lifetime name `'b`
        Named { value: Option<&'c u8> }, //~ 32: use of undeclared lifetime name `'c`
    }
    pub struct Entry<'a> {
        text: &'a str,
        itself: vmffi::List<'a, Self>, //~ 33: cannot find type `Self` in this scope
        more: &'b str, //~ 16: use of undeclared lifetime name `'b`
        made: impl Copy, //~ 20: `impl Trait` stands for any type of a trait
    }
    pub enum Entries<'a>: u8 {
        Text(&'a str),
        Itself(Self), //~ 16: cannot find type `Self` in this scope
        More { text: &'b str }, //~ 23: use of undeclared lifetime name `'b`
    }
    pub interface Places {
        fn me(a: Self) -> u8; //~ 18: cannot find type `Self` in this scope
        fn mine() -> Result<u8, Self>; //~ 33: cannot find type `Self` in this scope
        fn left(a: _); //~ 20: the placeholder `_` is not allowed
        fn right(a: ForeignSlice<_>) -> u8; //~ 34: the placeholder `_` is not allowed
        fn text(text: str); //~ 23: `str` cannot cross between guest and host
        fn bytes(a: u8, bytes: [u8]); //~ 32: `[u8]` cannot cross between guest and host
        fn called(call: dyn Fn()); //~ 25: `dyn Fn()` cannot cross between guest and host
        fn result() -> str; //~ 24: `str` cannot be returned between guest and host
        fn good(text: &str, more: u8) -> u8; //~ 23: `&str` cannot cross between guest and host
        fn uses(a: Itself, b: Left, c: Made, d: Undeclared, e: Sizes) -> Event;
        fn packed(a: ForeignPacked<Entry>, b: ForeignList<Entries>, c: Made2) -> Undeclared2;
    }
}

vmffi::ffi_interface! {
    pub interface Made3 {
        fn made(a: u8, b: impl Copy); //~ 32: `impl Trait` stands for any type of a trait
        fn makes() -> impl Iterator<Item = u8>; //~ 28: `impl Trait` stands for any type of a trait
        fn undeclared(a: &'a u8); //~ 27: use of undeclared lifetime name `'a`
        fn text(a: (u8, &'b str)) -> Option<&'static u8>; //~ 26: use of undeclared lifetime name `'b`
        fn entry(a: ForeignPacked<Entry<'a>>); //~ 41: use of undeclared lifetime name `'a`
        fn good(a: Sizes) -> u8;
    }
}

struct Server;
impl Made3 for Server {
    fn made(&self, _: &Peer, _: u8, _: u64) -> Result<(), CallError> { Ok(()) }
    fn makes(&self, _: &Peer) -> Result<u8, CallError> { Ok(1) }
    fn undeclared(&self, _: &Peer, _: &u8) -> Result<(), CallError> { Ok(()) }
    fn text(&self, _: &Peer, _: (u8, &str)) -> Result<Option<u8>, CallError> { Ok(None) }
    fn entry(&self, _: &Peer, _: ForeignPacked<Entry>) -> Result<(), CallError> { Ok(()) }
    fn good(&self, _: &Peer, _: Sizes) -> Result<u8, CallError> { Ok(1) }
}
vmffi::serve!(Server: Made3);

fn main() {
    let _ = Sizes { text: "text", bytes: b"bytes", call: 1, list: [0; 4] };
}

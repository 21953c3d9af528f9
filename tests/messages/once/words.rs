//! Keywords and literals as names: each is one error, at the word, and what uses the rest is good.

use vmffi::{CallError, Peer};

vmffi::ffi_interface! {
    pub struct type { a: u8 } //~ 16: expected identifier, found keyword `type`
    pub struct _ { a: u8 } //~ 16: expected identifier, found reserved identifier `_`
    pub struct 5 { a: u8 } //~ 16: expected identifier, found `5`
    pub enum Self: u8 { A } //~ 14: expected identifier, found keyword `Self`
    pub interface crate { fn f(); } //~ 19: expected identifier, found keyword `crate`
    pub interface impl { fn f(a: u8); } //~ 19: expected identifier, found keyword `impl`
}

vmffi::ffi_interface! {
    pub struct Field { a: u8, b: u8, fn: u8 } //~ 38: expected identifier, found keyword `fn`
    pub struct Handle { self: vmffi::ForeignStr } //~ 25: expected identifier, found keyword `self`
    pub struct Text<'a> { text: &'a str, ref: u8 } //~ 42: expected identifier, found keyword `ref`
    pub enum Kind: u8 { File, move } //~ 31: expected identifier, found keyword `move`
    pub enum Event: u8 { Open(u8), Self(u8) } //~ 36: expected identifier, found keyword `Self`
    pub interface Uses {
        fn uses(a: Field, b: Handle, c: Kind, d: Event, e: vmffi::ForeignPacked<Text>) -> Handle;
    }
}

vmffi::ffi_interface! {
    pub interface Functions {
        fn good(a: u8);
        fn match(a: u8); //~ 12: expected identifier, found keyword `match`
        fn async(); //~ 12: expected identifier, found keyword `async`
        fn super(a: u8, b: u8) -> u8; //~ 12: expected identifier, found keyword `super`
        fn 7(); //~ 12: expected identifier, found `7`
        fn one(type: u8); //~ 16: expected identifier, found keyword `type`
        fn two(a: u8, fn: u8) -> u8; //~ 23: expected identifier, found keyword `fn`
        fn three(a: u8, b: u8, Self: u8); //~ 32: expected identifier, found keyword `Self`
        fn raw(r#type: u8, r#fn: u8);
        fn r#mod();
    }
}

struct Server;
impl Functions for Server {
    fn good(&self, _: &Peer, _: u8) -> Result<(), CallError> { Ok(()) }
    fn one(&self, _: &Peer, _: u8) -> Result<(), CallError> { Ok(()) }
    fn two(&self, _: &Peer, a: u8, _: u8) -> Result<u8, CallError> { Ok(a) }
    fn three(&self, _: &Peer, _: u8, _: u8, _: u8) -> Result<(), CallError> { Ok(()) }
    fn raw(&self, _: &Peer, _: u8, _: u8) -> Result<(), CallError> { Ok(()) }
    fn r#mod(&self, _: &Peer) -> Result<(), CallError> { Ok(()) }
}
vmffi::serve!(Server: Functions);

fn main() {}

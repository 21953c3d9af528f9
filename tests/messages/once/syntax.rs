//! What the grammar does not have: each mistake is one error, and the rest of the declaration is good, with what uses it.

use vmffi::{CallError, Peer};

vmffi::ffi_interface! {
    pub struct Unit; //~ 16: a struct has braces, also if it has no fields
    pub struct Tuple(u8, u8); //~ 16: struct `Tuple`: write `struct Tuple { name: Type, .. }`
    pub struct Generic<T> { value: T } //~ 16: `Generic`: what crosses to another machine has one layout
    pub struct Ended { value: u8 }; //~ 16: leave out the semicolon behind the braces
    pub const LIMIT: u32 = 5; //~ 15: put others beside `ffi_interface!`
    use core::fmt; //~ 9: put others beside `ffi_interface!`
    pub fn free(a: u8) -> u8 { a } //~ 12: put others beside `ffi_interface!`
    pub type Count = u32; //~ 14: put others beside `ffi_interface!`
    pub const BYTES: [u8; 2] = { [1, 2] }; //~ 15: put others beside `ffi_interface!`
    extern crate std; //~ 18: put others beside `ffi_interface!`
    "text" //~ 5: put others beside `ffi_interface!`
    pub enum Bodiless: u8; //~ 14: a struct, an enum or an interface has a body in braces
    pub enum Open { A, B } //~ 14: an enum needs the integer that it crosses as
    pub enum Float: f32 { A, B } //~ 21: an enum crosses as an integer of at most 64 bits
    pub enum Empty: u8 {} //~ 14: an enum without variants has no value that could cross
    pub union Either { a: u32, b: u64 } //~ 15: a receiver cannot tell which field of a union it holds
    pub trait Old { fn f(); } //~ 15: write `interface`, not `trait`
    pub struct Semicolon {
        a: u8; //~ 14: struct fields are separated by `,`
        b: u8,
    }
    pub struct Comma {
        a: u8 //~ 14: expected `,`, or `}`, found `b`
        b: u8,
    }
    pub struct Untyped {
        a, //~ 10: expected `:`, found `,`
        b: u8,
    }
    pub enum Commas: u8 {
        A
        B, //~ 9: found `B`
    }
    pub interface Uses {
        fn structs(a: Unit, b: Tuple, c: Generic, d: Ended, e: Semicolon, f: Comma, g: Untyped);
        fn enums(a: Open, b: Float, c: Empty, d: Commas, e: Either, f: Bodiless) -> Result<Open, Float>;
    }
}

vmffi::ffi_interface! {
    pub interface Calls {
        fn good(value: u32);
        fn generic<T>(value: T); //~ 12: function `Calls::generic`: a function that crosses
        fn receiver(&self, value: u8); //~ 12: function `Calls::receiver`: leave out the receiver
        fn body(value: u32) -> u32 { value } //~ 12: function `Calls::body`: leave out the body
        async fn later(value: u32); //~ 18: function `Calls::later`: calls wait for their result
        unsafe fn risky(value: u32); //~ 19: function `Calls::risky`: leave out the `unsafe`
        pub fn public(value: u32); //~ 16: function `Calls::public`: a function is as visible as its interface
        pub(crate) async fn both(value: u32); //~ 29: function `Calls::both`: calls wait for their result
        fn value(a: u8 = 5); //~ 12: function `Calls::value`: write a parameter as `name: Type`
        fn unended(value: u32) //~ 12: function `Calls::unended`: end it with a semicolon
        fn last(value: u32);
        const N: u32 = 5; //~ 15: put others beside `ffi_interface!`
        type T; //~ 14: put others beside `ffi_interface!`
        fn listless; //~ 12: write `fn name(parameter: Type, ..) -> Type;`
        wordless(value: u32) -> u8; //~ 9: write `fn` before the name of a function
        fn angles<value: u32>; //~ 12: write `fn name(parameter: Type, ..) -> Type;`
        unsafe extern "C" fn foreign(value: u32); //~ 30: function `Calls::foreign`: all functions have this crate's ABI
        pub async unsafe fn every(value: u32); //~ 29: function `Calls::every`: leave out the `unsafe`
        5; //~ 9: everything in an interface is a function
        fun misspelt(value: u32); //~ 13: function `Calls::misspelt`: write `fn`, not `fun`
    }
    pub interface Bodiless; //~ 19: a struct, an enum or an interface has a body in braces
    pub interface Parentheses(fn f();); //~ 19: a struct, an enum or an interface has a body in braces
    pub interface Brackets [ fn f(); ] //~ 19: a struct, an enum or an interface has a body in braces
    pub interface Bounded: Send { fn f(); } //~ 28: an interface cannot require another trait
}

struct Server;
impl Calls for Server {
    fn good(&self, _: &Peer, _: u32) -> Result<(), CallError> { Ok(()) }
    fn body(&self, _: &Peer, value: u32) -> Result<u32, CallError> { Ok(value) }
    fn later(&self, _: &Peer, _: u32) -> Result<(), CallError> { Ok(()) }
    fn risky(&self, _: &Peer, _: u32) -> Result<(), CallError> { Ok(()) }
    fn foreign(&self, _: &Peer, _: u32) -> Result<(), CallError> { Ok(()) }
    fn every(&self, _: &Peer, _: u32) -> Result<(), CallError> { Ok(()) }
    fn public(&self, _: &Peer, _: u32) -> Result<(), CallError> { Ok(()) }
    fn both(&self, _: &Peer, _: u32) -> Result<(), CallError> { Ok(()) }
    fn unended(&self, _: &Peer, _: u32) -> Result<(), CallError> { Ok(()) }
    fn last(&self, _: &Peer, _: u32) -> Result<(), CallError> { Ok(()) }
}
vmffi::serve!(Server: Calls);

fn main() {}

//! Mistakes in structs and enums with a lifetime: each is one error, and what uses them is good.

use vmffi::*;

vmffi::ffi_interface! {
    pub struct Two<'a, 'b> { a: &'a str, b: &'b str } //~ 16: `Two`: what crosses to another machine has one layout
    pub struct Typed<'a, T> { a: &'a str, b: T } //~ 16: `Typed`: what crosses to another machine has one layout
    pub enum Both<'a, 'b>: u8 { A(&'a str), B(&'b str) } //~ 14: `Both`: what crosses to another machine has one layout
}

vmffi::ffi_interface! {
    pub interface Borrows<'a> { fn f(name: ForeignPacked<Fine>); } //~ 19: an interface has no lifetime: leave it out
    pub struct Fine<'a> { text: &'a str }
    pub struct Left<'a> {
        text: &'a str,
        more: &str, //~ 15: missing lifetime specifier
    }
    pub enum LeftOut<'a>: u8 {
        Text(&'a str),
        More(&str), //~ 14: missing lifetime specifier
    }
    pub struct Owned<'a> {
        text: &'a str,
        name: String, //~ 15: `String` cannot be part of a packed value
        time: Moment, //~ 15: cannot find type `Moment` in this scope
        wide: &'a u32, //~ 15: `&'a u32` cannot be part of a packed value
    }
    pub enum Held<'a>: u8 {
        Text(&'a str),
        Name { name: Option<String> }, //~ 22: `String` cannot be part of a packed value
        Text(u8), //~ 9: field `Text` specified more than once
    }
    pub struct Twice<'a> {
        text: &'a str,
        text: u8, //~ 9: field `text` specified more than once
    }
    pub struct Fine<'a> { other: &'a [u8] } //~ 16: the name `Fine` is defined multiple times
    pub enum Wide<'a>: u128 { A(&'a str) } //~ 24: an enum crosses as an integer of at most 64 bits
    pub enum Bare<'a> { A(&'a str) } //~ 14: an enum needs the integer that it crosses as
    pub enum Empty<'a>: u8 {} //~ 14: an enum without variants has no value that could cross
    #[size(4)] //~ 12: `#[size(..)]` pins a struct or a function's parameters
    pub enum Pinned<'a>: u8 { A(&'a str) }
    #[optional]
    pub struct Optional<'a> { text: &'a str } //~ 16: `#[optional]` marks a function of an interface
    pub struct Semicolon<'a> {
        text: &'a str; //~ 22: struct fields are separated by `,`
        more: u8,
    }
    pub interface Uses {
        fn lists(a: ForeignList<Owned>, b: ForeignList<Held>, c: ForeignPacked<Twice>, d: ForeignPacked<Optional>);
        fn left(a: ForeignList<Left>, b: ForeignList<LeftOut>) -> ForeignPacked<Fine>;
        fn wrong(a: ForeignList<Wide>, b: ForeignList<Bare>, c: ForeignList<Empty>, d: ForeignList<Semicolon>);
        fn pinned(a: ForeignList<Pinned<'static>>) -> ForeignList<Pinned>;
    }
}

struct Server;
impl Uses for Server {
    fn lists(
        &self, _: &Peer, _: ForeignList<Owned>, _: ForeignList<Held>, _: ForeignPacked<Twice>, _: ForeignPacked<Optional>,
    ) -> Result<(), CallError> {
        Ok(())
    }
    fn left(
        &self, peer: &Peer, _: ForeignList<Left>, _: ForeignList<LeftOut>,
    ) -> Result<SharedPacked<Fine<'static>>, CallError> {
        SharedPacked::copy_from(peer, &Fine { text: "text" })
    }
    fn wrong(
        &self, _: &Peer, _: ForeignList<Wide>, _: ForeignList<Bare>, _: ForeignList<Empty>, _: ForeignList<Semicolon>,
    ) -> Result<(), CallError> {
        Ok(())
    }
    fn pinned(&self, _: &Peer, _: ForeignList<Pinned>) -> Result<SharedList<Pinned<'static>>, CallError> {
        Err(CallError::new(ErrorKind::Busy))
    }
}
vmffi::serve!(Server: Uses);

fn main() {}

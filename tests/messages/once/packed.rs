//! Mistakes in packed values: what has no place in them, and where they have none.

use vmffi::{ForeignList, ForeignPacked, ForeignStr, List};

vmffi::ffi_interface! {
    pub struct Entry<'a> {
        text: &'a str,
        name: ForeignStr, //~ `ForeignStr` cannot be part of a packed value
        owned: Option<String>, //~ `String` cannot be part of a packed value
        names: List<'a, Vec<u8>>, //~ 16: `Vec<u8>` cannot be part of a packed value
    }
    pub enum Cell<'a>: u8 {
        Null,
        Text(&'a str),
        Boxed(u8, Box<u8>), //~ `Box<u8>` cannot be part of a packed value
    }
    pub struct Fine<'a> { text: &'a str }
    pub struct Holds { fine: Fine<'static> } //~ `Fine<'static>` cannot cross between guest and host
    pub struct Owner { name: ForeignStr }
    pub interface Files {
        fn alone(value: Fine<'static>); //~ `Fine<'static>` cannot cross between guest and host
        fn text(value: ForeignPacked<ForeignStr>); //~ `ForeignStr` cannot be part of a packed value
        fn list(a: u8, value: ForeignList<Holds>);
        fn owners(a: u8, value: ForeignList<Owner>); //~ 33: this struct holds handles
        fn uses(entries: ForeignList<Entry>) -> ForeignPacked<List<Cell>>;
    }
}

fn main() {}

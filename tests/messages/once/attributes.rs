//! Attributes that are malformed, unknown, or on what they do not belong to.

vmffi::ffi_interface! {
    #[size = 8] //~ 14: write the pin as `#[size(16)]`, once
    pub struct Malformed { value: u64 }
    #[size(8)]
    #[size(9)] //~ 12: write the pin as `#[size(16)]`, once
    pub struct Twice { value: u64 }
    #[size]
    pub struct Without { value: u64 } //~ 16: write the pin as `#[size(16)]`, once
    #[optional]
    pub struct Optional { value: u64 } //~ 16: `#[optional]` marks a function of an interface
    #[size(4)] //~ 12: `#[size(..)]` pins a struct or a function's parameters
    pub enum Pinned: u32 { A }
    #[sise(4)] //~ 7: cannot find attribute `sise` in this scope
    pub struct Misspelt { #[nope] value: u64 } //~ 29: cannot find attribute `nope` in this scope
    #[derive(Clon)] //~ 14: cannot find derive macro `Clon` in this scope
    pub struct Derived { value: u64 }
    #[cfg]
    pub struct Never { value: u64 } //~ 16: write `#[cfg(predicate)]`
    #[derive(Clone)] //~ 14: this attribute belongs on a struct or an enum
    pub interface Functions {
        #[derive(Debug)] //~ 18: this attribute belongs on a struct or an enum
        fn derived(a: u8);
        #[repr(C)] //~ 16: this attribute belongs on a struct or an enum
        fn represented(a: u8, b: u8);
        #[cfg()]
        fn never(a: u8); //~ 12: write `#[cfg(predicate)]`
        #[optional(true)] //~ 20: write `#[optional]`, without arguments and once
        fn arguments(a: Malformed, b: Twice, c: Without, d: Optional, e: Pinned);
        #[optional]
        #[optional]
        fn twice(); //~ 12: write `#[optional]`, without arguments and once
        #[size(8)] //~ 16: pins a parameter struct, which only a function of at least two parameters has
        fn one(value: u64);
        #[optinal] //~ 11: cannot find attribute `optinal` in this scope
        fn misspelt(a: Misspelt, b: Derived);
    }
}

fn main() {}

//! Mistakes that have several errors, and why. The one that says what is wrong is at its place.

use vmffi::{Foreign, ForeignPacked};

// The compiler wants the size of a type's argument in each place where it finds the type, and has no place where it does not.
vmffi::ffi_interface! {
    pub struct Sizes { text: Option<str>, more: u8 } //~ `str` cannot cross between guest and host
    pub interface Sized {
        fn text(text: Foreign<str>); //~ `str` holds handles, or cannot cross between guest and host at all
        fn bytes(a: u8, bytes: [[u8]; 4]); //~ `[u8]` cannot cross between guest and host
        fn called() -> Result<u8, dyn Fn()>; //~ `Result<u8, dyn Fn()>` cannot be returned between guest and host
    }
}

// The struct is written as it is declared, since its views are of its own type: what it lacks, each use of it lacks.
vmffi::ffi_interface! {
    pub struct Left<'a> { text: &'a str, value: _ } //~ the placeholder `_` is not allowed
    pub struct Unsized<'a> { text: &'a str, more: str, last: u8 } //~ `str` cannot be part of a packed value
    pub interface Views { fn uses(a: ForeignPacked<Left>); }
}

// Nothing in the declaration tells the name of a trait from that of a type, and the advice differs from place to place.
vmffi::ffi_interface! {
    pub interface Passes { fn passes(a: Callback); } //~ expected a type, found a trait
    pub interface Callback { fn called(); }
}

// The compiler says of each `!` that it is not stable, wherever it stands.
vmffi::ffi_interface! {
    pub interface Ends { fn ends() -> !; } //~ `!` cannot be returned between guest and host
}

// Of two items of one name, the compiler takes the first for both, and reports what it lacks.
pub struct Stat {
    pub other: u8,
}
pub trait Files {}
vmffi::ffi_interface! { //~ the name `Stat` is defined multiple times
    pub struct Stat { size: u64 } //~ has no field named `size`
}
vmffi::ffi_interface! { //~ the name `Files` is defined multiple times
    pub interface Files { fn read(file: u64); } //~ cannot find method or associated constant `read` in trait `Files`
}

fn main() {}

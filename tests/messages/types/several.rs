//! Mistakes that have several errors, and why. The one that says what is wrong is at its place.

use vmffi::{Foreign, ForeignPacked};

// A name for a type that depends on where it stands: each place in which the type is repeated is an error of its own.
vmffi::ffi_interface! {
    pub struct Itself { value: Foreign<Self> } //~ cannot find type `Self` in this scope
    pub struct Left<'a> { text: &'a str, value: _ } //~ the placeholder `_` is not allowed
    pub struct Made { value: impl Copy } //~ `impl Trait` is not allowed
    pub struct Undeclared { value: &'a u8 } //~ use of undeclared lifetime name `'a`
    pub interface Places {
        fn me(a: Self) -> u8; //~ cannot find type `Self` in this scope
        fn left(a: _); //~ the placeholder `_` is not allowed
        fn made(a: u8, b: impl Copy); //~ `impl Trait` is not allowed
        fn undeclared(a: &'a u8); //~ use of undeclared lifetime name `'a`
        fn uses(a: Itself, b: ForeignPacked<Left>, c: Made, d: Undeclared);
    }
}

// The compiler has an error of its own for a field, a parameter or an argument without a size.
vmffi::ffi_interface! {
    pub struct Sizes { text: str, bytes: u8 } //~ `str` cannot cross between guest and host
    pub interface Sized {
        fn text(text: str); //~ `str` cannot cross between guest and host
        fn bytes(a: u8, bytes: [u8]); //~ `[u8]` cannot cross between guest and host
        fn called(call: dyn Fn()); //~ `dyn Fn()` cannot cross between guest and host
    }
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

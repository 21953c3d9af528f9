//! Numbers of variants that do not fit: a lint of the compiler's, which it runs if there is no other error.

vmffi::ffi_interface! {
    pub enum Large: u8 { A = 3, B = 256 } //~ 37: literal out of range for `u8`
    pub enum Values: i8 { A(u8) = 3, B { b: u8 } = 128 } //~ 52: literal out of range for `i8`
    pub enum Texts<'a>: u8 { A(&'a str) = 300, B } //~ 43: literal out of range for `u8`
    pub interface Uses { fn uses(a: Large, b: Values, c: vmffi::ForeignPacked<Texts>) -> Result<Large, Values>; }
}

fn main() {}

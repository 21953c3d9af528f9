//! Numbers: pinned sizes that are wrong, and numbers of variants.

use vmffi::{ForeignPacked, ForeignStr};

const fn eight() -> usize { 8 }

vmffi::ffi_interface! {
    #[size(16)] //~ 12: the size is 8 bytes: write `#[size(8)]`, not `#[size(16)]`
    pub struct Plain { size: u64 }
    #[size(4 + 5)] //~ 12: the size is 24 bytes: write `#[size(24)]`, not `#[size(9)]`
    pub struct Handles { name: ForeignStr, nr: u8 }
    #[size(eight())] //~ 12: the size is 16 bytes: write `#[size(16)]`, not `#[size(8)]`
    pub struct Packed<'a> { name: &'a str, nr: u8 }
    #[size(eight())]
    pub struct Right { size: u64 }
    #[size("8")] //~ 12: mismatched types
    pub struct Text { size: u64 }
    #[size(8_u32)] //~ 12: mismatched types
    pub struct Other { size: u64 }
    #[size(MISSING)] //~ 12: cannot find value `MISSING` in this scope
    pub struct Missing { size: u64 }
    pub interface Files {
        #[size(12)] //~ 16: the size is 16 bytes: write `#[size(16)]`, not `#[size(12)]`
        fn read(file: u64, max: u32);
        fn uses(a: Plain, b: Handles, c: ForeignPacked<Packed>, d: Right, e: Text, f: Other) -> Missing;
    }
}

vmffi::ffi_interface! {
    pub enum Negative: u16 { A = -1 } //~ 34: cannot apply unary operator `-` to type `u16`
    pub enum OfAnother: u8 { A = 3, B = 4_u16 } //~ 41: mismatched types
    pub enum Values2: u8 { A(u8), B(u8) = "b" } //~ 43: mismatched types
    pub enum Unknown: u8 { A = MISSING } //~ 32: cannot find value `MISSING` in this scope
    pub enum Unknown2: u8 { A(u8) = MISSING } //~ 37: cannot find value `MISSING` in this scope
    pub interface Uses {
        fn a(a: Negative) -> OfAnother;
        fn b(f: Values2, g: Unknown, h: Unknown2) -> Result<Negative, Values2>;
    }
}

fn main() {}

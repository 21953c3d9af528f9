//! Mistakes in enums that the compiler reports at the whole type, which the macro writes. Each is one error.

vmffi::ffi_interface! { //~ 1: discriminant value `1` assigned more than once
    pub enum Equal: u8 { A = 1, B = 0, C }
}

vmffi::ffi_interface! { //~ 1: discriminant value `3` assigned more than once
    pub enum EqualValues: u8 { A(u8) = 3, B { b: u8 } = 3 }
}

vmffi::ffi_interface! { //~ 1: enum discriminant overflowed
    pub enum Overflow: u8 { A = 255, B }
}

vmffi::ffi_interface! { //~ 1: enum discriminant overflowed
    pub enum OverflowValues: i8 { A(u8) = 127, B }
}

fn main() {}

//! Enums that `ffi_interface!` does not take.

vmffi::ffi_interface! {
    pub enum NoInteger { A, B }
}

vmffi::ffi_interface! {
    pub enum NotAnInteger: f32 { A, B }
}

vmffi::ffi_interface! {
    pub enum Machine: usize { A, B }
}

vmffi::ffi_interface! {
    pub enum ManyValues: u8 { A(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8) }
}

vmffi::ffi_interface! {
    pub enum Nothing: u8 {}
}

vmffi::ffi_interface! {
    pub enum Generic<T>: u8 { A(T) }
}

vmffi::ffi_interface! {
    #[size(4)]
    pub enum Pinned: u32 { A }
}

fn main() {}

//! Items that `ffi_interface!` does not take.

vmffi::ffi_interface! {
    pub struct Generic<T> { value: T }
}

vmffi::ffi_interface! {
    pub struct Borrowed<'a, 'b> { value: &'a str, more: &'b str }
}

vmffi::ffi_interface! {
    pub struct Tuple(u32, u32);
}

vmffi::ffi_interface! {
    pub struct Unit;
}

vmffi::ffi_interface! {
    pub struct Good { value: u32 }
    pub const LIMIT: u32 = 5;
}

vmffi::ffi_interface! {
    use core::fmt;
    pub struct Later { value: u32 }
}

vmffi::ffi_interface! {
    pub union Either { a: u32, b: u64 }
}

vmffi::ffi_interface! {
    pub interfaces Misspelt { fn f(); }
}

vmffi::ffi_interface! {
    pub strut Misspelt { value: u32 }
}

vmffi::ffi_interface! {
    pub trait Files { fn f(); }
}

vmffi::ffi_interface! {
    pub interface Generic<T> { fn f(value: T); }
}

vmffi::ffi_interface! {
    pub interface Super: Send { fn f(); }
}

vmffi::ffi_interface! {
    pub struct Bounded where u32: Copy { value: u32 }
}

fn main() {}

//! Types that contain themselves, as they are or in an array: they have no size, and the size of their wire form has no end
//! either, so that the compiler reports both.

vmffi::ffi_interface! { //~ recursive type `Node` has infinite size
    pub struct Node { value: u32, next: Node }
}
vmffi::ffi_interface! { //~ recursive types `First` and `Second` have infinite size
    pub struct First { second: Option<Second> }
    pub struct Second { first: [First; 2] }
}

fn main() {}

//! A type that is made of itself (ABI, Types TY-13).

use vmffi::List;

vmffi::ffi_interface! { //~ 1: cycle detected
    pub struct Node<'a> { value: u32, next: List<'a, Node<'a>> }
}

fn main() {}

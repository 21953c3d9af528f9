//! A type that is made of itself (ABI, Types TY-13).

use vmffi::Foreign;

vmffi::ffi_interface! { //~ 1: cycle detected
    pub struct Node { value: u32, next: Option<Foreign<Node>> }
}

fn main() {}

//! Types that are made of each other (ABI, Types TY-13).

use vmffi::Foreign;

vmffi::ffi_interface! { //~ 1: cycle detected
    pub struct Tree { first: Option<Foreign<Branch>> }
    pub struct Branch { next: Option<Foreign<Tree>> }
}

fn main() {}

//! Types that do not do what a side of a connection does.

use vmffi::loopback::Loopback;

vmffi::ffi_interface! {
    pub interface Clock { fn now() -> u64; }
}

pub struct Without;
vmffi::serve!(Without: Clock);

pub struct Unserved;

fn main() {
    let _ = Loopback::new(Unserved, ());
}

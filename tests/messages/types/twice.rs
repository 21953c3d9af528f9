//! Names that stand twice.

vmffi::ffi_interface! { //~ the name `now` is defined multiple times
    pub interface Clock {
        fn now() -> u64;
        fn now() -> u64;
    }
    pub interface Files {
        fn read(file: u64, file: u32); //~ identifier `file` is bound more than once
    }
    pub struct Stat {
        size: u64,
        size: u64, //~ field `size` specified more than once
    }
}

fn main() {}

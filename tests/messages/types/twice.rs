//! A parameter that stands twice: other errors follow from it.

vmffi::ffi_interface! {
    pub interface Files {
        fn read(file: u64, file: u32); //~ identifier `file` is bound more than once
    }
}

fn main() {}

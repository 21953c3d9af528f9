//! Pins that do not say what the size is.

vmffi::ffi_interface! {
    #[size(24)]
    pub struct Stat { size: u64, mode: u32, links: u32 }

    pub interface Files {
        #[size(12)]
        fn read(file: u64, max: u32);
    }
}

fn main() {}

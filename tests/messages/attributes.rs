//! Attributes of the declaration's own.

vmffi::ffi_interface! {
    #[size = 8]
    pub struct Malformed { value: u64 }
}

vmffi::ffi_interface! {
    #[size(8)]
    #[size(8)]
    pub struct Twice { value: u64 }
}

vmffi::ffi_interface! {
    pub interface Arguments {
        #[optional(true)]
        fn f();
    }
}

vmffi::ffi_interface! {
    pub interface Twice {
        #[optional]
        #[optional]
        fn f();
    }
}

vmffi::ffi_interface! {
    #[optional]
    pub struct Optional { value: u64 }
}

vmffi::ffi_interface! {
    #[size(8)]
    pub interface Sized { fn f(); }
}

vmffi::ffi_interface! {
    pub interface OneParameter {
        #[size(8)]
        fn f(value: u64);
    }
}

fn main() {}

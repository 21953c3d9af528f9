//! The interface of the guest with many crates. Guest and host compile the same file.

vmffi::ffi_interface! {
    pub interface Crates {
        /// Makes a crate process some bytes.
        fn work(crate_name: vmffi::ForeignStr, input: vmffi::ForeignBuf) -> vmffi::ForeignStr;
    }
}

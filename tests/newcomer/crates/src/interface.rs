//! What the guest with many crates serves: the same declaration for it and its host.

vmffi::ffi_interface! {
    pub interface Crates {
        /// Has a crate do its work on some bytes.
        fn work(crate_name: vmffi::ForeignStr, input: vmffi::ForeignBuf) -> vmffi::ForeignStr;
    }
}

//! The interface of the benchmarks of lives. Guest and host compile the same file.

vmffi::ffi_interface! {
    /// Served by the guest.
    pub interface Warmth {
        fn echo(x: u64) -> u64;
        /// Writes to each page of the first `bytes` bytes of its memory, up to 64 MiB.
        fn warm(bytes: u64);
        /// The same, from the middle of the warmed memory on, after reading 16 other pages.
        fn dirty(bytes: u64);
        /// Reads each of these pages.
        fn read(bytes: u64) -> u64;
        /// Does not return.
        fn spin();
    }
}

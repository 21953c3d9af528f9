//! What the benchmarks of lives call: the same declaration for the guest and its host.

vmffi::ffi_interface! {
    /// Served by the guest.
    pub interface Warmth {
        fn echo(x: u64) -> u64;
        /// Writes to each page of the first so many bytes of its memory, up to 64 MiB.
        fn warm(bytes: u64);
        /// The same, from the middle of what was warmed on, after it has read 16 other pages.
        fn dirty(bytes: u64);
        /// Reads each of these pages.
        fn read(bytes: u64) -> u64;
        /// Does not come back.
        fn spin();
    }
}

//! What the benchmarks of machines call: the same declaration for the guest and its host.

vmffi::ffi_interface! {
    /// Served by the host.
    pub interface Meter {
        fn scalar(x: u64) -> u64;
        fn three(a: u64, b: u32, c: u8) -> u64;
    }

    /// Served by the guest.
    pub interface Load {
        fn echo(x: u64) -> u64;
        fn sum(a: u64, b: u32, c: u8) -> u64;
        /// So many calls of `Meter::scalar`, of `Meter::three`.
        fn scalars(n: u64) -> u64;
        fn threes(n: u64) -> u64;
        /// Writes to so many bytes of its memory, up to 1 MiB.
        fn touch(bytes: u64);
        /// Does not come back.
        fn spin();
    }
}

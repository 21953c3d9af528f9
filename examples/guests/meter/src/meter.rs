//! The interface of the benchmarks of machines. Guest and host compile the same file.

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
        /// Calls `Meter::scalar` or `Meter::three` `n` times.
        fn scalars(n: u64) -> u64;
        fn threes(n: u64) -> u64;
        /// The same in `n` batches of 64 calls, each beginning at 0.
        fn scalars_in_batches(n: u64) -> u64;
        fn threes_in_batches(n: u64) -> u64;
        /// Writes to the first `bytes` bytes of its memory, up to 1 MiB.
        fn touch(bytes: u64);
        /// Does not return.
        fn spin();
    }
}

/// The number of calls in a batch.
pub const BATCH: u64 = 64;

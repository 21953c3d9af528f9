//! The interface that the guest serves. The test compiles the same file.

vmffi::ffi_interface! {
    pub interface Random {
        /// A UUID of version 4.
        fn uuid() -> u128;
        /// A number from the crate `rand`.
        fn number() -> u64;
        /// A number from a generator that was seeded during the guest's startup.
        fn stale_number() -> u64;
        /// The number of this life; 0 if there is none.
        fn generation() -> u64;
        /// The number of the life in which the guest started up; 0 if there was none.
        fn first_generation() -> u64;
        /// The first 16 bytes of this life's seed.
        fn seed() -> u128;
        /// The first 16 bytes of the seed of the life in which the guest started up.
        fn first_seed() -> u128;
    }
}

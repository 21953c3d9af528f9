//! Numbers of an enum's variants: a function for each integer, of the integer's name.
//!
//! The compiler says of a number that is not of the integer's type the same here as in the user's enum, and drops the second error.

macro_rules! numbers {
    ($($int:ident)*) => { $(
        /// The number.
        #[must_use]
        pub const fn $int<const N: $int>() -> $int {
            N
        }
    )* };
}

numbers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

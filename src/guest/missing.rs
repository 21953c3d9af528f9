//! The macros of a guest program without its feature: each says which one is missing.

/// The sentence for the macros of the feature `guest`.
#[doc(hidden)]
#[macro_export]
macro_rules! __guest_is_missing {
    () => {
        $crate::__private::core::compile_error! {
            "a guest program needs the feature `guest` of vmffi: write \
             `vmffi = { version = \"..\", default-features = false, features = [\"guest\"] }` in its \
             Cargo.toml"
        }
    };
}

/// Needs the feature `guest`.
#[doc(hidden)]
#[cfg(not(feature = "guest"))]
#[macro_export]
macro_rules! entry {
    ($($any:tt)*) => {
        $crate::__guest_is_missing! {}
    };
}

/// Needs the feature `guest`. The error of `entry!` is enough.
#[doc(hidden)]
#[cfg(not(feature = "guest"))]
#[macro_export]
macro_rules! panic_handler {
    ($($any:tt)*) => {};
}

/// Needs the feature `guest`. The error of `entry!` is enough.
#[doc(hidden)]
#[cfg(not(feature = "guest"))]
#[macro_export]
macro_rules! memory_functions {
    ($($any:tt)*) => {};
}

/// Needs the feature `heap`.
#[doc(hidden)]
#[cfg(not(feature = "heap"))]
#[macro_export]
macro_rules! heap {
    ($($any:tt)*) => {
        $crate::__private::core::compile_error! {
            "a guest's allocator needs the feature `heap` of vmffi: write \
             `vmffi = { version = \"..\", default-features = false, features = [\"guest\", \"heap\"] }` in \
             its Cargo.toml"
        }
    };
}

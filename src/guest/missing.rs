//! The macros of a guest program without its feature: each says which one is missing.

/// Needs the feature `guest`. The function goes before the one that the macros below import, so that they report nothing
/// beside this macro.
#[doc(hidden)]
#[cfg(not(feature = "guest"))]
#[macro_export]
macro_rules! entry {
    ($($any:tt)*) => {
        const _: () = $crate::__private::mistakes::__vmffi_guest_program(());
        #[allow(dead_code, reason = "the macros beside this one call it, if there are any")]
        const fn __vmffi_guest_program(_: ()) {}
    };
}

/// Needs the feature `guest`. Reports so if there is no `entry!` beside it.
#[doc(hidden)]
#[cfg(not(feature = "guest"))]
#[macro_export]
macro_rules! panic_handler {
    ($($any:tt)*) => {
        #[allow(unused_imports, reason = "`entry!` has another one")]
        use $crate::__private::mistakes::*;
        const _: () = __vmffi_guest_program(());
    };
}

/// Needs the feature `guest`. Reports so if there is no `entry!` beside it.
#[doc(hidden)]
#[cfg(not(feature = "guest"))]
#[macro_export]
macro_rules! memory_functions {
    ($($any:tt)*) => {
        #[allow(unused_imports, reason = "`entry!` has another one")]
        use $crate::__private::mistakes::*;
        const _: () = __vmffi_guest_program(());
    };
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

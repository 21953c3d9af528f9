//! Compile errors for declarations that `ffi_interface!` does not take.
//!
//! A correct declaration reaches none of these macros. Therefore they may take one item, one function
//! or one token a step.
//!
//! The macros share this part of their grammar:
//!
//! ```text
//! text = ( STRING | "{" TOKEN "}" )*
//! ```
//!
//! A text is the concatenation of its strings and of the tokens in braces, as the user has written
//! them.

/// One part of a text.
///
/// ```text
/// input  = STRING | { TOKEN }
/// output = a string literal
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __text {
    ({$token:tt}) => {
        $crate::__private::core::stringify!($token)
    };
    ($text:literal) => {
        $text
    };
}

/// A compile error that points at the whole declaration.
///
/// ```text
/// input  = text
/// output = an item or a statement
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __say {
    ($($text:tt)+) => {
        $crate::__private::core::compile_error! {
            $crate::__private::core::concat!($($crate::__text!($text)),+)
        }
    };
}

/// A compile error that points at some of the user's tokens, from a name to the end of a group.
///
/// ```text
/// input  = dollar: ($) name: TOKEN group: TOKEN text: text
/// output = an item
/// ```
///
/// The compiler reports an error at the macro call that caused it. Therefore this macro defines a
/// macro with the user's name, and calls it with the user's name and group as the tokens of the
/// call. The rule of that macro needs a `$` of its own, which only an argument can bring in: that
/// is `dollar`.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse {
    (dollar: ($dollar:tt) name: $name:tt group: $group:tt text: $($text:tt)+) => {
        const _: () = {
            macro_rules! $name {
                ($dollar($dollar any:tt)*) => {
                    $crate::__private::core::compile_error! {
                        $crate::__private::core::concat!($($crate::__text!($text)),+)
                    }
                };
            }
            const __SAID: () = $name! $group;
        };
    };
}

/// Reports an attribute that `__attributes` reads and that is malformed or repeated: at its argument, or else at the name of
/// the item or function.
///
/// ```text
/// input  = size|optional|cfg|of_a_type [TOKEN*] then: MACRO TOKEN*
/// output = an item, or nothing
/// ```
///
/// `__attributes` sorts the attributes of an item once and those of a function several times. One of these reports the
/// mistake, so that the user reads it once.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_attribute {
    ($attr:ident $wrong:tt then: __references vis: $vis:tt item: $kind:tt $name:tt $($rest:tt)*) => {
        $crate::__refuse_attribute! { $attr $wrong at: $name }
    };
    (
        $attr:ident $wrong:tt
        then: __distinct
        dollar: $dollar:tt
        words: $words:tt
        left: $left:tt
        params: $params:tt
        then: __call
        vis: $vis:tt
        interface: $interface:tt
        client: $client:tt
        asks: $asks:tt
        module: $module:tt
        name: $name:tt
        $($rest:tt)*
    ) => {
        $crate::__refuse_attribute! { $attr $wrong at: $name }
    };
    ($attr:ident $wrong:tt then: $($rest:tt)*) => {};
    (cfg $wrong:tt at: $name:tt) => {
        $crate::__at_word! { cfg $name }
    };
    (of_a_type [$attr:ident($first:tt $($more:tt)*)] at: $name:tt) => {
        $crate::__at_word! { of_a_type $first }
    };
    (of_a_type $wrong:tt at: $name:tt) => {
        $crate::__at_word! { of_a_type $name }
    };
    ($attr:ident [($wrong:expr)] at: $name:tt) => {
        $crate::__at! { $attr $wrong }
    };
    ($attr:ident [= $wrong:expr] at: $name:tt) => {
        $crate::__at! { $attr $wrong }
    };
    ($attr:ident $wrong:tt at: $name:tt) => {
        $crate::__at_word! { $attr $name }
    };
}

/// A compile error that points at an expression, by the function of `__private::mistakes` that says what is wrong.
///
/// ```text
/// input  = FUNCTION EXPR
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __at {
    ($mistake:ident $($at:tt)+) => {
        const _: () = {
            #[allow(dead_code, reason = "only its error is of interest")]
            fn __at() { $crate::__private::mistakes::$mistake($($at)+); }
        };
    };
}

/// A compile error that points at a name, which stands alone in a declaration. As `__at`.
///
/// ```text
/// input  = FUNCTION TOKEN
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __at_word {
    ($mistake:ident $word:tt) => {
        // A name that is a fragment is where the fragment stands, unless it has passed through a procedural macro.
        $crate::__private::paste::paste! {
            const _: () = {
                #[allow(dead_code, nonstandard_style, reason = "only its error is of interest")]
                fn __at() {
                    struct $word;
                    $crate::__private::mistakes::$mistake($word);
                }
            };
        }
    };
}

/// A compile error that points at a type. As `__at`.
///
/// ```text
/// input  = FUNCTION TYPE
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __at_type {
    ($mistake:ident $ty:ty) => {
        const _: () = $crate::__private::mistakes::$mistake::<$ty>();
    };
}

/// Stands for a struct or an enum that is wrong, so that what uses it is not one more error.
///
/// ```text
/// input  = KIND vis: [VISIBILITY] name: NAME lifetime: [LIFETIME?]
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __stand_in {
    (interface $($rest:tt)*) => {};
    ($kind:ident vis: $vis:tt name: $name:tt lifetime: []) => {
        $crate::__struct! { cfg: [] attrs: [] size: [] vis: $vis name: $name lifetime: [] fields: [] }
    };
    ($kind:ident vis: $vis:tt name: $name:tt lifetime: [$lifetime:lifetime]) => {
        $crate::__view_struct! {
            cfg: [] attrs: [] size: [] vis: $vis name: $name lifetime: [$lifetime]
            fields: [{ attrs: [] vis: $vis name: __text type: &$lifetime str = &$lifetime str }]
        }
    };
}

/// Reports an item that `__item` does not take.
///
/// ```text
/// input  = the input of __item
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_item {
    // Attributes that the kind of item does not have.
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: [$size:expr]
        optional: $optional:tt
        vis: $vis:tt
        item: enum $($rest:tt)*
    ) => {
        $crate::__at! { unpinned $size }
        $crate::__item! { cfg: $cfg attrs: $attrs size: [] optional: $optional vis: $vis item: enum $($rest)*
            }
    };
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: [$size:expr]
        optional: $optional:tt
        vis: $vis:tt
        item: interface $($rest:tt)*
    ) => {
        $crate::__at! { unpinned $size }
        $crate::__item! { cfg: $cfg attrs: $attrs size: [] optional: $optional vis: $vis item: interface
            $($rest)* }
    };
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: [optional]
        vis: $vis:tt
        item: $kind:ident $name:tt
        $($rest:tt)*
    ) => {
        $crate::__at_word! { optional_item $name }
        $crate::__item! { cfg: $cfg attrs: $attrs size: $size optional: [] vis: $vis item: $kind $name
            $($rest)* }
    };
    // The attributes are right: the rules below look at the item alone.
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: $optional:tt
        vis: $vis:tt
        item: interface $name:tt
        lifetime: []
        repr: []
        body: { $($body:tt)* }
        macros: $macros:tt
        raw: $raw:tt
    ) => {
        $crate::__refuse_functions! {
            item: { cfg: $cfg attrs: $attrs vis: $vis }
            interface: $name
            good: []
            todo: $($body)*
        }
    };
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: $optional:tt
        vis: $vis:tt
        $($rest:tt)*
    ) => {
        $crate::__refuse_body! { vis: $vis $($rest)* }
    };
}

/// Reports an item whose attributes are right, and whose kind, representation or body is wrong.
///
/// ```text
/// input  = vis: [VISIBILITY] item: KIND NAME lifetime: [LIFETIME?] repr: [IDENT?] body: { TOKEN* } macros: TOKEN
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_body {
    (
        vis: $vis:tt item: interface $name:tt lifetime: [$lifetime:lifetime] repr: $repr:tt body: $body:tt
            macros: $macros:tt raw: $raw:tt
    ) => {
        $crate::__at_word! { no_lifetime $name }
    };
    // The grammar of the body is that of Rust, so the compiler says what is wrong in it, at its place.
    (
        vis: $vis:tt item: struct $name:tt lifetime: [$($lifetime:lifetime)?] repr: [] body: $body:tt macros:
            $macros:tt raw: $raw:tt
    ) => {
        $crate::__as_written! { struct $name $(<$lifetime>)? $body }
        $crate::__stand_in! { struct vis: $vis name: $name lifetime: [$($lifetime)?] }
    };
    (vis: $vis:tt item: enum $name:tt lifetime: $lifetime:tt repr: [] body: $body:tt macros: $macros:tt raw:
        $raw:tt) => {
        $crate::__at_word! { no_integer $name }
        $crate::__stand_in! { enum vis: $vis name: $name lifetime: $lifetime }
    };
    (vis: $vis:tt item: enum $name:tt lifetime: $lifetime:tt repr: [$repr:tt] body: {} macros: $macros:tt raw:
        $raw:tt) => {
        $crate::__at_word! { no_variant $name }
        $crate::__stand_in! { enum vis: $vis name: $name lifetime: $lifetime }
    };
    (
        vis: $vis:tt item: enum $name:tt lifetime: [$($lifetime:lifetime)?] repr: [$repr:tt] body: $body:tt
        macros: $macros:tt raw: $raw:tt
    ) => {
        $crate::__as_written! { #[repr($repr)] enum $name $(<$lifetime>)? $body }
        $crate::__stand_in! { enum vis: $vis name: $name lifetime: [$($lifetime)?] }
    };
    (vis: $vis:tt item: interface $name:tt lifetime: $lifetime:tt repr: [$bound:tt] body: $body:tt macros:
        $macros:tt raw: $raw:tt) => {
        $crate::__at_word! { bound $bound }
        $crate::ffi_interface! { interface $name $body }
    };
    (vis: $vis:tt item: trait $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt macros: $macros:tt
        raw: $raw:tt) => {
        $crate::__at_word! { no_trait $name }
    };
    (vis: $vis:tt item: union $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt macros: $macros:tt
        raw: $raw:tt) => {
        $crate::__at_word! { no_union $name }
        $crate::__stand_in! { struct vis: $vis name: $name lifetime: $lifetime }
    };
    (vis: $vis:tt item: $kind:tt $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt macros:
        $macros:tt raw: $raw:tt) => {
        $crate::__at_word! { misplaced $name }
    };
}

/// An item in a scope of its own, as the user wrote it: something in it is wrong.
///
/// ```text
/// input  = ITEM | KIND NAME lifetime: [LIFETIME?] { TOKEN* }
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __as_written {
    ($kind:ident $name:tt lifetime: [$($lifetime:lifetime)?] $body:tt) => {
        $crate::__as_written! { $kind $name $(<$lifetime>)? $body }
    };
    ($($item:tt)*) => {
        #[allow(dead_code, nonstandard_style, reason = "only its error is of interest")]
        const _: () = { $($item)* };
    };
}

//! Compile errors for declarations with items that `ffi_interface!` does not take.

/// Finds the items that cannot be part of a declaration, reports them, and declares the others together, so that names are
/// looked at once. A struct without fields stands for a struct or an enum that is wrong, so that what uses it is not one more
/// error.
///
/// ```text
/// input  = [ITEM*] TOKEN*
/// output = items
/// ```
///
/// The list has the items to declare.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_items {
    ([$($good:tt)*]) => { $crate::ffi_interface! { $($good)* } };
    // Attributes of the whole, and those that stand before nothing.
    ($good:tt #![$($attr:tt)*] $($rest:tt)*) => {
        $crate::__lonely_attribute! { inner $($attr)* }
        $crate::__refuse_items! { $good $($rest)* }
    };
    ($good:tt #[$($attr:tt)*] $(#[$($more:tt)*])*) => {
        $crate::__lonely_attribute! { lonely $($attr)* }
        $crate::__refuse_items! { $good }
    };
    ($good:tt $name:tt ! $arguments:tt ; $($rest:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__refuse_items! { $good $($rest)* }
    };
    ($good:tt $name:tt ! $arguments:tt $($rest:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__refuse_items! { $good $($rest)* }
    };
    ([$($good:tt)*] $(#[$($attr:tt)*])* $vis:vis $kind:ident $name:tt $(<$lifetime:lifetime>)? $(: $repr:tt)?
        { $($body:tt)* } ; $($rest:tt)*) => {
        $crate::__at_word! { semicolon $name }
        $crate::__refuse_items! { [$($good)* $(#[$($attr)*])* $vis $kind $name $(<$lifetime>)? $(: $repr)?
            { $($body)* }] $($rest)* }
    };
    // An item of the right outline. `__item` reports it if its body is wrong.
    ([$($good:tt)*] $(#[$($attr:tt)*])* $vis:vis $kind:ident $name:tt $(<$lifetime:lifetime>)? $(: $repr:tt)?
        { $($body:tt)* } $($rest:tt)*) => {
        $crate::__refuse_items! { [$($good)* $(#[$($attr)*])* $vis $kind $name $(<$lifetime>)? $(: $repr)?
            { $($body)* }] $($rest)* }
    };
    // Brackets that are empty, and a comma behind a lifetime, are Rust.
    ([$($good:tt)*] $(#[$($attr:tt)*])* $vis:vis $kind:ident $name:tt <> $(: $repr:tt)? { $($body:tt)* }
        $($rest:tt)*) => {
        $crate::__refuse_items! { [$($good)* $(#[$($attr)*])* $vis $kind $name $(: $repr)? { $($body)* }]
            $($rest)* }
    };
    ([$($good:tt)*] $(#[$($attr:tt)*])* $vis:vis $kind:ident $name:tt <$lifetime:lifetime,> $(: $repr:tt)?
        { $($body:tt)* } $($rest:tt)*) => {
        $crate::__refuse_items! { [$($good)* $(#[$($attr)*])* $vis $kind $name <$lifetime> $(: $repr)?
            { $($body)* }] $($rest)* }
    };
    // An item without a name: the compiler says so.
    ($good:tt $(#[$($attr:tt)*])* $vis:vis struct { $($body:tt)* } $($rest:tt)*) => {
        $crate::__unnamed! { $good struct $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis enum $(: $repr:tt)? { $($body:tt)* } $($rest:tt)*) => {
        $crate::__unnamed! { $good enum $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* pub $kind:tt { $($body:tt)* } $($rest:tt)*) => {
        $crate::__at_word! { unnamed $kind }
        $crate::__refuse_items! { $good $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis $kind:ident { $($body:tt)* } $($rest:tt)*) => {
        $crate::__at_word! { unnamed $kind }
        $crate::__refuse_items! { $good $($rest)* }
    };
    // A tuple struct, which ends with a semicolon, or should.
    ($good:tt $(#[$($attr:tt)*])* $vis:vis struct $name:tt ( $($body:tt)* ) $kind:ident $($rest:tt)*) => {
        $crate::__refuse_items! { $good $vis struct $name ( $($body)* ) ; $kind $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis struct $name:tt ( $($body:tt)* )) => {
        $crate::__refuse_items! { $good $vis struct $name ( $($body)* ) ; }
    };
    ([$($good:tt)*] $(#[$($attr:tt)*])* $vis:vis struct $name:tt $body:tt ; $($rest:tt)*) => {
        $crate::__refuse! {
            dollar: ($) name: $name group: $body
            text: "struct `" {$name} "`: write `struct " {$name} " { name: Type, .. }`"
        }
        $crate::__refuse_items! { [$($good)* $vis struct $name {}] $($rest)* }
    };
    ([$($good:tt)*] $(#[$($attr:tt)*])* $vis:vis struct $name:tt ; $($rest:tt)*) => {
        $crate::__at_word! { unit_struct $name }
        $crate::__refuse_items! { [$($good)* $vis struct $name {}] $($rest)* }
    };
    // Another item without a body in braces.
    ([$($good:tt)*] $(#[$($attr:tt)*])* $vis:vis enum $name:tt $(: $repr:tt)? ; $($rest:tt)*) => {
        $crate::__at_word! { no_body $name }
        $crate::__refuse_items! { [$($good)* $vis struct $name {}] $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis interface $name:tt $(: $bound:tt)? ; $($rest:tt)*) => {
        $crate::__at_word! { no_body $name }
        $crate::__refuse_items! { $good $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis interface $name:tt ( $($body:tt)* ) ; $($rest:tt)*) => {
        $crate::__at_word! { no_body $name }
        $crate::__refuse_items! { $good $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis interface $name:tt ( $($body:tt)* ) $($rest:tt)*) => {
        $crate::__at_word! { no_body $name }
        $crate::__refuse_items! { $good $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis interface $name:tt [ $($body:tt)* ] ; $($rest:tt)*) => {
        $crate::__at_word! { no_body $name }
        $crate::__refuse_items! { $good $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis interface $name:tt [ $($body:tt)* ] $($rest:tt)*) => {
        $crate::__at_word! { no_body $name }
        $crate::__refuse_items! { $good $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis struct $name:tt $($rest:tt)*) => {
        $crate::__refuse_generic! { $good struct vis: [$vis] name: $name todo: $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis enum $name:tt $($rest:tt)*) => {
        $crate::__refuse_generic! { $good enum vis: [$vis] name: $name todo: $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis interface $name:tt $($rest:tt)*) => {
        $crate::__refuse_generic! { $good interface vis: [$vis] name: $name todo: $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis extern crate $name:tt $($rest:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__misplaced! { $good statement: $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis const $name:tt $($rest:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__misplaced! { $good statement: $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis static $name:tt $($rest:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__misplaced! { $good statement: $($rest)* }
    };
    ($good:tt $word:ident pub $($rest:tt)*) => {
        $crate::__at_word! { misplaced $word }
        $crate::__refuse_items! { $good pub $($rest)* }
    };
    // The compiler says what is wrong with the visibility.
    ($good:tt $(#[$($attr:tt)*])* pub ( $($in:tt)* ) $($rest:tt)*) => {
        $crate::__as_written! { pub ( $($in)* ) struct __Restricted; }
        $crate::__refuse_items! { $good $(#[$($attr)*])* pub $($rest)* }
    };
    ($good:tt $literal:literal $($rest:tt)*) => {
        $crate::__at! { misplaced $literal }
        $crate::__refuse_items! { $good $($rest)* }
    };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis $kind:ident $name:tt $($rest:tt)*) => {
        $crate::__misplaced! { $good $(#[$($attr)*])* $vis $kind $name $($rest)* }
    };
    ($good:tt $($rest:tt)*) => {
        $crate::__say! {
            "a declaration is a list of `struct Name { .. }`, `enum Name: u32 { .. }` and "
            "`interface Name { fn ..; }`"
        }
        $crate::__refuse_items! { $good }
    };
}

/// Reports an attribute that stands before no item: at its text if it is documentation, or else at its name.
///
/// ```text
/// input  = FUNCTION doc = STRING | FUNCTION NAME TOKEN* | FUNCTION
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __lonely_attribute {
    ($mistake:ident doc = $text:literal) => {
        $crate::__at! { $mistake $text }
    };
    ($mistake:ident $name:tt $($rest:tt)*) => {
        $crate::__at_word! { $mistake $name }
    };
    ($mistake:ident) => {
        $crate::__at! { $mistake () }
    };
}

/// Reports another kind of item at its name, and goes on behind it.
///
/// ```text
/// input  = [ITEM*] TOKEN* | [ITEM*] skip: TOKEN* | [ITEM*] statement: TOKEN*
/// output = items
/// ```
///
/// An item ends with a semicolon or a body in braces, a `statement` with a semicolon.
#[doc(hidden)]
#[macro_export]
macro_rules! __misplaced {
    ($good:tt statement: ; $($rest:tt)*) => { $crate::__refuse_items! { $good $($rest)* } };
    ($good:tt statement: $token:tt $($rest:tt)*) => { $crate::__misplaced! { $good statement: $($rest)* } };
    ($good:tt statement:) => { $crate::__refuse_items! { $good } };
    ($good:tt skip: ; $($rest:tt)*) => { $crate::__refuse_items! { $good $($rest)* } };
    ($good:tt skip: { $($body:tt)* } $($rest:tt)*) => { $crate::__refuse_items! { $good $($rest)* } };
    ($good:tt skip: $token:tt $($rest:tt)*) => { $crate::__misplaced! { $good skip: $($rest)* } };
    ($good:tt skip:) => { $crate::__refuse_items! { $good } };
    ($good:tt $(#[$($attr:tt)*])* $vis:vis $kind:ident $name:tt $($rest:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__misplaced! { $good skip: $($rest)* }
    };
}

/// Reports a struct or an enum without a name, and goes on behind it.
///
/// ```text
/// input  = [ITEM*] KIND TOKEN*
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __unnamed {
    ($good:tt $kind:ident $($rest:tt)*) => {
        $crate::__say! { "a `" {$kind} "` has a name: write `" {$kind} " Name`" }
        $crate::__refuse_items! { $good $($rest)* }
    };
}

/// Reports an item with generics or bounds between its name and its body.
///
/// ```text
/// input  = [ITEM*] KIND vis: [VISIBILITY] name: TOKEN todo: TOKEN*
///        | [ITEM*] KIND vis: [VISIBILITY] name: TOKEN token: TOKEN is: TOKEN todo: TOKEN*
/// output = items
/// ```
///
/// The rules skip tokens up to the first group in braces, which is the body. `token` and `is` are the
/// same token. A rule takes `is` apart, and passes `token` on, which is still where the user wrote it.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_generic {
    ($good:tt $kind:ident vis: $vis:tt name: $name:tt token: $token:tt is: { $($body:tt)* } todo:
        $($rest:tt)*) => {
        $crate::__refuse! {
            dollar: ($) name: $name group: $token
            text: "`" {$name} "`: what crosses to another machine has one layout; "
                "leave out generics and bounds, and all lifetimes but one"
        }
        $crate::__instead! { $good $kind vis: $vis name: $name todo: $($rest)* }
    };
    ($good:tt $kind:ident vis: $vis:tt name: $name:tt token: $token:tt is: $skipped:tt todo: $($todo:tt)*) =>
        {
        $crate::__refuse_generic! { $good $kind vis: $vis name: $name todo: $($todo)* }
    };
    ($good:tt $kind:ident vis: $vis:tt name: $name:tt todo: $token:tt $($todo:tt)*) => {
        $crate::__refuse_generic! { $good $kind vis: $vis name: $name token: $token is: $token todo: $($todo)*
            }
    };
    ($good:tt $kind:ident vis: $vis:tt name: $name:tt todo:) => {
        $crate::__at_word! { no_body $name }
        $crate::__instead! { $good $kind vis: $vis name: $name todo: }
    };
}

/// Goes on behind a wrong item, for which a struct stands if it was a type.
///
/// ```text
/// input  = [ITEM*] KIND vis: [VISIBILITY] name: TOKEN todo: TOKEN*
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __instead {
    ($good:tt interface vis: $vis:tt name: $name:tt todo: $($rest:tt)*) => {
        $crate::__refuse_items! { $good $($rest)* }
    };
    ([$($good:tt)*] $kind:ident vis: [$vis:vis] name: $name:tt todo: $($rest:tt)*) => {
        $crate::__refuse_items! { [$($good)* $vis struct $name {}] $($rest)* }
    };
}

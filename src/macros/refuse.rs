//! What a declaration cannot be, in sentences. Nothing here is reached by a declaration that is right,
//! so it may look at one item, one function or one token at a time.

/// A sentence about the user's tokens from `$name` to the end of `$group`, which is where the compiler
/// points: the sentence comes out of a call, made of those two, of a macro with that name. `$d` is `$`,
/// which has no other way into that macro's rule.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse {
    (($d:tt) $name:tt $group:tt $($text:tt)+) => {
        const _: () = {
            macro_rules! $name {
                ($d($d any:tt)*) => {
                    $crate::__private::core::compile_error! { $crate::__private::core::concat!($($text)+) }
                };
            }
            const __SAID: () = $name! $group;
        };
    };
}

/// A sentence about the whole declaration.
#[doc(hidden)]
#[macro_export]
macro_rules! __say {
    ($($text:tt)+) => {
        $crate::__private::core::compile_error! { $crate::__private::core::concat!($($text)+) }
    };
}

/// Goes on with the rest where an enum's integer is one.
#[doc(hidden)]
#[macro_export]
macro_rules! __integer {
    (u8 $name:ident $($x:tt)*) => { $($x)* };
    (u16 $name:ident $($x:tt)*) => { $($x)* };
    (u32 $name:ident $($x:tt)*) => { $($x)* };
    (u64 $name:ident $($x:tt)*) => { $($x)* };
    (usize $name:ident $($x:tt)*) => { $($x)* };
    (i8 $name:ident $($x:tt)*) => { $($x)* };
    (i16 $name:ident $($x:tt)*) => { $($x)* };
    (i32 $name:ident $($x:tt)*) => { $($x)* };
    (i64 $name:ident $($x:tt)*) => { $($x)* };
    (isize $name:ident $($x:tt)*) => { $($x)* };
    ($repr:ident $name:ident $($x:tt)*) => {
        $crate::__say! { "enum `", $crate::__private::core::stringify!($name), "` crosses as an integer of at most 64 bits, as in `enum ", $crate::__private::core::stringify!($name), ": u32 { .. }`" }
    };
}

/// Finds the first item that is none of a declaration's.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_items {
    // An item that may be right: `__item` has its own say.
    ($(#[$($m:tt)*])* $vis:vis $kw:ident $name:ident $(: $repr:ident)? { $($body:tt)* } $($rest:tt)*) => {
        $crate::__refuse_items! { $($rest)* }
    };
    // Behind a tuple struct there is a semicolon.
    ($(#[$($m:tt)*])* $vis:vis struct $name:tt $body:tt ; $($rest:tt)*) => {
        $crate::__refuse! { ($) $name $body
            "struct `", $crate::__private::core::stringify!($name), "`: write `struct ", $crate::__private::core::stringify!($name), " { name: Type, .. }`" }
    };
    ($(#[$($m:tt)*])* $vis:vis struct $name:tt ; $($rest:tt)*) => {
        $crate::__say! { "struct `", $crate::__private::core::stringify!($name), "`: write `struct ", $crate::__private::core::stringify!($name), " {}`" }
    };
    ($(#[$($m:tt)*])* $vis:vis struct $name:tt $($rest:tt)*) => { $crate::__refuse_generic! { $name $($rest)* } };
    ($(#[$($m:tt)*])* $vis:vis enum $name:tt $($rest:tt)*) => { $crate::__refuse_generic! { $name $($rest)* } };
    ($(#[$($m:tt)*])* $vis:vis interface $name:tt $($rest:tt)*) => { $crate::__refuse_generic! { $name $($rest)* } };
    ($(#[$($m:tt)*])* $vis:vis $kw:ident $($rest:tt)*) => {
        $crate::__say! { "a declaration has `struct`, `enum` and `interface`; put `", $crate::__private::core::stringify!($kw), "` items beside `ffi_interface!`" }
    };
    ($($rest:tt)*) => {
        $crate::__say! { "a declaration is a list of `struct Name { .. }`, `enum Name: u32 { .. }` and `interface Name { fn ..; }`" }
    };
}

/// An item with something between its name and its body.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_generic {
    (@ { $($b:tt)* } $name:tt $body:tt $($rest:tt)*) => {
        $crate::__refuse! { ($) $name $body
            "`", $crate::__private::core::stringify!($name), "`: what crosses to another machine has one layout; leave out generics, lifetimes and bounds" }
    };
    (@ $other:tt $name:tt $t:tt $($rest:tt)*) => { $crate::__refuse_generic! { $name $($rest)* } };
    ($name:tt $t:tt $($rest:tt)*) => { $crate::__refuse_generic! { @ $t $name $t $($rest)* } };
    ($name:tt) => {
        $crate::__say! { "`", $crate::__private::core::stringify!($name), "` needs a body: `{ .. }`" }
    };
}

/// Says what is wrong with an item that `__item` does not take.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_item {
    ($cfg:tt $kept:tt [$size:expr] $optional:tt [$vis:vis] enum $name:ident $repr:tt $body:tt) => {
        $crate::__say! { "enum `", $crate::__private::core::stringify!($name), "`: `#[size(..)]` pins a struct or a function's parameters" }
    };
    ($cfg:tt $kept:tt [$size:expr] $optional:tt [$vis:vis] interface $name:ident $repr:tt $body:tt) => {
        $crate::__say! { "interface `", $crate::__private::core::stringify!($name), "`: `#[size(..)]` pins a struct or a function's parameters" }
    };
    ($cfg:tt $kept:tt $size:tt [optional] [$vis:vis] $kw:ident $name:ident $repr:tt $body:tt) => {
        $crate::__say! { "`", $crate::__private::core::stringify!($name), "`: `#[optional]` marks a function of an interface" }
    };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] struct $name:ident [] $body:tt) => {
        $crate::__say! { "struct `", $crate::__private::core::stringify!($name), "`: write `struct ", $crate::__private::core::stringify!($name), " { name: Type, .. }`" }
    };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] enum $name:ident [] $body:tt) => {
        $crate::__say! { "enum `", $crate::__private::core::stringify!($name), "` needs the integer that it crosses as: `enum ", $crate::__private::core::stringify!($name), ": u32 { .. }`" }
    };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] enum $name:ident $repr:tt { }) => {
        $crate::__say! { "enum `", $crate::__private::core::stringify!($name), "` has no variant, so it has no value that could cross" }
    };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] enum $name:ident $repr:tt $body:tt) => {
        $crate::__say! { "enum `", $crate::__private::core::stringify!($name), "`: a variant is `Name`, `Name(Type)` or `Name { field: Type, .. }`, and may have a number: `Name = 1`" }
    };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] interface $name:ident [] { $($body:tt)* }) => {
        $crate::__refuse_functions! { $name $($body)* }
    };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] interface $name:ident $bound:tt $body:tt) => {
        $crate::__say! { "interface `", $crate::__private::core::stringify!($name), "` cannot ask anything of those who serve it: leave out the bound" }
    };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] trait $name:ident $repr:tt $body:tt) => {
        $crate::__say! { "write `interface ", $crate::__private::core::stringify!($name), "`, not `trait ", $crate::__private::core::stringify!($name), "`" }
    };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] union $name:ident $repr:tt $body:tt) => {
        $crate::__say! { "union `", $crate::__private::core::stringify!($name), "`: nothing says which field it has; write an enum with values" }
    };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] $kw:ident $name:ident $repr:tt $body:tt) => {
        $crate::__say! { "`", $crate::__private::core::stringify!($kw), " ", $crate::__private::core::stringify!($name), "`: write `struct`, `enum` or `interface`" }
    };
}

/// Finds the first function of an interface that is none, and says why.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_functions {
    ($i:ident) => {};
    // Some at a time, since each step counts.
    ($i:ident
        $(#[$($ma:tt)*])* fn $fa:ident ( $( $aa:ident : $ta:ty ),* $(,)? ) $( -> $ra:ty )? ;
        $(#[$($mb:tt)*])* fn $fb:ident ( $( $ab:ident : $tb:ty ),* $(,)? ) $( -> $rb:ty )? ;
        $(#[$($mc:tt)*])* fn $fc:ident ( $( $ac:ident : $tc:ty ),* $(,)? ) $( -> $rc:ty )? ;
        $(#[$($md:tt)*])* fn $fd:ident ( $( $ad:ident : $td:ty ),* $(,)? ) $( -> $rd:ty )? ;
        $($rest:tt)*
    ) => { $crate::__refuse_functions! { $i $($rest)* } };
    ($i:ident $(#[$($m:tt)*])* fn $f:tt ( $( $a:ident : $t:ty ),* $(,)? ) $( -> $r:ty )? ; $($rest:tt)*) => {
        $crate::__refuse_functions! { $i $($rest)* }
    };
    ($i:ident $(#[$($m:tt)*])* fn $f:tt < $($rest:tt)*) => { $crate::__refuse_generic_function! { $i $f $($rest)* } };
    ($i:ident $(#[$($m:tt)*])* fn $f:tt ; $($rest:tt)*) => {
        $crate::__say! { "function `", $crate::__private::core::stringify!($i), "::", $crate::__private::core::stringify!($f), "`: write `fn ", $crate::__private::core::stringify!($f), "(name: Type, ..) -> Type;`" }
    };
    ($i:ident $(#[$($m:tt)*])* fn $f:tt $args:tt ; $($rest:tt)*) => {
        $crate::__refuse_parameters! { @ $i $f $args $args }
    };
    ($i:ident $(#[$($m:tt)*])* fn $f:tt $args:tt -> $r:ty ; $($rest:tt)*) => {
        $crate::__refuse_parameters! { @ $i $f $args $args }
    };
    ($i:ident $(#[$($m:tt)*])* fn $f:tt $args:tt $( -> $r:ty )? { $($body:tt)* } $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $args "leave out the body, and end with a semicolon; who serves the interface implements the trait" }
    };
    ($i:ident $(#[$($m:tt)*])* fn $f:tt $args:tt $( -> $r:ty )? where $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $args "a function that crosses to another machine has no bounds: leave out the `where`" }
    };
    ($i:ident $(#[$($m:tt)*])* fn $f:tt $args:tt -> $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $args "a result is written `-> Type`, with a semicolon behind it" }
    };
    ($i:ident $(#[$($m:tt)*])* fn $f:tt $args:tt $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $args "put a semicolon behind it" }
    };
    ($i:ident $(#[$($m:tt)*])* async fn $f:tt $args:tt $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $args "calls wait for their result: leave out the `async`" }
    };
    ($i:ident $(#[$($m:tt)*])* pub fn $f:tt $args:tt $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $args "a function is as visible as its interface: leave out the `pub`" }
    };
    ($i:ident $(#[$($m:tt)*])* extern $abi:literal fn $f:tt $args:tt $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $args "all functions have this crate's ABI: leave out the `extern`" }
    };
    ($i:ident $(#[$($m:tt)*])* const $n:ident : $($rest:tt)*) => {
        $crate::__say! { "interface `", $crate::__private::core::stringify!($i), "`: put constants beside `ffi_interface!`" }
    };
    ($i:ident $(#[$($m:tt)*])* $q:ident fn $f:tt $args:tt $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $args "leave out the `", $crate::__private::core::stringify!($q), "`" }
    };
    ($i:ident $(#[$($m:tt)*])* $q:ident $f:tt $args:tt $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $args "write `fn`, not `", $crate::__private::core::stringify!($q), "`" }
    };
    ($i:ident $($rest:tt)*) => {
        $crate::__say! { "interface `", $crate::__private::core::stringify!($i), "`: everything in it is a function, `fn name(parameter: Type, ..) -> Type;`" }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_function {
    ($i:ident $f:tt $group:tt $($text:tt)+) => {
        $crate::__refuse! { ($) $f $group "function `", $crate::__private::core::stringify!($i), "::", $crate::__private::core::stringify!($f), "`: ", $($text)+ }
    };
}

/// A function with angle brackets behind its name.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_generic_function {
    (@ ( $($a:tt)* ) $i:ident $f:tt $args:tt $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $args "a function that crosses to another machine cannot be generic, nor have lifetimes" }
    };
    (@ $other:tt $i:ident $f:tt $t:tt $($rest:tt)*) => { $crate::__refuse_generic_function! { $i $f $($rest)* } };
    ($i:ident $f:tt $t:tt $($rest:tt)*) => { $crate::__refuse_generic_function! { @ $t $i $f $t $($rest)* } };
    ($i:ident $f:tt) => { $crate::__refuse_functions! { $i fn $f ; } };
}

/// Finds the first parameter that is none, and says why; `$all` is the whole list.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_parameters {
    (@ $i:ident $f:tt $all:tt ( $($args:tt)* )) => { $crate::__refuse_parameters! { $i $f $all $($args)* } };
    ($i:ident $f:tt $all:tt #[cfg $($x:tt)*] $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $all "a parameter cannot be left out by `#[cfg]`: declare the function twice, with a `#[cfg]` on each" }
    };
    ($i:ident $f:tt $all:tt #[$($x:tt)*] $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $all "a parameter has no attributes and no documentation: put them on the function" }
    };
    ($i:ident $f:tt $all:tt self $($rest:tt)*) => { $crate::__refuse_receiver! { $i $f $all } };
    ($i:ident $f:tt $all:tt & $($rest:tt)*) => { $crate::__refuse_receiver! { $i $f $all } };
    ($i:ident $f:tt $all:tt mut $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $all "a parameter is a name, without `mut`" }
    };
    ($i:ident $f:tt $all:tt $a:ident : $t:ty $(, $($rest:tt)*)?) => {
        $crate::__refuse_parameters! { $i $f $all $($($rest)*)? }
    };
    ($i:ident $f:tt $all:tt $($rest:tt)*) => {
        $crate::__refuse_function! { $i $f $all "a parameter is written `name: Type`" }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_receiver {
    ($i:ident $f:tt $all:tt) => {
        $crate::__refuse_function! { $i $f $all "leave out the receiver; a handler gets `&self` and `&Peer` by itself" }
    };
}

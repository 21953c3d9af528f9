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

/// Reports an attribute that `__attributes` reads and that is malformed or repeated.
///
/// ```text
/// input  = then: MACRO text: text
/// output = an item, or nothing
/// ```
///
/// `__attributes` sorts the attributes of an item once and those of a function five times. One of
/// the five reports the mistake, so that the user reads it once.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_attribute {
    (then: __item text: $($text:tt)+) => { $crate::__say! { $($text)+ } };
    (then: __call text: $($text:tt)+) => { $crate::__say! { $($text)+ } };
    (then: $then:ident text: $($text:tt)+) => {};
}

/// Finds the first item that cannot be part of a declaration.
///
/// ```text
/// input  = TOKEN*
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_items {
    // An item of the right outline. Its body may be wrong, which `__item` reports once the other
    // items are right.
    (
        $(#[$($attr:tt)*])* $vis:vis $kind:ident $name:ident $(<$lifetime:lifetime>)? $(: $repr:ident)? { $($body:tt)* }
        $($rest:tt)*
    ) => {
        $crate::__refuse_items! { $($rest)* }
    };
    // A tuple struct, which ends with a semicolon.
    ($(#[$($attr:tt)*])* $vis:vis struct $name:tt $body:tt ; $($rest:tt)*) => {
        $crate::__refuse! {
            dollar: ($) name: $name group: $body
            text: "struct `" {$name} "`: write `struct " {$name} " { name: Type, .. }`"
        }
    };
    // A unit struct.
    ($(#[$($attr:tt)*])* $vis:vis struct $name:tt ; $($rest:tt)*) => {
        $crate::__say! { "struct `" {$name} "`: write `struct " {$name} " {}`" }
    };
    ($(#[$($attr:tt)*])* $vis:vis struct $name:tt $($rest:tt)*) => {
        $crate::__refuse_generic! { name: $name todo: $($rest)* }
    };
    ($(#[$($attr:tt)*])* $vis:vis enum $name:tt $($rest:tt)*) => {
        $crate::__refuse_generic! { name: $name todo: $($rest)* }
    };
    ($(#[$($attr:tt)*])* $vis:vis interface $name:tt $($rest:tt)*) => {
        $crate::__refuse_generic! { name: $name todo: $($rest)* }
    };
    ($(#[$($attr:tt)*])* $vis:vis $kind:ident $($rest:tt)*) => {
        $crate::__say! {
            "a declaration has `struct`, `enum` and `interface`; put `" {$kind} "` items beside "
            "`ffi_interface!`"
        }
    };
    ($($rest:tt)*) => {
        $crate::__say! {
            "a declaration is a list of `struct Name { .. }`, `enum Name: u32 { .. }` and "
            "`interface Name { fn ..; }`"
        }
    };
}

/// Reports an item with generics or bounds between its name and its body.
///
/// ```text
/// input  = name: TOKEN todo: TOKEN*
///        | name: TOKEN token: TOKEN is: TOKEN todo: TOKEN*
/// output = an item
/// ```
///
/// The rules skip tokens up to the first group in braces, which is the body. `token` and `is` are the
/// same token. A rule takes `is` apart, and passes `token` on, which is still where the user wrote it.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_generic {
    (name: $name:tt token: $token:tt is: { $($body:tt)* } todo: $($rest:tt)*) => {
        $crate::__refuse! {
            dollar: ($) name: $name group: $token
            text: "`" {$name} "`: what crosses to another machine has one layout; "
                "leave out generics and bounds, and all lifetimes but one"
        }
    };
    (name: $name:tt token: $token:tt is: $skipped:tt todo: $($todo:tt)*) => {
        $crate::__refuse_generic! { name: $name todo: $($todo)* }
    };
    (name: $name:tt todo: $token:tt $($todo:tt)*) => {
        $crate::__refuse_generic! { name: $name token: $token is: $token todo: $($todo)* }
    };
    (name: $name:tt todo:) => {
        $crate::__say! { "`" {$name} "` needs a body: `{ .. }`" }
    };
}

/// Reports an item that `__item` does not take.
///
/// ```text
/// input  = the input of __item
/// output = an item
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
        item: enum $name:ident
        $($rest:tt)*
    ) => {
        $crate::__say! { "enum `" {$name} "`: `#[size(..)]` pins a struct or a function's parameters" }
    };
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: [$size:expr]
        optional: $optional:tt
        vis: $vis:tt
        item: interface $name:ident
        $($rest:tt)*
    ) => {
        $crate::__say! { "interface `" {$name} "`: `#[size(..)]` pins a struct or a function's parameters" }
    };
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: [optional]
        vis: $vis:tt
        item: $kind:ident $name:ident
        $($rest:tt)*
    ) => {
        $crate::__say! { "`" {$name} "`: `#[optional]` marks a function of an interface" }
    };
    // The attributes are right: the rules below look at the item alone.
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: $optional:tt
        vis: $vis:tt
        $($rest:tt)*
    ) => {
        $crate::__refuse_body! { $($rest)* }
    };
}

/// Reports an item whose attributes are right, and whose kind, representation or body is wrong.
///
/// ```text
/// input  = item: KIND NAME ( < LIFETIME > )? repr: [IDENT?] body: { TOKEN* }
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_body {
    (item: interface $name:ident <$lifetime:lifetime> repr: $repr:tt body: $body:tt) => {
        $crate::__say! { "interface `" {$name} "`: leave out the lifetime" }
    };
    (item: $kind:ident $name:ident <$lifetime:lifetime> repr: $repr:tt body: $body:tt) => {
        $crate::__refuse_body! { item: $kind $name repr: $repr body: $body }
    };
    (item: struct $name:ident repr: [] body: $body:tt) => {
        $crate::__say! { "struct `" {$name} "`: write `struct " {$name} " { name: Type, .. }`" }
    };
    (item: enum $name:ident repr: [] body: $body:tt) => {
        $crate::__say! {
            "enum `" {$name} "` needs the integer that it crosses as: `enum " {$name} ": u32 { .. }`"
        }
    };
    (item: enum $name:ident repr: [$repr:ident] body: {}) => {
        $crate::__say! { "enum `" {$name} "` has no variant, so it has no value that could cross" }
    };
    (item: enum $name:ident repr: [$repr:ident] body: $body:tt) => {
        $crate::__say! {
            "enum `" {$name} "`: a variant is `Name`, `Name(Type)` or `Name { field: Type, .. }`, "
            "and may have a number: `Name = 1`"
        }
    };
    (item: interface $name:ident repr: [] body: { $($body:tt)* }) => {
        $crate::__refuse_functions! { interface: $name todo: $($body)* }
    };
    (item: interface $name:ident repr: [$bound:ident] body: $body:tt) => {
        $crate::__say! {
            "interface `" {$name} "` cannot require another trait of the types that serve it: "
            "leave out the bound"
        }
    };
    (item: trait $name:ident repr: $repr:tt body: $body:tt) => {
        $crate::__say! { "write `interface " {$name} "`, not `trait " {$name} "`" }
    };
    (item: union $name:ident repr: $repr:tt body: $body:tt) => {
        $crate::__say! {
            "union `" {$name} "`: a receiver cannot tell which field it holds; write an enum with values"
        }
    };
    (item: $kind:ident $name:ident repr: $repr:tt body: $body:tt) => {
        $crate::__say! { "`" {$kind} " " {$name} "`: write `struct`, `enum` or `interface`" }
    };
}

/// Finds the first function of an interface that is wrong, and reports it.
///
/// ```text
/// input  = interface: NAME todo: TOKEN*
/// output = an item, or nothing if all functions are right
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_functions {
    (interface: $interface:ident todo:) => {};
    // Four correct functions a step, and then one a step: 128 steps are the compiler's default
    // limit.
    (
        interface: $interface:ident
        todo:
        $(#[$($a_attr:tt)*])* fn $a:ident ( $( $ap:ident : $at:ty ),* $(,)? ) $( -> $ar:ty )? ;
        $(#[$($b_attr:tt)*])* fn $b:ident ( $( $bp:ident : $bt:ty ),* $(,)? ) $( -> $br:ty )? ;
        $(#[$($c_attr:tt)*])* fn $c:ident ( $( $cp:ident : $ct:ty ),* $(,)? ) $( -> $cr:ty )? ;
        $(#[$($d_attr:tt)*])* fn $d:ident ( $( $dp:ident : $dt:ty ),* $(,)? ) $( -> $dr:ty )? ;
        $($todo:tt)*
    ) => {
        $crate::__refuse_functions! { interface: $interface todo: $($todo)* }
    };
    (
        interface: $interface:ident
        todo:
        $(#[$($attr:tt)*])* fn $function:tt ( $( $param:ident : $ty:ty ),* $(,)? ) $( -> $ret:ty )? ;
        $($todo:tt)*
    ) => {
        $crate::__refuse_functions! { interface: $interface todo: $($todo)* }
    };
    (interface: $interface:ident todo: $(#[$($attr:tt)*])* fn $function:tt < $($todo:tt)*) => {
        $crate::__refuse_generic_function! { interface: $interface name: $function todo: $($todo)* }
    };
    (interface: $interface:ident todo: $(#[$($attr:tt)*])* fn $function:tt ; $($todo:tt)*) => {
        $crate::__say! {
            "function `" {$interface} "::" {$function} "`: "
            "write `fn " {$function} "(name: Type, ..) -> Type;`"
        }
    };
    // The outline of the function is right, so one of its parameters is wrong.
    (interface: $interface:ident todo: $(#[$($attr:tt)*])* fn $function:tt $params:tt ; $($todo:tt)*) => {
        $crate::__refuse_params! { interface: $interface name: $function params: $params todo: $params }
    };
    (
        interface: $interface:ident
        todo:
        $(#[$($attr:tt)*])* fn $function:tt $params:tt -> $ret:ty ;
        $($todo:tt)*
    ) => {
        $crate::__refuse_params! { interface: $interface name: $function params: $params todo: $params }
    };
    (
        interface: $interface:ident
        todo:
        $(#[$($attr:tt)*])* fn $function:tt $params:tt $( -> $ret:ty )? { $($body:tt)* }
        $($todo:tt)*
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "leave out the body, and end it with a semicolon; the serving side implements the trait"
        }
    };
    (
        interface: $interface:ident
        todo:
        $(#[$($attr:tt)*])* fn $function:tt $params:tt $( -> $ret:ty )? where
        $($todo:tt)*
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "a function that crosses to another machine has no bounds: leave out the `where`"
        }
    };
    (interface: $interface:ident todo: $(#[$($attr:tt)*])* fn $function:tt $params:tt -> $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "write the result as `-> Type`, and end it with a semicolon"
        }
    };
    (interface: $interface:ident todo: $(#[$($attr:tt)*])* fn $function:tt $params:tt $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "end it with a semicolon"
        }
    };
    // Keywords before `fn`.
    (interface: $interface:ident todo: $(#[$($attr:tt)*])* async fn $function:tt $params:tt $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "calls wait for their result: leave out the `async`"
        }
    };
    (interface: $interface:ident todo: $(#[$($attr:tt)*])* pub fn $function:tt $params:tt $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "a function is as visible as its interface: leave out the `pub`"
        }
    };
    (
        interface: $interface:ident
        todo:
        $(#[$($attr:tt)*])* extern $abi:literal fn $function:tt $params:tt
        $($todo:tt)*
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "all functions have this crate's ABI: leave out the `extern`"
        }
    };
    (interface: $interface:ident todo: $(#[$($attr:tt)*])* const $constant:ident : $($todo:tt)*) => {
        $crate::__say! { "interface `" {$interface} "`: put constants beside `ffi_interface!`" }
    };
    (
        interface: $interface:ident
        todo:
        $(#[$($attr:tt)*])* $keyword:ident fn $function:tt $params:tt
        $($todo:tt)*
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "leave out the `" {$keyword} "`"
        }
    };
    (
        interface: $interface:ident
        todo:
        $(#[$($attr:tt)*])* $keyword:ident $function:tt $params:tt
        $($todo:tt)*
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "write `fn`, not `" {$keyword} "`"
        }
    };
    (interface: $interface:ident todo: $($todo:tt)*) => {
        $crate::__say! {
            "interface `" {$interface} "`: everything in it is a function, "
            "`fn name(parameter: Type, ..) -> Type;`"
        }
    };
}

/// A compile error that points at a function, from its name to the end of a group.
///
/// ```text
/// input  = interface: NAME name: TOKEN group: TOKEN text: text
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_function {
    (interface: $interface:ident name: $function:tt group: $group:tt text: $($text:tt)+) => {
        $crate::__refuse! {
            dollar: ($) name: $function group: $group
            text: "function `" {$interface} "::" {$function} "`: " $($text)+
        }
    };
}

/// Reports a function with angle brackets behind its name.
///
/// ```text
/// input  = interface: NAME name: TOKEN todo: TOKEN*
///        | interface: NAME name: TOKEN token: TOKEN is: TOKEN todo: TOKEN*
/// output = an item
/// ```
///
/// The rules skip tokens up to the first group in parentheses, which is the list of parameters. `token`
/// and `is` are the same token, as in `__refuse_generic`.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_generic_function {
    (
        interface: $interface:ident
        name: $function:tt
        token: $token:tt
        is: ( $($params:tt)* )
        todo: $($rest:tt)*
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $token
            text: "a function that crosses to another machine cannot be generic, nor have lifetimes"
        }
    };
    (
        interface: $interface:ident
        name: $function:tt
        token: $token:tt
        is: $skipped:tt
        todo: $($todo:tt)*
    ) => {
        $crate::__refuse_generic_function! { interface: $interface name: $function todo: $($todo)* }
    };
    (interface: $interface:ident name: $function:tt todo: $token:tt $($todo:tt)*) => {
        $crate::__refuse_generic_function! {
            interface: $interface
            name: $function
            token: $token
            is: $token
            todo: $($todo)*
        }
    };
    (interface: $interface:ident name: $function:tt todo:) => {
        $crate::__refuse_functions! { interface: $interface todo: fn $function ; }
    };
}

/// Finds the first parameter of a function that is wrong, and reports it.
///
/// ```text
/// input  = interface: NAME name: TOKEN params: TOKEN todo: TOKEN
/// output = an item
/// ```
///
/// `params` is the whole list of parameters, which the error points at. `todo` is a group of those that
/// are not read yet.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_params {
    (
        interface: $interface:ident
        name: $function:tt
        params: $params:tt
        todo: (#[cfg $($attr:tt)*] $($todo:tt)*)
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "a parameter cannot be left out by `#[cfg]`: "
                "declare the function twice, with a `#[cfg]` on each"
        }
    };
    (
        interface: $interface:ident
        name: $function:tt
        params: $params:tt
        todo: (#[$($attr:tt)*] $($todo:tt)*)
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "a parameter has no attributes and no documentation: put them on the function"
        }
    };
    (
        interface: $interface:ident
        name: $function:tt
        params: $params:tt
        todo: (self $($todo:tt)*)
    ) => {
        $crate::__refuse_receiver! { interface: $interface name: $function params: $params }
    };
    (
        interface: $interface:ident
        name: $function:tt
        params: $params:tt
        todo: (& $($todo:tt)*)
    ) => {
        $crate::__refuse_receiver! { interface: $interface name: $function params: $params }
    };
    (
        interface: $interface:ident
        name: $function:tt
        params: $params:tt
        todo: (mut $($todo:tt)*)
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "a parameter is a name, without `mut`"
        }
    };
    // A correct parameter.
    (
        interface: $interface:ident
        name: $function:tt
        params: $params:tt
        todo: ($param:ident : $ty:ty $(, $($todo:tt)*)?)
    ) => {
        $crate::__refuse_params! {
            interface: $interface
            name: $function
            params: $params
            todo: ($($($todo)*)?)
        }
    };
    (
        interface: $interface:ident
        name: $function:tt
        params: $params:tt
        todo: ($($todo:tt)*)
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "write a parameter as `name: Type`"
        }
    };
    // The list of parameters is not in parentheses.
    (interface: $interface:ident name: $function:tt params: $params:tt todo: $todo:tt) => {
        $crate::__refuse_functions! { interface: $interface todo: fn $function ; }
    };
}

/// Reports a receiver among the parameters of a function.
///
/// ```text
/// input  = interface: NAME name: TOKEN params: TOKEN
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_receiver {
    (interface: $interface:ident name: $function:tt params: $params:tt) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "leave out the receiver; the generated trait adds `&self` and `&Peer` to each function"
        }
    };
}

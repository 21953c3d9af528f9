//! Compile errors for interfaces with functions that `ffi_interface!` does not take.

/// Reports each function of an interface that is wrong, and declares the interface with the others. A function that is right
/// but for a word or its body is declared too, so that what implements and calls it is not one more error.
///
/// ```text
/// input  = item: { cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] vis: [VISIBILITY] } interface: NAME
///          good: [TOKEN*] todo: TOKEN*
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_functions {
    // What is left of the interface is declared.
    (
        item: { cfg: $cfg:tt attrs: $attrs:tt vis: $vis:tt }
        interface: $interface:tt
        good: [$($good:tt)*]
        todo:
    ) => {
        $crate::__item! {
            cfg: $cfg attrs: $attrs size: [] optional: [] vis: $vis
            item: interface $interface lifetime: [] repr: [] body: { $($good)* }
            macros: [__careful_struct __careful_data_enum __careful_interface] raw: { $($good)* }
        }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: #[$($attr:tt)*] $(#[$($more:tt)*])*) => {
        $crate::__lonely_attribute! { lonely $($attr)* }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: ; $($todo:tt)*) => {
        $crate::__at_word! { no_function $interface }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $($todo)* }
    };
    // What is left of a wrong function, up to its end.
    (item: $item:tt interface: $interface:tt good: $good:tt todo: skip:) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: skip: ; $($todo:tt)*) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: skip: { $($body:tt)* } $($todo:tt)*) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: skip: fn $($todo:tt)*) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: fn $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: skip: $token:tt $($todo:tt)*) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    // Four correct functions a step, and then one a step: 128 steps are the compiler's default limit.
    (
        item: $item:tt
        interface: $interface:tt
        good: [$($good:tt)*]
        todo:
        $(#[$($a_attr:tt)*])* fn $a:ident ( $( $ap:ident : $at:ty ),* $(,)? ) $( -> $ar:ty )? ;
        $(#[$($b_attr:tt)*])* fn $b:ident ( $( $bp:ident : $bt:ty ),* $(,)? ) $( -> $br:ty )? ;
        $(#[$($c_attr:tt)*])* fn $c:ident ( $( $cp:ident : $ct:ty ),* $(,)? ) $( -> $cr:ty )? ;
        $(#[$($d_attr:tt)*])* fn $d:ident ( $( $dp:ident : $dt:ty ),* $(,)? ) $( -> $dr:ty )? ;
        $($todo:tt)*
    ) => {
        $crate::__refuse_functions! {
            item: $item
            interface: $interface
            good: [
                $($good)*
                $(#[$($a_attr)*])* fn $a ( $( $ap : $at ),* ) $( -> $ar )? ;
                $(#[$($b_attr)*])* fn $b ( $( $bp : $bt ),* ) $( -> $br )? ;
                $(#[$($c_attr)*])* fn $c ( $( $cp : $ct ),* ) $( -> $cr )? ;
                $(#[$($d_attr)*])* fn $d ( $( $dp : $dt ),* ) $( -> $dr )? ;
            ]
            todo: $($todo)*
        }
    };
    (
        item: $item:tt
        interface: $interface:tt
        good: [$($good:tt)*]
        todo:
        $(#[$($attr:tt)*])* fn $function:tt ( $( $param:ident : $ty:ty ),* $(,)? ) $( -> $ret:ty )? ;
        $($todo:tt)*
    ) => {
        $crate::__refuse_functions! {
            item: $item
            interface: $interface
            good: [$($good)* $(#[$($attr)*])* fn $function ( $( $param : $ty ),* ) $( -> $ret )? ;]
            todo: $($todo)*
        }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt <
        $($todo:tt)*) => {
        $crate::__refuse_generic_function! { item: $item interface: $interface good: $good name: $function
            todo: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt ;
        $($todo:tt)*) => {
        $crate::__at_word! { no_params $function }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $($todo)* }
    };
    // The outline of the function is right, so one of its parameters is wrong.
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt $( -> $ret:ty )? ; $($todo:tt)*) => {
        $crate::__refuse_params! { interface: $interface name: $function params: $params todo: $params }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt $( -> $ret:ty )? { $($body:tt)* } $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "leave out the body, and end it with a semicolon; the serving side implements the trait"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: fn $function $params
            $( -> $ret )? ; $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt $( -> $ret:ty )? where $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "a function that crosses to another machine has no bounds: leave out the `where`"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt -> $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "write the result as `-> Type`, and end it with a semicolon"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt : $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "write the result as `-> Type`, and end it with a semicolon"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt => $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "write the result as `-> Type`, and end it with a semicolon"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt $ret:ident ; $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "write the result as `-> Type`, and end it with a semicolon"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $($todo)* }
    };
    // The next function or attribute follows, or nothing.
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "end it with a semicolon"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: fn $function $params
            ; }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt fn $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "end it with a semicolon"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: fn $function $params
            ; fn $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt # $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "end it with a semicolon"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: fn $function $params
            ; # $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* fn $function:tt
        $params:tt $wrong:tt $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "end it with a semicolon"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $wrong
            $($todo)* }
    };
    // Keywords before `fn`.
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* $keyword:ident unsafe
        $($todo:tt)*) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: unsafe $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* $keyword:ident extern
        $($todo:tt)*) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: extern $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* async fn $function:tt
        $params:tt $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "calls wait for their result: leave out the `async`"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: fn $function $params
            $($todo)* }
    };
    // The compiler says so, at the visibility.
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* pub ( $($in:tt)* ) fn
        $function:tt $($todo:tt)*) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $(#[$($attr)*])* pub
            fn $function $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* pub fn $function:tt
        $params:tt $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "a function is as visible as its interface: leave out the `pub`"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: fn $function $params
            $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* pub ( $($in:tt)* )
        $($todo:tt)*) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $(#[$($attr)*])*
            $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* pub $($todo:tt)*) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $(#[$($attr)*])*
            $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* extern $abi:literal fn
        $function:tt $params:tt $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "all functions have this crate's ABI: leave out the `extern`"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: fn $function $params
            $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* struct $name:tt
        $($todo:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* enum $name:tt
        $($todo:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* union $name:tt
        $($todo:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* trait $name:tt
        $($todo:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* mod $name:tt
        $($todo:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* static $name:tt
        $($todo:tt)*) => {
        $crate::__at_word! { misplaced $name }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    // A field.
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* $name:tt :
        $($todo:tt)*) => {
        $crate::__at_word! { no_function $name }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* const $function:tt :
        $($todo:tt)*) => {
        $crate::__at_word! { misplaced $function }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* type $function:tt
        $($todo:tt)*) => {
        $crate::__at_word! { misplaced $function }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* $keyword:ident fn
        $function:tt $params:tt $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "leave out the `" {$keyword} "`"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: fn $function $params
            $($todo)* }
    };
    // Modifiers, one after the other.
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* $keyword:ident
        $other:ident fn $($todo:tt)*) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $(#[$($attr)*])*
            $other fn $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $function:tt ( $($params:tt)* )
        $($todo:tt)*) => {
        $crate::__at_word! { no_fn $function }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* $literal:literal
        $($todo:tt)*) => {
        $crate::__at! { no_function $literal }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $(#[$($attr:tt)*])* $keyword:ident
        $function:tt $params:tt $($todo:tt)*) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "write `fn`, not `" {$keyword} "`"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $params
            $($todo)* }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt todo: $($todo:tt)*) => {
        $crate::__at_word! { no_function $interface }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: }
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
    (interface: $interface:tt name: $function:tt group: $group:tt text: $($text:tt)+) => {
        $crate::__refuse! {
            dollar: ($) name: $function group: $group
            text: "function `" {$interface} "::" {$function} "`: " $($text)+
        }
    };
}

/// Reports a function with angle brackets behind its name.
///
/// ```text
/// input  = item: TOKEN interface: NAME good: TOKEN name: TOKEN todo: TOKEN*
///        | item: TOKEN interface: NAME good: TOKEN name: TOKEN token: TOKEN is: TOKEN todo: TOKEN*
/// output = items
/// ```
///
/// The rules skip tokens up to the first group in parentheses, which is the list of parameters. `token`
/// and `is` are the same token, as in `__refuse_generic`.
#[doc(hidden)]
#[macro_export]
macro_rules! __refuse_generic_function {
    (
        item: $item:tt
        interface: $interface:tt
        good: $good:tt
        name: $function:tt
        token: $token:tt
        is: ( $($params:tt)* )
        todo: $($todo:tt)*
    ) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $token
            text: "a function that crosses to another machine cannot be generic, nor have lifetimes"
        }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: skip: $($todo)* }
    };
    (
        item: $item:tt
        interface: $interface:tt
        good: $good:tt
        name: $function:tt
        token: $token:tt
        is: ;
        todo: $($todo:tt)*
    ) => {
        $crate::__at_word! { no_params $function }
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: $($todo)* }
    };
    (
        item: $item:tt
        interface: $interface:tt
        good: $good:tt
        name: $function:tt
        token: $token:tt
        is: $skipped:tt
        todo: $($todo:tt)*
    ) => {
        $crate::__refuse_generic_function! {
            item: $item interface: $interface good: $good name: $function todo: $($todo)*
        }
    };
    (
        item: $item:tt
        interface: $interface:tt
        good: $good:tt
        name: $function:tt
        todo: $token:tt $($todo:tt)*
    ) => {
        $crate::__refuse_generic_function! {
            item: $item
            interface: $interface
            good: $good
            name: $function
            token: $token
            is: $token
            todo: $($todo)*
        }
    };
    (item: $item:tt interface: $interface:tt good: $good:tt name: $function:tt todo:) => {
        $crate::__refuse_functions! { item: $item interface: $interface good: $good todo: fn $function ; }
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
        interface: $interface:tt
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
        interface: $interface:tt
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
        interface: $interface:tt
        name: $function:tt
        params: $params:tt
        todo: (self $($todo:tt)*)
    ) => {
        $crate::__refuse_receiver! { interface: $interface name: $function params: $params }
    };
    (
        interface: $interface:tt
        name: $function:tt
        params: $params:tt
        todo: (& $($todo:tt)*)
    ) => {
        $crate::__refuse_receiver! { interface: $interface name: $function params: $params }
    };
    (
        interface: $interface:tt
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
        interface: $interface:tt
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
        interface: $interface:tt
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
    (interface: $interface:tt name: $function:tt params: $params:tt todo: $todo:tt) => {
        $crate::__at_word! { no_params $function }
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
    (interface: $interface:tt name: $function:tt params: $params:tt) => {
        $crate::__refuse_function! {
            interface: $interface name: $function group: $params
            text: "leave out the receiver; the generated trait adds `&self` and `&Peer` to each function"
        }
    };
}

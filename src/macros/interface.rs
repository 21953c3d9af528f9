//! Interfaces: the trait, the client, the parameters of each function, and the entries of the
//! dispatch table.
//!
//! `__interface` expands the list of functions five times, each time with `__attributes` and one of
//! these:
//!
//! - `__trait_fn`: the trait's method;
//! - `__call`: the client's half, that is the parameter struct, the signature and the client's
//!   method;
//! - `__count`: how many functions `#[cfg]` leaves, for the length of the lists;
//! - `__function`: the function in the list that handshake and contract read;
//! - `__entry`: the server's half, as an entry of the dispatch table.
//!
//! The macros below share these parts of their grammar:
//!
//! ```text
//! sorted = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] optional: [optional?]
//! params = ( ( NAME LOCAL : TYPE ( , NAME LOCAL : TYPE )* )? )
//! ```
//!
//! `LOCAL` is the name of a variable for the parameter's value, as in `__struct_impls`.

/// The declared return type, or `()` if the declaration has none.
///
/// ```text
/// input  = TYPE?
/// output = a type
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __ret {
    () => {
        ()
    };
    ($ty:ty) => {
        $ty
    };
}

/// An interface.
///
/// ```text
/// input    = cfg: [ATTRIBUTE*] cfg_list: [ATTRIBUTE*] attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME
///            raw: { TOKEN* } functions: [function*]
/// function = { attrs: [ATTRIBUTE*] name: NAME params: ( ( NAME : TYPE ( , NAME : TYPE )* )? ) returns: [TYPE?] }
/// output   = items: the trait, the client, the items of `__call` for each function, and the impls that
///            `serve!` reads
/// ```
///
/// `cfg` and `cfg_list` are the same attributes. `cfg` is taken apart, to be put on items.
/// `cfg_list` is one token, since a repetition of functions cannot contain a repetition of
/// attributes that are not the function's.
#[doc(hidden)]
#[macro_export]
macro_rules! __interface {
    (
        cfg: [$($cfg:tt)*]
        cfg_list: $cfg_list:tt
        attrs: [$($attr:tt)*]
        vis: [$vis:vis]
        name: $name:ident
        raw: $raw:tt
        functions: [$( {
            attrs: [$($fattr:tt)*]
            name: $function:tt
            params: ($($param:ident : $ty:ty),*)
            returns: $returns:tt
        } )*]
    ) => {
        $($cfg)*
        $($attr)*
        #[allow(
            dead_code, clippy::too_many_arguments,
            unknown_lints, renamed_and_removed_lints, elided_named_lifetimes,
            reason = "a calling side does not serve, the user has not declared `&self` and `&Peer`, and may \
                      leave out the lifetimes of packed values"
        )]
        $vis trait $name { $(
            $crate::__attributes! {
                todo: [$($fattr)*]
                cfg: []
                attrs: []
                size: []
                optional: []
                then: __distinct
                dollar: ($)
                words: [$($param)*]
                left: []
                params: ($($param $param : $ty),*)
                then: __trait_fn
                interface: $name
                name: $function
                returns: $returns
            }
        )* }
        $crate::__param_words! { $raw }
        $crate::__private::paste::paste! {
            $($cfg)*
            #[allow(dead_code, reason = "a serving side does not call")]
            #[doc = "Calls the functions of [`" $name
                "`] on the peer. Made from a `&Peer`, or from a `&Batch`, to which its "
                "methods add calls."]
            #[derive(
                $crate::__private::core::clone::Clone,
                $crate::__private::core::marker::Copy,
                $crate::__private::core::fmt::Debug,
            )]
            $vis struct [<$name Client>]<'__peer, __Caller = &'__peer $crate::Peer> {
                optional: [<__ $name Optional>]<'__peer, __Caller>,
            }
            $($cfg)*
            impl<'__peer, __Caller: $crate::Caller + '__peer> $crate::__private::core::convert::From<__Caller>
                for [<$name Client>]<'__peer, __Caller>
            {
                fn from(__caller: __Caller) -> [<$name Client>]<'__peer, __Caller> {
                    [<$name Client>] {
                        optional: [<__ $name Optional>] { via: $crate::__private::Via::new(__caller) },
                    }
                }
            }
            $($cfg)*
            #[allow(
                dead_code, unreachable_pub, nonstandard_style, reason = "it only has methods of the client"
            )]
            #[doc = "Asks whether the peer serves an optional function of [`" $name
                "`]: the client derefs to "
                "it, so that a function may have the name of such a method."]
            #[derive(
                $crate::__private::core::clone::Clone,
                $crate::__private::core::marker::Copy,
                $crate::__private::core::fmt::Debug,
            )]
            $vis struct [<__ $name Optional>]<'__peer, __Caller>
                { via: $crate::__private::Via<'__peer, __Caller> }
            $($cfg)*
            impl<'__peer, __Caller> $crate::__private::core::ops::Deref for [<$name Client>]<'__peer,
                __Caller> {
                type Target = [<__ $name Optional>]<'__peer, __Caller>;
                fn deref(&self) -> &[<__ $name Optional>]<'__peer, __Caller> { &self.optional }
            }
            $($cfg)*
            #[allow(
                dead_code, nonstandard_style, private_interfaces, unreachable_pub,
                missing_debug_implementations, missing_docs,
                reason = "users see what is re-exported, and need not use it"
            )]
            mod [<__vmffi_ $name>] { $( $crate::__attributes! {
                todo: [$($fattr)*]
                cfg: []
                attrs: []
                size: []
                optional: []
                then: __key
                interface: $name
                name: $function
                struct: [<Params $name $function:camel>]
            } )* }
            $( $crate::__attributes! {
                todo: [$($fattr)*]
                cfg: $cfg_list
                attrs: []
                size: []
                optional: []
                then: __distinct
                dollar: ($)
                words: [$($param)*]
                left: [$($param)*]
                params: ($($param [<__param_ $param>] : $ty),*)
                then: __call
                vis: [$vis]
                interface: $name
                client: [<$name Client>]
                asks: [<__ $name Optional>]
                module: [ [<__vmffi_ $name>]::$function ]
                name: $function
                has: [<has_ $function>]
                returns: $returns
            } )*
            $($cfg)*
            #[allow(
                unused_mut, unused_assignments, deprecated, nonstandard_style,
                unknown_lints, renamed_and_removed_lints, elided_named_lifetimes,
                reason = "an interface may have no functions, and functions may be deprecated and have names \
                          of any style"
            )]
            const _: () = {
                use $crate::__private::dispatch as __dispatch;
                const __N: $crate::__private::core::primitive::usize = {
                    let mut __n = 0;
                    $( $crate::__attributes! {
                        todo: [$($fattr)*]
                        cfg: []
                        attrs: []
                        size: []
                        optional: []
                        then: __count
                        index: __n
                        types: [$($ty),*]
                        returns: $returns
                    } )*
                    __n
                };
                impl $crate::__private::Item for dyn $name {
                    type Checked = $crate::__private::Checked<__N>;
                }
                impl __dispatch::Interface for dyn $name {
                    const FUNCTIONS: &'static [$crate::__private::Declared] = &{
                        let mut __all = [$crate::__private::Declared::NOBODY; __N];
                        let mut __n = 0;
                        $( $crate::__attributes! {
                            todo: [$($fattr)*]
                            cfg: []
                            attrs: []
                            size: []
                            optional: []
                            then: __function
                            list: __all
                            index: __n
                            struct: [ [<__vmffi_ $name>]::$function::__Key ]
                        } )*
                        __all
                    };
                }
                impl<__Server: $name + 'static> __dispatch::Implements<__Server> for dyn $name {
                    const ENTRIES: &'static [__dispatch::Entry<__Server>] = &{
                        let mut __all = [__dispatch::Entry::EMPTY; __N];
                        let mut __n = 0;
                        $( $crate::__attributes! {
                            todo: [$($fattr)*]
                            cfg: []
                            attrs: []
                            size: []
                            optional: []
                            then: __distinct
                            dollar: ($)
                            words: [$($param)*]
                            left: [$($param)*]
                            params: ($($param [<__param_ $param>] : $ty),*)
                            then: __entry
                            list: __all
                            index: __n
                            server: __Server
                            interface: $name
                            struct: [ [<__vmffi_ $name>]::$function::__Key ]
                            name: $function
                            returns: $returns
                        } )*
                        __all
                    };
                }
            };
        }
    };
}

/// A module for the parameter struct of a function, and the alias by which users know it.
///
/// Each alias has a module, so that `__call` re-exports it by a glob of its own, which gives way to an item of the user's. All
/// else in the module is private to the user's module: a glob that re-exports nothing else is not linted if it gives way.
///
/// ```text
/// input  = sorted interface: NAME name: NAME struct: NAME
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __key {
    (
        cfg: [$($cfg:tt)*]
        attrs: $attrs:tt
        size: $size:tt
        optional: $optional:tt
        interface: $interface:ident
        name: $function:ident
        struct: $struct:ident
    ) => {
        $($cfg)*
        pub(super) mod $function {
            pub(in super::super) struct __Key;
            #[doc = $crate::__private::core::concat!(
                "The parameters of `",
                $crate::__private::core::stringify!($interface),
                "::",
                $crate::__private::core::stringify!($function),
                "` as they lie in memory.",
            )]
            pub type $struct = <__Key as $crate::__private::Named>::Type;
        }
    };
}

/// A method of the trait.
///
/// ```text
/// input  = sorted params: params interface: NAME name: NAME returns: [TYPE?]
/// output = an item of a trait
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __trait_fn {
    (
        cfg: [$($cfg:tt)*]
        attrs: [$($attr:tt)*]
        size: $size:tt
        optional: $optional:tt
        params: ($($param:ident $local:ident : $ty:ty),* $(,)?)
        interface: $interface:ident
        name: $function:ident
        returns: [$($ret:ty)?]
    ) => {
        $($cfg)*
        $($attr)*
        fn $function(&self, peer: &$crate::Peer, $($param: $ty),*)
            -> $crate::__private::Handled<fn(&'static ()) -> $crate::__ret!($($ret)?), dyn $interface>;
    };
}

/// Counts a function, and asks for its types.
///
/// ```text
/// input  = sorted index: VARIABLE types: [( TYPE ( , TYPE )* )?] returns: [TYPE?]
/// output = a statement that increments the variable
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __count {
    (
        cfg: [$($cfg:tt)*]
        attrs: $attrs:tt
        size: $size:tt
        optional: $optional:tt
        index: $index:ident
        types: [$($ty:ty),*]
        returns: [$($ret:ty)?]
    ) => {
        $($cfg)* {
            $( $crate::__private::crosses::<$ty>(); )*
            $( $crate::__private::returned::<$ret>(); )?
            $index += 1;
        }
    };
}

/// Puts a function into the list of declared functions.
///
/// ```text
/// input  = sorted list: VARIABLE index: VARIABLE struct: NAME
/// output = a statement that fills one place of the list and increments the index
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __function {
    (
        cfg: [$($cfg:tt)*]
        attrs: $attrs:tt
        size: $size:tt
        optional: $optional:tt
        list: $list:ident
        index: $index:ident
        struct: [$key:ty]
    ) => {
        $($cfg)* { $list[$index] = <<$key as $crate::__private::Named>::Type>::__DECLARED; $index += 1; }
    };
}

/// Puts the server's half of a function into the dispatch table.
///
/// ```text
/// input  = sorted params: params list: VARIABLE index: VARIABLE server: TYPE_NAME interface: NAME struct: NAME
///          name: NAME returns: [TYPE?]
/// output = a statement that fills one place of the list and increments the index
/// ```
///
/// The caller has `__dispatch` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry {
    (
        cfg: [$($cfg:tt)*]
        attrs: $attrs:tt
        size: $size:tt
        optional: $optional:tt
        params: ($($param:ident $local:ident : $ty:ty),* $(,)?)
        list: $list:ident
        index: $index:ident
        server: $server:ident
        interface: $interface:ident
        struct: [$key:ty]
        name: $function:ident
        returns: [$($ret:ty)?]
    ) => {
        $($cfg)* {
            type __Params = <$key as $crate::__private::Named>::Type;
            let __call: __dispatch::Call<$server> = |__server, __peer, __transport, __status| {
                let __span = $crate::__private::Span::serve(__peer, __Params::FUNCTION);
                // SAFETY: dispatch calls an entry with the peer and the transport of one call.
                // `__receive` below decodes each pointer word of that transport once, and nothing
                // else uses `__from`.
                let __from = unsafe { $crate::__private::incoming(__peer) };
                let __answer = match $crate::__receive! {
                    struct: __Params
                    peer: __peer
                    transport: __transport
                    from: __from
                    status: __status
                    params: ($($param $local : $crate::__private::In<fn(&'static ()) -> $ty, dyn
                        $interface>),*)
                } {
                    $crate::__private::core::result::Result::Ok(($($local,)*)) => {
                        $crate::__private::answer::<
                            $crate::__private::In<fn(&'static ()) -> $crate::__ret!($($ret)?), dyn
                                $interface>,
                        >(
                            __peer,
                            __Params::FUNCTION,
                            <$server as $interface>::$function(__server, __peer, $($local),*),
                            __status,
                        )
                    }
                    $crate::__private::core::result::Result::Err(__answer) => __answer,
                };
                __span.end(*__status);
                __answer
            };
            // SAFETY: this macro makes `__call` and `FUNCTION` from the same declaration: `__call`
            // decodes the declared parameters, and `answer` lends a result of the declared type.
            $list[$index] = unsafe { __dispatch::Entry::new(__Params::FUNCTION, __call) };
            $index += 1;
        }
    };
}

/// The client's half of a function.
///
/// ```text
/// input  = sorted params: params vis: [VISIBILITY] interface: NAME client: NAME asks: NAME module: [PATH] name: NAME
///          has: NAME returns: [TYPE?]
/// output = items: the parameter struct with the function's signature, its re-export, and the methods of the client
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __call {
    (
        cfg: [$($cfg:tt)*]
        attrs: [$($attr:tt)*]
        size: $size:tt
        optional: $optional:tt
        params: ($($param:ident $local:ident : $ty:ty),* $(,)?)
        vis: [$vis:vis]
        interface: $interface:ident
        client: $client:ident
        asks: $asks:ident
        module: [$($module:tt)*]
        name: $function:ident
        has: $has:ident
        returns: [$($ret:ty)?]
    ) => {
        $($cfg)*
        #[allow(
            unused_imports, ambiguous_glob_reexports,
            reason = "each module has a `__Key`, and two aliases may have one name"
        )]
        $vis use $($module)*::*;
        $($cfg)*
        #[allow(
            dead_code, deprecated, nonstandard_style, unused_imports, unreachable_pub, missing_docs,
            missing_debug_implementations, clippy::too_many_arguments,
            unknown_lints, renamed_and_removed_lints, elided_named_lifetimes,
            reason = "a client need not call every function, which may have any name; the user has not \
                      declared `&self`"
        )]
        const _: () = {
            use $crate::__private::core as __core;
            #[repr(C)]
            $vis struct __Params {
                $( $param: <$crate::__private::In<fn(&'static ()) -> $ty, dyn $interface> as
                    $crate::FfiType>::Wire, )*
            }
            $crate::__copy! { __Params }
            impl $crate::__private::Named for $($module)*::__Key {
                type Type = __Params;
            }
            impl __Params {
                /// The function: its signature and its names.
                pub const FUNCTION: &'static $crate::abi::Function = &Self::__DECLARED.function;
                #[doc(hidden)]
                pub const __DECLARED: $crate::__private::Declared = {
                    $crate::__check! {
                        size: $size
                        struct: __Params
                        name: $function
                        params: ($($param $local : $crate::__private::In<fn(&'static ()) -> $ty, dyn
                            $interface>),*)
                    }
                    $crate::__private::Declared::new(
                        __core::stringify!($interface),
                        __core::stringify!($function),
                        __core::stringify!($optional),
                        &[$( (
                            __core::stringify!($param),
                            <$crate::__private::In<fn(&'static ()) -> $ty, dyn $interface> as
                                $crate::FfiType>::SHAPE,
                        ) ),*],
                        <__Returned as $crate::FfiReturn>::SHAPE,
                    )
                };
            }
            $crate::__unpack! {
                struct: __Params
                params: ($($param $local : $crate::__private::In<fn(&'static ()) -> $ty, dyn $interface>),*)
            }
            $( type $local = $crate::__private::In<fn(&'static ()) -> $ty, dyn $interface>; )*
            type __Returned = $crate::__private::In<fn(&'static ()) -> $crate::__ret!($($ret)?), dyn
                $interface>;
            // A constant of the user's could have a parameter's name, and a pattern of that name would compare with the
            // constant. A function of that name hides it, and patterns may shadow functions. The types, which may call
            // functions of the user's, are outside of this block.
            const _: () = {
                $( use $crate::__private::hide as $param; )*
                impl<__Caller: $crate::Caller> $client<'_, __Caller> {
                    $($attr)*
                    #[inline]
                    pub fn $function(self, $($param: impl $crate::SendAs<$local>),*)
                        -> <__Caller as $crate::Caller>::Returned<__Returned>
                    {
                        let __caller = self.optional.via.caller;
                        #[allow(unused_mut, reason = "a function without parameters lends nothing")]
                        let mut __out = $crate::Caller::outgoing(&__caller);
                        let __transport = $crate::__send! {
                            out: __out
                            struct: __Params
                            params: ($($param : $local),*)
                        };
                        // SAFETY: this macro makes `__send` and `FUNCTION` from the same declaration:
                        // `__send` makes the transport through `__out`, with the `SendAs` of each
                        // declared parameter, and `FUNCTION` returns the declared type.
                        unsafe {
                            $crate::Caller::finish::<__Returned>(
                                &__caller,
                                __out,
                                __Params::FUNCTION,
                                __transport,
                            )
                        }
                    }
                }
            };
            $crate::__has! {
                optional: $optional
                asks: $asks
                struct: __Params
                name: $function
                has: $has
            }
        };
    };
}

/// The client's method that asks whether the peer serves an optional function.
///
/// ```text
/// input  = optional: [optional?] asks: NAME struct: NAME name: NAME has: NAME
/// output = nothing, or an item: the method, of the type to which the client derefs
/// ```
///
/// The caller has `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __has {
    (
        optional: []
        asks: $asks:ident
        struct: $struct:ident
        name: $function:ident
        has: $has:ident
    ) => {};
    (
        optional: [optional]
        asks: $asks:ident
        struct: $struct:ident
        name: $function:ident
        has: $has:ident
    ) => {
        impl<__Caller: $crate::Caller> $asks<'_, __Caller> {
            #[doc = __core::concat!("Whether the peer serves `", __core::stringify!($function), "`.")]
            pub fn $has(&self) -> __core::result::Result<__core::primitive::bool, $crate::CallError> {
                $crate::Caller::peer(&self.via.caller).has($struct::FUNCTION)
            }
        }
    };
}

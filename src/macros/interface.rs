//! Interfaces: the trait, the client, the parameters of each function, and the entries of a table.

/// The declared return type, `()` if there is none.
#[doc(hidden)]
#[macro_export]
macro_rules! __ret {
    () => {
        ()
    };
    ($t:ty) => {
        $t
    };
}

/// An interface: its trait, its client, its functions' parameters, and its table.
///
/// `$icfg` and `$cfg` are the same attributes, once to be passed on and once to be repeated.
#[doc(hidden)]
#[macro_export]
macro_rules! __interface {
    ($icfg:tt [$($cfg:tt)*] [$($kept:tt)*] [$vis:vis] $name:ident { $( [$($m:tt)*] $f:ident $args:tt $r:tt )* }) => {
        $($cfg)* $($kept)*
        #[allow(dead_code, clippy::too_many_arguments, reason = "who calls does not serve; `&self` and `&Peer` are not the user's")]
        $vis trait $name { $( $crate::__split! { [$($m)*] [] [] [] [] __trait_fn $f $args $r } )* }
        $crate::__private::paste::paste! {
            $($cfg)* #[allow(dead_code, reason = "who serves does not call")]
            #[doc = "Calls [`" $name "`] on the other side. Made from a `&Peer`."]
            #[derive($crate::__private::core::clone::Clone, $crate::__private::core::marker::Copy, $crate::__private::core::fmt::Debug)]
            $vis struct [<$name Client>]<'__peer> { peer: &'__peer $crate::Peer }
            $($cfg)*
            impl<'__peer> $crate::__private::core::convert::From<&'__peer $crate::Peer> for [<$name Client>]<'__peer> {
                fn from(peer: &'__peer $crate::Peer) -> Self { Self { peer } }
            }
            $( $crate::__split! { [$($m)*] $icfg [] [] [] __call [$vis] $name [<$name Client>] [<Params $name $f:camel>] $f [<has_ $f>] $args $r } )*
            $($cfg)*
            #[allow(unused_mut, unused_assignments, deprecated, reason = "lists may be empty, and they name what is deprecated")]
            const _: () = {
                use $crate::dispatch as __dispatch;
                const __N: usize = { let mut n = 0; $( $crate::__split! { [$($m)*] [] [] [] [] __count n } )* n };
                impl __dispatch::Interface for dyn $name {
                    const FUNCTIONS: &'static [$crate::shape::Declared] = &{
                        let mut all = [$crate::shape::Declared::NOBODY; __N];
                        let mut n = 0;
                        $( $crate::__split! { [$($m)*] [] [] [] [] __function all n [<Params $name $f:camel>] } )*
                        all
                    };
                }
                impl<__Server: $name + 'static> __dispatch::Implements<__Server> for dyn $name {
                    const ENTRIES: &'static [__dispatch::Entry<__Server>] = &{
                        let mut all = [__dispatch::Entry::EMPTY; __N];
                        let mut n = 0;
                        $( $crate::__split! { [$($m)*] [] [] [] [] __entry all n __Server $name [<Params $name $f:camel>] $f $args $r } )*
                        all
                    };
                }
            };
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __trait_fn {
    ([$($cfg:tt)*] [$($kept:tt)*] $size:tt $optional:tt $f:ident ($($a:ident : $t:ty),*) [$($r:ty)?]) => {
        $($cfg)* $($kept)*
        fn $f(&self, peer: &$crate::Peer, $($a: $t),*) -> <$crate::__ret!($($r)?) as $crate::FfiReturn>::Handled;
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __count {
    ([$($cfg:tt)*] $kept:tt $size:tt $optional:tt $n:ident) => { $($cfg)* { $n += 1; } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __function {
    ([$($cfg:tt)*] $kept:tt $size:tt $optional:tt $all:ident $n:ident $params:ident) => {
        $($cfg)* { $all[$n] = $params::__DECLARED; $n += 1; }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __entry {
    ([$($cfg:tt)*] $kept:tt $size:tt $optional:tt $all:ident $n:ident $S:ident $name:ident $params:ident $f:ident ($($a:ident : $t:ty),*) [$($r:ty)?]) => {
        $($cfg)* {
            let call: __dispatch::Call<$S> = |server, peer, transport, status| {
                let span = $crate::trace::Span::serve(peer, $params::FUNCTION);
                // SAFETY: `__receive` judges the words of this call, once.
                let from = unsafe { $crate::call::incoming(peer) };
                let transport = match $crate::__receive! { $params transport from, ($($a : $t),*) } {
                    $crate::__private::core::result::Result::Ok(($($a,)*)) => {
                        $crate::call::answer::<$crate::__ret!($($r)?)>(peer, $params::FUNCTION, <$S as $name>::$f(server, peer, $($a),*), status)
                    }
                    $crate::__private::core::result::Result::Err(error) => $crate::call::refuse(error, peer, $params::FUNCTION, status),
                };
                span.end(*status);
                transport
            };
            // SAFETY: parameters are judged and results are lent as the declaration says that `FUNCTION` is made from.
            $all[$n] = unsafe { __dispatch::Entry::new($params::FUNCTION, call) };
            $n += 1;
        }
    };
}

/// A function as its caller sees it: the parameters' layout, the signature, the client's method.
#[doc(hidden)]
#[macro_export]
macro_rules! __call {
    ([$($cfg:tt)*] [$($kept:tt)*] $size:tt $optional:tt [$vis:vis] $interface:ident $client:ident $params:ident $f:ident $has:ident ($($a:ident : $t:ty),*) [$($r:ty)?]) => {
        $($cfg)*
        #[doc = $crate::__private::core::concat!("The parameters of `", $crate::__private::core::stringify!($interface), "::", $crate::__private::core::stringify!($f), "` as they lie in memory.")]
        #[derive($crate::__private::core::clone::Clone, $crate::__private::core::marker::Copy)]
        #[allow(dead_code, missing_debug_implementations, reason = "who serves does not fill it, and it is bytes")]
        #[repr(C)]
        $vis struct $params { $( $a: <$t as $crate::FfiType>::Wire, )* }
        $($cfg)*
        #[allow(dead_code, clippy::too_many_arguments, reason = "nobody calls all functions; `&self` is not the user's")]
        const _: () = {
            use $crate::__private::core as __core;
            impl $params {
                /// The function: its signature and its names.
                pub const FUNCTION: &'static $crate::abi::Function = &Self::__DECLARED.function;
                #[doc(hidden)]
                pub const __DECLARED: $crate::shape::Declared = {
                    $crate::__check! { $size $params $f ($($a : $t),*) }
                    $crate::shape::Declared::new(
                        __core::stringify!($interface),
                        __core::stringify!($f),
                        __core::stringify!($optional),
                        &[$( (__core::stringify!($a), <$t as $crate::FfiType>::SHAPE) ),*],
                        <$crate::__ret!($($r)?) as $crate::FfiReturn>::SHAPE,
                    )
                };
            }
            $crate::__unpack! { $params ($($a : $t),*) }
            impl $client<'_> {
                $($kept)* #[inline]
                pub fn $f(&self, $($a: impl $crate::SendAs<$t>),*) -> <$crate::__ret!($($r)?) as $crate::FfiReturn>::Received {
                    let mut out = self.peer.outgoing();
                    let transport = $crate::__send! { out $params ($($a : $t),*) };
                    // SAFETY: `__send` has made the transport, through `out`, as the declaration says that `FUNCTION` is
                    // made from.
                    unsafe { $crate::call::finish::<$crate::__ret!($($r)?)>(&mut out, $params::FUNCTION, transport) }
                }
                $crate::__has! { $optional $params $f $has }
            }
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __has {
    ([] $params:ident $f:ident $has:ident) => {};
    ([optional] $params:ident $f:ident $has:ident) => {
        #[doc = __core::concat!("Whether the peer serves `", __core::stringify!($f), "`.")]
        pub fn $has(&self) -> __core::result::Result<bool, $crate::CallError> {
            self.peer.has($params::FUNCTION)
        }
    };
}

// What depends on the number of parameters: none travels as nothing, one in the transport, more in a
// struct in memory.

/// Checks the layout of a parameter struct, and its size against a pin.
#[doc(hidden)]
#[macro_export]
macro_rules! __check {
    ([] $params:ident $f:ident ()) => {};
    ([] $params:ident $f:ident ($a:ident : $t:ty)) => {};
    ([$($size:expr)?] $params:ident $f:ident ($a:ident : $t:ty $(, $b:ident : $u:ty)+)) => {
        $crate::layout::Rule::new()
            .field::<$t>($crate::__offset!($params, $a))
            $( .field::<$u>($crate::__offset!($params, $b)) )+
            .check::<$params>();
        $( $crate::text::pin(__core::stringify!($f), __core::mem::size_of::<$params>(), $size); )?
    };
    ([$($size:expr)?] $params:ident $f:ident $args:tt) => { __core::compile_error! {
        __core::concat!("function `", __core::stringify!($f), "`: `#[size]` pins a parameter struct, and there is none for fewer than two parameters")
    } };
}

/// Makes owned parameters out of a struct.
#[doc(hidden)]
#[macro_export]
macro_rules! __unpack {
    ($params:ident ()) => {};
    ($params:ident ($a:ident : $t:ty)) => {};
    ($params:ident ($($a:ident : $t:ty),+)) => {
        // SAFETY: `repr(C)`, and every field is a wire twin, of which any bytes are a value. Each is judged once.
        unsafe impl $crate::Unpackable for $params {
            type Output = ($($t,)+);
            #[inline]
            fn unpack(wire: &[u8], from: $crate::peer::Incoming<'_>) -> __core::result::Result<Self::Output, $crate::CallError> {
                $( let $a = $crate::wire::field::<$t>(wire, $crate::__offset!($params, $a), __core::stringify!($a), from); )+
                __core::result::Result::Ok(($($a?,)+))
            }
        }
    };
}

/// Sends the parameters: a `Result` of the transport.
#[doc(hidden)]
#[macro_export]
macro_rules! __send {
    ($out:ident $params:ident ()) => { $crate::call::nothing() };
    ($out:ident $params:ident ($a:ident : $t:ty)) => { $crate::SendAs::<$t>::into_transport($a, &mut $out) };
    ($out:ident $params:ident ($($a:ident : $t:ty),+)) => {
        $out.place::<$params>(|wire, out| {
            $( $crate::wire::put::<$t, _>($a, wire, $crate::__offset!($params, $a), out)?; )+
            __core::result::Result::Ok(())
        })
    };
}

/// Takes the parameters: a `Result` of a tuple.
#[doc(hidden)]
#[macro_export]
macro_rules! __receive {
    ($params:ident $transport:ident $from:ident, ()) => {
        <() as $crate::FfiType>::from_transport($transport, $from)
    };
    ($params:ident $transport:ident $from:ident, ($a:ident : $t:ty)) => {
        $crate::call::alone::<$t>($transport, $from, $crate::__private::core::stringify!($a))
    };
    ($params:ident $transport:ident $from:ident, ($($a:ident : $t:ty),+)) => {
        $crate::call::receive::<$params>($transport, $from)
    };
}

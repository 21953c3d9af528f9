//! What depends on the number of a function's parameters (ABI, "Parameter structs"): without parameters the transport is
//! empty, one parameter travels in the transport, and several travel in a parameter struct.
//!
//! `params` is as in `interface.rs`.

/// Checks the layout of a parameter struct against the ABI and, where a size is pinned, its size.
///
/// ```text
/// input  = size: [EXPR?] struct: NAME name: NAME params: params
/// output = statements, or a compile error
/// ```
///
/// The caller has `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __check {
    (size: [] struct: $struct:ident name: $function:ident params: ()) => {};
    (
        size: []
        struct: $struct:ident
        name: $function:ident
        params: ($param:ident $local:ident : $ty:ty)
    ) => {};
    (
        size: [$($size:expr)?]
        struct: $struct:ident
        name: $function:ident
        params: ($first:ident $first_local:ident : $first_ty:ty $(, $param:ident $local:ident : $ty:ty)+)
    ) => {
        $crate::__private::Rule::new()
            .field::<$first_ty>($crate::__offset!($struct, $first))
            $( .field::<$ty>($crate::__offset!($struct, $param)) )+
            .check::<$struct>();
        $( $crate::__pin! { $size, $struct } )?
    };
    (
        size: [$size:expr]
        struct: $struct:ident
        name: $function:ident
        params: $params:tt
    ) => {
        $crate::__at! { alone $size }
    };
}

/// Makes the parameters from a parameter struct.
///
/// ```text
/// input  = struct: NAME params: params
/// output = nothing, or an item: `Unpackable` for the parameter struct
/// ```
///
/// The caller has `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __unpack {
    (struct: $struct:ident params: ()) => {};
    (struct: $struct:ident params: ($param:ident $local:ident : $ty:ty)) => {};
    (struct: $struct:ident params: ($($param:ident $local:ident : $ty:ty),+)) => {
        // SAFETY: the struct is `repr(C)`, and each of its fields is a wire twin, so any bytes are
        // a value of it. `unpack` decodes each field once, at the field's own offset.
        unsafe impl $crate::Unpackable for $struct {
            type Output = ($($ty,)+);
            // Also where a call takes results of its batch, which is another use of it, it is part of its caller.
            #[inline(always)]
            fn unpack(
                __wire: &[__core::primitive::u8],
                __from: $crate::Incoming<'_>,
            ) -> __core::result::Result<Self::Output, $crate::CallError> {
                $( let $local = $crate::__private::field::<$ty>(
                    __wire,
                    $crate::__offset!($struct, $param),
                    __core::stringify!($param),
                    __from,
                ); )+
                __core::result::Result::Ok(($($local?,)+))
            }
        }
    };
}

/// Makes the transport of a call from the parameters.
///
/// ```text
/// input  = out: VARIABLE struct: NAME params: ( ( NAME : TYPE ( , NAME : TYPE )* )? )
/// output = an expression of type `Result<Transport, CallError>`
/// ```
///
/// The parameters are variables. The caller has `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __send {
    (out: $out:ident struct: $struct:ident params: ()) => {
        $crate::__private::nothing()
    };
    (out: $out:ident struct: $struct:ident params: ($param:ident : $ty:ty)) => {
        $crate::SendAs::<$ty>::into_transport($param, &mut $out)
    };
    (out: $out:ident struct: $struct:ident params: ($($param:ident : $ty:ty),+)) => {
        $out.place::<$struct>(|__wire, __out| {
            $(
                let __at = $crate::__offset!($struct, $param);
                $crate::__private::put::<$ty, _>($param, __wire, __at, __out)?;
            )+
            __core::result::Result::Ok(())
        })
    };
}

/// Makes the parameters from the transport of a call.
///
/// ```text
/// input  = struct: NAME peer: VARIABLE transport: VARIABLE from: VARIABLE status: VARIABLE params: params
/// output = an expression: a `Result` of a tuple of the parameters, or the answer to a call with invalid ones
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __receive {
    (
        struct: $struct:ident
        peer: $peer:ident
        transport: $transport:ident
        from: $from:ident
        status: $status:ident
        params: ()
    ) => {
        $crate::__private::nothing_sent($peer, $struct::FUNCTION, $transport, $status)
    };
    (
        struct: $struct:ident
        peer: $peer:ident
        transport: $transport:ident
        from: $from:ident
        status: $status:ident
        params: ($param:ident $local:ident : $ty:ty)
    ) => {
        $crate::__private::alone::<$ty>(
            $peer,
            $struct::FUNCTION,
            $transport,
            $from,
            &$crate::__private::core::stringify!($param),
            $status,
        )
    };
    (
        struct: $struct:ident
        peer: $peer:ident
        transport: $transport:ident
        from: $from:ident
        status: $status:ident
        params: ($($param:ident $local:ident : $ty:ty),+)
    ) => {
        $crate::__private::receive::<$struct>($peer, $struct::FUNCTION, $transport, $from, $status)
    };
}

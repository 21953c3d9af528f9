//! Shared structs: the struct, its sender's twin, its wire twin, and the code that converts between
//! them.

/// The offset of a field in bytes.
///
/// ```text
/// input  = TYPE_NAME, FIELD_NAME
/// output = an expression
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __offset {
    ($name:ident, $field:ident) => {
        $crate::__private::memoffset::offset_of!($name, $field)
    };
}

/// The description of one field of a wire twin, for signatures and contracts.
///
/// ```text
/// input  = wire: TYPE_NAME field: FIELD_NAME name: [EXPR] type: TYPE
/// output = an expression
/// ```
///
/// `name` is a string: the field's name, or an empty one for the value of `Variant(Type)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __shape_of {
    (wire: $wire:ident field: $field:ident name: [$name:expr] type: $ty:ty) => {
        $crate::__private::Field {
            name: $name,
            offset: $crate::__offset!($wire, $field),
            shape: <$ty as $crate::FfiType>::SHAPE,
        }
    };
}

/// A shared struct.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] vis: [VISIBILITY] name: NAME
///          fields: [field*]
/// field  = { attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME type: TYPE }
/// output = items: the struct, its twin `Shared` + name, and, in a `const _`, the wire twin and the impls
/// ```
///
/// The attributes of a field stand on the field in all three structs, and on every statement or
/// expression that handles it. Therefore `#[cfg]`, doc comments and lints work there, and derive
/// helpers do not.
#[doc(hidden)]
#[macro_export]
macro_rules! __struct {
    (
        cfg: [$($cfg:tt)*]
        attrs: [$($attr:tt)*]
        size: [$($size:expr)?]
        vis: [$vis:vis]
        name: $name:ident
        fields: [$( {
            attrs: [$($fattr:tt)*]
            vis: [$fvis:vis]
            name: $field:ident
            type: $ty:ty
        } )*]
    ) => {
        $($cfg)*
        $($attr)*
        #[allow(dead_code, reason = "a crate need not use everything that it declares")]
        #[repr(C)]
        $vis struct $name { $( $($fattr)* $fvis $field: $ty, )* }
        $crate::__private::paste::paste! {
            $($cfg)*
            #[allow(dead_code, reason = "a receiver does not fill it")]
            #[doc = "The twin of [`" $name "`] that a sender fills, if that struct has handle fields."]
            $vis struct [<Shared $name>] {
                $( $($fattr)* $fvis $field: <$ty as $crate::FfiType>::Shared, )*
            }
            $($cfg)*
            #[allow(
                unused_doc_comments, dead_code, unused_variables, unused_mut, missing_docs, deprecated,
                reason = "attributes of fields are repeated on code, a struct may have no fields, \
                          and users do not see these items"
            )]
            const _: () = {
                use $crate::__private as __p;
                use __p::core as __core;
                #[derive(
                    __core::clone::Clone,
                    __core::marker::Copy,
                    __p::zerocopy::FromBytes,
                    __p::zerocopy::Immutable,
                )]
                #[zerocopy(crate = "vmffi::__private::zerocopy")]
                #[repr(C)]
                pub struct __Wire { $( $($fattr)* $field: <$ty as $crate::FfiType>::Wire, )* }
                const _: () = {
                    let mut layout = $crate::__private::Rule::new();
                    $( $($fattr)* { layout = layout.field::<$ty>($crate::__offset!(__Wire, $field)); } )*
                    layout.check::<__Wire>();
                };
                $( $crate::__private::pin(
                    __core::stringify!($name),
                    __core::mem::size_of::<__Wire>(),
                    $size,
                ); )?
                const __HANDLES: bool = {
                    let mut handles = false;
                    $( $($fattr)* { handles |= <$ty as $crate::FfiType>::HANDLES; } )*
                    handles
                };
                const __FIELDS: &[$crate::__private::Field] = &[ $( $($fattr)* {
                    $crate::__shape_of! {
                        wire: __Wire
                        field: $field
                        name: [__core::stringify!($field)]
                        type: $ty
                    }
                }, )* ];
                // `Unpackable::Output` may not be more private than the type that implements it, so
                // `__Fields` has the visibility of the struct. `__Wire` is `pub`, since
                // `FfiType::Wire` exposes it.
                #[derive(__core::clone::Clone, __core::marker::Copy)]
                #[repr(C)]
                $vis struct __Fields(__Wire);
                // SAFETY: `__Fields` is `repr(C)` around `__Wire`, and the derived `FromBytes`
                // proves that any bytes are a value of `__Wire`. `unpack` decodes each field once,
                // at the field's own offset.
                unsafe impl $crate::Unpackable for __Fields {
                    type Output = $name;
                    #[inline]
                    fn unpack(
                        wire: &[u8],
                        from: $crate::Incoming<'_>,
                    ) -> __core::result::Result<$name, $crate::CallError> {
                        // Every field is decoded before the first error is returned: dropping the
                        // good fields releases what they own.
                        $( $($fattr)* let $field = $crate::__private::field::<$ty>(
                            wire, $crate::__offset!(__Wire, $field), __core::stringify!($field), from,
                        ); )*
                        __core::result::Result::Ok($name { $( $($fattr)* $field: $field?, )* })
                    }
                }
                // SAFETY: `decode` is `unpack`, which decodes each pointer word once, through the
                // field that holds it. `SHAPE` lists every field with its offset and its shape, so
                // that structs of equal `SHAPE` have their pointer words at the same places.
                unsafe impl $crate::FfiType for $name {
                    type Wire = __Wire;
                    type OptionWire = $crate::__private::Tagged<__Wire>;
                    type Shared =
                        <$crate::__private::Bool<__HANDLES> as
                            $crate::__private::Pick<$name, [<Shared $name>]>>::Out;
                    const HANDLES: bool = __HANDLES;
                    const SHAPE: &'static $crate::__private::Shape =
                        &$crate::__private::Shape::structure::<__Wire>(__core::stringify!($name), __FIELDS);
                    #[inline]
                    fn decode(
                        wire: &[u8],
                        from: $crate::Incoming<'_>,
                    ) -> __core::result::Result<Self, $crate::CallError> {
                        <__Fields as $crate::Unpackable>::unpack(wire, from)
                    }
                    #[inline]
                    fn write(&self, wire: &mut [u8]) {
                        $( $($fattr)* {
                            $crate::__private::write::<$ty>(
                                &self.$field, wire, $crate::__offset!(__Wire, $field),
                            );
                        } )*
                    }
                }
                // SAFETY: each field is consumed by its own `SendAs`, which lends its pointer words
                // through `out` and writes them at the field's offset in the wire form.
                unsafe impl $crate::SendAs<$name> for [<Shared $name>] {
                    #[inline]
                    fn encode(
                        self,
                        wire: &mut [u8],
                        out: &mut $crate::Outgoing<'_>,
                    ) -> __core::result::Result<(), $crate::CallError> {
                        $( $($fattr)* {
                            $crate::__private::put::<$ty, _>(
                                self.$field,
                                wire,
                                $crate::__offset!(__Wire, $field),
                                out,
                            )?;
                        } )*
                        __core::result::Result::Ok(())
                    }
                }
                $crate::__plain! {
                    name: $name
                    where: [for<'x> $crate::__private::Flag<'x, __HANDLES>: $crate::__private::NoHandles]
                }
                impl __core::convert::From<$name> for $crate::Failure<$name> {
                    fn from(error: $name) -> Self { Self::App(error) }
                }
            };
        }
    };
}

/// The impls of a type without handles, which its sender passes as it is, by value or by reference.
///
/// ```text
/// input  = name: NAME where: [PREDICATE*]
/// output = items: `Plain` for the type, and `SendAs` for the type and for a reference to it
/// ```
///
/// The caller guarantees that the type has no handles if all predicates hold. It has `__core` in
/// scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __plain {
    (name: $name:ident where: [$($predicate:tt)*]) => {
        // SAFETY: the predicates hold for types without handles only, as the caller of this macro
        // guarantees, so the wire form has no pointer words.
        unsafe impl $crate::Plain for $name where $($predicate)* {}
        // SAFETY: the type is `Plain` under the same predicates, so `encode` writes no pointer
        // words.
        unsafe impl $crate::SendAs<$name> for $name where $($predicate)* {
            #[inline]
            fn encode(
                self,
                wire: &mut [u8],
                _: &mut $crate::Outgoing<'_>,
            ) -> __core::result::Result<(), $crate::CallError> {
                <Self as $crate::FfiType>::write(&self, wire);
                __core::result::Result::Ok(())
            }
        }
        // SAFETY: the type is `Plain` under the same predicates, so `encode` writes no pointer
        // words.
        unsafe impl $crate::SendAs<$name> for &$name where $($predicate)* {
            #[inline]
            fn encode(
                self,
                wire: &mut [u8],
                _: &mut $crate::Outgoing<'_>,
            ) -> __core::result::Result<(), $crate::CallError> {
                <$name as $crate::FfiType>::write(self, wire);
                __core::result::Result::Ok(())
            }
        }
    };
}

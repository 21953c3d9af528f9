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

/// Compares a pinned size with the size of a type.
///
/// ```text
/// input  = EXPR, TYPE
/// output = an item, or a compile error at the expression
/// ```
///
/// The caller has `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __pin {
    ($size:expr, $ty:ty) => {
        const _: () = {
            const __PINNED: __core::primitive::usize = $size;
            $crate::__private::mistakes::PinnedSize::<__PINNED, { __core::mem::size_of::<$ty>() }>
                .is($size);
        };
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

/// `Copy` for structs of wire twins. The code that derives make repeats the types of the fields, where an unknown type is
/// one more error.
///
/// ```text
/// input  = NAME*
/// output = items
/// ```
///
/// The caller has `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __copy {
    ($($name:ident)*) => { $(
        #[allow(clippy::expl_impl_clone_on_copy, reason = "a derive would repeat the types")]
        impl __core::clone::Clone for $name {
            #[inline]
            fn clone(&self) -> $name { *self }
        }
        impl __core::marker::Copy for $name {}
    )* };
}

/// A shared struct: the struct itself, with all its attributes.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] vis: [VISIBILITY] name: NAME lifetime: []
///          fields: [field*]
/// field  = { attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME type: TYPE = TYPE }
/// output = items: the struct, and a call of __shared_struct with the `#[cfg]` of each field
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __struct {
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt vis: $vis:tt name: $name:ident
        lifetime: [$lifetime:lifetime] $($fields:tt)*
    ) => {
        $crate::__view_struct! {
            cfg: $cfg attrs: $attrs size: $size vis: $vis name: $name lifetime: [$lifetime] $($fields)*
        }
    };
    (
        cfg: [$($cfg:tt)*]
        attrs: [$($attr:tt)*]
        size: $size:tt
        vis: [$vis:vis]
        name: $name:ident
        lifetime: []
        fields: [$( {
            attrs: [$($fattr:tt)*]
            vis: [$fvis:vis]
            name: $field:ident
            type: $ty:ty = $asked:ty
        } )*]
    ) => {
        $($cfg)*
        $($attr)*
        #[allow(
            dead_code, clippy::pub_underscore_fields,
            reason = "a crate need not use everything that it declares, and fields may be as \
                      visible as the struct"
        )]
        #[repr(C)]
        $vis struct $name { $( $($fattr)* $fvis $field: $ty, )* }
        $crate::__cfg_lists! {
            todo: [ $( { attrs: [$($fattr)*] vis: [$fvis] name: $field type: $ty = $asked } )* ]
            work: []
            done: []
            then: __shared_struct { cfg: [$($cfg)*] size: $size vis: [$vis] name: $name fields: }
        }
    };
}

/// What is generated beside a shared struct.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] size: [EXPR?] vis: [VISIBILITY] name: NAME fields: [field*]
/// field  = { cfg: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME type: TYPE = TYPE }
/// output = items: its twin `Shared` + name, and, in a `const _`, what `__struct_impls` makes
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __shared_struct {
    (
        cfg: [$($cfg:tt)*]
        size: $size:tt
        vis: [$vis:vis]
        name: $name:ident
        fields: [$( {
            cfg: [$($fcfg:tt)*]
            vis: [$fvis:vis]
            name: $field:ident
            type: $ty:ty = $asked:ty
        } )*]
    ) => {
        $crate::__private::paste::paste! {
            $($cfg)*
            #[allow(
                dead_code, nonstandard_style, unreachable_pub, missing_docs, missing_debug_implementations,
                reason = "users see the alias, and need not use it"
            )]
            mod [<__vmffi_ $name>] {
                // A glob that re-exports the alias alone is not linted if it gives way to an item of the user's. The key
                // itself is public, since the alias stands in public signatures.
                pub(super) mod __key { pub struct __Key; }
                #[doc = "The twin of `" $name "` that a sender fills, if that struct has handle fields."]
                pub type [<Shared $name>] = <__key::__Key as $crate::__private::Named>::Type;
            }
            $($cfg)*
            #[allow(
                unused_imports, ambiguous_glob_reexports,
                reason = "each module has a `__key`, which nobody uses"
            )]
            $vis use [<__vmffi_ $name>]::*;
            $($cfg)*
            #[allow(
                dead_code, deprecated, missing_docs, missing_debug_implementations, nonstandard_style,
                private_interfaces, unreachable_pub, unused_mut,
                reason = "a struct may have no fields, its names may be deprecated and of any style, and its \
                          twin is visible through an alias only"
            )]
            const _: () = {
                use $crate::__private as __p;
                use __p::core as __core;
                type __Checked = __p::Checked<{ $( $($fcfg)* { __p::crosses::<$asked>(); } )* 0 }>;
                impl __p::Item for $name {
                    type Checked = __Checked;
                }
                $( $($fcfg)* type [<__Type_ $field>] = <$ty as __p::Same<__Checked>>::T; )*
                // The twin is in a block of its own, outside of which are the types of the fields: one of them may have the
                // twin's name.
                const _: () = {
                    pub struct [<Shared $name>] {
                        $( $($fcfg)* $fvis $field: <[<__Type_ $field>] as $crate::FfiType>::Shared, )*
                    }
                    impl __p::Named for [<__vmffi_ $name>]::__key::__Key {
                        type Type = [<Shared $name>];
                    }
                    $crate::__struct_impls! {
                        size: $size
                        name: $name
                        twin: [<Shared $name>]
                        fields: [ $( {
                            cfg: [$($fcfg)*]
                            name: $field
                            local: [<__field_ $field>]
                            type: [<__Type_ $field>]
                        } )* ]
                    }
                };
            };
        }
    };
}

/// What makes a struct cross. The types of the fields have been asked for.
///
/// ```text
/// input  = size: [EXPR?] name: NAME twin: NAME fields: [field*]
/// field  = { cfg: [ATTRIBUTE*] name: NAME local: NAME type: TYPE }
/// output = items: `__Wire`, which has the layout of the wire form, and the impls
/// ```
///
/// `local` is the name of a variable for the field's value: a constant of the user's could have the field's own name, and a
/// pattern of that name would compare with the constant. The caller has `__p` and `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __struct_impls {
    (
        size: [$($size:expr)?]
        name: $name:ident
        twin: $twin:ident
        fields: [$( {
            cfg: [$($fcfg:tt)*]
            name: $field:ident
            local: $local:ident
            type: $ty:ty
        } )*]
    ) => {
        #[repr(C)]
        struct __Wire { $( $($fcfg)* $field: <$ty as $crate::FfiType>::Wire, )* }
        $crate::__copy! { __Wire }
        const _: () = {
            let mut __layout = __p::Rule::new();
            $( $($fcfg)* { __layout = __layout.field::<$ty>($crate::__offset!(__Wire, $field)); } )*
            __layout.check::<__Wire>();
        };
        $( $crate::__pin! { $size, __Wire } )?
        const __HANDLES: __core::primitive::bool = {
            let mut __handles = false;
            $( $($fcfg)* { __handles |= <$ty as $crate::FfiType>::HANDLES; } )*
            __handles
        };
        const __FIELDS: &[__p::Field] = &[ $( $($fcfg)* {
            $crate::__shape_of! {
                wire: __Wire
                field: $field
                name: [__core::stringify!($field)]
                type: $ty
            }
        }, )* ];
        // SAFETY: `__Wire` is `repr(C)`, and each of its fields is a wire twin, so any bytes are a
        // value of it. `unpack` decodes each field once, at the field's own offset.
        unsafe impl $crate::Unpackable for __Wire {
            type Output = $name;
            #[inline]
            fn unpack(
                __wire: &[__core::primitive::u8],
                __from: $crate::Incoming<'_>,
            ) -> __core::result::Result<$name, $crate::CallError> {
                // Every field is decoded before the first error is returned: dropping the good fields
                // releases what they own.
                $( $($fcfg)* let $local = __p::field::<$ty>(
                    __wire, $crate::__offset!(__Wire, $field), __core::stringify!($field), __from,
                ); )*
                __core::result::Result::Ok($name { $( $($fcfg)* $field: $local?, )* })
            }
        }
        // SAFETY: `decode` is `unpack`, which decodes each pointer word once, through the field that
        // holds it. `SHAPE` lists every field with its offset and its shape, so that structs of equal
        // `SHAPE` have their pointer words at the same places. If `ANY_BITS` is true, struct and `__Wire` have
        // no bytes but those of their fields, each at the same offset in both.
        unsafe impl $crate::FfiType for $name {
            type Wire = __p::BlockOf<
                { __core::mem::align_of::<__Wire>() },
                { __core::mem::size_of::<__Wire>() },
            >;
            type OptionWire = __p::Tagged<<$name as $crate::FfiType>::Wire>;
            type Shared = <__p::Bool<__HANDLES> as __p::Pick<$name, $twin>>::Out;
            const HANDLES: __core::primitive::bool = __HANDLES;
            const ANY_BITS: __core::primitive::bool = {
                let (mut __bits, mut __size) = (true, 0);
                $( $($fcfg)* {
                    __bits &= <$ty as $crate::FfiType>::ANY_BITS;
                    __bits &= $crate::__offset!($name, $field) == $crate::__offset!(__Wire, $field);
                    __size += __core::mem::size_of::<$ty>();
                } )*
                __bits
                    && __size == __core::mem::size_of::<$name>()
                    && __size == __core::mem::size_of::<__Wire>()
            };
            const SHAPE: &'static __p::Shape =
                &__p::Shape::structure::<__Wire>(__core::stringify!($name), __FIELDS);
            #[inline]
            fn decode(
                __wire: &[__core::primitive::u8],
                __from: $crate::Incoming<'_>,
            ) -> __core::result::Result<$name, $crate::CallError> {
                <__Wire as $crate::Unpackable>::unpack(__wire, __from)
            }
            #[inline]
            fn write(&self, __wire: &mut [__core::primitive::u8]) {
                $( $($fcfg)* {
                    __p::write::<$ty>(&self.$field, __wire, $crate::__offset!(__Wire, $field));
                } )*
            }
        }
        // SAFETY: each field is consumed by its own `SendAs`, which lends its pointer words through
        // `__out` and writes them at the field's offset in the wire form.
        unsafe impl $crate::SendAs<$name> for $twin {
            #[inline]
            fn encode(
                self,
                __wire: &mut [__core::primitive::u8],
                __out: &mut $crate::Outgoing<'_>,
            ) -> __core::result::Result<(), $crate::CallError> {
                $( $($fcfg)* {
                    __p::put::<$ty, _>(
                        self.$field, __wire, $crate::__offset!(__Wire, $field), __out,
                    )?;
                } )*
                __core::result::Result::Ok(())
            }
        }
        $crate::__plain! {
            name: $name
            where: [for<'x> __p::Flag<'x, __HANDLES>: __p::NoHandles]
        }
        impl __core::convert::From<$name> for $crate::Failure<$name> {
            fn from(__error: $name) -> $crate::Failure<$name> { $crate::Failure::App(__error) }
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
        $crate::__packed_plain! { type: $name where: [$($predicate)*] }
        // SAFETY: the type is `Plain` under the same predicates, so `encode` writes no pointer
        // words.
        unsafe impl $crate::SendAs<$name> for $name where $($predicate)* {
            #[inline]
            fn encode(
                self,
                __wire: &mut [__core::primitive::u8],
                _: &mut $crate::Outgoing<'_>,
            ) -> __core::result::Result<(), $crate::CallError> {
                <$name as $crate::FfiType>::write(&self, __wire);
                __core::result::Result::Ok(())
            }
        }
        // SAFETY: the type is `Plain` under the same predicates, so `encode` writes no pointer
        // words.
        unsafe impl $crate::SendAs<$name> for &$name where $($predicate)* {
            #[inline]
            fn encode(
                self,
                __wire: &mut [__core::primitive::u8],
                _: &mut $crate::Outgoing<'_>,
            ) -> __core::result::Result<(), $crate::CallError> {
                <$name as $crate::FfiType>::write(self, __wire);
                __core::result::Result::Ok(())
            }
        }
    };
}

//! Structs and enums with a lifetime: packed values (ABI, "Packed values").

/// A struct with a lifetime: the struct itself, with all its attributes.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] vis: [VISIBILITY] name: NAME lifetime: [LIFETIME]
///          fields: [field*]
/// field  = { attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME type: TYPE = TYPE }
/// output = items: the struct, and a call of __packed_struct with the `#[cfg]` of each field
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __view_struct {
    (
        cfg: [$($cfg:tt)*]
        attrs: [$($attr:tt)*]
        size: $size:tt
        vis: [$vis:vis]
        name: $name:ident
        lifetime: [$lifetime:lifetime]
        fields: [$( {
            attrs: [$($fattr:tt)*]
            vis: [$fvis:vis]
            name: $field:ident
            type: $ty:ty = $asked:ty
        } )*]
    ) => {
        $($cfg)*
        $($attr)*
        #[allow(dead_code, reason = "a crate need not use everything that it declares")]
        $vis struct $name<$lifetime> { $( $($fattr)* $fvis $field: $ty, )* }
        $crate::__cfg_lists! {
            todo: [ $( { attrs: [$($fattr)*] name: $field type: $ty } )* ]
            work: []
            done: []
            then: __packed_struct { cfg: [$($cfg)*] size: $size name: $name lifetime: $lifetime fields: }
        }
    };
}

/// What makes a struct with a lifetime a packed value.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] size: [EXPR?] name: NAME lifetime: LIFETIME fields: [field*]
/// field  = { cfg: [ATTRIBUTE*] name: NAME type: TYPE }
/// output = items in a `const _`: a constant that asks for the types, and what __packed_struct_impls makes
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __packed_struct {
    (
        cfg: [$($cfg:tt)*]
        size: [$($size:expr)?]
        name: $name:ident
        lifetime: $lifetime:lifetime
        fields: [$( {
            cfg: [$($fcfg:tt)*]
            name: $field:ident
            type: $ty:ty
        } )*]
    ) => {
        $($cfg)*
        #[allow(
            dead_code, deprecated, nonstandard_style, unused_mut, unused_variables,
            reason = "a struct may have no fields, and its names may be deprecated and of any style"
        )]
        const _: () = {
            use $crate::__private as __p;
            use __p::core as __core;
            struct __Asked<$lifetime>(&$lifetime ());
            impl<$lifetime> __Asked<$lifetime> {
                const ALL: __core::primitive::usize = { $( $($fcfg)* { __p::packs::<$ty>(); } )* 0 };
            }
            type __Checked = __p::Asked<{ <__Asked<'static>>::ALL }>;
            $crate::__packed_struct_impls! {
                size: [$($size)?]
                name: $name
                lifetime: $lifetime
                fields: [ $( {
                    cfg: [$($fcfg)*]
                    name: $field
                    type: <$ty as __p::Same<__Checked>>::T
                } )* ]
            }
        };
    };
}

/// What makes a struct with a lifetime a packed value. The types of the fields have been asked for.
///
/// ```text
/// input  = size: [EXPR?] name: NAME lifetime: LIFETIME fields: [field*]
/// field  = { cfg: [ATTRIBUTE*] name: NAME type: TYPE }
/// output = items: `__Wire`, which has the layout of the fixed part, and the impl
/// ```
///
/// The caller has `__p` and `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __packed_struct_impls {
    (
        size: [$($size:expr)?]
        name: $name:ident
        lifetime: $lifetime:lifetime
        fields: [$( {
            cfg: [$($fcfg:tt)*]
            name: $field:ident
            type: $ty:ty
        } )*]
    ) => {
        #[derive(__core::clone::Clone, __core::marker::Copy)]
        #[repr(C)]
        struct __Wire<$lifetime> {
            $( $($fcfg)* $field: <$ty as $crate::Packed>::Wire, )*
            __lifetime: __core::marker::PhantomData<&$lifetime ()>,
        }
        $( $crate::__pin! { $size, __Wire<'static> } )?
        // SAFETY: `pack`, `check` and `view` go through the fields in the order of the declaration, each at its own
        // offset of the fixed part. The view is the struct itself, whose fields are covariant because they are
        // `Packed`. `SHAPE` lists every field with its offset and its shape.
        unsafe impl<$lifetime> $crate::Packed for $name<$lifetime> {
            type Wire = __p::BlockOf<
                { __core::mem::align_of::<__Wire<'static>>() },
                { __core::mem::size_of::<__Wire<'static>>() },
            >;
            type View<'__v> = $name<'__v>;
            const SHAPE: &'static __p::Shape = {
                let mut __layout = __p::Rule::new();
                $( $($fcfg)* {
                    __layout = __layout.wire::<<$ty as $crate::Packed>::Wire>($crate::__offset!(__Wire,
                        $field));
                } )*
                __layout.check::<__Wire<'static>>();
                &__p::Shape::structure::<__Wire<'static>>(__core::stringify!($name), &[ $( $($fcfg)* {
                    __p::Field {
                        name: __core::stringify!($field),
                        offset: $crate::__offset!(__Wire, $field),
                        shape: <$ty as $crate::Packed>::SHAPE,
                    }
                }, )* ])
            };
            const DATA: __core::primitive::bool = {
                let mut __data = false;
                $( $($fcfg)* { __data |= <$ty as $crate::Packed>::DATA; } )*
                __data
            };
            #[inline]
            fn data_len(&self) -> __core::primitive::usize {
                let mut __len: __core::primitive::usize = 0;
                $( $($fcfg)* { __len = __len.saturating_add(<$ty as $crate::Packed>::data_len(&self.$field));
                    } )*
                __len
            }
            #[inline]
            fn pack(&self, __fixed: &mut [__core::primitive::u8], __data: &mut __p::Packer<'_>) {
                $( $($fcfg)* {
                    __p::pack_field::<$ty>(&self.$field, __fixed, $crate::__offset!(__Wire, $field), __data);
                } )*
            }
            #[inline]
            fn check(
                __fixed: &[__core::primitive::u8],
                __data: &mut __p::Unread<'_>,
            ) -> __core::result::Result<(), $crate::CallError> {
                $( $($fcfg)* {
                    __p::check_field::<$ty>(
                        __fixed, $crate::__offset!(__Wire, $field), __core::stringify!($field), __data,
                    )?;
                } )*
                __core::result::Result::Ok(())
            }
            #[inline]
            unsafe fn view<'__v>(__fixed: &'__v [__core::primitive::u8], __data: &mut __p::Unread<'__v>) ->
                $name<'__v> {
                $name { $(
                    // SAFETY: the caller promises that `check` has accepted the bytes, and so those of each field.
                    $($fcfg)* $field: unsafe {
                        __p::view_field::<$ty>(__fixed, $crate::__offset!(__Wire, $field), __data)
                    },
                )* }
            }
            #[inline]
            fn again(&self) -> $name<'_> {
                $name { $( $($fcfg)* $field: <$ty as $crate::Packed>::again(&self.$field), )* }
            }
        }
        // The layout is checked whether the type is used or not.
        const _: &__p::Shape = <$name<'static> as $crate::Packed>::SHAPE;
    };
}

/// An enum with a lifetime: the enum itself, with all its attributes.
///
/// ```text
/// input   = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME lifetime: [LIFETIME] repr: INTEGER
///           variants: [variant*]
/// variant = { attrs: [ATTRIBUTE*] name: NAME number: [EXPR?] fields: [fields?] values: [values?] }
/// fields  = { ( { attrs: [ATTRIBUTE*] name: NAME type: TYPE = TYPE } )* }
/// values  = ( ( { attrs: [ATTRIBUTE*] type: TYPE = TYPE } )* )
/// output  = a call of __tuple_variants, which goes on with the enum and leads to __packed_enum
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __view_enum {
    (
        cfg: [$($cfg:tt)*]
        attrs: [$($attr:tt)*]
        vis: [$vis:vis]
        name: $name:ident
        lifetime: [$lifetime:lifetime]
        repr: $repr:ident
        variants: [$( {
            attrs: [$($vattr:tt)*]
            name: $variant:ident
            number: [$($number:expr)?]
            fields: [$( { $( { attrs: [$($fattr:tt)*] name: $field:ident type: $ty:ty = $asked:ty } )* } )?]
            values: [$( ( $( { attrs: [$($tattr:tt)*] type: $value:ty = $asked_value:ty } )* ) )?]
        } )*]
    ) => {
        $crate::__tuple_variants! {
            variants: [$( {
                attrs: [$($vattr)*]
                name: $variant
                number: [$($number)?]
                fields: [$( $( {
                    attrs: [$($fattr)*]
                    member: $field
                    label: [$crate::__private::core::stringify!($field)]
                    type: $ty
                } )* )?]
                values: [$( $( { attrs: [$($tattr)*] type: $value } )* )?]
            } )*]
            item: {
                good: {
                    $($cfg)*
                    $($attr)*
                    #[allow(dead_code, reason = "a crate need not use everything that it declares")]
                    #[repr($repr)]
                    $vis enum $name<$lifetime> { $(
                        $($vattr)* $variant
                            $( { $( $($fattr)* $field: $ty, )* } )?
                            $( ( $( $($tattr)* $value, )* ) )?
                            $( = $number )?,
                    )* }
                }
                wrong: { $crate::__stand_in! { enum vis: [$vis] name: $name lifetime: [$lifetime] } }
            }
            then: { cfg: [$($cfg)*] name: $name lifetime: $lifetime repr: $repr variants: }
        }
    };
}

/// What makes an enum with a lifetime a packed value.
///
/// ```text
/// input   = name: NAME lifetime: LIFETIME repr: INTEGER variants: [variant*]
/// variant = { cfg: [ATTRIBUTE*] name: NAME number: [EXPR?] wire: NAME fields: [field*] }
/// field   = { cfg: [ATTRIBUTE*] member: NAME | NUMBER label: [EXPR] local: NAME type: TYPE }
/// output  = items: `__Wire`, which has the layout of the fixed part, and the impl
/// ```
///
/// `__Wire`, `wire` and `local` are as in `__data_enum_impls`. The caller has `__p` and `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __packed_enum {
    (
        name: $name:ident
        lifetime: $lifetime:lifetime
        repr: $repr:ident
        variants: [$( {
            cfg: [$($vcfg:tt)*]
            name: $variant:ident
            number: [$($number:expr)?]
            wire: $wire:ident
            fields: [$( {
                cfg: [$($fcfg:tt)*]
                member: $member:tt
                label: $label:tt
                local: $local:ident
                type: $ty:ty
            } )*]
        } )*]
    ) => {
        type __Int = __core::primitive::$repr;
        $crate::__numbers! {
            variants: [$( { cfg: [$($vcfg)*] name: $variant number: [$($number)?] } )*]
        }
        $(
            $($vcfg)*
            #[derive(__core::clone::Clone, __core::marker::Copy)]
            #[repr(C)]
            struct $wire<$lifetime> {
                __tag: <__Int as $crate::Packed>::Wire,
                $( $($fcfg)* $local: <$ty as $crate::Packed>::Wire, )*
                __lifetime: __core::marker::PhantomData<&$lifetime ()>,
            }
        )*
        #[derive(__core::clone::Clone, __core::marker::Copy)]
        #[repr(C)]
        union __Wire<$lifetime> {
            __tag: <__Int as $crate::Packed>::Wire,
            $( $($vcfg)* $variant: $wire<$lifetime>, )*
        }
        // SAFETY: `pack`, `check` and `view` tell the variant by the same number, and go through its fields in the order of
        // the declaration, each at its own offset of the fixed part. The view is the enum itself, whose fields are covariant
        // because they are `Packed`. `SHAPE` lists every variant with its fields, their offsets and their shapes.
        unsafe impl<$lifetime> $crate::Packed for $name<$lifetime> {
            type Wire = __p::BlockOf<
                { __core::mem::align_of::<__Wire<'static>>() },
                { __core::mem::size_of::<__Wire<'static>>() },
            >;
            type View<'__v> = $name<'__v>;
            const SHAPE: &'static __p::Shape = {
                $( $($vcfg)* {
                    let mut __layout = __p::Rule::new()
                        .wire::<<__Int as $crate::Packed>::Wire>($crate::__offset!($wire, __tag));
                    $( $($fcfg)* {
                        __layout = __layout.wire::<<$ty as $crate::Packed>::Wire>($crate::__offset!($wire,
                            $local));
                    } )*
                    __layout.check::<$wire<'static>>();
                } )*
                &__p::Shape::enumeration::<__Wire<'static>>(
                    __core::stringify!($name),
                    __core::stringify!($repr),
                    &[ $( $($vcfg)* __p::Variant {
                        name: __core::stringify!($variant),
                        number: __Number::$variant as __core::primitive::u64,
                        fields: &[ $( $($fcfg)* {
                            __p::Field {
                                name: $crate::__label!($label),
                                offset: $crate::__offset!($wire, $local),
                                shape: <$ty as $crate::Packed>::SHAPE,
                            }
                        }, )* ],
                    }, )* ],
                )
            };
            const DATA: __core::primitive::bool = {
                let mut __data = false;
                $( $($vcfg)* { $( $($fcfg)* { __data |= <$ty as $crate::Packed>::DATA; } )* } )*
                __data
            };
            #[inline]
            fn data_len(&self) -> __core::primitive::usize {
                match self { $( $($vcfg)* $name::$variant { $( $($fcfg)* $member: $local, )* } => {
                    let mut __len: __core::primitive::usize = 0;
                    $( $($fcfg)* { __len = __len.saturating_add(<$ty as $crate::Packed>::data_len($local)); }
                        )*
                    __len
                } )* }
            }
            #[inline]
            fn pack(&self, __fixed: &mut [__core::primitive::u8], __data: &mut __p::Packer<'_>) {
                match self { $( $($vcfg)* $name::$variant { $( $($fcfg)* $member: $local, )* } => {
                    __p::pack_field::<__Int>(&__Number::$variant, __fixed, 0, __data);
                    $( $($fcfg)* {
                        __p::pack_field::<$ty>($local, __fixed, $crate::__offset!($wire, $local), __data);
                    } )*
                } )* }
            }
            #[inline]
            fn check(
                __fixed: &[__core::primitive::u8],
                __data: &mut __p::Unread<'_>,
            ) -> __core::result::Result<(), $crate::CallError> {
                let __tag = __p::tag::<__Int>(__fixed)?;
                $( $($vcfg)* if __tag == __Number::$variant {
                    $( $($fcfg)* {
                        __p::check_field::<$ty>(
                            __fixed, $crate::__offset!($wire, $local), $crate::__label!($label), __data,
                        )?;
                    } )*
                    return __core::result::Result::Ok(());
                } )*
                __core::result::Result::Err($crate::CallError::new($crate::ErrorKind::BadValue))
            }
            #[inline]
            unsafe fn view<'__v>(__fixed: &'__v [__core::primitive::u8], __data: &mut __p::Unread<'__v>) ->
                $name<'__v> {
                let __tag = __p::tag::<__Int>(__fixed);
                $( $($vcfg)* if __tag == __core::result::Result::Ok(__Number::$variant) {
                    return $name::$variant { $(
                        // SAFETY: the caller promises that `check` has accepted the bytes, and so those of each field.
                        $($fcfg)* $member: unsafe {
                            __p::view_field::<$ty>(__fixed, $crate::__offset!($wire, $local), __data)
                        },
                    )* };
                } )*
                __core::panic!("internal error: the number of an enum was accepted, and no variant has it")
            }
            #[inline]
            fn again(&self) -> $name<'_> {
                match self { $( $($vcfg)* $name::$variant { $( $($fcfg)* $member: $local, )* } => {
                    $name::$variant { $( $($fcfg)* $member: <$ty as $crate::Packed>::again($local), )* }
                } )* }
            }
        }
        const _: &__p::Shape = <$name<'static> as $crate::Packed>::SHAPE;
    };
}

//! Structs and enums with a lifetime: packed values (ABI, "Packed values").

/// A struct with a lifetime: the struct itself, with all its attributes.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] vis: [VISIBILITY] name: NAME lifetime: LIFETIME
///          fields: [field*]
/// field  = { attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME type: TYPE }
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
        lifetime: $lifetime:lifetime
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
/// output = items in a `const _`: `__Wire`, which has the layout of the fixed part, and the impl
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
            #[derive(__core::clone::Clone, __core::marker::Copy)]
            #[repr(C)]
            struct __Wire<$lifetime> {
                $( $($fcfg)* $field: <$ty as $crate::Packed>::Wire, )*
                __lifetime: __core::marker::PhantomData<&$lifetime ()>,
            }
            $( __p::pin(__core::stringify!($name), __core::mem::size_of::<__Wire>(), $size); )?
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
                        __layout = __layout.wire::<<$ty as $crate::Packed>::Wire>($crate::__offset!(__Wire, $field));
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
                const DATA: bool = {
                    let mut __data = false;
                    $( $($fcfg)* { __data |= <$ty as $crate::Packed>::DATA; } )*
                    __data
                };
                #[inline]
                fn data_len(&self) -> usize {
                    let mut __len = 0_usize;
                    $( $($fcfg)* { __len = __len.saturating_add($crate::Packed::data_len(&self.$field)); } )*
                    __len
                }
                #[inline]
                fn pack(&self, __fixed: &mut [u8], __data: &mut __p::Packer<'_>) {
                    $( $($fcfg)* {
                        __p::pack_field::<$ty>(&self.$field, __fixed, $crate::__offset!(__Wire, $field), __data);
                    } )*
                }
                #[inline]
                fn check(
                    __fixed: &[u8],
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
                unsafe fn view<'__v>(__fixed: &'__v [u8], __data: &mut __p::Unread<'__v>) -> $name<'__v> {
                    $name { $(
                        // SAFETY: the caller promises that `check` has accepted the bytes, and so those of each field.
                        $($fcfg)* $field: unsafe {
                            __p::view_field::<$ty>(__fixed, $crate::__offset!(__Wire, $field), __data)
                        },
                    )* }
                }
                #[inline]
                fn again(&self) -> $name<'_> {
                    $name { $( $($fcfg)* $field: $crate::Packed::again(&self.$field), )* }
                }
            }
            // The layout is checked, and the lists of the type are, whether it is used or not.
            const _: &__p::Shape = <$name<'static> as $crate::Packed>::SHAPE;
        };
    };
}

//! Shared enums: enums that are an integer alone, and enums whose variants have values.

/// Checks that an enum crosses as an integer, and goes on if it does.
///
/// ```text
/// input  = repr: IDENT vis: [VISIBILITY] enum: NAME lifetime: [LIFETIME?] then: { ITEM* }
/// output = the items, or a compile error
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __integer {
    (repr: u8 vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) => { $($item)* };
    (repr: u16 vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) => { $($item)* };
    (repr: u32 vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) => { $($item)* };
    (repr: u64 vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) => { $($item)* };
    (repr: usize vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) =>
        { $($item)* };
    (repr: i8 vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) => { $($item)* };
    (repr: i16 vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) => { $($item)* };
    (repr: i32 vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) => { $($item)* };
    (repr: i64 vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) => { $($item)* };
    (repr: isize vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) =>
        { $($item)* };
    (repr: $repr:tt vis: $vis:tt enum: $name:ident lifetime: $lifetime:tt then: { $($item:tt)* }) => {
        $crate::__at_word! { repr $repr }
        $crate::__stand_in! { enum vis: $vis name: $name lifetime: $lifetime }
    };
}

/// The numbers of an enum's variants, counted as the language counts them.
///
/// ```text
/// input   = variants: [variant*]
/// variant = { cfg: [ATTRIBUTE*] name: NAME number: [EXPR?] }
/// output  = items: `__Number`, which has a constant for each variant
/// ```
///
/// If two are equal or one overflows, the user's enum is an error, and these numbers are not one more. Of one of another type the
/// compiler says the same as in the user's enum, and drops the second error. The caller has `__Int` and `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __numbers {
    (
        variants: [$( {
            cfg: [$($vcfg:tt)*]
            name: $variant:ident
            number: [$($number:expr)?]
        } )*]
    ) => {
        enum __Index { $( $($vcfg)* $variant, )* }
        const __COUNT: __core::primitive::usize = [$( $($vcfg)* (), )*].len();
        #[allow(overflowing_literals, unused_assignments, reason =
            "such a literal is an error in the user's enum")]
        const __NUMBERS: [__Int; __COUNT] = {
            let mut __all = [0; __COUNT];
            let mut __next: __Int = 0;
            $( $($vcfg)* {
                $(
                    const __NUMBER: __Int = $number;
                    __next = __NUMBER;
                )?
                __all[__Index::$variant as __core::primitive::usize] = __next;
                __next = __next.wrapping_add(1);
            } )*
            __all
        };
        struct __Number;
        impl __Number { $(
            $($vcfg)*
            const $variant: __Int = __NUMBERS[__Index::$variant as __core::primitive::usize];
        )* }
    };
}

/// An enum without values, which is its integer, both in memory and in a register: the enum itself, with all its
/// attributes.
///
/// ```text
/// input   = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME repr: INTEGER
///           variants: [variant*]
/// variant = { attrs: [ATTRIBUTE*] name: NAME number: [EXPR?] }
/// output  = items: the enum, and a call of __shared_enum with the `#[cfg]` of each variant
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __enum {
    (
        cfg: [$($cfg:tt)*]
        attrs: [$($attr:tt)*]
        vis: [$vis:vis]
        name: $name:ident
        repr: $repr:ident
        variants: [$( {
            attrs: [$($vattr:tt)*]
            name: $variant:ident
            number: [$($number:expr)?]
        } )*]
    ) => {
        $($cfg)*
        $($attr)*
        #[allow(dead_code, reason = "a crate need not use everything that it declares")]
        #[repr($repr)]
        $vis enum $name { $( $($vattr)* $variant $( = $number )?, )* }
        $crate::__cfg_lists! {
            todo: [ $( { attrs: [$($vattr)*] name: $variant number: [$($number)?] } )* ]
            work: []
            done: []
            then: __shared_enum { cfg: [$($cfg)*] name: $name repr: $repr variants: }
        }
    };
}

/// What is generated beside an enum without values.
///
/// ```text
/// input   = cfg: [ATTRIBUTE*] name: NAME repr: INTEGER variants: [variant*]
/// variant = { cfg: [ATTRIBUTE*] name: NAME number: [EXPR?] }
/// output  = items: the impls, in a `const _`
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __shared_enum {
    (
        cfg: [$($cfg:tt)*]
        name: $name:ident
        repr: $repr:ident
        variants: [$( {
            cfg: [$($vcfg:tt)*]
            name: $variant:ident
            number: [$($number:expr)?]
        } )*]
    ) => {
        $($cfg)*
        #[allow(
            dead_code, deprecated, nonstandard_style,
            reason = "names of variants may be deprecated and of any style"
        )]
        const _: () = {
            use $crate::__private as __p;
            use __p::core as __core;
            type __Int = __core::primitive::$repr;
            $crate::__numbers! {
                variants: [$( { cfg: [$($vcfg)*] name: $variant number: [$($number)?] } )*]
            }
            const __VARIANTS: &[__p::Variant] = &[ $(
                $($vcfg)* __p::Variant {
                    name: __core::stringify!($variant),
                    number: __Number::$variant as __core::primitive::u64,
                    fields: &[],
                },
            )* ];
            // SAFETY: the wire form is one integer, so it has no pointer words, and neither has
            // that of any other type of equal `SHAPE`.
            unsafe impl $crate::FfiType for $name {
                type Wire = <__Int as $crate::FfiType>::Wire;
                type OptionWire = __p::Tagged<<__Int as $crate::FfiType>::Wire>;
                type Shared = $name;
                const HANDLES: __core::primitive::bool = false;
                const WIDE: __core::primitive::bool = false;
                const SHAPE: &'static __p::Shape =
                    &__p::Shape::enumeration::<<__Int as $crate::FfiType>::Wire>(
                    __core::stringify!($name),
                    __core::stringify!($repr),
                    __VARIANTS,
                );
                #[inline]
                fn decode(
                    __wire: &[__core::primitive::u8],
                    __from: $crate::Incoming<'_>,
                ) -> __core::result::Result<$name, $crate::CallError> {
                    let __tag = <__Int as $crate::FfiType>::decode(__wire, __from)?;
                    $( $($vcfg)* if __tag == __Number::$variant {
                        return __core::result::Result::Ok($name::$variant {});
                    } )*
                    __core::result::Result::Err($crate::CallError::new($crate::ErrorKind::BadValue))
                }
                fn from_transport(
                    __transport: $crate::abi::Transport,
                    __from: $crate::Incoming<'_>,
                ) -> __core::result::Result<$name, $crate::CallError> {
                    let __tag = <__Int as $crate::FfiType>::from_transport(__transport, __from)?;
                    $( $($vcfg)* if __tag == __Number::$variant {
                        return __core::result::Result::Ok($name::$variant {});
                    } )*
                    __core::result::Result::Err($crate::CallError::new($crate::ErrorKind::BadValue))
                }
                #[inline]
                fn write(&self, __wire: &mut [__core::primitive::u8]) {
                    let __tag = match *self {
                        $( $($vcfg)* $name::$variant {} => __Number::$variant, )*
                    };
                    <__Int as $crate::FfiType>::write(&__tag, __wire);
                }
            }
            // SAFETY: the wire form is one integer, so `decode` makes no handles.
            unsafe impl $crate::Plain for $name {}
            $crate::__packed_plain! { type: $name where: [] }
            // SAFETY: the wire form is one integer, so neither `encode` nor `into_transport` makes
            // pointer words.
            unsafe impl $crate::SendAs<$name> for $name {
                #[inline]
                fn encode(
                    self,
                    __wire: &mut [__core::primitive::u8],
                    _: &mut $crate::Outgoing<'_>,
                ) -> __core::result::Result<(), $crate::CallError> {
                    <$name as $crate::FfiType>::write(&self, __wire);
                    __core::result::Result::Ok(())
                }
                fn into_transport(
                    self,
                    __out: &mut $crate::Outgoing<'_>,
                ) -> __core::result::Result<$crate::abi::Transport, $crate::CallError> {
                    let __tag = match self {
                        $( $($vcfg)* $name::$variant {} => __Number::$variant, )*
                    };
                    <__Int as $crate::SendAs<__Int>>::into_transport(__tag, __out)
                }
            }
            impl __core::convert::From<$name> for $crate::Failure<$name> {
                fn from(__error: $name) -> $crate::Failure<$name> { $crate::Failure::App(__error) }
            }
        };
    };
}

/// An enum whose variants have values: the enum itself, with all its attributes.
///
/// ```text
/// input   = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME lifetime: [] repr: INTEGER
///           variants: [variant*]
/// variant = { attrs: [ATTRIBUTE*] name: NAME number: [EXPR?] fields: [fields?] values: [values?] }
/// fields  = { ( { attrs: [ATTRIBUTE*] name: NAME type: TYPE = TYPE } )* }
/// values  = ( ( { attrs: [ATTRIBUTE*] type: TYPE = TYPE } )* )
/// output  = a call of __tuple_variants, which goes on with the enum and with __shared_data_enum
/// ```
///
/// `Variant { .. }` has `fields`, `Variant(Type, ..)` has `values`, and `Variant` has neither.
#[doc(hidden)]
#[macro_export]
macro_rules! __data_enum {
    (
        cfg: $cfg:tt attrs: $attrs:tt vis: $vis:tt name: $name:ident
        lifetime: [$lifetime:lifetime] $($variants:tt)*
    ) => {
        $crate::__view_enum! {
            cfg: $cfg attrs: $attrs vis: $vis name: $name lifetime: [$lifetime] $($variants)*
        }
    };
    (
        cfg: [$($cfg:tt)*]
        attrs: [$($attr:tt)*]
        vis: [$vis:vis]
        name: $name:ident
        lifetime: []
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
                    type: $ty = $asked
                } )* )?]
                values: [$( $( { attrs: [$($tattr)*] type: $value = $asked_value } )* )?]
            } )*]
            item: {
                good: {
                    $($cfg)*
                    $($attr)*
                    #[allow(dead_code, reason = "a crate need not use everything that it declares")]
                    #[repr($repr)]
                    $vis enum $name { $(
                        $($vattr)* $variant
                            $( { $( $($fattr)* $field: $ty, )* } )?
                            $( ( $( $($tattr)* $value, )* ) )?
                            $( = $number )?,
                    )* }
                }
                wrong: { $crate::__stand_in! { enum vis: [$vis] name: $name lifetime: [] } }
            }
            then: { cfg: [$($cfg)*] name: $name repr: $repr variants: }
        }
    };
}

/// What is generated beside an enum whose variants have values.
///
/// ```text
/// input   = cfg: [ATTRIBUTE*] name: NAME repr: INTEGER variants: [variant*]
/// variant = { cfg: [ATTRIBUTE*] name: NAME number: [EXPR?] fields: [field*] }
/// field   = { cfg: [ATTRIBUTE*] member: NAME | NUMBER label: [EXPR] type: TYPE = TYPE }
/// output  = items: what `__data_enum_impls` makes, in a `const _`
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __shared_data_enum {
    // The types have names, behind which they stand.
    (careful: $($input:tt)*) => {
        $crate::__careful_variants! { $($input)* }
    };
    (
        cfg: [$($cfg:tt)*]
        name: $name:ident
        repr: $repr:ident
        variants: [$( {
            cfg: [$($vcfg:tt)*]
            name: $variant:ident
            number: $number:tt
            fields: [$( {
                cfg: [$($fcfg:tt)*]
                member: $member:tt
                label: $label:tt
                type: $ty:ty = $asked:ty
            } )*]
        } )*]
    ) => {
        $crate::__private::paste::paste! {
            $($cfg)*
            #[allow(
                dead_code, deprecated, nonstandard_style, unused_mut, unused_variables,
                reason = "variants may have no fields, and names may be deprecated and of any style"
            )]
            const _: () = {
                use $crate::__private as __p;
                use __p::core as __core;
                type __Checked = __p::Checked<{ $( $($vcfg)* {
                    $( $($fcfg)* { __p::crosses::<$asked>(); } )*
                } )* 0 }>;
                impl __p::Item for $name {
                    type Checked = __Checked;
                }
                // The impls rest on this: a value without handles has no pointer words.
                const _: () = { $( $($vcfg)* { $( $($fcfg)* { __p::plain::<$asked, __Checked>(); } )* } )* };
                $crate::__data_enum_impls! {
                    name: $name
                    repr: $repr
                    variants: [ $( {
                        cfg: [$($vcfg)*]
                        name: $variant
                        number: $number
                        wire: [<__In $variant>]
                        fields: [ $( {
                            cfg: [$($fcfg)*]
                            member: $member
                            label: $label
                            local: [<__field_ $member>]
                            type: <$ty as __p::Same<__Checked>>::T
                        } )* ]
                    } )* ]
                }
            };
        }
    };
    // An enum with a lifetime.
    (
        cfg: [$($cfg:tt)*]
        name: $name:ident
        lifetime: $lifetime:lifetime
        repr: $repr:ident
        variants: [$( {
            cfg: [$($vcfg:tt)*]
            name: $variant:ident
            number: $number:tt
            fields: [$( {
                cfg: [$($fcfg:tt)*]
                member: $member:tt
                label: $label:tt
                type: $ty:ty
            } )*]
        } )*]
    ) => {
        $crate::__private::paste::paste! {
            $($cfg)*
            #[allow(
                dead_code, deprecated, nonstandard_style, unused_mut, unused_variables,
                reason = "variants may have no fields, and names may be deprecated and of any style"
            )]
            const _: () = {
                use $crate::__private as __p;
                use __p::core as __core;
                struct __Asked<$lifetime>(&$lifetime ());
                impl<$lifetime> __Asked<$lifetime> {
                    const ALL: __core::primitive::usize = { $( $($vcfg)* {
                        $( $($fcfg)* { __p::packs::<$ty>(); } )*
                    } )* 0 };
                }
                type __Checked = __p::Asked<{ <__Asked<'static>>::ALL }>;
                $crate::__packed_enum! {
                    name: $name
                    lifetime: $lifetime
                    repr: $repr
                    variants: [ $( {
                        cfg: [$($vcfg)*]
                        name: $variant
                        number: $number
                        wire: [<__In $variant>]
                        fields: [ $( {
                            cfg: [$($fcfg)*]
                            member: $member
                            label: $label
                            local: [<__field_ $member>]
                            type: <$ty as __p::Same<__Checked>>::T
                        } )* ]
                    } )* ]
                }
            };
        }
    };
}

/// What makes an enum with values cross. The types of the fields have been asked for.
///
/// ```text
/// input   = name: NAME repr: INTEGER variants: [variant*]
/// variant = { cfg: [ATTRIBUTE*] name: NAME number: [EXPR?] wire: NAME fields: [field*] }
/// field   = { cfg: [ATTRIBUTE*] member: NAME | NUMBER label: [EXPR] local: NAME type: TYPE }
/// output  = items: `__Wire`, which has the layout of the wire form, and the impls
/// ```
///
/// `__Wire` is a union of one `repr(C)` struct a variant, `wire`. Each begins with the integer, `__tag`, so that the
/// integer lies at the same place for all variants. `local` is the name of a field's place in that struct and of a
/// variable for its value, as in `__struct_impls`. The caller has `__p` and `__core` in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __data_enum_impls {
    (
        name: $name:ident
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
            #[repr(C)]
            struct $wire {
                __tag: <__Int as $crate::FfiType>::Wire,
                $( $($fcfg)* $local: <$ty as $crate::FfiType>::Wire, )*
            }
            $($vcfg)*
            $crate::__copy! { $wire }
        )*
        $crate::__copy! { __Wire }
        #[repr(C)]
        union __Wire {
            __tag: <__Int as $crate::FfiType>::Wire,
            $( $($vcfg)* $variant: $wire, )*
        }
        $( $($vcfg)* const _: () = {
            let mut __layout = __p::Rule::new().field::<__Int>($crate::__offset!($wire, __tag));
            $( $($fcfg)* { __layout = __layout.field::<$ty>($crate::__offset!($wire, $local)); } )*
            __layout.check::<$wire>();
        }; )*
        const __VARIANTS: &[__p::Variant] = &[ $( $($vcfg)* __p::Variant {
            name: __core::stringify!($variant),
            number: __Number::$variant as __core::primitive::u64,
            fields: &[ $( $($fcfg)* {
                $crate::__shape_of! { wire: $wire field: $local name: $label type: $ty }
            }, )* ],
        }, )* ];
        // SAFETY: `__shared_data_enum` has checked that the values of all variants are without handles,
        // so the wire form has no pointer words, and neither has that of any other type of equal
        // `SHAPE`.
        unsafe impl $crate::FfiType for $name {
            type Wire = __p::BlockOf<
                { __core::mem::align_of::<__Wire>() },
                { __core::mem::size_of::<__Wire>() },
            >;
            type OptionWire = __p::Tagged<<$name as $crate::FfiType>::Wire>;
            type Shared = $name;
            const HANDLES: __core::primitive::bool = false;
            const SHAPE: &'static __p::Shape = &__p::Shape::enumeration::<__Wire>(
                __core::stringify!($name),
                __core::stringify!($repr),
                __VARIANTS,
            );
            #[inline]
            fn decode(
                __wire: &[__core::primitive::u8],
                __from: $crate::Incoming<'_>,
            ) -> __core::result::Result<$name, $crate::CallError> {
                let __tag = __p::field::<__Int>(__wire, 0, "", __from)?;
                $( $($vcfg)* if __tag == __Number::$variant {
                    return __core::result::Result::Ok($name::$variant { $(
                        $($fcfg)* $member: __p::field::<$ty>(
                            __wire, $crate::__offset!($wire, $local), $crate::__label!($label), __from,
                        )?,
                    )* });
                } )*
                __core::result::Result::Err($crate::CallError::new($crate::ErrorKind::BadValue))
            }
            #[inline]
            fn write(&self, __wire: &mut [__core::primitive::u8]) {
                match self { $(
                    $($vcfg)* $name::$variant { $( $($fcfg)* $member: $local, )* } => {
                        __p::write::<__Int>(&__Number::$variant, __wire, 0);
                        $( $($fcfg)* {
                            __p::write::<$ty>($local, __wire, $crate::__offset!($wire, $local));
                        } )*
                    }
                )* }
            }
        }
        $crate::__plain! { name: $name where: [] }
        impl __core::convert::From<$name> for $crate::Failure<$name> {
            fn from(__error: $name) -> $crate::Failure<$name> { $crate::Failure::App(__error) }
        }
    };
}

/// The label of a field.
///
/// ```text
/// input  = [EXPR]
/// output = the expression
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __label {
    ([$label:expr]) => {
        $label
    };
}

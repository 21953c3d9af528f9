//! Shared enums: enums that are an integer alone, and enums whose variants have values.

/// Checks that an enum crosses as an integer, and goes on if it does.
///
/// ```text
/// input  = repr: IDENT enum: NAME then: { ITEM* }
/// output = the items, or a compile error
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __integer {
    (repr: u8 enum: $name:ident then: { $($item:tt)* }) => { $($item)* };
    (repr: u16 enum: $name:ident then: { $($item:tt)* }) => { $($item)* };
    (repr: u32 enum: $name:ident then: { $($item:tt)* }) => { $($item)* };
    (repr: u64 enum: $name:ident then: { $($item:tt)* }) => { $($item)* };
    (repr: usize enum: $name:ident then: { $($item:tt)* }) => { $($item)* };
    (repr: i8 enum: $name:ident then: { $($item:tt)* }) => { $($item)* };
    (repr: i16 enum: $name:ident then: { $($item:tt)* }) => { $($item)* };
    (repr: i32 enum: $name:ident then: { $($item:tt)* }) => { $($item)* };
    (repr: i64 enum: $name:ident then: { $($item:tt)* }) => { $($item)* };
    (repr: isize enum: $name:ident then: { $($item:tt)* }) => { $($item)* };
    (repr: $repr:ident enum: $name:ident then: { $($item:tt)* }) => {
        $crate::__say! {
            "enum `" {$name} "` crosses as an integer of at most 64 bits, as in "
            "`enum " {$name} ": u32 { .. }`"
        }
    };
}

/// An enum without values, which is its integer, both in memory and in a register.
///
/// ```text
/// input   = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME repr: INTEGER
///           variants: [variant*]
/// variant = { attrs: [ATTRIBUTE*] name: NAME number: [EXPR?] }
/// output  = items: the enum, and its impls in a `const _`
/// ```
///
/// `__Tag` repeats the enum to compute the numbers: only a `Copy` enum can be cast behind a
/// reference, and the user's enum need not be `Copy`.
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
        $($cfg)*
        #[allow(
            unused_doc_comments, dead_code, unused_mut, deprecated,
            reason = "attributes of variants are repeated on code, and users do not see these items"
        )]
        const _: () = {
            use $crate::__private::core as __core;
            #[repr($repr)]
            enum __Tag { $( $($vattr)* $variant $( = $number )?, )* }
            const __VARIANTS: &[$crate::__private::Variant] = &[ $(
                $($vattr)* $crate::__private::Variant {
                    name: __core::stringify!($variant),
                    number: __Tag::$variant as $repr as u64,
                    fields: &[],
                },
            )* ];
            // SAFETY: the wire form is one integer, so it has no pointer words, and neither has
            // that of any other type of equal `SHAPE`.
            unsafe impl $crate::FfiType for $name {
                type Wire = <$repr as $crate::FfiType>::Wire;
                type OptionWire = $crate::__private::Tagged<Self::Wire>;
                type Shared = $name;
                const HANDLES: bool = false;
                const SHAPE: &'static $crate::__private::Shape =
                    &$crate::__private::Shape::enumeration::<Self::Wire>(
                    __core::stringify!($name),
                    __core::stringify!($repr),
                    __VARIANTS,
                );
                fn decode(
                    wire: &[u8],
                    from: $crate::Incoming<'_>,
                ) -> __core::result::Result<Self, $crate::CallError> {
                    let tag = <$repr as $crate::FfiType>::decode(wire, from)?;
                    $( $($vattr)* if tag == __Tag::$variant as $repr {
                        return __core::result::Result::Ok($name::$variant);
                    } )*
                    __core::result::Result::Err($crate::CallError::new($crate::ErrorKind::BadValue))
                }
                fn from_transport(
                    transport: $crate::abi::Transport,
                    from: $crate::Incoming<'_>,
                ) -> __core::result::Result<Self, $crate::CallError> {
                    let tag = <$repr as $crate::FfiType>::from_transport(transport, from)?;
                    $( $($vattr)* if tag == __Tag::$variant as $repr {
                        return __core::result::Result::Ok($name::$variant);
                    } )*
                    __core::result::Result::Err($crate::CallError::new($crate::ErrorKind::BadValue))
                }
                fn write(&self, wire: &mut [u8]) {
                    let tag = match *self {
                        $( $($vattr)* $name::$variant => __Tag::$variant as $repr, )*
                    };
                    <$repr as $crate::FfiType>::write(&tag, wire);
                }
            }
            // SAFETY: the wire form is one integer, so `decode` makes no handles.
            unsafe impl $crate::Plain for $name {}
            // SAFETY: the wire form is one integer, so neither `encode` nor `into_transport` makes
            // pointer words.
            unsafe impl $crate::SendAs<$name> for $name {
                #[inline]
                fn encode(
                    self,
                    wire: &mut [u8],
                    _: &mut $crate::Outgoing<'_>,
                ) -> __core::result::Result<(), $crate::CallError> {
                    <Self as $crate::FfiType>::write(&self, wire);
                    __core::result::Result::Ok(())
                }
                fn into_transport(
                    self,
                    out: &mut $crate::Outgoing<'_>,
                ) -> __core::result::Result<$crate::abi::Transport, $crate::CallError> {
                    let tag = match self {
                        $( $($vattr)* $name::$variant => __Tag::$variant as $repr, )*
                    };
                    <$repr as $crate::SendAs<$repr>>::into_transport(tag, out)
                }
            }
            impl __core::convert::From<$name> for $crate::Failure<$name> {
                fn from(error: $name) -> Self { Self::App(error) }
            }
        };
    };
}

/// An enum whose variants have values.
///
/// ```text
/// input   = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME repr: INTEGER
///           variants: [variant*]
/// variant = { attrs: [ATTRIBUTE*] name: NAME fields: [fields?] value: [TYPE?] number: [EXPR?] }
/// fields  = [field*]
/// field   = { attrs: [ATTRIBUTE*] name: NAME type: TYPE }
/// output  = items: the enum, and its wire twin and impls in a `const _`
/// ```
///
/// `Variant { .. }` has `fields`, `Variant(Type)` has a `value`, and `Variant` has neither. The
/// wire twin is a union of one `repr(C)` struct a variant, `__In` + variant. Each begins with the
/// integer, `__tag`, so that the integer lies at the same place for all variants.
#[doc(hidden)]
#[macro_export]
macro_rules! __data_enum {
    (
        cfg: [$($cfg:tt)*]
        attrs: [$($attr:tt)*]
        vis: [$vis:vis]
        name: $name:ident
        repr: $repr:ident
        variants: [$( {
            attrs: [$($vattr:tt)*]
            name: $variant:ident
            fields: [$( [ $( { attrs: [$($fattr:tt)*] name: $field:ident type: $ty:ty } )* ] )?]
            value: [$($value:ty)?]
            number: [$($number:expr)?]
        } )*]
    ) => {
        $($cfg)*
        $($attr)*
        #[allow(dead_code, reason = "a crate need not use everything that it declares")]
        #[repr($repr)]
        $vis enum $name { $(
            $($vattr)* $variant
                $( { $( $($fattr)* $field: $ty, )* } )?
                $( ($value) )?
                $( = $number )?,
        )* }
        $crate::__private::paste::paste! {
            $($cfg)*
            #[allow(
                unused_doc_comments, dead_code, unused_variables, unused_mut, non_snake_case,
                missing_docs, deprecated,
                reason = "attributes of fields are repeated on code, a variant may have no fields, \
                          and users do not see these items"
            )]
            const _: () = {
                use $crate::__private as __p;
                use __p::core as __core;
                #[repr($repr)]
                enum __Tag { $( $($vattr)* $variant $( = $number )?, )* }
                $(
                    $($vattr)*
                    #[derive(
                        __core::clone::Clone,
                        __core::marker::Copy,
                        __p::zerocopy::FromBytes,
                        __p::zerocopy::Immutable,
                    )]
                    #[zerocopy(crate = "vmffi::__private::zerocopy")]
                    #[repr(C)]
                    pub struct [<__In $variant>] {
                        __tag: <$repr as $crate::FfiType>::Wire,
                        $( $( $($fattr)* $field: <$ty as $crate::FfiType>::Wire, )* )?
                        $( __value: <$value as $crate::FfiType>::Wire, )?
                    }
                )*
                #[derive(
                    __core::clone::Clone,
                    __core::marker::Copy,
                    __p::zerocopy::FromBytes,
                    __p::zerocopy::Immutable,
                )]
                #[zerocopy(crate = "vmffi::__private::zerocopy")]
                #[repr(C)]
                pub union __Wire {
                    __tag: <$repr as $crate::FfiType>::Wire,
                    $( $($vattr)* $variant: [<__In $variant>], )*
                }
                // The impls below rest on this: a value without handles has no pointer words.
                const _: () = {
                    let mut handles = false;
                    $( $($vattr)* {
                        $( $( $($fattr)* { handles |= <$ty as $crate::FfiType>::HANDLES; } )* )?
                        $( handles |= <$value as $crate::FfiType>::HANDLES; )?
                    } )*
                    if handles {
                        __core::panic!(__core::concat!(
                            "enum `", __core::stringify!($name), "` holds a handle: put it into a struct"
                        ));
                    }
                };
                $( $($vattr)* const _: () = {
                    let mut layout = $crate::__private::Rule::new()
                        .field::<$repr>($crate::__offset!([<__In $variant>], __tag));
                    $( $( $($fattr)* {
                        layout = layout.field::<$ty>($crate::__offset!([<__In $variant>], $field));
                    } )* )?
                    $( layout = layout.field::<$value>($crate::__offset!([<__In $variant>], __value)); )?
                    layout.check::<[<__In $variant>]>();
                }; )*
                const __VARIANTS: &[$crate::__private::Variant] = &[ $(
                    $($vattr)* $crate::__private::Variant {
                    name: __core::stringify!($variant),
                    number: __Tag::$variant as $repr as u64,
                    fields: &[
                        $( $( $($fattr)* { $crate::__shape_of! {
                            wire: [<__In $variant>]
                            field: $field
                            name: [__core::stringify!($field)]
                            type: $ty
                        } }, )* )?
                        $( $crate::__shape_of! {
                            wire: [<__In $variant>]
                            field: __value
                            name: [""]
                            type: $value
                        }, )?
                    ],
                }, )* ];
                // SAFETY: the constant above has checked that the values of all variants are
                // without handles, so the wire form has no pointer words, and neither has that of
                // any other type of equal `SHAPE`.
                unsafe impl $crate::FfiType for $name {
                    type Wire = __Wire;
                    type OptionWire = $crate::__private::Tagged<__Wire>;
                    type Shared = $name;
                    const HANDLES: bool = false;
                    const SHAPE: &'static $crate::__private::Shape =
                        &$crate::__private::Shape::enumeration::<__Wire>(
                        __core::stringify!($name),
                        __core::stringify!($repr),
                        __VARIANTS,
                    );
                    #[inline]
                    fn decode(
                        wire: &[u8],
                        from: $crate::Incoming<'_>,
                    ) -> __core::result::Result<Self, $crate::CallError> {
                        let tag = $crate::__private::field::<$repr>(wire, 0, "", from)?;
                        $( $($vattr)* if tag == __Tag::$variant as $repr {
                            return __core::result::Result::Ok($name::$variant
                                $( { $( $($fattr)* $field: $crate::__private::field::<$ty>(
                                    wire,
                                    $crate::__offset!([<__In $variant>], $field),
                                    __core::stringify!($field),
                                    from,
                                )?, )* } )?
                                $( ($crate::__private::field::<$value>(
                                    wire,
                                    $crate::__offset!([<__In $variant>], __value),
                                    "",
                                    from,
                                )?) )?
                            );
                        } )*
                        __core::result::Result::Err($crate::CallError::new($crate::ErrorKind::BadValue))
                    }
                    fn write(&self, wire: &mut [u8]) {
                        match self { $(
                            $($vattr)* $name::$variant
                                $( { $( $($fattr)* $field, )* } )?
                                $( ($crate::__first!(value $value)) )?
                            => {
                                $crate::__private::write::<$repr>(&(__Tag::$variant as $repr), wire, 0);
                                $( $( $($fattr)* { $crate::__private::write::<$ty>(
                                    $field,
                                    wire,
                                    $crate::__offset!([<__In $variant>], $field),
                                ); } )* )?
                                $( $crate::__private::write::<$value>(
                                    $crate::__first!(value $value),
                                    wire,
                                    $crate::__offset!([<__In $variant>], __value),
                                ); )?
                            }
                        )* }
                    }
                }
                $crate::__plain! { name: $name where: [] }
                impl __core::convert::From<$name> for $crate::Failure<$name> {
                    fn from(error: $name) -> Self { Self::App(error) }
                }
            };
        }
    };
}

/// The first of its tokens.
///
/// ```text
/// input  = IDENT TOKEN*
/// output = the identifier, as a pattern or an expression
/// ```
///
/// A name that is the same in every repetition needs it: a repetition has to contain a variable
/// that repeats.
#[doc(hidden)]
#[macro_export]
macro_rules! __first {
    ($first:ident $($rest:tt)*) => {
        $first
    };
}

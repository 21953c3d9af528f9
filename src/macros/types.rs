//! Shared structs and enums: the types themselves, their wire twins, and how they are judged.

/// A `repr(C)` twin of some fields, `$name`, and a check of its layout against the ABI's rule.
#[doc(hidden)]
#[macro_export]
macro_rules! __twin {
    ([$($derive:tt)*] $name:ident { $( [$($fm:tt)*] $f:ident : $ft:ty, )* }) => {
        $($derive)* #[repr(C)]
        pub struct $name { $( $($fm)* $f: <$ft as $crate::FfiType>::Wire, )* }
        const _: () = {
            let mut layout = $crate::layout::Rule::new();
            $( $($fm)* { layout = layout.field::<$ft>($crate::__offset!($name, $f)); } )*
            layout.check::<$name>();
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __offset {
    ($name:ident, $f:ident) => {
        $crate::__private::memoffset::offset_of!($name, $f)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __shape_of {
    ($in:ident $f:ident [$name:expr] $t:ty) => {
        $crate::shape::Field {
            name: $name,
            offset: $crate::__offset!($in, $f),
            shape: <$t as $crate::FfiType>::SHAPE,
        }
    };
}

/// A shared struct: itself, the twin that its sender fills, and its wire twin.
///
/// Attributes of fields stand on all three, so only `cfg`, doc comments and lints can be there.
#[doc(hidden)]
#[macro_export]
macro_rules! __struct {
    ([$($cfg:tt)*] [$($kept:tt)*] [$($size:expr)?] [$vis:vis] $name:ident { $( [$($fm:tt)*] [$fv:vis] $f:ident : $ft:ty, )* }) => {
        $($cfg)* $($kept)* #[allow(dead_code, reason = "nobody uses all that is declared")] #[repr(C)]
        $vis struct $name { $( $($fm)* $fv $f: $ft, )* }
        $crate::__private::paste::paste! {
            $($cfg)* #[allow(dead_code, reason = "who receives does not fill it")]
            #[doc = "What the sender of a [`" $name "`] gives, where that has handle fields."]
            $vis struct [<Shared $name>] { $( $($fm)* $fv $f: <$ft as $crate::FfiType>::Shared, )* }
            $($cfg)*
            #[allow(unused_doc_comments, dead_code, unused_variables, unused_mut, missing_docs, deprecated, reason = "attributes of fields are repeated where they mean nothing, there may be no field, and no user sees this")]
            const _: () = {
                use $crate::__private as __p;
                use __p::core as __core;
                $crate::__twin! {
                    [#[derive(__core::clone::Clone, __core::marker::Copy, __p::zerocopy::FromBytes, __p::zerocopy::Immutable)]
                     #[zerocopy(crate = "vmffi::__private::zerocopy")]]
                    __Wire { $( [$($fm)*] $f : $ft, )* }
                }
                $( $crate::text::pin(__core::stringify!($name), __core::mem::size_of::<__Wire>(), $size); )?
                const __HANDLES: bool = {
                    let mut handles = false;
                    $( $($fm)* { handles |= <$ft as $crate::FfiType>::HANDLES; } )*
                    handles
                };
                const __FIELDS: &[$crate::shape::Field] = &[ $( $($fm)* { $crate::__shape_of! { __Wire $f [__core::stringify!($f)] $ft } }, )* ];
                // As visible as its output: the wire twin is as visible as any type that holds one.
                #[derive(__core::clone::Clone, __core::marker::Copy)]
                #[repr(C)]
                $vis struct __Fields(__Wire);
                // SAFETY: `repr(C)`, and `FromBytes` says that any bytes are a value. Each field is judged once.
                unsafe impl $crate::Unpackable for __Fields {
                    type Output = $name;
                    #[inline]
                    fn unpack(wire: &[u8], from: $crate::peer::Incoming<'_>) -> __core::result::Result<$name, $crate::CallError> {
                        // All fields first: what is owned is given back if another one is bad.
                        $( $($fm)* let $f = $crate::wire::field::<$ft>(wire, $crate::__offset!(__Wire, $f), __core::stringify!($f), from); )*
                        __core::result::Result::Ok($name { $( $($fm)* $f: $f?, )* })
                    }
                }
                // SAFETY: each field is judged once, by its own type; the shape names all of them with their offsets.
                unsafe impl $crate::FfiType for $name {
                    type Wire = __Wire;
                    type OptionWire = $crate::wire::Tagged<__Wire>;
                    type Shared = <$crate::wire::Bool<__HANDLES> as $crate::wire::Pick<$name, [<Shared $name>]>>::Out;
                    const HANDLES: bool = __HANDLES;
                    const SHAPE: &'static $crate::shape::Shape =
                        &$crate::shape::Shape::structure::<__Wire>(__core::stringify!($name), __FIELDS);
                    #[inline]
                    fn decode(wire: &[u8], from: $crate::peer::Incoming<'_>) -> __core::result::Result<Self, $crate::CallError> {
                        <__Fields as $crate::Unpackable>::unpack(wire, from)
                    }
                    #[inline]
                    fn write(&self, wire: &mut [u8]) {
                        $( $($fm)* { $crate::wire::write::<$ft>(&self.$f, wire, $crate::__offset!(__Wire, $f)); } )*
                    }
                }
                // SAFETY: each field writes what it lends, at its own offset.
                unsafe impl $crate::SendAs<$name> for [<Shared $name>] {
                    #[inline]
                    fn encode(self, wire: &mut [u8], out: &mut $crate::peer::Outgoing<'_>) -> __core::result::Result<(), $crate::CallError> {
                        $( $($fm)* { $crate::wire::put::<$ft, _>(self.$f, wire, $crate::__offset!(__Wire, $f), out)?; } )*
                        __core::result::Result::Ok(())
                    }
                }
                $crate::__plain! { [for<'x> $crate::wire::Flag<'x, __HANDLES>: $crate::wire::NoHandles] $name }
                impl __core::convert::From<$name> for $crate::Failure<$name> {
                    fn from(error: $name) -> Self { Self::App(error) }
                }
            };
        }
    };
}

/// A type that crosses as it is, by value or by reference, where `$when` holds.
#[doc(hidden)]
#[macro_export]
macro_rules! __plain {
    ([$($when:tt)*] $name:ident) => {
        // SAFETY: the caller of this macro gives `$when`, which holds for types without handles.
        unsafe impl $crate::Plain for $name where $($when)* {}
        // SAFETY: a plain value has no pointer words.
        unsafe impl $crate::SendAs<$name> for $name where $($when)* {
            #[inline]
            fn encode(self, wire: &mut [u8], _: &mut $crate::peer::Outgoing<'_>) -> __core::result::Result<(), $crate::CallError> {
                <Self as $crate::FfiType>::write(&self, wire);
                __core::result::Result::Ok(())
            }
        }
        // SAFETY: a plain value has no pointer words.
        unsafe impl $crate::SendAs<$name> for &$name where $($when)* {
            #[inline]
            fn encode(self, wire: &mut [u8], _: &mut $crate::peer::Outgoing<'_>) -> __core::result::Result<(), $crate::CallError> {
                <$name as $crate::FfiType>::write(self, wire);
                __core::result::Result::Ok(())
            }
        }
    };
}

/// An enum without values: it is its integer, in memory and in a register.
#[doc(hidden)]
#[macro_export]
macro_rules! __enum {
    ([$($cfg:tt)*] [$($kept:tt)*] [$vis:vis] $name:ident $repr:ident { $( [$($vm:tt)*] $v:ident [$( = $d:expr )?], )* }) => {
        $($cfg)* $($kept)* #[allow(dead_code, reason = "nobody uses all that is declared")] #[repr($repr)]
        $vis enum $name { $( $($vm)* $v $( = $d )?, )* }
        $($cfg)*
        #[allow(unused_doc_comments, dead_code, unused_mut, deprecated, reason = "attributes of variants are repeated where they mean nothing, and no user sees this")]
        const _: () = {
            use $crate::__private::core as __core;
            // The numbers apart from the enum itself, which need not be `Copy`.
            #[repr($repr)]
            enum __Tag { $( $($vm)* $v $( = $d )?, )* }
            const __VARIANTS: &[$crate::shape::Variant] = &[ $(
                $($vm)* $crate::shape::Variant { name: __core::stringify!($v), number: __Tag::$v as $repr as u64, fields: &[] },
            )* ];
            // SAFETY: the wire form is a number and has no pointer words.
            unsafe impl $crate::FfiType for $name {
                type Wire = <$repr as $crate::FfiType>::Wire;
                type OptionWire = $crate::wire::Tagged<Self::Wire>;
                type Shared = $name;
                const HANDLES: bool = false;
                const SHAPE: &'static $crate::shape::Shape = &$crate::shape::Shape::enumeration::<Self::Wire>(
                    __core::stringify!($name), __core::stringify!($repr), __VARIANTS,
                );
                fn decode(wire: &[u8], from: $crate::peer::Incoming<'_>) -> __core::result::Result<Self, $crate::CallError> {
                    let tag = <$repr as $crate::FfiType>::decode(wire, from)?;
                    $( $($vm)* if tag == __Tag::$v as $repr { return __core::result::Result::Ok($name::$v); } )*
                    __core::result::Result::Err($crate::CallError::new($crate::Why::BadValue))
                }
                fn from_transport(transport: $crate::abi::Transport, from: $crate::peer::Incoming<'_>) -> __core::result::Result<Self, $crate::CallError> {
                    let tag = <$repr as $crate::FfiType>::from_transport(transport, from)?;
                    $( $($vm)* if tag == __Tag::$v as $repr { return __core::result::Result::Ok($name::$v); } )*
                    __core::result::Result::Err($crate::CallError::new($crate::Why::BadValue))
                }
                fn write(&self, wire: &mut [u8]) {
                    let tag = match *self { $( $($vm)* $name::$v => __Tag::$v as $repr, )* };
                    <$repr as $crate::FfiType>::write(&tag, wire);
                }
            }
            // SAFETY: the wire form is a number and has no pointer words.
            unsafe impl $crate::Plain for $name {}
            // SAFETY: the wire form is a number and has no pointer words.
            unsafe impl $crate::SendAs<$name> for $name {
                #[inline]
            fn encode(self, wire: &mut [u8], _: &mut $crate::peer::Outgoing<'_>) -> __core::result::Result<(), $crate::CallError> {
                    <Self as $crate::FfiType>::write(&self, wire);
                    __core::result::Result::Ok(())
                }
                fn into_transport(self, out: &mut $crate::peer::Outgoing<'_>) -> __core::result::Result<$crate::abi::Transport, $crate::CallError> {
                    let tag = match self { $( $($vm)* $name::$v => __Tag::$v as $repr, )* };
                    <$repr as $crate::SendAs<$repr>>::into_transport(tag, out)
                }
            }
            impl __core::convert::From<$name> for $crate::Failure<$name> {
                fn from(error: $name) -> Self { Self::App(error) }
            }
        };
    };
}

/// An enum with values: its integer, and behind it, in the same place for all variants, the fields of
/// the variant. The twin is a union of `repr(C)` structs that each begin with the integer.
#[doc(hidden)]
#[macro_export]
macro_rules! __data_enum {
    ([$($cfg:tt)*] [$($kept:tt)*] [$vis:vis] $name:ident $repr:ident { $( [$($vm:tt)*] $v:ident [$( { $( [$($fm:tt)*] $f:ident : $ft:ty, )* } )?] [$( $t:ty )?] [$( = $d:expr )?], )* }) => {
        $($cfg)* $($kept)* #[allow(dead_code, reason = "nobody uses all that is declared")] #[repr($repr)]
        $vis enum $name { $( $($vm)* $v $( { $( $($fm)* $f: $ft, )* } )? $( ($t) )? $( = $d )?, )* }
        $crate::__private::paste::paste! {
            $($cfg)*
            #[allow(unused_doc_comments, dead_code, unused_variables, unused_mut, non_snake_case, missing_docs, deprecated, reason = "attributes of fields are repeated where they mean nothing, there may be no field, and no user sees this")]
            const _: () = {
                use $crate::__private as __p;
                use __p::core as __core;
                #[repr($repr)]
                enum __Tag { $( $($vm)* $v $( = $d )?, )* }
                $(
                    $($vm)*
                    #[derive(__core::clone::Clone, __core::marker::Copy, __p::zerocopy::FromBytes, __p::zerocopy::Immutable)]
                    #[zerocopy(crate = "vmffi::__private::zerocopy")]
                    #[repr(C)]
                    pub struct [<__In $v>] {
                        __tag: <$repr as $crate::FfiType>::Wire,
                        $( $( $($fm)* $f: <$ft as $crate::FfiType>::Wire, )* )?
                        $( __value: <$t as $crate::FfiType>::Wire, )?
                    }
                )*
                #[derive(__core::clone::Clone, __core::marker::Copy, __p::zerocopy::FromBytes, __p::zerocopy::Immutable)]
                #[zerocopy(crate = "vmffi::__private::zerocopy")]
                #[repr(C)]
                pub union __Wire {
                    __tag: <$repr as $crate::FfiType>::Wire,
                    $( $($vm)* $v: [<__In $v>], )*
                }
                const _: () = {
                    let mut handles = false;
                    $( $($vm)* {
                        $( $( $($fm)* { handles |= <$ft as $crate::FfiType>::HANDLES; } )* )?
                        $( handles |= <$t as $crate::FfiType>::HANDLES; )?
                    } )*
                    if handles {
                        __core::panic!(__core::concat!("enum `", __core::stringify!($name), "` holds a handle: put it into a struct"));
                    }
                };
                $( $($vm)* const _: () = {
                    let mut layout = $crate::layout::Rule::new().field::<$repr>($crate::__offset!([<__In $v>], __tag));
                    $( $( $($fm)* { layout = layout.field::<$ft>($crate::__offset!([<__In $v>], $f)); } )* )?
                    $( layout = layout.field::<$t>($crate::__offset!([<__In $v>], __value)); )?
                    layout.check::<[<__In $v>]>();
                }; )*
                const __VARIANTS: &[$crate::shape::Variant] = &[ $( $($vm)* $crate::shape::Variant {
                    name: __core::stringify!($v),
                    number: __Tag::$v as $repr as u64,
                    fields: &[
                        $( $( $($fm)* { $crate::__shape_of! { [<__In $v>] $f [__core::stringify!($f)] $ft } }, )* )?
                        $( $crate::__shape_of! { [<__In $v>] __value [""] $t }, )?
                    ],
                }, )* ];
                // SAFETY: no field of a variant has handles, as is asserted above, so there are no pointer words.
                unsafe impl $crate::FfiType for $name {
                    type Wire = __Wire;
                    type OptionWire = $crate::wire::Tagged<__Wire>;
                    type Shared = $name;
                    const HANDLES: bool = false;
                    const SHAPE: &'static $crate::shape::Shape = &$crate::shape::Shape::enumeration::<__Wire>(
                        __core::stringify!($name), __core::stringify!($repr), __VARIANTS,
                    );
                    #[inline]
                    fn decode(wire: &[u8], from: $crate::peer::Incoming<'_>) -> __core::result::Result<Self, $crate::CallError> {
                        let tag = $crate::wire::field::<$repr>(wire, 0, "", from)?;
                        $( $($vm)* if tag == __Tag::$v as $repr {
                            return __core::result::Result::Ok($name::$v
                                $( { $( $($fm)* $f: $crate::wire::field::<$ft>(wire, $crate::__offset!([<__In $v>], $f), __core::stringify!($f), from)?, )* } )?
                                $( ($crate::wire::field::<$t>(wire, $crate::__offset!([<__In $v>], __value), "", from)?) )?
                            );
                        } )*
                        __core::result::Result::Err($crate::CallError::new($crate::Why::BadValue))
                    }
                    fn write(&self, wire: &mut [u8]) {
                        match self { $( $($vm)* $name::$v $( { $( $($fm)* $f, )* } )? $( ($crate::__first!(value $t)) )? => {
                            $crate::wire::write::<$repr>(&(__Tag::$v as $repr), wire, 0);
                            $( $( $($fm)* { $crate::wire::write::<$ft>($f, wire, $crate::__offset!([<__In $v>], $f)); } )* )?
                            $( $crate::wire::write::<$t>($crate::__first!(value $t), wire, $crate::__offset!([<__In $v>], __value)); )?
                        } )* }
                    }
                }
                $crate::__plain! { [] $name }
                impl __core::convert::From<$name> for $crate::Failure<$name> {
                    fn from(error: $name) -> Self { Self::App(error) }
                }
            };
        }
    };
}

/// The first of two things: a name, repeated along with something else.
#[doc(hidden)]
#[macro_export]
macro_rules! __first {
    ($a:ident $($b:tt)*) => {
        $a
    };
}

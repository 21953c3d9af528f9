//! Items whose types need care: a name such as `Self` or `_` means something else in each place, or is an error of its own in
//! each. The declaration names each type of such an item in one place, and takes it from there.

/// The type of a field, a parameter or a result, under a name.
///
/// ```text
/// input  = NAME crosses|returned [ATTRIBUTE*] [ATTRIBUTE*] [ATTRIBUTE*] TYPE
/// output = an item
/// ```
///
/// The type stands three times in one item, so that the compiler says the same of it each time, and shows that once. The
/// constant asks whether it can cross. If it has no type at all, the alias inside says so, and the compiler does not ask
/// on.
#[doc(hidden)]
#[macro_export]
macro_rules! __careful_type {
    (
        $alias:ident $asks:ident [$($cfg:tt)*] [$($variant_cfg:tt)*] [$($field_cfg:tt)*] $ty:ty
    ) => {
        $($cfg)*
        $($variant_cfg)*
        $($field_cfg)*
        #[allow(
            dead_code, nonstandard_style,
            unknown_lints, renamed_and_removed_lints, elided_named_lifetimes,
            reason = "it has the user's names, and a lifetime that is left out stands for 'static"
        )]
        type $alias = <
            $crate::__private::Static<fn(&'static ()) -> $ty> as $crate::__private::Same<
                $crate::__private::Checked<{
                    type $alias = $crate::__private::Static<fn(&'static ()) -> $ty>;
                    $crate::__private::named::<$alias>();
                    $crate::__private::$asks::<$ty>();
                    0
                }>,
            >
        >::T;
    };
}

/// A struct that needs care: as `__struct`.
///
/// ```text
/// input  = the input of __struct
/// output = items: the types, and a call of __struct
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __careful_struct {
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        vis: $vis:tt
        name: $name:ident
        lifetime: $lifetime:tt
        fields: [$( {
            attrs: $fattrs:tt vis: $fvis:tt name: $field:ident type: $ty:ty = $asked:ty
        } )*]
    ) => {
        $crate::__private::paste::paste! {
            $crate::__cfg_lists! {
                todo: [ $( { attrs: $fattrs alias: [<__vmffi_ $name __ $field>] type: $ty } )* ]
                work: []
                done: []
                then: __careful_fields { cfg: $cfg fields: }
            }
            $crate::__struct! {
                cfg: $cfg
                attrs: $attrs
                size: $size
                vis: $vis
                name: $name
                lifetime: $lifetime
                fields: [ $( {
                    attrs: $fattrs
                    vis: $fvis
                    name: $field
                    type: [<__vmffi_ $name __ $field>] = [<__vmffi_ $name __ $field>]
                } )* ]
            }
        }
    };
}

/// The types of a struct's fields.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] fields: [ { cfg: [ATTRIBUTE*] alias: NAME type: TYPE }* ]
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __careful_fields {
    (
        cfg: $cfg:tt
        fields: [$( { cfg: $fcfg:tt alias: $alias:ident type: $ty:ty } )*]
    ) => { $(
        $crate::__careful_type! { $alias crosses $cfg [] $fcfg $ty }
    )* };
}

/// An enum that needs care: as `__data_enum`. If a variant has more than 12 values, that is its error.
///
/// ```text
/// input  = the input of __data_enum
/// output = a call of __tuple_variants, which leads to __careful_variants, or of __data_enum
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __careful_data_enum {
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
            values: [$( (
                $( { attrs: [$($a0:tt)*] type: $v0:ty = $w0:ty }
                $( { attrs: [$($a1:tt)*] type: $v1:ty = $w1:ty }
                $( { attrs: [$($a2:tt)*] type: $v2:ty = $w2:ty }
                $( { attrs: [$($a3:tt)*] type: $v3:ty = $w3:ty }
                $( { attrs: [$($a4:tt)*] type: $v4:ty = $w4:ty }
                $( { attrs: [$($a5:tt)*] type: $v5:ty = $w5:ty }
                $( { attrs: [$($a6:tt)*] type: $v6:ty = $w6:ty }
                $( { attrs: [$($a7:tt)*] type: $v7:ty = $w7:ty }
                $( { attrs: [$($a8:tt)*] type: $v8:ty = $w8:ty }
                $( { attrs: [$($a9:tt)*] type: $v9:ty = $w9:ty }
                $( { attrs: [$($a10:tt)*] type: $v10:ty = $w10:ty }
                $( { attrs: [$($a11:tt)*] type: $v11:ty = $w11:ty } )?)?)?)?)?)?)?)?)?)?)?)?
            ) )?]
        } )*]
    ) => {
        $crate::__private::paste::paste! { $crate::__careful_enum! {
            cfg: [$($cfg)*]
            attrs: [$($attr)*]
            vis: [$vis]
            name: $name
            repr: $repr
            variants: [$( {
                attrs: [$($vattr)*]
                name: $variant
                number: [$($number)?]
                fields: [$( { $( {
                    attrs: [$($fattr)*] name: $field type: [<__vmffi_ $name __ $variant __ $field>] = $ty
                } )* } )?]
                values: [$( (
                    $( { attrs: [$($a0)*] type: [<__vmffi_ $name __ $variant __0>] = $v0 }
                    $( { attrs: [$($a1)*] type: [<__vmffi_ $name __ $variant __1>] = $v1 }
                    $( { attrs: [$($a2)*] type: [<__vmffi_ $name __ $variant __2>] = $v2 }
                    $( { attrs: [$($a3)*] type: [<__vmffi_ $name __ $variant __3>] = $v3 }
                    $( { attrs: [$($a4)*] type: [<__vmffi_ $name __ $variant __4>] = $v4 }
                    $( { attrs: [$($a5)*] type: [<__vmffi_ $name __ $variant __5>] = $v5 }
                    $( { attrs: [$($a6)*] type: [<__vmffi_ $name __ $variant __6>] = $v6 }
                    $( { attrs: [$($a7)*] type: [<__vmffi_ $name __ $variant __7>] = $v7 }
                    $( { attrs: [$($a8)*] type: [<__vmffi_ $name __ $variant __8>] = $v8 }
                    $( { attrs: [$($a9)*] type: [<__vmffi_ $name __ $variant __9>] = $v9 }
                    $( { attrs: [$($a10)*] type: [<__vmffi_ $name __ $variant __10>] = $v10 }
                    $( { attrs: [$($a11)*] type: [<__vmffi_ $name __ $variant __11>] = $v11 }
                    )?)?)?)?)?)?)?)?)?)?)?)?
                ) )?]
            } )*]
        } }
    };
    ($($many_values:tt)*) => {
        $crate::__data_enum! { $($many_values)* }
    };
}

/// An enum whose types have names.
///
/// ```text
/// input   = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] vis: [VISIBILITY] name: NAME repr: INTEGER variants: [variant*]
/// variant = as in __data_enum, with NAME = TYPE in each field and value
/// output  = a call of __tuple_variants, which leads to __careful_variants
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __careful_enum {
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
            fields: [
                $( { $( { attrs: [$($fattr:tt)*] name: $field:ident type: $alias:ident = $ty:ty } )* } )?
            ]
            values: [$( ( $( { attrs: [$($tattr:tt)*] type: $value_alias:ident = $value:ty } )* ) )?]
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
                    type: $alias = $ty
                } )* )?]
                values: [$( $( { attrs: [$($tattr)*] type: $value_alias = $value } )* )?]
            } )*]
            item: {
                good: {
                    $($cfg)*
                    $($attr)*
                    #[allow(dead_code, reason = "a crate need not use everything that it declares")]
                    #[repr($repr)]
                    $vis enum $name { $(
                        $($vattr)* $variant
                            $( { $( $($fattr)* $field: $alias, )* } )?
                            $( ( $( $($tattr)* $value_alias, )* ) )?
                            $( = $number )?,
                    )* }
                }
                wrong: { $crate::__stand_in! { enum vis: [$vis] name: $name lifetime: [] } }
            }
            then: { careful: cfg: [$($cfg)*] name: $name repr: $repr variants: }
        }
    };
}

/// The types of an enum that needs care, and what is generated beside it.
///
/// ```text
/// input  = the input of __shared_data_enum, with NAME = TYPE in each field
/// output = items: the types, and a call of __shared_data_enum
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __careful_variants {
    (
        cfg: $cfg:tt
        name: $name:ident
        repr: $repr:ident
        variants: [$( {
            cfg: $vcfg:tt
            name: $variant:ident
            number: $number:tt
            fields: [$( {
                cfg: $fcfg:tt
                member: $member:tt
                label: $label:tt
                type: $alias:ident = $ty:ty
            } )*]
        } )*]
    ) => {
        $( $( $crate::__careful_type! { $alias crosses $cfg $vcfg $fcfg $ty } )* )*
        $crate::__shared_data_enum! {
            cfg: $cfg
            name: $name
            repr: $repr
            variants: [$( {
                cfg: $vcfg
                name: $variant
                number: $number
                fields: [$( { cfg: $fcfg member: $member label: $label type: $alias = $alias } )*]
            } )*]
        }
    };
}

/// An interface that needs care: as `__interface`.
///
/// ```text
/// input  = the input of __interface
/// output = items: the types, and a call of __interface
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __careful_interface {
    (
        cfg: $cfg:tt
        cfg_list: $cfg_list:tt
        attrs: $attrs:tt
        vis: $vis:tt
        name: $name:ident
        raw: $raw:tt
        functions: [$( {
            attrs: $fattrs:tt
            name: $function:tt
            params: ($($param:ident : $ty:ty),*)
            returns: [$($ret:ty)?]
        } )*]
    ) => {
        $crate::__private::paste::paste! {
            $crate::__cfg_lists! {
                todo: [ $( {
                    attrs: $fattrs
                    types: [
                        $( { [<__vmffi_ $name __ $function __ $param>] crosses $ty } )*
                        $( { [<__vmffi_ $name __ $function>] returned $ret } )?
                    ]
                } )* ]
                work: []
                done: []
                then: __careful_functions { cfg: $cfg functions: }
            }
            $crate::__interface! {
                cfg: $cfg
                cfg_list: $cfg_list
                attrs: $attrs
                vis: $vis
                name: $name
                raw: $raw
                functions: [ $( {
                    attrs: $fattrs
                    name: $function
                    params: ($($param : [<__vmffi_ $name __ $function __ $param>]),*)
                    returns: [$( $crate::__instead_of!($ret => [<__vmffi_ $name __ $function>]) )?]
                } )* ]
            }
        }
    };
}

/// A name for a type.
///
/// ```text
/// input  = TYPE => NAME
/// output = a type
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __instead_of {
    ($ty:ty => $alias:ty) => {
        $alias
    };
}

/// The types of the functions of an interface.
///
/// ```text
/// input    = cfg: [ATTRIBUTE*] functions: [function*]
/// function = { cfg: [ATTRIBUTE*] types: [ { NAME crosses|returned TYPE }* ] }
/// output   = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __careful_functions {
    (
        cfg: $cfg:tt
        functions: [$( { cfg: $fcfg:tt types: [$( { $alias:ident $asks:ident $ty:ty } )*] } )*]
    ) => { $( $(
        $crate::__careful_type! { $alias $asks $cfg [] $fcfg $ty }
    )* )* };
}

/// A struct with a mistake among its types: as `__struct`.
///
/// ```text
/// input  = the input of __struct or of __view_struct
/// output = a call of that macro
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __wrong_struct {
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        vis: $vis:tt
        name: $name:ident
        lifetime: $lifetime:tt
        fields: [$( {
            attrs: $fattrs:tt vis: $fvis:tt name: $field:ident type: $ty:ty = $asked:ty
        } )*]
    ) => {
        $crate::__private::paste::paste! { $crate::__struct! {
            cfg: $cfg
            attrs: $attrs
            size: $size
            vis: $vis
            name: $name
            lifetime: $lifetime
            fields: [ $( {
                attrs: $fattrs
                vis: $fvis
                name: $field
                type: $crate::__wrong_type!($lifetime [<__vmffi_ $name __wrong>])
                    = [<__vmffi_ $name __wrong>]
            } )* ]
        } }
    };
}

/// An enum with a mistake among its types: as `__data_enum`.
///
/// ```text
/// input  = the input of __data_enum
/// output = a call of __data_enum
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __wrong_data_enum {
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        vis: $vis:tt
        name: $name:ident
        lifetime: $lifetime:tt
        repr: $repr:ident
        variants: [$( {
            attrs: $vattrs:tt
            name: $variant:ident
            number: $number:tt
            fields: [$( { $( {
                attrs: $fattrs:tt name: $field:ident type: $ty:ty = $asked:ty
            } )* } )?]
            values: [$( ( $( { attrs: $tattrs:tt type: $value:ty = $asked_value:ty } )* ) )?]
        } )*]
    ) => {
        $crate::__private::paste::paste! { $crate::__data_enum! {
            cfg: $cfg
            attrs: $attrs
            vis: $vis
            name: $name
            lifetime: $lifetime
            repr: $repr
            variants: [ $( {
                attrs: $vattrs
                name: $variant
                number: $number
                fields: [$( { $( {
                    attrs: $fattrs
                    name: $field
                    type: $crate::__wrong_type!($lifetime [<__vmffi_ $name __wrong>])
                    = [<__vmffi_ $name __wrong>]
                } )* } )?]
                values: [$( ( $( {
                    attrs: $tattrs
                    type: $crate::__instead_of!(
                        $value => $crate::__wrong_type!($lifetime [<__vmffi_ $name __wrong>])
                    )
                        = [<__vmffi_ $name __wrong>]
                } )* ) )?]
            } )* ]
        } }
    };
}

/// A type that has an error, with the lifetime of its item, if that has one: each lifetime must be used.
///
/// ```text
/// input  = [LIFETIME?] NAME
/// output = a type
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __wrong_type {
    ([] $wrong:ident) => {
        $wrong
    };
    ([$lifetime:lifetime] $wrong:ident) => {
        (&$lifetime(), $wrong)
    };
}

/// An interface with a mistake among its types: as `__interface`.
///
/// ```text
/// input  = the input of __interface
/// output = a call of __interface
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __wrong_interface {
    (
        cfg: $cfg:tt
        cfg_list: $cfg_list:tt
        attrs: $attrs:tt
        vis: $vis:tt
        name: $name:ident
        raw: $raw:tt
        functions: [$( {
            attrs: $fattrs:tt
            name: $function:tt
            params: ($($param:ident : $ty:ty),*)
            returns: [$($ret:ty)?]
        } )*]
    ) => {
        $crate::__private::paste::paste! { $crate::__interface! {
            cfg: $cfg
            cfg_list: $cfg_list
            attrs: $attrs
            vis: $vis
            name: $name
            raw: $raw
            functions: [ $( {
                attrs: $fattrs
                name: $function
                params: ($($param : [<__vmffi_ $name __wrong>]),*)
                returns: [$( $crate::__instead_of!($ret => [<__vmffi_ $name __wrong>]) )?]
            } )* ]
        } }
    };
}

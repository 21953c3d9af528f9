//! References: a declaration with a type such as `&str` is wrong, and the compiler says so once.

/// Looks for `&` in the body of an item. A reference without a lifetime would be an error wherever its type is repeated, so
/// such types are repeated as `Argument`s only. Other declarations do not need that, and keep what is generated readable.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] optional: [optional?]
///          vis: [VISIBILITY] item: KIND NAME repr: [IDENT?] body: { TOKEN* } seen: { TOKEN* }
/// output = a call of __item
/// ```
///
/// `body` and `seen` are the same tokens. The first rules take bodies without `&`, of whatever else there is in enums, and in
/// structs and interfaces; what they do not take may have a `&`.
#[doc(hidden)]
#[macro_export]
macro_rules! __references {
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: enum $name:tt repr: $repr:tt body: $body:tt
        seen: { $(
            $(#[$($attr:tt)*])* $variant:ident
                $( {
                    $(#[$($field_attr:tt)*])*
                    $(
                        $field:ident $(::)? $(<)? $(: $(::)?)? $( ($($a:tt)*) )? $( [$($b:tt)*] )?
                        $(>>)* $(>)* $(,)? $(#[$($field_attrs:tt)*])*
                    )*
                } )?
                $( (
                    $(#[$($value_attr:tt)*])*
                    $(
                        $value:ident $(::)? $(<)? $( ($($c:tt)*) )? $( [$($d:tt)*] )?
                        $(>>)* $(>)* $(,)? $(#[$($value_attrs:tt)*])*
                    )*
                ) )?
                $( = $number:expr )?
        ),* $(,)? }
    ) => {
        $crate::__item! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            vis: $vis item: enum $name repr: $repr body: $body macros: [__struct __data_enum __interface]
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: $kind:ident $name:tt repr: $repr:tt body: $body:tt
        seen: {
            $(#[$($attr:tt)*])*
            $(
                $word:ident $(::)? $(<)? $(: $(::)?)?
                $( (
                    $(#[$($inner_attr:tt)*])*
                    $(
                        $inner:ident $(::)? $(<)? $(: $(::)?)? $( ($($a:tt)*) )? $( [$($b:tt)*] )?
                        $(>>)* $(>)* $(,)? $(#[$($inner_attrs:tt)*])*
                    )*
                ) )?
                $( [$($array:tt)*] )?
                $( -> $( ($($e:tt)*) )? $( [$($f:tt)*] )? )?
                $(>>)* $(>)* $(,)? $(;)? $(#[$($after:tt)*])*
            )*
        }
    ) => {
        $crate::__item! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            vis: $vis item: $kind $name repr: $repr body: $body macros: [__struct __data_enum __interface]
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: $kind:ident $name:tt repr: $repr:tt body: $body:tt
        seen: $seen:tt
    ) => {
        $crate::__item! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            vis: $vis item: $kind $name repr: $repr body: $body macros: [__elided_struct __elided_data_enum __elided_interface]
        }
    };
}

/// A struct that may have references: as `__struct`, with each type as an `Argument`.
///
/// ```text
/// input  = the input of __struct
/// output = a call of __struct
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __elided_struct {
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        vis: $vis:tt
        name: $name:ident
        fields: [$( {
            attrs: $fattrs:tt vis: $fvis:tt name: $field:ident type: $ty:ty = $asked:ty
        } )*]
    ) => {
        $crate::__struct! {
            cfg: $cfg
            attrs: $attrs
            size: $size
            vis: $vis
            name: $name
            fields: [ $( {
                attrs: $fattrs
                vis: $fvis
                name: $field
                type: $crate::__private::Argument<fn($ty), $name> = $asked
            } )* ]
        }
    };
}

/// An enum that may have references: as `__data_enum`, with each type as an `Argument`.
///
/// ```text
/// input  = the input of __data_enum
/// output = a call of __data_enum
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __elided_data_enum {
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        vis: $vis:tt
        name: $name:ident
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
        $crate::__data_enum! {
            cfg: $cfg
            attrs: $attrs
            vis: $vis
            name: $name
            repr: $repr
            variants: [ $( {
                attrs: $vattrs
                name: $variant
                number: $number
                fields: [$( { $( {
                    attrs: $fattrs
                    name: $field
                    type: $crate::__private::Argument<fn($ty), $name> = $asked
                } )* } )?]
                values: [$( ( $( {
                    attrs: $tattrs
                    type: $crate::__private::Argument<fn($value), $name> = $asked_value
                } )* ) )?]
            } )* ]
        }
    };
}

/// An interface that may have references: as `__interface`, with each type as an `Argument`.
///
/// ```text
/// input  = the input of __interface
/// output = a call of __interface
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __elided_interface {
    (
        cfg: $cfg:tt
        cfg_list: $cfg_list:tt
        attrs: $attrs:tt
        vis: $vis:tt
        name: $name:ident
        functions: [$( {
            attrs: $fattrs:tt
            name: $function:tt
            params: ($($param:ident : $ty:ty),*)
            returns: [$($ret:ty)?]
            asked: $asked:tt $asked_return:tt
        } )*]
    ) => {
        $crate::__interface! {
            cfg: $cfg
            cfg_list: $cfg_list
            attrs: $attrs
            vis: $vis
            name: $name
            functions: [ $( {
                attrs: $fattrs
                name: $function
                params: ($($param : $crate::__private::Argument<fn($ty), dyn $name>),*)
                returns: [$($crate::__private::Argument<fn($ret), dyn $name>)?]
                asked: $asked $asked_return
            } )* ]
        }
    };
}

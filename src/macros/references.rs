//! References: a declaration with a type such as `&str` is wrong, and the compiler says so once.

/// Looks for `&` in the body of an item. A reference without a lifetime would be an error wherever its type is repeated, so
/// such types are repeated as types `In` the item only. Other declarations do not need that, and keep what is generated readable.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] optional: [optional?]
///          vis: [VISIBILITY] item: KIND NAME lifetime: [LIFETIME?] repr: [IDENT?] body: { TOKEN* } seen: { TOKEN* }
/// output = a call of __item
/// ```
///
/// `body` and `seen` are the same tokens. An item with a lifetime may have references, and the functions of an interface need no
/// lifetime in them anyway. The next rules take bodies without `&`, of whatever else there is in enums and in structs; what
/// they do not take may have a `&`.
#[doc(hidden)]
#[macro_export]
macro_rules! __references {
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: $kind:ident $name:tt lifetime: [$lifetime:lifetime] repr: $repr:tt body: $body:tt
        seen: $seen:tt
    ) => {
        $crate::__item! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            vis: $vis item: $kind $name lifetime: [$lifetime] repr: $repr body: $body
            macros: [__view_struct __view_enum] raw: $body
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: interface $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt
        seen: $seen:tt
    ) => {
        $crate::__item! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            vis: $vis item: interface $name lifetime: $lifetime repr: $repr body: $body macros: [] raw: $body
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: enum $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt
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
            vis: $vis item: enum $name lifetime: $lifetime repr: $repr body: $body macros:
                [__struct __data_enum] raw: $body
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: $kind:ident $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt
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
                $(>>)* $(>)* $(,)? $(#[$($after:tt)*])*
            )*
        }
    ) => {
        $crate::__item! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            vis: $vis item: $kind $name lifetime: $lifetime repr: $repr body: $body macros:
                [__struct __data_enum] raw: $body
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: $kind:ident $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt
        seen: $seen:tt
    ) => {
        $crate::__item! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            vis: $vis item: $kind $name lifetime: $lifetime repr: $repr body: $body macros:
                [__elided_struct __elided_data_enum] raw: $body
        }
    };
}

/// A struct that may have references: as `__struct`, with each type as one `In` it.
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
        lifetime: $lifetime:tt
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
            lifetime: $lifetime
            fields: [ $( {
                attrs: $fattrs
                vis: $fvis
                name: $field
                type: $crate::__private::In<fn(&'static ()) -> $ty, $name> = $asked
            } )* ]
        }
    };
}

/// An enum that may have references: as `__data_enum`, with each type as one `In` it.
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
        $crate::__data_enum! {
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
                    type: $crate::__private::In<fn(&'static ()) -> $ty, $name> = $asked
                } )* } )?]
                values: [$( ( $( {
                    attrs: $tattrs
                    type: $crate::__private::In<fn(&'static ()) -> $value, $name> = $asked_value
                } )* ) )?]
            } )* ]
        }
    };
}

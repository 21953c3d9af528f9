//! Variants with values: names for the values of tuple variants, and the `#[cfg(..)]` of variants and fields.

/// Gives the values of tuple variants their numbers as names, so that what follows sees fields only:
/// `Variant { 0: value }` is a tuple variant, both as a pattern and as an expression.
///
/// ```text
/// input  = variants: [ { attrs: [ATTRIBUTE*] name: NAME number: [EXPR?] fields: [field*] values: [value*] }* ]
///          item: item then: { TOKEN* }
/// item   = { good: { ITEM* } wrong: { ITEM* } }
/// value  = { attrs: [ATTRIBUTE*] type: TYPE = TYPE }
/// field  = { attrs: [ATTRIBUTE*] member: NAME | NUMBER label: [EXPR] type: TYPE = TYPE }
/// output = a call of __variants, in whose list the numbered values stand beside the fields
/// ```
///
/// The label is the name in contracts and signatures, which values of tuple variants do not have.
#[doc(hidden)]
#[macro_export]
macro_rules! __tuple_variants {
    (
        variants: [$( {
            attrs: $attrs:tt
            name: $variant:ident
            number: $number:tt
            fields: [$($field:tt)*]
            values: [
                $( { attrs: $a0:tt $($v0:tt)* }
                $( { attrs: $a1:tt $($v1:tt)* }
                $( { attrs: $a2:tt $($v2:tt)* }
                $( { attrs: $a3:tt $($v3:tt)* }
                $( { attrs: $a4:tt $($v4:tt)* }
                $( { attrs: $a5:tt $($v5:tt)* }
                $( { attrs: $a6:tt $($v6:tt)* }
                $( { attrs: $a7:tt $($v7:tt)* }
                $( { attrs: $a8:tt $($v8:tt)* }
                $( { attrs: $a9:tt $($v9:tt)* }
                $( { attrs: $a10:tt $($v10:tt)* }
                $( { attrs: $a11:tt $($v11:tt)* } )?)?)?)?)?)?)?)?)?)?)?)?
            ]
        } )*]
        item: $item:tt
        then: $then:tt
    ) => {
        $crate::__variants! {
            todo: [$( {
                attrs: $attrs
                name: $variant
                number: $number
                fields: [$($field)*]
                values: [
                    $( { attrs: $a0 member: 0 label: [""] $($v0)* }
                    $( { attrs: $a1 member: 1 label: [""] $($v1)* }
                    $( { attrs: $a2 member: 2 label: [""] $($v2)* }
                    $( { attrs: $a3 member: 3 label: [""] $($v3)* }
                    $( { attrs: $a4 member: 4 label: [""] $($v4)* }
                    $( { attrs: $a5 member: 5 label: [""] $($v5)* }
                    $( { attrs: $a6 member: 6 label: [""] $($v6)* }
                    $( { attrs: $a7 member: 7 label: [""] $($v7)* }
                    $( { attrs: $a8 member: 8 label: [""] $($v8)* }
                    $( { attrs: $a9 member: 9 label: [""] $($v9)* }
                    $( { attrs: $a10 member: 10 label: [""] $($v10)* }
                    $( { attrs: $a11 member: 11 label: [""] $($v11)* } )?)?)?)?)?)?)?)?)?)?)?)?
                ]
            } )*]
            item: $item
            then: $then
        }
    };
    (
        variants: [$( {
            attrs: $attrs:tt
            name: $variant:ident
            number: $number:tt
            fields: $fields:tt
            values: $values:tt
        } )*]
        item: { good: $good:tt wrong: { $($wrong:tt)* } }
        then: $then:tt
    ) => {
        $( $crate::__many_values! { $variant $values } )*
        $($wrong)*
    };
}

/// Finds the `#[cfg(..)]` among the attributes of all variants and their fields.
///
/// ```text
/// input   = todo: [variant*] item: item then: { TOKEN* }
/// variant = { attrs: [ATTRIBUTE*] name: NAME number: [EXPR?] fields: [field*] values: [field*] }
/// field   = { attrs: [ATTRIBUTE*] member: NAME | NUMBER label: [EXPR] type: TYPE = TYPE }
/// output  = a call of __regroup, which goes on with __shared_data_enum
/// ```
///
/// Variants and fields are one list, in which the fields stand behind their variant.
#[doc(hidden)]
#[macro_export]
macro_rules! __variants {
    (
        todo: [$( {
            attrs: $attrs:tt name: $variant:tt number: $number:tt
            fields: [$( { attrs: $fattrs:tt $($f:tt)* } )*]
            values: [$( { attrs: $tattrs:tt $($value:tt)* } )*]
        } )*]
        item: $item:tt
        then: $then:tt
    ) => {
        $crate::__cfg_lists! {
            todo: [$(
                { attrs: $attrs variant name: $variant number: $number }
                $( { attrs: $fattrs field $($f)* } )*
                $( { attrs: $tattrs value $($value)* } )*
            )*]
            work: []
            done: []
            then: __regroup { item: $item then: $then groups: }
        }
    };
}

/// Puts fields back into the variants before them.
///
/// ```text
/// input  = item: item then: { TOKEN* } groups: [group*] | item: item then: { TOKEN* } all: group*
/// group  = { cfg: [ATTRIBUTE*] variant TOKEN* } { cfg: [ATTRIBUTE*] ( field | value ) TOKEN* }*
/// output = the good items, and a call of __shared_data_enum, in whose list each variant and each field has a `cfg`; or
///          compile errors, and the other items
/// ```
///
/// In `all`, the words stand before `cfg`. The value of a tuple variant cannot have a `#[cfg(..)]`: leaving it out would give
/// other values its number.
#[doc(hidden)]
#[macro_export]
macro_rules! __regroup {
    (item: $item:tt then: $then:tt groups: [$( { cfg: $cfg:tt $kind:ident $($g:tt)* } )*]) => {
        $crate::__regroup! { item: $item then: $then all: $( { $kind cfg: $cfg $($g)* } )* }
    };
    (
        item: { good: { $($good:tt)* } wrong: $wrong:tt }
        then: { $($then:tt)* }
        all: $(
            { variant $($v:tt)* }
            $( { field $($f:tt)* } )*
            $( { value cfg: [] $($value:tt)* } )*
        )*
    ) => {
        $($good)*
        $crate::__shared_data_enum! {
            $($then)* [$( { $($v)* fields: [$( { $($f)* } )* $( { cfg: [] $($value)* } )*] } )*]
        }
    };
    (item: { good: $good:tt wrong: { $($wrong:tt)* } } then: $then:tt all: $($all:tt)*) => {
        $crate::__value_cfgs! { $($all)* }
        $($wrong)*
    };
}

/// Reports the variants that have a value with a `#[cfg(..)]`.
///
/// ```text
/// input  = group*, as in __regroup
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __value_cfgs {
    () => {};
    (
        { variant cfg: $cfg:tt name: $variant:tt $($v:tt)* }
        $( { value cfg: [] $($before:tt)* } )*
        { value cfg: [#$predicate:tt $($more:tt)*] member: $member:tt label: $label:tt type: $ty:ty
            $( = $asked:ty )? }
        $( { value $($behind:tt)* } )*
        $( { variant $($next:tt)* } $($todo:tt)* )?
    ) => {
        $crate::__at_type! { value_cfg $ty }
        $crate::__value_cfgs! { $( { variant $($next)* } $($todo)* )? }
    };
    (
        { variant $($v:tt)* }
        $( { field $($f:tt)* } )*
        $( { value $($value:tt)* } )*
        $( { variant $($next:tt)* } $($todo:tt)* )?
    ) => {
        $crate::__value_cfgs! { $( { variant $($next)* } $($todo)* )? }
    };
}

/// Reports a variant with more than 12 values.
///
/// ```text
/// input  = NAME [TOKEN*]
/// output = an item, or nothing
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __many_values {
    ($variant:ident [
        $a0:tt $a1:tt $a2:tt $a3:tt $a4:tt $a5:tt $a6:tt $a7:tt $a8:tt $a9:tt $a10:tt $a11:tt
        { attrs: $attrs:tt type: $ty:ty $( = $asked:ty )? } $($more:tt)*
    ]) => {
        $crate::__at_type! { many_values $ty }
    };
    ($variant:ident $values:tt) => {};
}

/// Goes on with an enum none of whose variants has a field twice, if no field's name is a keyword.
///
/// ```text
/// input  = { words: [NAME*] wrong: { ITEM* } good: { ITEM* } } [TOKEN*]
/// output = the items of `wrong` or of `good`
/// ```
///
/// As lists of names, more than 48 words are not looked at.
#[doc(hidden)]
#[macro_export]
macro_rules! __variant_fields {
    ({ words: [] wrong: $wrong:tt good: { $($good:tt)* } } $names:tt) => {
        $($good)*
    };
    (
        {
            words: [
                $a0:tt $a1:tt $a2:tt $a3:tt $a4:tt $a5:tt $a6:tt $a7:tt $a8:tt $a9:tt $a10:tt $a11:tt
                $a12:tt $a13:tt $a14:tt $a15:tt $a16:tt $a17:tt $a18:tt $a19:tt $a20:tt $a21:tt $a22:tt
                $a23:tt $a24:tt $a25:tt $a26:tt $a27:tt $a28:tt $a29:tt $a30:tt $a31:tt $a32:tt $a33:tt
                $a34:tt $a35:tt $a36:tt $a37:tt $a38:tt $a39:tt $a40:tt $a41:tt $a42:tt $a43:tt $a44:tt
                $a45:tt $a46:tt $a47:tt $a48:tt
                $($more:tt)*
            ]
            wrong: $wrong:tt good: { $($good:tt)* }
        }
        $names:tt
    ) => {
        $($good)*
    };
    (
        {
            words: [$a:tt $b:tt $c:tt $d:tt $($words:tt)*]
            wrong: { $($wrong:tt)* }
            good: $good:tt
        }
        $names:tt
    ) => {
        $crate::__keywords! {
            [$a] [$b] [$c] [$d]
            found: { $($wrong)* }
            good: { $crate::__variant_fields! {
                { words: [$($words)*] wrong: { $($wrong)* } good: $good } []
            } }
        }
    };
    ({ words: [$($words:tt)+] $($rest:tt)* } $names:tt) => {
        $crate::__variant_fields! { { words: [$($words)+ __1 __2 __3] $($rest)* } [] }
    };
}

//! Variants with values: names for the values of tuple variants, and the `#[cfg(..)]` of variants and fields.

/// Gives the values of tuple variants their numbers as names, so that what follows sees fields only:
/// `Variant { 0: value }` is a tuple variant, both as a pattern and as an expression.
///
/// ```text
/// input  = variants: [ { attrs: [ATTRIBUTE*] name: NAME number: [EXPR?] fields: [field*] values: [value*] }* ]
///          then: { cfg: [ATTRIBUTE*] name: NAME TOKEN* }
/// value  = { attrs: [ATTRIBUTE*] type: TYPE = TYPE }
/// field  = { attrs: [ATTRIBUTE*] member: NAME | NUMBER label: [EXPR] type: TYPE = TYPE }
/// output = a call of __variants
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
        then: $then:tt
    ) => {
        $crate::__variants! {
            todo: [$( {
                attrs: $attrs
                name: $variant
                number: $number
                fields: [
                    $($field)*
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
            done: []
            then: $then
        }
    };
    (variants: $variants:tt then: { cfg: $cfg:tt name: $name:ident $($rest:tt)* }) => {
        $crate::__say! {
            "enum `" {$name} "`: a tuple variant has at most 12 values; write `Variant { name: Type, .. }`"
        }
    };
}

/// Finds the `#[cfg(..)]` among the attributes of all variants and their fields.
///
/// ```text
/// input   = todo: [variant*] done: [VARIANT*] then: { TOKEN* }
/// variant = { attrs: [ATTRIBUTE*] name: NAME number: [EXPR?] fields: [field*] }
/// field   = { attrs: [ATTRIBUTE*] member: NAME | NUMBER label: [EXPR] type: TYPE = TYPE }
/// output  = a call of __shared_data_enum, in whose list each `attrs` has become a `cfg`
/// ```
///
/// First the fields, variant by variant: what is left, or four variants, in one step where fields have doc comments
/// only. Then the variants.
#[doc(hidden)]
#[macro_export]
macro_rules! __variants {
    (
        todo: [$( {
            attrs: $attrs:tt name: $variant:tt number: $number:tt
            fields: [$( { attrs: [$(#[doc = $doc:literal])*] $($f:tt)* } )*]
        } )*]
        done: [$($done:tt)*]
        then: { $($then:tt)* }
    ) => {
        $crate::__cfg_lists! {
            todo: [
                $($done)*
                $( { attrs: $attrs name: $variant number: $number fields: [$( { cfg: [] $($f)* } )*] } )*
            ]
            work: []
            done: []
            then: __shared_data_enum { $($then)* }
        }
    };
    (
        todo: [
            {
                attrs: $a0:tt name: $n0:tt number: $i0:tt
                fields: [$( { attrs: [$(#[doc = $d0:literal])*] $($f0:tt)* } )*]
            }
            {
                attrs: $a1:tt name: $n1:tt number: $i1:tt
                fields: [$( { attrs: [$(#[doc = $d1:literal])*] $($f1:tt)* } )*]
            }
            {
                attrs: $a2:tt name: $n2:tt number: $i2:tt
                fields: [$( { attrs: [$(#[doc = $d2:literal])*] $($f2:tt)* } )*]
            }
            {
                attrs: $a3:tt name: $n3:tt number: $i3:tt
                fields: [$( { attrs: [$(#[doc = $d3:literal])*] $($f3:tt)* } )*]
            }
            $($todo:tt)*
        ]
        done: [$($done:tt)*]
        then: $then:tt
    ) => {
        $crate::__variants! {
            todo: [$($todo)*]
            done: [
                $($done)*
                { attrs: $a0 name: $n0 number: $i0 fields: [$( { cfg: [] $($f0)* } )*] }
                { attrs: $a1 name: $n1 number: $i1 fields: [$( { cfg: [] $($f1)* } )*] }
                { attrs: $a2 name: $n2 number: $i2 fields: [$( { cfg: [] $($f2)* } )*] }
                { attrs: $a3 name: $n3 number: $i3 fields: [$( { cfg: [] $($f3)* } )*] }
            ]
            then: $then
        }
    };
    (
        todo: [
            { attrs: $attrs:tt name: $variant:tt number: $number:tt fields: [$($field:tt)*] }
            $($todo:tt)*
        ]
        done: $done:tt
        then: $then:tt
    ) => {
        $crate::__cfg_lists! {
            todo: [$($field)*]
            work: []
            done: []
            then: __variants {
                todo: [$($todo)*]
                done: $done
                then: $then
                attrs: $attrs name: $variant number: $number fields:
            }
        }
    };
    // A variant comes back from __cfg_lists. Leaving out a value would give other values its number.
    (
        todo: $todo:tt
        done: $done:tt
        then: { cfg: $cfg:tt name: $name:ident $($rest:tt)* }
        attrs: $attrs:tt name: $variant:tt number: $number:tt
        fields: [
            { cfg: [#[cfg $($predicate:tt)*] $($more:tt)*] member: $member:literal $($f:tt)* }
            $($field:tt)*
        ]
    ) => {
        $crate::__say! {
            "variant `" {$name} "::" {$variant} "`: "
            "a value of a tuple variant cannot be left out by `#[cfg]`: "
            "declare the variant twice, with a `#[cfg]` on each, or name its fields"
        }
    };
    (
        todo: $todo:tt
        done: [$($done:tt)*]
        then: $then:tt
        attrs: $attrs:tt name: $variant:tt number: $number:tt
        fields: $fields:tt
    ) => {
        $crate::__variants! {
            todo: $todo
            done: [$($done)* { attrs: $attrs name: $variant number: $number fields: $fields }]
            then: $then
        }
    };
}

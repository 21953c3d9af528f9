//! Attributes: tells apart those that the macros read and those that they pass on.

/// Sorts the attributes of an item or a function, and passes the lists to the macro `then`.
///
/// ```text
/// input  = todo: [ATTRIBUTE*] cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] optional: [optional?]
///          then: MACRO TOKEN*
/// output = MACRO! { cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] optional: [optional?] TOKEN* }
/// ```
///
/// A caller puts all attributes into `todo`. Each step moves the first of them to the end of
/// another list:
///
/// - `cfg` takes `#[cfg(..)]`, since every item that is generated has to repeat it;
/// - `size` takes the argument of `#[size(..)]`;
/// - `optional` takes `#[optional]`;
/// - `attrs` takes all other attributes, which belong on the item that the user sees.
///
/// Most attributes are doc comments. One step moves all of them if nothing else is left, and eight
/// lines otherwise, so that long documentation stays below the compiler's recursion limit.
#[doc(hidden)]
#[macro_export]
macro_rules! __attributes {
    // `todo` is empty, or has doc comments only.
    (
        todo: [$(#[doc = $doc:literal])*]
        cfg: $cfg:tt
        attrs: [$($attr:tt)*]
        size: $size:tt
        optional: $optional:tt
        then: $then:ident
        $($input:tt)*
    ) => {
        $crate::$then! {
            cfg: $cfg
            attrs: [$($attr)* $(#[doc = $doc])*]
            size: $size
            optional: $optional
            $($input)*
        }
    };
    (
        todo: [
            #[doc = $a:literal]
            #[doc = $b:literal]
            #[doc = $c:literal]
            #[doc = $d:literal]
            #[doc = $e:literal]
            #[doc = $f:literal]
            #[doc = $g:literal]
            #[doc = $h:literal]
            $($todo:tt)*
        ]
        cfg: $cfg:tt
        attrs: [$($attr:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__attributes! {
            todo: [$($todo)*]
            cfg: $cfg
            attrs: [
                $($attr)*
                #[doc = $a]
                #[doc = $b]
                #[doc = $c]
                #[doc = $d]
                #[doc = $e]
                #[doc = $f]
                #[doc = $g]
                #[doc = $h]
            ]
            $($rest)*
        }
    };
    (
        todo: [#[cfg($($predicate:tt)*)] $($todo:tt)*]
        cfg: [$($cfg:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__attributes! {
            todo: [$($todo)*]
            cfg: [$($cfg)* #[cfg($($predicate)*)]]
            $($rest)*
        }
    };
    (
        todo: [#[size($size:expr)] $($todo:tt)*]
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: []
        $($rest:tt)*
    ) => {
        $crate::__attributes! {
            todo: [$($todo)*]
            cfg: $cfg
            attrs: $attrs
            size: [$size]
            $($rest)*
        }
    };
    (
        todo: [#[size $($wrong:tt)*] $($todo:tt)*]
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: $optional:tt
        then: $then:ident
        $($input:tt)*
    ) => {
        $crate::__refuse_attribute! { then: $then text: "write the pin as `#[size(16)]`, once" }
    };
    (
        todo: [#[optional] $($todo:tt)*]
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: []
        $($rest:tt)*
    ) => {
        $crate::__attributes! {
            todo: [$($todo)*]
            cfg: $cfg
            attrs: $attrs
            size: $size
            optional: [optional]
            $($rest)*
        }
    };
    (
        todo: [#[optional $($wrong:tt)*] $($todo:tt)*]
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: $optional:tt
        then: $then:ident
        $($input:tt)*
    ) => {
        $crate::__refuse_attribute! { then: $then text: "write `#[optional]`, without arguments and once" }
    };
    (
        todo: [#[$($other:tt)*] $($todo:tt)*]
        cfg: $cfg:tt
        attrs: [$($attr:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__attributes! {
            todo: [$($todo)*]
            cfg: $cfg
            attrs: [$($attr)* #[$($other)*]]
            $($rest)*
        }
    };
}

//! Attributes: tells apart those that the macros read, those that every generated item repeats, and those that belong
//! on what the user sees.

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
/// Most attributes are doc comments. One step moves all of them if nothing else is left, and 48 or eight
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
            #[doc = $d0:literal] #[doc = $d1:literal] #[doc = $d2:literal] #[doc = $d3:literal]
            #[doc = $d4:literal] #[doc = $d5:literal] #[doc = $d6:literal] #[doc = $d7:literal]
            #[doc = $d8:literal] #[doc = $d9:literal] #[doc = $d10:literal] #[doc = $d11:literal]
            #[doc = $d12:literal] #[doc = $d13:literal] #[doc = $d14:literal] #[doc = $d15:literal]
            #[doc = $d16:literal] #[doc = $d17:literal] #[doc = $d18:literal] #[doc = $d19:literal]
            #[doc = $d20:literal] #[doc = $d21:literal] #[doc = $d22:literal] #[doc = $d23:literal]
            #[doc = $d24:literal] #[doc = $d25:literal] #[doc = $d26:literal] #[doc = $d27:literal]
            #[doc = $d28:literal] #[doc = $d29:literal] #[doc = $d30:literal] #[doc = $d31:literal]
            #[doc = $d32:literal] #[doc = $d33:literal] #[doc = $d34:literal] #[doc = $d35:literal]
            #[doc = $d36:literal] #[doc = $d37:literal] #[doc = $d38:literal] #[doc = $d39:literal]
            #[doc = $d40:literal] #[doc = $d41:literal] #[doc = $d42:literal] #[doc = $d43:literal]
            #[doc = $d44:literal] #[doc = $d45:literal] #[doc = $d46:literal] #[doc = $d47:literal]
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
                #[doc = $d0] #[doc = $d1] #[doc = $d2] #[doc = $d3]
                #[doc = $d4] #[doc = $d5] #[doc = $d6] #[doc = $d7]
                #[doc = $d8] #[doc = $d9] #[doc = $d10] #[doc = $d11]
                #[doc = $d12] #[doc = $d13] #[doc = $d14] #[doc = $d15]
                #[doc = $d16] #[doc = $d17] #[doc = $d18] #[doc = $d19]
                #[doc = $d20] #[doc = $d21] #[doc = $d22] #[doc = $d23]
                #[doc = $d24] #[doc = $d25] #[doc = $d26] #[doc = $d27]
                #[doc = $d28] #[doc = $d29] #[doc = $d30] #[doc = $d31]
                #[doc = $d32] #[doc = $d33] #[doc = $d34] #[doc = $d35]
                #[doc = $d36] #[doc = $d37] #[doc = $d38] #[doc = $d39]
                #[doc = $d40] #[doc = $d41] #[doc = $d42] #[doc = $d43]
                #[doc = $d44] #[doc = $d45] #[doc = $d46] #[doc = $d47]
            ]
            $($rest)*
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
        todo: [#[cfg($($predicate:tt)+)] $($todo:tt)*]
        cfg: [$($cfg:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__attributes! {
            todo: [$($todo)*]
            cfg: [$($cfg)* #[cfg($($predicate)+)]]
            $($rest)*
        }
    };
    (
        todo: [#[cfg $($wrong:tt)*] $($todo:tt)*]
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: $optional:tt
        then: $then:ident
        $($input:tt)*
    ) => {
        $crate::__refuse_attribute! { cfg [$($wrong)*] then: $then $($input)* }
        $crate::__attributes! {
            todo: [$($todo)*] cfg: $cfg attrs: $attrs size: $size optional: $optional then: $then $($input)*
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
        $crate::__refuse_attribute! { size [$($wrong)*] then: $then $($input)* }
        $crate::__attributes! {
            todo: [$($todo)*] cfg: $cfg attrs: $attrs size: $size optional: $optional then: $then $($input)*
        }
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
        $crate::__refuse_attribute! { optional [$($wrong)*] then: $then $($input)* }
        $crate::__attributes! {
            todo: [$($todo)*] cfg: $cfg attrs: $attrs size: $size optional: $optional then: $then $($input)*
        }
    };
    // What has no kind is a function: these attributes belong on structs and enums.
    (
        todo: [#[derive($($arguments:tt)*)] $($todo:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__of_a_type! { [derive($($arguments)*)] todo: [$($todo)*] $($rest)* }
    };
    (
        todo: [#[repr $($arguments:tt)*] $($todo:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__of_a_type! { [repr $($arguments)*] todo: [$($todo)*] $($rest)* }
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

/// Moves an attribute of types to the others, or reports it where there is no type.
///
/// ```text
/// input  = [TOKEN*] the input of __attributes
/// output = a call of __attributes
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __of_a_type {
    (
        $other:tt
        todo: $todo:tt cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        then: __references vis: $vis:tt item: interface $($rest:tt)*
    ) => {
        $crate::__refuse_attribute! { of_a_type $other then: __references vis: $vis item: interface $($rest)*
            }
        $crate::__attributes! {
            todo: $todo cfg: $cfg attrs: $attrs size: $size optional: $optional
            then: __references vis: $vis item: interface $($rest)*
        }
    };
    (
        [$($other:tt)*]
        todo: $todo:tt cfg: $cfg:tt attrs: [$($attr:tt)*] size: $size:tt optional: $optional:tt
        then: __references $($rest:tt)*
    ) => {
        $crate::__attributes! {
            todo: $todo cfg: $cfg attrs: [$($attr)* #[$($other)*]] size: $size optional: $optional
            then: __references $($rest)*
        }
    };
    (
        $other:tt
        todo: $todo:tt cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        then: $then:ident $($rest:tt)*
    ) => {
        $crate::__refuse_attribute! { of_a_type $other then: $then $($rest)* }
        $crate::__attributes! {
            todo: $todo cfg: $cfg attrs: $attrs size: $size optional: $optional then: $then $($rest)*
        }
    };
}

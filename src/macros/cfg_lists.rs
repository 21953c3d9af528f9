//! The `#[cfg(..)]` of fields and variants, which what is generated repeats.

/// Finds the `#[cfg(..)]` among the attributes of fields or variants. Generated code repeats these for each use of the
/// field or variant; all other attributes belong on the user's type alone.
///
/// ```text
/// input  = todo: [group*] work: [] done: [] then: MACRO { TOKEN* }
/// group  = { attrs: [ATTRIBUTE*] TOKEN* }
/// output = MACRO! { TOKEN* [ { cfg: [ATTRIBUTE*] TOKEN* }* ] }
/// ```
///
/// Groups whose attributes are all doc comments have no `#[cfg]`: all that is left of such, or eight of them, take one
/// step. Of other groups, up to eight are in `work` at a time. There each has `todo`, the attributes that are not looked
/// at yet, and `cfg`, those that were found. A step takes 48 or sixteen lines of documentation or a `#[cfg]`
/// that come first in a group, or else the first attribute of each group. `#[__end]` stands behind the last attribute, so that there always is a first one.
#[doc(hidden)]
#[macro_export]
macro_rules! __cfg_lists {
    (
        todo: [$( { attrs: [$(#[doc = $doc:literal])*] $($g:tt)* } )*]
        work: []
        done: [$($done:tt)*]
        then: $then:ident { $($input:tt)* }
    ) => {
        $crate::$then! {
            $($input)* [$($done)* $( { cfg: [] $($g)* } )*]
        }
    };
    (
        todo: [
            { attrs: [$(#[doc = $d0:literal])*] $($g0:tt)* }
            { attrs: [$(#[doc = $d1:literal])*] $($g1:tt)* }
            { attrs: [$(#[doc = $d2:literal])*] $($g2:tt)* }
            { attrs: [$(#[doc = $d3:literal])*] $($g3:tt)* }
            { attrs: [$(#[doc = $d4:literal])*] $($g4:tt)* }
            { attrs: [$(#[doc = $d5:literal])*] $($g5:tt)* }
            { attrs: [$(#[doc = $d6:literal])*] $($g6:tt)* }
            { attrs: [$(#[doc = $d7:literal])*] $($g7:tt)* }
            $($todo:tt)*
        ]
        work: []
        done: [$($done:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: [$($todo)*]
            work: []
            done: [
                $($done)*
                { cfg: [] $($g0)* }
                { cfg: [] $($g1)* }
                { cfg: [] $($g2)* }
                { cfg: [] $($g3)* }
                { cfg: [] $($g4)* }
                { cfg: [] $($g5)* }
                { cfg: [] $($g6)* }
                { cfg: [] $($g7)* }
            ]
            $($rest)*
        }
    };
    (
        todo: [$g0:tt $g1:tt $g2:tt $g3:tt $g4:tt $g5:tt $g6:tt $g7:tt $($todo:tt)+]
        work: []
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            begin: [$g0 $g1 $g2 $g3 $g4 $g5 $g6 $g7]
            todo: [$($todo)*]
            $($rest)*
        }
    };
    (todo: [$($todo:tt)*] work: [] $($rest:tt)*) => {
        $crate::__cfg_lists! {
            begin: [$($todo)*]
            todo: []
            $($rest)*
        }
    };
    (
        begin: [$( { attrs: [$($attr:tt)*] $($g:tt)* } )*]
        todo: $todo:tt
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$( { cfg: [] todo: [$($attr)* #[__end]] $($g)* } )*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [ {
            cfg: $cfg:tt
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
                $($t:tt)*
            ]
            $($g:tt)*
        } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [ { cfg: $cfg todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [ {
            cfg: $cfg:tt
            todo: [
                #[doc = $d0:literal] #[doc = $d1:literal] #[doc = $d2:literal] #[doc = $d3:literal]
                #[doc = $d4:literal] #[doc = $d5:literal] #[doc = $d6:literal] #[doc = $d7:literal]
                #[doc = $d8:literal] #[doc = $d9:literal] #[doc = $d10:literal] #[doc = $d11:literal]
                #[doc = $d12:literal] #[doc = $d13:literal] #[doc = $d14:literal] #[doc = $d15:literal]
                $($t:tt)*
            ]
            $($g:tt)*
        } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [ { cfg: $cfg todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt {
            cfg: $cfg:tt
            todo: [
                #[doc = $d0:literal] #[doc = $d1:literal] #[doc = $d2:literal] #[doc = $d3:literal]
                #[doc = $d4:literal] #[doc = $d5:literal] #[doc = $d6:literal] #[doc = $d7:literal]
                #[doc = $d8:literal] #[doc = $d9:literal] #[doc = $d10:literal] #[doc = $d11:literal]
                #[doc = $d12:literal] #[doc = $d13:literal] #[doc = $d14:literal] #[doc = $d15:literal]
                $($t:tt)*
            ]
            $($g:tt)*
        } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 { cfg: $cfg todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt {
            cfg: $cfg:tt
            todo: [
                #[doc = $d0:literal] #[doc = $d1:literal] #[doc = $d2:literal] #[doc = $d3:literal]
                #[doc = $d4:literal] #[doc = $d5:literal] #[doc = $d6:literal] #[doc = $d7:literal]
                #[doc = $d8:literal] #[doc = $d9:literal] #[doc = $d10:literal] #[doc = $d11:literal]
                #[doc = $d12:literal] #[doc = $d13:literal] #[doc = $d14:literal] #[doc = $d15:literal]
                $($t:tt)*
            ]
            $($g:tt)*
        } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 { cfg: $cfg todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt $g2:tt {
            cfg: $cfg:tt
            todo: [
                #[doc = $d0:literal] #[doc = $d1:literal] #[doc = $d2:literal] #[doc = $d3:literal]
                #[doc = $d4:literal] #[doc = $d5:literal] #[doc = $d6:literal] #[doc = $d7:literal]
                #[doc = $d8:literal] #[doc = $d9:literal] #[doc = $d10:literal] #[doc = $d11:literal]
                #[doc = $d12:literal] #[doc = $d13:literal] #[doc = $d14:literal] #[doc = $d15:literal]
                $($t:tt)*
            ]
            $($g:tt)*
        } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 $g2 { cfg: $cfg todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt $g2:tt $g3:tt {
            cfg: $cfg:tt
            todo: [
                #[doc = $d0:literal] #[doc = $d1:literal] #[doc = $d2:literal] #[doc = $d3:literal]
                #[doc = $d4:literal] #[doc = $d5:literal] #[doc = $d6:literal] #[doc = $d7:literal]
                #[doc = $d8:literal] #[doc = $d9:literal] #[doc = $d10:literal] #[doc = $d11:literal]
                #[doc = $d12:literal] #[doc = $d13:literal] #[doc = $d14:literal] #[doc = $d15:literal]
                $($t:tt)*
            ]
            $($g:tt)*
        } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 $g2 $g3 { cfg: $cfg todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt $g2:tt $g3:tt $g4:tt {
            cfg: $cfg:tt
            todo: [
                #[doc = $d0:literal] #[doc = $d1:literal] #[doc = $d2:literal] #[doc = $d3:literal]
                #[doc = $d4:literal] #[doc = $d5:literal] #[doc = $d6:literal] #[doc = $d7:literal]
                #[doc = $d8:literal] #[doc = $d9:literal] #[doc = $d10:literal] #[doc = $d11:literal]
                #[doc = $d12:literal] #[doc = $d13:literal] #[doc = $d14:literal] #[doc = $d15:literal]
                $($t:tt)*
            ]
            $($g:tt)*
        } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 $g2 $g3 $g4 { cfg: $cfg todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt $g2:tt $g3:tt $g4:tt $g5:tt {
            cfg: $cfg:tt
            todo: [
                #[doc = $d0:literal] #[doc = $d1:literal] #[doc = $d2:literal] #[doc = $d3:literal]
                #[doc = $d4:literal] #[doc = $d5:literal] #[doc = $d6:literal] #[doc = $d7:literal]
                #[doc = $d8:literal] #[doc = $d9:literal] #[doc = $d10:literal] #[doc = $d11:literal]
                #[doc = $d12:literal] #[doc = $d13:literal] #[doc = $d14:literal] #[doc = $d15:literal]
                $($t:tt)*
            ]
            $($g:tt)*
        } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 $g2 $g3 $g4 $g5 { cfg: $cfg todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt $g2:tt $g3:tt $g4:tt $g5:tt $g6:tt {
            cfg: $cfg:tt
            todo: [
                #[doc = $d0:literal] #[doc = $d1:literal] #[doc = $d2:literal] #[doc = $d3:literal]
                #[doc = $d4:literal] #[doc = $d5:literal] #[doc = $d6:literal] #[doc = $d7:literal]
                #[doc = $d8:literal] #[doc = $d9:literal] #[doc = $d10:literal] #[doc = $d11:literal]
                #[doc = $d12:literal] #[doc = $d13:literal] #[doc = $d14:literal] #[doc = $d15:literal]
                $($t:tt)*
            ]
            $($g:tt)*
        } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 $g2 $g3 $g4 $g5 $g6 { cfg: $cfg todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [ { cfg: [$($cfg:tt)*] todo: [#[cfg($($p:tt)*)] $($t:tt)*] $($g:tt)* } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [ { cfg: [$($cfg)* #[cfg($($p)*)]] todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt { cfg: [$($cfg:tt)*] todo: [#[cfg($($p:tt)*)] $($t:tt)*] $($g:tt)* } $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 { cfg: [$($cfg)* #[cfg($($p)*)]] todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt
            { cfg: [$($cfg:tt)*] todo: [#[cfg($($p:tt)*)] $($t:tt)*] $($g:tt)* }
            $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 { cfg: [$($cfg)* #[cfg($($p)*)]] todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt $g2:tt
            { cfg: [$($cfg:tt)*] todo: [#[cfg($($p:tt)*)] $($t:tt)*] $($g:tt)* }
            $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 $g2 { cfg: [$($cfg)* #[cfg($($p)*)]] todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt $g2:tt $g3:tt
            { cfg: [$($cfg:tt)*] todo: [#[cfg($($p:tt)*)] $($t:tt)*] $($g:tt)* }
            $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 $g2 $g3 { cfg: [$($cfg)* #[cfg($($p)*)]] todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt $g2:tt $g3:tt $g4:tt
            { cfg: [$($cfg:tt)*] todo: [#[cfg($($p:tt)*)] $($t:tt)*] $($g:tt)* }
            $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 $g2 $g3 $g4 { cfg: [$($cfg)* #[cfg($($p)*)]] todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt $g2:tt $g3:tt $g4:tt $g5:tt
            { cfg: [$($cfg:tt)*] todo: [#[cfg($($p:tt)*)] $($t:tt)*] $($g:tt)* }
            $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 $g2 $g3 $g4 $g5 { cfg: [$($cfg)* #[cfg($($p)*)]] todo: [$($t)*] $($g)* } $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$g0:tt $g1:tt $g2:tt $g3:tt $g4:tt $g5:tt $g6:tt
            { cfg: [$($cfg:tt)*] todo: [#[cfg($($p:tt)*)] $($t:tt)*] $($g:tt)* }
            $($work:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$g0 $g1 $g2 $g3 $g4 $g5 $g6
                { cfg: [$($cfg)* #[cfg($($p)*)]] todo: [$($t)*] $($g)* }
                $($work)*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$( { cfg: $cfg:tt todo: [#[__end] $($end:tt)*] $($g:tt)* } )*]
        done: [$($done:tt)*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: []
            done: [$($done)* $( { cfg: $cfg $($g)* } )*]
            $($rest)*
        }
    };
    (
        todo: $todo:tt
        work: [$( { cfg: $cfg:tt todo: [#[$($first:tt)*] $($t:tt)*] $($g:tt)* } )*]
        $($rest:tt)*
    ) => {
        $crate::__cfg_lists! {
            todo: $todo
            work: [$( { cfg: $cfg todo: [$($t)* #[__end]] $($g)* } )*]
            $($rest)*
        }
    };
}

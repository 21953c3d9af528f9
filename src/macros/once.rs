//! Names that are declared once: two functions, fields, variants or items of one name are one error, at the second name.

/// Leaves out elements whose name was there before, and reports them.
///
/// ```text
/// input   = todo: [element*] then: MACRO { TOKEN* }
/// element = ( [ATTRIBUTE*] NAME { TOKEN* } )
/// output  = MACRO! { TOKEN* [ { TOKEN* }* ] }
/// ```
///
/// A name may stand twice with different `#[cfg(..)]`, so nothing is checked if there are attributes that could be one. Lists
/// of more than 48 are not checked either: the steps for a list, for the one around it, and those of what follows must stay
/// below the compiler's recursion limit.
#[doc(hidden)]
#[macro_export]
macro_rules! __once {
    (
        todo: [
            $a0:tt $a1:tt $a2:tt $a3:tt $a4:tt $a5:tt $a6:tt $a7:tt $a8:tt $a9:tt $a10:tt $a11:tt
            $a12:tt $a13:tt $a14:tt $a15:tt $a16:tt $a17:tt $a18:tt $a19:tt $a20:tt $a21:tt $a22:tt
            $a23:tt $a24:tt $a25:tt $a26:tt $a27:tt $a28:tt $a29:tt $a30:tt $a31:tt $a32:tt $a33:tt
            $a34:tt $a35:tt $a36:tt $a37:tt $a38:tt $a39:tt $a40:tt $a41:tt $a42:tt $a43:tt $a44:tt
            $a45:tt $a46:tt $a47:tt $a48:tt
            $($more:tt)*
        ]
        then: $then:ident $input:tt
    ) => {
        $crate::__unchecked! {
            todo: [
                $a0 $a1 $a2 $a3 $a4 $a5 $a6 $a7 $a8 $a9 $a10 $a11 $a12 $a13 $a14 $a15 $a16 $a17 $a18
                $a19 $a20 $a21 $a22 $a23 $a24 $a25 $a26 $a27 $a28 $a29 $a30 $a31 $a32 $a33 $a34 $a35
                $a36 $a37 $a38 $a39 $a40 $a41 $a42 $a43 $a44 $a45 $a46 $a47 $a48
                $($more)*
            ]
            then: $then $input
        }
    };
    (
        todo: [$( (
            [
                $(#[doc = $doc:literal])* $(#[allow $($al:tt)*])* $(#[derive $($de:tt)*])*
                $(#[must_use $($mu:tt)*])? $(#[deprecated $($dp:tt)*])? $(#[size $($si:tt)*])? $(#[optional])?
                $(#[serde $($se:tt)*])* $(#[error $($er:tt)*])? $(#[default])?
            ]
            $name:tt $element:tt
        ) )*]
        then: $then:ident $input:tt
    ) => {
        $crate::__names! {
            dollar: ($) seen: [] done: [] todo: [$( ($name $element) )*] then: $then $input
        }
    };
    (todo: $todo:tt then: $then:ident $input:tt) => {
        $crate::__unchecked! { todo: $todo then: $then $input }
    };
}

/// Goes on with all elements.
///
/// ```text
/// input  = todo: [element*] then: MACRO { TOKEN* }
/// output = that of __once
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __unchecked {
    (todo: [$( ($attrs:tt $name:tt $element:tt) )*] then: $then:ident { $($input:tt)* }) => {
        $crate::$then! { $($input)* [$($element)*] }
    };
}

/// Looks at the next names.
///
/// ```text
/// input   = state | four: { state } | one: { state } | new: { state } | again: NAME { state }
/// state   = dollar: ($) seen: [NAME*] done: [{ TOKEN* }*] todo: [element*] then: MACRO { TOKEN* }
/// element = ( NAME { TOKEN* } )
/// output  = that of __once
/// ```
///
/// `seen` has the names so far. They become the rules of a macro, which is called with the next four names: if one of them
/// was there, or stands among the four twice, the four are looked at one by one.
#[doc(hidden)]
#[macro_export]
macro_rules! __names {
    (
        dollar: ($d:tt)
        seen: [$($seen:tt)*]
        done: $done:tt
        todo: [($n0:tt $e0:tt) ($n1:tt $e1:tt) ($n2:tt $e2:tt) ($n3:tt $e3:tt) $($todo:tt)*]
        then: $then:ident $input:tt
    ) => {
        macro_rules! __four {
            $(
                ($seen $d b:tt $d c:tt $d d:tt $d s:tt) => { $crate::__names! { one: $d s } };
                ($d a:tt $seen $d c:tt $d d:tt $d s:tt) => { $crate::__names! { one: $d s } };
                ($d a:tt $d b:tt $seen $d d:tt $d s:tt) => { $crate::__names! { one: $d s } };
                ($d a:tt $d b:tt $d c:tt $seen $d s:tt) => { $crate::__names! { one: $d s } };
            )*
            ($d a:tt $n0 $d c:tt $d d:tt $d s:tt) => { $crate::__names! { one: $d s } };
            ($d a:tt $d b:tt $n0 $d d:tt $d s:tt) => { $crate::__names! { one: $d s } };
            ($d a:tt $d b:tt $n1 $d d:tt $d s:tt) => { $crate::__names! { one: $d s } };
            ($d a:tt $d b:tt $d c:tt $n0 $d s:tt) => { $crate::__names! { one: $d s } };
            ($d a:tt $d b:tt $d c:tt $n1 $d s:tt) => { $crate::__names! { one: $d s } };
            ($d a:tt $d b:tt $d c:tt $n2 $d s:tt) => { $crate::__names! { one: $d s } };
            ($d a:tt $d b:tt $d c:tt $d d:tt $d s:tt) => { $crate::__names! { four: $d s } };
        }
        __four! { $n0 $n1 $n2 $n3 {
            dollar: ($d)
            seen: [$($seen)*]
            done: $done
            todo: [($n0 $e0) ($n1 $e1) ($n2 $e2) ($n3 $e3) $($todo)*]
            then: $then $input
        } }
    };
    (four: {
        dollar: $dollar:tt
        seen: [$($seen:tt)*]
        done: [$($done:tt)*]
        todo: [($n0:tt $e0:tt) ($n1:tt $e1:tt) ($n2:tt $e2:tt) ($n3:tt $e3:tt) $($todo:tt)*]
        $($rest:tt)*
    }) => {
        $crate::__names! {
            dollar: $dollar
            seen: [$($seen)* $n0 $n1 $n2 $n3]
            done: [$($done)* $e0 $e1 $e2 $e3]
            todo: [$($todo)*]
            $($rest)*
        }
    };
    (dollar: $dollar:tt seen: $seen:tt done: [$($done:tt)*] todo: [] then: $then:ident { $($input:tt)* }) => {
        $crate::$then! { $($input)* [$($done)*] }
    };
    (dollar: $dollar:tt $($rest:tt)*) => {
        $crate::__names! { one: { dollar: $dollar $($rest)* } }
    };
    (one: {
        dollar: ($d:tt) seen: [$($seen:tt)*] done: $done:tt todo: [($name:tt $element:tt) $($todo:tt)*] $($rest:tt)*
    }) => {
        macro_rules! __one {
            $( ($seen $d s:tt) => { $crate::__names! { again: $seen $d s } }; )*
            ($d a:tt $d s:tt) => { $crate::__names! { new: $d s } };
        }
        __one! { $name {
            dollar: ($d) seen: [$($seen)*] done: $done todo: [($name $element) $($todo)*] $($rest)*
        } }
    };
    (new: {
        dollar: $dollar:tt
        seen: [$($seen:tt)*]
        done: [$($done:tt)*]
        todo: [($name:tt $element:tt) $($todo:tt)*]
        $($rest:tt)*
    }) => {
        $crate::__names! {
            dollar: $dollar seen: [$($seen)* $name] done: [$($done)* $element] todo: [$($todo)*] $($rest)*
        }
    };
    (again: $first:tt {
        dollar: $dollar:tt seen: $seen:tt done: $done:tt todo: [($name:tt $element:tt) $($todo:tt)*]
        then: $then:ident $input:tt
    }) => {
        $crate::__twice! { $then $first $name }
        $crate::__names! { dollar: $dollar seen: $seen done: $done todo: [$($todo)*] then: $then $input }
    };
}

/// Lets the compiler say of a name that it is there twice. It points at the second one, and shows the first one.
///
/// ```text
/// input  = MACRO NAME NAME
/// output = an item
/// ```
///
/// `MACRO` is where a list goes on to, so it tells the kinds of list apart. Names of fields and variants are fragments, and
/// where a variant is declared by a fragment the compiler points at the macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __twice {
    (__items $($names:tt)*) => { $crate::__twice! { declared $($names)* } };
    (__interface $($names:tt)*) => { $crate::__twice! { declared $($names)* } };
    (__elided_interface $($names:tt)*) => { $crate::__twice! { declared $($names)* } };
    (declared $first:tt $second:tt) => {
        const _: () = {
            #[allow(dead_code, nonstandard_style, reason = "it has the user's names")]
            enum __Names { $first, $second }
        };
    };
    ($then:ident $first:tt $second:tt) => {
        const _: () = {
            #[allow(dead_code, nonstandard_style, reason = "it has the user's names")]
            struct __Names { $first: () }
            let _ = __Names { $first: (), $second: () };
        };
    };
}

//! Names: two functions, parameters, fields, variants or items of one name are one error, at the second name, and a word that
//! can be no name is one error, at that word.

/// Leaves out elements whose name was there before, and reports them.
///
/// ```text
/// input   = todo: [element*] wrong: { ITEM* } then: MACRO { TOKEN* }
/// element = ( [ATTRIBUTE*] NAME { TOKEN* } )
/// output  = MACRO! { TOKEN* [ { TOKEN* }* ] }, or the items of `wrong`, if there are some and a name is a keyword
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
        wrong: $wrong:tt
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
        wrong: $wrong:tt
        then: $then:ident $input:tt
    ) => {
        $crate::__names! {
            next: { dollar: ($) seen: [] done: [] now: [] todo: [$( ($name $element) )*] wrong: $wrong then:
                $then $input }
        }
    };
    (todo: $todo:tt wrong: $wrong:tt then: $then:ident $input:tt) => {
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
/// input   = next: { state } | one: { state } | new: { state } | again: NAME { state } | word: { state }
/// state   = dollar: ($) seen: [NAME*] done: [{ TOKEN* }*] now: [element*] todo: [element*]
///           wrong: { ITEM* } then: MACRO { TOKEN* }
/// element = ( NAME { TOKEN* } )
/// output  = that of __once
/// ```
///
/// `seen` has the names so far. They become the rules of a macro, which is called with the next four names, those of `now`: if
/// one of them was there, or stands among the four twice, or is a keyword, the four are looked at one by one. Other names stand
/// for those that there are not.
#[doc(hidden)]
#[macro_export]
macro_rules! __names {
    (next: {
        dollar: $d:tt
        seen: [$($seen:tt)*]
        done: [$($done:tt)*]
        now: [$( ($name:tt $element:tt) )*]
        todo: [$n0:tt $n1:tt $n2:tt $n3:tt $($todo:tt)*]
        $($rest:tt)*
    }) => {
        $crate::__four_names! { $n0 $n1 $n2 $n3 {
            dollar: $d seen: [$($seen)* $($name)*] done: [$($done)* $($element)*]
            now: [$n0 $n1 $n2 $n3] todo: [$($todo)*] $($rest)*
        } }
    };
    (next: {
        dollar: $dollar:tt
        seen: $seen:tt
        done: [$($done:tt)*]
        now: [$( ($name:tt $element:tt) )*]
        todo: []
        wrong: $wrong:tt
        then: $then:ident { $($input:tt)* }
    }) => {
        $crate::$then! { $($input)* [$($done)* $($element)*] }
    };
    (next: {
        dollar: $d:tt
        seen: [$($seen:tt)*]
        done: [$($done:tt)*]
        now: [$( ($name:tt $element:tt) )*]
        todo: [$n0:tt $($n1:tt $($n2:tt)?)?]
        $($rest:tt)*
    }) => {
        $crate::__four_names! { $n0 $($n1 $($n2)?)? (__1 {}) (__2 {}) (__3 {}) {
            dollar: $d seen: [$($seen)* $($name)*] done: [$($done)* $($element)*]
            now: [$n0 $($n1 $($n2)?)?] todo: [] $($rest)*
        } }
    };
    (one: { dollar: $dollar:tt seen: $seen:tt done: $done:tt now: [] $($rest:tt)* }) => {
        $crate::__names! { next: { dollar: $dollar seen: $seen done: $done now: [] $($rest)* } }
    };
    (one: {
        dollar: ($d:tt) seen: [$($seen:tt)*] done: $done:tt now: [($name:tt $element:tt) $($now:tt)*]
            $($rest:tt)*
    }) => {
        $crate::__keywords! {
            [$name] [__1] [__2] [__3]
            found: { $crate::__names! { word: {
                dollar: ($d) seen: [$($seen)*] done: $done now: [($name $element) $($now)*] $($rest)*
            } } }
            good: {
                macro_rules! __one {
                    $( ($seen $d s:tt) => { $crate::__names! { again: $seen $d s } }; )*
                    ($d a:tt $d s:tt) => { $crate::__names! { new: $d s } };
                }
                __one! { $name {
                    dollar: ($d) seen: [$($seen)*] done: $done now: [($name $element) $($now)*] $($rest)*
                } }
            }
        }
    };
    (new: {
        dollar: $dollar:tt
        seen: [$($seen:tt)*]
        done: [$($done:tt)*]
        now: [($name:tt $element:tt) $($now:tt)*]
        $($rest:tt)*
    }) => {
        $crate::__names! { one: {
            dollar: $dollar seen: [$($seen)* $name] done: [$($done)* $element] now: [$($now)*] $($rest)*
        } }
    };
    (again: $first:tt {
        dollar: $dollar:tt seen: $seen:tt done: $done:tt now: $now:tt todo: $todo:tt
        wrong: { $($wrong:tt)* } then: __variant_fields $input:tt
    }) => {
        $($wrong)*
    };
    // `impl Name { .. }` declares no name.
    (again: $first:tt {
        dollar: $dollar:tt seen: $seen:tt done: $done:tt
        now: [
            ($name:tt { attrs: $attrs:tt vis: $vis:tt item: impl $same:tt $($element:tt)* })
            $($now:tt)*
        ]
        $($rest:tt)*
    }) => {
        $crate::__at_word! { misplaced $name }
        $crate::__names! { one: {
            dollar: $dollar seen: $seen done: $done now: [$($now)*] $($rest)*
        } }
    };
    (again: $first:tt {
        dollar: $dollar:tt seen: $seen:tt done: $done:tt now: [($name:tt $element:tt) $($now:tt)*] todo:
            $todo:tt
        wrong: $wrong:tt then: $then:ident $input:tt
    }) => {
        $crate::__twice! { $then $first $name }
        $crate::__names! { one: {
            dollar: $dollar seen: $seen done: $done now: [$($now)*] todo: $todo wrong: $wrong then: $then
                $input
        } }
    };
    (word: {
        dollar: $dollar:tt seen: $seen:tt done: $done:tt now: [($name:tt $element:tt) $($now:tt)*] todo:
            $todo:tt
        wrong: {} $($rest:tt)*
    }) => {
        $crate::__no_name! { $name }
        $crate::__names! { one: {
            dollar: $dollar seen: $seen done: $done now: [$($now)*] todo: $todo wrong: {} $($rest)*
        } }
    };
    (word: {
        dollar: $dollar:tt seen: $seen:tt done: $done:tt now: $now:tt todo: $todo:tt
        wrong: { $($wrong:tt)* } then: $then:ident $input:tt
    }) => {
        $($wrong)*
    };
}

/// Looks at four names. What stands behind them is not looked at.
///
/// ```text
/// input  = element element element element element* { state }, as for __names
/// output = a call of __names
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __four_names {
    (
        ($n0:tt $e0:tt) ($n1:tt $e1:tt) ($n2:tt $e2:tt) ($n3:tt $e3:tt) $( ($name:tt $element:tt) )*
        { dollar: ($d:tt) seen: [$($seen:tt)*] $($rest:tt)* }
    ) => {
        $crate::__keywords! {
            [$n0] [$n1] [$n2] [$n3]
            found: { $crate::__names! { one: { dollar: ($d) seen: [$($seen)*] $($rest)* } } }
            good: {
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
                    ($d a:tt $d b:tt $d c:tt $d d:tt $d s:tt) => { $crate::__names! { next: $d s } };
                }
                __four! { $n0 $n1 $n2 $n3 { dollar: ($d) seen: [$($seen)*] $($rest)* } }
            }
        }
    };
}

/// Whether one of four words can be no name: a keyword or a literal.
///
/// ```text
/// input  = [TOKEN] [TOKEN] [TOKEN] [TOKEN] found: { TOKEN* } good: { TOKEN* }
/// output = the tokens of `found` or of `good`
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __keywords {
    (
        [
            $(as)? $(async)? $(await)? $(break)? $(const)? $(continue)? $(crate)? $(dyn)? $(else)? $(enum)?
                $(extern)?
            $(fn)? $(for)? $(if)? $(impl)? $(in)? $(let)? $(loop)? $(match)? $(mod)? $(move)? $(mut)? $(pub)?
                $(ref)?
            $(return)? $(self)? $(Self)? $(static)? $(struct)? $(super)? $(trait)? $(type)? $(unsafe)? $(use)?
            $(where)? $(while)? $(abstract)? $(become)? $(box)? $(do)? $(final)? $(macro)? $(override)?
                $(priv)?
            $(try)? $(typeof)? $(unsized)? $(virtual)? $(yield)? $(_)?
        ]
        $b:tt $c:tt $d:tt found: { $($found:tt)* } good: $good:tt
    ) => {
        $($found)*
    };
    (
        $a:tt
        [
            $(as)? $(async)? $(await)? $(break)? $(const)? $(continue)? $(crate)? $(dyn)? $(else)? $(enum)?
                $(extern)?
            $(fn)? $(for)? $(if)? $(impl)? $(in)? $(let)? $(loop)? $(match)? $(mod)? $(move)? $(mut)? $(pub)?
                $(ref)?
            $(return)? $(self)? $(Self)? $(static)? $(struct)? $(super)? $(trait)? $(type)? $(unsafe)? $(use)?
            $(where)? $(while)? $(abstract)? $(become)? $(box)? $(do)? $(final)? $(macro)? $(override)?
                $(priv)?
            $(try)? $(typeof)? $(unsized)? $(virtual)? $(yield)? $(_)?
        ]
        $c:tt $d:tt found: { $($found:tt)* } good: $good:tt
    ) => {
        $($found)*
    };
    (
        $a:tt $b:tt
        [
            $(as)? $(async)? $(await)? $(break)? $(const)? $(continue)? $(crate)? $(dyn)? $(else)? $(enum)?
                $(extern)?
            $(fn)? $(for)? $(if)? $(impl)? $(in)? $(let)? $(loop)? $(match)? $(mod)? $(move)? $(mut)? $(pub)?
                $(ref)?
            $(return)? $(self)? $(Self)? $(static)? $(struct)? $(super)? $(trait)? $(type)? $(unsafe)? $(use)?
            $(where)? $(while)? $(abstract)? $(become)? $(box)? $(do)? $(final)? $(macro)? $(override)?
                $(priv)?
            $(try)? $(typeof)? $(unsized)? $(virtual)? $(yield)? $(_)?
        ]
        $d:tt found: { $($found:tt)* } good: $good:tt
    ) => {
        $($found)*
    };
    (
        $a:tt $b:tt $c:tt
        [
            $(as)? $(async)? $(await)? $(break)? $(const)? $(continue)? $(crate)? $(dyn)? $(else)? $(enum)?
                $(extern)?
            $(fn)? $(for)? $(if)? $(impl)? $(in)? $(let)? $(loop)? $(match)? $(mod)? $(move)? $(mut)? $(pub)?
                $(ref)?
            $(return)? $(self)? $(Self)? $(static)? $(struct)? $(super)? $(trait)? $(type)? $(unsafe)? $(use)?
            $(where)? $(while)? $(abstract)? $(become)? $(box)? $(do)? $(final)? $(macro)? $(override)?
                $(priv)?
            $(try)? $(typeof)? $(unsized)? $(virtual)? $(yield)? $(_)?
        ]
        found: { $($found:tt)* } good: $good:tt
    ) => {
        $($found)*
    };
    ([$a:literal] $b:tt $c:tt $d:tt found: { $($found:tt)* } good: $good:tt) => { $($found)* };
    ($a:tt [$b:literal] $c:tt $d:tt found: { $($found:tt)* } good: $good:tt) => { $($found)* };
    ($a:tt $b:tt [$c:literal] $d:tt found: { $($found:tt)* } good: $good:tt) => { $($found)* };
    ($a:tt $b:tt $c:tt [$d:literal] found: { $($found:tt)* } good: $good:tt) => { $($found)* };
    ($a:tt $b:tt $c:tt $d:tt found: $found:tt good: { $($good:tt)* }) => { $($good)* };
}

/// Lets the compiler say of a word that it is no name.
///
/// ```text
/// input  = TOKEN
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __no_name {
    ($word:tt) => {
        const _: () = {
            #[allow(dead_code, nonstandard_style, reason = "only its error is of interest")]
            struct $word;
        };
    };
}

/// Reports the parameters of an interface whose names can be none.
///
/// ```text
/// input  = { TOKEN* }, the body of the interface
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __param_words {
    ({ $(
        $(#[$($attr:tt)*])* fn $function:tt ( $( $param:tt : $ty:ty ),* $(,)? ) $( -> $ret:ty )? ;
    )* }) => { $(
        $crate::__no_names! { $($param)* }
    )* };
}

/// Reports words that can be no names.
///
/// ```text
/// input  = TOKEN*
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __no_names {
    () => {};
    ($word:tt) => {
        $crate::__keywords! { [$word] [__1] [__2] [__3] found: { $crate::__no_name! { $word } } good: {} }
    };
    ($a:tt $($b:tt $($c:tt $($d:tt $($more:tt)*)?)?)?) => {
        $crate::__no_more_names! { $a $($b $($c $($d)?)?)? __1 __2 __3 }
        $($($($crate::__no_names! { $($more)* })?)?)?
    };
}

/// Reports those of four words that can be no names. What stands behind them is not looked at.
///
/// ```text
/// input  = TOKEN TOKEN TOKEN TOKEN TOKEN*
/// output = items
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __no_more_names {
    ($a:tt $b:tt $c:tt $d:tt $($more:tt)*) => {
        $crate::__keywords! {
            [$a] [$b] [$c] [$d]
            found: {
                $crate::__no_names! { $a }
                $crate::__no_names! { $b }
                $crate::__no_names! { $c }
                $crate::__no_names! { $d }
            }
            good: {}
        }
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
    (__careful_interface $($names:tt)*) => { $crate::__twice! { declared $($names)* } };
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

/// Goes on with the parameters of a function, under other names if two have one name, or one has a word that is no name.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] optional: [optional?]
///          dollar: ($) words: [NAME*] left: [NAME*] params: params then: MACRO TOKEN*
/// output = MACRO! { cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] optional: [optional?] params: params TOKEN* }
/// ```
///
/// `words` are the names that may be keywords, `left` those that may be equal. Of the last 24, each becomes the argument of a
/// macro whose rules are those behind it.
#[doc(hidden)]
#[macro_export]
macro_rules! __distinct {
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        dollar: $dollar:tt words: [] left: [$($last:tt)?] params: $params:tt then: $then:ident $($rest:tt)*
    ) => {
        $crate::$then! { cfg: $cfg attrs: $attrs size: $size optional: $optional params: $params $($rest)* }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        dollar: $dollar:tt
        words: []
        left: [
            $a0:tt $a1:tt $a2:tt $a3:tt $a4:tt $a5:tt $a6:tt $a7:tt $a8:tt $a9:tt $a10:tt $a11:tt
            $a12:tt $a13:tt $a14:tt $a15:tt $a16:tt $a17:tt $a18:tt $a19:tt $a20:tt $a21:tt $a22:tt
            $a23:tt $a24:tt $($more:tt)*
        ]
        $($rest:tt)*
    ) => {
        $crate::__distinct! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional dollar: $dollar words: [] left: []
                $($rest)*
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        dollar: ($d:tt) words: [] left: [$name:tt $($left:tt)*] $($rest:tt)*
    ) => {
        macro_rules! __behind {
            $( ($left $d s:tt) => { $crate::__same_names! $d s }; )*
            ($d any:tt $d s:tt) => { $crate::__distinct! $d s };
        }
        __behind! { $name {
            cfg: $cfg attrs: $attrs size: $size optional: $optional dollar: ($d) words: [] left: [$($left)*]
                $($rest)*
        } }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        dollar: $dollar:tt words: [$a:tt $b:tt $c:tt $d:tt $($words:tt)*] $($rest:tt)*
    ) => {
        $crate::__keywords! {
            [$a] [$b] [$c] [$d]
            found: { $crate::__other_names! {
                cfg: $cfg attrs: $attrs size: $size optional: $optional dollar: $dollar words: [] $($rest)*
            } }
            good: { $crate::__distinct! {
                cfg: $cfg attrs: $attrs size: $size optional: $optional dollar: $dollar words: [$($words)*]
                    $($rest)*
            } }
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        dollar: $dollar:tt words: [$($words:tt)+] $($rest:tt)*
    ) => {
        $crate::__words! {
            [$($words)+ __1 __2 __3]
            { cfg: $cfg attrs: $attrs size: $size optional: $optional dollar: $dollar words: [] $($rest)* }
        }
    };
}

/// Looks at the first four words.
///
/// ```text
/// input  = [NAME*] { the input of __distinct }
/// output = the output of __distinct
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __words {
    ([$a:tt $b:tt $c:tt $d:tt $($more:tt)*] $input:tt) => {
        $crate::__keywords! {
            [$a] [$b] [$c] [$d]
            found: { $crate::__other_names! $input }
            good: { $crate::__distinct! $input }
        }
    };
}

/// Lets the compiler say, once for a function, that two parameters have one name.
///
/// ```text
/// input  = the input of __distinct
/// output = an item, or nothing, and the output of __distinct
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __same_names {
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        dollar: $dollar:tt words: [] left: $left:tt params: ($($param:ident $local:ident : $ty:ty),*) then:
            __call
        $($rest:tt)*
    ) => {
        const _: () = {
            #[allow(dead_code, unused_variables, nonstandard_style, reason = "it has the user's names")]
            fn __names($($param: ()),*) {}
        };
        $crate::__other_names! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            dollar: $dollar words: [] left: $left params: ($($param $local : $ty),*) then: __call $($rest)*
        }
    };
    ($($input:tt)*) => {
        $crate::__other_names! { $($input)* }
    };
}

/// Gives parameters other names: those of the list, in their order.
///
/// ```text
/// input  = the input of __distinct | names: [NAME*] todo: params done: [TOKEN*] { the input of __distinct }
/// output = the output of __distinct
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __other_names {
    (names: $names:tt todo: [] done: [$($done:tt)*] {
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        dollar: $dollar:tt words: $words:tt left: $left:tt params: $params:tt then: $then:ident $($rest:tt)*
    }) => {
        $crate::$then! { cfg: $cfg attrs: $attrs size: $size optional: $optional params: ($($done)*) $($rest)*
            }
    };
    (
        names: [$name:ident $($names:ident)*]
        todo: [$param:ident $local:ident : $ty:ty $(, $($todo:tt)*)?]
        done: [$($done:tt)*]
        $input:tt
    ) => {
        $crate::__other_names! {
            names: [$($names)*] todo: [$($($todo)*)?] done: [$($done)* $name $name : $ty,] $input
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        dollar: $dollar:tt words: $words:tt left: $left:tt params: ($($params:tt)*) $($rest:tt)*
    ) => {
        $crate::__other_names! {
            names: [
                __p0 __p1 __p2 __p3 __p4 __p5 __p6 __p7 __p8 __p9 __p10 __p11 __p12 __p13 __p14 __p15 __p16
                    __p17 __p18
                __p19 __p20 __p21 __p22 __p23 __p24
            ]
            todo: [$($params)*]
            done: []
            {
                cfg: $cfg attrs: $attrs size: $size optional: $optional
                dollar: $dollar words: $words left: $left params: ($($params)*) $($rest)*
            }
        }
    };
}

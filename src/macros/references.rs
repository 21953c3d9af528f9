//! Suspicious words: an item with a type such as `&str`, `Self` or `str` needs care, so that the compiler says once what is
//! wrong.

/// Finds out whether the types of an item need care (`careful.rs`): whether there is `&`, or a word of [`__suspicious`]. Other
/// declarations do not need it, and keep what is generated readable.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] optional: [optional?]
///          vis: [VISIBILITY] item: KIND NAME lifetime: [LIFETIME?] repr: [IDENT?] body: { TOKEN* } seen: { TOKEN* }
/// output = a call of __item
/// ```
///
/// `body` and `seen` are the same tokens. An item with a lifetime may have references. The next rules take bodies without
/// `&`, of whatever else there is in enums, interfaces and structs, and collect the words in them; what they do not take may have a `&`.
///
/// [`__suspicious`]: crate::__suspicious
#[doc(hidden)]
#[macro_export]
macro_rules! __references {
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: $kind:ident $name:tt lifetime: [$lifetime:lifetime] repr: $repr:tt body: $body:tt
        seen: $seen:tt
    ) => {
        $crate::__all_words! {
            seen: $seen
            again: [again]
            own: [$lifetime]
            macros: [__view_struct __view_enum __interface]
            item: {
                cfg: $cfg attrs: $attrs size: $size optional: $optional
                vis: $vis item: $kind $name lifetime: [$lifetime] repr: $repr body: $body
            }
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: interface $name:tt lifetime: [] repr: [] body: $body:tt
        seen: { $(
            $(#[$($attr:tt)*])* fn $function:tt (
                $(
                    $word:ident $(::)? $(<)? $(: $(::)?)? $( ($($a:tt)*) )? $( [$($b:tt)*] )?
                    $(>>)* $(>)* $(,)?
                )*
            )
            $(
                -> $(::)? $( ($($c:tt)*) )? $( [$($d:tt)*] )?
                $(
                    $result:ident $(::)? $(<)? $( ($($e:tt)*) )? $( [$($f:tt)*] )?
                    $(>>)* $(>)* $(,)?
                )*
            )?
            ;
        )* }
    ) => {
        $crate::__suspicious! {
            dollar: ($)
            words: [$(
                $( $word $($($a)*)? $($($b)*)? )*
                $( $($($c)*)? $($($d)*)? $( $result $($($e)*)? $($($f)*)? )* )?
            )*]
            arrays: [$(
                $( $([$($b)*])? )* $( $([$($d)*])? $( $([$($f)*])? )* )?
            )*]
            item: {
                cfg: $cfg attrs: $attrs size: $size optional: $optional
                vis: $vis item: interface $name lifetime: [] repr: [] body: $body
            }
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
                    $(#[$($value_attr:tt)*])* $( ($($first:tt)*) )? $( [$($first_array:tt)*] )?
                    $( , $(#[$($next_attr:tt)*])* $( ($($next:tt)*) )? $( [$($next_array:tt)*] )? )*
                    $(
                        $value:ident $(::)? $(<)? $( ($($c:tt)*) )? $( [$($d:tt)*] )?
                        $(>>)* $(>)*
                        $( , $(#[$($value_attrs:tt)*])* $( ($($e:tt)*) )? $( [$($f:tt)*] )? )*
                    )*
                ) )?
                $( = $number:expr )?
        ),* $(,)? }
    ) => {
        $crate::__suspicious! {
            dollar: ($)
            words: [$(
                $( $( $field $($($a)*)? $($($b)*)? )* )?
                $(
                    $($($first)*)? $($($first_array)*)? $( $($($next)*)? $($($next_array)*)? )*
                    $( $value $($($c)*)? $($($d)*)? $( $($($e)*)? $($($f)*)? )* )*
                )?
            )*]
            arrays: [$( $( $( $([$($b)*])? )* )? $(
                $([$($first_array)*])? $( $([$($next_array)*])? )*
                $( $([$($d)*])? $( $([$($f)*])? )* )*
            )? )*]
            item: {
                cfg: $cfg attrs: $attrs size: $size optional: $optional
                vis: $vis item: enum $name lifetime: $lifetime repr: $repr body: $body
            }
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
        $crate::__suspicious! {
            dollar: ($)
            words: [$( $word $( $( $inner $($($a)*)? $($($b)*)? )* )? $($($array)*)? )*]
            arrays: [$( $( $( $([$($b)*])? )* )? $([$($array)*])? )*]
            item: {
                cfg: $cfg attrs: $attrs size: $size optional: $optional
                vis: $vis item: $kind $name lifetime: $lifetime repr: $repr body: $body
            }
        }
    };
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: $kind:ident $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt
        seen: $seen:tt
    ) => {
        $crate::__look_again! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            vis: $vis item: $kind $name lifetime: $lifetime repr: $repr body: $body
        }
    };
}

/// Looks for `Self`, `impl`, `dyn`, `str`, `_` and `&` among the words of an item, and for arrays without a length.
///
/// ```text
/// input  = dollar: ($) words: [TOKEN*] arrays: [[TOKEN*]*] item: { TOKEN* }
/// output = a call of __item
/// ```
///
/// The words become the rules of a macro, which is called with each of the suspicious ones.
#[doc(hidden)]
#[macro_export]
macro_rules! __suspicious {
    (
        dollar: ($d:tt) words: [$($word:tt)*]
        arrays: [$( [
            $( ($($tuple:tt)*) )? $( [$($array:tt)*] )?
            $(
                $element:ident $(::)? $(<)? $( ($($a:tt)*) )? $( [$($b:tt)*] )?
                $(>>)* $(>)* $(,)?
            )*
            ; $($len:tt)*
        ] )*]
        item: { cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
            vis: $vis:tt item: $kind:ident $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt }
    ) => {
        macro_rules! __is_among {
            $( ($d is:tt $word $d next:tt $d body:tt $d($d item:tt)*) => {
                $crate::__look_again! { $d($d item)* }
            }; )*
            ($d is:ident $d other:tt [$d next:tt $d($d more:tt)*] $d($d rest:tt)*) => {
                $d is! { $d is $d next [$d($d more)*] $d($d rest)* }
            };
            ($d is:ident $d other:tt [] $d body:tt $d($d item:tt)*) => {
                $crate::__item! { $d($d item)* macros: [__struct __data_enum __interface] raw: $d body }
            };
        }
        __is_among! {
            __is_among Self [impl dyn str _ &] $body
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            vis: $vis item: $kind $name lifetime: $lifetime repr: $repr body: $body
        }
    };
    (dollar: $dollar:tt words: $words:tt arrays: $arrays:tt item: { $($item:tt)* }) => {
        $crate::__look_again! { $($item)* }
    };
}

/// Looks at an item with suspicious words: collects its words and its lifetimes, of which none is declared.
///
/// ```text
/// input  = { cfg: [ATTRIBUTE*] TOKEN* body: { TOKEN* } }
/// output = a call of __undeclared
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __look_again {
    (
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: $kind:ident $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt
    ) => {
        $crate::__all_words! {
            seen: $body
            again: [again]
            own: []
            macros: [__careful_struct __careful_data_enum __careful_interface]
            item: {
                cfg: $cfg attrs: $attrs size: $size optional: $optional
                vis: $vis item: $kind $name lifetime: $lifetime repr: $repr body: $body
            }
        }
    };
}

/// Collects the words and the lifetimes of an item.
///
/// ```text
/// input  = seen: { TOKEN* } again: [again?] own: [LIFETIME?] macros: [MACRO MACRO MACRO] item: { TOKEN* }
/// output = a call of __flat_words, or of __item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __all_words {
    (
        seen: {
            $(#[$($attr:tt)*])*
            $(
                $( & $($reference:lifetime)? )? $(*)? $word:ident
                $(::)? $(:)? $(<)? $($lifetime:lifetime)?
                $( (
                    $(#[$($inner_attr:tt)*])* $( ($($first:tt)*) )? $( [$($first_array:tt)*] )?
                    $( , $(#[$($next_attr:tt)*])* $( ($($next:tt)*) )? $( [$($next_array:tt)*] )? )*
                    $(
                        $( & $($a:lifetime)? )? $(*)? $aw:ident
                        $(::)? $(:)? $(<)? $($al:lifetime)? $( ($($ag:tt)*) )? $( [$($ab:tt)*] )?
                        $(_)? $(->)? $(+)? $(=)? $(>>)* $(>)*
                        $( , $(#[$($a_attr:tt)*])* $( ($($ac:tt)*) )? $( [$($ad:tt)*] )? )*
                    )*
                ) )?
                $( {
                    $(#[$($fields_attr:tt)*])*
                    $(
                        $( & $($f:lifetime)? )? $(*)? $fw:ident
                        $(::)? $(:)? $(<)? $($fl:lifetime)? $( ($($fg:tt)*) )? $( [$($fb:tt)*] )?
                        $(_)? $(->)? $(+)? $(=)? $(>>)* $(>)* $(,)? $(#[$($f_attr:tt)*])*
                    )*
                } )?
                $( [
                    $(
                        $( & $($b:lifetime)? )? $(*)? $bw:ident
                        $(::)? $(<)? $($bl:lifetime)? $( ($($bg:tt)*) )? $( [$($bb:tt)*] )?
                        $(_)? $(->)? $(+)? $(=)? $(>>)* $(>)* $(,)?
                    )*
                    $( ; $($len:tt)* )?
                ] )?
                $(_)?
                $(
                    ->
                    $( (
                        $(
                            $( & $($c:lifetime)? )? $(*)? $cw:ident
                            $(::)? $(<)? $($cl:lifetime)? $( ($($cg:tt)*) )? $( [$($cb:tt)*] )?
                            $(_)? $(->)? $(+)? $(=)? $(>>)* $(>)* $(,)?
                        )*
                    ) )?
                    $( [
                        $(
                            $( & $($d:lifetime)? )? $(*)? $dw:ident
                            $(::)? $(<)? $($dl:lifetime)? $( ($($dg:tt)*) )? $( [$($db:tt)*] )?
                            $(_)? $(->)? $(+)? $(=)? $(>>)* $(>)* $(,)?
                        )*
                        $( ; $($len_too:tt)* )?
                    ] )?
                )?
                $(+)? $(= $number:literal)? $(=)? $(>>)* $(>)* $(,)? $(; $size:literal)? $(;)?
                $(#[$($after:tt)*])*
            )*
        }
        again: $again:tt
        own: $own:tt
        macros: $macros:tt
        item: $item:tt
    ) => {
        $crate::__flat_words! {
            again: $again
            seen: { $(
                $($( & $reference )?)? $word $($lifetime)?
                $(
                    $($($first)*)? $($($first_array)*)? $( $($($next)*)? $($($next_array)*)? )*
                    $(
                        $($( & $a )?)? $aw $($al)? $($($ag)*)? $($($ab)*)?
                        $( $($($ac)*)? $($($ad)*)? )*
                    )*
                )?
                $( $( $($( & $f )?)? $fw $($fl)? $($($fg)*)? $($($fb)*)? )* )?
                $( $( $($( & $b )?)? $bw $($bl)? $($($bg)*)? $($($bb)*)? )* )?
                $(
                    $( $( $($( & $c )?)? $cw $($cl)? $($($cg)*)? $($($cb)*)? )* )?
                    $( $( $($( & $d )?)? $dw $($dl)? $($($dg)*)? $($($db)*)? )* )?
                )?
            )* }
            own: $own
            macros: $macros
            item: $item
        }
    };
    (seen: $seen:tt again: $again:tt own: $own:tt macros: $macros:tt item: $item:tt) => {
        $crate::__item_with! { $macros $item }
    };
}

/// Looks into what was in deeper groups, once, and then takes words and lifetimes apart.
///
/// ```text
/// input  = again: [again?] seen: { ( ( & LIFETIME )? IDENT LIFETIME? | TOKEN )* }
///          own: [LIFETIME?] macros: [MACRO MACRO MACRO] item: { TOKEN* }
/// output = a call of __all_words, __undeclared or __item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __flat_words {
    (again: [again] seen: $seen:tt own: $own:tt macros: $macros:tt item: $item:tt) => {
        $crate::__all_words! { seen: $seen again: [] own: $own macros: $macros item: $item }
    };
    (
        again: []
        seen: { $( $( & $reference:lifetime )? $word:ident $($lifetime:lifetime)? )* }
        own: $own:tt macros: $macros:tt item: $item:tt
    ) => {
        $crate::__undeclared! {
            dollar: ($)
            own: $own
            lifetimes: { $( $([$reference])? $([$lifetime])? )* }
            words: { $($word)* }
            macros: $macros
            item: $item
        }
    };
    (again: [] seen: $seen:tt own: $own:tt macros: $macros:tt item: $item:tt) => {
        $crate::__item_with! { $macros $item }
    };
}

/// Looks for what would be another error in each place: `impl`, and lifetimes that are not declared. An item with a lifetime
/// has no `Self` either, since its types stand where that is something else.
///
/// ```text
/// input  = dollar: ($) own: [LIFETIME?] lifetimes: { [LIFETIME]* } words: { TOKEN* } macros: [MACRO MACRO MACRO]
///          item: { TOKEN* }
/// output = a call of __item or of __wrong_types
/// ```
///
/// Lifetimes and words become the rules of macros, as in `__suspicious`.
#[doc(hidden)]
#[macro_export]
macro_rules! __undeclared {
    (
        dollar: ($d:tt) own: [$($own:lifetime)?] lifetimes: $lifetimes:tt words: $words:tt
        macros: $macros:tt item: $item:tt
    ) => {
        macro_rules! __are_declared {
            ({ $d( [$( $d($own)? )? $d('static)? $d('_)?] )* } $d item:tt) => {
                $crate::__impls! { dollar: ($d) own: [$($own)?] words: $words macros: $macros item:
                    $d item }
            };
            ({ $d( $d lifetime:tt )* } $d item:tt) => {
                $crate::__wrong_types! {
                    dollar: ($d) own: [$($own)?] lifetimes: [$d($d lifetime)*]
                    item: $d item
                }
            };
        }
        __are_declared! { $lifetimes $item }
    };
}

/// Looks for `impl`, and in an item with a lifetime for `Self`, among the words of an item.
///
/// ```text
/// input  = dollar: ($) own: [LIFETIME?] words: { TOKEN* } macros: [MACRO MACRO MACRO] item: { TOKEN* }
/// output = as of __undeclared
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __impls {
    (
        dollar: ($d:tt) own: $own:tt words: { $($word:tt)* } macros: $macros:tt
        item: $item:tt
    ) => {
        macro_rules! __is_wrong {
            $( ($d is:tt $word $d next:tt $d item:tt) => {
                $crate::__wrong_types! {
                    dollar: ($d) own: $own lifetimes: [] item: $d item
                }
            }; )*
            ($d is:ident $d other:tt [[$d own:lifetime]] $d item:tt) => {
                $d is! { $d is Self [] $d item }
            };
            ($d is:ident $d other:tt [$d own:tt] $d item:tt) => { $d is! { $d is __end [] $d item } };
            ($d is:ident $d other:tt [] $d item:tt) => {
                $crate::__item_with! { $macros $d item }
            };
        }
        __is_wrong! { __is_wrong impl [$own] $item }
    };
}

/// An item with mistakes among its types: reports them, and declares it with a type that has an error.
///
/// ```text
/// input  = dollar: ($) own: [LIFETIME?] lifetimes: [[LIFETIME]*] item: { TOKEN* }
/// output = a call of __item, and the type that has an error
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __wrong_types {
    (
        dollar: ($d:tt)
        own: [$($own:lifetime)?]
        lifetimes: [$([$lifetime:lifetime])*]
        item: {
            cfg: [$($cfg:tt)*] attrs: $attrs:tt size: $size:tt optional: $optional:tt
            vis: $vis:tt item: $kind:ident $name:tt lifetime: $own_lifetime:tt repr: $repr:tt
            body: { $($body:tt)* }
        }
    ) => {
        $($cfg)*
        const _: () = {
            type __Wrong = <() as $crate::__private::Same<$crate::__private::Checked<{
                macro_rules! __undeclared_lifetime {
                    $( ($own) => {}; )?
                    ('static) => {};
                    ('_) => {};
                    // In a constant, the compiler proposes no place to declare it.
                    ($d other:lifetime) => { {
                        const __UNDECLARED: &$d other () = &();
                        let _ = __UNDECLARED;
                    } };
                }
                $( __undeclared_lifetime! { $lifetime } )*
                $crate::__wrong_words! {
                    own: [$($own)?] before: [__begin $($body)*] words: [$($body)* __end]
                }
                0
            }>>>::T;
            impl $crate::__private::Wrong for $crate::__item_type!($kind $name [$($own)?]) {
                type Type = __Wrong;
            }
        };
        $crate::__private::paste::paste! {
            $($cfg)*
            #[allow(dead_code, nonstandard_style, reason = "it has the user's name")]
            type [<__vmffi_ $name __wrong>] =
                <$crate::__item_type!($kind $name [$($own)?]) as $crate::__private::Wrong>::Type;
        }
        $crate::__item_with! {
            [__wrong_struct __wrong_data_enum __wrong_interface]
            {
                cfg: [$($cfg)*] attrs: $attrs size: $size optional: $optional
                vis: $vis item: $kind $name lifetime: $own_lifetime repr: $repr body: { $($body)* }
            }
        }
    };
}

/// The type of an item.
///
/// ```text
/// input  = KIND NAME [LIFETIME?]
/// output = a type
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __item_type {
    (interface $name:tt []) => {
        dyn $name
    };
    ($kind:ident $name:tt []) => {
        $name
    };
    ($kind:ident $name:tt [$lifetime:lifetime]) => {
        $name<'static>
    };
}

/// Reports each wrong word of an item.
///
/// ```text
/// input  = own: [LIFETIME?] before: [TOKEN*] words: [TOKEN*]
/// output = statements
/// ```
///
/// Each of `before` stands before that of `words`.
#[doc(hidden)]
#[macro_export]
macro_rules! __wrong_words {
    (own: $own:tt before: [$($before:tt)*] words: [$($word:tt)*]) => { $(
        $crate::__wrong_word! { $own $before $word $word }
    )* };
}

/// Reports a word if it is wrong, and those in a group that is not an attribute. The keyword `impl` can stand nowhere, so its
/// error is at the word behind it.
///
/// ```text
/// input  = [LIFETIME?] TOKEN TOKEN TOKEN
/// output = statements
/// ```
///
/// The first token stands before the other one, which is there twice.
#[doc(hidden)]
#[macro_export]
macro_rules! __wrong_word {
    ($own:tt # $attribute:tt $same:tt) => {};
    ($own:tt impl $bound:ident $word:tt) => {
        $crate::__private::paste::paste! { {
            #[allow(nonstandard_style, reason = "it has the user's name")]
            struct $word;
            $crate::__private::mistakes::no_impl($word);
        } }
    };
    ($own:tt impl $bound:tt $word:tt) => {
        $crate::__private::mistakes::no_impl(());
    };
    ($own:tt $before:tt ( $($inner:tt)* ) $same:tt) => {
        $crate::__wrong_words! { own: $own before: [__begin $($inner)*] words: [$($inner)* __end] }
    };
    ($own:tt $before:tt [ $($inner:tt)* ] $same:tt) => {
        $crate::__wrong_words! { own: $own before: [__begin $($inner)*] words: [$($inner)* __end] }
    };
    ($own:tt $before:tt { $($inner:tt)* } $same:tt) => {
        $crate::__wrong_words! { own: $own before: [__begin $($inner)*] words: [$($inner)* __end] }
    };
    ([$own:lifetime] $before:tt Self $word:tt) => {
        {
            type __Itself = $word;
            $crate::__private::named::<__Itself>();
        }
    };
    ($own:tt $before:tt $word:tt $same:tt) => {};
}

/// Goes on with an item.
///
/// ```text
/// input  = [MACRO MACRO MACRO] { cfg: [ATTRIBUTE*] TOKEN* body: { TOKEN* } }
/// output = a call of __item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __item_with {
    ($macros:tt {
        cfg: $cfg:tt attrs: $attrs:tt size: $size:tt optional: $optional:tt
        vis: $vis:tt item: $kind:ident $name:tt lifetime: $lifetime:tt repr: $repr:tt body: $body:tt
    }) => {
        $crate::__item! {
            cfg: $cfg attrs: $attrs size: $size optional: $optional
            vis: $vis item: $kind $name lifetime: $lifetime repr: $repr body: $body
            macros: $macros raw: $body
        }
    };
}

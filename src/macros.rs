//! `ffi_interface!`: makes a trait, a client, wire twins and a dispatch table from one declaration.
//!
//! A declaration passes through the macros in this order:
//!
//! 1. [`ffi_interface!`](crate::ffi_interface) takes the whole declaration, one repetition an item.
//! 2. `__attributes` (`attributes.rs`) sorts the attributes of an item.
//! 3. `__references` (`references.rs`) looks for references and other suspicious words, and `__item` (here) tells structs,
//!    enums and interfaces apart and takes their bodies apart.
//! 4. `__struct` (`structs.rs`), `__enum` and `__data_enum` (`enums.rs`, `variants.rs`) and `__interface`
//!    (`interface.rs`, `params.rs`) expand to the generated items. `__interface` sorts the attributes of each
//!    function with `__attributes` again.
//! 5. What no rule takes goes to `wrong_items.rs`, `diagnostics.rs` and `wrong_functions.rs`, which report each mistake at its place, and
//!    declare what is right.
//!
//! The macros pass their input on as a list of `key: value`, in a fixed order. Above each macro
//! stands a grammar of its input: `*` repeats, `?` makes optional, `|` separates alternatives, and
//! capitals name a Rust fragment.
//!
//! Items, fields, variants and functions are expanded by repetition. A macro that called itself for
//! each of them would reach the compiler's default recursion limit, 128. Only attributes and wrong
//! declarations are taken apart step by step.

mod attributes;
mod careful;
mod cfg_lists;
mod diagnostics;
mod enums;
mod interface;
mod once;
mod packed;
mod params;
mod references;
mod structs;
mod variants;
mod wrong_functions;
mod wrong_items;

/// Declares shared structs, shared enums, and interfaces of functions.
///
/// Guest and host each contain the declaration, or depend on a crate that does. A call finds its
/// function by signature, a hash of the names of the interface and the function and of the names
/// and layouts of its types.
///
/// ```
/// vmffi::ffi_interface! {
///     /// What `stat` returns.
///     #[derive(Clone, Debug, PartialEq)]
///     #[size(16)]
///     pub struct Stat { size: u64, mode: u32, links: u32 }
///
///     /// Why a file cannot be opened.
///     #[derive(Clone, Copy, Debug, PartialEq)]
///     pub enum OpenError: u32 { NotFound = 1, Denied = 2 }
///
///     /// What the host offers to its guest.
///     pub interface Files {
///         /// Opens a file.
///         fn open(path: ForeignStr, flags: u32) -> Result<u64, OpenError>;
///         fn read(file: u64, max: u32) -> ForeignBuf;
///         fn stat(file: u64) -> Foreign<Stat>;
///         /// A host need not serve this function.
///         #[optional]
///         fn delete(path: ForeignStr) -> bool;
///     }
/// }
/// # use vmffi::{Foreign, ForeignBuf, ForeignStr};
/// ```
///
/// # Grammar
///
/// ```text
/// declaration = item*
/// item        = ATTRIBUTE* VISIBILITY ( struct | enum | interface )
///
/// struct      = "struct" NAME ( "<" LIFETIME ">" )? "{" fields "}"
/// fields      = ( field ( "," field )* ","? )?
/// field       = ATTRIBUTE* VISIBILITY NAME ":" TYPE
///
/// enum        = "enum" NAME ( "<" LIFETIME ">" )? ":" integer "{" variant ( "," variant )* ","? "}"
/// integer     = "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize"
/// variant     = ATTRIBUTE* NAME ( "(" values ")" | "{" fields "}" )? ( "=" NUMBER )?
/// values      = ( ATTRIBUTE* TYPE ( "," ATTRIBUTE* TYPE )* ","? )?
///
/// interface   = "interface" NAME "{" function* "}"
/// function    = ATTRIBUTE* "fn" NAME "(" parameters ")" ( "->" TYPE )? ";"
/// parameters  = ( parameter ( "," parameter )* ","? )?
/// parameter   = NAME ":" TYPE
/// ```
///
/// A field of a variant has no `VISIBILITY`, since it is as visible as the enum. A variant has up to 12 `values`.
///
/// # Types
///
/// Types are ordinary Rust types, which the module that contains the declaration imports: integers,
/// floats, `bool`, `char`, `()`, declared structs and enums, [`Foreign<T>`](crate::Foreign),
/// [`ForeignBuf`](crate::ForeignBuf), [`ForeignStr`](crate::ForeignStr),
/// [`ForeignSlice<T>`](crate::ForeignSlice), [`ForeignPacked<T>`](crate::ForeignPacked), types that implement [`CrossesAs`](crate::CrossesAs), and an `Option`, an
/// array or a tuple of any of these. A function may also return a `Result` of two of them. The documentation of each type says what its sender passes.
/// Generic types, references and recursive types cannot cross.
///
/// A struct or an enum with a lifetime has references in its fields, and is part of a *packed value*: a function names it
/// within [`ForeignPacked`](crate::ForeignPacked) or [`ForeignList`](crate::ForeignList) only, where its lifetime may be left
/// out. Its fields are what can be [`Packed`](crate::Packed).
///
/// # Generated items
///
/// - For a **struct**: the struct, with `#[repr(C)]`. Its fields are as visible as the struct,
///   unless at least one field declares a visibility: then each field has the visibility that it
///   declares. A struct with handle fields also has a twin, `Shared` + name, which its sender
///   fills.
/// - For an **enum**: the enum, with the integer after the colon as its representation. Its
///   variants may have values, but no handles.
/// - For an **interface** `Files`: the trait `Files`, which the serving side implements and names
///   in [`serve!`](crate::serve); `FilesClient`, which the calling side makes from a
///   [`&Peer`](crate::Peer); and for each function a struct `Params` + interface + function, whose
///   `FUNCTION` is the signature and whose fields are the parameters as they lie in memory.
///
/// `example_generated`, a module of this crate's documentation, shows all generated items of a
/// small declaration.
///
/// A handler and a client's method both return `Result<T, CallError>` for a declared `T`, and
/// `Result<T, Failure<E>>` for a declared `Result<T, E>`. Where the client receives a `Foreign…`,
/// the handler returns the `Shared…` for it.
///
/// # Attributes
///
/// - `#[cfg]` works on items, functions, fields and variants.
/// - `#[size(N)]` on a struct, or on a function of at least two parameters, pins the size in bytes
///   of what crosses.
/// - `#[optional]` on a function adds a method `has_` + name to the client, which asks the peer
///   whether it serves the function.
/// - All other attributes, such as `#[derive]`, those of derives, `#[must_use]`, `#[deprecated]` and doc comments, are
///   put on the struct, enum, trait or method, and on the fields and variants, that the user sees.
///
/// A macro that passes attributes on should match them as `#[$($attribute:tt)*]`. Attributes that it has matched as
/// `#[$attribute:meta]` cannot be read: they are put where the user sees them, so a `#[cfg]` among them does not work.
///
/// # Names
///
/// Names that begin with `__` are reserved, for items, constants and statics beside a declaration too. Names that are
/// joined, as `SharedPage` is, give way to items of the same name that are declared beside them. If two joined names are
/// equal, as for `fn reg1` and `fn reg_1`, only their use is an error. If a function has the name `has_` + the name of an
/// optional function, `(*client).has_..()` asks for the optional function.
///
/// # Errors
///
/// Generics, receivers, bodies, `async`, references and other types that cannot cross are compile
/// errors that say what to write instead. Each mistake is one error, at the words that are wrong, and the rest of the
/// declaration is declared; of a name that stands twice, the second is left out. Beside `impl` or a lifetime that is not
/// declared, other types of the same item are looked at when that is mended. rustc reports some mistakes at the whole
/// declaration: variants with equal numbers, and a type that contains itself, directly or through other types ("cycle
/// detected when evaluating type-level constant").
#[macro_export]
macro_rules! ffi_interface {
    ($(
        $(#[$($attr:tt)*])*
        $vis:vis $kind:ident $name:tt $(<$lifetime:lifetime>)? $(: $repr:tt)? { $($body:tt)* }
    )*) => {
        $crate::__once! {
            todo: [ $( (
                [$(#[$($attr)*])*]
                $name
                {
                    attrs: [$(#[$($attr)*])*]
                    vis: [$vis]
                    item: $kind $name
                    lifetime: [$($lifetime)?]
                    repr: [$($repr)?]
                    body: { $($body)* }
                }
            ) )* ]
            wrong: {}
            then: __items {}
        }
    };
    ($($other:tt)*) => {
        $crate::__refuse_items! { [] $($other)* }
    };
}

/// The items of a declaration.
///
/// ```text
/// input  = [ { attrs: [ATTRIBUTE*] vis: [VISIBILITY] item: KIND NAME lifetime: [LIFETIME?] repr: [IDENT?]
///          body: { TOKEN* } }* ]
/// output = a call of __attributes for each, which goes on with __references
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __items {
    ([$( {
        attrs: $attrs:tt
        vis: $vis:tt
        item: $kind:ident $name:tt
        lifetime: $lifetime:tt
        repr: $repr:tt
        body: $body:tt
    } )*]) => { $(
        $crate::__attributes! {
            todo: $attrs
            cfg: []
            attrs: []
            size: []
            optional: []
            then: __references
            vis: $vis
            item: $kind $name
            lifetime: $lifetime
            repr: $repr
            body: $body
            seen: $body
        }
    )* };
}

/// Tells the kinds of item apart, and takes the body of the item apart.
///
/// ```text
/// input  = cfg: [ATTRIBUTE*] attrs: [ATTRIBUTE*] size: [EXPR?] optional: [optional?]
///          vis: [VISIBILITY] item: KIND NAME lifetime: [LIFETIME?] repr: [IDENT?] body: { TOKEN* }
///          macros: [MACRO MACRO MACRO] raw: { TOKEN* }
/// output = a call of one of the macros, of __enum, __interface or __refuse_item
/// ```
///
/// `raw` is the body again. The `macros` are those for structs, for enums with values and for interfaces; types of structs and enums are passed on twice: `=` stands between the one
/// for what is generated and the one that is asked for, which is as the user wrote it.
#[doc(hidden)]
#[macro_export]
macro_rules! __item {
    // A struct whose fields declare no visibility: all fields are as visible as the struct.
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: []
        vis: [$vis:vis]
        item: struct $name:ident
        lifetime: $lifetime:tt
        repr: []
        body: { $(
            $(#[$($fattr:tt)*])* $field:ident : $ty:ty
        ),* $(,)? }
        macros: [$struct:ident $data_enum:ident $interface:ident]
        raw: $raw:tt
    ) => {
        $crate::__once! {
            todo: [ $( (
                [$(#[$($fattr)*])*]
                $field
                { attrs: [$(#[$($fattr)*])*] vis: [$vis] name: $field type: $ty = $ty }
            ) )* ]
            wrong: {
                $crate::__as_written! { struct $name lifetime: $lifetime $raw }
                $crate::__stand_in! { struct vis: [$vis] name: $name lifetime: $lifetime }
            }
            then: $struct {
                cfg: $cfg attrs: $attrs size: $size vis: [$vis] name: $name lifetime: $lifetime fields:
            }
        }
    };
    // A struct with a field that declares a visibility: each field has the visibility that it
    // declares.
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: $size:tt
        optional: []
        vis: [$vis:vis]
        item: struct $name:ident
        lifetime: $lifetime:tt
        repr: []
        body: { $(
            $(#[$($fattr:tt)*])* $fvis:vis $field:ident : $ty:ty
        ),* $(,)? }
        macros: [$struct:ident $data_enum:ident $interface:ident]
        raw: $raw:tt
    ) => {
        $crate::__once! {
            todo: [ $( (
                [$(#[$($fattr)*])*]
                $field
                { attrs: [$(#[$($fattr)*])*] vis: [$fvis] name: $field type: $ty = $ty }
            ) )* ]
            wrong: {
                $crate::__as_written! { struct $name lifetime: $lifetime $raw }
                $crate::__stand_in! { struct vis: [$vis] name: $name lifetime: $lifetime }
            }
            then: $struct {
                cfg: $cfg attrs: $attrs size: $size vis: [$vis] name: $name lifetime: $lifetime fields:
            }
        }
    };
    // An enum whose variants have no values, though they may have empty braces: it crosses as its
    // integer.
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: []
        optional: []
        vis: [$vis:vis]
        item: enum $name:ident
        lifetime: []
        repr: [$repr:tt]
        body: { $(
            $(#[$($vattr:tt)*])* $variant:ident $( {} )? $( = $number:expr )?
        ),+ $(,)? }
        macros: $macros:tt
        raw: $raw:tt
    ) => {
        $crate::__integer! {
            repr: $repr
            vis: [$vis]
            enum: $name
            lifetime: []
            then: { $crate::__once! {
                todo: [ $( (
                    [$(#[$($vattr)*])*]
                    $variant
                    { attrs: [$(#[$($vattr)*])*] name: $variant number: [$($number)?] }
                ) )* ]
                wrong: {
                    $crate::__as_written! { enum $name lifetime: [] $raw }
                    $crate::__stand_in! { enum vis: [$vis] name: $name lifetime: [] }
                }
                then: __enum { cfg: $cfg attrs: $attrs vis: [$vis] name: $name repr: $repr variants: }
            } }
        }
    };
    // An enum with a variant that has values.
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: []
        optional: []
        vis: [$vis:vis]
        item: enum $name:ident
        lifetime: $lifetime:tt
        repr: [$repr:tt]
        body: { $(
            $(#[$($vattr:tt)*])* $variant:ident
                $( { $( $(#[$($fattr:tt)*])* $field:ident : $ty:ty ),* $(,)? } )?
                $( ( $( $(#[$($tattr:tt)*])* $value:ty ),* $(,)? ) )?
                $( = $number:expr )?
        ),+ $(,)? }
        macros: [$struct:ident $data_enum:ident $interface:ident]
        raw: $raw:tt
    ) => {
        $crate::__integer! {
            repr: $repr
            vis: [$vis]
            enum: $name
            lifetime: $lifetime
            then: { $crate::__once! {
                todo: [
                    ([$($(#[$($vattr)*])*)*] __variants {})
                    $($($( ([$(#[$($fattr)*])*] ($variant $field) {}) )*)?)*
                ]
                wrong: {
                    $crate::__as_written! { enum $name lifetime: $lifetime $raw }
                    $crate::__stand_in! { enum vis: [$vis] name: $name lifetime: $lifetime }
                }
                then: __variant_fields { {
                    words: [$( $( $($field)* )? )*]
                    wrong: {
                        $crate::__as_written! { enum $name lifetime: $lifetime $raw }
                        $crate::__stand_in! { enum vis: [$vis] name: $name lifetime: $lifetime }
                    }
                    good: { $crate::__once! {
                        todo: [ $( ([$(#[$($vattr)*])*] $variant {
                            attrs: [$(#[$($vattr)*])*]
                            name: $variant
                            number: [$($number)?]
                            fields: [$( { $( {
                                attrs: [$(#[$($fattr)*])*] name: $field type: $ty = $ty
                            } )* } )?]
                            values: [$( ( $( { attrs: [$(#[$($tattr)*])*] type: $value = $value } )* ) )?]
                        }) )* ]
                        wrong: {
                            $crate::__as_written! { enum $name lifetime: $lifetime $raw }
                            $crate::__stand_in! { enum vis: [$vis] name: $name lifetime: $lifetime }
                        }
                        then: $data_enum {
                            cfg: $cfg attrs: $attrs vis: [$vis] name: $name lifetime: $lifetime repr: $repr
                                variants:
                        }
                    } }
                } }
            } }
        }
    };
    (
        cfg: $cfg:tt
        attrs: $attrs:tt
        size: []
        optional: []
        vis: [$vis:vis]
        item: interface $name:ident
        lifetime: []
        repr: []
        body: { $(
            $(#[$($fattr:tt)*])* fn $function:tt ( $( $param:ident : $ty:ty ),* $(,)? ) $( -> $ret:ty )? ;
        )* }
        macros: [$struct:ident $data_enum:ident $interface:ident]
        raw: $raw:tt
    ) => {
        $crate::__once! {
            todo: [ $( ([$(#[$($fattr)*])*] $function {
                attrs: [$(#[$($fattr)*])*]
                name: $function
                params: ( $( $param : $ty ),* )
                returns: [$($ret)?]
            }) )* ]
            wrong: {}
            then: $interface {
                cfg: $cfg cfg_list: $cfg attrs: $attrs vis: [$vis] name: $name raw: $raw functions:
            }
        }
    };
    ($($other:tt)*) => {
        $crate::__refuse_item! { $($other)* }
    };
}

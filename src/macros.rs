//! `ffi_interface!`: from one declaration to a trait, a client, wire twins and a table.
//!
//! One macro is public. The others are one concern each: `__split` sorts attributes, `__item` tells
//! the kinds of item apart, `types` makes structs and enums, `interface` the rest, and `refuse` says
//! what is wrong with everything else. Lists are expanded by repetition; only attributes are munched, and
//! what is refused.

mod interface;
mod refuse;
mod types;

/// Declares what crosses: shared structs and enums, and interfaces.
///
/// Guest and host each write the declaration, or share it in a crate; functions meet by signature,
/// which is a hash of the interface's and the function's name and of the types' names and layouts.
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
///         /// Not every host has it.
///         #[optional]
///         fn delete(path: ForeignStr) -> bool;
///     }
/// }
/// # use vmffi::{Foreign, ForeignBuf, ForeignStr};
/// ```
///
/// # Types
///
/// They are ordinary types, to be imported as such: integers, floats, `bool`, `char`, `()`, declared
/// structs and enums, [`Foreign<T>`](crate::Foreign), [`ForeignBuf`](crate::ForeignBuf),
/// [`ForeignStr`](crate::ForeignStr), [`ForeignSlice<T>`](crate::ForeignSlice), an `Option` of any of
/// these, and, to be returned only, a `Result` of two of them. What a sender gives for each is said
/// with it. There are no generics, no references and no recursive types.
///
/// # What it makes
///
/// - For a **struct**: the struct, `#[repr(C)]`. Its fields are as visible as it is, unless one of
///   them has a visibility of its own: then each has what it says. A struct with handle fields also
///   has a twin, `Shared` + name, which its sender fills.
/// - For an **enum**: the enum, with the integer after the colon as its representation. Its variants
///   may have values, but no handles.
/// - For an **interface** `Files`: the trait `Files`, for the side that serves it
///   ([`serve!`](crate::serve) says so); `FilesClient`, made from a [`&Peer`](crate::Peer), for the side
///   that calls it; and for each function `Params` + interface + function, whose `FUNCTION` is the
///   signature and whose fields are the parameters as they lie in memory.
///
/// `example_generated`, a module of this crate's documentation, is all of that for a small declaration.
///
/// A handler and a client's method both return `Result<T, CallError>`, and where the function declares
/// `Result<T, E>`, both return `Result<T, Failure<E>>`. A handler gives a `Shared…` where the client
/// gets the `Foreign…`.
///
/// # Attributes
///
/// `#[cfg]` works on items, functions, fields and variants. `#[size(N)]` on a struct, or on a function
/// of two or more parameters, pins the size in bytes of what crosses. `#[optional]` on a function
/// gives the client a method `has_` + name, which asks the peer. Everything else, `#[derive]`, doc
/// comments, `#[must_use]`, `#[deprecated]`, goes where the user sees it.
///
/// # What it does not take
///
/// Generics, receivers, bodies, `async`, references and other types that cannot cross are refused with a
/// sentence that says what to write instead. A type that is made of itself, directly or through others, is
/// refused too, but in the compiler's own words: "cycle detected when evaluating type-level constant".
#[macro_export]
macro_rules! ffi_interface {
    ($( $(#[$($m:tt)*])* $vis:vis $kw:ident $name:ident $(: $repr:ident)? { $($body:tt)* } )*) => {
        $( $crate::__split! { [$(#[$($m)*])*] [] [] [] []
            __item [$vis] $kw $name [$($repr)?] { $($body)* } } )*
    };
    ($($other:tt)*) => { $crate::__refuse_items! { $($other)* } };
}

/// Sorts attributes: `[left] [cfg] [kept] [size] [optional] callback …`.
///
/// `cfg` is repeated on everything that is generated, `size` and `optional` are ours, and the rest is
/// kept for what the user sees. Doc comments are taken all at once where nothing else is left, else
/// eight lines at a time.
#[doc(hidden)]
#[macro_export]
macro_rules! __split {
    // Nothing, or nothing but documentation, is left: the most common case, in one step.
    ([$(#[doc = $doc:literal])*] $cfg:tt [$($kept:tt)*] $size:tt $optional:tt $callback:ident $($x:tt)*) => {
        $crate::$callback! { $cfg [$($kept)* $(#[doc = $doc])*] $size $optional $($x)* }
    };
    ([#[doc = $a:literal] #[doc = $b:literal] #[doc = $c:literal] #[doc = $d:literal] #[doc = $e:literal] #[doc = $f:literal] #[doc = $g:literal] #[doc = $h:literal] $($left:tt)*] $cfg:tt [$($kept:tt)*] $($x:tt)*) => {
        $crate::__split! { [$($left)*] $cfg [$($kept)* #[doc = $a] #[doc = $b] #[doc = $c] #[doc = $d] #[doc = $e] #[doc = $f] #[doc = $g] #[doc = $h]] $($x)* }
    };
    ([#[cfg($($c:tt)*)] $($left:tt)*] [$($cfg:tt)*] $($x:tt)*) => {
        $crate::__split! { [$($left)*] [$($cfg)* #[cfg($($c)*)]] $($x)* }
    };
    ([#[size($n:expr)] $($left:tt)*] $cfg:tt $kept:tt [] $($x:tt)*) => {
        $crate::__split! { [$($left)*] $cfg $kept [$n] $($x)* }
    };
    ([#[size $($n:tt)*] $($left:tt)*] $($x:tt)*) => {
        $crate::__say! { "write the pin as `#[size(16)]`, once" }
    };
    ([#[optional] $($left:tt)*] $cfg:tt $kept:tt $size:tt [] $($x:tt)*) => {
        $crate::__split! { [$($left)*] $cfg $kept $size [optional] $($x)* }
    };
    ([#[optional $($n:tt)*] $($left:tt)*] $($x:tt)*) => {
        $crate::__say! { "write `#[optional]`, without arguments and once" }
    };
    ([#[$($o:tt)*] $($left:tt)*] $cfg:tt [$($kept:tt)*] $($x:tt)*) => {
        $crate::__split! { [$($left)*] $cfg [$($kept)* #[$($o)*]] $($x)* }
    };
}

/// Tells the kinds of item apart.
#[doc(hidden)]
#[macro_export]
macro_rules! __item {
    // No field says how visible it is: all are as visible as the struct.
    ($cfg:tt $kept:tt $size:tt [] [$vis:vis] struct $name:ident [] { $( $(#[$($fm:tt)*])* $f:ident : $ft:ty ),* $(,)? }) => {
        $crate::__struct! { $cfg $kept $size [$vis] $name { $( [$(#[$($fm)*])*] [$vis] $f : $ft, )* } }
    };
    ($cfg:tt $kept:tt $size:tt [] [$vis:vis] struct $name:ident [] { $( $(#[$($fm:tt)*])* $fv:vis $f:ident : $ft:ty ),* $(,)? }) => {
        $crate::__struct! { $cfg $kept $size [$vis] $name { $( [$(#[$($fm)*])*] [$fv] $f : $ft, )* } }
    };
    // No variant has a value, empty braces or not: the enum is its integer.
    ($cfg:tt $kept:tt [] [] [$vis:vis] enum $name:ident [$repr:ident] { $( $(#[$($vm:tt)*])* $v:ident $( {} )? $( = $d:expr )? ),+ $(,)? }) => {
        $crate::__integer! { $repr $name
            $crate::__enum! { $cfg $kept [$vis] $name $repr { $( [$(#[$($vm)*])*] $v [$( = $d )?], )* } } }
    };
    ($cfg:tt $kept:tt [] [] [$vis:vis] enum $name:ident [$repr:ident] { $( $(#[$($vm:tt)*])* $v:ident $( { $( $(#[$($fm:tt)*])* $f:ident : $ft:ty ),* $(,)? } )? $( ( $t:ty ) )? $( = $d:expr )? ),+ $(,)? }) => {
        $crate::__integer! { $repr $name
            $crate::__data_enum! { $cfg $kept [$vis] $name $repr { $( [$(#[$($vm)*])*] $v [$( { $( [$(#[$($fm)*])*] $f : $ft, )* } )?] [$( $t )?] [$( = $d )?], )* } } }
    };
    ($cfg:tt $kept:tt [] [] [$vis:vis] interface $name:ident [] { $( $(#[$($m:tt)*])* fn $f:ident ( $( $a:ident : $t:ty ),* $(,)? ) $( -> $r:ty )? ; )* }) => {
        $crate::__interface! { $cfg $cfg $kept [$vis] $name { $( [$(#[$($m)*])*] $f ( $($a : $t),* ) [$($r)?] )* } }
    };
    ($($other:tt)*) => { $crate::__refuse_item! { $($other)* } };
}

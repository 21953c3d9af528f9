//! `ffi_interface!`: from one declaration to a trait, a client, wire twins and a table.
//!
//! One macro is public. The others are one concern each: `__split` sorts attributes, `__item` tells
//! the kinds of item apart, `__struct`, `__enum` and `__interface` make them. Lists are expanded by
//! repetition; only attributes are munched.

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
#[macro_export]
macro_rules! ffi_interface {
    ($( $(#[$($m:tt)*])* $vis:vis $kw:ident $name:ident $(: $repr:ident)? { $($body:tt)* } )*) => {
        $( $crate::__split! { [$(#[$($m)*])*] [] [] [] []
            __item [$vis] $kw $name [$($repr)?] { $($body)* } } )*
    };
    ($($other:tt)*) => { $crate::__private::core::compile_error! {
        "ffi_interface! takes `struct Name { .. }`, `enum Name: u32 { .. }` and `interface Name { fn ..; }`, without generics, and no other items"
    } };
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
    ([#[size $($n:tt)*] $($left:tt)*] $($x:tt)*) => { $crate::__private::core::compile_error! {
        "write the pin as `#[size(16)]`, once"
    } };
    ([#[optional] $($left:tt)*] $cfg:tt $kept:tt $size:tt [] $($x:tt)*) => {
        $crate::__split! { [$($left)*] $cfg $kept $size [optional] $($x)* }
    };
    ([#[optional $($n:tt)*] $($left:tt)*] $($x:tt)*) => { $crate::__private::core::compile_error! {
        "write `#[optional]`, once"
    } };
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
    // No variant has a value: the enum is its integer.
    ($cfg:tt $kept:tt [] [] [$vis:vis] enum $name:ident [$repr:ident] { $( $(#[$($vm:tt)*])* $v:ident $( = $d:expr )? ),* $(,)? }) => {
        $crate::__enum! { $cfg $kept [$vis] $name $repr { $( [$(#[$($vm)*])*] $v [$( = $d )?], )* } }
    };
    ($cfg:tt $kept:tt [] [] [$vis:vis] enum $name:ident [$repr:ident] { $( $(#[$($vm:tt)*])* $v:ident $( { $( $(#[$($fm:tt)*])* $f:ident : $ft:ty ),* $(,)? } )? $( ( $t:ty ) )? $( = $d:expr )? ),* $(,)? }) => {
        $crate::__data_enum! { $cfg $kept [$vis] $name $repr { $( [$(#[$($vm)*])*] $v [$( { $( [$(#[$($fm)*])*] $f : $ft, )* } )?] [$( $t )?] [$( = $d )?], )* } }
    };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] enum $name:ident [] $body:tt) => { $crate::__private::core::compile_error! {
        $crate::__private::core::concat!("enum `", $crate::__private::core::stringify!($name), "` needs the integer that it crosses as: `enum ", $crate::__private::core::stringify!($name), ": u32 { .. }`")
    } };
    ($cfg:tt $kept:tt [] [] [$vis:vis] interface $name:ident [] { $( $(#[$($m:tt)*])* fn $f:ident ( $( $a:ident : $t:ty ),* $(,)? ) $( -> $r:ty )? ; )* }) => {
        $crate::__interface! { $cfg $cfg $kept [$vis] $name { $( [$(#[$($m)*])*] $f ( $($a : $t),* ) [$($r)?] )* } }
    };
    // Something in the list is wrong: split loosely, and let each function say what.
    ($cfg:tt $kept:tt [] [] [$vis:vis] interface $name:ident [] { $( $(#[$($m:tt)*])* $($q:ident)+ $( < $($g:tt $(: $gb:path)?),* > )? ( $($args:tt)* ) $( -> $r:ty )? ; )* }) => {
        $( $crate::__why! { $name [$($q)+] [$( < $($g),* > )?] ( $($args)* ) } )*
    };
    ($cfg:tt $kept:tt [] [] [$vis:vis] interface $name:ident [] $body:tt) => { $crate::__private::core::compile_error! {
        $crate::__private::core::concat!("cannot read interface `", $crate::__private::core::stringify!($name), "`: every function in it is `fn name(parameter: Type, ..) -> Type;`, with a semicolon behind it and no body")
    } };
    ($cfg:tt $kept:tt $size:tt $optional:tt [$vis:vis] $kw:ident $name:ident $repr:tt $body:tt) => { $crate::__private::core::compile_error! {
        $crate::__private::core::concat!("cannot read `", $crate::__private::core::stringify!($kw), " ", $crate::__private::core::stringify!($name), "`: is it a plain `struct`, `enum Name: u32` or `interface`, with its attributes in the right place?")
    } };
}

/// Says what is wrong with one function.
#[doc(hidden)]
#[macro_export]
macro_rules! __why {
    ($i:ident [fn $f:ident] [] ( $( $a:ident : $t:ty ),* $(,)? )) => {};
    ($i:ident [fn $f:ident] [] ( $( $(#[$($x:tt)*])* $a:ident : $t:ty ),* $(,)? )) => {
        $crate::__say! { $i $f ": attributes on parameters are not taken; put `#[cfg]` on the function" }
    };
    ($i:ident [fn $f:ident] [] ( & $($a:tt)* )) => {
        $crate::__say! { $i $f ": leave out the receiver, a handler gets `&self` and `&Peer` by itself" }
    };
    ($i:ident [fn $f:ident] [] ( self $($a:tt)* )) => {
        $crate::__say! { $i $f ": leave out the receiver, a handler gets `&self` and `&Peer` by itself" }
    };
    ($i:ident [fn $f:ident] [] $a:tt) => { $crate::__say! { $i $f ": a parameter is written `name: Type`" } };
    ($i:ident [fn $f:ident] [$($g:tt)+] $a:tt) => {
        $crate::__say! { $i $f ": a function that crosses to another machine cannot be generic" }
    };
    ($i:ident [async fn $f:ident] $g:tt $a:tt) => { $crate::__say! { $i $f ": calls are synchronous, leave out `async`" } };
    ($i:ident [$($q:ident)+] $g:tt $a:tt) => { $crate::__private::core::compile_error! {
        $crate::__private::core::concat!("interface `", $crate::__private::core::stringify!($i), "`: write plain `fn name(..)`, not `", $crate::__private::core::stringify!($($q)+), "`")
    } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __say {
    ($i:ident $f:ident $why:literal) => { $crate::__private::core::compile_error! {
        $crate::__private::core::concat!("function `", $crate::__private::core::stringify!($i), "::", $crate::__private::core::stringify!($f), "`", $why)
    } };
}

/// A `repr(C)` twin of some fields, `$name`, and a check of its layout against the ABI's rule.
#[doc(hidden)]
#[macro_export]
macro_rules! __twin {
    ([$($derive:tt)*] $name:ident { $( [$($fm:tt)*] $f:ident : $ft:ty, )* }) => {
        $($derive)* #[repr(C)]
        pub struct $name { $( $($fm)* $f: <$ft as $crate::FfiType>::Wire, )* }
        const _: () = {
            let mut layout = $crate::wire::Rule::new();
            $( $($fm)* { layout = layout.field::<$ft>($crate::__offset!($name, $f)); } )*
            layout.check::<$name>();
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __offset {
    ($name:ident, $f:ident) => {
        $crate::__private::memoffset::offset_of!($name, $f)
    };
}

/// A shared struct: itself, the twin that its sender fills, and its wire twin.
///
/// Attributes of fields stand on all three, so only `cfg`, doc comments and lints can be there.
#[doc(hidden)]
#[macro_export]
macro_rules! __struct {
    ([$($cfg:tt)*] [$($kept:tt)*] [$($size:expr)?] [$vis:vis] $name:ident { $( [$($fm:tt)*] [$fv:vis] $f:ident : $ft:ty, )* }) => {
        $($cfg)* $($kept)* #[allow(dead_code)] #[repr(C)]
        $vis struct $name { $( $($fm)* $fv $f: $ft, )* }
        $crate::__private::paste::paste! {
            $($cfg)* #[allow(dead_code)]
            #[doc = "What the sender of a [`" $name "`] gives, where that has handle fields."]
            $vis struct [<Shared $name>] { $( $($fm)* $fv $f: <$ft as $crate::FfiType>::Shared, )* }
            $($cfg)*
            #[allow(unused_doc_comments, dead_code, unused_variables, unused_mut, missing_docs, deprecated)]
            const _: () = {
                use $crate::__private as __p;
                use __p::core as __core;
                $crate::__twin! {
                    [#[derive(__core::clone::Clone, __core::marker::Copy, __p::zerocopy::FromBytes, __p::zerocopy::Immutable)]
                     #[zerocopy(crate = "vmffi::__private::zerocopy")]]
                    __Wire { $( [$($fm)*] $f : $ft, )* }
                }
                $( $crate::text::pin(__core::stringify!($name), __core::mem::size_of::<__Wire>(), $size); )?
                const __HANDLES: bool = {
                    let mut handles = false;
                    $( $($fm)* { handles |= <$ft as $crate::FfiType>::HANDLES; } )*
                    handles
                };
                // As visible as its output: the wire twin is as visible as any type that holds one.
                #[derive(__core::clone::Clone, __core::marker::Copy)]
                #[repr(C)]
                $vis struct __Fields(__Wire);
                // SAFETY: `repr(C)`, and `FromBytes` says that any bytes are a value.
                unsafe impl $crate::Unpackable for __Fields {
                    type Output = $name;
                    #[inline]
                    fn unpack(wire: &[u8], from: $crate::peer::Incoming<'_>) -> __core::result::Result<$name, $crate::CallError> {
                        // All fields first: what is owned is given back if another one is bad.
                        $( $($fm)* let $f = $crate::wire::field::<$ft>(wire, $crate::__offset!(__Wire, $f), __core::stringify!($f), from); )*
                        __core::result::Result::Ok($name { $( $($fm)* $f: $f?, )* })
                    }
                }
                impl $crate::FfiType for $name {
                    type Wire = __Wire;
                    type OptionWire = $crate::wire::Tagged<__Wire>;
                    type Shared = <$crate::wire::Bool<__HANDLES> as $crate::wire::Pick<$name, [<Shared $name>]>>::Out;
                    const HANDLES: bool = __HANDLES;
                    const HASH: u64 = {
                        let mut hash = $crate::wire::hash_of::<__Wire>("struct", __core::stringify!($name));
                        $( $($fm)* { hash = hash.name(__core::stringify!($f)).u64($crate::__offset!(__Wire, $f) as u64).u64(<$ft as $crate::FfiType>::HASH); } )*
                        hash.finish()
                    };
                    #[inline]
                    fn decode(wire: &[u8], from: $crate::peer::Incoming<'_>) -> __core::result::Result<Self, $crate::CallError> {
                        <__Fields as $crate::Unpackable>::unpack(wire, from)
                    }
                    #[inline]
                    fn write(&self, wire: &mut [u8]) {
                        $( $($fm)* { $crate::wire::write::<$ft>(&self.$f, wire, $crate::__offset!(__Wire, $f)); } )*
                    }
                }
                impl $crate::SendAs<$name> for [<Shared $name>] {
                    #[inline]
                    fn encode(self, wire: &mut [u8], out: &mut $crate::peer::Outgoing<'_>) -> __core::result::Result<(), $crate::CallError> {
                        $( $($fm)* { $crate::wire::put::<$ft, _>(self.$f, wire, $crate::__offset!(__Wire, $f), out)?; } )*
                        __core::result::Result::Ok(())
                    }
                }
                $crate::__plain! { [for<'x> $crate::wire::Flag<'x, __HANDLES>: $crate::wire::NoHandles] $name }
                impl __core::convert::From<$name> for $crate::Failure<$name> {
                    fn from(error: $name) -> Self { Self::App(error) }
                }
            };
        }
    };
}

/// A type that crosses as it is, by value or by reference, where `$when` holds.
#[doc(hidden)]
#[macro_export]
macro_rules! __plain {
    ([$($when:tt)*] $name:ident) => {
        impl $crate::Plain for $name where $($when)* {}
        impl $crate::SendAs<$name> for $name where $($when)* {
            #[inline]
            fn encode(self, wire: &mut [u8], _: &mut $crate::peer::Outgoing<'_>) -> __core::result::Result<(), $crate::CallError> {
                <Self as $crate::FfiType>::write(&self, wire);
                __core::result::Result::Ok(())
            }
        }
        impl $crate::SendAs<$name> for &$name where $($when)* {
            #[inline]
            fn encode(self, wire: &mut [u8], _: &mut $crate::peer::Outgoing<'_>) -> __core::result::Result<(), $crate::CallError> {
                <$name as $crate::FfiType>::write(self, wire);
                __core::result::Result::Ok(())
            }
        }
    };
}

/// An enum without values: it is its integer, in memory and in a register.
#[doc(hidden)]
#[macro_export]
macro_rules! __enum {
    ([$($cfg:tt)*] [$($kept:tt)*] [$vis:vis] $name:ident $repr:ident { $( [$($vm:tt)*] $v:ident [$( = $d:expr )?], )* }) => {
        $($cfg)* $($kept)* #[allow(dead_code)] #[repr($repr)]
        $vis enum $name { $( $($vm)* $v $( = $d )?, )* }
        $($cfg)*
        #[allow(unused_doc_comments, dead_code, unused_mut, deprecated)]
        const _: () = {
            use $crate::__private::core as __core;
            // The numbers apart from the enum itself, which need not be `Copy`.
            #[repr($repr)]
            enum __Tag { $( $($vm)* $v $( = $d )?, )* }
            impl $crate::FfiType for $name {
                type Wire = <$repr as $crate::FfiType>::Wire;
                type OptionWire = $crate::wire::Tagged<Self::Wire>;
                type Shared = $name;
                const HANDLES: bool = false;
                const HASH: u64 = {
                    let mut hash = $crate::wire::hash_of::<Self::Wire>("enum", __core::stringify!($name)).str(__core::stringify!($repr));
                    $( $($vm)* { hash = hash.name(__core::stringify!($v)).u64(__Tag::$v as $repr as u64); } )*
                    hash.finish()
                };
                fn decode(wire: &[u8], from: $crate::peer::Incoming<'_>) -> __core::result::Result<Self, $crate::CallError> {
                    let tag = <$repr as $crate::FfiType>::decode(wire, from)?;
                    $( $($vm)* if tag == __Tag::$v as $repr { return __core::result::Result::Ok($name::$v); } )*
                    __core::result::Result::Err($crate::CallError::new($crate::Why::BadValue))
                }
                fn from_transport(transport: $crate::abi::Transport, from: $crate::peer::Incoming<'_>) -> __core::result::Result<Self, $crate::CallError> {
                    let tag = <$repr as $crate::FfiType>::from_transport(transport, from)?;
                    $( $($vm)* if tag == __Tag::$v as $repr { return __core::result::Result::Ok($name::$v); } )*
                    __core::result::Result::Err($crate::CallError::new($crate::Why::BadValue))
                }
                fn write(&self, wire: &mut [u8]) {
                    let tag = match *self { $( $($vm)* $name::$v => __Tag::$v as $repr, )* };
                    <$repr as $crate::FfiType>::write(&tag, wire);
                }
            }
            impl $crate::Plain for $name {}
            impl $crate::SendAs<$name> for $name {
                #[inline]
            fn encode(self, wire: &mut [u8], _: &mut $crate::peer::Outgoing<'_>) -> __core::result::Result<(), $crate::CallError> {
                    <Self as $crate::FfiType>::write(&self, wire);
                    __core::result::Result::Ok(())
                }
                fn into_transport(self, out: &mut $crate::peer::Outgoing<'_>) -> __core::result::Result<$crate::abi::Transport, $crate::CallError> {
                    let tag = match self { $( $($vm)* $name::$v => __Tag::$v as $repr, )* };
                    <$repr as $crate::SendAs<$repr>>::into_transport(tag, out)
                }
            }
            impl __core::convert::From<$name> for $crate::Failure<$name> {
                fn from(error: $name) -> Self { Self::App(error) }
            }
        };
    };
}

/// An enum with values: its integer, and behind it, in the same place for all variants, the fields of
/// the variant. The twin is a union of `repr(C)` structs that each begin with the integer.
#[doc(hidden)]
#[macro_export]
macro_rules! __data_enum {
    ([$($cfg:tt)*] [$($kept:tt)*] [$vis:vis] $name:ident $repr:ident { $( [$($vm:tt)*] $v:ident [$( { $( [$($fm:tt)*] $f:ident : $ft:ty, )* } )?] [$( $t:ty )?] [$( = $d:expr )?], )* }) => {
        $($cfg)* $($kept)* #[allow(dead_code)] #[repr($repr)]
        $vis enum $name { $( $($vm)* $v $( { $( $($fm)* $f: $ft, )* } )? $( ($t) )? $( = $d )?, )* }
        $crate::__private::paste::paste! {
            $($cfg)*
            #[allow(unused_doc_comments, dead_code, unused_variables, unused_mut, non_snake_case, missing_docs, deprecated)]
            const _: () = {
                use $crate::__private as __p;
                use __p::core as __core;
                #[repr($repr)]
                enum __Tag { $( $($vm)* $v $( = $d )?, )* }
                $(
                    $($vm)*
                    #[derive(__core::clone::Clone, __core::marker::Copy, __p::zerocopy::FromBytes, __p::zerocopy::Immutable)]
                    #[zerocopy(crate = "vmffi::__private::zerocopy")]
                    #[repr(C)]
                    pub struct [<__In $v>] {
                        __tag: <$repr as $crate::FfiType>::Wire,
                        $( $( $($fm)* $f: <$ft as $crate::FfiType>::Wire, )* )?
                        $( __value: <$t as $crate::FfiType>::Wire, )?
                    }
                )*
                #[derive(__core::clone::Clone, __core::marker::Copy, __p::zerocopy::FromBytes, __p::zerocopy::Immutable)]
                #[zerocopy(crate = "vmffi::__private::zerocopy")]
                #[repr(C)]
                pub union __Wire {
                    __tag: <$repr as $crate::FfiType>::Wire,
                    $( $($vm)* $v: [<__In $v>], )*
                }
                const _: () = {
                    let mut handles = false;
                    $( $($vm)* {
                        $( $( $($fm)* { handles |= <$ft as $crate::FfiType>::HANDLES; } )* )?
                        $( handles |= <$t as $crate::FfiType>::HANDLES; )?
                    } )*
                    if handles {
                        __core::panic!(__core::concat!("enum `", __core::stringify!($name), "` holds a handle: put it into a struct"));
                    }
                };
                $( $($vm)* const _: () = {
                    let mut layout = $crate::wire::Rule::new().field::<$repr>($crate::__offset!([<__In $v>], __tag));
                    $( $( $($fm)* { layout = layout.field::<$ft>($crate::__offset!([<__In $v>], $f)); } )* )?
                    $( layout = layout.field::<$t>($crate::__offset!([<__In $v>], __value)); )?
                    layout.check::<[<__In $v>]>();
                }; )*
                impl $crate::FfiType for $name {
                    type Wire = __Wire;
                    type OptionWire = $crate::wire::Tagged<__Wire>;
                    type Shared = $name;
                    const HANDLES: bool = false;
                    const HASH: u64 = {
                        let mut hash = $crate::wire::hash_of::<__Wire>("enum", __core::stringify!($name)).str(__core::stringify!($repr));
                        $( $($vm)* {
                            hash = hash.name(__core::stringify!($v)).u64(__Tag::$v as $repr as u64);
                            $( $( $($fm)* { hash = hash.name(__core::stringify!($f)).u64($crate::__offset!([<__In $v>], $f) as u64).u64(<$ft as $crate::FfiType>::HASH); } )* )?
                            $( hash = hash.u64($crate::__offset!([<__In $v>], __value) as u64).u64(<$t as $crate::FfiType>::HASH); )?
                        } )*
                        hash.finish()
                    };
                    #[inline]
                    fn decode(wire: &[u8], from: $crate::peer::Incoming<'_>) -> __core::result::Result<Self, $crate::CallError> {
                        let tag = $crate::wire::field::<$repr>(wire, 0, "", from)?;
                        $( $($vm)* if tag == __Tag::$v as $repr {
                            return __core::result::Result::Ok($name::$v
                                $( { $( $($fm)* $f: $crate::wire::field::<$ft>(wire, $crate::__offset!([<__In $v>], $f), __core::stringify!($f), from)?, )* } )?
                                $( ($crate::wire::field::<$t>(wire, $crate::__offset!([<__In $v>], __value), "", from)?) )?
                            );
                        } )*
                        __core::result::Result::Err($crate::CallError::new($crate::Why::BadValue))
                    }
                    fn write(&self, wire: &mut [u8]) {
                        match self { $( $($vm)* $name::$v $( { $( $($fm)* $f, )* } )? $( ($crate::__first!(value $t)) )? => {
                            $crate::wire::write::<$repr>(&(__Tag::$v as $repr), wire, 0);
                            $( $( $($fm)* { $crate::wire::write::<$ft>($f, wire, $crate::__offset!([<__In $v>], $f)); } )* )?
                            $( $crate::wire::write::<$t>($crate::__first!(value $t), wire, $crate::__offset!([<__In $v>], __value)); )?
                        } )* }
                    }
                }
                $crate::__plain! { [] $name }
                impl __core::convert::From<$name> for $crate::Failure<$name> {
                    fn from(error: $name) -> Self { Self::App(error) }
                }
            };
        }
    };
}

/// The first of two things: a name, repeated along with something else.
#[doc(hidden)]
#[macro_export]
macro_rules! __first {
    ($a:ident $($b:tt)*) => {
        $a
    };
}

/// The declared return type, `()` if there is none.
#[doc(hidden)]
#[macro_export]
macro_rules! __ret {
    () => {
        ()
    };
    ($t:ty) => {
        $t
    };
}

/// An interface: its trait, its client, its functions' parameters, and its table.
///
/// `$icfg` and `$cfg` are the same attributes, once to be passed on and once to be repeated.
#[doc(hidden)]
#[macro_export]
macro_rules! __interface {
    ($icfg:tt [$($cfg:tt)*] [$($kept:tt)*] [$vis:vis] $name:ident { $( [$($m:tt)*] $f:ident $args:tt $r:tt )* }) => {
        $($cfg)* $($kept)* #[allow(dead_code, clippy::too_many_arguments)]
        $vis trait $name { $( $crate::__split! { [$($m)*] [] [] [] [] __trait_fn $f $args $r } )* }
        $crate::__private::paste::paste! {
            $($cfg)* #[allow(dead_code)]
            #[doc = "Calls [`" $name "`] on the other side. Made from a `&Peer`."]
            #[derive($crate::__private::core::clone::Clone, $crate::__private::core::marker::Copy, $crate::__private::core::fmt::Debug)]
            $vis struct [<$name Client>]<'__peer> { peer: &'__peer $crate::Peer }
            $($cfg)*
            impl<'__peer> $crate::__private::core::convert::From<&'__peer $crate::Peer> for [<$name Client>]<'__peer> {
                fn from(peer: &'__peer $crate::Peer) -> Self { Self { peer } }
            }
            $( $crate::__split! { [$($m)*] $icfg [] [] [] __call [$vis] $name [<$name Client>] [<Params $name $f:camel>] $f [<has_ $f>] $args $r } )*
            $($cfg)*
            #[allow(unused_mut, unused_assignments, deprecated)]
            const _: () = {
                use $crate::dispatch as __dispatch;
                const __N: usize = { let mut n = 0; $( $crate::__split! { [$($m)*] [] [] [] [] __count n } )* n };
                impl __dispatch::Interface for dyn $name {
                    const FUNCTIONS: &'static [&'static $crate::abi::Function] = &{
                        let mut all = [__dispatch::NOBODY; __N];
                        let mut n = 0;
                        $( $crate::__split! { [$($m)*] [] [] [] [] __function all n [<Params $name $f:camel>] } )*
                        all
                    };
                }
                impl<__Server: $name + 'static> __dispatch::Implements<__Server> for dyn $name {
                    const ENTRIES: &'static [__dispatch::Entry<__Server>] = &{
                        let mut all = [__dispatch::Entry::EMPTY; __N];
                        let mut n = 0;
                        $( $crate::__split! { [$($m)*] [] [] [] [] __entry all n __Server $name [<Params $name $f:camel>] $f $args $r } )*
                        all
                    };
                }
            };
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __trait_fn {
    ([$($cfg:tt)*] [$($kept:tt)*] $size:tt $optional:tt $f:ident ($($a:ident : $t:ty),*) [$($r:ty)?]) => {
        $($cfg)* $($kept)*
        fn $f(&self, peer: &$crate::Peer, $($a: $t),*) -> <$crate::__ret!($($r)?) as $crate::FfiReturn>::Handled;
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __count {
    ([$($cfg:tt)*] $kept:tt $size:tt $optional:tt $n:ident) => { $($cfg)* { $n += 1; } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __function {
    ([$($cfg:tt)*] $kept:tt $size:tt $optional:tt $all:ident $n:ident $params:ident) => {
        $($cfg)* { $all[$n] = $params::FUNCTION; $n += 1; }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __entry {
    ([$($cfg:tt)*] $kept:tt $size:tt $optional:tt $all:ident $n:ident $S:ident $name:ident $params:ident $f:ident ($($a:ident : $t:ty),*) [$($r:ty)?]) => {
        $($cfg)* {
            $all[$n] = __dispatch::Entry::new($params::FUNCTION, |server: &$S, peer, transport, status| {
                match $crate::__receive! { $params transport peer.incoming(), ($($a : $t),*) } {
                    $crate::__private::core::result::Result::Ok(($($a,)*)) => {
                        $crate::wire::answer::<$crate::__ret!($($r)?)>(peer, $params::FUNCTION, <$S as $name>::$f(server, peer, $($a),*), status)
                    }
                    $crate::__private::core::result::Result::Err(error) => $crate::wire::refuse(error, peer, $params::FUNCTION, status),
                }
            });
            $n += 1;
        }
    };
}

/// A function as its caller sees it: the parameters' layout, the signature, the client's method.
#[doc(hidden)]
#[macro_export]
macro_rules! __call {
    ([$($cfg:tt)*] [$($kept:tt)*] $size:tt $optional:tt [$vis:vis] $interface:ident $client:ident $params:ident $f:ident $has:ident ($($a:ident : $t:ty),*) [$($r:ty)?]) => {
        $($cfg)*
        #[doc = $crate::__private::core::concat!("The parameters of `", $crate::__private::core::stringify!($interface), "::", $crate::__private::core::stringify!($f), "` as they lie in memory.")]
        #[derive($crate::__private::core::clone::Clone, $crate::__private::core::marker::Copy)]
        #[allow(dead_code, missing_debug_implementations)]
        #[repr(C)]
        $vis struct $params { $( $a: <$t as $crate::FfiType>::Wire, )* }
        $($cfg)*
        #[allow(dead_code, clippy::too_many_arguments)]
        const _: () = {
            use $crate::__private::core as __core;
            impl $params {
                /// The function: its signature and its names.
                pub const FUNCTION: &'static $crate::abi::Function = {
                    $crate::__check! { $size $params $f ($($a : $t),*) }
                    &$crate::abi::Function::new(
                        $crate::wire::signature(
                            __core::stringify!($interface),
                            __core::stringify!($f),
                            &[$( <$t as $crate::FfiType>::HASH ),*],
                            <$crate::__ret!($($r)?) as $crate::FfiReturn>::HASH,
                        ),
                        __core::stringify!($interface),
                        __core::stringify!($f),
                        __core::concat!("fn ", __core::stringify!($f), "(", $crate::__list!($($a: $t),*), ")" $(, " -> ", __core::stringify!($r))?),
                    )
                };
            }
            $crate::__unpack! { $params ($($a : $t),*) }
            impl $client<'_> {
                $($kept)* #[inline]
                pub fn $f(&self, $($a: impl $crate::SendAs<$t>),*) -> <$crate::__ret!($($r)?) as $crate::FfiReturn>::Received {
                    let mut out = self.peer.outgoing();
                    let transport = $crate::__send! { out $params ($($a : $t),*) };
                    $crate::wire::finish::<$crate::__ret!($($r)?)>(&mut out, $params::FUNCTION, transport)
                }
                $crate::__has! { $optional $params $f $has }
            }
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __has {
    ([] $params:ident $f:ident $has:ident) => {};
    ([optional] $params:ident $f:ident $has:ident) => {
        #[doc = __core::concat!("Whether the peer serves `", __core::stringify!($f), "`.")]
        pub fn $has(&self) -> __core::result::Result<bool, $crate::CallError> {
            self.peer.has($params::FUNCTION)
        }
    };
}

/// Parameters as a person writes them; `stringify!` alone spaces them as each compiler likes.
#[doc(hidden)]
#[macro_export]
macro_rules! __list {
    () => { "" };
    ($a:ident : $t:ty $(, $b:ident : $u:ty)*) => {
        $crate::__private::core::concat!(
            $crate::__private::core::stringify!($a), ": ", $crate::__private::core::stringify!($t)
            $(, ", ", $crate::__private::core::stringify!($b), ": ", $crate::__private::core::stringify!($u))*
        )
    };
}

// What depends on the number of parameters: none travels as nothing, one in the transport, more in a
// struct in memory.

/// Checks the layout of a parameter struct, and its size against a pin.
#[doc(hidden)]
#[macro_export]
macro_rules! __check {
    ([] $params:ident $f:ident ()) => {};
    ([] $params:ident $f:ident ($a:ident : $t:ty)) => {};
    ([$($size:expr)?] $params:ident $f:ident ($a:ident : $t:ty $(, $b:ident : $u:ty)+)) => {
        $crate::wire::Rule::new()
            .field::<$t>($crate::__offset!($params, $a))
            $( .field::<$u>($crate::__offset!($params, $b)) )+
            .check::<$params>();
        $( $crate::text::pin(__core::stringify!($f), __core::mem::size_of::<$params>(), $size); )?
    };
    ([$($size:expr)?] $params:ident $f:ident $args:tt) => { __core::compile_error! {
        __core::concat!("function `", __core::stringify!($f), "`: `#[size]` pins a parameter struct, and there is none for fewer than two parameters")
    } };
}

/// Makes owned parameters out of a struct.
#[doc(hidden)]
#[macro_export]
macro_rules! __unpack {
    ($params:ident ()) => {};
    ($params:ident ($a:ident : $t:ty)) => {};
    ($params:ident ($($a:ident : $t:ty),+)) => {
        // SAFETY: `repr(C)`, and every field is a wire twin, of which any bytes are a value.
        unsafe impl $crate::Unpackable for $params {
            type Output = ($($t,)+);
            #[inline]
            fn unpack(wire: &[u8], from: $crate::peer::Incoming<'_>) -> __core::result::Result<Self::Output, $crate::CallError> {
                $( let $a = $crate::wire::field::<$t>(wire, $crate::__offset!($params, $a), __core::stringify!($a), from); )+
                __core::result::Result::Ok(($($a?,)+))
            }
        }
    };
}

/// Sends the parameters: a `Result` of the transport.
#[doc(hidden)]
#[macro_export]
macro_rules! __send {
    ($out:ident $params:ident ()) => { $crate::wire::nothing() };
    ($out:ident $params:ident ($a:ident : $t:ty)) => { $crate::SendAs::<$t>::into_transport($a, &mut $out) };
    ($out:ident $params:ident ($($a:ident : $t:ty),+)) => {
        $out.lend_wire::<$params>(|wire, out| {
            $( $crate::wire::put::<$t, _>($a, wire, $crate::__offset!($params, $a), out)?; )+
            __core::result::Result::Ok(())
        })
    };
}

/// Takes the parameters: a `Result` of a tuple.
#[doc(hidden)]
#[macro_export]
macro_rules! __receive {
    ($params:ident $transport:ident $from:expr, ()) => {
        <() as $crate::FfiType>::from_transport($transport, $from)
    };
    ($params:ident $transport:ident $from:expr, ($a:ident : $t:ty)) => {
        $crate::wire::alone::<$t>($transport, $from, $crate::__private::core::stringify!($a))
    };
    ($params:ident $transport:ident $from:expr, ($($a:ident : $t:ty),+)) => {
        $crate::wire::receive::<$params>($transport, $from)
    };
}

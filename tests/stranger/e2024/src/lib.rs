//! A user of edition 2024, under every strict lint that a user may enable.
#![no_std]
#![no_implicit_prelude]
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub, unused)]
#![warn(rust_2024_compatibility)]

use ::core::{
    clone::Clone,
    cmp::{Eq, PartialEq},
    fmt::Debug,
    marker::Copy,
    option::Option,
    result::Result,
};
use ::vmffi::{Foreign, ForeignBuf, ForeignSlice, ForeignStr};

::vmffi::ffi_interface! {
    /// A pinned struct, with fields that depend on the target.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[size(16)]
    pub struct Stat {
        /// In bytes.
        size: u64,
        /// There on one target.
        #[cfg(not(target_os = "none"))]
        mode: u32,
        /// There on another one.
        #[cfg(target_os = "none")]
        mode: u32,
        /// Names of the file.
        links: u32,
        /// Nowhere.
        #[cfg(any())]
        gone: Missing,
    }

    /// Why a file cannot be opened.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[must_use]
    pub enum OpenError: i8 {
        /// Below zero.
        Worst = -1,
        /// It is not there.
        NotFound = 1,
        /// Nowhere.
        #[cfg(any())]
        Gone = 1,
        /// Not for you.
        Denied,
    }

    /// With values.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Shape: u8 {
        /// Round.
        Circle {
            /// To the edge.
            radius: f64,
            /// Nowhere.
            #[cfg(any())]
            gone: Missing,
            /// All of it.
            filled: bool,
        },
        /// One number.
        Side(u32) = 7,
        /// Nowhere.
        #[cfg(any())]
        Gone(Missing),
        /// None at all.
        Nothing,
    }

    /// Handles.
    #[derive(Debug)]
    pub struct Request {
        /// Where.
        path: ForeignStr,
        /// What.
        body: ForeignBuf,
        /// More of it.
        more: Option<ForeignBuf>,
        /// Nowhere.
        #[cfg(any())]
        gone: Missing,
    }

    /// What the host offers.
    pub interface Files {
        /// Opens a file.
        ///
        /// With a long text
        /// in its documentation,
        /// of more than eight lines,
        /// because those are taken
        /// eight at a time,
        /// and some
        /// are left
        /// for the next
        /// time.
        #[size(24)]
        fn open(path: ForeignStr, flags: u32) -> Result<u64, OpenError>;
        /// Reads.
        fn read(file: u64, max: u32) -> ForeignBuf;
        /// What is known of a file.
        #[must_use = "that is all it does"]
        fn stat(file: u64) -> Foreign<Stat>;
        /// Everything at once.
        fn all(
            stat: Stat,
            maybe: Option<Stat>,
            error: OpenError,
            shape: Shape,
            request: Request,
            wide: u128,
            letter: char,
            slice: ForeignSlice<Shape>,
        ) -> Option<Request>;
        /// Not every host has it.
        #[optional]
        fn delete(path: ForeignStr) -> bool;
        /// Old, and its users know.
        #[deprecated = "use `open`"]
        #[optional]
        fn create(path: ForeignStr);
        /// Nowhere.
        #[cfg(any())]
        fn gone(missing: Missing) -> Missing;
        /// Everywhere.
        #[cfg(all())]
        #[optional]
        fn here(deep: Option<Option<u16>>) -> ();
    }

    /// Nowhere.
    #[cfg(any())]
    pub interface Gone { fn gone(missing: Missing); }

    /// Nowhere.
    #[cfg(any())]
    pub struct Missing { missing: Missing }

    /// Nothing in it.
    pub interface Empty {}
}

/// Names that the expansion might be thought to use itself.
pub mod names {
    use ::vmffi::ForeignBuf;

    ::vmffi::ffi_interface! {
        /// Fields.
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        pub struct Fields {
            /// A.
            wire: u8,
            /// B.
            out: u16,
            /// C.
            from: u32,
            /// D.
            layout: u64,
            /// E.
            hash: u8,
            /// F.
            handles: bool,
            /// G.
            r#type: char,
            /// H.
            value: ::core::option::Option<u8>,
        }
        /// Fields of variants.
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        pub enum Variants: u32 {
            /// A.
            Wire {
                /// A.
                wire: u8,
                /// B.
                tag: u16,
                /// C.
                hash: u8,
                /// D.
                from: u8,
                /// E.
                value: u8,
                /// F.
                r#type: u8,
            },
            /// B.
            Some(u8),
            /// C.
            None,
            /// D.
            Ok(u32),
            /// E.
            Err,
        }
        /// Handles too.
        #[derive(::core::fmt::Debug)]
        pub struct Handles {
            /// A.
            out: ForeignBuf,
            /// B.
            wire: u8,
            /// C.
            r#match: ForeignBuf,
        }
        /// Functions and parameters.
        pub interface Names {
            /// A.
            fn new(new: u8, peer: u8) -> u8;
            /// B.
            fn from(from: u8, out: u8);
            /// C.
            fn peer(peer: u8, transport: u16) -> u8;
            /// D.
            fn out(out: ForeignBuf) -> ForeignBuf;
            /// E.
            fn wire(wire: u8, rule: u64) -> u8;
            /// F.
            fn transport(transport: u8) -> u8;
            /// G.
            fn server(server: u8, wire: u16, transport: u32, params: u64) -> u8;
            /// H.
            fn all(all: u8, n: u8);
            /// I.
            fn clone(f: Fields, v: Variants, h: Handles) -> Handles;
            /// J.
            fn fmt();
            /// K.
            fn r#type(r#type: u8, r#fn: u16) -> u8;
            /// L.
            fn send(send: u8);
            /// M.
            fn receive();
            /// N.
            fn call(at: u8, put: u8, __p: u8) -> u8;
            /// O.
            #[optional]
            fn r#loop();
            /// P.
            fn is_ok(ok: bool) -> ::core::result::Result<u8, Variants>;
        }
    }

    /// Serves them, and names the interface where another trait has a function of the same name.
    #[derive(Debug)]
    pub struct Server;

    type Answer<T> = ::core::result::Result<T, ::vmffi::CallError>;

    impl Names for Server {
        fn new(&self, _: &::vmffi::Peer, new: u8, peer: u8) -> Answer<u8> {
            Answer::Ok(new + peer)
        }
        fn from(&self, _: &::vmffi::Peer, _: u8, _: u8) -> Answer<()> {
            Answer::Ok(())
        }
        fn peer(&self, _: &::vmffi::Peer, peer: u8, _: u16) -> Answer<u8> {
            Answer::Ok(peer)
        }
        fn out(&self, peer: &::vmffi::Peer, _: ForeignBuf) -> Answer<::vmffi::SharedBuf> {
            ::vmffi::SharedBuf::copy_from(peer, b"out")
        }
        fn wire(&self, _: &::vmffi::Peer, wire: u8, _: u64) -> Answer<u8> {
            Answer::Ok(wire)
        }
        fn transport(&self, _: &::vmffi::Peer, transport: u8) -> Answer<u8> {
            Answer::Ok(transport)
        }
        fn server(&self, _: &::vmffi::Peer, server: u8, _: u16, _: u32, _: u64) -> Answer<u8> {
            Answer::Ok(server)
        }
        fn all(&self, _: &::vmffi::Peer, _: u8, _: u8) -> Answer<()> {
            Answer::Ok(())
        }
        fn clone(
            &self,
            _: &::vmffi::Peer,
            _: Fields,
            _: Variants,
            _: Handles,
        ) -> Answer<SharedHandles> {
            Answer::Err(::vmffi::CallError::refused())
        }
        fn fmt(&self, _: &::vmffi::Peer) -> Answer<()> {
            Answer::Ok(())
        }
        fn r#type(&self, _: &::vmffi::Peer, r#type: u8, _: u16) -> Answer<u8> {
            Answer::Ok(r#type)
        }
        fn send(&self, _: &::vmffi::Peer, _: u8) -> Answer<()> {
            Answer::Ok(())
        }
        fn receive(&self, _: &::vmffi::Peer) -> Answer<()> {
            Answer::Ok(())
        }
        fn call(&self, _: &::vmffi::Peer, at: u8, _: u8, _: u8) -> Answer<u8> {
            Answer::Ok(at)
        }
        fn r#loop(&self, _: &::vmffi::Peer) -> Answer<()> {
            Answer::Ok(())
        }
        fn is_ok(
            &self,
            _: &::vmffi::Peer,
            ok: bool,
        ) -> ::core::result::Result<u8, ::vmffi::Failure<Variants>> {
            if ok {
                ::core::result::Result::Ok(1)
            } else {
                ::core::result::Result::Err(::core::convert::Into::into(Variants::None))
            }
        }
    }

    ::vmffi::serve!(Server: Names);

    /// Calls all of them.
    ///
    /// # Errors
    ///
    /// Those of the calls.
    pub fn calls(peer: &::vmffi::Peer) -> Answer<u8> {
        let client = <NamesClient<'_> as ::core::convert::From<_>>::from(peer);
        client.new(1, 2)?;
        client.from(1, 2)?;
        client.peer(1, 2)?;
        client.out(b"out")?;
        client.wire(1, 2)?;
        client.transport(1)?;
        client.all(1, 2)?;
        client.fmt()?;
        client.send(1)?;
        client.receive()?;
        client.has_loop()?;
        client.r#loop()?;
        client.r#type(1, 2)?;
        client.call(1, 2, 3)?;
        client.server(1, 2, 3, 4)
    }
}

/// The user's own types have the names of types in the prelude.
pub mod own {
    /// Not core's.
    #[derive(::core::fmt::Debug)]
    pub struct Result;
    /// Not core's.
    #[derive(::core::fmt::Debug)]
    pub struct Option;
    /// Not core's.
    #[derive(::core::fmt::Debug)]
    pub struct Some;
    /// Not core's.
    #[derive(::core::fmt::Debug)]
    pub struct Ok;
    /// Not core's.
    #[derive(::core::fmt::Debug)]
    pub struct Err;
    /// Not core's.
    pub trait Clone {}
    /// Not core's.
    pub trait Copy {}
    /// Not core's.
    pub trait From {}
    /// Not core's.
    pub mod core {}
    /// Not the crate.
    pub mod vmffi {}

    use ::vmffi::ForeignBuf;

    ::vmffi::ffi_interface! {
        /// A.
        pub struct Plain {
            /// A.
            value: ::core::option::Option<u32>,
        }
        /// B.
        pub enum Kind: u8 {
            /// A.
            Ok,
            /// B.
            Err,
        }
        /// C.
        pub enum Data: u8 {
            /// A.
            Some(u8),
            /// B.
            None,
        }
        /// D.
        pub interface Own {
            /// A.
            fn f(a: ::core::option::Option<ForeignBuf>) -> ::core::result::Result<Plain, Kind>;
            /// B.
            #[optional]
            fn g(a: Plain, b: Data) -> Data;
        }
    }
}

/// Items of every visibility, and more than one list of them.
pub mod visible {
    ::vmffi::ffi_interface! {
        /// A.
        pub(crate) struct Inner {
            a: u8,
        }
        struct Private {
            pub(super) a: u8,
            b: Inner,
        }
        pub(super) enum Kind: u8 { A, B }
        pub(in crate::visible) enum Data: u16 { A(u8), B { a: Inner } }
        interface Hidden {
            fn f(a: Inner, b: Private) -> Kind;
            fn g(a: Data) -> Data;
        }
        pub(crate) interface Known {
            fn f(a: Inner);
        }
    }
    ::vmffi::ffi_interface! {}
    ::vmffi::ffi_interface! {
        /// B.
        pub struct Mixed {
            /// Seen by all.
            pub a: u8,
            pub(crate) b: u16,
            c: u32,
        }
    }
    /// Of a private field.
    #[must_use]
    pub fn mixed() -> Mixed {
        Mixed { a: 1, b: 2, c: 3 }
    }
    #[allow(dead_code)]
    fn private() -> Private {
        Private { a: 1, b: Inner { a: 2 } }
    }
    #[allow(dead_code)]
    pub(crate) fn kinds() -> [Kind; 2] {
        [Kind::A, Kind::B]
    }
}

/// In the body of a function.
#[must_use]
pub fn body() -> u64 {
    ::vmffi::ffi_interface! {
        struct Local { a: u32, b: u8 }
        enum Kind: u32 { A, B { s: u64 } }
        interface Bodily { fn f(s: Local, k: Kind) -> u32; #[optional] fn g(); }
    }
    struct Server;
    impl Bodily for Server {
        fn f(&self, _: &::vmffi::Peer, s: Local, k: Kind) -> Result<u32, ::vmffi::CallError> {
            let more = if let Kind::B { s } = k { s as u32 } else { 0 };
            Result::Ok(s.a + more)
        }
        fn g(&self, _: &::vmffi::Peer) -> Result<(), ::vmffi::CallError> {
            Result::Ok(())
        }
    }
    ::vmffi::serve!(Server: Bodily);
    fn served<S: ::vmffi::Serve>(_: S) {}
    served(Server);
    ParamsBodilyF::FUNCTION.signature
}

/// Names that are keywords in this edition, and not in every one.
#[allow(non_camel_case_types)]
pub mod keywords {
    ::vmffi::ffi_interface! {
        /// A.
        #[derive(::core::fmt::Debug)]
        pub struct Gen {
            /// A.
            r#gen: u8,
            /// B.
            r#async: u8,
        }
        /// B.
        pub enum Kind: u8 {
            /// A.
            r#gen,
            /// B.
            Other {
                /// A.
                r#gen: u8,
            },
        }
        /// C.
        pub interface Keywords {
            /// A.
            fn r#gen(r#gen: u8, r#try: u8, kind: Kind) -> Gen;
        }
    }
}

/// Packed values.
pub mod packed {
    use ::core::{
        clone::Clone,
        cmp::{Eq, PartialEq},
        fmt::Debug,
        marker::Copy,
        option::Option as Maybe,
        result::Result,
    };
    use ::vmffi::{CallError, ForeignList, ForeignPacked, List, Peer, SharedList, SharedPacked};

    ::vmffi::ffi_interface! {
        /// With references.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[size(56)]
        pub struct Entry<'e> {
            /// A text.
            name: &'e str,
            /// Bytes.
            #[cfg(not(any()))]
            body: &'e [u8],
            /// Nowhere.
            #[cfg(any())]
            gone: Missing,
            /// A text, or none.
            target: Maybe<&'e str>,
            /// A list.
            more: List<'e, Cell<'e>>,
            /// A name that is a keyword.
            r#type: u8,
        }

        /// With values.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Cell<'e>: u8 {
            /// Nothing.
            Null,
            /// A number.
            Int(i64),
            /// Nowhere.
            #[cfg(any())]
            Gone(Missing),
            /// Names.
            Both {
                /// One.
                key: &'e str,
                /// Another one.
                wire: &'e [u8],
            } = 9,
        }

        /// With lists.
        pub interface Dirs {
            /// The lifetimes are left out.
            fn list(path: ForeignPacked<&str>, entries: ForeignList<Entry>) -> ForeignList<Entry>;
            /// They are not.
            fn one(entry: ForeignPacked<Entry<'_>>) -> Maybe<ForeignPacked<Cell<'static>>>;
        }
    }

    struct Server;

    impl Dirs for Server {
        fn list(
            &self,
            peer: &Peer,
            _: ForeignPacked<&str>,
            _: ForeignList<Entry<'_>>,
        ) -> Result<SharedList<Entry<'static>>, CallError> {
            SharedList::new(peer)
        }

        fn one(
            &self,
            peer: &Peer,
            _: ForeignPacked<Entry<'_>>,
        ) -> Result<Maybe<SharedPacked<Cell<'static>>>, CallError> {
            SharedPacked::copy_from(peer, &Cell::Null).map(Maybe::Some)
        }
    }

    ::vmffi::serve!(Server: Dirs);
}

//! A user of edition 2021, who declares the same interfaces in another module and in another order.
#![no_std]
#![no_implicit_prelude]
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub, unused)]

/// Not at the root.
pub mod deep {
    /// Not even here.
    pub mod deeper {
        use ::core::prelude::v1::{derive, Clone, Debug, Option as Maybe, Result as Answer};
        use ::vmffi::{Foreign, ForeignBuf, ForeignSlice, ForeignStr};

        /// Names of the user's own for the types of a declaration.
        type Text = ForeignStr;
        type Bytes = ForeignBuf;
        type Size = u64;

        ::vmffi::ffi_interface! {
            /// The host's, as this guest knows it.
            pub interface Files {
                /// The parameters have other names.
                fn read(which: Size, most: u32) -> Bytes;
                /// Optional here.
                #[optional]
                fn stat(file: u64) -> Foreign<Stat>;
                /// With everything.
                fn all(
                    a: Stat,
                    b: Maybe<Stat>,
                    c: OpenError,
                    d: Shape,
                    e: Request,
                    f: u128,
                    g: char,
                    h: ForeignSlice<Shape>,
                ) -> Maybe<Request>;
                /// Opens.
                fn open(path: Text, flags: u32) -> Answer<Size, OpenError>;
                /// One more, of this guest only.
                #[optional]
                fn sync(file: u64);
                /// One that looks alike.
                fn delete(path: Text) -> u8;
                /// And one that is the same.
                fn here(deep: Maybe<Maybe<u16>>);
            }
            /// After its user.
            pub struct Request {
                /// A.
                path: Text,
                /// B.
                body: Bytes,
                /// C.
                more: Maybe<Bytes>,
            }
            /// In another order.
            #[derive(Clone, Debug)]
            pub enum Shape: u8 {
                /// A.
                Circle {
                    /// B.
                    radius: f64,
                    /// C.
                    filled: bool,
                },
                /// D.
                Side(u32) = 7,
                /// E.
                Nothing,
            }
            /// Its numbers written in another way.
            #[derive(Clone, Copy, Debug)]
            pub enum OpenError: i8 {
                /// A.
                Worst = 0 - 1,
                /// B.
                NotFound = 1,
                /// C.
                Denied = 2,
            }
            /// No pin.
            #[derive(Clone, Debug)]
            pub struct Stat {
                /// A.
                pub size: Size,
                /// B.
                pub mode: u32,
                /// C.
                pub links: u32,
            }
        }

        use ::core::marker::Copy;
    }
}

/// A second declaration of one name, in a module of its own.
pub mod other {
    ::vmffi::ffi_interface! {
        /// The same interface and function, with a type that is not the same.
        pub interface Files {
            /// A.
            fn stat(file: u64) -> ::vmffi::Foreign<Stat>;
        }
        /// One field more.
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        pub struct Stat {
            /// A.
            size: u64,
            /// B.
            mode: u32,
            /// C.
            links: u32,
            /// D.
            blocks: u64,
        }
    }
}

/// In the body of a function.
#[must_use]
pub fn body() -> u64 {
    ::vmffi::ffi_interface! {
        interface Bodily { fn f(s: Local, k: Kind) -> u32; }
        struct Local { a: u32, b: u8 }
        enum Kind: u32 { A, B { s: u64 } }
    }
    ParamsBodilyF::FUNCTION.signature
}

/// Names that are keywords in a later edition.
#[allow(non_camel_case_types)]
pub mod keywords {
    ::vmffi::ffi_interface! {
        /// A.
        #[derive(::core::fmt::Debug)]
        pub struct Gen {
            /// A.
            gen: u8,
            /// B.
            r#async: u8,
        }
        /// B.
        pub enum Kind: u8 {
            /// A.
            gen,
            /// B.
            Other {
                /// A.
                gen: u8,
            },
        }
        /// C.
        pub interface Keywords {
            /// A.
            fn gen(gen: u8, r#try: u8, kind: Kind) -> Gen;
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

//! The expansion of [`ffi_interface!`](crate::ffi_interface) for one declaration.
//!
//! All items below are generated from the declaration that follows. They are there in the
//! documentation only.
//!
//! - [`Page`] has handles as fields, so it has a twin, [`SharedPage`], which its sender fills. It is an alias of a struct with
//!   the same fields, each of the type that is sent for it.
//!   (A struct without handles is sent as it is; it has such a twin, too, and nobody needs it.)
//! - [`PageError`] crosses as a `u32`.
//! - [`Pages`] is what the serving side implements. A return type is an alias there:
//!   `Handled<Result<Page, PageError>, dyn Pages>` is `Result<SharedPage, Failure<PageError>>`,
//!   and in the client of a peer `Returned<…>` is `Result<Page, Failure<PageError>>`.
//! - [`PagesClient`] is what the calling side uses, made from a [`&Peer`](crate::Peer) or a [`&Batch`](crate::Batch). It takes `impl SendAs<ForeignStr>` where the
//!   declaration says `ForeignStr`: a `&str`, a `&String` or a [`SharedStr`](crate::SharedStr).
//!   The function that is `#[optional]` has a method beside it that asks whether it is served,
//!   of a type to which the client derefs.
//! - [`ParamsPagesLoad`] and [`ParamsPagesStore`] are the parameters as they lie in memory; their
//!   `FUNCTION` has the signature, for raw calls.
//!
//! ```
#![doc = include_str!("example_generated/declaration.rs")]
//! ```

// The declaration is that of a user, for whom this crate is `vmffi`.
extern crate self as vmffi;

include!("example_generated/declaration.rs");

//! Calls: the two endpoints of a connection, and the code around sending and serving a call.
//!
//! [`Peer`], [`Endpoint`] and the dispatch table depend on each other, and are in one module for that reason: an
//! endpoint serves a call by passing a peer to a handler, which calls back through that peer and hence through the
//! endpoint.
//!
//! Between a client and a handler, an answer has one form: the transport is returned, in two registers, and a status
//! other than 0 is written through a reference. [`Answer`](crate::abi::Answer) is the form on the wire, and of raw
//! calls.

mod batch;
pub(crate) mod client;
mod context;
pub mod dispatch;
mod endpoint;
mod peer;
pub(crate) mod server;
pub mod span;
mod trap_loop;

pub use client::Caller;
pub(crate) use context::{CallContext, NestedCalls};
pub use dispatch::Serve;
pub(crate) use endpoint::{Endpoint, Link, RemoteLink, Reserved, Server};
pub use peer::Peer;
pub(crate) use trap_loop::converse;

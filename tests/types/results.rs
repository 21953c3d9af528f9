//! `Result<T, E>` with several types `T` and `E`: equal on both ends.

use vmffi::{CallError, Failure};

use crate::{
    run_all,
    shared::{
        Side,
        results::{CHECKS, Fallible, Kind},
    },
};

struct Server;

impl Side for Server {}

vmffi::serve!(Server: Fallible);

#[test]
fn results_cross() {
    run_all(|| Server, CHECKS);
}

#[test]
fn a_failure_implements_error() {
    let app: Box<dyn std::error::Error> = Box::new(Failure::App(Kind::Odd));
    assert_eq!(app.to_string(), "Odd");
    let call = Failure::<Kind>::from(CallError::refused());
    assert_eq!(call.to_string(), "the called function refused");
    assert_eq!(call.app(), None);
}

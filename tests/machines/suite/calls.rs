//! Calls that succeed, and errors after which guest and host continue, in both directions.

use vmffi::{CallError, ErrorKind, abi::Side};

use super::{
    Case,
    connection::{Connection, On},
    host::Host,
    shared::{self, control::ErrandsClient},
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (nr, check) in shared::CHECKS.iter().copied().flatten().enumerate() {
        cases.push(Case::new(format!("{} (upcalls)", check.0), On::is_any, move |on| {
            clean(on, |connection| shared::run(*check, connection.guest()));
        }));
        cases.push(Case::new(format!("{} (hypercalls)", check.0), On::is_any, move |on| {
            clean(on, |connection| {
                let done = connection.control().check(nr as u32);
                assert_eq!(done, Ok(()), "{:?}", connection.end());
            });
        }));
    }
    cases.push(Case::new("the_guests_heap", On::is_any, |on| {
        clean(on, |connection| {
            let text = "märz".repeat(20_000);
            let sum = text.chars().map(u32::from).sum();
            for _ in 0..100 {
                assert_eq!(connection.control().says(&text), Ok(sum));
            }
        });
    }));
    cases.push(Case::new("a_thousand_calls_in_calls", On::is_any, |on| {
        clean(on, |connection| assert_eq!(connection.control().sum(1000), Ok(500_500)));
    }));
    cases.push(Case::new("a_panic_in_a_handler_of_the_hosts", On::is_any, |on| {
        clean(on, |connection| {
            for _ in 0..3 {
                assert_eq!(connection.control().host_panics(), Ok(true));
            }
        });
    }));
    cases.push(Case::new("the_host_does_not_serve_itself", On::is_any, |on| {
        clean(on, |connection| {
            // The guest does not serve functions that only the host serves.
            let errands = ErrandsClient::from(connection.guest());
            let error: CallError = errands.add(1, 2).unwrap_err();
            assert_eq!(
                (error.kind(), error.side()),
                (ErrorKind::UnknownFunction, Some(Side::Guest))
            );
        });
    }));
    cases.push(Case::new("handles_outlive_their_guest", On::is_any, outlive));
    cases
}

/// Runs a case on a connection, and checks that no block is in use afterwards.
fn clean(on: On, case: impl FnOnce(&Connection)) {
    let connection = Connection::new(on, Host::default());
    let before = connection.blocks();
    assert_eq!(before.0, 0, "nothing of the host's is in use");
    // A program keeps one block for its last text.
    assert_eq!(before.1, u64::from(on.is_machine()));
    case(&connection);
    assert_eq!(connection.blocks(), before);
}

/// Loans of a guest can be read after the guest has ended.
fn outlive(on: On) {
    let connection = Connection::new(on, Host::default());
    let call = shared::handles::HandlesClient::from(connection.guest());
    let kept = call.buf(b"what remains").unwrap();
    drop(connection);
    assert_eq!(kept.read_vec().unwrap(), b"what remains");
}

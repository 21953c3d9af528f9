//! How guests end, at any depth of calls.

use std::sync::{Arc, Mutex};

use vmffi::{
    CallError, ConnectError, ErrorKind, Peer, abi,
    abi::Side as Which,
    host::{GuestExit, RunOutcome},
    loopback::Loopback,
};

use super::{
    Case,
    connection::{self, Connection, On, machine},
    host::Host,
    shared::{
        self,
        control::{BOTTOM_CRIME, BOTTOM_EXIT, BOTTOM_PANIC, ControlClient, Guest},
        nesting::NestingClient,
    },
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a_panic_of_the_guests", On::is_any, panics),
        Case::new("a_panic_with_a_long_text", On::is_machine, long_text),
        Case::new("a_panic_in_nested_calls", On::is_any, panics_below),
        Case::new("an_end_in_nested_calls", On::is_machine, exits_below),
        Case::new("a_fault_in_nested_calls", On::is_machine, faults_below),
        Case::new("a_handler_that_continues_after_the_end", On::is_machine, handler_goes_on),
        Case::new("an_exit_after_a_resume", On::is_machine, goes_on),
        Case::new("a_host_that_serves_something_else", On::is_no_clone, unfit),
        Case::new("a_host_that_serves_nothing", On::is_no_clone, unserved),
        Case::new("an_arena_that_the_guest_has_too_few_slots_for", On::is_machine, too_large),
        Case::new("an_arena_that_is_too_small", On::is_new_machine, too_small),
        Case::new("a_call_before_the_guest_runs", On::is_new_machine, too_early),
        Case::new("an_observer_is_notified", On::is_any, observed),
    ]
}

/// The guest has ended: no call reaches it, and no loan to it is in use.
fn dead(connection: &Connection) {
    let error = connection.control().sum(1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, false));
    let Connection::Machine(host) = connection else { panic!("a loopback does not end") };
    assert!(matches!(host.run(), Ok(RunOutcome::Exited(_)) | Err(ConnectError::Exited(_))));
    let error = connection.control().says("a text").unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, false));
    // The caller's error contains the end as well.
    assert_eq!((error.guest_exit().cloned(), error.side()), (host.guest_exit(), Some(Which::Host)));
    let end = host.guest_exit().unwrap().to_string();
    assert!(error.to_string().contains(&end), "{error} / {end}");
    let source = std::error::Error::source(&error).expect("a source");
    assert_eq!(source.to_string(), end);
    assert_eq!(connection.guest().arena_stats().blocks, 0);
}

/// The status and the last text of a guest that has exited.
#[track_caller]
fn exited(connection: &Connection) -> (u64, String) {
    match connection.end() {
        Some(GuestExit::Exited { status, text }) => (status, text.into()),
        end => panic!("{end:?}"),
    }
}

fn panics(on: On) {
    let connection = Connection::new(on, Host::default());
    let error = connection.control().panics("no milk today").unwrap_err();
    assert!(error.reached());
    if on == On::Loopback {
        assert_eq!(error.kind(), ErrorKind::PeerPanicked);
        assert_eq!(error.side(), Some(Which::Guest));
        assert_eq!(connection.control().sum(3), Ok(6), "the guest continues");
        assert_eq!(connection.blocks(), (0, 0));
        return;
    }
    assert_eq!(error.kind(), ErrorKind::PeerDied);
    let (status, text) = exited(&connection);
    assert_eq!(status, abi::exit::PANICKED);
    assert!(text.contains("no milk today") && text.contains("control.rs:"), "{text}");
    let shown = connection.end().unwrap().to_string();
    assert!(
        shown.starts_with("the guest panicked at ") && shown.ends_with(": no milk today"),
        "{shown}"
    );
    assert!(!shown.contains('\n'), "{shown}");
    dead(&connection);
}

fn long_text(on: On) {
    let connection = Connection::new(on, Host::default());
    // A text of 3-byte characters that begins one byte early, so that one is cut.
    let error = connection.control().panics(&"✗".repeat(5000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerDied);
    let (status, text) = exited(&connection);
    assert_eq!(status, abi::exit::PANICKED);
    assert!((1022..=1024).contains(&text.len()) && text.ends_with('✗'), "{}: {text}", text.len());
    dead(&connection);
}

fn panics_below(on: On) {
    let connection = Connection::new(on, Host::default());
    let error = NestingClient::from(connection.guest()).down(4, BOTTOM_PANIC).unwrap_err();
    assert!(error.reached());
    if on == On::Loopback {
        assert_eq!(error.kind(), ErrorKind::PeerPanicked);
        assert_eq!(connection.control().sum(3), Ok(6));
        return;
    }
    assert_eq!(error.kind(), ErrorKind::PeerDied);
    let (status, text) = exited(&connection);
    assert_eq!(status, abi::exit::PANICKED);
    assert!(text.contains("at the bottom"), "{text}");
    dead(&connection);
}

fn exits_below(on: On) {
    for levels in [0, 2, 14] {
        let connection = Connection::new(on, Host::default());
        let error = NestingClient::from(connection.guest()).down(levels, BOTTOM_EXIT).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
        assert_eq!(exited(&connection), (7, "from the bottom".to_owned()));
        let Connection::Machine(host) = &connection else { unreachable!() };
        assert_eq!(host.run(), Ok(RunOutcome::Exited(7)));
        dead(&connection);
    }
}

fn faults_below(on: On) {
    let connection = Connection::new(on, Host::default());
    let error = NestingClient::from(connection.guest()).down(6, BOTTOM_CRIME).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
    assert!(matches!(connection.end(), Some(GuestExit::Fault(_))), "{:?}", connection.end());
    dead(&connection);
}

/// Blocks that a handler returns to a guest that has ended meanwhile are the host's again.
fn handler_goes_on(on: On) {
    for (bottom, status) in [(BOTTOM_EXIT, 7), (BOTTOM_PANIC, abi::exit::PANICKED)] {
        let host = Host::on_call(move |guest| {
            let call = NestingClient::from(guest);
            let error = call.down(0, bottom).unwrap_err();
            assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
            let error = call.spell(0, "a text").unwrap_err();
            assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, false));
        });
        let connection = Connection::new(on, host);
        // The guest also holds a loan of the host.
        connection.control().place(b"kept by the guest").unwrap();
        assert_eq!(connection.guest().arena_stats().blocks, 1);
        let error = connection.control().calls_back().unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
        assert_eq!(connection.guest().arena_stats().blocks, 0);
        assert_eq!(exited(&connection).0, status);
        dead(&connection);
    }
}

/// A parked guest that is resumed exits normally.
fn goes_on(on: On) {
    let connection = Connection::new(on, Host::default());
    assert_eq!(connection.control().sum(3), Ok(6));
    let Connection::Machine(host) = &connection else { unreachable!() };
    assert_eq!(host.run(), Ok(RunOutcome::Exited(0)));
    assert_eq!(exited(&connection), (0, String::new()));
    dead(&connection);
}

/// The same interface, with one other type.
mod other {
    vmffi::ffi_interface! {
        pub interface Errands {
            fn add(one: u64, two: u32) -> u64;
        }
    }
}

struct Wrong;

impl other::Errands for Wrong {
    fn add(&self, _: &Peer, one: u64, two: u32) -> Result<u64, CallError> {
        Ok(one + u64::from(two))
    }
}

vmffi::serve!(Wrong: other::Errands);

#[track_caller]
fn mismatch(error: ConnectError) {
    let ConnectError::Contract(mismatch) = error else { panic!("{error:?}") };
    let text = mismatch.to_string();
    assert!(text.contains("add"), "{text}");
}

fn refuses(on: On, server: impl vmffi::Serve) {
    if on == On::Loopback {
        let guest = Guest::new(|_, _| ());
        return mismatch(Loopback::new(guest, server).unwrap_err());
    }
    let host = machine().build(on.backend(), server).unwrap();
    mismatch(host.run().unwrap_err());
    assert!(matches!(host.guest_exit(), Some(GuestExit::Unfit(_))), "{:?}", host.guest_exit());
    let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::VersionMismatch, false));
    // The host does not compare again, but returns the same error.
    mismatch(host.run().unwrap_err());
}

fn unfit(on: On) {
    refuses(on, Wrong);
}

fn unserved(on: On) {
    refuses(on, ());
}

/// A guest allocates up to the number of slots of its allocator.
fn too_large(on: On) {
    let host = connection::started(&machine().arenas(2 << 20, 1 << 20), on, Host::default());
    let used = ControlClient::from(host.guest()).used().unwrap();
    assert_eq!((used.capacity, used.blocks), (1 << 20, 1));
}

/// A guest whose contract is larger than its arena cannot be connected, and reports that.
fn too_small(on: On) {
    let host = machine().arenas(4096, 1 << 20).build(on.backend(), Host::default()).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Exited(abi::exit::UNCONNECTED)));
    let Some(GuestExit::Exited { text, .. }) = host.guest_exit() else {
        panic!("{:?}", host.guest_exit())
    };
    assert!(text.contains("the arena has no free block of this size"), "{text}");
}

fn too_early(on: On) {
    let host = machine().build(on.backend(), Host::default()).unwrap();
    let control = ControlClient::from(host.guest());
    let error = control.sum(1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Busy, false));
    assert_eq!(host.run(), Ok(RunOutcome::Ready));
    assert_eq!(control.sum(1), Ok(1));
}

/// An observer is notified of calls that the host refuses or fails, with the function and the reason.
fn observed(on: On) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = told.clone();
    let observer = move |error: &CallError| {
        let function = error.function().map(|function| function.to_string());
        into.lock().unwrap().push((error.kind(), function));
    };
    let checks = |control: ControlClient<'_>| {
        for nr in 0.. {
            match shared::check(nr) {
                None => break,
                Some(("a_handler_refuses" | "an_unknown_function", _)) => {
                    control.check(nr).unwrap()
                }
                Some(_) => {}
            }
        }
    };
    if on.is_machine() {
        let host = connection::started(&machine().observe(observer), on, Host::default());
        checks(ControlClient::from(host.guest()));
    } else {
        let builder = Loopback::builder().observe(Which::Host, observer);
        let pair = builder.build(Guest::new(|_, _| ()), Host::default()).unwrap();
        checks(ControlClient::from(pair.guest()));
    }
    let refused = (ErrorKind::Refused, Some("Failing::refuses".to_owned()));
    let unknown = (ErrorKind::UnknownFunction, None);
    assert_eq!(*told.lock().unwrap(), [refused, unknown.clone(), unknown]);
}

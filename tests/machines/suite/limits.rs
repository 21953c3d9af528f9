//! Each limit of a guest: the error when it is reached, and that everything works below it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use vmffi::{
    CallError, ErrorKind, ForeignBuf, abi,
    host::{GuestExit, Limits},
    machine::LogLevel,
};

use super::{
    Case,
    connection::{self, Built, On, machine},
    host::Host,
    shared::{control::ControlClient, handles::HandlesClient, nesting::NestingClient},
    slower,
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(On)| Case::new(name, On::is_machine, run);
    vec![
        case("a_limit_of_calls", calls),
        case("a_limit_of_time", time),
        case("a_limit_of_depth", depth),
        case("a_limit_of_blocks_lent", blocks),
        case("a_limit_of_bytes_lent", bytes),
        case("a_limit_of_handles", handles),
        case("a_limit_of_texts", texts),
        case("a_limit_of_the_log", log),
    ]
}

fn started(on: On, limits: Limits) -> Built {
    connection::started(&machine().limits(limits), on, Host::default())
}

fn calls(on: On) {
    let host = started(on, Limits::new().calls(20));
    let control = ControlClient::from(host.guest());
    for _ in 0..5 {
        assert_eq!(control.sum(20), Ok(210), "each call is counted from 0");
    }
    // Hypercalls in nested calls count as well: here 7 of the guest's.
    assert_eq!(NestingClient::from(host.guest()).down(14, 0), Ok(15));
    let error = control.sum(21).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    assert_eq!(host.guest_exit(), Some(GuestExit::TooManyCalls));
    assert_eq!(
        host.guest_exit().unwrap().to_string(),
        "the guest exceeded its number of hypercalls"
    );
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(control.sum(20), Ok(210));
}

fn time(on: On) {
    // The start-up has the same limit.
    let limit = Duration::from_secs(1) * slower();
    let host = started(on, Limits::new().deadline(limit));
    let control = ControlClient::from(host.guest());
    assert_eq!(control.sum(20), Ok(210));
    let error = ControlClient::from(host.with_deadline(Duration::from_millis(5)).guest())
        .spin()
        .unwrap_err();
    assert_eq!(
        (error.kind(), host.guest_exit()),
        (ErrorKind::Cancelled, Some(GuestExit::Deadline))
    );
    assert_eq!(host.reset(), Ok(()));
    let began = std::time::Instant::now();
    assert_eq!(control.spin().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(host.guest_exit(), Some(GuestExit::Deadline));
    assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
}

fn depth(on: On) {
    let host = started(on, Limits::new().depth(3));
    let nesting = NestingClient::from(host.guest());
    assert_eq!(nesting.down(2, 0), Ok(3));
    let error = nesting.down(3, 0).unwrap_err();
    assert_eq!((error.kind(), host.guest_exit()), (ErrorKind::TooDeep, None));
    assert_eq!(nesting.down(2, 0), Ok(3));
    let none = started(on, Limits::new().depth(1));
    let control = ControlClient::from(none.guest());
    assert_eq!(control.sum(0), Ok(0));
    assert_eq!(control.sum(1).unwrap_err().kind(), ErrorKind::TooDeep);
    // A larger number than the greatest depth has no effect.
    let all = started(on, Limits::new().depth(u32::MAX));
    let nesting = NestingClient::from(all.guest());
    assert_eq!(nesting.down(15, 0), Ok(16));
    assert_eq!(nesting.down(16, 0).unwrap_err().kind(), ErrorKind::TooDeep);
}

#[track_caller]
fn full(host: &Built, len: usize, error: CallError) {
    assert_eq!((error.kind(), error.reached()), (ErrorKind::OutOfMemory, false));
    assert_eq!((error.side(), error.bytes()), (Some(abi::Side::Host), len as u64));
    assert_eq!(ControlClient::from(host.guest()).sum(3), Ok(6), "other calls work");
}

fn blocks(on: On) {
    let host = started(on, Limits::new().lent_blocks(5));
    let control = ControlClient::from(host.guest());
    for _ in 0..3 {
        for _ in 0..5 {
            control.place(&[1; 200]).unwrap();
        }
        full(&host, 100, control.place(&[1; 100]).unwrap_err());
        full(&host, 200, control.place(&[1; 200]).unwrap_err());
        assert_eq!(host.guest().arena_stats().blocks, 5);
        assert_eq!(host.reset(), Ok(()));
    }
    // Blocks that were released do not count, however many there were.
    for _ in 0..100 {
        assert_eq!(control.says("twelve bytes"), Ok(1246));
    }
    // Blocks of the handler itself count, and its guest gets the error.
    for _ in 0..5 {
        control.place(&[1; 200]).unwrap();
    }
    assert_eq!(control.calls_back().unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(host.guest_exit(), None);
}

fn bytes(on: On) {
    let host = started(on, Limits::new().lent_bytes(4096));
    let control = ControlClient::from(host.guest());
    control.place(&[1; 4000]).unwrap();
    full(&host, 200, control.place(&[1; 200]).unwrap_err());
    assert_eq!(host.guest().arena_stats().used, 4032);
    control.place(&[1; 64]).unwrap();
    full(&host, 1, control.place(&[1]).unwrap_err());
    assert_eq!(host.guest().arena_stats().used, 4096);
    assert_eq!(host.reset(), Ok(()));
    control.place(&[1; 4096]).unwrap();
    full(&host, 1, control.place(&[1]).unwrap_err());
    assert_eq!(host.reset(), Ok(()));
    full(&host, 4097, control.place(&[1; 4097]).unwrap_err());
}

fn handles(on: On) {
    let host = started(on, Limits::new().handles(6));
    let call = HandlesClient::from(host.guest());
    let mut kept: Vec<ForeignBuf> = (0..6).map(|_| call.buf(&[1; 10]).unwrap()).collect();
    let before = ControlClient::from(host.guest()).used().unwrap().blocks;
    for _ in 0..10 {
        let error = call.buf(&[1; 10]).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::OutOfMemory, true));
        assert_eq!(error.side(), Some(abi::Side::Host));
    }
    assert_eq!(host.guest_exit(), None);
    kept.pop();
    kept.push(call.buf(&[2; 10]).unwrap());
    assert!(call.buf(&[1; 10]).is_err());
    // A result that was refused was released.
    let after = ControlClient::from(host.guest()).used().unwrap().blocks;
    assert_eq!(after, before);
}

fn texts(on: On) {
    let host = started(on, Limits::new().text(40));
    assert!(ControlClient::from(host.guest()).panics(&"?".repeat(1 << 12)).is_err());
    let Some(GuestExit::Exited { status: abi::exit::PANICKED, text }) = host.guest_exit() else {
        panic!()
    };
    assert_eq!(text.len(), 40, "{text}");
    // A limit of 0.
    let host = started(on, Limits::new().text(0));
    assert!(ControlClient::from(host.guest()).panics("a text").is_err());
    let end = GuestExit::Exited { status: abi::exit::PANICKED, text: "".into() };
    assert_eq!(host.guest_exit(), Some(end));
}

fn log(on: On) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = told.clone();
    let machine = machine()
        .log(LogLevel::Info)
        .limits(Limits::new().log(200))
        .observe(move |error| into.lock().unwrap().push((error.kind(), error.function())));
    let host = connection::started(&machine, on, Host::default());
    let control = ControlClient::from(host.guest());
    for _ in 0..10 {
        assert_eq!(control.log(3, &"a".repeat(100)), Ok(()), "a call each");
    }
    assert_eq!(*told.lock().unwrap(), []);
    assert_eq!(control.log(3, &"a".repeat(201)), Ok(()), "the guest's logger cannot fail");
    assert_eq!(*told.lock().unwrap(), [(ErrorKind::Refused, None)]);
    assert_eq!(host.guest_exit(), None);
}

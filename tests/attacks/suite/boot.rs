//! Attacks before a guest is ready: it crashes, or sends an invalid contract.

use vmffi::{
    CallError, ConnectError, ErrorKind,
    abi::{Side, Transport, pointer, signature, trap},
    contract::{MAX_LEN, Mismatch},
    host::{FaultCause, GuestExit, RunOutcome},
};

use super::{
    Came, Case,
    connection::{Setup, Target},
    crimes::says,
    exits::is_harmless,
    list::{List, at, region},
    native,
    ops::Deed,
    traps::{PARAMS, one_upcall},
};

/// Room for the longest contract.
const ARENAS: (u64, u64) = (2 << 20, 256 << 10);

/// The beginning of the guest's arena.
fn start() -> u64 {
    Setup { arenas: ARENAS, ..Setup::PLAIN }.layout().arena(Side::Guest).0
}

/// A guest that sends these bytes as its contract.
fn handshake(bytes: &[u8], len: u64) -> List {
    let contract = Transport { primary: pointer::join(start(), 1), secondary: len };
    List::new().write(region(start()), bytes).call(signature::HANDSHAKE, contract)
}

pub fn cases() -> Vec<Case> {
    let case = |name, script: List, attack: fn(&Target) -> Came| {
        Case::new(name, attack).with(|setup| {
            setup.arenas = ARENAS;
            setup.script = Some(script);
        })
    };
    let says = |name, bytes: Vec<u8>, attack| {
        let len = bytes.len() as u64;
        case(name, handshake(&bytes, len), attack)
    };
    let crash = List::new().deed(Deed::Undefined, at(0), 0);
    let exit = List::new().trap(trap::EXIT, 5, Transport::EMPTY, &List::new());
    let none = handshake(&[0, 0], 2);
    vec![
        case("a_guest_without_a_contract", List::new(), |target| {
            assert_eq!(target.host.run(), Ok(RunOutcome::Ready));
            Came::Lives("served, call by call".into())
        }),
        case("a_guest_with_three_handshakes", none.clone().and(&none).and(&none), |target| {
            assert_eq!(target.host.run(), Ok(RunOutcome::Ready));
            Came::Lives("served".into())
        }),
        case("a_crash_before_the_guest_is_ready", crash, crashes),
        case("an_exit_before_the_guest_is_ready", exit, ends),
        case("a_contract_outside_of_the_arena", nowhere(), |target| {
            assert_eq!(target.host.run(), Ok(RunOutcome::Ready));
            let refused = target.refused();
            assert_eq!(refused.len(), 6);
            assert!(
                refused.iter().all(|error| error.kind() == ErrorKind::BadPointer),
                "{refused:?}"
            );
            Came::Lives("`BadPointer`".into())
        }),
        case("a_contract_that_is_too_long", handshake(&[], MAX_LEN as u64 + 1), |target| {
            unreadable(target, "longer than 262144 bytes")
        }),
        case("a_contract_as_long_as_the_arena", handshake(&[0, 0], ARENAS.0), |target| {
            unreadable(target, "longer than 262144 bytes")
        }),
        says("no_contract", vec![], |target| unreadable(target, "unexpected end of the contract")),
        says("a_contract_of_noise", vec![0xff; 1000], |target| {
            unreadable(target, "unknown kind of record")
        }),
        says("a_truncated_contract", records(0xffff, &[]), |target| {
            unreadable(target, "unexpected end of the contract")
        }),
        says("a_contract_with_a_truncated_name", records(1, &[0, 0xff, 0xff, b'u']), |target| {
            unreadable(target, "unexpected end of the contract")
        }),
        says("a_contract_that_names_itself", records(1, &builtin(b"Option", &[0])), |target| {
            unreadable(target, "the index of a type that is not yet defined")
        }),
        says(
            "a_contract_with_names_that_are_not_utf8",
            records(1, &builtin(b"\xff\xfe", &[])),
            |target| unreadable(target, "a name is not UTF-8"),
        ),
        says("a_contract_nested_20000_deep", deep(), |target| differs(target, "f")),
        says("a_contract_with_names_that_take_a_terminal_over", evil(), |target| {
            differs(target, "\\u{1b}[2J\\u{1b}]0;owned\\u{7}\\r\\n\\0\\u{202e}txt.exe\\u{9b}31m")
        }),
        says("a_contract_of_20000_functions", many(), |target| differs(target, "20000 functions")),
        Case::new("a_second_handshake_that_does_not_match", again),
        Case::new("a_handshake_in_a_nested_upcall_that_does_not_match", again_nested),
    ]
}

fn records(count: u16, records: &[u8]) -> Vec<u8> {
    [&count.to_le_bytes(), records].concat()
}

fn name(name: &[u8]) -> Vec<u8> {
    [&(name.len() as u16).to_le_bytes(), name].concat()
}

/// ABI, Contracts CT-5: a type that needs no declaration.
fn builtin(of: &[u8], types: &[u16]) -> Vec<u8> {
    let mut bytes = [&[0], &name(of)[..], &[types.len() as u8]].concat();
    types.iter().for_each(|nr| bytes.extend(nr.to_le_bytes()));
    bytes
}

/// A function that is called, with one parameter.
fn calls(interface: &[u8], function: &[u8], parameter: u16, result: u16) -> Vec<u8> {
    let mut bytes = [&[3, 2], &name(interface)[..], &name(function), &[1, 0], &name(b"p")].concat();
    bytes.extend([parameter.to_le_bytes(), result.to_le_bytes()].concat());
    bytes
}

fn deep() -> Vec<u8> {
    let mut bytes = builtin(b"u8", &[]);
    (0..20_000).for_each(|nr| bytes.extend(builtin(b"Option", &[nr])));
    bytes.extend(calls(b"A", b"f", 20_000, 0));
    records(20_002, &bytes)
}

fn evil() -> Vec<u8> {
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\n\0\u{202e}txt.exe\u{9b}31m".as_bytes();
    records(2, &[builtin(evil, &[]), calls(evil, evil, 0, 0)].concat())
}

fn many() -> Vec<u8> {
    let mut bytes = builtin(b"()", &[]);
    for _ in 0..20_000 {
        bytes.extend([3, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    records(20_001, &bytes)
}

fn crashes(target: &Target) -> Came {
    let Err(ConnectError::Exited(GuestExit::Fault(fault))) = target.host.run() else {
        panic!("it runs")
    };
    assert_eq!((fault.cause, fault.address), (FaultCause::Exception(native::UNDEFINED), None));
    Came::Ended(says(&GuestExit::Fault(fault)))
}

fn ends(target: &Target) -> Came {
    assert_eq!(target.host.run(), Ok(RunOutcome::Exited(5)));
    assert_eq!(target.end(), Some(GuestExit::Exited { status: 5, text: "".into() }));
    Came::Ended(says(&target.end().unwrap()))
}

fn nowhere() -> List {
    let (arena, len) = (start(), ARENAS.0);
    let places = [
        (0, 2),
        (arena - 1, 2),
        (arena + len - 1, 2),
        (arena, len + 1),
        (arena, u64::MAX),
        (u64::MAX, 2),
    ];
    places.into_iter().fold(List::new(), |list, (primary, secondary)| {
        list.call(signature::HANDSHAKE, Transport { primary, secondary })
    })
}

/// The contract does not match, and the guest is not resumed.
#[track_caller]
fn unfit(target: &Target) -> Mismatch {
    let Err(ConnectError::Contract(mismatch)) = target.host.run() else {
        panic!("{:?}", target.end())
    };
    assert_eq!(target.end(), Some(GuestExit::Unfit(mismatch.clone())));
    let text = mismatch.to_string();
    text.lines().for_each(is_harmless);
    assert!(text.len() < 8_000, "{} bytes", text.len());
    mismatch
}

#[track_caller]
fn unreadable(target: &Target, what: &str) -> Came {
    let mismatch = unfit(target);
    let (side, error) = mismatch.unreadable().expect("it cannot be read");
    assert_eq!((side, error.what), (Side::Guest, what));
    Came::Ended(format!("`VersionMismatch`: no contract: {what}"))
}

#[track_caller]
fn differs(target: &Target, part: &str) -> Came {
    let mismatch = unfit(target);
    assert!(mismatch.unreadable().is_none());
    assert!((1..=32).contains(&mismatch.differences().len()));
    let text = mismatch.to_string();
    assert!(text.contains(part), "{text}");
    Came::Ended(format!("`VersionMismatch`: {} bytes of text, escaped", text.len()))
}

fn second_handshake_is_refused(target: &Target, list: &List) -> Came {
    assert_eq!(target.told().does(list.bytes()), Ok(0));
    let refused: Vec<_> = target.refused().iter().map(CallError::kind).collect();
    assert_eq!(refused, [ErrorKind::Refused]);
    // Nor in the next life, which begins after the handshake of the first one.
    assert_eq!(target.host.reset(), Ok(()));
    assert_eq!(target.told().does(list.bytes()), Ok(0));
    assert_eq!(target.refused().len(), 1);
    Came::Lives("`Refused`, and not looked at".into())
}

fn noise(target: &Target) -> List {
    let contract = Transport { primary: target.lent(0), secondary: 100 };
    List::new().fill(region(target.own(0)), 100, 0xff).call(signature::HANDSHAKE, contract)
}

fn again(target: &Target) -> Came {
    second_handshake_is_refused(target, &noise(target))
}

fn again_nested(target: &Target) -> Came {
    let list = one_upcall(target.own(PARAMS), &noise(target));
    second_handshake_is_refused(target, &list)
}

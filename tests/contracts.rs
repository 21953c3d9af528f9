//! The comparison of contracts before the first call (ABI, "Contracts"): the text about a mismatch of two
//! sides, and the reading of hostile contracts.

use vmffi::{
    CallError, ConnectError, ErrorKind, Foreign, ForeignBuf, ForeignStr, Peer, Serve, Shared,
    SharedBuf,
    abi::{Side, Transport, signature},
    contract::{Contract, MAX_LEN, Mismatch, compare},
    loopback::Loopback,
};

use contracts::written::Bytes;

/// The module in the folder `tests/contracts`.
mod contracts {
    pub mod written;
}

/// The declarations of the host.
mod host {
    use super::*;

    vmffi::ffi_interface! {
        pub struct Deep { x: u64 }
        pub struct Inner { a: u8, deep: Deep }
        pub struct Stat { size: u64, inner: Inner }
        pub struct Same { a: u8, b: u32 }
        pub enum Event: u8 { Quit, Key { code: u32, down: bool } = 5, Moved(Deep) }
        pub enum Level: i8 { Low = -1, High = 1 }

        pub interface Files {
            fn open(path: ForeignStr, flags: u32) -> Result<u64, Level>;
            fn read(file: u64, max: u32) -> ForeignBuf;
            fn stat(file: u64) -> Foreign<Stat>;
            fn event(all: Event, same: Same);
            fn level() -> Level;
            fn wide(value: Option<u64>) -> bool;
            fn unchanged(same: Same) -> bool;
            fn rename(from: ForeignStr, to: ForeignStr);
            fn sync();
        }

        pub interface Screen {
            fn clear();
            fn draw(at: u32, text: ForeignStr);
            #[optional]
            fn blink(times: u8);
        }
    }

    pub struct Host;
    impl Files for Host {
        fn open(&self, _: &Peer, _: ForeignStr, _: u32) -> Result<u64, vmffi::Failure<Level>> {
            Ok(1)
        }
        fn read(&self, guest: &Peer, _: u64, _: u32) -> Result<SharedBuf, CallError> {
            SharedBuf::copy_from(guest, b"read")
        }
        fn stat(&self, guest: &Peer, _: u64) -> Result<Shared<Stat>, CallError> {
            Shared::new(guest, Stat { size: 1, inner: Inner { a: 2, deep: Deep { x: 3 } } })
        }
        fn event(&self, _: &Peer, _: Event, _: Same) -> Result<(), CallError> {
            Ok(())
        }
        fn level(&self, _: &Peer) -> Result<Level, CallError> {
            Ok(Level::Low)
        }
        fn wide(&self, _: &Peer, _: Option<u64>) -> Result<bool, CallError> {
            Ok(true)
        }
        fn unchanged(&self, _: &Peer, _: Same) -> Result<bool, CallError> {
            Ok(true)
        }
        fn rename(&self, _: &Peer, _: ForeignStr, _: ForeignStr) -> Result<(), CallError> {
            Ok(())
        }
        fn sync(&self, _: &Peer) -> Result<(), CallError> {
            Ok(())
        }
    }
    vmffi::serve!(Host: Files; calls Screen);
}

/// The declarations of an older guest.
mod guest {
    use super::*;

    vmffi::ffi_interface! {
        pub struct Deep { x: u32, y: u32 }
        pub struct Inner { a: u8, deep: Deep }
        pub struct Stat { size: u64, inner: Inner }
        pub struct Same { a: u8, b: u32 }
        pub enum Event: u8 { Quit, Key { code: u32, down: bool } = 5, Moved(Deep) }
        pub enum Level: i8 { Low = -1, Middle, High = 1 }

        pub interface Files {
            fn open(path: ForeignStr) -> Result<u64, Level>;
            fn read(file: u64, max: u64) -> ForeignStr;
            fn stat(file: u64) -> Foreign<Stat>;
            fn event(all: Event, same: Same);
            fn level() -> Level;
            fn wide(value: Option<u32>) -> bool;
            fn unchanged(other_name: Same) -> bool;
            fn delete(path: ForeignStr) -> bool;
            #[optional]
            fn watch(path: ForeignStr);
        }

        pub interface Screen {
            fn clear() -> u8;
        }
    }

    pub struct Guest;
    impl Screen for Guest {
        fn clear(&self, _: &Peer) -> Result<u8, CallError> {
            Ok(0)
        }
    }
    vmffi::serve!(Guest: Screen; calls Files);
}

const TEXT: &str = "\
guest and host do not agree on 9 functions

Files::open, which the guest calls
    guest: fn open(path: ForeignStr) -> Result<u64, Level>
    host:  fn open(path: ForeignStr, flags: u32) -> Result<u64, Level>
    they differ in the list of parameters:
        guest: 1 parameter
        host:  2 parameters

Files::read, which the guest calls
    guest: fn read(file: u64, max: u64) -> ForeignStr
    host:  fn read(file: u64, max: u32) -> ForeignBuf
    they differ in parameter `max`:
        guest: u64
        host:  u32
    they differ in the result:
        guest: ForeignStr
        host:  ForeignBuf

Files::stat, which the guest calls
    guest: fn stat(file: u64) -> Foreign<Stat>
    host:  fn stat(file: u64) -> Foreign<Stat>
    they differ in the result at `.inner.deep`:
        guest: struct Deep { x: u32 at 0, y: u32 at 4 } of size 8, aligned to 4
        host:  struct Deep { x: u64 at 0 } of size 8, aligned to 8

Files::event, which the guest calls
    guest: fn event(all: Event, same: Same)
    host:  fn event(all: Event, same: Same)
    they differ in parameter `all` at `.Moved`:
        guest: struct Deep { x: u32 at 0, y: u32 at 4 } of size 8, aligned to 4
        host:  struct Deep { x: u64 at 0 } of size 8, aligned to 8

Files::level, which the guest calls
    guest: fn level() -> Level
    host:  fn level() -> Level
    they differ in the result:
        guest: enum Level: i8 { Low = -1, Middle = 0, High = 1 } of size 1, aligned to 1
        host:  enum Level: i8 { Low = -1, High = 1 } of size 1, aligned to 1

Files::wide, which the guest calls
    guest: fn wide(value: Option<u32>) -> bool
    host:  fn wide(value: Option<u64>) -> bool
    they differ in parameter `value`:
        guest: Option<u32>
        host:  Option<u64>

Files::delete, which the guest calls
    guest: fn delete(path: ForeignStr) -> bool
    host:  does not serve it

Screen::clear, which the host calls
    guest: fn clear() -> u8
    host:  fn clear()
    they differ in the result:
        guest: u8
        host:  ()

Screen::draw, which the host calls
    guest: does not serve it
    host:  fn draw(at: u32, text: ForeignStr)

optional, not served by the host: Files::watch
optional, not served by the guest: Screen::blink
served by the host, not called: Files::rename, Files::sync";

fn mismatch(error: ConnectError) -> Mismatch {
    match error {
        ConnectError::Contract(mismatch) => mismatch,
        other => panic!("{other}"),
    }
}

/// ABI, Contracts CT-1, CT-6: missing and extra functions, changed parameters and results, a struct
/// that changed three levels down, and optional functions, function by function.
#[test]
fn mismatches_are_reported() {
    let error = Loopback::new(guest::Guest, host::Host).unwrap_err();
    println!("{error}");
    assert_eq!(error.to_string(), TEXT);
    assert!(format!("{error:?}").contains("Files::delete"), "`unwrap` shows the text");
    let found = mismatch(error);
    let first = &found.differences()[0];
    assert_eq!((first.caller, &*first.function), (Side::Guest, "Files::open"));
    assert_eq!(found.differences()[6].served, None);
    assert_eq!(found.unreadable(), None);
}

/// Sides that match although each serves more than the other calls, in other orders and with other names
/// of parameters.
#[test]
fn matching_contracts_connect() {
    mod small {
        use super::*;
        vmffi::ffi_interface! {
            pub struct Same { a: u8, b: u32 }
            pub interface Files {
                fn sync();
                fn unchanged(renamed: Same) -> bool;
                #[optional]
                fn never(there: u8);
            }
            pub interface Screen { fn draw(at: u32, text: ForeignStr); fn clear(); }
        }
        pub struct Guest;
        impl Screen for Guest {
            fn draw(&self, _: &Peer, _: u32, _: ForeignStr) -> Result<(), CallError> {
                Ok(())
            }
            fn clear(&self, _: &Peer) -> Result<(), CallError> {
                Ok(())
            }
        }
        vmffi::serve!(Guest: Screen; calls Files);
    }
    let pair = Loopback::new(small::Guest, host::Host).unwrap();
    let files = small::FilesClient::from(pair.host());
    assert_eq!(files.unchanged(small::Same { a: 1, b: 2 }), Ok(true));
    assert_eq!(files.has_never(), Ok(false));
    // A side without a list of called functions is accepted.
    struct Silent;
    impl guest::Screen for Silent {
        fn clear(&self, _: &Peer) -> Result<u8, CallError> {
            Ok(0)
        }
    }
    vmffi::serve!(Silent: guest::Screen);
    let pair = Loopback::new(Silent, ()).unwrap();
    let error = guest::FilesClient::from(pair.host()).delete("x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownFunction);
}

/// ABI, Contracts CT-5 to CT-8, CT-10: the crate writes what the document specifies, and reads what is
/// written by the document.
#[test]
fn contracts_match_the_document() {
    mod example {
        vmffi::ffi_interface! {
            pub interface A { fn f(x: u8); }
            pub enum Kind: u16 { No = 7, Two { a: u8, b: u32 }, One(u8) }
            pub struct Pair { kind: Kind, next: Option<u8> }
            pub interface B { #[optional] fn g(pair: Pair, r#type: u8) -> Result<u8, Kind>; }
        }
        pub struct Side;
        impl A for Side {
            fn f(&self, _: &vmffi::Peer, _: u8) -> Result<(), vmffi::CallError> {
                Ok(())
            }
        }
        vmffi::serve!(Side: A);
        pub struct Both;
        impl A for Both {
            fn f(&self, _: &vmffi::Peer, _: u8) -> Result<(), vmffi::CallError> {
                Ok(())
            }
        }
        vmffi::serve!(Both: A; calls A, B);
    }
    let document = include_str!("../docs/abi.md");
    let (_, clause) = document.split_once("**CT-10**").unwrap();
    let (_, bytes) = clause.split_once("is `0300`").unwrap();
    let mut listed = vec![3, 0];
    for code in bytes.split("\n\n").next().unwrap().split('`').skip(1).step_by(2) {
        let digits = code.replace(' ', "");
        if digits.len() % 2 == 0
            && digits.len() > 2
            && digits.bytes().all(|b| b.is_ascii_hexdigit())
        {
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            listed.extend((0..digits.len()).step_by(2).map(byte));
        }
    }
    assert_eq!(example::Side::CONTRACT, listed);

    let all = Bytes::default().builtin("u8", &[]).builtin("()", &[]);
    let all = all.function(1, ["A", "f"], &[("x", 0)], 1).function(2, ["A", "f"], &[("x", 0)], 1);
    let all = all.builtin("u32", &[]);
    let all = all.begin(2).name("Kind").raw(&[8, 0, 0, 0, 4, 0, 0, 0]).name("u16").len(3);
    let all = all.name("No").raw(&7_u64.to_le_bytes()).fields(&[]);
    let all = all.name("Two").raw(&8_u64.to_le_bytes()).fields(&[("a", 2, 0), ("b", 4, 2)]);
    let all = all.name("One").raw(&9_u64.to_le_bytes()).fields(&[("", 2, 0)]);
    let all = all.builtin("Option", &[0]);
    let all = all.structure("Pair", 16, 4, &[("kind", 0, 3), ("next", 8, 4)]);
    let all = all.builtin("Result", &[0, 3]);
    let all = all.function(6, ["B", "g"], &[("pair", 5), ("type", 0)], 6).all();
    assert_eq!(example::Both::CONTRACT, all);
    let text = "\
serves A::f: fn f(x: u8)
calls A::f: fn f(x: u8)
may call B::g: fn g(pair: Pair, type: u8) -> Result<u8, Kind>
enum Kind: u16 { No = 7, Two = 8 { a: u8 at 2, b: u32 at 4 }, One = 9 { u8 at 2 } } of size 8, aligned to 4
struct Pair { kind: Kind at 0, next: Option<u8> at 8 } of size 16, aligned to 4
";
    assert_eq!(Contract::read(&all).unwrap().to_string(), text);
    // The signatures that follow are equal, so the two match.
    assert_eq!(compare(&listed, example::Side::CONTRACT), Ok(()));
    assert_eq!(compare(&listed, &all), Ok(()));
    assert_eq!(compare(&all, &listed), Ok(()));
    assert!(compare(&all, &Bytes::default().all()).is_err());
}

/// ABI, Contracts CT-5: arrays and tuples have records of their own, and a difference within them is found.
#[test]
fn arrays_and_tuples_are_compared() {
    mod here {
        use vmffi::ForeignStr;
        vmffi::ffi_interface! {
            pub struct Row { cells: [(u8, [ForeignStr; 2]); 4] }
            pub interface Table { fn put(row: Row, at: (u16,)); }
        }
        vmffi::serve!(Side; calls Table);
        pub struct Side;
    }
    let of_array =
        |all: Bytes, of: u16, len: u64| all.begin(4).raw(&of.to_le_bytes()).raw(&len.to_le_bytes());
    let bytes = |len, field| {
        let all = Bytes::default().builtin("u8", &[]).builtin("ForeignStr", &[]);
        let all = of_array(all, 1, 2).begin(5).raw(&[2, 0, 0, 2, 0]);
        let all = of_array(all, 3, len).structure("Row", 160, 8, &[("cells", 0, 4)]);
        let all = all.builtin(field, &[]).begin(5).raw(&[1, 6, 0]).builtin("()", &[]);
        all.function(2, ["Table", "put"], &[("row", 5), ("at", 7)], 8).all()
    };
    assert_eq!(here::Side::CONTRACT, bytes(4, "u16"));
    let text = "\
calls Table::put: fn put(row: Row, at: (u16,))
struct Row { cells: [(u8, [ForeignStr; 2]); 4] at 0 } of size 160, aligned to 8
";
    assert_eq!(Contract::read(here::Side::CONTRACT).unwrap().to_string(), text);
    let served = |mut bytes: Vec<u8>| {
        // The flags of the function.
        let at = bytes.windows(7).position(|part| part == b"\x02\x05\0Tabl").unwrap();
        bytes[at] = 1;
        bytes
    };
    assert_eq!(compare(here::Side::CONTRACT, &served(bytes(4, "u16"))), Ok(()));
    let longer = compare(here::Side::CONTRACT, &served(bytes(5, "u16"))).unwrap_err().to_string();
    assert!(
        longer.contains("guest: struct Row { cells: [(u8, [ForeignStr; 2]); 4] at 0 }"),
        "{longer}"
    );
    assert!(
        longer.contains("host:  struct Row { cells: [(u8, [ForeignStr; 2]); 5] at 0 }"),
        "{longer}"
    );
    let other = compare(here::Side::CONTRACT, &served(bytes(4, "u32"))).unwrap_err().to_string();
    assert!(other.contains("they differ in parameter `at`:"), "{other}");
    assert!(other.contains("host:  (u32,)"), "{other}");
}

/// No control character for a terminal, and a length that a person can read.
fn is_harmless(text: &str) {
    assert!(text.len() < 200_000, "{} bytes", text.len());
    let bad = |c: char| c != '\n' && c.escape_debug().len() > 1 && !"\\\"'".contains(c);
    assert_eq!(text.chars().find(|c| bad(*c)), None);
}

/// ABI, Contracts CT-5, CT-9: a contract that is truncated anywhere, or has any byte changed, is refused or is
/// another contract; nothing panics, and the text has no control characters.
#[test]
fn damaged_contracts_are_read_safely() {
    let good = host::Host::CONTRACT;
    assert!(Contract::read(good).is_ok());
    for len in 0..good.len() {
        let error = Contract::read(&good[..len]).unwrap_err();
        assert!(error.at <= len, "{error}");
    }
    let longer = [good, &[0]].concat();
    let behind = Contract::read(&longer).unwrap_err();
    assert_eq!((behind.at, behind.what), (good.len(), "trailing bytes after the last record"));
    let (mut refused, mut different) = (0, 0);
    for at in 0..good.len() {
        for change in [1, 2, 0x80, 0xff] {
            let mut bytes = good.to_vec();
            bytes[at] ^= change;
            match compare(guest::Guest::CONTRACT, &bytes) {
                Ok(()) => panic!("a change at {at} was not noticed"),
                Err(mismatch) if mismatch.unreadable().is_some() => refused += 1,
                Err(_) => different += 1,
            }
            let mismatch = compare(guest::Guest::CONTRACT, &bytes).unwrap_err();
            is_harmless(&mismatch.to_string());
            if let Ok(contract) = Contract::read(&bytes) {
                is_harmless(&contract.to_string());
            }
        }
    }
    println!("{refused} damaged contracts refused, {different} read as others");
    assert!(refused > 0 && different > 0);
}

/// ABI, Contracts CT-5, CT-7, CT-9: hostile contracts.
#[test]
fn hostile_contracts_are_bounded_and_escaped() {
    let refused = |bytes: &[u8], what: &str| {
        let error = Contract::read(bytes).unwrap_err();
        assert_eq!(error.what, what, "{error}");
        let mismatch = compare(bytes, host::Host::CONTRACT).unwrap_err();
        assert_eq!(mismatch.unreadable(), Some((Side::Guest, error)));
        assert!(mismatch.to_string().starts_with("the contract of the guest is invalid at byte"));
    };
    let start = || Bytes::default();
    refused(&[], "unexpected end of the contract");
    refused(&vec![0; MAX_LEN + 1], "longer than 262144 bytes");
    refused(&start().says(0xffff), "unexpected end of the contract");
    refused(&start().raw(&[0xff; 8]).says(1), "unknown kind of record");
    refused(&start().begin(6).name("T").all(), "unknown kind of record");
    refused(&start().begin(0).len(0xffff).raw(b"u8").all(), "unexpected end of the contract");
    refused(&start().begin(0).len(2).raw(&[0xff, 0xfe, 0]).all(), "a name is not UTF-8");
    let early = "the index of a type that is not yet defined";
    // Its own index, a later one, and one that does not exist.
    refused(&start().builtin("Option", &[0]).all(), early);
    refused(&start().structure("S", 1, 1, &[("s", 0, 1)]).builtin("u8", &[]).all(), early);
    refused(&start().function(2, ["A", "f"], &[], 0).all(), early);
    let typed = start().builtin("()", &[]);
    for flags in [0, 3, 4, 5, 7, 8, 0xff] {
        let bytes = typed.clone().function(flags, ["A", "f"], &[], 0);
        refused(&bytes.all(), "invalid flags of a function");
    }

    // Names with control characters for a terminal.
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\n\0\u{202e}txt.exe\u{9b}31m";
    let bytes = start().builtin(evil, &[]).structure(evil, 1, 1, &[(evil, 0, 0)]);
    let bytes = bytes.function(2, [evil, evil], &[(evil, 1)], 0);
    let mismatch = compare(&bytes.all(), host::Host::CONTRACT).unwrap_err();
    let text = mismatch.to_string();
    println!("{text}");
    is_harmless(&text);
    assert!(text.contains("\\u{1b}[2J\\u{1b}]0;owned\\u{7}\\r\\n\\0\\u{202e}txt.exe\\u{9b}31m"));

    // As many functions as fit, with names as long as possible.
    let long = "x".repeat(20_000);
    let mut bytes = start().builtin("()", &[]);
    for nr in 0..12 {
        bytes = bytes.function(2, [&long, &format!("f{nr}")], &[], 0);
    }
    let text = compare(&bytes.all(), host::Host::CONTRACT).unwrap_err().to_string();
    is_harmless(&text);
    assert!(text.len() < 8_000, "{} bytes", text.len());
    let count = 20_000;
    let mut bytes = start().builtin("()", &[]);
    for _ in 0..count {
        bytes = bytes.function(2, ["", ""], &[], 0);
    }
    let mismatch = compare(&bytes.all(), host::Host::CONTRACT).unwrap_err();
    assert_eq!(mismatch.differences().len(), 32);
    let text = mismatch.to_string();
    is_harmless(&text);
    // 2 of the host's own functions are among them.
    assert!(text.starts_with("guest and host do not agree on 20002 functions"), "{text}");
    assert!(text.contains("… and 19970 more"), "{text}");
}

/// ABI, Contracts CT-7 to CT-9: types nested as deeply as a contract can nest them, on both sides, give a
/// short text in a short time.
#[test]
fn deep_and_wide_types_give_a_short_text() {
    let chain = |first: &str, wrap: fn(Bytes, u16) -> Bytes, count: u16| {
        let start = Bytes::default().builtin(first, &[]);
        (0..count).fold(start, wrap).builtin("()", &[])
    };
    let option: fn(Bytes, u16) -> Bytes = |bytes, nr| bytes.builtin("Option", &[nr]);
    let twice: fn(Bytes, u16) -> Bytes = |bytes, nr| bytes.builtin("Result", &[nr, nr]);
    let field: fn(Bytes, u16) -> Bytes =
        |bytes, nr| bytes.structure("S", 1, 1, &[("a", 0, nr), ("b", 0, nr)]);
    // Written out, these would be 255 times 255 times 255 and so on.
    let wide: fn(Bytes, u16) -> Bytes = |bytes, nr| bytes.builtin("Result", &[nr; 255]);
    for (wrap, count) in [(option, 20_000), (twice, 15_000), (wide, 9), (field, 6_000)] {
        let last = [("p", count)];
        let guest = chain("u8", wrap, count).function(2, ["A", "f"], &last, count + 1);
        let host = chain("i8", wrap, count).function(1, ["A", "f"], &last, count + 1);
        let start = std::time::Instant::now();
        let text = compare(&guest.all(), &host.all()).unwrap_err().to_string();
        println!("{count} deep, {:?}:\n{text}", start.elapsed());
        is_harmless(&text);
        assert!(text.len() < 3_000);
        let others = ["guest: u8\n", "host:  i8\n", "guest: struct S", "<u8>", "Option", "Result"];
        assert!(others.iter().any(|other| text.contains(other)));
    }
}

/// ABI, Contracts CT-2 to CT-4: `HANDSHAKE` as a call like any other.
#[test]
fn contracts_are_sent_by_a_call() {
    let observed = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = observed.clone();
    let pair = Loopback::builder()
        .arenas(2 << 20, 1 << 16)
        .observe(Side::Host, move |error| seen.lock().unwrap().push(error.kind()))
        .build((), host_alone::Host)
        .unwrap();
    let host = pair.host();
    let handshake = |contract: &[u8]| {
        let mut out = host.outgoing();
        let sent = vmffi::SendAs::<ForeignBuf>::into_transport(contract, &mut out).unwrap();
        // SAFETY: `HANDSHAKE` takes bytes, and they were lent through `out`.
        let answer = unsafe { host.call_with(out, signature::HANDSHAKE, sent) };
        assert_eq!(answer.transport, Transport::EMPTY);
        assert_eq!(host.arena_stats().blocks, 0, "the buffer is released");
        answer.status
    };
    assert_eq!(handshake(<() as Serve>::CONTRACT), 0);
    assert_eq!(
        handshake(host_alone::Host::CONTRACT),
        0,
        "functions that are not called are no mismatch"
    );
    assert_eq!(handshake(guest::Guest::CONTRACT), 9);
    assert_eq!(handshake(b"no contract"), 9);
    assert_eq!(handshake(&[]), 9);
    assert_eq!(handshake(&vec![0; MAX_LEN + 1]), 9);
    assert_eq!(handshake(&vec![0; 1 << 20]), 9);
    // Not in the guest's arena, or not entirely.
    let call = |primary, secondary| {
        // SAFETY: the words are invalid, and are refused.
        unsafe { host.call(signature::HANDSHAKE, Transport { primary, secondary }) }
    };
    let (start, len) = pair.layout().arena(Side::Guest);
    for (primary, secondary) in [
        (0, 4),
        (start - 1, 4),
        (start + len - 3, 4),
        (pair.layout().arena(Side::Host).0, 4),
        (start, len + 1),
        (start, u64::MAX),
        (u64::MAX, 4),
    ] {
        assert_eq!(call(primary, secondary).status, 3, "{primary:#x} {secondary:#x}");
    }
    // A guest does not serve this.
    // SAFETY: the call has no pointer word.
    let asked = unsafe { pair.guest().call(signature::HANDSHAKE, Transport::EMPTY) };
    assert_eq!(asked.status, 2);
    let whys = observed.lock().unwrap();
    assert_eq!(whys.iter().filter(|why| **why == ErrorKind::VersionMismatch).count(), 5);
    assert_eq!(whys.iter().filter(|why| **why == ErrorKind::BadPointer).count(), 7);
}

/// A host that calls nothing.
mod host_alone {
    vmffi::ffi_interface! { pub interface Clock { fn now() -> u64; } }
    pub struct Host;
    impl Clock for Host {
        fn now(&self, _: &vmffi::Peer) -> Result<u64, vmffi::CallError> {
            Ok(1)
        }
    }
    vmffi::serve!(Host: Clock);
}

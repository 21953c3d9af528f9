//! What a peer declares about itself, against a second reader that is written from `docs/abi.md`: which bytes
//! are a contract, which functions it names, whether two contracts match, and that the text about a
//! mismatch is short and contains no control characters.

use std::{collections::HashSet, sync::OnceLock};

use vmffi::{
    CallError, Foreign, ForeignSlice, ForeignStr, Peer, Serve,
    abi::Side,
    contract::{Contract, MAX_LEN, Mismatch, compare},
};

use super::{feed::Feed, types::Server};

mod records;

use records::{Fields, Name, Record, functions, read, write};

vmffi::ffi_interface! {
    pub struct Deep { x: u64, y: Option<bool> }
    pub struct Stat { size: u64, deep: Deep }
    pub enum Event: u8 { Quit, Key { code: u32, down: bool } = 5, Moved(Deep) }
    pub enum Level: i8 { Low = -1, High = 1 }

    pub interface Files {
        fn open(path: ForeignStr, flags: u32) -> Result<u64, Level>;
        fn stat(file: u64) -> Foreign<Stat>;
        fn event(all: Event, level: Level);
    }

    pub interface Screen {
        fn draw(text: ForeignStr);
        #[optional]
        fn blink(times: ForeignSlice<Stat>);
    }
}

/// A side with a real, small contract.
struct Small;

impl Screen for Small {
    fn draw(&self, _: &Peer, _: ForeignStr) -> Result<(), CallError> {
        Ok(())
    }
    fn blink(&self, _: &Peer, _: ForeignSlice<Stat>) -> Result<(), CallError> {
        Ok(())
    }
}

vmffi::serve!(Small: Screen; calls Files);

/// The expected result of a comparison.
#[derive(Debug, PartialEq)]
enum Fit {
    Unreadable(Side),
    /// This many called functions are not served by the other side.
    Missing(usize),
}

fn validate(guest: &[u8], host: &[u8]) -> Fit {
    let Some(guest) = read(guest) else { return Fit::Unreadable(Side::Guest) };
    let Some(host) = read(host) else { return Fit::Unreadable(Side::Host) };
    Fit::Missing(missing(&functions(&guest), &functions(&host)))
}

fn missing(guest: &[(u8, u64)], host: &[(u8, u64)]) -> usize {
    let missing = |calls: &[(u8, u64)], serves: &[(u8, u64)]| {
        let served = serves.iter().filter(|(flags, _)| *flags == 1).map(|(_, signature)| signature);
        let served = served.collect::<HashSet<_>>();
        let called = calls.iter().filter(|(flags, _)| *flags == 2);
        called.filter(|(_, signature)| !served.contains(signature)).count()
    };
    missing(guest, host) + missing(host, guest)
}

/// Whether a guest with this contract fits a host with [`Server`]'s contract.
pub fn fits(guest: &[u8]) -> bool {
    static HOST: OnceLock<Vec<(u8, u64)>> = OnceLock::new();
    let host = HOST.get_or_init(|| functions(&read(Server::CONTRACT).expect("a contract")));
    read(guest).is_some_and(|guest| missing(&functions(&guest), host) == 0)
}

/// Text for people is short, and has no control characters for a terminal.
fn harmless(text: &str, most: usize) {
    assert!(text.len() <= most, "{} bytes", text.len());
    let harmful = |char: &char| {
        let turns = matches!(char, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        char.is_control() && *char != '\n' || turns
    };
    assert_eq!(text.chars().find(harmful), None);
}

fn check(guest: &[u8], host: &[u8]) {
    for bytes in [guest, host] {
        let found = Contract::read(bytes);
        let right = read(bytes);
        assert_eq!(found.is_ok(), right.is_some());
        match found {
            Ok(contract) => {
                let lines = right.map_or(0, |records| records.len());
                let text = contract.to_string();
                harmless(&text, 4000 * lines);
                assert!(text.lines().count() <= lines);
            }
            Err(bad) => {
                assert!(bad.at <= bytes.len());
                harmless(&bad.to_string(), 200);
            }
        }
    }
    let found = compare(guest, host);
    let shown = |mismatch: &Mismatch| {
        harmless(&mismatch.to_string(), 2 << 20);
        (mismatch.unreadable().map(|(side, _)| side), mismatch.differences().len())
    };
    match (validate(guest, host), found) {
        (Fit::Missing(0), Ok(())) => {}
        (Fit::Missing(count), Err(mismatch)) => {
            assert_eq!(shown(&mismatch), (None, count.min(32)));
            for difference in mismatch.differences() {
                harmless(&difference.function, 2000);
                harmless(&difference.called, 3000);
                harmless(difference.served.as_deref().unwrap_or(""), 3000);
            }
        }
        (Fit::Unreadable(side), Err(mismatch)) => assert_eq!(shown(&mismatch), (Some(side), 0)),
        (right, found) => panic!("{right:?}, but {found:?}"),
    }
}

const NAMES: [&[u8]; 20] = [
    b"u8",
    b"u32",
    b"()",
    b"Option",
    b"Result",
    b"ForeignBuf",
    b"Files",
    b"open",
    b"Stat",
    b"x",
    b"y",
    b"",
    b"\x1b[31mred",
    b"two\nlines\r\0",
    b"`quoted\" \\ '",
    "\u{202e}turned".as_bytes(),
    "e\u{301}\u{301}字".as_bytes(),
    b"r#type",
    b"cut \xe5\xad",
    &[b'n'; 70],
];

fn name(feed: &mut Feed) -> Name {
    match feed.byte() {
        0xf8.. => "ä".repeat(feed.byte().into()).into_bytes(),
        byte => NAMES[usize::from(byte) % NAMES.len()].to_vec(),
    }
}

/// The index of a type, mostly of one that exists.
fn ty(feed: &mut Feed, types: u16) -> u16 {
    match feed.byte() {
        0xfe => types,
        0xff => feed.number(2) as u16,
        // The last type, so that types are nested deeply.
        0xc0..=0xfd => types.saturating_sub(1),
        byte => u16::from(byte) % types.max(1),
    }
}

fn fields(feed: &mut Feed, types: u16) -> Fields {
    let count = feed.below(4);
    (0..count).map(|_| (name(feed), feed.scalar() as u32, ty(feed, types))).collect()
}

fn record(feed: &mut Feed, types: u16) -> Record {
    let size = |feed: &mut Feed| [feed.scalar() as u32, feed.scalar() as u32];
    match feed.below(8) {
        0..3 => {
            let count = match feed.rarely(16) {
                true => match feed.byte() {
                    // Added after inputs were kept; the other kinds have the numbers that they had.
                    0xe0..0xf0 => return Record::Array(ty(feed, types), feed.scalar()),
                    0xf0.. => {
                        return Record::Tuple(
                            (0..feed.below(4)).map(|_| ty(feed, types)).collect(),
                        );
                    }
                    many => many.into(),
                },
                false => feed.below(3),
            };
            Record::Builtin(name(feed), (0..count).map(|_| ty(feed, types)).collect())
        }
        3 => Record::Struct(name(feed), size(feed), fields(feed, types)),
        4 => {
            let (name_of, size, repr, count) = (name(feed), size(feed), name(feed), feed.below(3));
            let variant = |_| (name(feed), feed.scalar(), fields(feed, types));
            Record::Enum(name_of, size, repr, (0..count).map(variant).collect())
        }
        _ => {
            let flags = feed.pick(&[1, 1, 2, 2, 6, 1, 2, 3]);
            let (names, count) = ([name(feed), name(feed)], feed.below(4));
            let parameters = (0..count).map(|_| (name(feed), ty(feed, types))).collect();
            Record::Function(flags, names, parameters, ty(feed, types))
        }
    }
}

/// Deeply nested types, and a function that takes the outermost one.
fn chain(feed: &mut Feed, records: &mut Vec<Record>, types: u16) {
    let builtin = feed.rarely(2);
    let depth = feed.below(16) as u16;
    for last in types..types + depth {
        let last = last.saturating_sub(1);
        records.push(match builtin {
            true => Record::Builtin(name(feed), vec![last]),
            false => Record::Struct(name(feed), [8, 8], vec![(name(feed), 0, last)]),
        });
    }
    let last = (types + depth).saturating_sub(1);
    records.push(Record::Function(1, [name(feed), name(feed)], vec![(name(feed), last)], last));
}

/// Changes one thing in a record.
fn edit(feed: &mut Feed, record: &mut Record) {
    if feed.rarely(16) {
        // A type of another kind with the same name.
        match record {
            Record::Builtin(of, arguments) => {
                let fields = arguments.iter().map(|ty| (name(feed), 0, *ty)).collect();
                *record = Record::Struct(of.clone(), [8, 8], fields);
            }
            Record::Struct(of, ..) => *record = Record::Builtin(of.clone(), Vec::new()),
            Record::Enum(of, size, ..) => *record = Record::Struct(of.clone(), *size, Vec::new()),
            Record::Array(of, len) => *record = Record::Tuple(vec![*of; *len as usize % 4]),
            Record::Tuple(of) => *record = Record::Builtin(name(feed), of.clone()),
            Record::Function(..) => {}
        }
        return;
    }
    let field = |feed: &mut Feed, fields: &mut Fields| match feed.below(5) {
        0 => drop(fields.pop()),
        1 => fields.push((name(feed), feed.scalar() as u32, feed.byte().into())),
        nth if !fields.is_empty() => {
            let at = feed.below(fields.len().min(256));
            match nth {
                2 => fields[at].0 = name(feed),
                3 => fields[at].1 = feed.scalar() as u32,
                _ => fields[at].2 = feed.byte().into(),
            }
        }
        _ => {}
    };
    match record {
        Record::Builtin(of, arguments) => match feed.below(3) {
            0 => *of = name(feed),
            1 => drop(arguments.pop()),
            _ => arguments.push(feed.byte().into()),
        },
        Record::Array(of, len) => match feed.below(2) {
            0 => *of = feed.byte().into(),
            _ => *len = feed.scalar(),
        },
        Record::Tuple(fields) => match feed.below(2) {
            0 => drop(fields.pop()),
            _ => fields.push(feed.byte().into()),
        },
        Record::Struct(of, size, list) => match feed.below(4) {
            0 => *of = name(feed),
            1 => size[feed.below(2)] = feed.scalar() as u32,
            _ => field(feed, list),
        },
        Record::Enum(of, size, repr, variants) => match feed.below(8) {
            0 => *of = name(feed),
            1 => size[feed.below(2)] = feed.scalar() as u32,
            2 => *repr = name(feed),
            3 => drop(variants.pop()),
            4 => variants.push((name(feed), feed.scalar(), Vec::new())),
            nth if !variants.is_empty() => {
                let at = feed.below(variants.len().min(256));
                match nth {
                    5 => variants[at].0 = name(feed),
                    6 => variants[at].1 = feed.scalar(),
                    _ => field(feed, &mut variants[at].2),
                }
            }
            _ => {}
        },
        Record::Function(flags, names, parameters, returned) => match feed.below(6) {
            0 => *flags = feed.pick(&[1, 2, 6, 0, 3, 5]),
            1 => names[feed.below(2)] = name(feed),
            2 => drop(parameters.pop()),
            3 => parameters.push((name(feed), feed.byte().into())),
            4 => *returned = feed.byte().into(),
            _ => {
                if let Some(parameter) = parameters.last_mut() {
                    parameter.1 = feed.byte().into();
                }
            }
        },
    }
}

/// Runs an input.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut records = match feed.below(4) {
        // A real contract.
        0 => {
            let records = read(Small::CONTRACT).expect("a contract");
            let right = [
                (1, ParamsScreenDraw::FUNCTION),
                (1, ParamsScreenBlink::FUNCTION),
                (2, ParamsFilesOpen::FUNCTION),
                (2, ParamsFilesStat::FUNCTION),
                (2, ParamsFilesEvent::FUNCTION),
            ];
            assert_eq!(functions(&records), right.map(|(flags, of)| (flags, of.signature)));
            records
        }
        1 => {
            // The input as it is.
            let bytes = &data[1..];
            check(bytes, Small::CONTRACT);
            check(Small::CONTRACT, bytes);
            return;
        }
        _ => Vec::new(),
    };
    let kind = |record: &Record| !matches!(record, Record::Function(..));
    for _ in 0..feed.below(24) {
        let types = records.iter().filter(|record| kind(record)).count() as u16;
        if feed.rarely(16) {
            chain(&mut feed, &mut records, types);
        } else {
            records.push(record(&mut feed, types));
        }
        if feed.rarely(50) {
            // Many records, or more than a contract can hold.
            let last = records[records.len() - 1].clone();
            let many = if feed.rarely(32) { 8_000 } else { feed.number(1) };
            records.extend(std::iter::repeat_n(last, many as usize));
        }
    }
    // The other side serves what this one calls, with a small difference.
    let mut others = records.clone();
    for other in &mut others {
        if let Record::Function(flags, ..) = other {
            *flags = if *flags == 1 { feed.pick(&[2, 2, 6]) } else { 1 };
        }
    }
    for _ in 0..feed.below(6) {
        let edited = if feed.rarely(2) { &mut others } else { &mut records };
        if !edited.is_empty() {
            let at = feed.below(edited.len());
            match feed.below(8) {
                0 => drop(edited.remove(at)),
                1 => edited.truncate(at),
                _ => edit(&mut feed, &mut edited[at]),
            }
        }
    }
    let (mut one, mut other) = (write(&records), write(&others));
    while !feed.is_empty() {
        let bytes = if feed.rarely(2) { &mut other } else { &mut one };
        let at = feed.number(2) as usize % bytes.len();
        match feed.below(4) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.insert(at, feed.byte()),
            _ => bytes[at] = feed.byte(),
        }
    }
    assert_eq!(MAX_LEN, 1 << 18);
    check(&one, &other);
    check(&other, &one);
}

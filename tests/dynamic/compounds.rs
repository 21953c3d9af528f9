//! Arrays and tuples in calls that are not declared: each place where one can stand, and forged results.

use std::{
    sync::{Mutex, atomic::Ordering},
    time::Instant,
};

use support::region::{self, Attacker};
use vmffi::{
    __private::{
        descriptor::Declared,
        dispatch::{
            Entry, Index, Interface, Table, buckets, join_entries, join_functions, slots, total,
        },
    },
    CallError, ErrorKind, Failure, ForeignBuf, ForeignSlice, ForeignStr, Peer, RegionLayout, Serve,
    SharedBuf, SharedSlice, SharedStr,
    abi::{Side, Transport},
    contract::{Contract, TypeKind},
    dynamic::{DynamicError, Value},
    loopback::Loopback,
};

use super::some;

vmffi::ffi_interface! {
    #[derive(Clone, Debug, PartialEq)]
    pub struct Cell { id: u16, seen: bool }

    #[derive(Clone, Copy)]
    pub struct Empty {}

    pub struct Row {
        key: [u8; 4],
        cells: [Cell; 2],
        names: [ForeignStr; 2],
        at: (u8, ForeignBuf),
        last: Option<[(ForeignStr, bool); 1]>,
    }

    pub enum Choice: u8 { None, Key([u8; 3]), Span { from: (u8, u64), to: [u16; 2] } }

    pub interface Compounds {
        fn bytes(value: [u8; 5]) -> [u8; 5];
        fn units(value: [(); 3]) -> [(); 3];
        fn none(value: [ForeignStr; 0]) -> [ForeignStr; 0];
        fn cells(value: [[Cell; 2]; 2]) -> [[Cell; 2]; 2];
        fn pair(value: (bool, (char, [i8; 3]))) -> (bool, (char, [i8; 3]));
        fn maybe(before: u8, value: Option<[(u8, u64); 2]>, after: [u8; 3]) -> Option<[(u8, u64); 2]>;
        fn list(value: ForeignSlice<[u16; 3]>) -> ForeignSlice<[u16; 3]>;
        fn pairs(value: ForeignSlice<(u8, u32)>) -> ForeignSlice<(u8, u32)>;
        fn texts(value: [ForeignStr; 2]) -> [ForeignStr; 2];
        fn row(value: Row) -> Row;
        fn choice(value: Choice) -> Choice;
        fn fails(code: u8) -> Result<[u8; 0], (u8, ForeignStr)>;
    }
}

fn text(peer: &Peer, text: &ForeignStr) -> Result<SharedStr, CallError> {
    SharedStr::copy_from(peer, &text.read_string()?)
}

#[derive(Default)]
struct Server;

impl Compounds for Server {
    fn bytes(&self, _: &Peer, value: [u8; 5]) -> Result<[u8; 5], CallError> {
        Ok(value)
    }
    fn units(&self, _: &Peer, value: [(); 3]) -> Result<[(); 3], CallError> {
        Ok(value)
    }
    fn none(&self, _: &Peer, []: [ForeignStr; 0]) -> Result<[SharedStr; 0], CallError> {
        Ok([])
    }
    fn cells(&self, _: &Peer, value: [[Cell; 2]; 2]) -> Result<[[Cell; 2]; 2], CallError> {
        Ok(value)
    }
    fn pair(
        &self,
        _: &Peer,
        value: (bool, (char, [i8; 3])),
    ) -> Result<(bool, (char, [i8; 3])), CallError> {
        Ok(value)
    }
    fn maybe(
        &self,
        _: &Peer,
        before: u8,
        value: Option<[(u8, u64); 2]>,
        after: [u8; 3],
    ) -> Result<Option<[(u8, u64); 2]>, CallError> {
        assert_eq!((before, after), (0xa5, [1, 2, 3]));
        Ok(value)
    }
    fn list(
        &self,
        peer: &Peer,
        value: ForeignSlice<[u16; 3]>,
    ) -> Result<SharedSlice<[u16; 3]>, CallError> {
        SharedSlice::copy_from(peer, &value.read_vec()?)
    }
    fn pairs(
        &self,
        peer: &Peer,
        value: ForeignSlice<(u8, u32)>,
    ) -> Result<SharedSlice<(u8, u32)>, CallError> {
        SharedSlice::copy_from(peer, &value.read_vec()?)
    }
    fn texts(&self, peer: &Peer, [a, b]: [ForeignStr; 2]) -> Result<[SharedStr; 2], CallError> {
        Ok([text(peer, &b)?, text(peer, &a)?])
    }
    fn row(&self, peer: &Peer, value: Row) -> Result<SharedRow, CallError> {
        let Row { key, cells, names: [a, b], at: (nr, bytes), last } = value;
        let last = match last {
            Some([(name, flag)]) => Some([(text(peer, &name)?, flag)]),
            None => None,
        };
        Ok(SharedRow {
            key,
            cells,
            names: [text(peer, &a)?, text(peer, &b)?],
            at: (nr, SharedBuf::copy_from(peer, &bytes.read_vec()?)?),
            last,
        })
    }
    fn choice(&self, _: &Peer, value: Choice) -> Result<Choice, CallError> {
        Ok(value)
    }
    fn fails(&self, peer: &Peer, code: u8) -> Result<[u8; 0], Failure<(u8, SharedStr)>> {
        if code == 0 { Ok([]) } else { Err((code, SharedStr::copy_from(peer, "why")?).into()) }
    }
}

vmffi::serve!(Server: Compounds);

fn list<const N: usize>(values: [Value<'static>; N]) -> Value<'static> {
    Value::List(values.into())
}

fn cell(id: u16, seen: bool) -> Value<'static> {
    Value::structure([("id", id.into()), ("seen", seen.into())])
}

fn pair(a: u8, b: u64) -> Value<'static> {
    list([a.into(), b.into()])
}

fn row(last: Value<'static>) -> Value<'static> {
    Value::structure([
        ("key", vec![1_u8, 2, 3, 4].into()),
        ("cells", list([cell(1, true), cell(2, false)])),
        ("names", list(["first".into(), "".into()])),
        ("at", list([9_u8.into(), vec![5_u8; 70].into()])),
        ("last", last),
    ])
}

fn both(test: impl Fn(&mut dyn FnMut(&str, &[Value<'_>]) -> Result<Value<'static>, DynamicError>)) {
    let pair = Loopback::new(Server, Server).unwrap();
    for peer in [pair.host(), pair.guest()] {
        let bytes = peer.contract().unwrap();
        let contract = Contract::read(&bytes).unwrap();
        test(&mut |name, arguments| {
            peer.call_dynamic(contract.served("Compounds", name).expect(name), arguments)
        });
    }
    for peer in [pair.host(), pair.guest()] {
        assert_eq!(peer.arena_stats().blocks, 0);
    }
}

#[test]
fn arrays_and_tuples_go_there_and_back() {
    both(|call| {
        for (name, value) in [
            ("bytes", vec![1_u8, 2, 3, 4, 255].into()),
            ("units", list([Value::Unit, Value::Unit, Value::Unit])),
            ("none", list([])),
            (
                "cells",
                list([list([cell(1, true), cell(2, false)]), list([cell(3, true), cell(4, true)])]),
            ),
            (
                "pair",
                list([
                    true.into(),
                    list(['ß'.into(), list([(-1_i8).into(), 0_i8.into(), i8::MIN.into()])]),
                ]),
            ),
            (
                "list",
                list([
                    list([1_u16.into(), 2_u16.into(), 3_u16.into()]),
                    list([4_u16.into(), 5_u16.into(), u16::MAX.into()]),
                ]),
            ),
            ("list", list([])),
            (
                "pairs",
                list([list([1_u8.into(), 2_u32.into()]), list([3_u8.into(), u32::MAX.into()])]),
            ),
            ("row", row(Value::None)),
            ("row", row(some(list([list(["last".into(), true.into()])])))),
            ("choice", Value::variant("None")),
            ("choice", Value::Enum("Key".into(), vec![("".into(), vec![7_u8, 8, 9].into())])),
            (
                "choice",
                Value::Enum(
                    "Span".into(),
                    vec![
                        ("from".into(), pair(1, u64::MAX)),
                        ("to".into(), list([3_u16.into(), 4_u16.into()])),
                    ],
                ),
            ),
        ] {
            assert_eq!(call(name, std::slice::from_ref(&value)), Ok(value), "{name}");
        }
        for value in [Value::None, some(list([pair(1, 2), pair(255, u64::MAX)]))] {
            let arguments = [0xa5_u8.into(), value.clone(), vec![1_u8, 2, 3].into()];
            assert_eq!(call("maybe", &arguments), Ok(value));
        }
        // An array of `u8` is given as a list too, and comes back as bytes.
        let five = list([1_u8.into(), 2.into(), 3_i64.into(), 4_u16.into(), 255_u128.into()]);
        assert_eq!(call("bytes", &[five]), Ok(vec![1_u8, 2, 3, 4, 255].into()));
        let texts = call("texts", &[list(["one".into(), "two".into()])]);
        assert_eq!(texts, Ok(list(["two".into(), "one".into()])));
        assert_eq!(call("fails", &[0_u8.into()]), Ok(Vec::new().into()));
        let error = call("fails", &[3_u8.into()]).unwrap_err();
        assert_eq!(error, DynamicError::App(list([3_u8.into(), "why".into()])));
    });
}

/// ABI, Contracts: the records of arrays and tuples.
#[test]
fn arrays_and_tuples_are_data() {
    let contract = Contract::read(Server::CONTRACT).unwrap();
    let cells = contract.served("Compounds", "cells").unwrap().returned();
    assert_eq!((cells.kind(), cells.array_len(), cells.name()), (TypeKind::Array, Some(2), ""));
    assert_eq!(cells.to_string(), "[[Cell; 2]; 2]");
    let pair = contract.served("Compounds", "pair").unwrap().returned();
    assert_eq!((pair.kind(), pair.array_len()), (TypeKind::Tuple, None));
    let fields: Vec<_> = pair.arguments().map(|of| of.to_string()).collect();
    assert_eq!(fields, ["bool", "(char, [i8; 3])"]);
}

#[test]
fn wrong_lengths_and_elements_are_refused() {
    both(|call| {
        for (name, bad, said) in [
            ("bytes", vec![1_u8; 4].into(), "`value` is a [u8; 5], but 4 values were given for 5"),
            ("bytes", list([1_u8.into()]), "`value` is a [u8; 5], but 1 value was given for 5"),
            ("bytes", "12345".into(), "`value` is a [u8; 5], but the text \"12345\" was given"),
            (
                "bytes",
                list([1.into(), 2.into(), 3.into(), 4.into(), 256.into()]),
                "`value[4]` is a u8, but the I32 256 was given",
            ),
            ("units", list([]), "`value` is a [(); 3], but 0 values were given for 3"),
            (
                "none",
                list(["x".into()]),
                "`value` is a [ForeignStr; 0], but 1 value was given for 0",
            ),
            (
                "cells",
                list([list([cell(1, true), cell(2, true)]), list([cell(3, true)])]),
                "`value[1]` is a [Cell; 2], but 1 value was given for 2",
            ),
            (
                "cells",
                list([
                    list([cell(1, true), cell(2, true)]),
                    list([
                        cell(3, true),
                        Value::structure([("id", 1_u16.into()), ("seen", 1_u8.into())]),
                    ]),
                ]),
                "`value[1][1].seen` is a bool, but the U8 1 was given",
            ),
            (
                "pair",
                list([true.into(), 'x'.into(), Value::Unit]),
                "`value` is a (bool, (char, [i8; 3])), but 3 values were given for 2",
            ),
            (
                "pair",
                list([true.into(), list(['x'.into(), vec![1_u8, 2, 3].into()])]),
                "`value[1][1]` is a [i8; 3], but 3 bytes was given",
            ),
            (
                "pairs",
                list([pair(1, 1 << 32)]),
                "`value[0][1]` is a u32, but the U64 4294967296 was given",
            ),
            (
                "row",
                row(some(list([list(["x".into(), 1_u8.into()])]))),
                "`value.last[0][1]` is a bool, but the U8 1 was given",
            ),
            (
                "row",
                row(some(list([]))),
                "`value.last` is a [(ForeignStr, bool); 1], but 0 values were given for 1",
            ),
        ] {
            let error = call(name, &[bad]).unwrap_err();
            assert_eq!(error.to_string(), said);
            assert!(matches!(error, DynamicError::Argument(_)));
        }
    });
}

vmffi::ffi_interface! {
    pub interface Forged {
        fn units() -> [(); 1 << 40];
        fn nobody() -> [[ForeignStr; 0]; 1 << 40];
        fn nobodies() -> [(Option<Empty>, [[ForeignStr; 0]; 1 << 40]); 2];
        fn empties() -> [[Empty; 1 << 40]; 1 << 20];
        fn large() -> [u8; 17 << 20];
        fn texts() -> [ForeignStr; 3];
        fn mixed() -> (bool, [(ForeignStr, u8); 2], Option<ForeignBuf>);
        fn points() -> ForeignSlice<(bool, [bool; 3])>;
        fn take(value: [(); 1 << 40]);
    }
}

/// Never runs: it is there for its contract.
struct Honest;

macro_rules! unreached {
    ($($name:ident -> $t:ty;)*) => {
        impl Forged for Honest {
            $( fn $name(&self, _: &Peer) -> Result<$t, CallError> {
                unreachable!()
            } )*
            fn take(&self, _: &Peer, _: [(); 1 << 40]) -> Result<(), CallError> {
                unreachable!()
            }
        }
    };
}

unreached! {
    units -> [(); 1 << 40];
    nobody -> [[SharedStr; 0]; 1 << 40];
    nobodies -> [(Option<Empty>, [[SharedStr; 0]; 1 << 40]); 2];
    empties -> [[Empty; 1 << 40]; 1 << 20];
    large -> [u8; 17 << 20];
    texts -> [SharedStr; 3];
    mixed -> (bool, [(SharedStr, u8); 2], Option<SharedBuf>);
    points -> SharedSlice<(bool, [bool; 3])>;
}

vmffi::serve!(Honest: Forged);

/// Answers every function of `Forged` with the same words.
struct Scripted(&'static Mutex<Transport>);

const LISTS: &[&[Declared]] = &[<dyn Forged as Interface>::FUNCTIONS];
const COUNT: usize = total(LISTS);

static INDEX: Index<{ buckets(COUNT) }, { slots(COUNT) }> =
    Index::build::<COUNT>(&join_functions(LISTS));

const fn scripted(nr: usize) -> Entry<Scripted> {
    // SAFETY: the words lead to memory that the victim copies, which no Rust reference covers.
    unsafe {
        Entry::new(&LISTS[0][nr].function, |scripted, _, _, status| {
            *status = 0;
            *scripted.0.lock().expect("no panics")
        })
    }
}

const ENTRIES: &[Entry<Scripted>] = &[
    scripted(0),
    scripted(1),
    scripted(2),
    scripted(3),
    scripted(4),
    scripted(5),
    scripted(6),
    scripted(7),
    scripted(8),
];

impl Serve for Scripted {
    const TABLE: &'static Table<Self> = {
        static SLOTS: [Entry<Scripted>; slots(COUNT)] = join_entries(&[ENTRIES], &INDEX);
        static TABLE: Table<Scripted> = Table::new(&SLOTS, &INDEX);
        &TABLE
    };
    const CONTRACT: &'static [u8] = Honest::CONTRACT;
}

struct Case {
    pair: Loopback,
    attacker: Attacker,
    answer: &'static Mutex<Transport>,
    /// Where the guest's arena begins.
    start: u64,
    /// Where the guest's release marks begin.
    map: u64,
}

impl Case {
    fn new() -> Self {
        let arenas = (1 << 16, 1 << 16);
        let layout = RegionLayout::new(arenas.0, arenas.1).unwrap();
        let answer: &'static Mutex<Transport> = Box::leak(Box::default());
        let (pair, attacker) = region::pair(Side::Host, arenas, |_| {}, Scripted(answer), ());
        let (start, map) = (layout.arena(Side::Guest).0, layout.release_map(Side::Guest));
        Self { pair, attacker, answer, start, map }
    }

    fn call(&self, name: &str, answer: Transport) -> Result<Value<'static>, DynamicError> {
        let contract = Contract::read(Honest::CONTRACT).unwrap();
        *self.answer.lock().unwrap() = answer;
        self.attacker.fill_marks(Side::Guest, 0);
        self.pair.guest().call_dynamic(contract.served("Forged", name).expect(name), &[])
    }

    fn refused(&self, name: &str, answer: Transport) -> ErrorKind {
        match self.call(name, answer) {
            Err(DynamicError::Call(error)) => error.kind(),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// A pointer word to a granule of the guest's, lent for the time of that number.
    fn word(&self, granule: u64, loan: u64) -> u64 {
        (self.start + granule * 64) | loan << 56
    }

    fn write(&self, granule: u64, bytes: &[u8]) {
        self.attacker.write(self.start + granule * 64, bytes);
    }

    fn marks<const N: usize>(&self, granules: [u64; N]) -> [u8; N] {
        granules.map(|granule| self.attacker.byte(self.map + granule).load(Ordering::Acquire))
    }
}

/// Elements without bytes are counted before they are walked, with handles that cannot be there or without.
#[test]
fn arrays_of_nothing_take_no_time() {
    let case = Case::new();
    let began = Instant::now();
    for name in ["units", "nobody", "nobodies", "empties", "large"] {
        let kind = match name {
            // The tags in front of both are read.
            "nobodies" => {
                case.write(1, &[0; 64]);
                case.refused(name, Transport::word(case.word(1, 1)))
            }
            _ => case.refused(name, Transport::EMPTY),
        };
        assert_eq!(kind, ErrorKind::OutOfMemory, "{name}");
    }
    // With an error before them as well.
    case.write(1, &[0xff; 64]);
    assert_eq!(case.refused("nobodies", Transport::word(case.word(1, 1))), ErrorKind::BadValue);
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    let contract = Contract::read(Honest::CONTRACT).unwrap();
    let take = contract.served("Forged", "take").unwrap();
    let error = case.pair.guest().call_dynamic(take, &[list([Value::Unit])]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`value` is a [(); 1099511627776], but 1 value was given for 1099511627776"
    );
}

/// ABI, TY-16: of an array or a tuple with a bad element, every handle is released.
#[test]
fn a_bad_element_releases_all() {
    let case = Case::new();
    let handle = |granule: u64, loan: u64| {
        [case.word(granule, loan).to_le_bytes(), 3_u64.to_le_bytes()].concat()
    };
    case.write(20, b"abc");
    case.write(22, b"\xff\xfe\xfd");
    let bad = || [0_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat();
    let at = || Transport::word(case.word(1, 1));

    let texts = |forms: [Vec<u8>; 3]| {
        case.write(1, &forms.concat());
        (case.call("texts", at()).map_err(|_| ()), case.marks([1, 20, 21, 22]))
    };
    case.write(21, b"def");
    let good = list(["abc".into(), "def".into(), "abc".into()]);
    // The third refers to the block of the first, under another number.
    assert_eq!(texts([handle(20, 2), handle(21, 3), handle(20, 4)]), (Ok(good), [1, 4, 3, 0]));
    for (forms, marks) in [
        ([bad(), handle(20, 2), handle(21, 3)], [1, 2, 3, 0]),
        ([handle(20, 2), bad(), handle(21, 3)], [1, 2, 3, 0]),
        ([handle(20, 2), handle(21, 3), bad()], [1, 2, 3, 0]),
        ([handle(22, 2), handle(21, 3), handle(20, 4)], [1, 4, 3, 2]),
        ([handle(20, 2), handle(5000, 3), handle(21, 4)], [1, 2, 4, 0]),
    ] {
        assert_eq!(texts(forms), (Err(()), marks));
    }

    // bool at 0, two of { text at 0, u8 at 16 } from 8, option of a buffer at 56
    let mixed = |on: u8, first: &[u8], second: &[u8], last: &[u8]| {
        let mut form = vec![0; 72];
        form[0] = on;
        form[8..24].copy_from_slice(first);
        form[24] = 5;
        form[32..48].copy_from_slice(second);
        form[48] = 6;
        form[56..72].copy_from_slice(last);
        case.write(1, &form);
        (case.call("mixed", at()).map_err(|_| ()), case.marks([1, 20, 21, 22]))
    };
    let entry = |text: &'static str, nr: u8| list([text.into(), nr.into()]);
    let value = |last| list([true.into(), list([entry("abc", 5), entry("def", 6)]), last]);
    let good = value(some(vec![0xff_u8, 0xfe, 0xfd].into()));
    let marks = [1, 2, 3, 4];
    assert_eq!(mixed(1, &handle(20, 2), &handle(21, 3), &handle(22, 4)), (Ok(good), marks));
    let none = mixed(1, &handle(20, 2), &handle(21, 3), &[0; 16]);
    assert_eq!(none, (Ok(value(Value::None)), [1, 2, 3, 0]));
    assert_eq!(mixed(2, &handle(20, 2), &handle(21, 3), &handle(22, 4)), (Err(()), marks));
    assert_eq!(mixed(1, &bad(), &handle(21, 3), &handle(22, 4)), (Err(()), [1, 0, 3, 4]));
    assert_eq!(mixed(1, &handle(20, 2), &bad(), &handle(22, 4)), (Err(()), [1, 2, 0, 4]));
    let (result, marks) = mixed(1, &handle(20, 2), &handle(21, 3), &handle(5000, 4));
    assert_eq!((result, marks), (Err(()), [1, 2, 3, 0]));

    // A list of tuples: one block, of elements that are validated one by one.
    let points = |len: u64, bytes: &[u8]| {
        case.write(20, bytes);
        let sent = Transport { primary: case.word(20, 7), secondary: len };
        (case.call("points", sent).map_err(|_| ()), case.marks([20]))
    };
    let good = list([list([true.into(), list([false.into(), true.into(), false.into()])])]);
    assert_eq!(points(4, &[1, 0, 1, 0]), (Ok(good), [7]));
    assert_eq!(points(8, &[1, 0, 1, 0, 1, 1, 1, 2]), (Err(()), [7]));
    assert_eq!(points(5, &[1, 0, 1, 0, 1]), (Err(()), [7]));
    assert_eq!(case.pair.guest().arena_stats().blocks, 0);
}

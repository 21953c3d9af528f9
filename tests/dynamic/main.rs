//! Calls that are not declared: every type, what is refused before a call, and peers that answer with anything.

use std::borrow::Cow;

use support::{
    interface::Server,
    liar::{Liar, Random},
};
use vmffi::{
    ErrorKind, Peer, Serve,
    abi::{Answer, Side, Transport},
    contract::{Contract, TypeKind},
    dynamic::{DynamicError, Value},
    loopback::Loopback,
};

mod bounds;
mod compounds;
mod packed;

fn some(value: Value<'static>) -> Value<'static> {
    Value::Some(Box::new(value))
}

fn point(on: bool) -> Value<'static> {
    Value::structure([
        ("on", on.into()),
        ("x", (-5_i16).into()),
        ("glyph", 'ß'.into()),
        ("y", 1.5_f32.into()),
        ("colour", Value::variant("Blue")),
        ("far", u64::MAX.into()),
    ])
}

fn circle() -> Value<'static> {
    let fields = [("radius", 2.5_f64.into()), ("filled", true.into())];
    Value::Enum("Circle".into(), fields.map(|(name, value)| (name.into(), value)).into())
}

fn letter(char: char) -> Value<'static> {
    Value::Enum("Letter".into(), vec![(Cow::Borrowed(""), char.into())])
}

fn parcel(label: Value<'static>) -> Value<'static> {
    Value::structure([
        ("id", 7_u32.into()),
        ("body", vec![1_u8; 100].into()),
        ("label", label),
        ("at", point(true)),
    ])
}

fn cargo(wide: u128, numbers: Vec<Value<'static>>) -> Value<'static> {
    Value::structure([
        ("left", parcel(Value::None)),
        ("right", some(parcel(some("right".into())))),
        ("numbers", Value::List(numbers)),
        ("shape", some(letter('x'))),
        ("spot", point(false)),
        ("spots", Value::List(vec![])),
        ("flag", some(false.into())),
        ("wide", wide.into()),
    ])
}

/// Runs a test against both sides of a loopback, after which neither has lent anything.
fn both(test: impl Fn(&Peer, &Contract<'_>)) {
    let pair = Loopback::new(Server::default(), Server::default()).unwrap();
    for peer in [pair.host(), pair.guest()] {
        let bytes = peer.contract().unwrap();
        assert_eq!(bytes, Server::CONTRACT);
        test(peer, &Contract::read(&bytes).unwrap());
    }
    for peer in [pair.host(), pair.guest()] {
        assert_eq!(peer.arena_stats().blocks, 0);
    }
}

fn call(
    peer: &Peer,
    contract: &Contract<'_>,
    name: &str,
    arguments: &[Value<'_>],
) -> Result<Value<'static>, DynamicError> {
    peer.call_dynamic(contract.served("Everything", name).expect(name), arguments)
}

/// ABI, Contracts CT-11.
#[test]
fn a_contract_is_data() {
    both(|peer, contract| {
        assert_eq!(contract.interfaces(), ["Everything", "Callback", "Drawing"]);
        assert_eq!(contract.functions().count(), 34);
        assert!(
            contract.functions().all(|function| function.is_served() && !function.is_optional())
        );
        for (function, declared) in contract.functions().zip(support::interface::FUNCTIONS) {
            assert_eq!(function.signature(), declared);
        }
        let maybe = contract.served("Everything", "maybe").unwrap();
        let parameters: Vec<_> =
            maybe.parameters().map(|(name, of)| format!("{name}: {of}")).collect();
        assert_eq!(parameters[1], "spot: Option<Foreign<Point>>");
        assert_eq!((parameters.len(), maybe.returned().name()), (5, "u64"));
        let shape = contract.types().find(|of| of.name() == "Shape").unwrap();
        assert_eq!(shape.kind(), TypeKind::Enum);
        let variants: Vec<_> = shape
            .variants()
            .map(|v| {
                (v.name(), v.number(), v.fields().map(|f| f.of().to_string()).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(variants[1], ("Circle", 7, vec!["f64".to_owned(), "bool".to_owned()]));
        assert_eq!(variants[2].2, ["char"]);
        let point = contract.types().find(|of| of.name() == "Point").unwrap();
        let fields: Vec<_> = point.fields().map(|field| (field.name(), field.offset())).collect();
        assert_eq!(
            fields,
            [("on", 0), ("x", 2), ("glyph", 4), ("y", 8), ("colour", 12), ("far", 16)]
        );
        assert!(contract.served("Everything", "nobody").is_none());
        // SAFETY: there is no word.
        let refused = unsafe { peer.call(vmffi::abi::signature::CONTRACT, Transport::word(1)) };
        assert_eq!(refused, Answer::status(4));
    });
}

#[test]
fn every_type_goes_there_and_back() {
    both(|peer, contract| {
        for (name, value) in [
            ("alone_i8", Value::I8(-128)),
            ("alone_u16", Value::U16(0xffff)),
            ("alone_f32", Value::F32(-0.0)),
            ("alone_bool", Value::Bool(true)),
            ("alone_char", Value::Char('\u{10ffff}')),
            ("alone_colour", Value::variant("Blue")),
            ("alone_shape", circle()),
            ("alone_shape", Value::variant("Dot")),
            ("alone_shape", letter('ü')),
            ("alone_u128", Value::U128(u128::MAX)),
            ("alone_point", point(true)),
            ("alone_maybe", some(Value::U32(5))),
            ("alone_maybe", Value::None),
            ("bytes", vec![1_u8, 2, 3].into()),
            ("text", String::from("größer").into()),
            ("maybe_text", some("".into())),
            ("maybe_text", Value::None),
            ("numbers", Value::List(vec![Value::U64(1), Value::U64(u64::MAX)])),
            ("spot", point(false)),
            ("parcel", parcel(some("label".into()))),
            ("parcel", parcel(Value::None)),
        ] {
            assert_eq!(
                call(peer, contract, name, std::slice::from_ref(&value)),
                Ok(value),
                "{name}"
            );
        }
        assert_eq!(call(peer, contract, "nothing", &[]), Ok(Value::Unit));
        let unsigned: [Value<'_>; 8] = [
            1_u8.into(),
            2_u16.into(),
            3_u32.into(),
            4_u64.into(),
            5_u64.into(),
            6.5_f32.into(),
            7.5_f64.into(),
            8_u128.into(),
        ];
        let signed: [Value<'_>; 6] = [
            (-1_i8).into(),
            (-2_i16).into(),
            (-3).into(),
            (-4_i64).into(),
            (-5_i64).into(),
            (-6_i128).into(),
        ];
        let typed = support::interface::EverythingClient::from(peer);
        let expected =
            typed.unsigned(1_u8, 2_u16, 3_u32, 4_u64, 5_usize, 6.5_f32, 7.5_f64, 8_u128).unwrap();
        assert_eq!(call(peer, contract, "unsigned", &unsigned), Ok(expected.into()));
        let expected = typed.signed(-1_i8, -2_i16, -3_i32, -4_i64, -5_isize, -6_i128).unwrap();
        assert_eq!(call(peer, contract, "signed", &signed), Ok(expected.into()));
        let small = [
            Value::variant("Red"),
            some(Value::variant("Green")),
            true.into(),
            'x'.into(),
            circle(),
        ];
        assert_eq!(call(peer, contract, "small", &small), Ok(some(circle())));
        let spots = Value::List(vec![point(true), point(false)]);
        assert_eq!(call(peer, contract, "spots", &[spots]), Ok(Value::U64(2)));
        let chars = some(Value::List(vec!['a'.into(), 'ß'.into()]));
        let maybe = [
            some(vec![9_u8; 3].into()),
            some(point(true)),
            some(1_u64.into()),
            some(parcel(Value::None)),
            chars,
        ];
        assert_eq!(call(peer, contract, "maybe", &maybe), Ok(Value::U64(3 + 1 + 1 + 100 + 2)));
        let Ok(Value::Struct(all)) = call(peer, contract, "cargo", &[cargo(2, vec![1_u32.into()])])
        else {
            panic!("no parcel")
        };
        assert_eq!(all[2], ("label".into(), some("both".into())));
    });
}

#[test]
fn declared_errors_are_values() {
    both(|peer, contract| {
        let odd = call(peer, contract, "cargo", &[cargo(3, vec![1_u32.into()])]);
        assert_eq!(odd, Err(DynamicError::App(Value::variant("Odd"))));
        let empty = call(peer, contract, "cargo", &[cargo(2, vec![])]).unwrap_err();
        assert_eq!(empty.to_string(), "the function returned the error Empty");
        assert_eq!(format!("{empty:?}"), format!("DynamicError({empty})"));
    });
}

#[test]
fn numbers_fit_or_are_refused() {
    both(|peer, contract| {
        let good: [(&str, Value<'_>, Value<'_>); 8] = [
            ("alone_i8", 127_u128.into(), 127_i8.into()),
            ("alone_i8", (-128_i128).into(), (-128_i8).into()),
            ("alone_u16", 0_i8.into(), 0_u16.into()),
            ("alone_u16", 65_535_i64.into(), 65_535_u16.into()),
            ("alone_f32", 0.5_f64.into(), 0.5_f32.into()),
            ("alone_u128", 1_u8.into(), 1_u128.into()),
            ("alone_f32", f64::INFINITY.into(), f32::INFINITY.into()),
            ("alone_u128", u128::MAX.into(), u128::MAX.into()),
        ];
        for (name, given, got) in good {
            assert_eq!(call(peer, contract, name, &[given]), Ok(got));
        }
        for (name, bad, said) in [
            ("alone_i8", Value::U8(128), "`value` is an i8, but the U8 128 was given"),
            ("alone_i8", Value::I64(-129), "`value` is an i8, but the I64 -129 was given"),
            ("alone_u16", Value::I8(-1), "`value` is a u16, but the I8 -1 was given"),
            ("alone_u16", Value::U32(65_536), "`value` is a u16, but the U32 65536 was given"),
            ("alone_f32", Value::F64(0.1), "`value` is an f32, but the F64 0.1 was given"),
            ("alone_u128", Value::I128(-1), "`value` is a u128, but the I128 -1 was given"),
            ("alone_bool", Value::U8(1), "`value` is a bool, but the U8 1 was given"),
            ("alone_char", "x".into(), "`value` is a char, but the text \"x\" was given"),
            ("bytes", "x".into(), "`value` is a ForeignBuf, but the text \"x\" was given"),
            (
                "alone_colour",
                Value::variant("Pink"),
                "`value` is a Colour, but has no variant Pink",
            ),
            (
                "alone_shape",
                Value::variant("Circle"),
                "`value.Circle` is a Shape, but the field radius is missing",
            ),
            (
                "alone_shape",
                Value::Enum("Letter".into(), vec![("".into(), 1_u8.into())]),
                "`value.Letter.0` is a char, but the U8 1 was given",
            ),
            ("alone_maybe", Value::U32(1), "`value` is an Option<u32>, but the U32 1 was given"),
            (
                "alone_point",
                point(true).with("more", Value::Unit),
                "`value` is a Point, but 7 fields were given: on, x, glyph, y, colour, far, more",
            ),
            (
                "parcel",
                parcel(some(1_u8.into())),
                "`value.label` is a ForeignStr, but the U8 1 was given",
            ),
            (
                "numbers",
                Value::List(vec![1_u8.into(), Value::Unit]),
                "`value[1]` is a u64, but () was given",
            ),
        ] {
            let error = call(peer, contract, name, &[bad]).unwrap_err();
            assert_eq!(error.to_string(), said);
            assert!(matches!(error, DynamicError::Argument(_)));
        }
        assert_eq!(peer.arena_stats().blocks, 0);
    });
}

trait With {
    fn with(self, name: &'static str, value: Value<'static>) -> Self;
}

impl With for Value<'static> {
    fn with(mut self, name: &'static str, value: Value<'static>) -> Self {
        if let Value::Struct(fields) = &mut self {
            fields.push((name.into(), value));
        }
        self
    }
}

/// The size of a result is limited before it is allocated, and what is refused is released.
#[test]
fn results_have_a_maximum() {
    both(|peer, contract| {
        let call = |name, value: Value<'_>, max| {
            let function = contract.served("Everything", name).unwrap();
            peer.call_dynamic_with_max(function, &[value], max)
        };
        let bytes = vec![7_u8; 1000];
        // The handle counts too.
        assert!(call("bytes", bytes.clone().into(), 1016).is_ok());
        let list = Value::List(vec![Value::U64(1); 100]);
        let size = 16 + 800 + 100 * size_of::<Value<'_>>();
        assert!(call("numbers", list.clone(), size).is_ok());
        for (name, value, max) in [
            ("bytes", Value::from(bytes), 1015),
            ("numbers", list, size - 1),
            ("alone_point", point(true), 23),
            ("alone_point", point(true), 100),
            ("parcel", parcel(some("label".into())), 300),
        ] {
            match call(name, value, max) {
                Err(DynamicError::Call(error)) => {
                    assert_eq!(
                        (error.kind(), error.side()),
                        (ErrorKind::OutOfMemory, Some(peer.side()))
                    );
                }
                other => panic!("{name}: {other:?}"),
            }
            assert_eq!(peer.arena_stats().blocks, 0);
        }
    });
}

/// A peer that lies about everything: no panic, no invalid value, and nothing that this side lent is lost.
#[test]
fn a_liar_gets_nowhere() {
    for (seed, victim) in (0..8).flat_map(|seed| [(seed, Side::Host), (seed, Side::Guest)]) {
        let arenas = (1 << 16, 1 << 16);
        let layout = vmffi::RegionLayout::new(arenas.0, arenas.1).unwrap();
        let liar = Liar::new(layout, victim.other(), seed);
        let (pair, attacker) = match victim {
            Side::Host => support::region::pair(victim, arenas, |_| {}, liar, Server::default()),
            Side::Guest => support::region::pair(victim, arenas, |_| {}, Server::default(), liar),
        };
        let peer = attacker.to_attacker(&pair);
        let contract = Contract::read(Server::CONTRACT).unwrap();
        let mut random = Random(seed);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..2000 {
            // Words and tags, as structs in the liar's arena.
            let (start, len) = layout.arena(victim.other());
            for _ in 0..8 {
                let at = start + random.below(len / 8) * 8;
                attacker.write(at, &random.word(&layout, victim.other()).to_le_bytes());
            }
            let function = |name| contract.served("Callback", name).unwrap();
            let result = match random.below(6) {
                0 => peer.call_dynamic(function("note"), &["text".into(), 1_u32.into()]),
                1 => peer.call_dynamic(function("fetch"), &[3_u32.into()]),
                2 => peer.call_dynamic(function("judge"), &[parcel(some("x".into()))]),
                3 => peer.call_dynamic(function("glyph"), &['x'.into()]),
                4 => peer.call_dynamic(function("shapes"), &[some(circle())]),
                _ => peer.call_dynamic(function("spot"), &[point(true)]),
            };
            match result {
                Ok(value) => {
                    good += 1;
                    drop(value.to_string());
                }
                Err(DynamicError::App(value)) => {
                    assert!([Value::variant("Odd"), Value::variant("Empty")].contains(&value));
                }
                Err(DynamicError::Call(error)) => {
                    bad += 1;
                    assert!(error.side().is_some());
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(good > 50 && bad > 500, "{good} good, {bad} bad");
        attacker.release_all(&pair, victim);
        assert_eq!(peer.arena_stats().blocks, 0);
    }
}

/// All handles of a bad result are released (ABI, Parameter structs PS-5): here of a `Parcel` whose last field is bad.
#[test]
fn a_bad_result_is_released() {
    let arenas = (1 << 16, 1 << 16);
    let layout = vmffi::RegionLayout::new(arenas.0, arenas.1).unwrap();
    let liar = Liar::new(layout, Side::Guest, 1);
    let script = liar.script.clone();
    let (pair, attacker) =
        support::region::pair(Side::Host, arenas, |_| {}, liar, Server::default());
    let contract = Contract::read(Server::CONTRACT).unwrap();
    let judge = contract.served("Callback", "judge").unwrap();
    let (start, _) = layout.arena(Side::Guest);
    let map = layout.release_map(Side::Guest);
    let word = |granule: u64, loan: u64| (start + granule * 64) | loan << 56;
    // id, body, label, at { on, x, glyph, y, colour, far }
    let parcel = |body: u64, label_text: &[u8], on: u8, colour: u8| {
        attacker.write(start + 64 * 20, label_text);
        let mut form = vec![0; 64];
        form[8..16].copy_from_slice(&body.to_le_bytes());
        form[16] = 5;
        form[24..32].copy_from_slice(&word(20, 9).to_le_bytes());
        form[32] = 3;
        form[40] = on;
        form[52] = colour;
        attacker.write(start + 64 * 3, &form);
        attacker.fill_marks(Side::Guest, 0);
        *script.lock().unwrap() =
            Some(Answer { status: 0, transport: Transport::word(word(3, 1)) });
    };
    let marks = || {
        [3, 10, 20]
            .map(|granule| attacker.byte(map + granule).load(std::sync::atomic::Ordering::Acquire))
    };
    let given = self::parcel(Value::None);
    let called = || pair.guest().call_dynamic(judge, std::slice::from_ref(&given));

    parcel(word(10, 8), b"abc", 1, 2);
    assert!(called().is_ok());
    assert_eq!(marks(), [1, 8, 9]);
    for (body, text, on, colour, kind, released) in [
        (word(10, 8), &b"abc"[..], 2, 2, ErrorKind::BadValue, [1, 8, 9]),
        (word(10, 8), b"abc", 1, 3, ErrorKind::BadValue, [1, 8, 9]),
        (word(10, 8), b"\xff\xff\xff", 1, 2, ErrorKind::BadValue, [1, 8, 9]),
        // The first of its fields is bad, and the rest is looked at.
        (word(10, 0), b"abc", 1, 2, ErrorKind::BadPointer, [1, 0, 9]),
        (word(5000, 8), b"abc", 1, 2, ErrorKind::BadPointer, [1, 0, 9]),
        (0, b"abc", 1, 2, ErrorKind::BadPointer, [1, 0, 9]),
    ] {
        parcel(body, text, on, colour);
        let Err(DynamicError::Call(error)) = called() else { panic!("it is bad") };
        assert_eq!((error.kind(), error.reached(), error.side()), (kind, true, Some(Side::Host)));
        assert_eq!(marks(), released, "{body:#x} {text:?} {on} {colour}");
    }
    // Statuses that this function does not have, and its error.
    let answer = |status, primary| {
        *script.lock().unwrap() = Some(Answer { status, transport: Transport::word(primary) });
        called().unwrap_err()
    };
    assert_eq!(answer(1, 5), DynamicError::App(Value::variant("Odd")));
    assert_eq!(answer(1, u64::MAX), DynamicError::App(Value::variant("Empty")));
    for (status, primary, kind) in [
        (1, 6, ErrorKind::BadValue),
        (1, u64::from(u32::MAX), ErrorKind::BadValue),
        (99, 0, ErrorKind::Protocol),
        (66, 0, ErrorKind::UnknownFunction),
        (0, 0, ErrorKind::BadPointer),
    ] {
        let DynamicError::Call(error) = answer(status, primary) else { panic!("{status}") };
        assert_eq!(error.kind(), kind);
    }
    let fetch = contract.served("Callback", "fetch").unwrap();
    *script.lock().unwrap() = Some(Answer { status: 1, transport: Transport::EMPTY });
    let Err(DynamicError::Call(error)) = pair.guest().call_dynamic(fetch, &[1_u32.into()]) else {
        panic!("it declares no error")
    };
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Protocol, true));
    // It has kept what it was lent, and nothing else is in use.
    attacker.release_all(&pair, Side::Host);
    assert_eq!(pair.guest().arena_stats().blocks, 0);
}

#[test]
fn values_are_shown_as_rust_writes_them() {
    let shown = [
        (
            parcel(some("a \"label\"\n".into())).to_string().replace("\\x01", "."),
            "label: Some(\"a \\\"label\\\"\\n\")",
        ),
        (letter('ß').to_string(), "Letter('ß')"),
        (circle().to_string(), "Circle { radius: 2.5, filled: true }"),
        (Value::List(vec![1_u8.into(), Value::Unit]).to_string(), "[1, ()]"),
        (Value::from(&b"a\0"[..]).to_string(), "b\"a\\x00\""),
    ];
    for (text, part) in shown {
        assert!(text.contains(part), "{text}");
    }
    let long = Value::List(vec![Value::from("x".repeat(50)); 10_000]);
    let text = long.to_string();
    assert!(text.len() < 620 && text.ends_with('…'), "{text}");
    assert_eq!(Value::from("x".repeat(5000)).to_string().len(), 600 + '…'.len_utf8());
}

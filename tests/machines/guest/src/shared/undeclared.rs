//! Growing buffers, borrows, and calls by the other side's contract.

use core::fmt::Write as _;

use alloc::{boxed::Box, format, string::String, vec, vec::Vec};

use vmffi::{
    ErrorKind, Peer, SharedBuf, SharedStr, abi,
    contract::Contract,
    dynamic::{DynamicError, Value},
};

use super::{Check, handles::HandlesClient};

pub const CHECKS: &[Check] = &[
    ("shared_values_grow", shared_values_grow),
    ("guests_borrow", guests_borrow),
    ("calls_without_a_declaration", calls_without_a_declaration),
    ("undeclared_calls_are_checked_before_they_are_sent", checked_before),
];

fn shared_values_grow(peer: &Peer) {
    let call = HandlesClient::from(peer);
    let (mut buf, mut text) = (SharedBuf::new(peer), SharedStr::with_capacity(peer, 3).unwrap());
    for nr in 0..3000_u32 {
        buf.push(nr as u8).unwrap();
        write!(text, "{nr} ").unwrap();
    }
    let bytes: Vec<u8> = (0..3000_u32).map(|nr| nr as u8).collect();
    assert_eq!(call.buf(buf).unwrap().read_vec().unwrap(), bytes);
    let words: String = (0..3000_u32).map(|nr| format!("{nr} ")).collect();
    assert_eq!(call.text(text).unwrap().read_string().unwrap(), words);
    let mut full = SharedBuf::copy_from(peer, &bytes).unwrap();
    let error = full.reserve(usize::MAX / 2).unwrap_err();
    assert_eq!((error.kind(), error.side()), (ErrorKind::OutOfMemory, Some(peer.side())));
    assert_eq!(full.as_slice(), bytes);
}

/// ABI, Arenas and loans A-3: a loan does not change, so a guest reads it in place. A host does not rely on that.
fn guests_borrow(peer: &Peer) {
    let call = HandlesClient::from(peer);
    let (bytes, text) = (call.buf(b"GET / HTTP/1.1").unwrap(), call.text("größer").unwrap());
    if peer.side() == abi::Side::Host {
        assert_eq!(bytes.as_slice().unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(text.as_str().unwrap_err().kind(), ErrorKind::Unsupported);
        return;
    }
    let borrowed = (bytes.as_slice().unwrap(), text.as_str().unwrap());
    // Meanwhile other calls, and more loans of the host.
    for len in 1..50 {
        assert_eq!(call.buf(&vec![7; len * 30]).unwrap().as_slice().unwrap(), vec![7; len * 30]);
    }
    assert_eq!(borrowed, (&b"GET / HTTP/1.1"[..], "größer"));
    assert_eq!(bytes.as_slice().unwrap().as_ptr(), borrowed.0.as_ptr());
}

fn point(x: i32, y: i64) -> Value<'static> {
    Value::structure([("x", x.into()), ("y", y.into())])
}

fn request(more: Value<'static>) -> Value<'static> {
    Value::structure([
        ("flag", true.into()),
        ("path", "/märz".into()),
        ("body", b"body".as_slice().into()),
        ("points", Value::List(vec![point(-1, 2), point(3, i64::MIN)])),
        ("origin", point(0, -7)),
        ("wide", (u128::MAX - 5).into()),
        ("more", more),
        ("no", Value::None),
    ])
}

fn calls_without_a_declaration(peer: &Peer) {
    let bytes = peer.contract().unwrap();
    let contract = Contract::read(&bytes).unwrap();
    let call = |name, arguments: &[Value<'_>]| {
        let function = contract.served("Handles", name).unwrap();
        peer.call_dynamic(function, arguments).unwrap()
    };
    let some = |value: Value<'static>| Value::Some(Box::new(value));
    // Each value is returned unchanged.
    for (name, value) in [
        ("buf", b"bytes".as_slice().into()),
        ("buf", b"".as_slice().into()),
        ("text", "größer".into()),
        ("slice", Value::List(vec![point(1, 2), point(3, 4)])),
        ("slice", Value::List(vec![])),
        ("foreign", point(i32::MIN, i64::MAX)),
        ("maybe_buf", Value::None),
        ("maybe_buf", some(b"".as_slice().into())),
        ("maybe_text", some("some".into())),
        ("maybe_slice", some(Value::List(vec![point(5, 6)]))),
        ("maybe_foreign", some(point(7, 8))),
        ("maybe_foreign", Value::None),
        ("deep", some(some(b"deep".as_slice().into()))),
        ("deep", some(Value::None)),
        ("deep", Value::None),
        ("request", request(some(b"".as_slice().into()))),
        ("request", request(Value::None)),
    ] {
        assert_eq!(call(name, core::slice::from_ref(&value)), value, "{name}");
    }
    assert_eq!(call("words", &[Value::List(vec![1_u8.into(), 2_i64.into()])]), Value::U64(3));
    let outer = Value::structure([
        ("before", 1_u8.into()),
        ("request", request(Value::None)),
        ("maybe", some(request(some(b"more".as_slice().into())))),
        ("after", 9_u16.into()),
    ]);
    assert_eq!(call("outer", &[outer.clone(), false.into()]), some(outer));
}

fn checked_before(peer: &Peer) {
    let bytes = peer.contract().unwrap();
    let contract = Contract::read(&bytes).unwrap();
    let before = peer.arena_stats();
    for (name, arguments, said) in [
        (
            "text",
            vec![],
            "fn Handles::text(value: ForeignStr) -> ForeignStr has 1 parameter, but 0 were given",
        ),
        ("text", vec![5_u8.into()], "`value` is a ForeignStr, but the U8 5 was given"),
        (
            "foreign",
            vec![Value::structure([("x", 1.into())])],
            "`value` is a Point, but the field y is missing",
        ),
        (
            "slice",
            vec![Value::List(vec![
                point(1, 1),
                Value::structure([("x", Value::None), ("y", 1.into())]),
            ])],
            "`value[1].x` is an i32, but None was given",
        ),
        (
            "foreign",
            vec![Value::structure([("x", (1_i64 << 31).into()), ("y", 0.into())])],
            "`value.x` is an i32, but the I64 2147483648 was given",
        ),
    ] {
        let function = contract.served("Handles", name).unwrap();
        let error = peer.call_dynamic(function, &arguments).unwrap_err();
        assert!(!matches!(error, DynamicError::Call(_)));
        assert_eq!(format!("{error}"), said);
    }
    assert_eq!(peer.arena_stats(), before);
}

//! Contracts that a peer forges, and what bounds the memory and the time of an undeclared call.

use std::time::{Duration, Instant};

use support::interface::Server;
use vmffi::{
    ErrorKind, Serve,
    abi::{Answer, Side, Transport},
    contract::Contract,
    dynamic::{DynamicError, Value},
    loopback::Loopback,
};

/// Contracts whose types are no types: nothing is sent.
#[test]
fn types_that_cannot_be_are_refused() {
    let pair = Loopback::new((), ()).unwrap();
    let text = |text: &str| [&(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
    let builtin = |name: &str, arguments: &[u16]| {
        let mut record = [&[0][..], &text(name), &[arguments.len() as u8]].concat();
        record.extend(arguments.iter().flat_map(|index| index.to_le_bytes()));
        record
    };
    let structure = |size: u32, align: u32, fields: &[(u32, u16)]| {
        let mut record = [&[1][..], &text("S"), &size.to_le_bytes(), &align.to_le_bytes()].concat();
        record.extend((fields.len() as u16).to_le_bytes());
        for (offset, of) in fields {
            record.extend([&text("f")[..], &offset.to_le_bytes(), &of.to_le_bytes()].concat());
        }
        record
    };
    let array = |of: u16, len: u64| [&[4][..], &of.to_le_bytes(), &len.to_le_bytes()].concat();
    // An enum of one variant, with one value.
    let enumeration = |of: u16, size: u32| {
        let head = [&[2][..], &text("E"), &size.to_le_bytes(), &8_u32.to_le_bytes(), &text("u8")];
        let variant = [&1_u16.to_le_bytes()[..], &text("V"), &0_u64.to_le_bytes()].concat();
        let field = [&1_u16.to_le_bytes()[..], &text(""), &8_u32.to_le_bytes()].concat();
        [head.concat(), variant, field, of.to_le_bytes().into()].concat()
    };
    let tuple = |of: &[u16]| {
        let types: Vec<u8> = of.iter().flat_map(|of| of.to_le_bytes()).collect();
        [&[5, of.len() as u8][..], &types].concat()
    };
    let function = |of: u16, returned: u16| {
        let head = [&[3, 1][..], &text("A"), &text("f"), &1_u16.to_le_bytes(), &text("p")].concat();
        [head, of.to_le_bytes().into(), returned.to_le_bytes().into()].concat()
    };
    let mut deep = vec![builtin("u8", &[])];
    deep.extend((0..40).map(|nr| structure(1, 1, &[(0, nr)])));
    let mut deep_arrays = vec![builtin("u8", &[])];
    deep_arrays.extend((0..40).map(|nr| array(nr, 1)));
    let mut deep_tuples = vec![builtin("u8", &[])];
    deep_tuples.extend((0..40).map(|nr| tuple(&[nr])));
    let types: Vec<Vec<Vec<u8>>> = vec![
        vec![builtin("Unheard", &[])],
        vec![builtin("u7", &[])],
        vec![builtin("i", &[])],
        vec![builtin("", &[])],
        vec![builtin("ü8", &[])],
        vec![builtin("u8", &[]), builtin("Foreign", &[0, 0])],
        vec![builtin("ForeignBuf", &[]), builtin("ForeignSlice", &[0])],
        vec![builtin("()", &[]), builtin("ForeignSlice", &[0])],
        vec![builtin("u8", &[]), builtin("Result", &[0, 0]), builtin("Option", &[1])],
        vec![builtin("u8", &[]), builtin("Result", &[0, 0])],
        // Fields that overlap, have gaps, or lie outside.
        vec![builtin("u64", &[]), structure(8, 8, &[(0, 0), (0, 0)])],
        vec![builtin("u64", &[]), structure(24, 8, &[(8, 0)])],
        vec![builtin("u64", &[]), structure(8, 1, &[(0, 0)])],
        vec![builtin("u64", &[]), structure(u32::MAX, 8, &[(0, 0)])],
        vec![builtin("u8", &[]), structure(1, 0, &[(0, 0)])],
        // More than 4 GiB, which a product or a sum of 64 bits may not show.
        vec![builtin("u8", &[]), array(0, 1 << 32)],
        vec![builtin("u16", &[]), array(0, 1 << 63)],
        vec![builtin("u64", &[]), array(0, (1 << 61) + 1)],
        vec![builtin("u16", &[]), array(0, 1 << 20), array(1, 1 << 12)],
        vec![builtin("u8", &[]), array(0, (1 << 32) - 1), builtin("Option", &[1])],
        vec![builtin("u8", &[]), array(0, (1 << 32) - 1), tuple(&[1, 1])],
        vec![builtin("u8", &[]), array(0, (1 << 32) - 1), builtin("u64", &[]), tuple(&[2, 1])],
        // Within each other, where they may not be.
        vec![builtin("u8", &[]), builtin("Result", &[0, 0]), array(1, 1)],
        vec![builtin("u8", &[]), builtin("Result", &[0, 0]), tuple(&[0, 1])],
        vec![builtin("u7", &[]), array(0, 0)],
        vec![builtin("ForeignStr", &[]), array(0, 2), builtin("ForeignSlice", &[1])],
        vec![builtin("ForeignStr", &[]), tuple(&[0]), builtin("Foreign", &[1])],
        vec![builtin("()", &[]), array(0, 3), builtin("ForeignSlice", &[1])],
        // Values of an enum with handles (ABI, TY-13).
        vec![builtin("ForeignBuf", &[]), enumeration(0, 24)],
        vec![builtin("u8", &[]), builtin("Foreign", &[0]), enumeration(1, 16)],
        deep,
        deep_arrays,
        deep_tuples,
    ];
    for types in types {
        let last = types.len() as u16 - 1;
        let records = [types.concat(), function(last, last)].concat();
        let bytes = [&(types.len() as u16 + 1).to_le_bytes()[..], &records].concat();
        let contract = Contract::read(&bytes).unwrap();
        let f = contract.served("A", "f").unwrap();
        let error = pair.host().call_dynamic(f, &[Value::Unit]).unwrap_err();
        assert!(matches!(error, DynamicError::UnknownType { .. }), "{error}");
    }
}

/// Structs without bytes within each other, of which there are millions in one of no size.
mod nothings {
    vmffi::ffi_interface! {
    #[derive(Default)]
    pub struct E0 {}
    #[derive(Default)]
    pub struct E1 { a: E0, b: E0 }
    #[derive(Default)]
    pub struct E2 { a: E1, b: E1 }
    #[derive(Default)]
    pub struct E3 { a: E2, b: E2 }
    #[derive(Default)]
    pub struct E4 { a: E3, b: E3 }
    #[derive(Default)]
    pub struct E5 { a: E4, b: E4 }
    #[derive(Default)]
    pub struct E6 { a: E5, b: E5 }
    #[derive(Default)]
    pub struct E7 { a: E6, b: E6 }
    #[derive(Default)]
    pub struct E8 { a: E7, b: E7 }
    #[derive(Default)]
    pub struct E9 { a: E8, b: E8 }
    #[derive(Default)]
    pub struct E10 { a: E9, b: E9 }
    #[derive(Default)]
    pub struct E11 { a: E10, b: E10 }
    #[derive(Default)]
    pub struct E12 { a: E11, b: E11 }
    #[derive(Default)]
    pub struct E13 { a: E12, b: E12 }
    #[derive(Default)]
    pub struct E14 { a: E13, b: E13 }
    #[derive(Default)]
    pub struct E15 { a: E14, b: E14 }
    #[derive(Default)]
    pub struct E16 { a: E15, b: E15 }
    #[derive(Default)]
    pub struct E17 { a: E16, b: E16 }
    #[derive(Default)]
    pub struct E18 { a: E17, b: E17 }
    #[derive(Default)]
    pub struct E19 { a: E18, b: E18 }
    #[derive(Default)]
    pub struct E20 { a: E19, b: E19 }
    #[derive(Default)]
    pub struct E21 { a: E20, b: E20 }
    #[derive(Default)]
    pub struct E22 { a: E21, b: E21 }

        pub interface Nothings { fn all() -> E22; fn few() -> E3; }
    }

    pub struct Server;

    impl Nothings for Server {
        fn all(&self, _: &vmffi::Peer) -> Result<E22, vmffi::CallError> {
            Ok(E22::default())
        }
        fn few(&self, _: &vmffi::Peer) -> Result<E3, vmffi::CallError> {
            Ok(E3::default())
        }
    }

    vmffi::serve!(Server: Nothings);
}

/// What a result takes is counted by its values, not by its bytes.
#[test]
fn values_without_bytes_count() {
    let pair = Loopback::new((), nothings::Server).unwrap();
    let bytes = pair.host().contract().unwrap();
    let contract = Contract::read(&bytes).unwrap();
    let call = |name| pair.host().call_dynamic(contract.served("Nothings", name).unwrap(), &[]);
    let Ok(Value::Struct(few)) = call("few") else { panic!("a few") };
    assert_eq!(few.len(), 2);
    let Err(DynamicError::Call(error)) = call("all") else { panic!("too many") };
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
}

/// The time that a result takes is limited before the call, also where an error stops the count of its values: the search for
/// handles in the rest of it visits every field.
#[test]
fn a_search_for_handles_is_bounded() {
    let text = |text: &str| [&(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
    let field = |offset: u32, of: u16| {
        [text("f"), offset.to_le_bytes().into(), of.to_le_bytes().into()].concat()
    };
    let unit = [&[0][..], &text("()"), &[0]].concat();
    let handle = [&[0][..], &text("Foreign"), &[1], &0_u16.to_le_bytes()].concat();
    let units = 26_000_u16;
    let mut structure = [&[1][..], &text("S"), &8_u32.to_le_bytes(), &8_u32.to_le_bytes()].concat();
    structure.extend((units + 1).to_le_bytes());
    structure.extend((0..units).flat_map(|_| field(0, 0)));
    structure.extend(field(0, 1));
    let array = [&[4][..], &2_u16.to_le_bytes(), &(1_u64 << 21).to_le_bytes()].concat();
    let function =
        [&[3, 1][..], &text("A"), &text("f"), &0_u16.to_le_bytes(), &3_u16.to_le_bytes()].concat();
    let bytes = [&5_u16.to_le_bytes()[..], &unit, &handle, &structure, &array, &function].concat();
    let contract = Contract::read(&bytes).unwrap();
    let pair = Loopback::new((), ()).unwrap();
    let began = Instant::now();
    let called = pair.host().call_dynamic(contract.served("A", "f").unwrap(), &[]);
    let Err(DynamicError::Call(error)) = called else { panic!("{called:?}") };
    assert_eq!((error.kind(), error.reached()), (ErrorKind::OutOfMemory, false));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// Who asks for contracts and keeps them fills the arena of the side that lends them, and nothing else.
#[test]
fn contracts_that_are_kept_fill_an_arena() {
    let mut pair =
        Loopback::builder().arenas(1 << 16, 1 << 16).build((), Server::default()).unwrap();
    let asked = || {
        // SAFETY: there is no word.
        unsafe { pair.host().call(vmffi::abi::signature::CONTRACT, Transport::EMPTY) }
    };
    let count = (0..100).take_while(|_| asked().status == 0).count();
    assert!((1..=(1 << 16) / Server::CONTRACT.len()).contains(&count), "{count}");
    assert_eq!(asked(), Answer::status(64 | ErrorKind::OutOfMemory as u64));
    let error = pair.host().contract().unwrap_err();
    assert_eq!((error.kind(), error.side()), (ErrorKind::OutOfMemory, Some(Side::Host)));
    pair.reset();
    assert_eq!(pair.host().contract().unwrap(), Server::CONTRACT);
    assert_eq!(pair.guest().arena_stats().blocks, 0);
}

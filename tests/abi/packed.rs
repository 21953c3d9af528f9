//! Packed values, written byte by byte as the document says.

use super::{hash::Type, *};
use proptest::{collection::vec, prelude::*, sample::Index};
use vmffi::{ForeignList, Packed, SharedList, SharedPacked, dynamic::Value};

/// What is sent as bytes is read as a packed value.
struct Bytes;

vmffi::ffi_interface! {
    pub interface Unpacked {
        fn pairs(bytes: ForeignBuf) -> u64;
        fn entry(bytes: ForeignBuf) -> u64;
        fn cells(bytes: ForeignBuf) -> u64;
        fn flags(bytes: ForeignBuf) -> u64;
        fn deep(bytes: ForeignBuf) -> u64;
        fn back_entry(bytes: ForeignBuf) -> ForeignPacked<Entry>;
        fn back_cells(bytes: ForeignBuf) -> ForeignList<Cell>;
        fn same(value: ForeignList<(&str, u16)>) -> ForeignBuf;
        fn same_entry(value: ForeignPacked<Entry>) -> ForeignBuf;
        fn same_cells(value: ForeignPacked<List<Cell>>) -> ForeignBuf;
    }
}

/// Reads a packed value of a type, in both ways, which must come to the same.
fn read<T: Packed + ?Sized>(bytes: ForeignBuf) -> Result<u64, CallError> {
    let packed = ForeignPacked::<T>::from(bytes);
    let mut local = vec![0; packed.byte_len()];
    let into = packed.read_into(&mut local).map(drop);
    assert_eq!(packed.read().map(drop), into);
    into.map(|()| 1)
}

/// The bytes that were sent.
fn bytes<T: ?Sized>(peer: &Peer, value: ForeignPacked<T>) -> Result<SharedBuf, CallError> {
    SharedBuf::copy_from(peer, &ForeignBuf::from(value).read_vec()?)
}

impl Unpacked for Bytes {
    fn pairs(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        read::<List<'_, (&str, u16)>>(bytes)
    }
    fn entry(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        read::<Entry<'_>>(bytes)
    }
    fn cells(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        read::<List<'_, Cell<'_>>>(bytes)
    }
    fn flags(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        read::<[bool]>(bytes)
    }
    fn deep(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        read::<List<'_, List<'_, List<'_, u32>>>>(bytes)
    }
    fn back_entry(
        &self,
        peer: &Peer,
        bytes: ForeignBuf,
    ) -> Result<SharedPacked<Entry<'_>>, CallError> {
        Ok(SharedBuf::copy_from(peer, &bytes.read_vec()?)?.into())
    }
    fn back_cells(
        &self,
        peer: &Peer,
        bytes: ForeignBuf,
    ) -> Result<SharedList<Cell<'_>>, CallError> {
        Ok(SharedBuf::copy_from(peer, &bytes.read_vec()?)?.into())
    }
    fn same(&self, peer: &Peer, value: ForeignList<(&str, u16)>) -> Result<SharedBuf, CallError> {
        bytes(peer, value)
    }
    fn same_entry(&self, peer: &Peer, value: ForeignPacked<Entry>) -> Result<SharedBuf, CallError> {
        bytes(peer, value)
    }
    fn same_cells(
        &self,
        peer: &Peer,
        value: ForeignPacked<List<Cell>>,
    ) -> Result<SharedBuf, CallError> {
        bytes(peer, value)
    }
}

vmffi::serve!(Bytes: Unpacked);

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The example of the document.
fn example() -> Vec<u8> {
    let (_, example) = DOCUMENT.split_once("- **PK-6** An example:").unwrap();
    let example = example.split("\n## ").next().unwrap();
    let digits =
        |code: &&str| code.len() >= 4 && code.bytes().all(|b| b" 0123456789abcdef".contains(&b));
    let text: String = example.split('`').skip(1).step_by(2).filter(digits).collect();
    let text: String = text.chars().filter(|c| *c != ' ').collect();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// An `Entry` of the name `ä`, with two tags.
fn entry() -> Vec<u8> {
    // The fixed part: length, size, `{ tag: u32, value: u32 }`, count, byte count.
    let mut bytes = words(&[2, 7, 0x0000_0124_0000_0001, 2, 8 + 3 + 8]);
    bytes.extend("ä".as_bytes());
    bytes.extend(words(&[3]));
    bytes.extend(b"tag");
    bytes.extend(words(&[0]));
    bytes
}

/// A `List<Cell>` of a null, -5 and `x`: each a tag, at 8 the value.
fn cells() -> Vec<u8> {
    let mut bytes = words(&[3, 3 * 16 + 1, 0, 0, 1, -5_i64 as u64, 9, 1]);
    bytes.push(b'x');
    bytes
}

/// ABI, Packed values PK-1, PK-2, PK-6: the crate writes what the document says, from a value and from a list that grows.
#[test]
fn packed_values_are_the_documents() {
    let pair = Loopback::new(Bytes, Bytes).unwrap();
    for peer in [pair.host(), pair.guest()] {
        let client = UnpackedClient::from(peer);
        let is = |buf: Result<ForeignBuf, CallError>, right: &[u8]| {
            assert_eq!(buf.unwrap().read_vec().unwrap(), right);
        };
        let pairs = [("ab", 1_u16), ("", 2)];
        is(client.same(&List::from(&pairs)), &example());
        is(client.same(&pairs[..]), &example());
        let mut list = SharedList::<(&str, u16)>::new(peer).unwrap();
        list.push(&pairs[0]).unwrap();
        list.extend([pairs[1]]).unwrap();
        is(client.same(list), &example());

        let tags: [&[u8]; 2] = [b"tag", b""];
        let value = Entry { name: "ä", size: 7, mode: Some(0x124), tags: List::from(&tags) };
        is(client.same_entry(&value), &entry());
        let all = [Cell::Null, Cell::Int(-5), Cell::Text("x")];
        is(client.same_cells(&List::from(&all)), &cells());

        assert_eq!(client.pairs(&example()), Ok(1));
        assert_eq!(client.entry(&entry()), Ok(1));
        assert_eq!(client.cells(&cells()), Ok(1));
    }
}

/// ABI, Packed values PK-3: the types have the sizes of the table in the fixed part, and their declared names.
#[test]
fn fixed_parts_are_the_documents() {
    let rows = table("Packed values", &["type", "size", "align", "fixed part", "data"]);
    let all = [types::borrowed("&str"), types::borrowed("&[u8]"), types::list(types::unit())];
    let names = ["&str", "&[u8]", "List<T>"];
    assert_eq!(rows.len(), all.len());
    for ((row, ty), name) in rows.iter().zip(all).zip(names) {
        assert_eq!(row[0], name);
        assert_eq!((number(&row[1]), number(&row[2])), ty.layout());
    }
    let contract = Contract::read(Bytes::CONTRACT).unwrap();
    let shown = contract.to_string();
    assert!(shown.contains("value: ForeignPacked<List<Cell>>"), "{shown}");
    assert!(shown.contains("value: ForeignPacked<List<(&str, u16)>>"), "{shown}");
    let layouts = contract.types().map(|of| (of.to_string(), of.fields().len()));
    assert!(layouts.into_iter().any(|of| of == ("Entry".into(), 4)), "{shown}");
}

/// ABI, Packed values PK-4 and PK-5, Checks C-7: every change of a length, a count or a value that is no packed value any
/// more is refused, and whatever is left or missing.
#[test]
fn bytes_that_are_no_packed_value_are_refused() {
    type Call = fn(UnpackedClient<'_>, &[u8]) -> Result<u64, CallError>;
    let pair = Loopback::new(Bytes, Bytes).unwrap();
    let refused = |call: Call, bytes: &[u8], why: &str| {
        for peer in [pair.host(), pair.guest()] {
            let result = call(UnpackedClient::from(peer), bytes);
            assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::BadValue), "{why}");
        }
    };
    let set = |bytes: &[u8], at: usize, word: u64| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        bytes
    };
    let calls: [(Call, Vec<u8>, &[usize]); 4] = [
        (|client, bytes| client.pairs(bytes), example(), &[0, 8, 16, 34]),
        (|client, bytes| client.entry(bytes), entry(), &[0, 24, 32, 42, 53]),
        (|client, bytes| client.cells(bytes), cells(), &[0, 8, 56]),
        (|client, bytes| client.deep(bytes), words(&[1, 32, 1, 16, 2, 0]), &[0, 8, 16, 24, 32]),
    ];
    let (call, empty_rows, _) = &calls[3];
    // Two inner lists in 0 bytes: refused by their count.
    refused(*call, empty_rows, "elements without bytes");
    for (call, right, places) in &calls[..3] {
        for end in 0..right.len() {
            refused(*call, &right[..end], "cut off");
        }
        let longer = [&right[..], &[0]].concat();
        refused(*call, &longer, "a byte behind");
        for at in *places {
            let old = u64::from_le_bytes(right[*at..at + 8].try_into().unwrap());
            for wrong in
                [old.wrapping_sub(1), old + 1, old + 8, 1 << 31, 1 << 32, 1 << 63, u64::MAX]
            {
                refused(*call, &set(right, *at, wrong), &format!("{wrong} for {old} at {at}"));
            }
        }
    }
    let flags: Call = |client, bytes| client.flags(bytes);
    // A count beyond the bytes, without any bytes: no loop of as many rounds.
    for count in [1, u64::MAX / 2, u64::MAX] {
        refused(flags, &words(&[count, 0]), "a count without bytes");
    }
    refused(flags, &[&words(&[0, 1])[..], &[0]].concat(), "bytes without a count");
    refused(flags, &[&words(&[2, 2])[..], &[1, 2]].concat(), "no bool");
    let (pairs, right) = (calls[0].0, &calls[0].1);
    let mut text = right.clone();
    text[32] = 0xff;
    refused(pairs, &text, "no UTF-8");
    let (call, right) = (calls[1].0, &calls[1].1);
    refused(call, &set(right, 16, 2), "the tag of an option");
    let (call, right) = (calls[2].0, &calls[2].1);
    refused(call, &set(right, 16, 2), "no variant");

    // What is ignored: padding, and the value of a `None` (C-8).
    let mut padded = example();
    padded[26..32].fill(0xff);
    let client = UnpackedClient::from(pair.host());
    assert_eq!(client.pairs(&padded), Ok(1));
    assert_eq!(client.entry(&set(&entry(), 16, 0xffff_ffff_0000_0000)), Ok(1));
}

/// Takes bytes from the beginning.
fn take<'b>(data: &mut &'b [u8], len: u64) -> Option<&'b [u8]> {
    let (taken, rest) = data.split_at_checked(usize::try_from(len).ok()?)?;
    *data = rest;
    Some(taken)
}

fn number_at(fixed: &[u8], at: u64, size: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes[..size as usize].copy_from_slice(fixed.get(at as usize..(at + size) as usize)?);
    Some(u64::from_le_bytes(bytes))
}

/// Whether a fixed part and its data are a value of a type, by the words of PK-2 to PK-5 alone.
fn valid(ty: &Type, fixed: &[u8], data: &mut &[u8]) -> Option<()> {
    let (size, _) = ty.layout();
    let fixed = fixed.get(..size as usize)?;
    let fields = |start, fields: &[hash::Field], data: &mut &[u8]| {
        let (offsets, ..) = hash::place(start, fields);
        fields
            .iter()
            .zip(offsets)
            .try_for_each(|((_, ty), at)| valid(ty, &fixed[at as usize..], data))
    };
    match ty {
        Type::Named("&str", ..) => {
            let text = take(data, number_at(fixed, 0, 8)?)?;
            std::str::from_utf8(text).ok().map(drop)
        }
        Type::Named("&[u8]", ..) => take(data, number_at(fixed, 0, 8)?).map(drop),
        Type::Named(..) => Some(()),
        Type::List(of) => {
            let (count, mut all) = (number_at(fixed, 0, 8)?, take(data, number_at(fixed, 8, 8)?)?);
            for _ in 0..count {
                let fixed = take(&mut all, of.layout().0)?;
                valid(of, fixed, &mut all)?;
            }
            all.is_empty().then_some(())
        }
        Type::Option(of) => match number_at(fixed, 0, 4)? {
            0 => Some(()),
            1 => valid(of, &fixed[hash::up(4, of.layout().1) as usize..], data),
            _ => None,
        },
        Type::Struct(_, list) => fields((0, 1), list, data),
        Type::Enum(_, repr, variants) => {
            let tag = number_at(fixed, 0, repr.layout().0)?;
            let (.., list) = variants.iter().find(|(_, number, _)| *number as u64 == tag)?;
            fields(repr.layout(), list, data)
        }
        _ => unreachable!("not in these types"),
    }
}

#[derive(Clone, Debug)]
enum Change {
    Byte(Index, u8),
    Bit(Index, u8),
    Word(Index, u64),
    Cut(Index),
    Insert(Index, Vec<u8>),
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        match self {
            _ if bytes.is_empty() => {}
            Self::Byte(at, byte) => *at.get_mut(bytes) = *byte,
            Self::Bit(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
            Self::Word(at, word) => {
                let at = at.index(bytes.len());
                let len = (bytes.len() - at).min(8);
                bytes[at..at + len].copy_from_slice(&word.to_le_bytes()[..len]);
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (index(), 0..8_u8).prop_map(|(at, bit)| Change::Bit(at, bit)),
        (index(), prop_oneof![0..70_u64, any::<u64>()])
            .prop_map(|(at, word)| Change::Word(at, word)),
        index().prop_map(Change::Cut),
        (index(), vec(prop_oneof![Just(0), any::<u8>()], 1..20))
            .prop_map(|(at, more)| Change::Insert(at, more)),
    ]
}

/// ABI, Packed values PK-4 and PK-5: a handler, a caller and a call that is not declared accept what the document's words
/// accept, and nothing else.
#[test]
fn exactly_packed_values_are_accepted() {
    let pair = Loopback::new(Bytes, Bytes).unwrap();
    let contract = Contract::read(Bytes::CONTRACT).unwrap();
    let cases = [
        (types::entry(), entry(), "back_entry"),
        (types::list(types::cell()), cells(), "back_cells"),
    ];
    let seen = Mutex::new([0, 0]);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) };
    proptest!(config, |(nth in 0..2_usize, changes in vec(change(), 0..4), host in any::<bool>())| {
        let (ty, right, back) = &cases[nth];
        let mut bytes = right.clone();
        changes.iter().for_each(|change| change.make(&mut bytes));
        let mut data = &bytes[..];
        let fixed = take(&mut data, ty.layout().0);
        let fixed = fixed.and_then(|fixed| valid(ty, fixed, &mut data));
        let expected = fixed.is_some() && data.is_empty();
        seen.lock().unwrap()[usize::from(expected)] += 1;

        let peer = if host { pair.host() } else { pair.guest() };
        let client = UnpackedClient::from(peer);
        let results = [
            [client.entry(&bytes), client.back_entry(&bytes).and_then(|entry| entry.read().map(|_| 1))],
            [client.cells(&bytes), client.back_cells(&bytes).and_then(|cells| cells.read().map(|_| 1))],
        ];
        for result in &results[nth] {
            let kind = result.as_ref().map_err(CallError::kind);
            prop_assert_eq!(kind, if expected { Ok(&1) } else { Err(ErrorKind::BadValue) });
        }
        let back = contract.served("Unpacked", back).unwrap();
        let value = peer.call_dynamic(back, &[Value::from(&bytes[..])]);
        prop_assert_eq!(value.is_ok(), expected, "{:?}", value);
    });
    let [bad, good] = *seen.lock().unwrap();
    assert!(bad > 300 && good > 300, "{bad} bad and {good} good");
}

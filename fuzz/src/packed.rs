//! The bytes of a packed value, chosen by the peer, against a decoder that is written from the document (ABI, "Packed
//! values").

use vmffi::{
    CallError, ErrorKind, ForeignBuf, ForeignPacked, List, Packed, Peer, Serve, SharedBuf,
    SharedPacked, contract::Contract, dynamic::Value, loopback::Loopback,
};

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Colour: u8 { Red, Green = 7 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Cell<'a>: i16 { Null = -1, Text(&'a str) = 1, Both { flag: bool, bytes: &'a [u8], more: Option<u32> } }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Row<'a> {
        name: &'a str,
        colour: Colour,
        cells: List<'a, Cell<'a>>,
        pair: (u8, Option<&'a [u8]>),
        flags: List<'a, bool>,
        two: [&'a str; 2],
        nested: List<'a, List<'a, u16>>,
        last: u8,
    }

    /// A parameter and a result of the interface that `host` and `guest` attack.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Note<'a> { text: &'a str, flags: List<'a, bool>, nr: u16 }

    pub interface Packs {
        fn row(bytes: ForeignBuf) -> ForeignPacked<Row>;
        fn rows(bytes: ForeignBuf) -> ForeignPacked<List<Row>>;
        fn cells(bytes: ForeignBuf) -> ForeignPacked<List<Cell>>;
    }
}

struct Server;

/// Reads the bytes as a value and packs it again, or passes them on as they are if they are none.
macro_rules! pass {
    ($($name:ident: $t:ty;)*) => {
        impl Packs for Server { $(
            fn $name(&self, peer: &Peer, bytes: ForeignBuf) -> Result<SharedPacked<$t>, CallError> {
                let sent = bytes.read_vec()?;
                match ForeignPacked::<$t>::from(bytes).read() {
                    Ok(value) => SharedPacked::copy_from(peer, &value),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::BadValue);
                        SharedBuf::copy_from(peer, &sent).map(SharedPacked::from)
                    }
                }
            }
        )* }
    };
}

pass! {
    row: Row<'static>;
    rows: List<'static, Row<'static>>;
    cells: List<'static, Cell<'static>>;
}

vmffi::serve!(Server: Packs);

/// A type, by the words of the document.
#[derive(Debug)]
pub enum Ty {
    /// Any bits are a value of so many bytes, which are the alignment too.
    Plain(usize),
    Bool,
    Text,
    Bytes,
    List(&'static Ty),
    Option(&'static Ty),
    /// A struct, a tuple or an array.
    Fields(&'static [Ty]),
    /// The size of the integer, and each variant's number and fields.
    Enum(usize, &'static [(u64, &'static [Ty])]),
}

/// What [`Note`] is.
pub const NOTE: Ty = Ty::Fields(&[Ty::Text, Ty::List(&Ty::Bool), Ty::Plain(2)]);

const CELL: Ty = Ty::Enum(
    2,
    &[(0xffff, &[]), (1, &[Ty::Text]), (2, &[Ty::Bool, Ty::Bytes, Ty::Option(&Ty::Plain(4))])],
);
const ROW: Ty = Ty::Fields(&[
    Ty::Text,
    Ty::Enum(1, &[(0, &[]), (7, &[])]),
    Ty::List(&CELL),
    Ty::Fields(&[Ty::Plain(1), Ty::Option(&Ty::Bytes)]),
    Ty::List(&Ty::Bool),
    Ty::Fields(&[Ty::Text, Ty::Text]),
    Ty::List(&Ty::List(&Ty::Plain(2))),
    Ty::Plain(1),
]);

/// Lays fields out behind what is there: their offsets, the size with padding, and the alignment (L-2).
fn place(mut end: usize, mut most: usize, fields: &[Ty]) -> (Vec<usize>, usize, usize) {
    let mut offsets = Vec::new();
    for field in fields {
        let (size, align) = field.layout();
        offsets.push(end.next_multiple_of(align));
        end = end.next_multiple_of(align) + size;
        most = most.max(align);
    }
    (offsets, end.next_multiple_of(most), most)
}

impl Ty {
    /// What a reader sees of all bytes of a block, if they are a value.
    pub fn seen(&self, mut bytes: &[u8]) -> Option<Vec<u8>> {
        let mut seen = Vec::new();
        let fixed = take(&mut bytes, self.layout().0 as u64)?;
        self.valid(fixed, &mut bytes, &mut seen)?;
        bytes.is_empty().then_some(seen)
    }

    fn layout(&self) -> (usize, usize) {
        match self {
            Self::Plain(size) => (*size, *size),
            Self::Bool => (1, 1),
            Self::Text | Self::Bytes => (8, 8),
            Self::List(_) => (16, 8),
            Self::Option(of) => {
                let (size, align) = of.layout();
                let align = align.max(4);
                ((4_usize.next_multiple_of(align) + size).next_multiple_of(align), align)
            }
            Self::Fields(fields) => {
                let (_, size, align) = place(0, 1, fields);
                (size, align)
            }
            Self::Enum(tag, variants) => {
                let all = variants.iter().map(|(_, fields)| place(*tag, *tag, fields));
                let (size, align) = all.fold((*tag, *tag), |(size, align), (_, end, most)| {
                    (size.max(end), align.max(most))
                });
                (size.next_multiple_of(align), align)
            }
        }
    }

    /// Whether a fixed part and its data are a value. Appends what a reader of it sees.
    fn valid(&self, fixed: &[u8], data: &mut &[u8], seen: &mut Vec<u8>) -> Option<()> {
        let word = |at: usize, size: usize| {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(fixed.get(at..at + size)?);
            Some(u64::from_le_bytes(bytes))
        };
        let mut fields = |start: usize, fields: &[Ty], data: &mut &[u8]| {
            let (offsets, ..) = place(start, start.max(1), fields);
            let mut all = fields.iter().zip(offsets);
            all.try_for_each(|(field, at)| field.valid(fixed.get(at..)?, data, seen))
        };
        match self {
            Self::Plain(size) => seen.extend(fixed.get(..*size)?),
            Self::Bool if word(0, 1)? > 1 => return None,
            Self::Bool => seen.push(fixed[0]),
            Self::Text => {
                let text = take(data, word(0, 8)?)?;
                std::str::from_utf8(text).ok()?;
                seen.extend(text);
            }
            Self::Bytes => seen.extend(take(data, word(0, 8)?)?),
            Self::List(of) => {
                let (count, mut all) = (word(0, 8)?, take(data, word(8, 8)?)?);
                for _ in 0..count {
                    let fixed = take(&mut all, of.layout().0 as u64)?;
                    of.valid(fixed, &mut all, seen)?;
                }
                return all.is_empty().then_some(());
            }
            Self::Option(of) => match word(0, 4)? {
                0 => {}
                1 => {
                    let at = 4_usize.next_multiple_of(of.layout().1);
                    of.valid(fixed.get(at..)?, data, seen)?;
                }
                _ => return None,
            },
            Self::Fields(all) => fields(0, all, data)?,
            Self::Enum(tag, variants) => {
                let number = word(0, *tag)?;
                let (_, all) = variants.iter().find(|(variant, _)| *variant == number)?;
                fields(*tag, all, data)?;
                seen.extend(number.to_le_bytes());
            }
        }
        Some(())
    }
}

fn take<'b>(data: &mut &'b [u8], len: u64) -> Option<&'b [u8]> {
    let (taken, rest) = data.split_at_checked(usize::try_from(len).ok()?)?;
    *data = rest;
    Some(taken)
}

/// What a reader sees of a value, as [`Ty::valid`] shows it.
pub trait Look {
    fn look(&self, seen: &mut Vec<u8>);
}

impl Look for Cell<'_> {
    fn look(&self, seen: &mut Vec<u8>) {
        let number = match *self {
            Self::Null => 0xffff,
            Self::Text(text) => {
                seen.extend(text.bytes());
                1
            }
            Self::Both { flag, bytes, more } => {
                seen.push(flag.into());
                seen.extend(bytes);
                seen.extend(more.into_iter().flat_map(u32::to_le_bytes));
                2
            }
        };
        seen.extend(u64::to_le_bytes(number));
    }
}

impl Look for Note<'_> {
    fn look(&self, seen: &mut Vec<u8>) {
        seen.extend(self.text.bytes());
        seen.extend(self.flags.iter().map(u8::from));
        seen.extend(self.nr.to_le_bytes());
    }
}

impl Look for Row<'_> {
    fn look(&self, seen: &mut Vec<u8>) {
        seen.extend(self.name.bytes());
        seen.extend((self.colour as u64).to_le_bytes());
        self.cells.look(seen);
        seen.push(self.pair.0);
        seen.extend(self.pair.1.unwrap_or_default());
        seen.extend(self.flags.iter().map(u8::from));
        self.two.iter().for_each(|text| seen.extend(text.bytes()));
        seen.extend(self.nested.iter().flatten().flat_map(u16::to_le_bytes));
        seen.push(self.last);
    }
}

impl<'a, T: Packed<View<'a>: Look>> Look for List<'a, T> {
    fn look(&self, seen: &mut Vec<u8>) {
        assert_eq!(self.iter().count(), self.len());
        self.iter().for_each(|element| element.look(seen));
    }
}

fn check<T>(
    ty: &Ty,
    bytes: &[u8],
    peer: &Peer,
    name: &str,
    call: fn(PacksClient<'_>, &[u8]) -> Result<ForeignPacked<T>, CallError>,
) where
    T: Packed,
    for<'v> T::View<'v>: Look + PartialEq + std::fmt::Debug,
{
    let right = ty.seen(bytes);
    let (valid, right) = (right.is_some(), right.unwrap_or_default());

    let back = call(PacksClient::from(peer), bytes).expect("an honest call");
    assert_eq!(back.byte_len(), bytes.len(), "what is packed again is as long");
    let mut local = vec![0; back.byte_len()];
    match (back.read(), back.read_into(&mut local)) {
        (Ok(value), Ok(same)) => {
            assert!(valid, "accepted: {value:?}");
            let mut seen = [Vec::new(), Vec::new()];
            value.look(&mut seen[0]);
            same.look(&mut seen[1]);
            assert_eq!(seen, [right.clone(), right]);
        }
        (Err(error), Err(same)) => {
            assert!(!valid, "refused");
            assert_eq!([error.kind(), same.kind()], [ErrorKind::BadValue; 2]);
        }
        (read, into) => panic!("{:?} and {:?}", read.map(drop), into.map(drop)),
    }
    let contract = Contract::read(Server::CONTRACT).expect("this side's own");
    let function = contract.served("Packs", name).expect("it is served");
    let value = peer.call_dynamic(function, &[Value::from(bytes)]);
    assert_eq!(value.is_ok(), valid, "{value:?}");
}

/// The first byte chooses a type and a side, the others are the value.
pub fn run(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    let pair = Loopback::builder().arenas(1 << 16, 1 << 16).build(Server, Server);
    let pair = pair.expect("two sides that fit");
    let peer = if choice & 1 == 0 { pair.host() } else { pair.guest() };
    if bytes.len() < 8192 {
        match choice / 2 % 3 {
            0 => check::<Row<'_>>(&ROW, bytes, peer, "row", |client, bytes| client.row(bytes)),
            1 => {
                check::<List<'_, Row<'_>>>(&Ty::List(&ROW), bytes, peer, "rows", |client, bytes| {
                    client.rows(bytes)
                })
            }
            _ => check::<List<'_, Cell<'_>>>(
                &Ty::List(&CELL),
                bytes,
                peer,
                "cells",
                |client, bytes| client.cells(bytes),
            ),
        }
    }
    for peer in [pair.host(), pair.guest()] {
        assert_eq!(peer.arena_stats().blocks, 0, "everything is released");
    }
}

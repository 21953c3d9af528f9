//! Packed values: lists of records with text, requests with everything in them, rows of columns.

use alloc::{format, vec, vec::Vec};
use core::time::Duration;

use vmffi::{
    CallError, ErrorKind, Failure, ForeignList, ForeignPacked, ForeignStr, List, Peer, SharedList,
    SharedPacked, SharedStr,
};

use super::{Check, Side};

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Entry<'a> { name: &'a str, target: &'a str, size: u64, modified: i64, mode: u32 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Header<'a> { name: &'a str, value: &'a [u8] }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Method: u8 { Get, Post = 7 }

    #[derive(Debug, PartialEq)]
    pub struct Request<'a> {
        method: Method,
        path: &'a str,
        headers: List<'a, Header<'a>>,
        body: &'a [u8],
        etag: Option<&'a str>,
        timeout: Option<Duration>,
        pair: (&'a str, u8),
        both: [&'a [u8]; 2],
        codes: List<'a, u16>,
        flags: List<'a, bool>,
        nested: List<'a, List<'a, &'a str>>,
        first: Option<Header<'a>>,
        #[cfg(any())]
        absent: NoSuchType,
        last: u8,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Cell<'a>: i16 { Null = -1, Int(i64), Text(&'a str) = 9, Both { key: &'a str, value: &'a [u8] } }

    /// A packed value among handles.
    pub struct Envelope { id: u32, rows: ForeignPacked<List<'static, List<'static, Cell<'static>>>> }

    pub interface Packs {
        fn read_dir(path: ForeignStr, count: u32) -> ForeignList<Entry>;
        fn serve(request: ForeignPacked<Request>) -> ForeignPacked<Request>;
        fn rows(rows: ForeignPacked<List<List<Cell>>>, more: Option<ForeignPacked<Cell<'static>>>) -> Envelope;
        fn sum(numbers: ForeignList<u32>) -> Result<u64, ForeignStr>;
        fn one(value: ForeignPacked<u32>) -> u32;
        fn text(value: ForeignPacked<&str>) -> ForeignPacked<&str>;
    }
}

impl<S: Side> Packs for S {
    fn read_dir(
        &self,
        peer: &Peer,
        path: ForeignStr,
        count: u32,
    ) -> Result<SharedList<Entry<'_>>, CallError> {
        let path = path.read_string()?;
        let mut list = SharedList::new(peer)?;
        for nr in 0..count {
            list.push(&Entry {
                name: &format!("{path}/{nr}"),
                target: "",
                size: nr.into(),
                modified: -1,
                mode: 0o644,
            })?;
        }
        Ok(list)
    }

    fn serve(
        &self,
        peer: &Peer,
        request: ForeignPacked<Request>,
    ) -> Result<SharedPacked<Request<'_>>, CallError> {
        SharedPacked::copy_from(peer, &request.read()?)
    }

    fn rows(
        &self,
        peer: &Peer,
        rows: ForeignPacked<List<List<Cell>>>,
        more: Option<ForeignPacked<Cell>>,
    ) -> Result<SharedEnvelope, CallError> {
        let mut all: Vec<Vec<Cell>> = rows.read()?.iter().map(|row| row.iter().collect()).collect();
        if let Some(more) = &more {
            all.push(vec![more.read()?]);
        }
        let lists: Vec<List<Cell>> = all.iter().map(List::from).collect();
        let rows = SharedPacked::copy_from(peer, &List::from(&lists))?;
        Ok(SharedEnvelope { id: all.len() as u32, rows })
    }

    fn sum(&self, peer: &Peer, numbers: ForeignList<u32>) -> Result<u64, Failure<SharedStr>> {
        match numbers.read()?.iter().map(u64::from).sum() {
            0 => Err(Failure::App(SharedStr::copy_from(peer, "nothing")?)),
            sum => Ok(sum),
        }
    }

    fn one(&self, _: &Peer, value: ForeignPacked<u32>) -> Result<u32, CallError> {
        value.read()
    }

    fn text(
        &self,
        peer: &Peer,
        value: ForeignPacked<&str>,
    ) -> Result<SharedPacked<&'static str>, CallError> {
        // Without a heap: into memory of the caller's.
        let mut local = [0; 64];
        SharedPacked::copy_from(peer, &value.read_into(&mut local)?)
    }
}

const HEADERS: &[Header<'_>] =
    &[Header { name: "Host", value: b"a.example" }, Header { name: "", value: b"\xff\0" }];

/// A request with something in every field.
pub const REQUEST: Request<'_> = Request {
    method: Method::Post,
    path: "/\u{fc}",
    headers: List::new(HEADERS),
    body: b"0123",
    etag: Some("v1"),
    timeout: Some(Duration::from_millis(1500)),
    pair: ("left", 9),
    both: [b"", b"x"],
    codes: List::new(&[1, 2, u16::MAX]),
    flags: List::new(&[true, false]),
    nested: List::new(&[List::new(&[]), List::new(&["a", "b"]), List::new(&[""])]),
    first: Some(HEADERS[0]),
    last: 255,
};

/// A request with nothing in any field.
const NOTHING: Request<'_> = Request {
    method: Method::Get,
    path: "",
    headers: List::new(&[]),
    body: b"",
    etag: None,
    timeout: None,
    pair: ("", 0),
    both: [b"", b""],
    codes: List::new(&[]),
    flags: List::new(&[]),
    nested: List::new(&[]),
    first: None,
    last: 0,
};

pub const CHECKS: &[Check] = &[
    ("a_list_of_records_with_text", |peer| {
        let client = PacksClient::from(peer);
        let list = client.read_dir("tmp", 1000).unwrap();
        let entries = list.read().unwrap();
        assert_eq!((entries.len(), entries.iter().len()), (1000, 1000));
        for (nr, entry) in entries.iter().enumerate() {
            assert_eq!(entry.name, format!("tmp/{nr}"));
            assert_eq!((entry.target, entry.size, entry.modified), ("", nr as u64, -1));
        }
        // The same value again, and into memory of the caller's.
        assert_eq!(list.read(), Ok(entries));
        let mut local = vec![0; list.byte_len()];
        assert_eq!(list.read_into(&mut local), Ok(entries));
        let error = list.read_into(&mut local[1..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        let none = client.read_dir("", 0).unwrap();
        assert!(none.read().unwrap().is_empty() && none.read().unwrap().first().is_none());
    }),
    ("every_type_that_can_be_packed", |peer| {
        let client = PacksClient::from(peer);
        for request in [REQUEST, NOTHING] {
            let same = client.serve(&request).unwrap();
            assert_eq!(same.read().unwrap(), request);
            // What was received is sent as it is.
            let again = client.serve(&same.read().unwrap()).unwrap();
            assert_eq!(again.read().unwrap(), request);
            let shared = SharedPacked::copy_from(peer, &request).unwrap();
            assert_eq!(shared.byte_len(), again.byte_len());
            assert_eq!(client.serve(shared).unwrap().read().unwrap(), request);
        }
        assert_eq!(client.one(&7_u32), Ok(7));
        let text = client.text(&"\u{fc}ber").unwrap();
        assert_eq!(text.read(), Ok("\u{fc}ber"));
    }),
    ("rows_of_columns", |peer| {
        let client = PacksClient::from(peer);
        let rows = [
            List::from(&[Cell::Null, Cell::Int(-5), Cell::Text("t")]),
            List::new(&[]),
            List::from(&[Cell::Both { key: "k", value: b"v" }, Cell::Text("")]),
        ];
        let envelope = client.rows(&List::from(&rows), Some(&Cell::Text("more"))).unwrap();
        assert_eq!(envelope.id, 4);
        let received = envelope.rows.read().unwrap();
        for (received, sent) in received.iter().zip(&rows) {
            assert_eq!(received, *sent);
        }
        assert_eq!(received.iter().last().unwrap().first(), Some(Cell::Text("more")));
        let envelope = client.rows(&List::from(&rows[1..2]), None::<&Cell<'_>>).unwrap();
        assert_eq!(envelope.rows.read(), Ok(List::from(&rows[1..2])));
    }),
    ("lists_of_numbers", |peer| {
        let client = PacksClient::from(peer);
        let sum = client.sum(&[1_u32, 2, u32::MAX][..]).unwrap();
        assert_eq!(sum, 3 + u64::from(u32::MAX));
        let Err(Failure::App(why)) = client.sum(&List::<u32>::default()) else {
            panic!("it fails")
        };
        assert_eq!(why.read_into(&mut [0; 64]), Ok("nothing"));
    }),
];

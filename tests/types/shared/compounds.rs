//! Arrays and tuples with handles, in every position where a struct with handles may be, and types that cross as
//! another one, alone.

use core::num::{NonZeroI64, NonZeroU128};

use vmffi::{
    CallError, ErrorKind, Failure, Foreign, ForeignBuf, ForeignSlice, ForeignStr, Peer, Shared,
    SharedBuf, SharedSlice, SharedStr,
};

use super::{
    Check, Side,
    plain::{Checked, Percent, padded},
};

vmffi::ffi_interface! {
    #[derive(Debug)]
    pub struct Entry { name: ForeignStr, times: [u64; 2], places: ([ForeignBuf; 2], Option<(u8, ForeignStr)>) }

    pub interface Compounds {
        fn texts(texts: [ForeignStr; 3]) -> [ForeignStr; 3];
        fn none(texts: [ForeignStr; 0]) -> [ForeignStr; 0];
        fn pair(before: u8, pair: (ForeignBuf, u16, ForeignSlice<u32>)) -> (ForeignSlice<u32>, ForeignBuf);
        fn options(texts: [Option<ForeignStr>; 3], more: Option<[ForeignBuf; 2]>) -> Option<[ForeignBuf; 2]>;
        fn entries(entries: [Entry; 2]) -> (u64, Entry);
        fn result(fail: bool) -> Result<[Foreign<u128>; 2], (i8, ForeignStr)>;
    }

    /// On the wire these are the types that they cross as.
    pub interface Converted {
        fn percent(value: Percent) -> Percent;
        fn not_zero(value: NonZeroI64) -> NonZeroI64;
        fn wide(value: NonZeroU128) -> Option<NonZeroU128>;
        fn checked(value: Checked) -> Result<Checked, Percent>;
    }
}

impl<S: Side> Converted for S {
    fn percent(&self, _: &Peer, value: Percent) -> Result<Percent, CallError> {
        // Numbers from 51 on have no value.
        Ok(Percent(value.0 * 2))
    }

    fn not_zero(&self, _: &Peer, value: NonZeroI64) -> Result<NonZeroI64, CallError> {
        Ok(value)
    }

    fn wide(&self, _: &Peer, value: NonZeroU128) -> Result<Option<NonZeroU128>, CallError> {
        Ok(Some(value))
    }

    fn checked(&self, _: &Peer, value: Checked) -> Result<Checked, Failure<Percent>> {
        if value.0.a == 0 { Err(Percent(value.0.b as u8).into()) } else { Ok(value) }
    }
}

fn text(peer: &Peer, text: &ForeignStr) -> Result<SharedStr, CallError> {
    let mut local = [0; 64];
    SharedStr::copy_from(peer, text.read_into(&mut local)?)
}

fn buf(peer: &Peer, buf: &ForeignBuf) -> Result<SharedBuf, CallError> {
    let mut local = [0; 64];
    SharedBuf::copy_from(peer, buf.read_into(&mut local)?)
}

/// The sender's entry, made from one that was received.
fn again(peer: &Peer, entry: &Entry) -> Result<SharedEntry, CallError> {
    let ([a, b], more) = &entry.places;
    let more = match more {
        Some((nr, name)) => Some((*nr, text(peer, name)?)),
        None => None,
    };
    let places = ([buf(peer, a)?, buf(peer, b)?], more);
    Ok(SharedEntry { name: text(peer, &entry.name)?, times: entry.times, places })
}

impl<S: Side> Compounds for S {
    fn texts(&self, peer: &Peer, [a, b, c]: [ForeignStr; 3]) -> Result<[SharedStr; 3], CallError> {
        Ok([text(peer, &c)?, text(peer, &b)?, text(peer, &a)?])
    }

    fn none(&self, _: &Peer, _: [ForeignStr; 0]) -> Result<[SharedStr; 0], CallError> {
        Ok([])
    }

    fn pair(
        &self,
        peer: &Peer,
        before: u8,
        (bytes, nr, numbers): (ForeignBuf, u16, ForeignSlice<u32>),
    ) -> Result<(SharedSlice<u32>, SharedBuf), CallError> {
        assert_eq!((before, nr), (1, 0xfffe));
        let mut local = [0; 9];
        Ok((SharedSlice::copy_from(peer, numbers.read_into(&mut local)?)?, buf(peer, &bytes)?))
    }

    fn options(
        &self,
        peer: &Peer,
        texts: [Option<ForeignStr>; 3],
        more: Option<[ForeignBuf; 2]>,
    ) -> Result<Option<[SharedBuf; 2]>, CallError> {
        let [a, b, c] = &texts;
        assert!(a.is_none() && c.is_none());
        assert_eq!(b.as_ref().map(ForeignStr::len), Some(0));
        more.map(|[a, b]| Ok([buf(peer, &b)?, buf(peer, &a)?])).transpose()
    }

    fn entries(
        &self,
        peer: &Peer,
        [first, second]: [Entry; 2],
    ) -> Result<(u64, SharedEntry), CallError> {
        Ok((first.times[1], again(peer, &second)?))
    }

    fn result(
        &self,
        peer: &Peer,
        fail: bool,
    ) -> Result<[Shared<u128>; 2], Failure<(i8, SharedStr)>> {
        if fail {
            return Err((-3, SharedStr::copy_from(peer, "why")?).into());
        }
        Ok([Shared::new(peer, 1)?, Shared::new(peer, u128::MAX)?])
    }
}

fn is(text: &ForeignStr, right: &str) {
    assert_eq!(text.read_into(&mut [0; 64]), Ok(right));
}

fn bytes_are(buf: &ForeignBuf, right: &[u8]) {
    assert_eq!(buf.read_into(&mut [0; 64]).as_deref(), Ok(right));
}

pub const CHECKS: &[Check] = &[
    ("arrays_and_tuples_with_handles", |peer| {
        let client = CompoundsClient::from(peer);
        let [a, b, c] = client.texts(["one", "", "three"]).unwrap();
        is(&a, "three");
        is(&b, "");
        is(&c, "one");
        let shared = |text| SharedStr::copy_from(peer, text).unwrap();
        let [a, ..] = client.texts([shared("x"), shared("y"), shared("z")]).unwrap();
        is(&a, "z");
        assert_eq!(client.none([""; 0]).map(|none| none.len()), Ok(0));

        let (numbers, bytes) = client.pair(1, (b"bytes", 0xfffe, &[1, 2, u32::MAX])).unwrap();
        assert_eq!(numbers.read_into(&mut [0; 9]).as_deref(), Ok(&[1, 2, u32::MAX][..]));
        bytes_are(&bytes, b"bytes");

        let texts = || [None, Some(""), None];
        assert!(client.options(texts(), None::<[&[u8]; 2]>).unwrap().is_none());
        let [a, b] = client.options(texts(), Some([b"first", b"other"])).unwrap().unwrap();
        bytes_are(&a, b"other");
        bytes_are(&b, b"first");

        let entry = |nr: u64, more| {
            let bytes = |bytes: &[u8]| SharedBuf::copy_from(peer, bytes).unwrap();
            SharedEntry {
                name: shared("name"),
                times: [nr, nr + 1],
                places: ([bytes(b"a"), bytes(b"")], more),
            }
        };
        let entries = [entry(1, None), entry(7, Some((9, shared("more"))))];
        let (time, entry) = client.entries(entries).unwrap();
        assert_eq!((time, entry.times), (2, [7, 8]));
        is(&entry.name, "name");
        let ([a, b], Some((9, more))) = &entry.places else { panic!("the option was there") };
        bytes_are(a, b"a");
        bytes_are(b, b"");
        is(more, "more");

        let [one, most] = client.result(false).unwrap();
        assert_eq!((one.read(), most.read()), (Ok(1), Ok(u128::MAX)));
        let Err(Failure::App((-3, why))) = client.result(true) else { panic!("it fails") };
        is(&why, "why");
    }),
    ("types_that_cross_as_others", |peer| {
        let client = ConvertedClient::from(peer);
        assert_eq!(client.percent(Percent(50)), Ok(Percent(100)));
        let refused = |value, reached| {
            let error = client.percent(Percent(value)).unwrap_err();
            assert_eq!((error.kind(), error.reached()), (ErrorKind::BadValue, reached), "{value}");
        };
        refused(101, false);
        refused(u8::MAX, false);
        refused(51, true);
        for value in [NonZeroI64::MIN, NonZeroI64::MAX] {
            assert_eq!(client.not_zero(value), Ok(value));
        }
        assert_eq!(client.wide(NonZeroU128::MAX), Ok(Some(NonZeroU128::MAX)));
        assert_eq!(client.checked(Checked(padded())), Ok(Checked(padded())));
        let mut other = padded();
        (other.a, other.b) = (0, 7);
        assert_eq!(client.checked(Checked(other.clone())), Err(Failure::App(Percent(7))));
        other.b = 200;
        assert!(matches!(client.checked(Checked(other.clone())), Err(Failure::Call(_))));
        other.e = false;
        assert!(matches!(client.checked(Checked(other)), Err(Failure::Call(_))));
    }),
];

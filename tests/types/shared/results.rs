//! `Result<T, E>` with several types `T` and `E`: equal on both ends.

use vmffi::{
    CallError, ErrorKind, Failure, Foreign, ForeignBuf, ForeignSlice, ForeignStr, Peer, Shared,
    SharedBuf, SharedSlice, SharedStr,
};

use super::{Check, Side};

vmffi::ffi_interface! {
    #[derive(Clone, Debug, PartialEq)]
    pub struct Place { line: u32, column: u16 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Kind: i8 { Worst = -128, Bad = -1, Odd = 5 }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Detail: u32 { Unknown, At { place: Place, kind: Kind } }

    #[derive(Debug)]
    pub struct Report { code: u8, text: ForeignStr, more: Option<ForeignBuf> }

    pub interface Fallible {
        fn nothing_or_nothing(fail: bool) -> Result<(), ()>;
        fn nothing_or_number(fail: bool) -> Result<(), i16>;
        fn number_or_enum(fail: bool) -> Result<i64, Kind>;
        fn bytes_or_enum(fail: bool) -> Result<ForeignBuf, Detail>;
        fn struct_or_struct(fail: bool) -> Result<Place, Place>;
        fn text_or_text(fail: bool) -> Result<ForeignStr, ForeignStr>;
        fn slice_or_report(fail: bool) -> Result<ForeignSlice<Place>, Report>;
        fn report_or_foreign(fail: bool) -> Result<Report, Foreign<Place>>;
        fn option_or_option(nr: u8) -> Result<Option<ForeignBuf>, Option<u32>>;
        fn wide_or_char(fail: bool) -> Result<u128, char>;
        fn consumes(fail: u8, bytes: ForeignBuf, text: ForeignStr) -> Result<u64, Kind>;
    }
}

const PLACE: Place = Place { line: 70_000, column: 3 };

fn report(peer: &Peer) -> Result<SharedReport, CallError> {
    let more = Some(SharedBuf::copy_from(peer, b"more")?);
    Ok(SharedReport { code: 9, text: SharedStr::copy_from(peer, "report")?, more })
}

impl<S: Side> Fallible for S {
    fn nothing_or_nothing(&self, _: &Peer, fail: bool) -> Result<(), Failure<()>> {
        if fail { Err(().into()) } else { Ok(()) }
    }
    fn nothing_or_number(&self, _: &Peer, fail: bool) -> Result<(), Failure<i16>> {
        if fail { Err((-5).into()) } else { Ok(()) }
    }
    fn number_or_enum(&self, _: &Peer, fail: bool) -> Result<i64, Failure<Kind>> {
        // `?` converts the declared error into a failure.
        let number = if fail { Err(Kind::Worst) } else { Ok(-1) };
        Ok(number?)
    }
    fn bytes_or_enum(&self, peer: &Peer, fail: bool) -> Result<SharedBuf, Failure<Detail>> {
        if fail {
            return Err(Detail::At { place: PLACE, kind: Kind::Bad }.into());
        }
        Ok(SharedBuf::copy_from(peer, b"bytes")?)
    }
    fn struct_or_struct(&self, _: &Peer, fail: bool) -> Result<Place, Failure<Place>> {
        if fail { Err(PLACE)? } else { Ok(Place { line: 1, column: 2 }) }
    }
    fn text_or_text(&self, peer: &Peer, fail: bool) -> Result<SharedStr, Failure<SharedStr>> {
        if fail {
            return Err(Failure::App(SharedStr::copy_from(peer, "bad")?));
        }
        Ok(SharedStr::copy_from(peer, "good")?)
    }
    fn slice_or_report(
        &self,
        peer: &Peer,
        fail: bool,
    ) -> Result<SharedSlice<Place>, Failure<SharedReport>> {
        if fail {
            return Err(Failure::App(report(peer)?));
        }
        Ok(SharedSlice::copy_from(peer, &[PLACE, PLACE])?)
    }
    fn report_or_foreign(
        &self,
        peer: &Peer,
        fail: bool,
    ) -> Result<SharedReport, Failure<Shared<Place>>> {
        if fail {
            return Err(Failure::App(Shared::new(peer, PLACE)?));
        }
        Ok(report(peer)?)
    }
    fn option_or_option(
        &self,
        peer: &Peer,
        nr: u8,
    ) -> Result<Option<SharedBuf>, Failure<Option<u32>>> {
        match nr {
            0 => Ok(None),
            1 => Ok(Some(SharedBuf::copy_from(peer, b"")?)),
            2 => Err(Failure::App(None)),
            nr => Err(Failure::App(Some(nr.into()))),
        }
    }
    fn wide_or_char(&self, _: &Peer, fail: bool) -> Result<u128, Failure<char>> {
        if fail { Err('✗'.into()) } else { Ok(u128::MAX) }
    }
    fn consumes(
        &self,
        _: &Peer,
        fail: u8,
        bytes: ForeignBuf,
        text: ForeignStr,
    ) -> Result<u64, Failure<Kind>> {
        match fail {
            0 => Ok((bytes.read_vec()?.len() + text.read_string()?.len()) as u64),
            1 => Err(Kind::Odd.into()),
            _ => Err(CallError::refused().into()),
        }
    }
}

#[track_caller]
fn came(report: &Report) {
    assert_eq!((report.code, report.text.read_string().unwrap().as_str()), (9, "report"));
    assert_eq!(report.more.as_ref().unwrap().read_vec().unwrap(), b"more");
}

pub const CHECKS: &[Check] = &[
    ("both_halves_of_a_result_cross", both_halves),
    ("a_failed_call_consumes_its_arguments", consumed),
];

fn both_halves(peer: &Peer) {
    let call = FallibleClient::from(peer);
    assert_eq!(call.nothing_or_nothing(false), Ok(()));
    assert_eq!(call.nothing_or_nothing(true), Err(Failure::App(())));
    assert_eq!(call.nothing_or_number(false), Ok(()));
    assert_eq!(call.nothing_or_number(true), Err(Failure::App(-5)));
    assert_eq!(call.number_or_enum(false), Ok(-1));
    assert_eq!(call.number_or_enum(true), Err(Failure::App(Kind::Worst)));
    assert_eq!(call.bytes_or_enum(false).unwrap().read_vec().unwrap(), b"bytes");
    let detail = Detail::At { place: PLACE, kind: Kind::Bad };
    assert_eq!(call.bytes_or_enum(true).unwrap_err().app(), Some(detail));
    assert_eq!(call.struct_or_struct(false), Ok(Place { line: 1, column: 2 }));
    assert_eq!(call.struct_or_struct(true), Err(Failure::App(PLACE)));
    assert_eq!(call.text_or_text(false).unwrap().read_string().unwrap(), "good");
    let text = call.text_or_text(true).unwrap_err().app().unwrap();
    assert_eq!(text.read_string().unwrap(), "bad");
    assert_eq!(call.slice_or_report(false).unwrap().read_vec().unwrap(), [PLACE, PLACE]);
    came(&call.slice_or_report(true).unwrap_err().app().unwrap());
    came(&call.report_or_foreign(false).unwrap());
    let foreign = call.report_or_foreign(true).unwrap_err().app().unwrap();
    assert_eq!(foreign.read(), Ok(PLACE));
    assert!(call.option_or_option(0).unwrap().is_none());
    assert!(call.option_or_option(1).unwrap().unwrap().is_empty());
    assert_eq!(call.option_or_option(2).unwrap_err(), Failure::App(None));
    assert_eq!(call.option_or_option(3).unwrap_err(), Failure::App(Some(3)));
    assert_eq!(call.wide_or_char(false), Ok(u128::MAX));
    assert_eq!(call.wide_or_char(true), Err(Failure::App('✗')));
}

fn consumed(peer: &Peer) {
    let before = peer.arena_stats();
    let call = FallibleClient::from(peer);
    assert_eq!(call.consumes(0, b"12", "345"), Ok(5));
    assert_eq!(call.consumes(1, b"12", "345"), Err(Failure::App(Kind::Odd)));
    let Err(Failure::Call(error)) = call.consumes(2, b"12", "345") else { panic!() };
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Refused, true));
    assert_eq!(peer.arena_stats(), before);
}

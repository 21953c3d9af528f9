//! `Option` of handles, alone and among others: `None`, `Some`, and `Some` of nothing.

use core::time::Duration;

use vmffi::{
    CallError, Foreign, ForeignBuf, ForeignSlice, ForeignStr, NONE, Peer, Shared, SharedBuf,
    SharedSlice, SharedStr,
};

use crate::both_ways;

vmffi::ffi_interface! {
    pub interface Echo {
        fn buf(value: Option<ForeignBuf>) -> Option<ForeignBuf>;
        fn text(value: Option<ForeignStr>) -> Option<ForeignStr>;
        fn slice(value: Option<ForeignSlice<i64>>) -> Option<ForeignSlice<i64>>;
        fn foreign(value: Option<Foreign<char>>) -> Option<Foreign<char>>;
        fn twice(value: Option<Option<ForeignBuf>>) -> Option<Option<ForeignBuf>>;
        fn thrice(value: Option<Option<Option<Foreign<u8>>>>) -> u8;
        fn among(nr: u8, one: Option<ForeignBuf>, two: Option<ForeignStr>, three: Option<Option<ForeignBuf>>) -> u8;
    }
}

struct Server;

fn again(peer: &Peer, value: &ForeignBuf) -> Result<SharedBuf, CallError> {
    SharedBuf::copy_from(peer, &value.read_vec()?)
}

impl Echo for Server {
    fn buf(&self, peer: &Peer, value: Option<ForeignBuf>) -> Result<Option<SharedBuf>, CallError> {
        value.map(|value| again(peer, &value)).transpose()
    }
    fn text(&self, peer: &Peer, value: Option<ForeignStr>) -> Result<Option<SharedStr>, CallError> {
        value.map(|value| SharedStr::copy_from(peer, &value.read_string()?)).transpose()
    }
    fn slice(
        &self,
        peer: &Peer,
        value: Option<ForeignSlice<i64>>,
    ) -> Result<Option<SharedSlice<i64>>, CallError> {
        value.map(|value| SharedSlice::copy_from(peer, &value.read_vec()?)).transpose()
    }
    fn foreign(
        &self,
        peer: &Peer,
        value: Option<Foreign<char>>,
    ) -> Result<Option<Shared<char>>, CallError> {
        value.map(|value| Shared::new(peer, value.read()?)).transpose()
    }
    fn twice(
        &self,
        peer: &Peer,
        value: Option<Option<ForeignBuf>>,
    ) -> Result<Option<Option<SharedBuf>>, CallError> {
        value.map(|value| value.map(|value| again(peer, &value)).transpose()).transpose()
    }
    fn thrice(
        &self,
        _: &Peer,
        value: Option<Option<Option<Foreign<u8>>>>,
    ) -> Result<u8, CallError> {
        Ok(match value {
            None => 0,
            Some(None) => 1,
            Some(Some(None)) => 2,
            Some(Some(Some(value))) => value.read()?,
        })
    }
    fn among(
        &self,
        _: &Peer,
        nr: u8,
        one: Option<ForeignBuf>,
        two: Option<ForeignStr>,
        three: Option<Option<ForeignBuf>>,
    ) -> Result<u8, CallError> {
        let one = u8::from(one.is_some());
        let two = u8::from(two.is_some());
        let three = u8::from(three.is_some()) + u8::from(three.flatten().is_some());
        Ok(nr + one + 2 * two + 4 * three)
    }
}

vmffi::serve!(Server: Echo, Counts);

#[test]
fn none_and_some_and_some_of_nothing_are_told_apart() {
    both_ways(
        || Server,
        |peer| {
            let echo = EchoClient::from(peer);
            for sent in [None, Some(""), Some("a text")] {
                let back = echo.text(sent).unwrap();
                assert_eq!(back.map(|text| text.read_string().unwrap()).as_deref(), sent);
                let bytes = sent.map(str::as_bytes);
                let back = echo.buf(bytes).unwrap();
                assert_eq!(back.map(|buf| buf.read_vec().unwrap()).as_deref(), bytes);
                let shared = bytes.map(|bytes| SharedBuf::copy_from(peer, bytes).unwrap());
                let back = echo.buf(shared).unwrap();
                assert_eq!(back.map(|buf| buf.len()), bytes.map(<[u8]>::len));
            }
            for sent in [None, Some(&[][..]), Some(&[-1, i64::MIN])] {
                let back = echo.slice(sent).unwrap();
                assert_eq!(back.map(|slice| slice.read_vec().unwrap()).as_deref(), sent);
            }
            for sent in [None, Some('\0'), Some(char::MAX)] {
                let back = echo.foreign(sent.map(|sent| Shared::new(peer, sent).unwrap())).unwrap();
                assert_eq!(back.map(|back| back.read().unwrap()), sent);
            }
        },
    );
}

#[test]
fn options_of_options_keep_their_depth() {
    both_ways(
        || Server,
        |peer| {
            let echo = EchoClient::from(peer);
            for sent in [None, Some(None), Some(Some(&b""[..])), Some(Some(b"bytes"))] {
                let back = echo.twice(sent).unwrap();
                let back = back.map(|back| back.map(|back| back.read_vec().unwrap()));
                assert_eq!(back.as_ref().map(|back| back.as_deref()), sent);
            }
            type Thrice = Option<Option<Option<Shared<u8>>>>;
            assert_eq!(echo.thrice(None as Thrice), Ok(0));
            assert_eq!(echo.thrice(Some(None) as Thrice), Ok(1));
            assert_eq!(echo.thrice(NONE), Ok(0));
            assert_eq!(echo.thrice(Some(NONE)), Ok(1));
            assert_eq!(echo.thrice(Some(Some(NONE))), Ok(2));
            assert_eq!(echo.thrice(Some(Some(None)) as Thrice), Ok(2));
            let value = Shared::new(peer, 77_u8).unwrap();
            assert_eq!(echo.thrice(Some(Some(Some(value)))), Ok(77));
        },
    );
}

#[test]
fn options_cross_among_others() {
    both_ways(
        || Server,
        |peer| {
            let echo = EchoClient::from(peer);
            for (nr, three) in [(0, None), (4, Some(None)), (8, Some(Some(b"")))] {
                assert_eq!(echo.among(100, None::<&[u8]>, None::<&str>, three), Ok(100 + nr));
                assert_eq!(echo.among(100, NONE, NONE, three), Ok(100 + nr));
                assert_eq!(echo.among(100, Some(b""), NONE, three), Ok(101 + nr));
                assert_eq!(echo.among(100, Some(b"x"), Some(""), three), Ok(103 + nr));
            }
        },
    );
}

vmffi::ffi_interface! {
    #[derive(Clone, Debug)]
    pub struct Point { x: u8 }
    pub struct Named { name: Option<ForeignStr>, at: Option<Point> }
    pub enum Colour: u8 { Red, Blue }
    pub enum Shape: u8 { Circle(u8, u8), Dot }
    pub interface Counts {
        /// How many are `Some`.
        fn plain(a: Option<u8>, b: Option<Colour>, c: Option<Shape>, d: Option<Point>, e: Option<Duration>, f: Option<[u8; 2]>) -> usize;
        fn owned(a: Option<ForeignStr>, b: Option<Named>, c: Option<Foreign<Point>>, d: Option<(ForeignBuf, u8)>) -> usize;
        fn name(name: Option<ForeignStr>) -> Option<Named>;
        fn point(point: Option<Point>) -> Option<u8>;
    }
}

impl Counts for Server {
    fn plain(
        &self,
        _: &Peer,
        a: Option<u8>,
        b: Option<Colour>,
        c: Option<Shape>,
        d: Option<Point>,
        e: Option<Duration>,
        f: Option<[u8; 2]>,
    ) -> Result<usize, CallError> {
        let all = [a.is_some(), b.is_some(), c.is_some(), d.is_some(), e.is_some(), f.is_some()];
        Ok(all.into_iter().filter(|some| *some).count())
    }
    fn owned(
        &self,
        _: &Peer,
        a: Option<ForeignStr>,
        b: Option<Named>,
        c: Option<Foreign<Point>>,
        d: Option<(ForeignBuf, u8)>,
    ) -> Result<usize, CallError> {
        let all = [a.is_some(), b.is_some(), c.is_some(), d.is_some()];
        Ok(all.into_iter().filter(|some| *some).count())
    }
    fn name(&self, _: &Peer, name: Option<ForeignStr>) -> Result<Option<SharedNamed>, CallError> {
        Ok(name.map(|_| SharedNamed { name: None, at: None }))
    }
    fn point(&self, _: &Peer, point: Option<Point>) -> Result<Option<u8>, CallError> {
        Ok(point.map(|point| point.x))
    }
}

/// `NONE` is a `None` for every `Option` that is sent, beside everything that may be sent there.
#[test]
fn none_needs_no_type() {
    both_ways(
        || Server,
        |peer| {
            let counts = CountsClient::from(peer);
            assert_eq!(counts.plain(NONE, NONE, NONE, NONE, NONE, NONE), Ok(0));
            let (time, shape) = (Duration::from_secs(1), Shape::Circle(1, 2));
            let all = counts.plain(
                Some(1),
                Some(Colour::Red),
                Some(shape),
                NONE,
                Some(time),
                Some([1; 2]),
            );
            assert_eq!(all, Ok(5));
            assert_eq!(counts.owned(NONE, NONE, NONE, NONE), Ok(0));
            let named = SharedNamed { name: None, at: Some(Point { x: 1 }) };
            let text = String::from("text");
            assert_eq!(counts.owned(Some(&text), Some(named), NONE, Some((b"bytes", 1))), Ok(3));
            let shared = Shared::new(peer, Point { x: 1 }).unwrap();
            assert_eq!(counts.owned(Some("text"), NONE, Some(shared), NONE), Ok(2));
            assert!(counts.name(NONE).unwrap().is_none());
            let back =
                counts.name(Some(SharedStr::copy_from(peer, "text").unwrap())).unwrap().unwrap();
            assert!(back.name.is_none() && back.at.is_none());
            let name: Option<&str> = None;
            assert!(counts.name(name).unwrap().is_none());
            assert_eq!(counts.point(NONE), Ok(None));
            assert_eq!(counts.point(Some(&Point { x: 7 })), Ok(Some(7)));
        },
    );
}

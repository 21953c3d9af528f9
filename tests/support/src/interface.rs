//! An interface with every type, and a server that reads all that it receives, twice, and validates it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use vmffi::{
    CallError, ErrorKind, Failure, Foreign, ForeignBuf, ForeignList, ForeignSlice, ForeignStr,
    List, Peer, Plain, Shared, SharedBuf, SharedList, SharedSlice, SharedStr,
};

pub use crate::sane::Sane;

vmffi::ffi_interface! {
    /// With padding, and with three types for which some bit patterns are invalid.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Point { on: bool, x: i16, glyph: char, y: f32, colour: Colour, far: u64 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Colour: u8 { Red = 1, Green = 2, Blue = 200 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Shape: u16 { Dot = 0, Circle { radius: f64, filled: bool } = 7, Letter(char) = 9 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Fault: i32 { Empty = -1, Odd = 5 }

    pub struct Parcel { id: u32, body: ForeignBuf, label: Option<ForeignStr>, at: Point }

    pub struct Cargo {
        left: Parcel,
        right: Option<Parcel>,
        numbers: ForeignSlice<u32>,
        shape: Option<Shape>,
        spot: Foreign<Point>,
        spots: ForeignSlice<Point>,
        flag: Option<bool>,
        wide: u128,
    }

    /// An element of a packed list.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Row<'a> { name: &'a str, colour: Colour, tags: List<'a, Option<&'a [u8]>>, cell: Cell<'a> }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Cell<'a>: u8 { Null, Text(&'a str) = 3, Flags(bool, List<'a, char>) }

    /// The parameters of `Everything::maybe`, as a struct.
    pub struct Maybe {
        bytes: Option<ForeignBuf>,
        spot: Option<Foreign<Point>>,
        number: Option<u64>,
        parcel: Option<Parcel>,
        chars: Option<ForeignSlice<char>>,
    }

    /// The parameters of `Everything::chat`.
    pub struct Chat { value: ForeignStr, depth: u32 }

    pub interface Everything {
        fn nothing();
        fn unsigned(a: u8, b: u16, c: u32, d: u64, e: usize, f: f32, g: f64, h: u128) -> u64;
        fn signed(a: i8, b: i16, c: i32, d: i64, e: isize, f: i128) -> i64;
        fn alone_i8(value: i8) -> i8;
        fn alone_u16(value: u16) -> u16;
        fn alone_f32(value: f32) -> f32;
        fn alone_bool(value: bool) -> bool;
        fn alone_char(value: char) -> char;
        fn alone_colour(value: Colour) -> Colour;
        fn alone_shape(value: Shape) -> Shape;
        fn alone_u128(value: u128) -> u128;
        fn alone_point(value: Point) -> Point;
        fn alone_maybe(value: Option<u32>) -> Option<u32>;
        fn small(colour: Colour, other: Option<Colour>, flag: bool, glyph: char, shape: Shape) -> Option<Shape>;
        fn bytes(value: ForeignBuf) -> ForeignBuf;
        fn text(value: ForeignStr) -> ForeignStr;
        fn maybe_text(value: Option<ForeignStr>) -> Option<ForeignStr>;
        fn numbers(value: ForeignSlice<u64>) -> ForeignSlice<u64>;
        fn spots(value: ForeignSlice<Point>) -> u64;
        fn spot(value: Foreign<Point>) -> Foreign<Point>;
        fn parcel(value: Parcel) -> Parcel;
        fn cargo(value: Cargo) -> Result<Parcel, Fault>;
        fn maybe(bytes: Option<ForeignBuf>, spot: Option<Foreign<Point>>, number: Option<u64>, parcel: Option<Parcel>, chars: Option<ForeignSlice<char>>) -> u64;
        fn rows(value: ForeignList<Row>) -> ForeignList<Row>;
        fn keep(value: ForeignBuf) -> u64;
        fn chat(value: ForeignStr, depth: u32) -> u64;
        fn bundle(value: [(Colour, ForeignStr); 2], wait: Duration, flags: [bool; 3]) -> u64;
    }

    /// Variants with several values.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Mark: u8 { Blank, Spot(u8, bool, char) = 3, Line(Colour, u32, Option<u8>) = 9 }

    pub interface Drawing {
        fn draw(mark: Mark, name: ForeignStr, beside: (Mark, ForeignBuf)) -> u64;
    }

    /// The interface that `chat` calls back.
    pub interface Callback {
        fn note(text: ForeignStr, left: u32) -> u32;
        fn fetch(key: u32) -> ForeignBuf;
        fn judge(value: Parcel) -> Result<Parcel, Fault>;
        fn glyph(value: char) -> char;
        fn shapes(value: Option<Shape>) -> ForeignSlice<Point>;
        fn spot(value: Foreign<Point>) -> Option<Foreign<Point>>;
    }
}

/// The signatures of [`Everything`].
pub const FUNCTIONS: [u64; 27] = [
    ParamsEverythingNothing::FUNCTION.signature,
    ParamsEverythingUnsigned::FUNCTION.signature,
    ParamsEverythingSigned::FUNCTION.signature,
    ParamsEverythingAloneI8::FUNCTION.signature,
    ParamsEverythingAloneU16::FUNCTION.signature,
    ParamsEverythingAloneF32::FUNCTION.signature,
    ParamsEverythingAloneBool::FUNCTION.signature,
    ParamsEverythingAloneChar::FUNCTION.signature,
    ParamsEverythingAloneColour::FUNCTION.signature,
    ParamsEverythingAloneShape::FUNCTION.signature,
    ParamsEverythingAloneU128::FUNCTION.signature,
    ParamsEverythingAlonePoint::FUNCTION.signature,
    ParamsEverythingAloneMaybe::FUNCTION.signature,
    ParamsEverythingSmall::FUNCTION.signature,
    ParamsEverythingBytes::FUNCTION.signature,
    ParamsEverythingText::FUNCTION.signature,
    ParamsEverythingMaybeText::FUNCTION.signature,
    ParamsEverythingNumbers::FUNCTION.signature,
    ParamsEverythingSpots::FUNCTION.signature,
    ParamsEverythingSpot::FUNCTION.signature,
    ParamsEverythingParcel::FUNCTION.signature,
    ParamsEverythingCargo::FUNCTION.signature,
    ParamsEverythingMaybe::FUNCTION.signature,
    ParamsEverythingRows::FUNCTION.signature,
    ParamsEverythingKeep::FUNCTION.signature,
    ParamsEverythingChat::FUNCTION.signature,
    ParamsEverythingBundle::FUNCTION.signature,
];

/// The number of bytes and values that handlers have read and validated, over all tests.
pub static READ: AtomicUsize = AtomicUsize::new(0);

/// Handles that are kept after their call.
pub type Kept = Arc<Mutex<Vec<ForeignBuf>>>;

/// Serves both interfaces, on either side.
#[derive(Default)]
pub struct Server {
    pub kept: Kept,
}

impl Server {
    fn count(&self, more: usize) {
        READ.fetch_add(more, Ordering::Relaxed);
    }

    fn bytes_of(&self, buf: &ForeignBuf) -> Result<Vec<u8>, CallError> {
        let bytes = buf.read_vec()?;
        assert_eq!(bytes.len(), buf.len());
        let mut part = [0; 100];
        let len = buf.read_into(&mut part)?.len();
        assert_eq!(len, buf.len().min(100));
        let mut last = [0; 3];
        let read = buf.read_at(buf.len().saturating_sub(3), &mut last);
        assert_eq!(read.is_ok(), buf.len() >= 3);
        assert!(buf.read_at(usize::MAX, &mut last).is_err());
        let through = std::io::copy(&mut buf.reader(), &mut std::io::sink());
        assert_eq!(through.ok(), Some(buf.len() as u64));
        self.count(bytes.len());
        Ok(bytes)
    }

    fn text_of(&self, text: &ForeignStr) -> Result<String, CallError> {
        let mut local = [0; 64];
        match text.read_into(&mut local) {
            Ok(part) => assert!(std::str::from_utf8(part.as_bytes()).is_ok()),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::BadValue | ErrorKind::OutOfMemory))
            }
        }
        let string = text.read_string()?;
        assert!(std::str::from_utf8(string.as_bytes()).is_ok());
        assert_eq!(string.len(), text.len());
        self.count(string.len());
        Ok(string)
    }

    fn values_of<T: Plain + Sane + Copy>(
        &self,
        slice: &ForeignSlice<T>,
        zero: T,
    ) -> Result<Vec<T>, CallError> {
        let mut seen = 0;
        for value in slice.iter() {
            // The elements may differ between readings: each reading is validated by itself.
            if let Ok(value) = value {
                value.sane();
            }
            seen += 1;
        }
        assert_eq!(seen, slice.len());
        assert!(slice.get(slice.len())?.is_none());
        let mut part = [zero; 40];
        if let Ok(part) = slice.read_into(&mut part) {
            part.iter().for_each(Sane::sane);
        }
        let values = slice.read_vec()?;
        values.iter().for_each(Sane::sane);
        assert_eq!(values.len(), slice.len());
        self.count(values.len());
        Ok(values)
    }

    /// Reads a list twice, in both ways: whatever the peer does in between, what was read once stays.
    fn rows_of<'r>(&self, rows: &'r ForeignList<Row>) -> Result<List<'r, Row<'r>>, CallError> {
        let mut local = vec![0; rows.byte_len()];
        if let Ok(rows) = rows.read_into(&mut local) {
            rows.iter().for_each(|row| row.sane());
        }
        let read = rows.read()?;
        let first: Vec<Row<'_>> = read.iter().collect();
        assert_eq!(first.len(), read.len());
        for (row, again) in first.iter().zip(rows.read()?) {
            row.sane();
            assert_eq!(*row, again);
        }
        self.count(first.len());
        Ok(read)
    }

    fn point_at(&self, spot: &Foreign<Point>) -> Result<Point, CallError> {
        let first = spot.read();
        if let Ok(point) = &first {
            point.sane();
        }
        let again = spot.read()?;
        again.sane();
        self.count(2);
        Ok(again)
    }

    fn parcel_of(&self, parcel: &Parcel) -> Result<Vec<u8>, CallError> {
        parcel.at.sane();
        let body = self.bytes_of(&parcel.body);
        if let Some(label) = &parcel.label {
            self.text_of(label)?;
        }
        body
    }
}

pub const ZERO: Point = Point { on: false, x: 0, glyph: '\0', y: 0.0, colour: Colour::Red, far: 0 };

impl Everything for Server {
    fn nothing(&self, _: &Peer) -> Result<(), CallError> {
        Ok(())
    }

    fn unsigned(
        &self,
        _: &Peer,
        a: u8,
        b: u16,
        c: u32,
        d: u64,
        e: usize,
        f: f32,
        g: f64,
        h: u128,
    ) -> Result<u64, CallError> {
        let sum =
            [u64::from(a), u64::from(b), u64::from(c), d, e as u64, h as u64, f as u64, g as u64];
        Ok(sum.into_iter().fold(0, u64::wrapping_add))
    }

    fn signed(
        &self,
        _: &Peer,
        a: i8,
        b: i16,
        c: i32,
        d: i64,
        e: isize,
        f: i128,
    ) -> Result<i64, CallError> {
        let sum = [i64::from(a), i64::from(b), i64::from(c), d, e as i64, f as i64];
        Ok(sum.into_iter().fold(0, i64::wrapping_add))
    }

    fn alone_i8(&self, _: &Peer, value: i8) -> Result<i8, CallError> {
        Ok(value)
    }

    fn alone_u16(&self, _: &Peer, value: u16) -> Result<u16, CallError> {
        Ok(value)
    }

    fn alone_f32(&self, _: &Peer, value: f32) -> Result<f32, CallError> {
        Ok(value)
    }

    fn alone_bool(&self, _: &Peer, value: bool) -> Result<bool, CallError> {
        value.sane();
        Ok(value)
    }

    fn alone_char(&self, _: &Peer, value: char) -> Result<char, CallError> {
        value.sane();
        Ok(value)
    }

    fn alone_colour(&self, _: &Peer, value: Colour) -> Result<Colour, CallError> {
        value.sane();
        Ok(value)
    }

    fn alone_shape(&self, _: &Peer, value: Shape) -> Result<Shape, CallError> {
        value.sane();
        Ok(value)
    }

    fn alone_u128(&self, _: &Peer, value: u128) -> Result<u128, CallError> {
        Ok(value)
    }

    fn alone_point(&self, _: &Peer, value: Point) -> Result<Point, CallError> {
        value.sane();
        Ok(value)
    }

    fn alone_maybe(&self, _: &Peer, value: Option<u32>) -> Result<Option<u32>, CallError> {
        Ok(value)
    }

    fn small(
        &self,
        _: &Peer,
        colour: Colour,
        other: Option<Colour>,
        flag: bool,
        glyph: char,
        shape: Shape,
    ) -> Result<Option<Shape>, CallError> {
        colour.sane();
        other.sane();
        flag.sane();
        glyph.sane();
        shape.sane();
        Ok(flag.then_some(shape))
    }

    fn bytes(&self, peer: &Peer, value: ForeignBuf) -> Result<SharedBuf, CallError> {
        let bytes = self.bytes_of(&value)?;
        drop(value);
        SharedBuf::copy_from(peer, &bytes)
    }

    fn text(&self, peer: &Peer, value: ForeignStr) -> Result<SharedStr, CallError> {
        SharedStr::copy_from(peer, &self.text_of(&value)?)
    }

    fn maybe_text(
        &self,
        peer: &Peer,
        value: Option<ForeignStr>,
    ) -> Result<Option<SharedStr>, CallError> {
        value.map(|text| SharedStr::copy_from(peer, &self.text_of(&text)?)).transpose()
    }

    fn numbers(
        &self,
        peer: &Peer,
        value: ForeignSlice<u64>,
    ) -> Result<SharedSlice<u64>, CallError> {
        SharedSlice::copy_from(peer, &self.values_of(&value, 0)?)
    }

    fn rows(&self, peer: &Peer, value: ForeignList<Row>) -> Result<SharedList<Row<'_>>, CallError> {
        SharedList::copy_from(peer, &self.rows_of(&value)?)
    }

    fn spots(&self, _: &Peer, value: ForeignSlice<Point>) -> Result<u64, CallError> {
        Ok(self.values_of(&value, ZERO)?.len() as u64)
    }

    fn spot(&self, peer: &Peer, value: Foreign<Point>) -> Result<Shared<Point>, CallError> {
        Shared::new(peer, self.point_at(&value)?)
    }

    fn parcel(&self, peer: &Peer, value: Parcel) -> Result<SharedParcel, CallError> {
        let body = self.parcel_of(&value)?;
        let label = value.label.map(|label| SharedStr::copy_from(peer, &self.text_of(&label)?));
        Ok(SharedParcel {
            id: value.id,
            body: SharedBuf::copy_from(peer, &body)?,
            label: label.transpose()?,
            at: value.at,
        })
    }

    fn cargo(&self, peer: &Peer, value: Cargo) -> Result<SharedParcel, Failure<Fault>> {
        value.shape.sane();
        value.flag.sane();
        let numbers = self.values_of(&value.numbers, 0)?;
        let spots = self.values_of(&value.spots, ZERO)?;
        let at = self.point_at(&value.spot)?;
        let mut body = self.parcel_of(&value.left)?;
        if let Some(right) = &value.right {
            body.extend(self.parcel_of(right)?);
        }
        if numbers.is_empty() && spots.is_empty() {
            return Err(Fault::Empty.into());
        }
        if value.wide % 2 == 1 {
            return Err(Fault::Odd.into());
        }
        let label = Some(SharedStr::copy_from(peer, "both")?);
        Ok(SharedParcel { id: value.left.id, body: SharedBuf::copy_from(peer, &body)?, label, at })
    }

    fn maybe(
        &self,
        _: &Peer,
        bytes: Option<ForeignBuf>,
        spot: Option<Foreign<Point>>,
        number: Option<u64>,
        parcel: Option<Parcel>,
        chars: Option<ForeignSlice<char>>,
    ) -> Result<u64, CallError> {
        let mut count = number.unwrap_or(0) % 2;
        if let Some(bytes) = bytes {
            count += self.bytes_of(&bytes)?.len() as u64;
        }
        if let Some(spot) = spot {
            self.point_at(&spot)?;
            count += 1;
        }
        if let Some(parcel) = parcel {
            count += self.parcel_of(&parcel)?.len() as u64;
        }
        if let Some(chars) = chars {
            count += self.values_of(&chars, ' ')?.len() as u64;
        }
        Ok(count)
    }

    fn keep(&self, _: &Peer, value: ForeignBuf) -> Result<u64, CallError> {
        let mut kept = self.kept.lock().expect("no panics");
        if kept.len() == 8 {
            kept.remove(0);
        }
        kept.push(value);
        // Some of these are from earlier calls.
        kept.iter().try_fold(0, |sum, buf| Ok(sum + self.bytes_of(buf)?.len() as u64))
    }

    fn bundle(
        &self,
        _: &Peer,
        value: [(Colour, ForeignStr); 2],
        wait: Duration,
        flags: [bool; 3],
    ) -> Result<u64, CallError> {
        flags.iter().for_each(Sane::sane);
        assert!(wait.subsec_nanos() < 1_000_000_000);
        value.iter().try_fold(0, |sum, (colour, text)| {
            colour.sane();
            Ok(sum + self.text_of(text)?.len() as u64)
        })
    }

    fn chat(&self, peer: &Peer, value: ForeignStr, depth: u32) -> Result<u64, CallError> {
        let text = self.text_of(&value)?;
        let other = CallbackClient::from(peer);
        // A failed upcall is the peer's choice: the handler continues with the next one.
        let mut good = u64::from(other.note(text.as_str(), depth).is_ok());
        if let Ok(bytes) = other.fetch(depth) {
            good += u64::from(self.bytes_of(&bytes).is_ok());
        }
        let shared = || -> Result<_, CallError> {
            let label = Some(SharedStr::copy_from(peer, &text)?);
            let body = SharedBuf::copy_from(peer, &[7; 70])?;
            Ok(SharedParcel { id: depth, body, label, at: ZERO })
        };
        if let Ok(shared) = shared() {
            match other.judge(shared) {
                Ok(parcel) => good += u64::from(self.parcel_of(&parcel).is_ok()),
                Err(Failure::App(fault)) => assert!([-1, 5].contains(&(fault as i32))),
                Err(Failure::Call(_)) => {}
            }
        }
        if let Ok(glyph) = other.glyph('ü') {
            glyph.sane();
            good += 1;
        }
        if let Ok(points) = other.shapes(Some(Shape::Letter('x'))) {
            good += u64::from(self.values_of(&points, ZERO).is_ok());
        }
        if let Ok(Some(spot)) = other.spot(Shared::new(peer, ZERO)?) {
            good += u64::from(self.point_at(&spot).is_ok());
        }
        Ok(good)
    }
}

impl Drawing for Server {
    fn draw(
        &self,
        _: &Peer,
        mark: Mark,
        name: ForeignStr,
        beside: (Mark, ForeignBuf),
    ) -> Result<u64, CallError> {
        for mark in [mark, beside.0] {
            match mark {
                Mark::Blank => {}
                Mark::Spot(_, on, glyph) => {
                    on.sane();
                    glyph.sane();
                }
                Mark::Line(colour, ..) => colour.sane(),
            }
        }
        Ok(self.text_of(&name)?.len() as u64 + self.bytes_of(&beside.1)?.len() as u64)
    }
}

impl Callback for Server {
    fn note(&self, peer: &Peer, text: ForeignStr, left: u32) -> Result<u32, CallError> {
        let text = self.text_of(&text)?;
        match left {
            0 => Ok(0),
            // Calls nest deeper until one is refused or the limit is reached.
            _ => Ok(EverythingClient::from(peer)
                .chat(text.as_str(), left.min(20) - 1)
                .is_ok()
                .into()),
        }
    }

    fn fetch(&self, peer: &Peer, key: u32) -> Result<SharedBuf, CallError> {
        SharedBuf::zeroed(peer, key as usize % 500)
    }

    fn judge(&self, peer: &Peer, value: Parcel) -> Result<SharedParcel, Failure<Fault>> {
        if value.id % 4 == 3 {
            return Err(Fault::Odd.into());
        }
        Ok(Everything::parcel(self, peer, value)?)
    }

    fn glyph(&self, _: &Peer, value: char) -> Result<char, CallError> {
        value.sane();
        Ok(value)
    }

    fn shapes(&self, peer: &Peer, value: Option<Shape>) -> Result<SharedSlice<Point>, CallError> {
        value.sane();
        SharedSlice::copy_from(peer, &[ZERO; 9])
    }

    fn spot(&self, peer: &Peer, value: Foreign<Point>) -> Result<Option<Shared<Point>>, CallError> {
        let point = self.point_at(&value)?;
        point.on.then(|| Shared::new(peer, point)).transpose()
    }
}

vmffi::serve!(Server: Everything, Callback, Drawing);

//! What the guest calls, and what it serves. `declarations.c` says the same in C.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZero,
    sync::Mutex,
    time::Duration,
};

use vmffi::{
    CallError, Failure, Foreign, ForeignBuf, ForeignList, ForeignSlice, ForeignStr, Peer, Shared,
    SharedBuf, SharedList, SharedStr,
};

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Stat { size: u64, mode: u32, links: u32 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Mixed { a: u8, b: u32, c: u16, d: u128, e: bool }

    pub struct File {
        name: ForeignStr,
        stat: Stat,
        body: Option<ForeignBuf>,
        meta: Option<Foreign<Stat>>,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum OpenError: u32 { NotFound = 1, Denied = 2 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Level: i8 { Low = -1, High = 1 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Event: u16 { Quit, Key { code: u32, down: bool } = 5, Moved(u64) }

    pub struct Nothing {}

    #[derive(Clone, Copy)]
    pub struct Inner { a: u32, b: u8 }

    #[derive(Clone, Copy)]
    pub struct Outer { first: u8, inner: Inner, last: u8 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Record<'a> { name: &'a str, size: u32, body: &'a [u8] }

    /// Variants with several values.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Stroke: u8 { Lift, Line(u8, u32, bool) = 3, Dash(Level, u16) }

    pub struct Complaint { about: ForeignStr, at: u32 }

    #[allow(clippy::too_many_arguments, reason = "a parameter struct with all scalars")]
    pub interface Vectors {
        fn nothing();
        fn scalars(a: u8, b: i16, c: u32, d: i64, e: usize, f: isize, g: f32, h: f64, i: bool, j: char) -> u64;
        fn narrow(value: i8) -> u16;
        fn word(value: i32) -> char;
        fn wide(value: u128) -> i128;
        fn stat(file: u64) -> Foreign<Stat>;
        fn read(file: u64, max: u32) -> ForeignBuf;
        fn open(path: ForeignStr, flags: u32) -> Result<u64, OpenError>;
        fn sum(values: ForeignSlice<u16>) -> u64;
        fn total(files: ForeignSlice<Stat>, mixed: Mixed) -> Mixed;
        fn event(event: Event) -> Option<Event>;
        fn send(file: File) -> Result<(), Level>;
        fn maybe(buf: Option<ForeignBuf>, meta: Option<Foreign<Stat>>, nested: Option<Option<u8>>) -> Option<bool>;
    }

    /// Each takes a scalar and returns another one: the next, the opposite.
    pub interface Next {
        fn u8(value: u8) -> u8;
        fn i8(value: i8) -> i8;
        fn u16(value: u16) -> u16;
        fn i16(value: i16) -> i16;
        fn u32(value: u32) -> u32;
        fn i32(value: i32) -> i32;
        fn u64(value: u64) -> u64;
        fn i64(value: i64) -> i64;
        fn usize(value: usize) -> usize;
        fn isize(value: isize) -> isize;
        fn f32(value: f32) -> f32;
        fn f64(value: f64) -> f64;
        fn bool(value: bool) -> bool;
        fn char(value: char) -> char;
    }

    pub interface Desk {
        fn flip(level: Level) -> Level;
        fn turn(outer: Outer) -> Outer;
        /// The sums of the first and of the second fields, their number, and a text.
        fn grid(grid: [(u8, u64); 2]) -> ([u16; 3], ForeignStr);
        /// The records in reverse, with their names in upper case and one more as their sizes.
        fn turned(records: ForeignList<Record>) -> ForeignList<Record>;
        /// Twice the time, and the address before this one.
        fn convert(time: Duration, count: NonZero<u32>, from: IpAddr) -> (Duration, IpAddr);
        fn later(time: Duration) -> Duration;
        /// The next stroke, with each of its values changed.
        fn stroke(stroke: Stroke) -> Stroke;
        fn strokes(first: Stroke, text: ForeignStr, count: NonZero<u8>) -> Option<Stroke>;
        fn empty(nothing: Nothing) -> Nothing;
        fn units(one: (), two: ()) -> u8;
        fn fill(len: u64, byte: u8) -> ForeignBuf;
        fn count(bytes: ForeignBuf) -> u64;
        fn shout(text: ForeignStr) -> ForeignStr;
        fn spot(stat: Foreign<Stat>) -> Foreign<Stat>;
        fn maybe_buf(bytes: Option<ForeignBuf>) -> Option<ForeignBuf>;
        fn maybe_spot(spot: Option<Foreign<Stat>>) -> Option<Foreign<Stat>>;
        fn maybe_number(number: Option<u32>) -> Option<u32>;
        fn divide(a: u32, b: u32) -> Result<u32, OpenError>;
        fn judge(text: ForeignStr) -> Result<Stat, Complaint>;
        fn report(level: Level) -> File;
        /// Keeps a buffer; returns how many it has.
        fn keep(bytes: ForeignBuf) -> u32;
        /// Releases all of them; returns the sum of their bytes.
        fn drop_kept() -> u64;
        /// How many blocks of the host's arena are in use.
        fn held() -> u64;
        /// Calls the guest, which calls the host, and so on, `left` times.
        fn climb(left: u32) -> u32;
        fn panic();
        fn refuse();
        /// Calls a function of `Liar`, or has the guest misbehave, and returns how that ended: 0, or a
        /// status.
        fn ask(what: u8) -> u64;
    }

    /// What the guest serves.
    pub interface Plugin {
        fn nothing();
        fn add(a: u32, b: u64) -> u64;
        fn total(bytes: ForeignBuf) -> u64;
        fn shout(text: ForeignStr) -> ForeignStr;
        fn maybe(bytes: Option<ForeignBuf>) -> Option<u32>;
        fn halve(number: i32) -> Result<i32, OpenError>;
        fn climb(left: u32) -> u32;
        /// A list of the record whose size is the largest.
        fn largest(records: ForeignList<Record>) -> ForeignList<Record>;
        /// Returns what it gets, with each value changed.
        fn draw(stroke: Stroke, time: Duration) -> (Stroke, Duration);
        /// Keeps a buffer for good.
        fn keep(bytes: ForeignBuf);
        /// Breaks the rules, in the way that the guest was started with.
        fn misbehave();
        /// The guest does not serve it.
        #[optional]
        fn missing() -> u64;
    }

    /// What the guest answers wrongly.
    pub interface Liar {
        fn nothing();
        fn truth() -> bool;
        fn bytes() -> ForeignBuf;
        fn stat() -> Stat;
        fn file() -> File;
        fn level() -> Result<u8, Level>;
    }
}

/// The host of the C guest.
#[derive(Default)]
pub struct Server {
    kept: Mutex<Vec<ForeignBuf>>,
}

impl Vectors for Server {
    fn nothing(&self, _: &Peer) -> Result<(), CallError> {
        Ok(())
    }
    #[rustfmt::skip]
    fn scalars(
        &self, _: &Peer, a: u8, b: i16, c: u32, d: i64, e: usize, f: isize, g: f32, h: f64, i: bool, j: char,
    ) -> Result<u64, CallError> {
        let right = (a, b, c, d, e, f) == (1, -2, 3, -4, 5, -6) && (g, h, i, j) == (1.5, -2.5, true, 'ä');
        Ok(u64::from(right))
    }
    fn narrow(&self, _: &Peer, value: i8) -> Result<u16, CallError> {
        Ok(value.unsigned_abs().into())
    }
    fn word(&self, _: &Peer, value: i32) -> Result<char, CallError> {
        char::from_u32(value as u32).ok_or(CallError::refused())
    }
    fn wide(&self, _: &Peer, value: u128) -> Result<i128, CallError> {
        Ok(!value as i128)
    }
    fn stat(&self, guest: &Peer, file: u64) -> Result<Shared<Stat>, CallError> {
        Shared::new(guest, Stat { size: file, mode: 2, links: 3 })
    }
    fn read(&self, guest: &Peer, file: u64, max: u32) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(guest, &vec![file as u8; max as usize])
    }
    fn open(&self, _: &Peer, path: ForeignStr, flags: u32) -> Result<u64, Failure<OpenError>> {
        match (&*path.read_string()?, flags) {
            ("missing", _) => Err(OpenError::NotFound.into()),
            (path, 0) => Ok(path.len() as u64),
            _ => Err(OpenError::Denied.into()),
        }
    }
    fn sum(&self, _: &Peer, values: ForeignSlice<u16>) -> Result<u64, CallError> {
        Ok(values.read_vec()?.into_iter().map(u64::from).sum())
    }
    fn total(&self, _: &Peer, files: ForeignSlice<Stat>, mixed: Mixed) -> Result<Mixed, CallError> {
        let modes = files.read_vec()?.iter().map(|stat| stat.mode).sum::<u32>();
        Ok(Mixed { b: mixed.b + modes, e: !mixed.e, ..mixed })
    }
    fn event(&self, _: &Peer, event: Event) -> Result<Option<Event>, CallError> {
        Ok(match event {
            Event::Quit => None,
            Event::Key { code, down } => Some(Event::Key { code: code + 1, down: !down }),
            Event::Moved(by) => Some(Event::Moved(!by)),
        })
    }
    fn send(&self, _: &Peer, file: File) -> Result<(), Failure<Level>> {
        let meta = file.meta.map(|meta| meta.read()).transpose()?;
        let right = file.name.read_string()? == "name" && meta == Some(file.stat);
        match file.body.map(|body| body.read_vec()).transpose()? {
            Some(body) if right && body.is_empty() => Ok(()),
            Some(_) => Err(Level::High.into()),
            None => Err(Level::Low.into()),
        }
    }
    fn maybe(
        &self,
        _: &Peer,
        buf: Option<ForeignBuf>,
        meta: Option<Foreign<Stat>>,
        nested: Option<Option<u8>>,
    ) -> Result<Option<bool>, CallError> {
        let meta = meta.map(|meta| meta.read()).transpose()?;
        Ok(match (buf, meta, nested) {
            (None, None, None) => None,
            (Some(buf), Some(_), Some(Some(7))) => Some(buf.len() == 3),
            (Some(buf), None, Some(None)) => Some(buf.is_empty()),
            _ => Some(false),
        })
    }
}

impl Next for Server {
    fn u8(&self, _: &Peer, value: u8) -> Result<u8, CallError> {
        Ok(value.wrapping_add(1))
    }
    fn i8(&self, _: &Peer, value: i8) -> Result<i8, CallError> {
        Ok(value.wrapping_add(1))
    }
    fn u16(&self, _: &Peer, value: u16) -> Result<u16, CallError> {
        Ok(value.wrapping_add(1))
    }
    fn i16(&self, _: &Peer, value: i16) -> Result<i16, CallError> {
        Ok(value.wrapping_add(1))
    }
    fn u32(&self, _: &Peer, value: u32) -> Result<u32, CallError> {
        Ok(value.wrapping_add(1))
    }
    fn i32(&self, _: &Peer, value: i32) -> Result<i32, CallError> {
        Ok(value.wrapping_add(1))
    }
    fn u64(&self, _: &Peer, value: u64) -> Result<u64, CallError> {
        Ok(value.wrapping_add(1))
    }
    fn i64(&self, _: &Peer, value: i64) -> Result<i64, CallError> {
        Ok(value.wrapping_add(1))
    }
    fn usize(&self, _: &Peer, value: usize) -> Result<usize, CallError> {
        Ok(value.wrapping_add(1))
    }
    fn isize(&self, _: &Peer, value: isize) -> Result<isize, CallError> {
        Ok(value.wrapping_add(1))
    }
    fn f32(&self, _: &Peer, value: f32) -> Result<f32, CallError> {
        Ok(-value)
    }
    fn f64(&self, _: &Peer, value: f64) -> Result<f64, CallError> {
        Ok(-value)
    }
    fn bool(&self, _: &Peer, value: bool) -> Result<bool, CallError> {
        Ok(!value)
    }
    fn char(&self, _: &Peer, value: char) -> Result<char, CallError> {
        (value..=char::MAX).nth(1).ok_or(CallError::refused())
    }
}

impl Desk for Server {
    fn flip(&self, _: &Peer, level: Level) -> Result<Level, CallError> {
        Ok(if level == Level::Low { Level::High } else { Level::Low })
    }
    fn grid(
        &self,
        peer: &Peer,
        [(a, b), (c, d)]: [(u8, u64); 2],
    ) -> Result<([u16; 3], SharedStr), CallError> {
        let sums = [u16::from(a) + u16::from(c), (b + d) as u16, 2];
        Ok((sums, SharedStr::copy_from(peer, "grid")?))
    }

    fn turned(
        &self,
        guest: &Peer,
        records: ForeignList<Record>,
    ) -> Result<SharedList<Record<'_>>, CallError> {
        let records: Vec<Record> = records.read()?.iter().collect();
        let mut turned = SharedList::new(guest)?;
        for record in records.into_iter().rev() {
            let name = record.name.to_uppercase();
            turned.push(&Record { name: &name, size: record.size + 1, ..record })?;
        }
        Ok(turned)
    }
    fn turn(&self, _: &Peer, outer: Outer) -> Result<Outer, CallError> {
        let Outer { first, inner: Inner { a, b }, last } = outer;
        Ok(Outer { first: last, inner: Inner { a: !a, b: b + 1 }, last: first })
    }
    fn convert(
        &self,
        _: &Peer,
        time: Duration,
        count: NonZero<u32>,
        from: IpAddr,
    ) -> Result<(Duration, IpAddr), CallError> {
        let before = match from {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() - count.get()).into(),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() - u128::from(count.get())).into()),
        };
        Ok((time * 2, before))
    }
    fn later(&self, _: &Peer, time: Duration) -> Result<Duration, CallError> {
        Ok(time + Duration::from_nanos(1))
    }
    fn stroke(&self, _: &Peer, stroke: Stroke) -> Result<Stroke, CallError> {
        Ok(match stroke {
            Stroke::Lift => Stroke::Line(1, 2, true),
            Stroke::Line(width, len, up) => Stroke::Line(width + 1, !len, !up),
            Stroke::Dash(Level::Low, times) => Stroke::Dash(Level::High, times + 1),
            Stroke::Dash(Level::High, _) => Stroke::Lift,
        })
    }
    fn strokes(
        &self,
        guest: &Peer,
        first: Stroke,
        text: ForeignStr,
        count: NonZero<u8>,
    ) -> Result<Option<Stroke>, CallError> {
        let right = text.read_string()?.len() == usize::from(count.get());
        right.then(|| self.stroke(guest, first)).transpose()
    }
    fn empty(&self, _: &Peer, nothing: Nothing) -> Result<Nothing, CallError> {
        Ok(nothing)
    }
    fn units(&self, _: &Peer, _: (), _: ()) -> Result<u8, CallError> {
        Ok(2)
    }
    fn fill(&self, guest: &Peer, len: u64, byte: u8) -> Result<SharedBuf, CallError> {
        let len = usize::try_from(len).map_err(|_| CallError::refused())?;
        let mut buf = SharedBuf::zeroed(guest, len)?;
        buf.as_mut_slice().fill(byte);
        Ok(buf)
    }
    fn count(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        Ok(bytes.read_vec()?.into_iter().map(u64::from).sum())
    }
    fn shout(&self, guest: &Peer, text: ForeignStr) -> Result<SharedStr, CallError> {
        SharedStr::copy_from(guest, &text.read_string()?.to_uppercase())
    }
    fn spot(&self, guest: &Peer, stat: Foreign<Stat>) -> Result<Shared<Stat>, CallError> {
        let stat = stat.read()?;
        Shared::new(guest, Stat { size: stat.size + 1, ..stat })
    }
    fn maybe_buf(
        &self,
        guest: &Peer,
        bytes: Option<ForeignBuf>,
    ) -> Result<Option<SharedBuf>, CallError> {
        bytes.map(|bytes| SharedBuf::copy_from(guest, &bytes.read_vec()?)).transpose()
    }
    fn maybe_spot(
        &self,
        guest: &Peer,
        spot: Option<Foreign<Stat>>,
    ) -> Result<Option<Shared<Stat>>, CallError> {
        spot.map(|spot| Shared::new(guest, spot.read()?)).transpose()
    }
    fn maybe_number(&self, _: &Peer, number: Option<u32>) -> Result<Option<u32>, CallError> {
        Ok(number.map(|number| number + 1))
    }
    fn divide(&self, _: &Peer, a: u32, b: u32) -> Result<u32, Failure<OpenError>> {
        a.checked_div(b).ok_or(OpenError::Denied.into())
    }
    fn judge(&self, guest: &Peer, text: ForeignStr) -> Result<Stat, Failure<SharedComplaint>> {
        let text = text.read_string()?;
        match text.find(' ') {
            None => Ok(Stat { size: text.len() as u64, mode: 1, links: 2 }),
            Some(at) => Err(Failure::App(SharedComplaint {
                about: SharedStr::copy_from(guest, "a space")?,
                at: at as u32,
            })),
        }
    }
    fn report(&self, guest: &Peer, level: Level) -> Result<SharedFile, CallError> {
        let stat = Stat { size: 5, mode: 6, links: 7 };
        let full = level == Level::High;
        Ok(SharedFile {
            name: SharedStr::copy_from(guest, "report")?,
            stat,
            body: full.then(|| SharedBuf::copy_from(guest, b"body")).transpose()?,
            meta: full.then(|| Shared::new(guest, stat)).transpose()?,
        })
    }
    fn keep(&self, _: &Peer, bytes: ForeignBuf) -> Result<u32, CallError> {
        let mut kept = self.kept.lock().unwrap();
        kept.push(bytes);
        Ok(kept.len() as u32)
    }
    fn drop_kept(&self, _: &Peer) -> Result<u64, CallError> {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        kept.iter().try_fold(0, |sum, bytes| {
            Ok(sum + bytes.read_vec()?.into_iter().map(u64::from).sum::<u64>())
        })
    }
    fn held(&self, guest: &Peer) -> Result<u64, CallError> {
        Ok(guest.arena_stats().blocks as u64)
    }
    fn climb(&self, guest: &Peer, left: u32) -> Result<u32, CallError> {
        if left == 0 { Ok(0) } else { Ok(PluginClient::from(guest).climb(left - 1)? + 1) }
    }
    fn panic(&self, _: &Peer) -> Result<(), CallError> {
        std::panic::resume_unwind(Box::new("asked to"))
    }
    fn refuse(&self, _: &Peer) -> Result<(), CallError> {
        Err(CallError::refused())
    }
    fn ask(&self, guest: &Peer, what: u8) -> Result<u64, CallError> {
        let liar = LiarClient::from(guest);
        let said = match what {
            0 => liar.nothing(),
            1 => liar.truth().map(drop),
            2 => liar.bytes().map(drop),
            3 => liar.stat().map(drop),
            4 => liar.file().map(drop),
            5 => match liar.level() {
                Err(Failure::Call(error)) => Err(error),
                Ok(_) | Err(Failure::App(_)) => Ok(()),
            },
            _ => PluginClient::from(guest).misbehave(),
        };
        Ok(said.map_or_else(|error| status(&error), |()| 0))
    }
}

/// The status word that an error stands for.
pub fn status(error: &CallError) -> u64 {
    error.kind() as u64 | if error.reached() { 64 } else { 0 }
}

vmffi::serve!(Server: Vectors, Next, Desk; calls Plugin, Liar);

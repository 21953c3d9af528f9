//! `docs/abi.md` against the crate. Numbers in the document's tables are read out of the document;
//! hashes are computed here, as the document says, and not with the crate's own hasher. Clauses are
//! cited as "ABI, Section X-1".
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::alloc::{Layout as HeapLayout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use vmffi::abi::{ABI_VERSION, Answer, Side, Transport, answer, pointer, signature, trap};
use vmffi::loopback::Loopback;
use vmffi::{
    CallError, Failure, FfiType, Foreign, ForeignBuf, ForeignSlice, ForeignStr, GRANULE, Layout,
    MAX_DEPTH, PAGE, Peer, SendAs, Serve, Shared, SharedBuf, SharedStr, Why,
};

const DOCUMENT: &str = include_str!("../docs/abi.md");

/// The rows of the table in a section whose heading row begins with `heading`, without that row.
fn table(section: &str, heading: &[&str]) -> Vec<Vec<String>> {
    let (_, text) = DOCUMENT.split_once(&format!("\n## {section}\n")).expect(section);
    let text = text.split("\n## ").next().unwrap();
    let mut rows = text
        .lines()
        .map(|line| match line.trim().strip_prefix('|') {
            Some(cells) => cells.strip_suffix('|').unwrap_or(cells).split('|').map(plain).collect(),
            None => Vec::new(),
        })
        .skip_while(|row: &Vec<String>| *row != heading);
    assert!(rows.next().is_some(), "{section} has no table {heading:?}");
    let rows: Vec<_> = rows.skip(1).take_while(|row| !row.is_empty()).collect();
    assert!(rows.iter().all(|row| row.len() == heading.len()), "{section}: {rows:?}");
    rows
}

/// A cell without the marks of a code span.
fn plain(cell: &str) -> String {
    let cell = cell.trim();
    match cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) {
        Some(code) if !code.contains('`') => code.to_owned(),
        _ => cell.to_owned(),
    }
}

fn number(cell: &str) -> u64 {
    match cell.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => cell.parse(),
    }
    .unwrap_or_else(|error| panic!("{cell}: {error}"))
}

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Stat { size: u64, mode: u32, links: u32 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Mixed { a: u8, b: u32, c: u16, d: u128, e: bool }

    #[derive(Debug)]
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

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Nothing {}

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

    /// Served by both sides: each calls the other until the calls are nested `left` deep.
    pub interface Ladder {
        fn climb(left: u32) -> u32;
    }
}

const FUNCTIONS: [&vmffi::abi::Function; 13] = [
    ParamsVectorsNothing::FUNCTION,
    ParamsVectorsScalars::FUNCTION,
    ParamsVectorsNarrow::FUNCTION,
    ParamsVectorsWord::FUNCTION,
    ParamsVectorsWide::FUNCTION,
    ParamsVectorsStat::FUNCTION,
    ParamsVectorsRead::FUNCTION,
    ParamsVectorsOpen::FUNCTION,
    ParamsVectorsSum::FUNCTION,
    ParamsVectorsTotal::FUNCTION,
    ParamsVectorsEvent::FUNCTION,
    ParamsVectorsSend::FUNCTION,
    ParamsVectorsMaybe::FUNCTION,
];

/// What a handler has kept.
#[derive(Default)]
struct Kept {
    files: Vec<File>,
    bufs: Vec<ForeignBuf>,
}

#[derive(Default)]
struct Host {
    kept: Mutex<Kept>,
}

impl Vectors for Host {
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
        match value {
            // Refuses, and panics: two ways to fail that are reached.
            0 => Err(CallError::refused()),
            1 => panic!("asked to"),
            _ => Ok(value.unsigned_abs().into()),
        }
    }
    fn word(&self, _: &Peer, value: i32) -> Result<char, CallError> {
        char::from_u32(value as u32).ok_or(CallError::refused())
    }
    fn wide(&self, _: &Peer, value: u128) -> Result<i128, CallError> {
        Ok(value as i128)
    }
    fn stat(&self, guest: &Peer, file: u64) -> Result<Shared<Stat>, CallError> {
        Shared::new(guest, Stat { size: file, mode: 2, links: 3 })
    }
    fn read(&self, guest: &Peer, file: u64, max: u32) -> Result<SharedBuf, CallError> {
        SharedBuf::copied(guest, &vec![file as u8; max as usize])
    }
    fn open(&self, _: &Peer, path: ForeignStr, flags: u32) -> Result<u64, Failure<OpenError>> {
        match flags {
            0 => Ok(path.to_string()?.len() as u64),
            _ => Err(OpenError::Denied.into()),
        }
    }
    fn sum(&self, _: &Peer, values: ForeignSlice<u16>) -> Result<u64, CallError> {
        Ok(values.to_vec()?.into_iter().map(u64::from).sum())
    }
    fn total(&self, _: &Peer, _: ForeignSlice<Stat>, mixed: Mixed) -> Result<Mixed, CallError> {
        Ok(mixed)
    }
    fn event(&self, _: &Peer, event: Event) -> Result<Option<Event>, CallError> {
        Ok(Some(event))
    }
    fn send(&self, _: &Peer, file: File) -> Result<(), Failure<Level>> {
        self.kept.lock().unwrap().files.push(file);
        Err(Level::Low.into())
    }
    fn maybe(
        &self,
        _: &Peer,
        buf: Option<ForeignBuf>,
        meta: Option<Foreign<Stat>>,
        nested: Option<Option<u8>>,
    ) -> Result<Option<bool>, CallError> {
        let found = meta.map(|meta| meta.read()).transpose()?.is_some() && nested == Some(None);
        self.kept.lock().unwrap().bufs.extend(buf);
        Ok(Some(found))
    }
}

impl Ladder for Host {
    fn climb(&self, guest: &Peer, left: u32) -> Result<u32, CallError> {
        climb(guest, left)
    }
}

struct Guest;

impl Ladder for Guest {
    fn climb(&self, host: &Peer, left: u32) -> Result<u32, CallError> {
        climb(host, left)
    }
}

/// How many calls were made, this one included.
fn climb(peer: &Peer, left: u32) -> Result<u32, CallError> {
    match left {
        1 => Ok(1),
        _ => Ok(LadderClient::from(peer).climb(left - 1)? + 1),
    }
}

vmffi::serve!(Host: Vectors, Ladder);
vmffi::serve!(Guest: Ladder);

/// Zeroed memory that begins at a page.
struct Pages(*mut u8, HeapLayout);

// SAFETY: plain memory, owned.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `Region::with` with the same layout.
        unsafe { dealloc(self.0, self.1) }
    }
}

/// A connection, and a view of its region as whoever shares the memory has it.
struct Region {
    pair: Loopback,
    base: *mut u8,
}

impl Region {
    fn new() -> Self {
        Self::with(3 * PAGE, 75 * PAGE, Host::default())
    }

    fn with(guest: u64, host: u64, server: impl Serve) -> Self {
        let len = Layout::new(guest, host).unwrap().len();
        let heap = HeapLayout::from_size_align(len as usize, PAGE as usize).unwrap();
        // SAFETY: `heap` has a size.
        let base = unsafe { alloc_zeroed(heap) };
        assert!(!base.is_null());
        let builder = Loopback::builder().arenas(guest, host);
        // SAFETY: `base` has `len` bytes for as long as the `Pages` live, and no reference covers
        // them; the only other accesses are those of this thread through `self.base`, between calls.
        let pair =
            unsafe { builder.build_in(base, len, Box::new(Pages(base, heap)), Guest, server) };
        Self { pair: pair.unwrap(), base }
    }

    fn at(&self, offset: u64, len: usize) -> *mut u8 {
        assert!(offset + len as u64 <= self.pair.layout().len());
        // SAFETY: within the region, says the line above.
        unsafe { self.base.add(offset as usize) }
    }

    fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: `at` has checked the range; nobody writes to it now.
        unsafe { self.at(offset, len).copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        bytes
    }

    fn poke(&self, offset: u64, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: `at` has checked the range; nobody looks at it now.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn u64(&self, offset: u64) -> u64 {
        u64::from_le_bytes(self.bytes(offset, 8).try_into().unwrap())
    }

    /// The arena of the guest, and that of the host.
    fn arena(&self, side: Side) -> u64 {
        self.pair.layout().arena(side).0
    }

    /// The byte of a release map for the granule of an offset in that side's arena.
    fn mark(&self, side: Side, offset: u64) -> &AtomicU8 {
        let granule = (offset - self.arena(side)) / GRANULE as u64;
        let byte = self.at(self.pair.layout().release_map(side) + granule, 1);
        // SAFETY: a byte of a release map, only ever used as an atomic.
        unsafe { AtomicU8::from_ptr(byte) }
    }

    /// All marks in the map of the guest's arena: granule and number.
    fn marks(&self) -> Vec<(u64, u8)> {
        let arena = self.arena(Side::Guest);
        (0..self.pair.layout().granules(Side::Guest) as u64)
            .map(|i| (i, self.mark(Side::Guest, arena + 64 * i).load(Ordering::Acquire)))
            .filter(|(_, mark)| *mark != 0)
            .collect()
    }

    /// What the guest sends for a value that is alone in a transport.
    fn sent<T: FfiType>(&self, value: impl SendAs<T>) -> Transport {
        let mut out = self.pair.to_host().outgoing();
        let transport = value.into_transport(&mut out).unwrap();
        // As if a call had taken it along.
        std::mem::forget(out);
        transport
    }

    /// The wire form that the guest sends for a value.
    fn wire<T: FfiType>(&self, value: impl SendAs<T>) -> Vec<u8> {
        let mut wire = vec![0; size_of::<T::Wire>()];
        value.encode(&mut wire, &mut self.pair.to_host().outgoing()).unwrap();
        wire
    }

    /// The wire form of a value that is sent behind a pointer.
    fn behind<T: FfiType>(&self, value: impl SendAs<T>) -> Vec<u8> {
        let Transport { primary, secondary } = self.sent::<T>(value);
        assert_eq!(secondary, 0);
        assert!(pointer::loan(primary) != 0);
        self.bytes(pointer::offset(primary), size_of::<T::Wire>())
    }

    /// A hypercall, by the numbers.
    fn call(&self, function: &vmffi::abi::Function, primary: u64, secondary: u64) -> Answer {
        self.pair.to_host().call(function.signature, Transport { primary, secondary })
    }
}

const EMPTY: Transport = Transport { primary: 0, secondary: 0 };

fn scalar(value: impl SendAs<u64>) -> Transport {
    Region::new().sent::<u64>(value)
}

/// Joins bytes that are easier to read in parts.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// The document's hash, from its words alone (ABI, Signatures SG-2 to SG-5).
mod hash {
    /// A type: as much of it as its hash and its layout depend on.
    pub enum Type {
        /// Name, size, alignment.
        Named(&'static str, u64, u64),
        /// Name, size and alignment, and what is between the angle brackets.
        Of(&'static str, u64, u64, Box<Type>),
        Option(Box<Type>),
        Result(Box<Type>, Box<Type>),
        Struct(&'static str, Vec<Field>),
        /// Name, integer, variants.
        Enum(&'static str, Box<Type>, Vec<Variant>),
    }

    pub type Field = (&'static str, Type);
    pub type Variant = (&'static str, i64, Vec<Field>);

    /// SG-2.
    #[derive(Default)]
    pub struct Input(pub Vec<u8>);

    impl Input {
        fn number(mut self, number: u64) -> Self {
            self.0.extend(number.to_le_bytes());
            self
        }
        fn text(self, text: &str) -> Self {
            let mut input = self.number(text.len() as u64);
            input.0.extend(text.bytes());
            input
        }
        /// SG-3.
        fn hash(&self) -> u64 {
            let mut h = 0xcbf2_9ce4_8422_2325_u64;
            for byte in &self.0 {
                h = (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
            h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            h ^ h >> 31
        }
    }

    fn up(size: u64, align: u64) -> u64 {
        size.div_ceil(align) * align
    }

    /// ABI, Layout L-2: the offset of each field, behind `start` bytes; the end; the alignment.
    fn place(start: (u64, u64), fields: &[Field]) -> (Vec<u64>, u64, u64) {
        let (mut end, mut most) = start;
        let mut offsets = Vec::new();
        for (_, ty) in fields {
            let (size, align) = ty.layout();
            offsets.push(up(end, align));
            end = up(end, align) + size;
            most = most.max(align);
        }
        (offsets, end, most)
    }

    impl Type {
        fn name(&self) -> &'static str {
            match self {
                Self::Named(name, ..) => name,
                _ => unreachable!("no integer"),
            }
        }

        pub fn layout(&self) -> (u64, u64) {
            match self {
                Self::Named(_, size, align) | Self::Of(_, size, align, _) => (*size, *align),
                Self::Option(ty) => match **ty {
                    // ABI, Types TY-10
                    Self::Of(_, size, align, _) => (size, align),
                    Self::Named("ForeignBuf" | "ForeignStr", size, align) => (size, align),
                    // ABI, Types TY-11
                    _ => {
                        let (size, align) = ty.layout();
                        (up(up(4, align) + size, align.max(4)), align.max(4))
                    }
                },
                Self::Result(..) => unreachable!("has no wire form"),
                Self::Struct(_, fields) => {
                    let (_, end, align) = place((0, 1), fields);
                    (up(end, align), align)
                }
                // ABI, Types TY-8 and TY-9
                Self::Enum(_, repr, variants) => {
                    let places = variants.iter().map(|(_, _, fields)| place(repr.layout(), fields));
                    let (end, align) = places.fold(repr.layout(), |(end, align), place| {
                        (end.max(place.1), align.max(place.2))
                    });
                    (up(end, align), align)
                }
            }
        }

        pub fn hash(&self) -> u64 {
            let input = Input::default();
            let declared = |kind, name| {
                let (size, align) = self.layout();
                Input::default().text(kind).text(name).number(size).number(align)
            };
            let fields = |mut input: Input, start, fields: &[Field]| {
                let (offsets, ..) = place(start, fields);
                for ((name, ty), offset) in fields.iter().zip(offsets) {
                    if !name.is_empty() {
                        input = input.text(name);
                    }
                    input = input.number(offset).number(ty.hash());
                }
                input
            };
            match self {
                Self::Named(name, ..) => input.text(name),
                Self::Of(name, _, _, ty) => input.text(name).number(ty.hash()),
                Self::Option(ty) => input.text("Option").number(ty.hash()),
                Self::Result(ok, err) => input.text("Result").number(ok.hash()).number(err.hash()),
                Self::Struct(name, list) => fields(declared("struct", name), (0, 1), list),
                Self::Enum(name, repr, variants) => {
                    let start = declared("enum", name).text(repr.name());
                    variants.iter().fold(start, |input, (name, number, list)| {
                        fields(input.text(name).number(*number as u64), repr.layout(), list)
                    })
                }
            }
            .hash()
        }
    }

    pub fn function(name: &str, parameters: &[Type], returned: &Type) -> (Input, u64) {
        let start =
            Input::default().text("fn").text("Vectors").text(name).number(parameters.len() as u64);
        let input = parameters.iter().fold(start, |input, ty| input.number(ty.hash()));
        let input = input.number(returned.hash());
        let hash = input.hash();
        (input, hash)
    }
}

mod types {
    use super::hash::Type::{self, Enum, Named, Of, Option, Struct};

    /// A scalar: aligned to its size (ABI, Layout L-1).
    pub fn scalar(name: &'static str) -> Type {
        let size = match name {
            "u8" | "i8" | "bool" => 1,
            "u16" | "i16" => 2,
            "u32" | "i32" | "f32" | "char" => 4,
            "u64" | "i64" | "usize" | "isize" | "f64" => 8,
            "u128" | "i128" => 16,
            _ => unreachable!("{name}"),
        };
        Named(name, size, size)
    }
    pub fn unit() -> Type {
        Named("()", 0, 1)
    }
    pub fn foreign(ty: Type) -> Type {
        Of("Foreign", 8, 8, ty.into())
    }
    pub fn slice(ty: Type) -> Type {
        Of("ForeignSlice", 16, 8, ty.into())
    }
    pub fn buf() -> Type {
        Named("ForeignBuf", 16, 8)
    }
    pub fn text() -> Type {
        Named("ForeignStr", 16, 8)
    }
    pub fn option(ty: Type) -> Type {
        Option(ty.into())
    }
    pub fn stat() -> Type {
        let [size, mode, links] = ["u64", "u32", "u32"].map(scalar);
        Struct("Stat", vec![("size", size), ("mode", mode), ("links", links)])
    }
    pub fn mixed() -> Type {
        let [a, b, c, d, e] = ["u8", "u32", "u16", "u128", "bool"].map(scalar);
        Struct("Mixed", vec![("a", a), ("b", b), ("c", c), ("d", d), ("e", e)])
    }
    pub fn file() -> Type {
        let meta = option(foreign(stat()));
        let fields =
            vec![("name", text()), ("stat", stat()), ("body", option(buf())), ("meta", meta)];
        Struct("File", fields)
    }
    pub fn open_error() -> Type {
        let variants = vec![("NotFound", 1, vec![]), ("Denied", 2, vec![])];
        Enum("OpenError", scalar("u32").into(), variants)
    }
    pub fn level() -> Type {
        Enum("Level", scalar("i8").into(), vec![("Low", -1, vec![]), ("High", 1, vec![])])
    }
    pub fn event() -> Type {
        let variants = vec![
            ("Quit", 0, vec![]),
            ("Key", 5, vec![("code", scalar("u32")), ("down", scalar("bool"))]),
            ("Moved", 6, vec![("", scalar("u64"))]),
        ];
        Enum("Event", scalar("u16").into(), variants)
    }
}

/// ABI, Signatures SG-1 to SG-5: the code's signatures, those computed from the words of the
/// document, and those in its table are the same.
#[test]
fn signatures_are_the_documents() {
    use hash::Type::Result;
    use types::*;
    let all: [(&str, Vec<hash::Type>, hash::Type); 13] = [
        ("nothing", vec![], unit()),
        (
            "scalars",
            ["u8", "i16", "u32", "i64", "usize", "isize", "f32", "f64", "bool", "char"]
                .map(scalar)
                .into(),
            scalar("u64"),
        ),
        ("narrow", vec![scalar("i8")], scalar("u16")),
        ("word", vec![scalar("i32")], scalar("char")),
        ("wide", vec![scalar("u128")], scalar("i128")),
        ("stat", vec![scalar("u64")], foreign(stat())),
        ("read", vec![scalar("u64"), scalar("u32")], buf()),
        ("open", vec![text(), scalar("u32")], Result(scalar("u64").into(), open_error().into())),
        ("sum", vec![slice(scalar("u16"))], scalar("u64")),
        ("total", vec![slice(stat()), mixed()], mixed()),
        ("event", vec![event()], option(event())),
        ("send", vec![file()], Result(unit().into(), level().into())),
        (
            "maybe",
            vec![option(buf()), option(foreign(stat())), option(option(scalar("u8")))],
            option(scalar("bool")),
        ),
    ];
    let squeeze = |text: &str| text.replace(char::is_whitespace, "");
    let mut listed: BTreeMap<_, _> = table("Signatures", &["function", "signature"])
        .into_iter()
        .map(|row| (squeeze(&row[0]), row[1].clone()))
        .collect();
    for ((name, parameters, returned), function) in all.iter().zip(FUNCTIONS) {
        assert_eq!(*name, function.name);
        let (_, computed) = hash::function(name, parameters, returned);
        let shown = format!("{computed:#018x}");
        let declared = function.declaration;
        assert_eq!(function.signature, computed, "{declared} is {shown} by the document's rules");
        let row = listed.remove(&squeeze(declared));
        assert_eq!(row, Some(shown), "row of `{declared}`");
    }
    assert!(listed.is_empty(), "rows without a function: {listed:?}");
}

/// ABI, Signatures SG-4: the same for the types by themselves, and the example of an input.
#[test]
fn hashes_of_types_are_the_documents() {
    use types::*;
    let all: [(&str, u64, hash::Type); 18] = [
        ("()", <()>::HASH, unit()),
        ("u8", u8::HASH, scalar("u8")),
        ("u64", u64::HASH, scalar("u64")),
        ("usize", usize::HASH, scalar("usize")),
        ("i128", i128::HASH, scalar("i128")),
        ("f32", f32::HASH, scalar("f32")),
        ("bool", bool::HASH, scalar("bool")),
        ("char", char::HASH, scalar("char")),
        ("ForeignBuf", ForeignBuf::HASH, buf()),
        ("ForeignStr", ForeignStr::HASH, text()),
        ("Stat", Stat::HASH, stat()),
        ("Mixed", Mixed::HASH, mixed()),
        ("File", File::HASH, file()),
        ("OpenError", OpenError::HASH, open_error()),
        ("Level", Level::HASH, level()),
        ("Event", Event::HASH, event()),
        ("Option<u32>", <Option<u32>>::HASH, option(scalar("u32"))),
        ("Foreign<Stat>", <Foreign<Stat>>::HASH, foreign(stat())),
    ];
    let rows = table("Signatures", &["type", "hash"]);
    assert_eq!(rows.len(), all.len());
    for ((name, in_code, ty), row) in all.into_iter().zip(rows) {
        let shown = format!("{:#018x}", ty.hash());
        assert_eq!(in_code, ty.hash(), "{name} is {shown} by the document's rules");
        assert_eq!(row, [name, &shown]);
    }

    let (input, _) = hash::function("nothing", &[], &unit());
    let (_, example) = DOCUMENT.split_once("the input of the signature of `nothing` is").unwrap();
    let example = example.split("\n## ").next().unwrap();
    let digits: String = example
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.len() >= 16 && code.bytes().all(|b| b" 0123456789abcdef".contains(&b)))
        .flat_map(str::chars)
        .filter(|c| *c != ' ')
        .collect();
    let shown: String = input.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digits, shown);
}

/// ABI, Types TY-1, TY-7, TY-9 to TY-11, and Layout: sizes and alignments of wire forms.
#[test]
fn sizes_are_the_documents() {
    fn layout<T: FfiType>() -> (u64, u64) {
        (size_of::<T::Wire>() as u64, align_of::<T::Wire>() as u64)
    }
    let code = |name: &str| match name {
        "u8" => layout::<u8>(),
        "i8" => layout::<i8>(),
        "bool" => layout::<bool>(),
        "u16" => layout::<u16>(),
        "i16" => layout::<i16>(),
        "u32" => layout::<u32>(),
        "i32" => layout::<i32>(),
        "f32" => layout::<f32>(),
        "char" => layout::<char>(),
        "u64" => layout::<u64>(),
        "usize" => layout::<usize>(),
        "i64" => layout::<i64>(),
        "isize" => layout::<isize>(),
        "f64" => layout::<f64>(),
        "u128" => layout::<u128>(),
        "i128" => layout::<i128>(),
        "()" => layout::<()>(),
        "Foreign<T>" => layout::<Foreign<u8>>(),
        "ForeignBuf" => layout::<ForeignBuf>(),
        "ForeignStr" => layout::<ForeignStr>(),
        "ForeignSlice<T>" => layout::<ForeignSlice<u8>>(),
        _ => panic!("what is `{name}`?"),
    };
    let mut seen = 0;
    for row in table("Types", &["type", "size", "align", "alone in a transport"]) {
        let [names, size, align, _] = row.try_into().unwrap();
        if size.starts_with(|c: char| c.is_ascii_digit()) {
            for name in names.split(", ") {
                assert_eq!(code(&plain(name)), (number(&size), number(&align)), "{name}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 21);

    assert_eq!(layout::<Nothing>(), (0, 1));
    assert_eq!(layout::<Stat>(), types::stat().layout());
    assert_eq!(layout::<Mixed>(), types::mixed().layout());
    assert_eq!(layout::<File>(), types::file().layout());
    assert_eq!(layout::<Event>(), types::event().layout());
    assert_eq!(layout::<Level>(), (1, 1));
    assert_eq!(layout::<Option<()>>(), (4, 4));
    assert_eq!(layout::<Option<u8>>(), (8, 4));
    assert_eq!(layout::<Option<u64>>(), (16, 8));
    assert_eq!(layout::<Option<u128>>(), (32, 16));
    assert_eq!(layout::<Option<ForeignBuf>>(), (16, 8));
    assert_eq!(layout::<Option<Option<ForeignBuf>>>(), (24, 8));
    assert_eq!(layout::<Option<Option<u8>>>(), (12, 4));
}

/// ABI, Traps TR-2, TR-3, TR-7.
#[test]
fn kinds_are_the_documents() {
    let heading = |kind| [kind, "value", "word", "transport"];
    let values: BTreeMap<_, _> = table("Traps", &heading("kind"))
        .into_iter()
        .map(|row| (row[0].clone(), number(&row[1])))
        .collect();
    let traps = [trap::CALL, trap::RETURN, trap::READY, trap::EXIT];
    let names = ["CALL", "RETURN", "READY", "EXIT"];
    assert_eq!(values, names.map(str::to_owned).into_iter().zip(traps).collect());
    let answers = [("ANSWER", answer::ANSWER), ("UPCALL", answer::UPCALL)];
    for (name, value) in answers {
        assert!(DOCUMENT.contains(&format!("| `{name}` | `{value:#018x}` |")), "{name}");
        assert!(!traps.contains(&value), "{name}");
    }
    #[cfg(target_arch = "x86_64")]
    {
        use vmffi::arch::x86_64::code;
        let rows = table("Traps", &["instruction", "bytes", "operand", "for"]);
        let codes: [&[u8]; 4] = [&code::OUT, &code::DOORBELL, &code::VMCALL, &code::VMMCALL];
        for (row, code) in rows.iter().zip(codes) {
            let shown: Vec<_> = code.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(row[1], shown.join(" "), "{}", row[0]);
        }
    }
}

/// ABI, Statuses S-2 and S-3.
#[test]
fn statuses_are_the_documents() {
    let rows = table("Statuses", &["number", "name", "meaning"]);
    let all = [
        Why::UnknownFunction,
        Why::BadPointer,
        Why::BadValue,
        Why::OutOfMemory,
        Why::TooDeep,
        Why::Busy,
        Why::Cancelled,
        Why::VersionMismatch,
        Why::Unsupported,
        Why::PeerPanicked,
        Why::PeerDied,
        Why::Stale,
        Why::Refused,
        Why::Protocol,
    ];
    assert_eq!(rows.len(), all.len());
    for (row, why) in rows.iter().zip(all) {
        assert_eq!((number(&row[0]), row[1].clone()), (why as u64, format!("{why:?}")));
    }
}

/// ABI, Statuses S-3 to S-6, as the callee makes them.
#[test]
fn statuses_of_calls() {
    let region = Region::new();
    let narrow = ParamsVectorsNarrow::FUNCTION;
    let status = |primary, secondary| region.call(narrow, primary, secondary);
    assert_eq!(status(5, 0), Answer { status: 0, transport: Transport::word(5) });
    assert_eq!(status(0, 0), Answer::status(78), "S-6: refused");
    assert_eq!(status(128, 0), Answer::status(4), "S-4: not reached");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = status(1, 0);
    std::panic::set_hook(hook);
    assert_eq!(panicked, Answer::status(75), "S-6: panicked");
    assert_eq!(status(5, 0).status, 0, "and goes on");
}

/// ABI, Region header: the header as it lies in memory.
#[test]
fn header_fields_are_the_documents() {
    let region = Region::new();
    let layout = region.pair.layout();
    let (guest, host) = (layout.arena(Side::Guest), layout.arena(Side::Host));
    let right = |field: &str| match field {
        "magic" => u64::from_le_bytes(*b"VMFFI\0\0\0"),
        "version" => ABI_VERSION.into(),
        "region_len" => layout.len(),
        "guest_arena" => guest.0,
        "guest_arena_len" => guest.1,
        "host_arena" => host.0,
        "host_arena_len" => host.1,
        "guest_release_map" => layout.release_map(Side::Guest),
        "host_release_map" => layout.release_map(Side::Host),
        _ => panic!("what is `{field}`?"),
    };
    let mut header = vec![0; PAGE as usize];
    let rows = table("Region header", &["offset", "bytes", "field", "value"]);
    assert_eq!(rows.len(), 9);
    for row in rows {
        let (at, len) = (number(&row[0]) as usize, number(&row[1]) as usize);
        header[at..at + len].copy_from_slice(&right(&row[2]).to_le_bytes()[..len]);
    }
    assert_eq!(region.bytes(0, PAGE as usize), header);

    // The formulae of R-4, and the example of R-7.
    let up = |len: u64| len.div_ceil(4096) * 4096;
    let (guest_len, host_len) = (12288, 307_200);
    let host_map = 4096;
    let guest_map = host_map + up(host_len / 64);
    let guest_arena = guest_map + up(guest_len / 64);
    let host_arena = guest_arena + guest_len;
    let end = host_arena + host_len;
    let words = [end, guest_arena, guest_len, host_arena, host_len, guest_map, host_map];
    assert_eq!([2, 3, 4, 5, 6, 7, 8].map(|i| region.u64(8 * i)), words);
    assert_eq!(words, [335_872, 16384, 12288, 28672, 307_200, 12288, 4096]);
    let (_, example) = DOCUMENT.split_once("**R-7**").unwrap();
    let example = example.split("\n## ").next().unwrap();
    for (name, value) in [
        ("host_release_map", host_map),
        ("guest_release_map", guest_map),
        ("guest_arena", guest_arena),
        ("host_arena", host_arena),
        ("region_len", end),
    ] {
        let words: Vec<_> = example.split_whitespace().collect();
        let shown = format!("`{name}` {value}");
        assert!(words.join(" ").contains(&shown), "{shown}");
    }
}

/// ABI, Types TY-1 and TY-3: scalars alone in a transport.
#[test]
fn scalars_in_a_transport() {
    let region = Region::new();
    let word = Transport::word;
    assert_eq!(region.sent::<u8>(0xff_u8), word(0xff));
    assert_eq!(region.sent::<i8>(-1_i8), word(u64::MAX));
    assert_eq!(region.sent::<i16>(i16::MIN), word(0xffff_ffff_ffff_8000));
    assert_eq!(region.sent::<u32>(u32::MAX), word(0xffff_ffff));
    assert_eq!(region.sent::<i32>(-2_i32), word(0xffff_ffff_ffff_fffe));
    assert_eq!(scalar(u64::MAX), word(u64::MAX));
    assert_eq!(region.sent::<isize>(-1_isize), word(u64::MAX));
    assert_eq!(region.sent::<f32>(-1.5_f32), word(0xbfc0_0000));
    assert_eq!(region.sent::<f64>(-1.5_f64), word(0xbff8_0000_0000_0000));
    assert_eq!(region.sent::<bool>(true), word(1));
    assert_eq!(region.sent::<char>('ä'), word(0xe4));
    assert_eq!(region.sent::<()>(()), EMPTY);
    assert_eq!(region.sent::<Level>(Level::Low), word(u64::MAX), "TY-8");
    assert_eq!(region.sent::<OpenError>(OpenError::Denied), word(2), "TY-8");
    assert_eq!(region.sent::<Nothing>(Nothing {}), EMPTY, "TY-2");
    assert_eq!(region.sent::<Option<ForeignBuf>>(None::<&[u8]>), EMPTY, "TY-10");
    assert_eq!(region.sent::<Option<ForeignBuf>>(Some(&[])), word(1), "TY-10");
    assert_eq!(region.sent::<ForeignStr>(""), EMPTY, "T-4");
}

/// ABI, Types TY-2, TY-7, TY-9, TY-11 and Layout L-2, L-3: forms behind a pointer, byte for byte.
#[test]
fn wire_forms_behind_a_pointer() {
    let region = Region::new();
    // Old data must not shine through.
    let old = SharedBuf::copied(region.pair.to_host(), &[0xaa; 4 * PAGE as usize / 2]).unwrap();
    drop(old);
    let stat = Stat { size: 0x0102, mode: 3, links: 4 };
    assert_eq!(
        region.behind::<Stat>(stat),
        join(&[&[2, 1, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 0, 4, 0, 0, 0]])
    );
    let mixed = Mixed { a: 0xff, b: 0x0102_0304, c: 0x0506, d: 7 | 8 << 120, e: true };
    #[rustfmt::skip]
    let right = [
        0xff, 0, 0, 0, 4, 3, 2, 1, 6, 5, 0, 0, 0, 0, 0, 0,
        7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8,
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(region.behind::<Mixed>(mixed), right);
    assert_eq!(region.behind::<Event>(Event::Quit), [0; 16]);
    let key = Event::Key { code: 0x0102_0304, down: true };
    assert_eq!(region.behind::<Event>(key), [5, 0, 0, 0, 4, 3, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        region.behind::<Event>(Event::Moved(u64::MAX - 1)),
        [6, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
    );
    assert_eq!(
        region.behind::<u128>(1 | 2 << 120),
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    );
    assert_eq!(region.behind::<Option<u8>>(None::<u8>), [0; 8]);
    assert_eq!(region.behind::<Option<u8>>(Some(9)), [1, 0, 0, 0, 9, 0, 0, 0]);
    assert_eq!(
        region.behind::<Option<u64>>(Some(9)),
        [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        region.behind::<Option<Option<u8>>>(Some(Some(7))),
        [1, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]
    );
    assert_eq!(
        region.behind::<Option<OpenError>>(Some(OpenError::Denied)),
        [1, 0, 0, 0, 2, 0, 0, 0]
    );
    assert_eq!(region.behind::<Option<()>>(Some(())), [1, 0, 0, 0]);
}

/// ABI, Types TY-5, TY-7 and TY-10, Pointers P-1, Arenas and loans: handles, in a
/// transport and in a struct.
#[test]
fn handles_are_pointer_words() {
    let region = Region::new();
    let to_host = region.pair.to_host();
    let arena = region.arena(Side::Guest);

    let text = region.sent::<ForeignStr>("twelve bytes");
    assert_eq!(text, Transport { primary: arena | 1 << 56, secondary: 12 }, "the first loan");
    assert_eq!(region.bytes(arena, 12), b"twelve bytes");

    let values: &[u16] = &[1, 0x0203];
    let slice = region.sent::<ForeignSlice<u16>>(values);
    assert_eq!(slice, Transport { primary: (arena + 64) | (1 << 56), secondary: 4 });
    assert_eq!(region.bytes(arena + 64, 4), [1, 0, 3, 2]);

    let stat = Stat { size: 1, mode: 2, links: 3 };
    let shared = Shared::new(to_host, stat).unwrap();
    let shared = region.sent::<Foreign<Stat>>(shared);
    assert_eq!(shared, Transport::word((arena + 128) | (1 << 56)));
    let form = join(&[&[1, 0, 0, 0, 0, 0, 0, 0], &[2, 0, 0, 0, 3, 0, 0, 0]]);
    assert_eq!(region.bytes(arena + 128, 16), form);

    let file = SharedFile {
        name: SharedStr::copied(to_host, "ab").unwrap(),
        stat,
        body: Some(SharedBuf::with_capacity(to_host, 0).unwrap()),
        meta: None,
    };
    let name = ((arena + 192) | (1 << 56)).to_le_bytes();
    #[rustfmt::skip]
    let right = join(&[
        &name, &[2, 0, 0, 0, 0, 0, 0, 0],
        &form,
        &[1, 0, 0, 0, 0, 0, 0, 0], &[0; 8],
        &[0; 8],
    ]);
    assert_eq!(region.wire::<File>(file), right);
}

/// ABI, Arenas and loans A-4: each loan of a place has the next number, from 1 to 255, then 1.
#[test]
fn loans_are_numbered_in_turn() {
    let region = Region::new();
    let mut numbers = Vec::new();
    for _ in 0..=256 {
        let Transport { primary, secondary } = region.sent::<ForeignBuf>(&[1]);
        assert_eq!((pointer::offset(primary), secondary), (region.arena(Side::Guest), 1));
        numbers.push(pointer::loan(primary));
        region
            .mark(Side::Guest, pointer::offset(primary))
            .store(pointer::loan(primary), Ordering::Release);
    }
    let right: Vec<_> = (1..=255).chain([1, 2]).collect();
    assert_eq!(numbers, right);
}

/// ABI, Release map M-1 to M-3, Parameter structs PS-3 and PS-4: the struct lies in the caller's
/// arena, the callee has given it back when the call ends, and the owner believes only the number of the loan.
#[test]
fn a_parameter_struct_is_given_back() {
    let region = Region::new();
    let client = VectorsClient::from(region.pair.to_host());
    assert_eq!(client.scalars(1, -2, 3, -4, 5_usize, -6_isize, 1.5, -2.5, true, 'ä'), Ok(1));
    assert_eq!(region.marks(), [(0, 1)], "granule 0, loan 1");
    #[rustfmt::skip]
    let right = join(&[
        &[1, 0, 0xfe, 0xff, 3, 0, 0, 0],
        &(-4_i64).to_le_bytes(),
        &[5, 0, 0, 0, 0, 0, 0, 0],
        &(-6_i64).to_le_bytes(),
        &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 4, 0xc0],
        &[1, 0, 0, 0, 0xe4, 0, 0, 0],
    ]);
    assert_eq!(region.bytes(region.arena(Side::Guest), 56), right);
    assert_eq!(region.pair.to_host().arena_stats().blocks, 0);

    // A buffer that the handler keeps is not given back; the struct and the rest are.
    let shared = Shared::new(region.pair.to_host(), Stat { size: 1, mode: 2, links: 3 }).unwrap();
    assert_eq!(client.maybe(Some(b"keep"), Some(shared), Some(None::<u8>)), Ok(Some(true)));
    let stats = region.pair.to_host().arena_stats();
    assert_eq!(stats.blocks, 1, "the buffer");
}

/// ABI, Release map M-3: only the number of the loan ends it.
#[test]
fn a_mark_names_the_loan() {
    let region = Region::new();
    let blocks = || region.pair.to_host().arena_stats().blocks;
    let word = region.sent::<ForeignBuf>(&[1, 2, 3]).primary;
    let mark = region.mark(Side::Guest, pointer::offset(word));
    for wrong in (0..=255).filter(|number| *number != pointer::loan(word)) {
        mark.store(wrong, Ordering::Release);
        assert_eq!(blocks(), 1, "{wrong}");
    }
    mark.store(pointer::loan(word), Ordering::Release);
    assert_eq!(blocks(), 0);

    // M-4: cleared before the place is lent again.
    let again = region.sent::<ForeignBuf>(&[4]).primary;
    assert_eq!(pointer::offset(again), pointer::offset(word));
    assert_eq!(mark.load(Ordering::Acquire), 0);
}

/// A guest that knows nothing but the document (ABI, all of it): makes a parameter struct by hand,
/// calls by signature, reads the result where it lies, and gives it back with a mark.
#[test]
fn a_call_by_hand() {
    let region = Region::new();
    let at = region.arena(Side::Guest) + 2 * 64;
    // fn read(file: u64, max: u32) -> ForeignBuf
    region.poke(at, &join(&[&[7, 0, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 0, 0xee, 0xee, 0xee, 0xee]]));
    let answer = region.call(ParamsVectorsRead::FUNCTION, at | 9 << 56, 0);
    assert_eq!(
        (answer.status, answer.transport.secondary),
        (0, 3),
        "L-3: padding is not looked at"
    );
    assert_eq!(region.marks(), [(2, 9)], "M-2: granule 2, loan 9");
    let word = answer.transport.primary;
    assert_eq!(word & 0x00ff_ffff_ffff_ffff, region.arena(Side::Host), "P-4, A-2");
    assert_eq!(region.bytes(region.arena(Side::Host), 3), [7, 7, 7]);
    assert_eq!(region.pair.to_guest().arena_stats().blocks, 1, "A-6: lent");
    region.mark(Side::Host, region.arena(Side::Host)).store((word >> 56) as u8, Ordering::Release);
    assert_eq!(region.pair.to_guest().arena_stats().blocks, 0, "M-3: given back");

    // number 0, no mark.
    region.poke(region.pair.layout().release_map(Side::Guest), &[0; 8]);
    let answer = region.call(ParamsVectorsRead::FUNCTION, at, 0);
    assert_eq!((answer.status, answer.transport.secondary), (0, 3));
    assert_eq!(region.marks(), []);

    // TY-12: an application error, and `()`.
    region.poke(at, &[0; 24]);
    region.poke(at + 16, &[1]);
    let answer = region.call(ParamsVectorsOpen::FUNCTION, at, 0);
    assert_eq!(answer, Answer { status: 1, transport: Transport::word(2) });
    let answer = region.call(ParamsVectorsNothing::FUNCTION, 0, 0);
    assert_eq!(answer, Answer { status: 0, transport: EMPTY });
}

/// ABI, Checks C-1 to C-8: each is made, and has its status; none of these calls is reached.
#[test]
fn bad_calls_are_refused() {
    let region = Region::new();
    let arena = region.arena(Side::Guest);
    let (_, len) = region.pair.layout().arena(Side::Guest);
    let lent = arena | 1 << 56;
    let status = |function, primary, secondary| region.call(function, primary, secondary).status;

    // C-1
    let unknown = |signature| region.pair.to_host().call(signature, EMPTY).status;
    for signature in (0..16).filter(|signature| *signature != signature::HAS).chain([0xdead_beef]) {
        assert_eq!(unknown(signature), 2, "signature {signature:#x}");
    }
    // C-2, PS-1
    assert_eq!(status(ParamsVectorsNothing::FUNCTION, 0, 1), 4);
    assert_eq!(status(ParamsVectorsNothing::FUNCTION, 1, 0), 4);
    assert_eq!(status(ParamsVectorsNarrow::FUNCTION, 5, 1), 4);
    assert_eq!(status(ParamsVectorsWide::FUNCTION, lent, 1), 4);
    assert_eq!(status(ParamsVectorsRead::FUNCTION, lent, 1), 4);
    // C-3, for 16 bytes
    let read = |word| status(ParamsVectorsRead::FUNCTION, word, 0);
    assert_eq!(read(lent), 0);
    assert_eq!(read(arena + len - 16), 0);
    for bad in [
        0,
        1,
        arena - 16,
        arena + len - 8,
        arena + len,
        region.arena(Side::Host),
        arena | 1 << 48,
        arena | 1 << 55,
        (1 << 56) - 16,
        u64::MAX - 15,
    ] {
        assert_eq!(read(bad), 3, "{bad:#x}");
    }
    let sum = |word, len| status(ParamsVectorsSum::FUNCTION, word, len);
    assert_eq!(sum(lent, len), 0);
    for bad in [len + 2, 1 << 48, 1 << 63, u64::MAX - 1, 0_u64.wrapping_sub(arena)] {
        assert_eq!(sum(lent, bad), 3, "{bad:#x} bytes");
    }
    // C-4
    assert_eq!(read(arena + 4), 3);
    assert_eq!(status(ParamsVectorsWide::FUNCTION, arena + 8, 0), 3);
    assert_eq!(sum(lent + 1, 2), 3);
    assert_eq!(sum(lent + 2, 2), 0);
    // C-5
    assert_eq!(sum(arena, 2), 3);
    // T-4: an empty buffer's pointer is not looked at.
    assert_eq!(sum(u64::MAX, 0), 0);
    // C-6, alone: TY-3, TY-4.
    let narrow = |primary| status(ParamsVectorsNarrow::FUNCTION, primary, 0);
    assert_eq!(narrow(-128_i64 as u64), 0);
    for bad in [128, 255, -129_i64 as u64, 1 << 32, u64::MAX ^ 0xff] {
        assert_eq!(narrow(bad), 4, "{bad:#x}");
    }
    // C-6, in a parameter struct: bool, char, tag, absent buffer.
    let at = arena + 64;
    let scalars = |offset: u64, bytes: &[u8]| {
        region.poke(at, &[0; 56]);
        region.poke(at + offset, bytes);
        status(ParamsVectorsScalars::FUNCTION, at, 0)
    };
    assert_eq!(scalars(48, &[1, 0xff, 0xff, 0xff]), 0, "TY-4, L-3");
    assert_eq!(scalars(48, &[2]), 4, "TY-4");
    assert_eq!(scalars(52, &0x0010_ffff_u32.to_le_bytes()), 0, "TY-4");
    assert_eq!(scalars(52, &0x0011_0000_u32.to_le_bytes()), 4, "TY-4");
    assert_eq!(scalars(52, &0xd800_u32.to_le_bytes()), 4, "TY-4");
    let maybe = |offset: u64, bytes: &[u8]| {
        region.poke(at, &[0; 40]);
        region.poke(at + offset, bytes);
        status(ParamsVectorsMaybe::FUNCTION, at, 0)
    };
    assert_eq!(maybe(0, &[]), 0);
    assert_eq!(maybe(8, &[1]), 4, "TY-10");
    assert_eq!(maybe(0, &[1]), 0, "P-3");
    assert_eq!(maybe(24, &[2]), 4, "TY-11");
    assert_eq!(maybe(28, &[9, 9, 9, 9, 9]), 0, "TY-11: the value of `None`");
    assert_eq!(maybe(24, &[1, 0, 0, 0, 2]), 4, "TY-11, nested");
    // C-6: TY-8 and TY-9.
    let event = |number: u16| {
        region.poke(at, &[0; 16]);
        region.poke(at, &number.to_le_bytes());
        status(ParamsVectorsEvent::FUNCTION, at, 0)
    };
    assert_eq!([0, 1, 4, 5, 6, 7].map(event), [0, 4, 4, 0, 0, 4]);
    // C-7
    assert_eq!(sum(lent, 3), 4);
    // PS-6: no mark for a struct that could not be there; the map was never touched but by calls
    // whose pointers were good.
    assert!(region.marks().iter().all(|(granule, _)| *granule == 0));
}

/// ABI, Parameter structs PS-5: every good handle behind a bad parameter is given back.
#[test]
fn a_refused_call_gives_handles_back() {
    let region = Region::new();
    let arena = region.arena(Side::Guest);
    let at = arena + 64;
    let word = |granule: u64, loan: u64| ((arena + 64 * granule) | (loan << 56)).to_le_bytes();
    // The buffer is good, `meta` is not lent, the option's tag is 7.
    region.poke(at, &join(&[&word(4, 3), &[8, 0, 0, 0, 0, 0, 0, 0], &word(5, 0), &[7, 0, 0, 0]]));
    let answer = region.call(ParamsVectorsMaybe::FUNCTION, at | 2 << 56, 0);
    assert_eq!(answer.status, 3, "the first bad one is `meta`");
    assert_eq!(region.marks(), [(1, 2), (4, 3)]);
}

/// ABI, Arenas and loans A-7: a handle lasts until its holder gives it back.
#[test]
fn a_kept_handle_stays_lent() {
    let region = Region::new();
    let to_host = region.pair.to_host();
    let file = SharedFile {
        name: SharedStr::copied(to_host, "name").unwrap(),
        stat: Stat { size: 1, mode: 2, links: 3 },
        body: None,
        meta: None,
    };
    let failed = VectorsClient::from(to_host).send(file);
    assert_eq!(failed, Err(Failure::App(Level::Low)), "S-3: consumed, with status 1");
    assert_eq!(to_host.arena_stats().blocks, 1, "the name");
}

/// ABI, Signatures SG-6 and SG-7.
#[test]
fn has_is_signature_1() {
    let region = Region::new();
    let has = |signature| region.pair.to_host().call(1, Transport::word(signature));
    for function in FUNCTIONS {
        assert_eq!(has(function.signature), Answer { status: 0, transport: Transport::word(1) });
    }
    for other in [0, 1, 15, 16, !FUNCTIONS[0].signature] {
        assert_eq!(has(other), Answer { status: 0, transport: EMPTY }, "{other:#x}");
    }
    // The guest answers it too.
    let has =
        region.pair.to_guest().call(1, Transport::word(ParamsLadderClimb::FUNCTION.signature));
    assert_eq!(has.transport.primary, 1);
    let (_, text) = DOCUMENT.split_once("**SG-6** Signatures 0 to ").unwrap();
    assert!(text.starts_with(&format!("{} are reserved", signature::FIRST_FREE - 1)));
    assert_eq!(signature::HAS, 1);
}

/// ABI, Nesting N-1 and N-2: sixteen calls, hypercalls and upcalls in turn, and not one more.
#[test]
fn calls_nest_sixteen_deep() {
    let region = Region::new();
    for peer in [region.pair.to_host(), region.pair.to_guest()] {
        let ladder = LadderClient::from(peer);
        assert_eq!(ladder.climb(16), Ok(16));
        let error = ladder.climb(17).unwrap_err();
        assert_eq!(error.why(), Why::TooDeep);
    }
    assert_eq!(MAX_DEPTH, 16);
    assert!(DOCUMENT.contains("Calls may be nested 16 deep (`MAX_DEPTH`)"));
}

/// The sources name sections of the document by their titles; every title that they name is there.
#[test]
fn cited_sections_exist() {
    let mut cited = 0;
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for title in text.split("(ABI, \"").skip(1) {
                let title = title.split('"').next().unwrap();
                assert!(DOCUMENT.contains(&format!("\n## {title}\n")), "{path:?}: {title}");
                cited += 1;
            }
        }
    }
    assert!(cited > 20, "{cited}");
}

/// Every clause has its own number, in order, so that a citation means one thing; and those that
/// this file cites are there.
#[test]
fn clauses_are_numbered() {
    let mut last = BTreeMap::<&str, u32>::new();
    for line in DOCUMENT.lines().filter_map(|line| line.strip_prefix("- **")) {
        let (clause, _) = line.split_once("**").unwrap();
        let (section, number) = clause.split_once('-').unwrap();
        let last = last.entry(section).or_default();
        *last += 1;
        assert_eq!(number, last.to_string(), "{clause}");
    }
    assert_eq!(last.len(), 15, "{last:?}");

    let this = include_str!("abi.rs");
    let words = this.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let mut cited = 0;
    for (section, number) in words.filter_map(|word| word.split_once('-')) {
        let number = number.parse::<u32>();
        if let (Some(last), Ok(number)) = (last.get(section), number) {
            assert!((1..=*last).contains(&number), "{section}-{number} is no clause");
            cited += 1;
        }
    }
    assert!(cited > 60, "{cited}");
}

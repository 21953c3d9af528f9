//! The declarations. Each must compile wherever a declaration can stand.

/// A declaration, with what stands beside it.
pub struct Case {
    pub name: &'static str,
    /// Items and statements in the same scope, before the declaration.
    pub before: &'static str,
    pub declaration: &'static str,
    /// Items in the same scope, behind the declaration.
    pub after: &'static str,
}

const fn plain(name: &'static str, declaration: &'static str) -> Case {
    Case { name, before: "", declaration, after: "" }
}

const fn beside(name: &'static str, before: &'static str, declaration: &'static str) -> Case {
    Case { name, before, declaration, after: "" }
}

const fn used(name: &'static str, declaration: &'static str, after: &'static str) -> Case {
    Case { name, before: "", declaration, after }
}

pub const TABLE: &[Case] = &[
    // Variants with the names of associated items and of generated items.
    plain("variants_like_associated_types", "pub enum Link: u8 { Wire, Radio, OptionWire, Shared, Output, Error }"),
    plain("variants_like_associated_constants", "#[allow(non_camel_case_types, clippy::upper_case_acronyms)] pub enum Link: u8 { HANDLES, SHAPE, HASH, NULLABLE }"),
    plain("values_in_variants_like_associated_types", "pub enum Link: u8 { Wire(u8), Shared { wire: u16 }, OptionWire, Err(u8) }"),
    plain("types_like_the_preludes", "pub struct Some { a: u8 } pub enum Kind: u8 { Ok, Err, None } pub interface Iterator { fn next() -> u8; }"),
    plain("types_like_the_crates", "pub struct Peer { a: u8 } pub struct CallError { b: u8 } pub enum Failure: u8 { A } pub interface Serve { fn peer(peer: Peer) -> Failure; }"),
    // Attributes of derives.
    used("default_variant", "#[derive(Default, Debug, Clone, Copy, PartialEq)] pub enum Level: u8 { Low, #[default] Middle, High }",
        "pub fn level() -> Level { Level::default() }"),
    used("default_variant_beside_values", "#[derive(Default)] pub enum Level: u8 { Low(u8), #[default] Middle, High { a: u8 } }",
        "pub fn level() -> Level { Level::default() }"),
    plain("attributes_of_serde", "#[derive(serde::Serialize, serde::Deserialize)] #[serde(rename_all = \"kebab-case\")]
        pub struct Point { #[serde(default)] x: u8, #[cfg(all())] #[serde(skip)] y: u16, #[serde(rename = \"zed\")] z: u32 }
        #[derive(serde::Serialize, serde::Deserialize)]
        pub enum Kind: u8 { #[serde(rename = \"a\")] A, #[serde(other)] B }"),
    plain("attributes_of_serde_in_variants", "#[derive(serde::Serialize, serde::Deserialize)]
        pub enum Kind: u8 { #[serde(rename = \"a\")] A(#[serde(default)] u8, u16), B { #[serde(skip)] b: u8, #[cfg(any())] #[serde(skip)] gone: Missing } }"),
    plain("attributes_of_thiserror", "#[derive(Debug, thiserror::Error)]
        pub enum OpenError: u32 { #[error(\"not found\")] NotFound = 1, #[error(\"denied\")] #[doc(hidden)] Denied = 2, #[cfg(any())] #[error(\"gone\")] Gone = 2 }
        #[derive(Debug, thiserror::Error)]
        pub enum Whole: u8 { #[error(\"at {0}\")] At(u32), #[error(\"open\")] Open(#[from] OpenError), #[error(\"at {line}\")] In { line: u32 } }"),
    plain("lints_on_fields", "pub struct Odd { #[allow(missing_docs)] a: u8, #[warn(unused)] b: u8 } pub enum Kind: u8 { #[allow(missing_docs)] A, B } pub interface I { #[allow(non_snake_case)] fn readAll(); }"),
    plain("deprecated_fields", "pub struct Old { #[deprecated] a: u8, #[deprecated = \"use a\"] b: u16 } pub enum OldKind: u8 { #[deprecated] A, B }
        pub enum OldValues: u8 { #[deprecated] A(u8), B { #[deprecated] b: u8 } }"),
    plain("hidden_fields", "pub struct Hidden { #[doc(hidden)] a: u8, #[doc(alias = \"bee\")] b: u16 } pub enum Kind: u8 { #[doc(hidden)] A, B }"),
    plain("conditional_attributes", "#[cfg_attr(all(), derive(Clone, Debug))] #[cfg_attr(any(), derive(NoSuchDerive))]
        pub struct Page { #[cfg_attr(any(), serde(skip))] a: u8, #[cfg_attr(all(), doc = \"b\")] b: u8 }
        pub enum Kind: u8 { #[cfg_attr(any(), default)] A, B(#[cfg_attr(any(), from)] u8) }
        pub interface Files { #[cfg_attr(all(), must_use)] fn f() -> u8; #[cfg_attr(any(), no_such_attribute)] fn g(); }"),
    plain("attributes_of_tools", "#[rustfmt::skip] pub struct Page { #[rustfmt::skip] a: u8 } #[rustfmt::skip] pub interface Files { #[rustfmt::skip] #[allow(clippy::all)] fn f(); }"),
    plain("derived_traits", "#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)] pub struct All { a: u8, b: u16 }
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)] pub enum Kind: i64 { Low = -1, High }"),
    plain("cfg_everywhere", "pub struct S { #[cfg(any())] a: Missing, b: u8, #[cfg(all())] #[cfg(not(any()))] c: u8 }
        pub enum E: u8 { #[cfg(any())] A, B, #[cfg(all())] C } pub enum V: u8 { #[cfg(any())] A(Missing), B { #[cfg(any())] a: Missing, b: u8 }, C(u8, u8) }
        pub interface I { #[cfg(any())] fn a(missing: Missing); #[cfg(all())] fn b(); #[cfg(any())] fn c(a: u8); #[cfg(not(any()))] fn c(a: u8, b: u8); }
        #[cfg(any())] pub interface Gone { fn f(m: Missing) -> Missing; }"),
    plain("cfg_between_many_attributes", "#[derive(serde::Serialize)] pub struct Wide {
        #[serde(skip)] a: u8, #[serde(skip)] b: u8, /// C.
        #[serde(skip)] c: u8, d: u8, #[cfg(any())] #[serde(skip)] e: Missing, #[serde(skip)] #[cfg(any())] f: Missing, g: u8, h: u8,
        #[cfg(all())] i: u8, #[serde(skip)] #[doc(hidden)] #[allow(unused)] j: u8, k: u8, #[cfg(any())] l: Missing }"),
    // Constants and statics that a pattern could meet.
    beside("lower_case_constants", "#[allow(non_upper_case_globals, dead_code)] mod bindings {
            pub const error: u32 = 1; pub const value: u8 = 2; pub const wire: usize = 3; pub const from: u8 = 4; pub const out: u8 = 5; pub const tag: u8 = 6;
            pub const peer: u8 = 7; pub const transport: u8 = 8; pub const status: u8 = 9; pub const server: u8 = 10; pub const layout: u8 = 11; pub const all: u8 = 12;
            pub const n: u8 = 13; pub const handles: u8 = 14; pub const span: u8 = 15; pub const call: u8 = 16; pub const answer: u8 = 17; pub const a: u8 = 18; }
            #[allow(unused_imports)] use bindings::*;",
        "pub struct S { wire: u8, a: u8, body: ForeignBuf } pub enum E: u8 { A, B } pub enum V: u8 { A(u8, u8), B { value: u8, tag: u8 } }
        pub interface I { fn f(wire: u8, s: S, v: V) -> Result<V, E>; fn g(e: E) -> E; fn h(); #[optional] fn o(v: V); }"),
    beside("constants_like_parameters", "#[allow(non_upper_case_globals, dead_code)] const error: u8 = 1; #[allow(non_upper_case_globals, dead_code)] const path: &str = \"\";",
        "pub interface I { fn f(error: u8) -> u8; fn g(path: ForeignStr, error: u8); } pub struct S { error: u8, path: ForeignStr } pub enum V: u8 { A { error: u8 } }"),
    beside("statics_like_parameters", "#[allow(non_upper_case_globals, dead_code)] static error: u8 = 1; #[allow(non_upper_case_globals, dead_code)] static wire: u8 = 1; #[allow(non_upper_case_globals, dead_code)] static tag: u8 = 1;",
        "pub interface I { fn f(error: u8, wire: u8) -> u8; } pub struct S { error: u8 } pub enum V: u8 { A { error: u8, tag: u8 } } pub enum E: u8 { A }"),
    beside("units_like_parameters", "#[allow(non_camel_case_types, dead_code)] struct error; #[allow(non_camel_case_types, dead_code)] struct wire(u8);",
        "pub interface I { fn f(error: u8) -> u8; fn g(wire: u8, error: u8); } pub struct S { error: u8, wire: u8 } pub enum V: u8 { A { error: u8, wire: u8 } }"),
    // Names in other styles.
    plain("c_names", "#[allow(non_camel_case_types)] pub struct file_stat { st_size: u64 } #[allow(non_camel_case_types)] pub enum file_kind: u8 { regular, directory }
        #[allow(non_camel_case_types)] pub enum file_event: u8 { opened(u8), closed { why: u8 } }
        #[allow(non_camel_case_types, non_snake_case)] pub interface file_ops { fn openFile(fileName: ForeignStr, FLAGS: u32) -> file_stat; fn READ(); #[optional] fn closeFile(); }"),
    plain("screaming_fields", "#[allow(non_snake_case)] pub struct Regs { RAX: u64, rBx: u64 } #[allow(non_snake_case)] pub struct Reqs { BODY: ForeignBuf }"),
    plain("raw_names", "pub struct Raw { r#type: u8, r#fn: ForeignBuf } pub enum Kind: u8 { V { r#match: u8 }, W(u8) } pub interface Words { fn r#loop(r#in: u8, r#as: u8) -> Raw; #[optional] fn r#move(); }"),
    plain("names_beyond_ascii", "pub struct Größe { länge: u32 } pub interface Maße { fn größe(für: ForeignStr, maß: u8) -> Größe; }"),
    plain("names_with_underscores", "#[allow(non_snake_case)] pub interface Files { fn _open(_path: ForeignStr); fn read_(a_: u8, _b: u8); fn x__y(); } pub struct Under { _pad: u8, __b: u8 }"),
    // Functions with the names of methods of traits.
    used("functions_like_trait_methods", "pub interface Odd { fn into() -> u8; fn clone(a: u8) -> u8; fn from() -> u8; fn to_owned() -> u8; fn borrow() -> u8; fn deref() -> u8; fn eq(a: u8) -> u8;
        fn drop() -> u8; fn type_id() -> u8; fn try_into() -> u8; fn fmt() -> u8; fn default() -> u8; fn call() -> u8; fn new() -> u8; fn peer() -> u8; fn optional() -> u8; fn hash(hash: u8) -> u8; }",
        "pub fn calls(client: OddClient<'_>) -> Result<u8, CallError> {
            Ok(client.into()? + client.clone(1)? + client.from()? + client.to_owned()? + client.borrow()? + client.deref()? + client.eq(1)? + client.drop()?
                + client.type_id()? + client.try_into()? + client.fmt()? + client.default()? + client.call()? + client.new()? + client.peer()? + client.optional()? + client.hash(1)?) }"),
    used("optional_beside_has", "pub interface Banks { #[optional] fn vault() -> u8; fn has_vault() -> u8; #[optional] fn has_has_vault(); }",
        "pub fn calls(client: BanksClient<'_>) -> Result<u8, CallError> { let _: bool = (*client).has_vault()?; let _: bool = client.has_has_has_vault()?; client.vault()?; client.has_vault() }"),
    plain("parameters_like_generated_names", "pub interface I { fn f(peer: u8, server: u8, transport: u8, status: u8, this: u8, client: u8) -> u8; fn g(optional: u8); fn h(from: u8, out: u8, wire: u8); }"),
    // Names that meet when they are joined.
    plain("joined_names_of_interfaces", "pub interface File { fn read_at(); } pub interface FileRead { fn at(); }"),
    plain("joined_names_with_digits", "pub interface Regs { fn reg1() -> u8; fn reg_1() -> u8; }"),
    plain("joined_names_of_two_styles", "#[allow(non_snake_case)] pub interface Files { fn readAll() -> u8; fn read_all() -> u8; }"),
    beside("the_users_own_shared", "pub struct SharedPage; pub struct SharedLog;", "pub struct Page { a: u8 } pub struct Log { text: ForeignStr }"),
    beside("the_users_own_private_shared", "#[allow(dead_code)] struct SharedPage; #[allow(dead_code)] pub(crate) struct SharedLog; #[allow(dead_code)] type SharedNote = u8;", "pub struct Page { a: u8 } pub struct Log { text: ForeignStr } pub(crate) struct Note { text: ForeignStr }"),
    beside("the_users_own_private_params", "#[allow(dead_code)] struct ParamsFilesOpen; #[allow(dead_code)] enum ParamsFilesClose {}", "pub interface Files { fn open(path: ForeignStr, flags: u32); fn read(); fn close(file: u32, flags: u32); }"),
    beside("the_users_own_params", "pub struct ParamsFilesOpen;", "pub interface Files { fn open(path: ForeignStr, flags: u32); }"),
    // Documentation.
    plain("documentation_of_all_kinds", "/** A block. */ pub struct S { /** A. */ a: u8, #[doc = concat!(\"b\", \"c\")] b: u8 }
        /// Lines
        /// with `code` and [`S`].
        pub enum E: u8 { /// A.
            A, #[doc = \"B\"] B }
        /// I.
        pub interface I { /// F.
            #[doc = \"more\"] /** and more */ fn f(); #[doc = include_str!(\"doc.md\")] fn g(); }"),
    // Values in variants.
    used("tuple_variants", "#[derive(Clone, Debug, PartialEq)] pub enum Shape: u8 { Point(u8, u16), Line(u8, u8, u64, bool) = 7, Rest(Inner, Option<u8>,), Twelve(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u16), One(u8), Braces {}, Unit }
        #[derive(Clone, Debug, PartialEq)] pub struct Inner { a: u8 } pub interface I { fn f(shape: Shape) -> Shape; fn g(all: ForeignSlice<Shape>, one: Foreign<Shape>) -> Result<u8, Shape>; }",
        "pub fn shapes() -> [Shape; 3] { [Shape::Point(1, 2), Shape::Line(1, 2, 3, true), Shape::Unit] }"),
    plain("numbers_by_expressions", "pub enum E: i32 { A = 1 + 2, B = -(4), C = i32::MAX, D = 8, E = 'a' as i32 } pub enum V: u8 { A(u8) = 1 << 3, B {} = b'x' }"),
    beside("numbers_by_constants", "#[allow(dead_code)] const BASE: u32 = 4;", "pub enum E: u32 { A = BASE, B = BASE + 1 } pub enum V: u32 { A(u8) = BASE, B }"),
    plain("empty_items", "pub struct Nothing {} pub interface Empty {} pub enum One: u8 { Only } pub enum Braces: u8 { A {} }"),
    plain("trailing_commas", "pub struct S { a: u8, b: u8, } pub enum E: u8 { A, B, } pub enum V: u8 { A(u8,), B { a: u8, }, } pub interface I { fn f(a: u8, b: u8,) -> u8; }"),
    beside("types_by_paths", "pub mod deep { pub mod er { pub type Count = u32; } }", "pub struct S { a: deep::er::Count, b: core::option::Option<u8>, c: VMFFI::ForeignBuf } pub interface I { fn f(a: deep::er::Count, b: Option<deep::er::Count>) -> deep::er::Count; }"),
    plain("visibilities", "pub(crate) struct A { a: u8 } struct B { pub a: u8, pub(crate) b: A, c: u8 } pub(crate) enum C: u8 { A, B } interface D { fn f(a: A, b: B) -> C; }"),
    plain("unused_items", "struct A { a: u8, text: ForeignStr } enum B: u8 { A, B } enum C: u8 { A(u8), B } interface D { fn f(a: u8) -> A; #[optional] fn g(); }"),
    beside("unused_items_of_the_crate", "mod inner { #[allow(unused_imports)] use VMFFI::*; DECLARE! { pub(super) struct A { a: u8, text: ForeignStr } pub(crate) enum B: u8 { A, B(u8) }
        pub(super) interface D { fn f(a: u8, b: B) -> A; #[optional] fn g(); fn h(a: u8); } pub(crate) interface E { fn f(a: u8, b: u8); } } }", ""),
    used("private_items_used_in_part", "struct A { a: u8 } struct B { text: ForeignStr } interface D { fn f(a: u8, b: u8) -> A; #[optional] fn g(b: B); fn h(a: u8); }",
        "pub fn calls(peer: &Peer) -> Result<u8, CallError> { Ok(DClient::from(peer).f(1, 2)?.a) }"),
    used("shared_in_public_signatures", "#[derive(Debug)] pub struct Report { a: u8, text: ForeignStr } pub interface R { fn report(a: u8, b: u8) -> Result<Report, Report>; }",
        "pub fn shared() -> Option<SharedReport> { None } pub trait T { fn f(&self) -> Result<SharedReport, u8>; }"),
    plain("must_use", "#[must_use] pub struct A { a: u8 } #[must_use = \"b\"] pub enum B: u8 { A } pub interface I { #[must_use] fn f() -> A; #[must_use = \"g\"] fn g(b: B) -> B; }"),
    plain("deprecated_items", "#[deprecated] pub struct A { a: u8 } #[deprecated] pub enum B: u8 { A } #[deprecated] pub enum C: u8 { A(u8) } pub interface I { #[deprecated] fn f() -> u8; #[deprecated] #[optional] fn g(a: u8, b: u8); }"),
    // Through fragments of a macro of the user's.
    Case { name: "fragments", before: "macro_rules! page { ($(#[$m:meta])* $v:vis struct $n:ident { $( $(#[$fm:meta])* $f:ident : $t:ty ),* } $d:literal $r:ident $e:expr) => { DECLARE! {
            $(#[$m])* $v struct $n { $( $(#[$fm])* $f: $t ),* } #[doc = $d] pub enum Kind: $r { A = $e, B } pub enum Value: $r { A($($t),*) = $e } pub interface Pages { $(#[$m])* fn f($($f: $t),*) -> $n; } } } }
        page! { /// A page.
            #[allow(dead_code)] pub(crate) struct Page { /// A.
                a: u8, #[doc(hidden)] b: Option<u16> } \"a kind\" u8 1 + 2 }", declaration: "", after: "" },
    // Packed values, beside what else a declaration has.
    plain("packed_values", "#[derive(Clone, Copy, Debug, PartialEq)] pub struct Entry<'a> { name: &'a str, size: Option<u64>, body: &'a [u8], tags: VMFFI::List<'a, &'a str> }
        #[derive(Clone, Copy, Debug, PartialEq)] pub enum Cell<'a>: u8 { Null, Int(i64), Text(&'a str) = 9, Both { left: &'a str, #[cfg(any())] gone: &'a Missing, right: (u8, &'a str) }, #[cfg(any())] Gone(&'a Missing) }
        pub interface Cells { fn cells(entries: VMFFI::ForeignList<Entry>, cell: VMFFI::ForeignPacked<Cell>) -> VMFFI::ForeignPacked<VMFFI::List<Cell>>; }"),
    beside("packed_values_with_names_of_primitives", "#[allow(non_camel_case_types, dead_code)] pub struct usize; #[allow(non_camel_case_types, dead_code)] pub struct bool; #[allow(non_camel_case_types, dead_code)] pub struct u64;",
        "pub struct Entry<'a> { pub name: &'a str, pub(crate) body: &'a [u8] } pub enum Cell<'a>: u64 { Text(&'a str), Named { name: &'a str } }"),
    // Names of the user's that are those of generated items, in types and as constants.
    Case { name: "types_like_generated_ones", before: "#[allow(dead_code)] mod mine { #[derive(Clone)] pub struct Letters(pub u8);
            impl VMFFI::CrossesAs for Letters { type Wire = u8; fn to_wire(&self) -> u8 { self.0 } fn from_wire(wire: u8) -> Option<Self> { Some(Self(wire)) } } VMFFI::crosses_as!(Letters); }
        #[allow(unused_imports)] use mine::{Letters as SharedBox, Letters as SharedPair, Letters as ParamsFilesOpen, Letters as ParamsFilesOne};",
        declaration: "pub struct Box { a: SharedBox, b: ForeignStr } pub struct Pair { a: SharedPair, #[cfg(any())] b: Missing }
            pub interface Files { fn open(a: ParamsFilesOpen, b: ForeignStr) -> ParamsFilesOpen; fn one(a: ParamsFilesOne) -> Box; }", after: "" },
    // Functions of the user's in types and pins, with the names of parameters and fields.
    beside("functions_like_parameters", "#[allow(dead_code)] const fn width() -> usize { 4 } #[allow(dead_code)] const fn total() -> usize { 8 }",
        "pub struct Row { width: u8, cells: [u8; width()], text: ForeignStr } #[size(total())] pub struct Sum { total: u32, more: u32 }
        pub interface Rows { fn one(width: [u8; width()]); fn two(width: u8, cells: [u8; width()]) -> [u16; width()]; #[size(total())] fn sum(total: u32, more: u32) -> Row; }"),
    // More values with attributes than the compiler's recursion limit has steps for, one by one.
    plain("attributes_on_many_values", "pub enum Many: u8 {
            A(#[allow(dead_code)] u8), B(#[allow(dead_code)] u8), C(#[allow(dead_code)] u8), D(#[allow(dead_code)] u8), E(#[allow(dead_code)] u8),
            F(#[allow(dead_code)] u8), G(#[allow(dead_code)] u8), H(#[allow(dead_code)] u8), I(#[allow(dead_code)] u8), J(#[allow(dead_code)] u8),
            K(#[allow(dead_code)] u8), L(#[allow(dead_code)] u8), M(#[allow(dead_code)] u8), N(#[allow(dead_code)] u8), O(#[allow(dead_code)] u8),
            P(#[allow(dead_code)] u8), Q(#[allow(dead_code)] u8), R(#[allow(dead_code)] u8), S(#[allow(dead_code)] u8), T(#[allow(dead_code)] u8),
            U(#[allow(dead_code)] u8), V(#[allow(dead_code)] u8), W(#[allow(dead_code)] u8), X(#[allow(dead_code)] u8), Y(#[allow(dead_code)] u8),
            Z { #[allow(dead_code)] a: u8, #[cfg(any())] a: Missing, #[cfg(all())] b: u8 }, #[cfg(any())] Gone(Missing), Last(#[allow(dead_code)] u8, #[doc(hidden)] u8) }"),
    // Enums whose values are dropped by the user's code, and numbers that follow one another.
    Case { name: "enums_with_drop", before: "", declaration: "pub enum Left: u8 { A = 7, B, #[cfg(any())] Gone = 9, C } pub enum Right: i16 { A(u8) = -2, B, C { a: u8 } }",
        after: "impl Drop for Left { fn drop(&mut self) {} } impl Drop for Right { fn drop(&mut self) {} }" },
    beside("constants_beside_converted_types", "#[allow(non_upper_case_globals, dead_code)] pub mod constants { pub const wire: u8 = 1; pub const from: u8 = 2; pub const transport: u8 = 3; pub const out: u8 = 4; pub const error: u8 = 5;
            #[derive(Debug)] pub struct Percent(u8);
            impl VMFFI::CrossesAs for Percent { type Wire = u8; fn to_wire(&self) -> u8 { self.0 } fn from_wire(number: u8) -> Option<Self> { Some(Self(number)) } } VMFFI::crosses_as!(Percent); }",
        "pub interface Fans { fn set(speed: constants::Percent) -> constants::Percent; }"),
    plain("deprecated_interfaces", "#[deprecated] pub interface Old { fn f(a: u8, text: ForeignStr) -> ForeignBuf; #[optional] fn g(); }"),
    // Types with words that other types may not have.
    beside("suspicious_words", "pub mod words { pub trait Named { type Type; } impl Named for u8 { type Type = u16; } pub trait Device {} #[derive(Debug)] pub struct Id<T: ?Sized>(u32, core::marker::PhantomData<fn(&T)>);
            #[allow(non_camel_case_types)] #[derive(Debug)] pub struct str(u8);
            impl VMFFI::CrossesAs for str { type Wire = u8; fn to_wire(&self) -> u8 { self.0 } fn from_wire(number: u8) -> Option<Self> { Some(Self(number)) } }
            impl<T: ?Sized + 'static> VMFFI::CrossesAs for Id<T> { type Wire = u32; fn to_wire(&self) -> u32 { self.0 } fn from_wire(number: u32) -> Option<Self> { Some(Self(number, core::marker::PhantomData)) } }
            VMFFI::crosses_as!(str, Id<dyn Device>, Id<[u8]>, Id<&'static u8>, Id<fn(u8) -> u8>); }",
        "pub struct Words { text: words::str, array: [words::str; 2], pair: (u8, words::str), device: Option<words::Id<dyn words::Device>> }
            pub enum Values: u8 { Bytes([u8; 4], u8), Text((u8, words::str), [words::str; 2]), Device { id: words::Id<dyn words::Device>, #[cfg(any())] gone: Missing }, #[cfg(any())] Gone(Missing, words::str) }
            pub interface Suspicious { fn a(text: words::str, words: Words) -> words::Id<[u8]>; fn b(values: Values) -> Result<words::Id<&'static u8>, <u8 as words::Named>::Type>; #[cfg(any())] fn gone(a: Missing, b: words::str); fn c(id: words::Id<fn(u8) -> u8>) -> (u8, words::str); }"),
];

//! More declarations, of kinds that broke other macro crates. Each must compile as those of the table do.

use super::table::Case;

const fn case(
    name: &'static str,
    before: &'static str,
    declaration: &'static str,
    after: &'static str,
) -> Case {
    Case { name, before, declaration, after }
}

/// Cases that name items of their module by a path, which the items in a function's body do not have.
pub const IN_MODULES: &[&str] = &["types_by_all_paths", "super_paths"];

pub const TRACKERS: &[Case] = &[
    // uniffi-rs, mx-sdk-rs: types of the user's that hide names of the prelude.
    case(
        "types_that_hide_the_prelude",
        "",
        "pub struct Result { a: u8 } pub struct Option { a: Result } pub struct String { a: u8 } pub struct Box { a: u8 } pub struct Vec { a: u8 } pub enum Ok: u8 { A } pub enum Err: u8 { A(u8) } pub struct Some { a: u8, b: ForeignStr } pub enum None: u8 { A } pub struct Clone { a: u8 } pub struct Copy { a: u8 } pub struct Default { a: u8 } pub struct From { a: u8 } pub struct Into { a: u8 } pub struct Send { a: u8 } pub struct Sized { a: u8 } pub struct Drop { a: u8 } pub struct Debug { a: u8 } pub interface Fn { fn f(a: Result, b: Option, c: String, d: Box, e: Vec) -> Some; fn g(a: Ok, b: Err) -> None; }",
        "",
    ),
    // naga-rust: types named as scalars.
    case(
        "types_that_hide_scalars",
        "#[allow(non_camel_case_types, dead_code)] pub struct u8; #[allow(non_camel_case_types, dead_code)] pub struct u32; #[allow(non_camel_case_types, dead_code)] pub struct u64; #[allow(non_camel_case_types, dead_code)] pub struct usize; #[allow(non_camel_case_types, dead_code)] pub struct bool; #[allow(non_camel_case_types, dead_code)] pub struct str; pub type Count = core::primitive::u16;",
        "pub struct S { a: Count, b: crate::Byte } pub enum E: u32 { A, B } pub enum V: u8 { A(Count), B } pub interface I { fn f(a: Count, b: S) -> V; fn g(e: E) -> Count; #[optional] fn o(); }",
        "",
    ),
    case(
        "globs_that_hide_the_prelude",
        "#[allow(dead_code, unreachable_pub)] mod shadows { pub enum Result {} pub enum Option {} pub struct Some; pub struct Ok; pub struct Err; pub struct String; pub struct Box; pub struct Vec; pub fn drop() {} pub trait Clone {} pub trait Copy {} pub trait From {} pub trait Into {} pub trait Iterator {} } #[allow(unused_imports)] use shadows::*;",
        "pub struct S { a: u8 } pub interface I { fn f(a: S, b: ForeignStr) -> u8; fn g() -> core::result::Result<u8, S>; }",
        "",
    ),
    // bitcode, custom_error, bevy: modules named `core`, `std`, `alloc`.
    case(
        "modules_like_crates",
        "#[allow(dead_code)] mod core {} #[allow(dead_code)] mod std {} #[allow(dead_code)] mod alloc {} #[allow(dead_code)] mod paste {} #[allow(dead_code)] mod bytemuck {}",
        "pub struct S { a: u8, b: ForeignStr } pub enum E: u8 { A, B } pub enum V: u8 { A(u8) } pub interface I { fn f(a: S, v: V) -> E; #[optional] fn g(a: u8); }",
        "",
    ),
    // anyhow: macros of the user's that hide those of `core`.
    case(
        "macros_that_hide_macros",
        "#[allow(unused_macros)] macro_rules! panic { () => {} } #[allow(unused_macros)] macro_rules! stringify { () => {} } #[allow(unused_macros)] macro_rules! concat { () => {} } #[allow(unused_macros)] macro_rules! assert { () => {} } #[allow(unused_macros)] macro_rules! compile_error { () => {} }",
        "pub struct S { a: u8, b: ForeignStr } pub enum V: u8 { A(u8) } pub interface I { fn f(a: S, v: V); }",
        "",
    ),
    // Documentation with quotes, braces and macros in it.
    case(
        "documentation_with_everything",
        "",
        r##"/// "quotes" {braces} {} `code` \ backslash 'c' #[attr] $dollar $crate {{ }} %
 pub struct S { /// } ) ] " 
 a: u8 } #[doc = concat!("a", "{}", "\"")] pub enum E: u8 { #[doc = "{"] A } #[doc(alias = "x")] #[doc = include_str!("doc.md")] pub interface I { /// ``` text { } ```
 #[doc = r#"raw "quotes""#] fn f(); #[doc(hidden)] fn g(); }"##,
        "",
    ),
    case(
        "non_exhaustive",
        "",
        "#[non_exhaustive] #[derive(Clone, Debug)] pub struct S { a: u8 } #[non_exhaustive] #[derive(Clone, Copy, Debug)] pub enum E: u8 { A, B } #[non_exhaustive] #[derive(Debug)] pub enum V: u8 { #[non_exhaustive] A { a: u8 }, #[non_exhaustive] B(u8) } #[non_exhaustive] pub struct H { t: ForeignStr } pub interface I { fn f(s: S, e: E) -> V; fn g(h: H) -> H; }",
        "",
    ),
    // jsonrpc: deprecated interfaces, functions and variants under `deny(warnings)`.
    case(
        "deprecated_variants",
        "",
        r#"pub enum E: u8 { #[deprecated(note = "b")] A, B } pub enum V: u8 { #[deprecated] A(u8), B { #[deprecated(since = "1", note = "c")] a: u8 } } pub interface I { #[deprecated(note = "no")] fn f(e: E) -> V; } #[deprecated] pub interface J { fn f(); fn g(a: u8, b: u8); }"#,
        "",
    ),
    case(
        "visibilities_in_paths",
        "",
        "pub(in crate) struct A { a: u8 } pub(crate) struct B { pub(in crate) a: u8, pub(crate) t: ForeignStr, pub(self) c: u8 } pub(crate) enum C: u8 { A } pub(in crate) interface D { fn f(a: A, c: C) -> B; #[optional] fn g(); }",
        "",
    ),
    // Functions with many parameters.
    case(
        "fourteen_parameters",
        "",
        "pub interface I { fn f(a: u8, b: u16, c: u32, d: u64, e: i8, f: i16, g: i32, h: i64, i: bool, j: char, k: f32, l: f64, m: ForeignStr, n: ForeignBuf) -> u8; }",
        "",
    ),
    // Types by all kinds of paths.
    case(
        "types_by_all_paths",
        "pub type Own = u16;",
        "pub interface I { fn f(a: crate::Byte, b: self::Own, c: ::core::primitive::u8, d: core::option::Option<self::Own>) -> crate::Byte; } pub struct S { a: self::Own, b: ::core::primitive::u8 }",
        "",
    ),
    case(
        "super_paths",
        "pub mod inner { use VMFFI as _; #[allow(unused_imports)] use VMFFI::*; DECLARE! { pub struct S { a: super::Own2, b: super::super::Byte } pub interface I { fn f(a: super::Own2) -> super::super::Byte; } } } pub type Own2 = u16;",
        "",
        "",
    ),
    case(
        "type_aliases",
        "pub type Words = [u8; 4]; pub type Name = ForeignStr; pub type Outcome = core::result::Result<ForeignStr, E>;",
        "pub struct S { a: Words } pub interface I { fn f(a: Words, b: Name) -> Outcome; } pub enum E: u8 { A }",
        "",
    ),
    // jsonrpsee: macros that produce types, and macros around a declaration.
    case(
        "types_by_macros",
        "macro_rules! number { () => { u16 } } macro_rules! text { () => { ForeignStr } }",
        "pub struct S { a: number!(), b: text!() } pub interface I { fn f(a: number!()) -> number!(); }",
        "",
    ),
    // thread_local (rust-lang/rust), async-trait: parameters and statics with the names of generated variables.
    case(
        "names_like_generated_locals",
        "",
        "pub interface I { fn f(peer: u8, self_: u8, out: u8, args: u8, call: u8, client: u8, t: u8, result: u8, error: u8, params: u8, value: u8, name: u8, function: u8) -> u8; fn call(call: u8); fn result(result: u8, answer: u8); fn t(t: u8); fn out(out: ForeignStr); fn peer(peer: u8); fn args(); fn client() -> u8; fn params(a: u8, b: u8); fn optional(optional: u8); fn core(core: u8); fn vmffi(vmffi: u8, std: u8); }",
        "",
    ),
    case(
        "statics_like_generated_locals",
        "#[allow(non_upper_case_globals, dead_code)] static init: u8 = 0; #[allow(non_upper_case_globals, dead_code)] static transport: u8 = 0; #[allow(non_upper_case_globals, dead_code)] static server: u8 = 0; #[allow(non_upper_case_globals, dead_code)] static span: u8 = 0; #[allow(non_upper_case_globals, dead_code)] static value: u8 = 0; #[allow(non_upper_case_globals, dead_code)] const all: u8 = 0; #[allow(non_upper_case_globals, dead_code)] const peer: u8 = 0;",
        "pub struct S { a: u8 } pub enum V: u8 { A(u8), B { value: u8 } } pub interface I { fn f(s: S, v: V) -> u8; }",
        "",
    ),
    case(
        "names_with_leading_underscores",
        "",
        "pub struct _S { _x: u8, _y: ForeignStr } pub enum _E: u8 { _A, _B } pub interface _I { fn _f(_x: u8, _y: ForeignStr) -> _S; fn f_(_e: _E); }",
        "",
    ),
    case(
        "unit_like",
        "",
        "pub struct Unit {} pub interface I { fn f(a: Unit) -> Unit; fn g(a: Unit, b: ()) -> (); fn h(a: ()) -> Result<(), Unit>; fn i(a: ForeignSlice<Unit>); }",
        "",
    ),
    case(
        "two_declarations",
        "DECLARE! { pub struct A0 { a: u8 } pub interface I0 { fn f(a: A0); } } DECLARE! {}",
        "pub struct A1 { a: u8 } pub interface I1 { fn f(a: A1); }",
        "DECLARE! { pub struct A2 { a: A1, b: A0 } pub interface I2 { fn f(a: A2, b: A1); } }",
    ),
    // Declarations beside and inside of each other.
    case(
        "in_tests",
        "#[cfg(test)] mod tests { DECLARE! { pub struct A { a: u8 } interface I { fn f(a: A); } } } #[allow(dead_code)] fn nested() { mod deep { DECLARE! { pub interface I { fn f(a: u8); } } } fn inner() { DECLARE! { struct L { a: u8 } interface I { fn f(a: L); } } } }",
        "",
        "",
    ),
    // Numbers of variants at the limits, by all operators.
    case(
        "enums_at_the_edges",
        "",
        "pub enum A: i8 { Low = -128, High = 127 } pub enum B: u64 { Max = 0xffff_ffff_ffff_ffff, Zero = 0 } pub enum C: i64 { Min = i64::MIN, Next, Max = i64::MAX } pub enum D: usize { A = 1 << 3, B = 1 | 4, C = !0 & 0xff, D = (2 + 3) * 4 } pub enum E: isize { A = -1, B = 5 & 3 } pub enum F: i32 { A(u8) = -(7), B = b'x' as i32, C { a: u8 } = 5 & 3 }",
        "",
    ),
    // tarpc, entrait, soroban: `#[cfg]` on every place that it may have, with another declaration in its stead.
    case(
        "cfg_on_every_place",
        "",
        "#[cfg(all())] pub struct S { #[cfg(all())] a: u8, #[cfg(any())] a: u16 } #[cfg(any())] pub struct S { b: Missing } pub enum E: u8 { #[cfg(all())] A = 1, #[cfg(any())] A = 2, B } pub enum V: u8 { #[cfg(all())] A(u8), #[cfg(any())] A(Missing), #[cfg(not(any()))] B { #[cfg(all())] a: u8, #[cfg(any())] a: u16 } } #[cfg(all())] pub interface I { #[cfg(all())] fn f(); #[cfg(any())] fn f(a: u8); } #[cfg(any())] pub interface I { fn f(); }",
        "",
    ),
    case(
        "derives_by_path",
        "",
        "#[derive(::core::clone::Clone, core::fmt::Debug, core::cmp::PartialEq)] pub struct S { a: u8 } #[derive(::core::clone::Clone, core::fmt::Debug)] pub enum V: u8 { A(u8) }",
        "",
    ),
    case(
        "allow_everything",
        "",
        "#[allow(clippy::all, warnings)] pub struct S { a: u8 } #[allow(unused)] interface I { fn f(a: S); }",
        "",
    ),
    case(
        "trait_like_names",
        "",
        "pub interface Clone { fn clone() -> u8; } pub interface Default { fn default() -> u8; } pub interface Drop { fn drop(); } pub interface Sync { fn sync(); } pub interface Error { fn source() -> u8; }",
        "",
    ),
    case(
        "generated_type_names",
        "",
        "pub struct Client { a: u8 } pub struct Params { a: u8 } pub struct Shared { t: ForeignStr } pub struct Optional { a: u8 } pub struct Wire { a: u8 } pub enum Tag: u8 { A } pub struct Key { a: u8 } pub struct Server { a: u8 } pub interface Interface { fn f(a: Client, b: Params, c: Optional, d: Wire, e: Tag, f: Key, g: Server) -> Shared; }",
        "",
    ),
    case(
        "same_names_of_fields_and_types",
        "",
        "#[allow(non_snake_case)] pub struct Page { Page: u8, ForeignStr: ForeignStr } #[allow(non_snake_case)] pub interface Pages { fn Page(Page: Page) -> Page; }",
        "",
    ),
    case(
        "generics_of_generics",
        "",
        "pub interface I { fn f(a: Option<Option<Option<u8>>>, b: Option<[Option<(u8, [u16; 2])>; 3]>, c: ForeignSlice<[(u8, u8); 2]>) -> Result<Option<ForeignSlice<Option<u8>>>, Option<u8>>; fn g(a: (u8,), b: [(ForeignStr, u8); 2]) -> (ForeignStr, Option<ForeignBuf>); }",
        "",
    ),
    case(
        "qualified_types",
        "pub trait Own3 { type T; } impl Own3 for u8 { type T = u16; } pub const N: usize = 3;",
        "pub struct S { a: <u8 as Own3>::T } pub interface I { fn f(a: <u8 as Own3>::T, b: [u8; 1 + 1], c: [u8; N]) -> <u8 as Own3>::T; }",
        "",
    ),
];

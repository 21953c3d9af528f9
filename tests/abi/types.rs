//! The types of the document's vectors, as `hash` describes types.

use super::hash::Type::{self, Array, Enum, List, Named, Of, Option, Struct, Tuple};

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
pub fn array(ty: Type, len: u64) -> Type {
    Array(ty.into(), len)
}
pub fn tuple<const N: usize>(types: [Type; N]) -> Type {
    Tuple(types.into())
}
pub fn packed(ty: Type) -> Type {
    Of("ForeignPacked", 16, 8, ty.into())
}
/// The types that have data (ABI, Packed values PK-2).
pub fn borrowed(name: &'static str) -> Type {
    Named(name, 8, 8)
}
pub fn list(ty: Type) -> Type {
    List(ty.into())
}
pub fn entry() -> Type {
    let tags = list(borrowed("&[u8]"));
    let mode = option(scalar("u32"));
    let fields =
        vec![("name", borrowed("&str")), ("size", scalar("u64")), ("mode", mode), ("tags", tags)];
    Struct("Entry", fields)
}
pub fn cell() -> Type {
    let variants = vec![
        ("Null", 0, vec![]),
        ("Int", 1, vec![("", scalar("i64"))]),
        ("Text", 9, vec![("", borrowed("&str"))]),
    ];
    Enum("Cell", scalar("u8").into(), variants)
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
    let fields = vec![("name", text()), ("stat", stat()), ("body", option(buf())), ("meta", meta)];
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

//! Shared structs and enums.

use crate::{echoes, slices};

vmffi::ffi_interface! {
    /// Three kinds of padding: between, in an array of them, at the end.
    #[derive(Clone, Debug, PartialEq)]
    #[size(32)]
    pub struct Padded { a: u8, b: u64, c: u16, d: u32, e: bool }

    #[derive(Clone, Debug, PartialEq)]
    pub struct Nested { tag: u8, inner: Padded, wide: u128, letter: char, maybe: Option<Padded> }

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[size(0)]
    pub struct Empty {}

    #[derive(Clone, Debug, PartialEq)]
    #[size(8)]
    pub struct WithEmpty { a: Empty, value: u32, b: (), c: Option<Empty> }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Small: u8 { Zero, One, Last = 255 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Signed: i8 { Low = -128, Minus = -1, Zero, High = 127 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Medium: i32 { Low = i32::MIN, Minus = -2, High = i32::MAX }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Long: u64 { Zero, High = u64::MAX }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum SignedLong: i64 { Low = i64::MIN, Minus = -1 }

    /// Only one value, and not 0.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Single: u16 { Only = 300 }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Shape: u8 {
        Nothing,
        Circle { radius: f64, filled: bool },
        Side(u32) = 7,
        Wide(u128),
        Of(Padded),
        Maybe { small: Option<Small>, signed: Signed },
        Empty {},
    }

    /// An enum with values in a struct in an enum with values.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Labelled { label: char, shape: Shape }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Deep: i64 { Low(Labelled) = i64::MIN, Minus { shape: Shape } = -1 }
}

fn padded() -> Padded {
    Padded { a: 1, b: u64::MAX, c: 2, d: 3, e: true }
}

fn nested(maybe: Option<Padded>) -> Nested {
    Nested { tag: 9, inner: padded(), wide: u128::MAX, letter: char::MAX, maybe }
}

echoes! {
    type_padded: Padded = [padded(), Padded { a: 0, b: 0, c: 0, d: 0, e: false }];
    type_nested: Nested = [nested(None), nested(Some(padded()))];
    type_empty: Empty = [Empty {}];
    type_with_empty: WithEmpty = [
        WithEmpty { a: Empty {}, value: 5, b: (), c: None },
        WithEmpty { a: Empty {}, value: 6, b: (), c: Some(Empty {}) },
    ];
    type_small: Small = [Small::Zero, Small::One, Small::Last];
    type_signed: Signed = [Signed::Low, Signed::Minus, Signed::Zero, Signed::High];
    type_medium: Medium = [Medium::Low, Medium::Minus, Medium::High];
    type_long: Long = [Long::Zero, Long::High];
    type_signed_long: SignedLong = [SignedLong::Low, SignedLong::Minus];
    type_single: Single = [Single::Only];
    type_shape: Shape = [
        Shape::Nothing,
        Shape::Circle { radius: -0.5, filled: true },
        Shape::Side(u32::MAX),
        Shape::Wide(u128::MAX),
        Shape::Of(padded()),
        Shape::Maybe { small: Some(Small::Last), signed: Signed::Low },
        Shape::Maybe { small: None, signed: Signed::High },
        Shape::Empty {},
    ];
    type_deep: Deep = [
        Deep::Low(Labelled { label: 'x', shape: Shape::Side(1) }),
        Deep::Minus { shape: Shape::Nothing },
    ];
}

slices! {
    slice_padded: Padded = [padded(), Padded { a: 0, b: 0, c: 0, d: 0, e: false }];
    slice_nested: Nested = [nested(None), nested(Some(padded()))];
    slice_small: Small = [Small::Last, Small::Zero, Small::One];
    slice_signed: Signed = [Signed::Low, Signed::Minus, Signed::Zero, Signed::High];
    slice_shape: Shape = [Shape::Nothing, Shape::Of(padded()), Shape::Side(4)];
}

#[test]
fn numbers_of_an_enum_are_the_declared_ones() {
    assert_eq!(Small::Last as u8, 255);
    assert_eq!(Signed::Minus as i8, -1);
    assert_eq!(Signed::Zero as i8, 0);
    assert_eq!(Long::High as u64, u64::MAX);
}

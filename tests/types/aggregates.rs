//! Shared structs and enums in slices.

use crate::{
    shared::plain::{Long, Nested, Padded, Shape, Signed, Small, nested, padded},
    slices,
};

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

//! Scalars, with the values at the edges of each.

use crate::{echoes, slices};

echoes! {
    type_u8: u8 = [0, 1, 0x80, u8::MAX];
    type_u16: u16 = [0, 1, 0x8000, u16::MAX];
    type_u32: u32 = [0, 1, 0x8000_0000, u32::MAX];
    type_u64: u64 = [0, 1, 1 << 63, u64::MAX];
    type_usize: usize = [0, 1, usize::MAX];
    type_i8: i8 = [0, 1, -1, i8::MIN, i8::MAX];
    type_i16: i16 = [0, 1, -1, i16::MIN, i16::MAX];
    type_i32: i32 = [0, 1, -1, i32::MIN, i32::MAX];
    type_i64: i64 = [0, 1, -1, i64::MIN, i64::MAX];
    type_isize: isize = [0, 1, -1, isize::MIN, isize::MAX];
    type_u128: u128 = [0, 1, u128::MAX, u128::from_le_bytes(*b"sixteen bytes...")];
    type_i128: i128 = [0, 1, -1, i128::MIN, i128::MAX];
    type_f32: f32 = [0.0, 1.5, f32::MIN, f32::MAX, f32::EPSILON, f32::INFINITY, f32::NEG_INFINITY];
    type_f64: f64 = [0.0, 1.5, f64::MIN, f64::MAX, f64::EPSILON, f64::INFINITY, f64::NEG_INFINITY];
    type_bool: bool = [false, true];
    type_char: char = ['\0', 'a', 'é', '\u{d7ff}', '\u{e000}', char::MAX];
    type_unit: () = [()];
}

slices! {
    slice_u8: u8 = [0, 1, 0x80, u8::MAX];
    slice_u16: u16 = [0, 1, u16::MAX];
    slice_u32: u32 = [0, 1, u32::MAX];
    slice_u64: u64 = [0, 1, u64::MAX];
    slice_usize: usize = [0, 1, usize::MAX];
    slice_i8: i8 = [-1, i8::MIN, i8::MAX];
    slice_i16: i16 = [-1, i16::MIN, i16::MAX];
    slice_i32: i32 = [-1, i32::MIN, i32::MAX];
    slice_i64: i64 = [-1, i64::MIN, i64::MAX];
    slice_i128: i128 = [-1, i128::MIN, i128::MAX];
    slice_f32: f32 = [0.0, f32::MIN, f32::MAX];
    slice_f64: f64 = [0.0, f64::MIN, f64::MAX];
    slice_bool: bool = [false, true, true];
    slice_char: char = ['a', '\0', char::MAX];
    slice_option: Option<u16> = [None, Some(0), Some(u16::MAX)];
}

/// A quiet and a signalling NaN, each with a payload, and the negative zero.
const F32: [u32; 4] = [0x7fc0_1234, 0x7f80_0001, 0xffc0_0000, 0x8000_0000];
const F64: [u64; 4] =
    [0x7ff8_0000_0000_1234, 0x7ff0_0000_0000_0001, 0xfff8_0000_0000_0000, 0x8000_0000_0000_0000];

#[test]
fn every_bit_of_a_float_crosses() {
    crate::both_ways(
        || type_f32::Server,
        |peer| {
            let echo = type_f32::EchoClient::from(peer);
            for bits in F32 {
                let value = f32::from_bits(bits);
                assert_eq!(echo.alone(value).unwrap().to_bits(), bits);
                assert_eq!(echo.among(0xa5, value, 0x5a5a).unwrap().to_bits(), bits);
                assert_eq!(echo.option(Some(value)).unwrap().unwrap().to_bits(), bits);
            }
        },
    );
    crate::both_ways(
        || type_f64::Server,
        |peer| {
            let echo = type_f64::EchoClient::from(peer);
            for bits in F64 {
                let value = f64::from_bits(bits);
                assert_eq!(echo.alone(value).unwrap().to_bits(), bits);
                assert_eq!(echo.among(0xa5, value, 0x5a5a).unwrap().to_bits(), bits);
                assert_eq!(echo.option(Some(value)).unwrap().unwrap().to_bits(), bits);
            }
        },
    );
}

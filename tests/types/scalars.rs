//! Plain types in every position, and scalars with the values at the limits of each.

use crate::{
    run_all,
    shared::{
        Side,
        plain::{self, CHECKS, with_plain},
    },
    slices,
};

struct Server;

impl Side for Server {}

macro_rules! serve_all {
    ([$($module:ident)*]) => { vmffi::serve!(Server: $(plain::$module::Echo),*); };
}
with_plain! { serve_all! {} }

#[test]
fn plain_types_cross() {
    run_all(|| Server, CHECKS);
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

/// A quiet and a signalling NaN, each with a payload, and negative zero.
const F32: [u32; 4] = [0x7fc0_1234, 0x7f80_0001, 0xffc0_0000, 0x8000_0000];
const F64: [u64; 4] =
    [0x7ff8_0000_0000_1234, 0x7ff0_0000_0000_0001, 0xfff8_0000_0000_0000, 0x8000_0000_0000_0000];

#[test]
fn every_bit_of_a_float_crosses() {
    crate::both_ways(
        || Server,
        |peer| {
            let echo = plain::f32s::EchoClient::from(peer);
            for bits in F32 {
                let value = f32::from_bits(bits);
                assert_eq!(echo.alone(value).unwrap().to_bits(), bits);
                assert_eq!(echo.among(0xa5, value, 0x5a5a).unwrap().to_bits(), bits);
                assert_eq!(echo.option(Some(value)).unwrap().unwrap().to_bits(), bits);
            }
        },
    );
    crate::both_ways(
        || Server,
        |peer| {
            let echo = plain::f64s::EchoClient::from(peer);
            for bits in F64 {
                let value = f64::from_bits(bits);
                assert_eq!(echo.alone(value).unwrap().to_bits(), bits);
                assert_eq!(echo.among(0xa5, value, 0x5a5a).unwrap().to_bits(), bits);
                assert_eq!(echo.option(Some(value)).unwrap().unwrap().to_bits(), bits);
            }
        },
    );
}

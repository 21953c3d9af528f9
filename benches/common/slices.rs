//! Typed slices, beside the same number of bytes: what validation and conversion add to the two copies of a buffer.

use std::{hint::black_box, mem::size_of_val};

use criterion::Criterion;
use vmffi::{CallError, ForeignBuf, ForeignSlice, Peer, loopback::Loopback};

use super::table::{Row, Target};
use crate::{good, measure};

vmffi::ffi_interface! {
    /// Every bit pattern is a value.
    #[derive(Clone, Copy, Debug, Default)]
    #[size(16)]
    pub struct Point { x: f32, y: f32, mass: f64 }

    #[derive(Debug)]
    pub enum Color: u8 { Red, Green, Blue }

    /// The flag, and the enum with three variants, must be validated.
    #[derive(Debug)]
    #[size(16)]
    pub struct Pixel { x: u64, y: u32, lit: bool, color: Color, depth: u16 }

    /// There is padding between the fields and after the last one.
    #[derive(Debug)]
    #[size(24)]
    pub struct Padded { id: u64, size: u32, open: bool, next: u32 }

    pub interface Slices {
        fn bytes(values: ForeignBuf) -> u64;
        fn floats(values: ForeignSlice<f32>) -> u64;
        fn points(values: ForeignSlice<Point>) -> u64;
        fn pixels(values: ForeignSlice<Pixel>) -> u64;
        fn padded(values: ForeignSlice<Padded>) -> u64;
    }
}

struct Reader;

impl Slices for Reader {
    fn bytes(&self, _: &Peer, values: ForeignBuf) -> Result<u64, CallError> {
        Ok(black_box(values.read_vec()?).len() as u64)
    }

    fn floats(&self, _: &Peer, values: ForeignSlice<f32>) -> Result<u64, CallError> {
        Ok(black_box(values.read_vec()?).len() as u64)
    }

    fn points(&self, _: &Peer, values: ForeignSlice<Point>) -> Result<u64, CallError> {
        Ok(black_box(values.read_vec()?).len() as u64)
    }

    fn pixels(&self, _: &Peer, values: ForeignSlice<Pixel>) -> Result<u64, CallError> {
        Ok(black_box(values.read_vec()?).len() as u64)
    }

    fn padded(&self, _: &Peer, values: ForeignSlice<Padded>) -> Result<u64, CallError> {
        Ok(black_box(values.read_vec()?).len() as u64)
    }
}

vmffi::serve!(Reader: Slices);

/// Each case copies into the sender's arena, and out of it into a vector.
pub fn slices(c: &mut Criterion, rows: &mut Vec<Row>) {
    let pair = Loopback::new((), Reader).expect("memory");
    let peer = || black_box(pair.host());
    let mut group = c.benchmark_group("slice");
    for (len, shown) in [(4096_usize, "4 KiB"), (1 << 18, "256 KiB")] {
        let bytes = vec![7_u8; len];
        let floor = format!("bytes {shown}");
        measure(&mut group, &floor, || good(SlicesClient::from(peer()).bytes(black_box(&bytes))));
        let mut case = |name: &str, times: f64, call: &mut dyn FnMut() -> u64| {
            let case = format!("{name} {shown}");
            measure(&mut group, &case, call);
            rows.push(Row::new("slice", &case, &floor, Target::Times(times)));
        };

        let floats: Vec<f32> = (0..len / 4).map(|nr| nr as f32).collect();
        assert_eq!(size_of_val(&floats[..]), len);
        case("f32", 1.2, &mut || good(SlicesClient::from(peer()).floats(black_box(&floats))));

        let points = vec![Point { x: 1.0, y: 2.0, mass: 3.0 }; len / 16];
        case("struct of any bits", 1.2, &mut || {
            good(SlicesClient::from(peer()).points(black_box(&points)))
        });

        let pixel = |nr: u32| Pixel {
            x: nr.into(),
            y: nr,
            lit: nr % 3 == 0,
            color: Color::Green,
            depth: 9,
        };
        let pixels: Vec<_> = (0..len as u32 / 16).map(pixel).collect();
        case("struct with checks", 4.0, &mut || {
            good(SlicesClient::from(peer()).pixels(black_box(&pixels)))
        });

        let padded = |nr: u32| Padded { id: nr.into(), size: nr, open: nr % 3 == 0, next: nr };
        let padded: Vec<_> = (0..len as u32 / 24).map(padded).collect();
        case("struct with checks and padding", 4.0, &mut || {
            good(SlicesClient::from(peer()).padded(black_box(&padded)))
        });
    }
    group.finish();
}

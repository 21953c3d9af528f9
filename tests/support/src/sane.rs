//! Values whose bit patterns are checked, for the types of [`interface`](crate::interface).

use crate::interface::{Cell, Colour, Point, Row, Shape};

/// Checks that values have valid bit patterns, through their bytes, since the compiler assumes that
/// a `bool` is valid.
pub trait Sane {
    fn sane(&self);
}

impl Sane for bool {
    fn sane(&self) {
        // SAFETY: a `bool` is one byte.
        let bits = unsafe { std::ptr::from_ref(self).cast::<u8>().read_volatile() };
        assert!(bits <= 1, "a bool of {bits}");
    }
}

impl Sane for str {
    fn sane(&self) {
        assert!(std::str::from_utf8(self.as_bytes()).is_ok());
    }
}

impl Sane for Row<'_> {
    fn sane(&self) {
        self.name.sane();
        self.colour.sane();
        let bytes: usize = self.tags.iter().flatten().map(<[u8]>::len).sum();
        assert!(bytes < 1 << 30, "{bytes} bytes");
        match self.cell {
            Cell::Null => {}
            Cell::Text(text) => text.sane(),
            Cell::Flags(flag, letters) => {
                flag.sane();
                letters.iter().for_each(|letter| letter.sane());
            }
        }
    }
}

impl Sane for char {
    fn sane(&self) {
        // SAFETY: a `char` is four bytes, aligned.
        let bits = unsafe { std::ptr::from_ref(self).cast::<u32>().read_volatile() };
        assert!(char::from_u32(bits).is_some(), "a char of {bits:#x}");
    }
}

impl Sane for Colour {
    fn sane(&self) {
        // SAFETY: the representation of `Colour` is `u8`.
        let bits = unsafe { std::ptr::from_ref(self).cast::<u8>().read_volatile() };
        assert!([1, 2, 200].contains(&bits), "a colour of {bits}");
    }
}

impl Sane for Shape {
    fn sane(&self) {
        // SAFETY: the representation begins with a `u16`.
        let bits = unsafe { std::ptr::from_ref(self).cast::<u16>().read_volatile() };
        match self {
            Self::Dot => assert_eq!(bits, 0),
            Self::Circle { filled, .. } => {
                assert_eq!(bits, 7);
                filled.sane();
            }
            Self::Letter(glyph) => {
                assert_eq!(bits, 9);
                glyph.sane();
            }
        }
    }
}

impl Sane for Point {
    fn sane(&self) {
        self.on.sane();
        self.glyph.sane();
        self.colour.sane();
    }
}

impl<T: Sane> Sane for Option<T> {
    fn sane(&self) {
        if let Some(value) = self {
            value.sane();
        }
    }
}

impl Sane for u32 {
    fn sane(&self) {}
}

impl Sane for u64 {
    fn sane(&self) {}
}

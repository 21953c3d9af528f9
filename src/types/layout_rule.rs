//! Checks of the compiler's layouts (ABI, "Layout").

use super::FfiType;

/// The layout of a wire form by the rule of the ABI ("Layout"): each field is at the next multiple of its alignment,
/// and the size is a multiple of the largest alignment. Fails to compile if the compiler's layout differs.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    size: usize,
    align: usize,
}

#[doc(hidden)]
impl Rule {
    #[allow(clippy::new_without_default, reason = "a default cannot be made in a constant")]
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, align: 1 }
    }

    #[must_use]
    pub const fn field<T: FfiType>(self, offset: usize) -> Self {
        self.wire::<T::Wire>(offset)
    }

    #[must_use]
    pub const fn wire<W>(self, offset: usize) -> Self {
        let align = align_of::<W>();
        let at = self.size.next_multiple_of(align);
        assert!(
            at == offset,
            "the compiler's offset of a field is not that of the ABI's layout rule"
        );
        Self {
            size: at + size_of::<W>(),
            align: if align > self.align { align } else { self.align },
        }
    }

    pub const fn check<W>(self) {
        assert!(
            align_of::<W>() == self.align,
            "the compiler's alignment of a wire form is not that of the ABI's layout rule"
        );
        let size = self.size.next_multiple_of(self.align);
        assert!(
            size_of::<W>() == size,
            "the compiler's size of a wire form is not that of the ABI's layout rule"
        );
    }
}

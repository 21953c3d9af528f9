//! Layouts, as the compiler computes them (ABI, "Layout").

use crate::wire::FfiType;

/// The rule that a wire form's layout follows (ABI, "Layout"): each field at the next multiple of its
/// alignment, the whole a multiple of the largest. Checks that the compiler has done the same.
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
        let align = align_of::<T::Wire>();
        let at = self.size.next_multiple_of(align);
        assert!(at == offset, "a field does not lie where the ABI says");
        Self {
            size: at + size_of::<T::Wire>(),
            align: if align > self.align { align } else { self.align },
        }
    }

    pub const fn check<W>(self) {
        assert!(align_of::<W>() == self.align, "a wire form is not aligned as the ABI says");
        let size = self.size.next_multiple_of(self.align);
        assert!(size_of::<W>() == size, "a wire form is not as long as the ABI says");
    }
}

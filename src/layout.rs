//! Layouts and signatures, as the compiler computes them (ABI, "Layout" and "Signatures").

use crate::{abi::Hasher, wire::FfiType};

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

/// Begins the hash of a declared type.
#[doc(hidden)]
#[must_use]
pub const fn hash_of<W>(kind: &str, name: &str) -> Hasher {
    Hasher::new(kind).name(name).u64(size_of::<W>() as u64).u64(align_of::<W>() as u64)
}

/// The signature of a function (ABI, "Signatures").
#[doc(hidden)]
#[must_use]
pub const fn signature(interface: &str, name: &str, parameters: &[u64], returned: u64) -> u64 {
    let mut hash = Hasher::new("fn").name(interface).name(name).u64(parameters.len() as u64);
    let mut i = 0;
    while i < parameters.len() {
        hash = hash.u64(parameters[i]);
        i += 1;
    }
    hash.u64(returned).finish()
}

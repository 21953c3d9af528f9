//! Arrays, element by element, and tuples, field by field (ABI, TY-14 and TY-15).

use core::{
    array,
    mem::{MaybeUninit, offset_of},
};

use zerocopy::{FromBytes, Immutable};

use crate::{
    error::{CallError, ErrorKind, Failure},
    memory::{Incoming, Outgoing},
};

use super::{
    FfiType, Packed, Plain, SendAs, Tagged,
    descriptor::Shape,
    packed::{Packer, Unread, check_field, pack_field, view_field},
    wire::{field, put, write},
};

/// The wire form of the element `index` of an array of `T`.
#[inline]
fn element<T: FfiType>(wire: &[u8], index: usize) -> &[u8] {
    let size = size_of::<T::Wire>();
    wire.get(index * size..(index + 1) * size).unwrap_or_default()
}

/// Writes elements one behind the other, at the places of an array of `T`.
#[inline]
fn each<T: FfiType, V>(
    values: impl IntoIterator<Item = V>,
    wire: &mut [u8],
    mut encode: impl FnMut(V, &mut [u8]) -> Result<(), CallError>,
) -> Result<(), CallError> {
    let size = size_of::<T::Wire>();
    values.into_iter().enumerate().try_for_each(|(index, value)| {
        encode(value, wire.get_mut(index * size..(index + 1) * size).unwrap_or_default())
    })
}

// SAFETY: `T`, which keeps the contract, decodes the bytes of each element once. The shape has the number of elements and the
// shape of `T`, so equal shapes have equal wire forms. An array of values without padding, any bytes of which are a value, is
// one itself.
unsafe impl<T: FfiType, const N: usize> FfiType for [T; N] {
    type Wire = [T::Wire; N];
    type OptionWire = Tagged<Self::Wire>;
    type Shared = [T::Shared; N];
    const SHAPE: &'static Shape = &Shape::array(T::SHAPE, N);
    const HANDLES: bool = N != 0 && T::HANDLES;
    const ANY_BITS: bool = T::ANY_BITS;

    fn decode(wire: &[u8], from: Incoming<'_>) -> Result<Self, CallError> {
        if T::ANY_BITS {
            let mut values = MaybeUninit::<Self>::uninit();
            if wire.len() != size_of::<Self>() {
                return Err(CallError::new(ErrorKind::BadValue));
            }
            // SAFETY: `values` has `size_of::<Self>()` bytes, which is the length of `wire`, and is a local variable.
            unsafe {
                values.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(wire.as_ptr(), wire.len())
            };
            // SAFETY: all bytes are initialised above, and any bytes are a value (`ANY_BITS`).
            return Ok(unsafe { values.assume_init() });
        }
        // Every element is decoded before the first error is returned: dropping the good ones releases what they own.
        let mut first = None;
        let values: [Option<T>; N] =
            array::from_fn(|index| match T::decode(element::<T>(wire, index), from) {
                Ok(value) => Some(value),
                Err(error) => {
                    first.get_or_insert(error);
                    None
                }
            });
        if let Some(error) = first {
            return Err(error);
        }
        Ok(values.map(|value| match value {
            Some(value) => value,
            None => unreachable!("an element that is not there has left an error"),
        }))
    }

    #[inline]
    fn write(&self, wire: &mut [u8]) {
        let _ = each::<T, _>(self, wire, |value, wire| {
            value.write(wire);
            Ok(())
        });
    }
}

// SAFETY: the wire form is that of the elements, which have no pointer words.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

// SAFETY: each element is consumed by its own `SendAs`, which lends its pointer words through `out` and writes them where the
// element's wire form lies.
unsafe impl<T: FfiType, S: SendAs<T>, const N: usize> SendAs<[T; N]> for [S; N] {
    #[inline]
    fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        each::<T, _>(self, wire, |value, wire| value.encode(wire, out))
    }
}

// SAFETY: the elements are plain, so `encode` writes no pointer words.
unsafe impl<T: Plain, const N: usize> SendAs<[T; N]> for &[T; N] {
    #[inline]
    fn encode(self, wire: &mut [u8], _: &mut Outgoing<'_>) -> Result<(), CallError> {
        self.write(wire);
        Ok(())
    }
}

impl<T, const N: usize> From<[T; N]> for Failure<[T; N]> {
    fn from(error: [T; N]) -> Self {
        Self::App(error)
    }
}

/// Implements the traits for a tuple. Each field has a type parameter for its type, one for what is sent, a name and a number.
macro_rules! tuples {
    ($($wire:ident: $($t:ident $s:ident $name:ident $nr:tt),*;)*) => { $(
        #[doc = concat!("The wire twin of a tuple: a struct of ", stringify!($($nr)*), ".")]
        #[derive(Clone, Copy, Debug, FromBytes, Immutable)]
        #[repr(C)]
        pub struct $wire<$($t),*> { $($name: $t),* }

        impl<$($t),*> $wire<$($t),*> {
            /// The offsets of the fields.
            const AT: &'static [usize] = &[$(offset_of!(Self, $name)),*];
        }

        // SAFETY: each field's type, which keeps the contract, decodes the field once, at its own offset. The shape has the
        // shapes of all fields, which determine the layout of a `repr(C)` struct.
        unsafe impl<$($t: FfiType),*> FfiType for ($($t,)*) {
            type Wire = $wire<$($t::Wire),*>;
            type OptionWire = Tagged<Self::Wire>;
            type Shared = ($($t::Shared,)*);
            const SHAPE: &'static Shape = &Shape::tuple(&[$($t::SHAPE),*]);
            const HANDLES: bool = $($t::HANDLES)||*;

            #[inline]
            fn decode(wire: &[u8], from: Incoming<'_>) -> Result<Self, CallError> {
                // Every field is decoded before the first error is returned: dropping the good ones releases what they own.
                let at = const { $wire::<$($t::Wire),*>::AT };
                $( let $name = field::<$t>(wire, at[$nr], stringify!($nr), from); )*
                Ok(($($name?,)*))
            }

            #[inline]
            fn write(&self, wire: &mut [u8]) {
                let at = const { $wire::<$($t::Wire),*>::AT };
                $( write::<$t>(&self.$nr, wire, at[$nr]); )*
            }
        }

        // SAFETY: the wire form is that of the fields, which have no pointer words.
        unsafe impl<$($t: Plain),*> Plain for ($($t,)*) {}

        // SAFETY: each field is consumed by its own `SendAs`, which lends its pointer words through `out` and writes them
        // where the field's wire form lies.
        unsafe impl<$($t: FfiType, $s: SendAs<$t>),*> SendAs<($($t,)*)> for ($($s,)*) {
            #[inline]
            fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
                let at = const { $wire::<$($t::Wire),*>::AT };
                $( put::<$t, $s>(self.$nr, wire, at[$nr], out)?; )*
                Ok(())
            }
        }

        // SAFETY: the fields are plain, so `encode` writes no pointer words.
        unsafe impl<$($t: Plain),*> SendAs<($($t,)*)> for &($($t,)*) {
            #[inline]
            fn encode(self, wire: &mut [u8], _: &mut Outgoing<'_>) -> Result<(), CallError> {
                self.write(wire);
                Ok(())
            }
        }

        // SAFETY: the data is that of the fields, in their order, in which the fields of a tuple expression are evaluated.
        unsafe impl<$($t: Packed),*> Packed for ($($t,)*) {
            type Wire = $wire<$($t::Wire),*>;
            type View<'v> = ($($t::View<'v>,)*);
            const SHAPE: &'static Shape = &Shape::tuple(&[$($t::SHAPE),*]);
            const DATA: bool = $($t::DATA)||*;

            #[inline]
            fn data_len(&self) -> usize {
                0_usize$(.saturating_add(self.$nr.data_len()))*
            }

            #[inline]
            fn pack(&self, fixed: &mut [u8], data: &mut Packer<'_>) {
                let at = const { $wire::<$($t::Wire),*>::AT };
                $( pack_field(&self.$nr, fixed, at[$nr], data); )*
            }

            #[inline]
            fn check(fixed: &[u8], data: &mut Unread<'_>) -> Result<(), CallError> {
                let at = const { $wire::<$($t::Wire),*>::AT };
                $( check_field::<$t>(fixed, at[$nr], stringify!($nr), data)?; )*
                Ok(())
            }

            #[inline]
            unsafe fn view<'v>(fixed: &'v [u8], data: &mut Unread<'v>) -> ($($t::View<'v>,)*) {
                let at = const { $wire::<$($t::Wire),*>::AT };
                // SAFETY: the caller promises that `check` has accepted the bytes, and so those of each field.
                ($( unsafe { view_field::<$t>(fixed, at[$nr], data) }, )*)
            }

            #[inline]
            fn again(&self) -> ($($t::View<'_>,)*) {
                ($( self.$nr.again(), )*)
            }
        }

        impl<$($t),*> From<($($t,)*)> for Failure<($($t,)*)> {
            fn from(error: ($($t,)*)) -> Self {
                Self::App(error)
            }
        }
    )* };
}

tuples! {
    Tuple1: A SA a 0;
    Tuple2: A SA a 0, B SB b 1;
    Tuple3: A SA a 0, B SB b 1, C SC c 2;
    Tuple4: A SA a 0, B SB b 1, C SC c 2, D SD d 3;
    Tuple5: A SA a 0, B SB b 1, C SC c 2, D SD d 3, E SE e 4;
    Tuple6: A SA a 0, B SB b 1, C SC c 2, D SD d 3, E SE e 4, F SF f 5;
    Tuple7: A SA a 0, B SB b 1, C SC c 2, D SD d 3, E SE e 4, F SF f 5, G SG g 6;
    Tuple8: A SA a 0, B SB b 1, C SC c 2, D SD d 3, E SE e 4, F SF f 5, G SG g 6, H SH h 7;
}

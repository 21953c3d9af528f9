//! One error for a type that cannot cross, at the type's tokens, and none for what follows from it.
//!
//! The expansion of a declaration uses each type in many places, and each use of a type that cannot cross would be an
//! error. Therefore an item of a declaration asks for its types once, in a constant that calls [`crosses`],
//! [`packs`] or [`returned`] for each of them, and uses them only as `<T as Same<Checked<CONSTANT>>>::T`. If that constant has an error, the
//! compiler regards whatever depends on its value as wrong, and reports nothing more.

use super::{FfiReturn, FfiType, Packed, Plain};

/// Compiles if a type can cross.
#[allow(
    clippy::needless_maybe_sized,
    reason = "an implicit bound would be one more error for a type without a size"
)]
pub const fn crosses<T: FfiType + ?Sized>() {}

/// Compiles if a type is without handles. `C` is the [`Checked`] of a constant that has asked whether it can cross.
pub const fn plain<T: Same<C> + ?Sized, C>()
where
    T::T: Plain,
{
}

/// Compiles if a type can be part of a packed value.
pub const fn packs<T: Packed + ?Sized>() {}

/// Compiles if a type can be returned.
#[allow(
    clippy::needless_maybe_sized,
    reason = "an implicit bound would be one more error for a type without a size"
)]
pub const fn returned<R: FfiReturn + ?Sized>() {}

/// Compiles for any type. If the type has an error, so has the constant that calls this, and the compiler says nothing more of it.
pub const fn named<T: ?Sized>() {}

/// Stands for a constant that has asked for the types of an item.
#[derive(Debug)]
pub struct Checked<const N: usize>;

/// An item of a declaration, which has asked for its types.
pub trait Item {
    /// Stands for the constant that asks.
    type Checked;
}

/// The type itself, if the constant behind `C` has no error.
pub trait Same<C> {
    /// The type itself.
    type T: ?Sized;
}

impl<T: ?Sized, const N: usize> Same<Checked<N>> for T {
    type T = T;
}

/// As [`Checked`], for a constant that another one, of a type with a lifetime, has computed. It is 0, which the compiler has to
/// find out.
#[derive(Debug)]
pub struct Asked<const N: usize>;

impl<T: ?Sized> Same<Asked<0>> for T {
    type T = T;
}

/// The type itself, if the types of `I` have no error.
pub type Of<T, I> = <T as Same<<I as Item>::Checked>>::T;

/// The `T` of a `fn(&'static ()) -> T`, as which a declared type is passed.
///
/// A declaration may name a type with a lifetime without that lifetime: `ForeignPacked<Entry>`. The result of a function pointer
/// is one of the few places that allow this everywhere: the lifetime is then that of the argument, `'static`.
pub trait Elided {
    /// The type, with `'static` for the lifetimes that are left out.
    type Static: ?Sized;
}

impl<T: ?Sized> Elided for fn(&'static ()) -> T {
    type Static = T;
}

/// The type that is declared as `F`, a `fn(&'static ()) -> T`.
pub type Static<F> = <F as Elided>::Static;

/// The type that is declared as `F`, a `fn(&'static ()) -> T`, in the interface `I`.
pub type In<F, I> = Of<Static<F>, I>;

/// What a handler of the interface `I` returns for a declared `F`.
pub type Handled<F, I> = <In<F, I> as FfiReturn>::Handled;

/// What the sender of the struct `I` gives for a field that is declared as a `T`.
pub type SharedOf<T, I> = <Of<T, I> as FfiType>::Shared;

/// Finds a generated type by the key in a generated module. Modules are re-exported by `*`, so that a name of the user's goes
/// before an equal generated one, and two equal generated ones are an error only where they are used.
pub trait Named {
    /// The type.
    type Type;
}

/// An item with a mistake among its types.
pub trait Wrong {
    /// A type that has an error.
    type Type;
}

/// Hides what else has its name, where it is imported as that.
pub const fn hide() {}

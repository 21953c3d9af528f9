//! What is wrong at a word of a declaration: `ffi_interface!` passes the word to one of these functions, and the compiler
//! says at the word what the function wants, which nothing implements.
#![allow(missing_docs, reason = "the messages say what each is for")]

#[diagnostic::on_unimplemented(message = "write the pin as `#[size(16)]`, once", label = "here")]
pub trait Size {}
pub fn size<T: Size>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "write `#[optional]`, without arguments and once",
    label = "here"
)]
pub trait Optional {}
pub fn optional<T: Optional>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "`#[optional]` marks a function of an interface",
    label = "here"
)]
pub trait OptionalItem {}
pub fn optional_item<T: OptionalItem>(_: T) {}

#[diagnostic::on_unimplemented(message = "write `#[cfg(predicate)]`", label = "here")]
pub trait Cfg {}
pub fn cfg<T: Cfg>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "this attribute belongs on a struct or an enum",
    label = "here"
)]
pub trait OfAType {}
pub fn of_a_type<T: OfAType>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "a struct, an enum or an interface has a name",
    label = "here"
)]
pub trait Unnamed {}
pub fn unnamed<T: Unnamed>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "`#[size(..)]` pins a struct or a function's parameters",
    label = "here"
)]
pub trait Pinned {}
pub fn unpinned<T: Pinned>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "`#[size(..)]` pins a parameter struct, which only a function of at least two parameters has",
    label = "here"
)]
pub trait Several {}
pub fn alone<T: Several>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "leave out the semicolon behind the braces",
    label = "here"
)]
pub trait Semicolon {}
pub fn semicolon<T: Semicolon>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "a struct has braces, also if it has no fields",
    label = "here"
)]
pub trait UnitStruct {}
pub fn unit_struct<T: UnitStruct>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "a struct, an enum or an interface has a body in braces",
    label = "here"
)]
pub trait Body {}
pub fn no_body<T: Body>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "an enum without variants has no value that could cross",
    label = "here"
)]
pub trait NoVariant {}
pub fn no_variant<T: NoVariant>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "a declaration has `struct`, `enum` and `interface`; put others beside `ffi_interface!`",
    label = "here"
)]
pub trait Misplaced {}
pub fn misplaced<T: Misplaced>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "a declaration has no attributes and no documentation of its own: put them on its items",
    label = "here"
)]
pub trait Inner {}
pub fn inner<T: Inner>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "nothing follows to which this attribute or documentation belongs",
    label = "here"
)]
pub trait Lonely {}
pub fn lonely<T: Lonely>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "write `fn name(parameter: Type, ..) -> Type;`",
    label = "here"
)]
pub trait NoParams {}
pub fn no_params<T: NoParams>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "write `fn` before the name of a function",
    label = "here"
)]
pub trait NoFn {}
pub fn no_fn<T: NoFn>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "everything in an interface is a function, `fn name(parameter: Type, ..) -> Type;`",
    label = "here"
)]
pub trait NoFunction {}
pub fn no_function<T: NoFunction>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "an enum needs the integer that it crosses as: `enum Name: u32`",
    label = "here"
)]
pub trait NoInteger {}
pub fn no_integer<T: NoInteger>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "a tuple variant has at most 12 values; write `Variant {{ name: Type, .. }}`",
    label = "here"
)]
pub trait ManyValues {}
pub const fn many_values<T: ManyValues>() {}

#[diagnostic::on_unimplemented(
    message = "a value of a tuple variant cannot be left out by `#[cfg]`: declare the variant twice, with a `#[cfg]` on each, or name its fields",
    label = "here"
)]
pub trait ValueCfg {}
pub const fn value_cfg<T: ValueCfg>() {}

#[diagnostic::on_unimplemented(
    message = "`impl Trait` stands for any type of a trait: write the type that crosses",
    label = "here"
)]
pub trait NoImpl {}
pub const fn no_impl<T: NoImpl>(word: T) {
    core::mem::forget(word);
}

#[diagnostic::on_unimplemented(message = "write `interface`, not `trait`", label = "here")]
pub trait NoTrait {}
pub fn no_trait<T: NoTrait>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "a receiver cannot tell which field of a union it holds; write an enum with values",
    label = "here"
)]
pub trait NoUnion {}
pub fn no_union<T: NoUnion>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "an interface has no lifetime: leave it out",
    label = "here"
)]
pub trait NoLifetime {}
pub fn no_lifetime<T: NoLifetime>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "an interface cannot require another trait of the types that serve it: leave out the bound",
    label = "here"
)]
pub trait Bound {}
pub fn bound<T: Bound>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "an enum crosses as an integer of at most 64 bits, as in `enum Name: u32`",
    label = "here"
)]
pub trait Repr {}
pub fn repr<T: Repr>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "a guest program needs the feature `guest` of vmffi: write `vmffi = {{ version = \"..\", default-features = false, features = [\"guest\"] }}` in its Cargo.toml",
    label = "here"
)]
pub trait GuestProgram {}
pub const fn __vmffi_guest_program<T: GuestProgram + Copy>(_: T) {}

#[diagnostic::on_unimplemented(
    message = "the size is {SIZE} bytes: write `#[size({SIZE})]`, not `#[size({PINNED})]`",
    label = "here"
)]
pub trait Pins<const PINNED: usize, const SIZE: usize> {}
impl<T, const SIZE: usize> Pins<SIZE, SIZE> for T {}
/// The compiler blames the argument, since the method has no other parameter.
pub struct PinnedSize<const PINNED: usize, const SIZE: usize>;
impl<const PINNED: usize, const SIZE: usize> PinnedSize<PINNED, SIZE> {
    pub const fn is<T: Pins<PINNED, SIZE> + Copy>(&self, _: T) {}
}

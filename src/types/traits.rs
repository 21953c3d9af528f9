//! The traits of types that may cross.

use super::{
    descriptor::Shape,
    wire::{Wire, copied},
};
use crate::{
    abi::Transport,
    error::CallError,
    memory::{Incoming, Outgoing},
};

/// A type that an interface may name, as its receiver gets it.
///
/// [`ffi_interface!`](crate::ffi_interface) implements it for declared structs and enums; it is not meant to be
/// implemented by hand. A *wire form* is the encoding of a value in memory (ABI, "Types"); a *wire twin* is a type with
/// the same size and alignment for which every bit pattern is valid.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross between guest and host",
    label = "not a type that `ffi_interface!` can send",
    note = "what crosses is a scalar, a `struct` or `enum` that is declared in `ffi_interface!`, `Foreign<T>`, `ForeignBuf`, `ForeignStr`, `ForeignSlice<T>`, `ForeignPacked<T>`, an array, an `Option` or a tuple of up to 8 of these, or a type of yours that implements `CrossesAs`",
    note = "for `&str` and `String` write `ForeignStr`, for `&[u8]` and `Vec<u8>` `ForeignBuf`, for other slices and vectors `ForeignSlice<T>`, for `&T` and `Box<T>` `Foreign<T>`; a `Result` can only be returned, a sender's `Shared..` is declared as `Foreign..`, and a type with a lifetime is part of a `ForeignPacked<T>`"
)]
///
/// # Safety
///
/// In a loopback both sides are one program, so a forged pointer word would alias memory that the program writes.
/// Therefore:
///
/// - [`decode`](Self::decode) and [`from_transport`](Self::from_transport) make handles only of the pointer words in
///   their `wire` or `transport`, of each word at most once, and use `from` only for that.
/// - Two types with equal `SHAPE`s have the same wire form, with pointer words at the same offsets.
/// - If [`ANY_BITS`](Self::ANY_BITS) is true, the bytes of a value in this program's memory are those of its wire form,
///   none of them padding, and any bytes are a value.
pub unsafe trait FfiType: Sized + 'static {
    /// The wire twin.
    type Wire: Wire;
    /// The wire twin of `Option<Self>`.
    type OptionWire: Wire;
    /// The type that a sender passes where a type must be named: in a handler's result, or in a field.
    type Shared: SendAs<Self>;
    /// The type's name and layout, for signatures and contracts.
    #[doc(hidden)]
    const SHAPE: &'static Shape;
    /// The hash of the type's name and layout (ABI, "Signatures").
    const HASH: u64 = Self::SHAPE.hash;
    /// Whether its values own loans of the peer.
    const HANDLES: bool;
    /// Whether `None` is encoded as a null pointer word, and not with a tag.
    const NULLABLE: bool = false;
    /// Whether the type's own memory is its wire form, and any bytes are a value: such values are copied as bytes.
    const ANY_BITS: bool = false;
    /// Whether a transport with a secondary word other than 0 may be a value of this type. `false` lets a client test that
    /// word together with the status. Then the value is in the transport itself, and the only error of
    /// [`from_transport`](Self::from_transport) is [`ErrorKind::BadValue`](crate::ErrorKind::BadValue).
    #[doc(hidden)]
    const WIDE: bool = true;

    /// Validates and decodes `wire`, a local copy of the wire form with `size_of::<Self::Wire>()` bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadValue`](crate::ErrorKind::BadValue), [`ErrorKind::BadPointer`](crate::ErrorKind::BadPointer) or,
    /// over the handle limit, [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory). Handles that were decoded
    /// before are released.
    fn decode(wire: &[u8], from: Incoming<'_>) -> Result<Self, CallError>;

    /// Validates and decodes a value that is alone in a transport. By default `primary` points to a wire form, which is
    /// copied and released.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    fn from_transport(transport: Transport, from: Incoming<'_>) -> Result<Self, CallError> {
        copied::<Self::Wire, _>(transport, from, |wire| Self::decode(wire, from))
    }

    /// Writes the wire form of a plain value over zeros. It is called only for [`Plain`] types; handles write nothing.
    #[doc(hidden)]
    fn write(&self, wire: &mut [u8]);
}

/// A type without handles: a scalar, `()`, a declared enum, a declared struct of plain types, an array, a tuple or an
/// `Option` of plain types, or a type that crosses as one ([`CrossesAs`](crate::CrossesAs)). Its values can be sent any number
/// of times.
#[diagnostic::on_unimplemented(
    message = "`{Self}` holds handles, or cannot cross between guest and host at all",
    label = "not a plain type",
    note = "`Foreign<T>` and `ForeignSlice<T>` take scalars, and structs and enums of scalars; pass a struct with handle fields by itself"
)]
///
/// # Safety
///
/// The wire form contains no pointer words: [`FfiType::decode`] ignores its `from`.
pub unsafe trait Plain: FfiType {}

/// A type that may be sent where a declaration names `T`: [`FfiType::Shared`], or a borrowed value that is copied, such
/// as `&str` for a `ForeignStr`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent where the declaration says `{T}`",
    label = "not what the declaration says"
)]
///
/// # Safety
///
/// Each pointer word that [`encode`](Self::encode) writes, or that [`into_transport`](Self::into_transport) returns,
/// was lent through the `out` of that call, is sent once, and stands where the wire form of `T` has a pointer word.
pub unsafe trait SendAs<T: ?Sized>: Sized {
    /// Writes the wire form over zeros, and lends the blocks that the value owns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory), or
    /// [`ErrorKind::BadPointer`](crate::ErrorKind::BadPointer) if a block is of another connection.
    fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError>;

    /// Encodes the value alone in a transport. By default it is a wire form in a new block.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError>
    where
        T: FfiType,
    {
        out.send_form::<T::Wire>(|wire, out| self.encode(wire, out))
    }
}

/// The wire form of a function's parameters (ABI, "Parameter structs"): a generated `#[repr(C)]` struct, named `Params`
/// + interface + function, with the wire twin of each parameter as a field.
///
/// # Safety
///
/// The type is `#[repr(C)]`, and every bit pattern is valid for it. [`unpack`](Self::unpack) keeps the contract that
/// [`FfiType`] has for `decode`.
pub unsafe trait Unpackable: Copy + 'static {
    /// The decoded parameters.
    type Output;

    /// Decodes a local copy of the struct with `size_of::<Self>()` bytes. All fields are decoded before an error is
    /// reported, so that the handles among them are released.
    ///
    /// # Errors
    ///
    /// The error of the first invalid field.
    fn unpack(wire: &[u8], from: Incoming<'_>) -> Result<Self::Output, CallError>;
}

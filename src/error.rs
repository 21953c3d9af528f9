//! The errors of calls ([`CallError`], [`Failure`]) and of regions ([`RegionError`]).

mod text;

pub use text::ErrorText;

use core::fmt;

use crate::abi::{Function, MAX_DEPTH, Side};

/// Why a call failed. The numbers are status words (ABI, "Statuses").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum ErrorKind {
    /// The peer serves no function with this signature.
    UnknownFunction = 2,
    /// A pointer is misaligned or reaches outside the sender's arena, or a handle belongs to another connection.
    BadPointer = 3,
    /// A bit pattern is invalid for the declared type: a `bool` of 2, an unknown number of an enum, a text that is not
    /// UTF-8, an integer that is not extended as the ABI says.
    BadValue = 4,
    /// An arena or the heap has no block of that size left, a limit of the host is reached, or the destination of a copy
    /// is too short. The text of a [`CallError`] says which, on the side that found it.
    OutOfMemory = 5,
    /// Calls were nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    TooDeep = 6,
    /// No vCPU could run the upcall: all of them run other calls. Or a call was added to a batch by an argument of another one
    /// that is being added.
    Busy = 7,
    /// The call was stopped from outside: by a stop request, a deadline or a limit of the host. Or it takes the result of an
    /// earlier call of its [`Batch`](crate::Batch) that has failed.
    Cancelled = 8,
    /// The two sides use different versions of the ABI or of the interface.
    VersionMismatch = 9,
    /// The other side does not support this kind of trap or answer.
    Unsupported = 10,
    /// The called function panicked. The peer continues to serve calls.
    PeerPanicked = 11,
    /// The peer exited, crashed or was stopped.
    PeerDied = 12,
    /// The handle is from before the peer was reset by `Host::reset` or `Loopback::reset`.
    Stale = 13,
    /// The called function refused, for a reason that its interface does not declare.
    Refused = 14,
    /// The peer violated the protocol: it sent an unknown or unexpected answer, trap or status.
    Protocol = 15,
}

/// The bit of a status word that is set if the function was reached, so that its arguments are consumed (ABI, S-3).
const REACHED: u64 = 64;

impl ErrorKind {
    const ALL: [Self; 14] = [
        Self::UnknownFunction,
        Self::BadPointer,
        Self::BadValue,
        Self::OutOfMemory,
        Self::TooDeep,
        Self::Busy,
        Self::Cancelled,
        Self::VersionMismatch,
        Self::Unsupported,
        Self::PeerPanicked,
        Self::PeerDied,
        Self::Stale,
        Self::Refused,
        Self::Protocol,
    ];

    /// The text of each kind.
    const fn text(self) -> &'static str {
        match self {
            Self::UnknownFunction => "the peer does not serve this function",
            Self::BadPointer => {
                "a pointer is misaligned, outside the sender's arena, or of another connection"
            }
            Self::BadValue => "a value is invalid for its type",
            Self::OutOfMemory => {
                "memory is short: an arena or the heap has no free block of this size, or a limit is reached"
            }
            Self::TooDeep => "calls are nested too deeply",
            Self::Busy => {
                "no vCPU can run the call: all run other calls, or the guest was not run yet"
            }
            Self::Cancelled => "the call was cancelled",
            Self::VersionMismatch => {
                "the two sides use different versions of the ABI or the interface"
            }
            Self::Unsupported => "the other side does not support this kind of trap",
            Self::PeerPanicked => "the called function panicked",
            Self::PeerDied => "the peer has exited or was stopped",
            Self::Stale => "the handle is stale: the peer was reset after it was made",
            Self::Refused => "the called function refused",
            Self::Protocol => "the peer violated the protocol",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self {
            Self::TooDeep => write!(f, ": at most {MAX_DEPTH} levels are possible"),
            _ => Ok(()),
        }
    }
}

/// What is short, or why something is refused, where the kind of an error does not say it. It does not cross the boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    None,
    /// The arena, whose size in bytes is in the error's `offset`, has no free block of the size.
    Arena,
    /// The host's limit on the blocks or the bytes in use.
    Limit,
    /// The maximum number of live handles.
    Handles,
    /// The heap.
    #[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "only with a heap"))]
    Heap,
    /// The destination of a copy is too short; its size in bytes is in `offset`.
    Room,
    /// What a call that is not declared permits for its result; how many bytes of it are left is in `offset`.
    #[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "only with a heap"))]
    Result,
    /// A borrow of memory that the peer can change.
    Borrow,
}

impl Detail {
    /// Writes the text in place of the kind's; `None` if the kind says it all. `len` is the number of bytes that were
    /// needed, and `size` that of what was too small.
    fn write(self, f: &mut fmt::Formatter<'_>, len: u64, size: u64) -> Option<fmt::Result> {
        Some(match self {
            Self::None => return None,
            Self::Arena => write!(
                f,
                "the arena has no free block of this size; drop handles or enlarge the arena ({len} of {size} bytes)"
            ),
            Self::Limit => write!(
                f,
                "a limit of the host on the blocks or bytes in use is reached; drop handles or raise the limit ({len} bytes)"
            ),
            Self::Handles => write!(
                f,
                "the maximum number of live handles is reached; drop handles or raise the limit ({len} bytes)"
            ),
            Self::Heap => write!(f, "the heap has no memory for a copy ({len} bytes)"),
            Self::Room => {
                write!(f, "the destination of {size} bytes is too short; {len} bytes are needed")
            }
            Self::Result => write!(
                f,
                "the result takes more memory than the call permits: raise its maximum ({len} bytes, of which {size} are left)"
            ),
            Self::Borrow => f.write_str(
                "only a guest can borrow what its peer has lent; a host copies it, since its guest can change it",
            ),
        })
    }
}

/// The error of a call that failed for a reason other than its interface's own error: the kind, the function, the side
/// that found it, and the numbers for diagnostics.
///
/// A handler returns one to fail the call that it serves ([`CallError::refused`] if no other kind fits). The caller
/// then gets an error of the same [`ErrorKind`].
#[derive(Clone, PartialEq, Eq)]
pub struct CallError {
    why: ErrorKind,
    reached: bool,
    side: Option<Side>,
    function: Option<&'static Function>,
    field: &'static str,
    offset: u64,
    len: u64,
    detail: Detail,
    /// The exit of the guest, if it failed the call.
    #[cfg(feature = "std")]
    cause: ExitCause,
}

/// The error of a field, which `?` turns into a [`CallError`]. It has nothing to drop, and so a `Result` of a plain field
/// has neither: then the compiler keeps the fields of a struct in registers until all of them are decoded.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct FieldError {
    why: ErrorKind,
    side: Option<Side>,
    field: &'static str,
    offset: u64,
    len: u64,
    detail: Detail,
}

impl From<FieldError> for CallError {
    #[inline]
    fn from(FieldError { why, side, field, offset, len, detail }: FieldError) -> Self {
        Self { side, field, offset, len, detail, ..Self::new(why) }
    }
}

impl CallError {
    /// The error of a wire form, of the field in which it is. Where wire forms are decoded, no function and no exit of a guest
    /// is known.
    #[inline]
    pub(crate) fn of_field(self, field: &'static str) -> FieldError {
        let Self { why, side, field, offset, len, detail, .. } = self.in_field(field);
        FieldError { why, side, field, offset, len, detail }
    }

    /// An error of this kind, with which a handler fails the call that it serves.
    #[must_use]
    #[inline]
    pub const fn new(why: ErrorKind) -> Self {
        Self {
            why,
            reached: false,
            side: None,
            function: None,
            field: "",
            offset: 0,
            len: 0,
            detail: Detail::None,
            #[cfg(feature = "std")]
            cause: ExitCause(None),
        }
    }

    /// An error of the kind [`ErrorKind::Refused`], for a function that refuses for a reason that its interface does
    /// not declare.
    #[must_use]
    #[cold]
    pub const fn refused() -> Self {
        Self::new(ErrorKind::Refused)
    }

    /// Sets the offset in the region and the length, both in bytes.
    pub(crate) const fn at(mut self, offset: u64, len: u64) -> Self {
        self.offset = offset;
        self.len = len;
        self
    }

    #[inline]
    pub(crate) const fn because_of(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }

    /// The error for a copy of `len` bytes for which the heap has no memory.
    #[cfg(feature = "alloc")]
    #[cold]
    pub(crate) const fn no_heap(len: usize) -> Self {
        Self::new(ErrorKind::OutOfMemory).at(0, len as u64).because_of(Detail::Heap)
    }

    /// The error for `len` bytes of a result, of which the call permits only `left` more.
    #[cfg(feature = "alloc")]
    #[cold]
    pub(crate) const fn large_result(len: usize, left: usize) -> Self {
        Self::new(ErrorKind::OutOfMemory).at(left as u64, len as u64).because_of(Detail::Result)
    }

    /// Sets the side that found the error, unless it is set already.
    #[inline]
    pub(crate) const fn on(mut self, side: Side) -> Self {
        if self.side.is_none() {
            self.side = Some(side);
        }
        self
    }

    #[inline]
    pub(crate) const fn in_function(mut self, function: &'static Function) -> Self {
        self.function = Some(function);
        self
    }

    #[inline]
    pub(crate) const fn reached_handler(mut self) -> Self {
        self.reached = true;
        self
    }

    /// Sets the exit of the guest because of which the call could not be made or finished.
    #[cfg(feature = "std")]
    pub(crate) fn because(mut self, exit: Option<GuestEnd>) -> Self {
        self.cause = ExitCause(exit);
        self
    }

    /// The error that [`because`](Self::because) has set.
    #[cfg(feature = "std")]
    pub(crate) fn cause(&self) -> Option<&(dyn core::error::Error + Send + Sync + 'static)> {
        self.cause.0.as_deref()
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn in_field(mut self, field: &'static str) -> Self {
        if self.field.is_empty() {
            self.field = crate::abi::bare(field);
        }
        self
    }

    /// The error of a status word that is 2 or greater (ABI, "Statuses"). An unknown status gives
    /// [`ErrorKind::Protocol`], reached (S-5). The statuses 0 and 1 are answers: handle them before this call.
    #[must_use]
    pub fn from_status(status: u64) -> Self {
        let why = ErrorKind::ALL.into_iter().find(|why| *why as u64 == status & !REACHED);
        let mut error = Self::new(why.unwrap_or(ErrorKind::Protocol));
        error.reached = status & REACHED != 0 || why.is_none();
        error
    }

    pub(crate) const fn status(&self) -> u64 {
        self.why as u64 | if self.reached { REACHED } else { 0 }
    }

    /// The kind of the error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.why
    }

    /// The side that found the error, if it is known. For [`ErrorKind::OutOfMemory`] it is the side whose arena or heap
    /// is full.
    #[must_use]
    pub const fn side(&self) -> Option<Side> {
        self.side
    }

    /// The function that was called, if it is known. It is unknown for a raw call, and to the observer of a side that
    /// does not serve the function or whose handler panicked.
    #[must_use]
    pub const fn function(&self) -> Option<&'static Function> {
        self.function
    }

    /// Whether the function was reached, that is, began to run (ABI, S-3). If it was not, the call had no effect: the
    /// caller owns all that it lent again, and may retry the call.
    #[must_use]
    pub const fn reached(&self) -> bool {
        self.reached
    }

    /// The parameter or field with the bad value. It does not cross the boundary: the observer of the side that found
    /// the error gets it, the caller does not.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        if self.field.is_empty() { None } else { Some(self.field) }
    }

    /// The offset of a bad pointer, in bytes from the beginning of the region, on the side that found it; else 0.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        match self.detail {
            Detail::Arena | Detail::Room | Detail::Result => 0,
            _ => self.offset,
        }
    }

    /// The number of bytes at a bad pointer, or of the allocation that failed; 0 if unknown.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.len
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = self.function {
            write!(f, "{function}: ")?;
        }
        let detail = match self.detail.write(f, self.len, self.offset) {
            Some(written) => written.map(|()| true)?,
            None => write!(f, "{}", self.why).map(|()| false)?,
        };
        if !self.field.is_empty() {
            write!(f, " (`{}`)", self.field)?;
        }
        match self.why {
            ErrorKind::BadPointer => {
                write!(f, " ({} bytes at offset {:#x})", self.len, self.offset)?
            }
            ErrorKind::OutOfMemory if self.len != 0 && !detail => {
                write!(f, " ({} bytes)", self.len)?
            }
            _ => {}
        }
        #[cfg(feature = "std")]
        if let Some(exit) = &self.cause.0 {
            write!(f, ": {exit}")?;
        }
        match self.side {
            Some(side) => write!(f, " [found by the {side}]"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallError({:?}: {self})", self.why)
    }
}

impl core::error::Error for CallError {
    #[cfg(feature = "std")]
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.cause().map(|exit| exit as _)
    }
}

/// How a guest exited: a [`GuestExit`](crate::host::GuestExit), as a trait object, so that this module does not depend
/// on `host`.
#[cfg(feature = "std")]
pub(crate) type GuestEnd = std::sync::Arc<dyn core::error::Error + Send + Sync>;

/// Two causes are equal if their texts are equal.
#[cfg(feature = "std")]
#[derive(Clone)]
struct ExitCause(Option<GuestEnd>);

#[cfg(feature = "std")]
impl PartialEq for ExitCause {
    fn eq(&self, other: &Self) -> bool {
        let text = |cause: &Self| cause.0.as_ref().map(std::string::ToString::to_string);
        text(self) == text(other)
    }
}

#[cfg(feature = "std")]
impl Eq for ExitCause {}

/// A callback that is notified of each call that a side refuses or fails, with the function and the bad field if they
/// are known.
pub(crate) type Observer = dyn Fn(&CallError) + Send + Sync;

/// The failure of a function that declares `Result<T, E>`, for its caller and its handler alike: either the declared
/// error or a failed call.
///
/// `?` and `into` convert a [`CallError`], and any scalar, struct or enum that a declaration may name as `E`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The application error that the interface declares.
    App(E),
    /// The call failed.
    Call(CallError),
}

impl<E> Failure<E> {
    /// The application error; `None` if the call failed.
    pub fn app(self) -> Option<E> {
        match self {
            Self::App(error) => Some(error),
            Self::Call(_) => None,
        }
    }
}

impl<E> From<CallError> for Failure<E> {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl<E: fmt::Debug> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(error) => write!(f, "{error:?}"),
            Self::Call(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for Failure<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::App(_) => None,
            // `Display` has shown the text of `error` already.
            Self::Call(error) => error.source(),
        }
    }
}

/// `Debug` as `Display`: a `main` that returns an error prints the former.
macro_rules! debug_by_display {
    ($type:ty) => {
        impl ::core::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(crate) use debug_by_display;

/// The error for memory that cannot serve as a region (ABI, "Region header").
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionError {
    /// The region or an arena is too small.
    TooSmall {
        /// Its length in bytes.
        len: u64,
        /// The minimum length in bytes.
        needed: u64,
    },
    /// An arena has 128 GiB or more.
    TooLarge {
        /// The arena's length in bytes.
        len: u64,
    },
    /// The region does not begin at a multiple of 4096 bytes.
    Misaligned {
        /// The address at which it begins.
        address: u64,
    },
    /// The memory does not begin with the magic number of a region header.
    NotARegion {
        /// Its first eight bytes, as a little-endian number.
        found: u64,
    },
    /// The other side uses another version of the ABI.
    Version {
        /// The version in the header.
        found: u32,
        /// The version that this crate implements.
        expected: u32,
    },
    /// A field of the header does not have the value that follows from the sizes of the arenas (ABI, R-6).
    BadHeader {
        /// The field's name in the ABI document.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The [`GuestStorage`](crate::guest::GuestStorage) is in use already.
    Taken,
    /// The memory for the region or for an arena's allocator metadata could not be allocated.
    OutOfMemory {
        /// The size of the allocation in bytes.
        len: u64,
    },
}

debug_by_display!(RegionError);

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooSmall { len, needed } => {
                write!(
                    f,
                    "the region or arena is too small: it has {len} bytes and needs at least {needed}"
                )
            }
            Self::TooLarge { len } => {
                write!(f, "the arena is too large: {len} bytes, but it must be less than 128 GiB")
            }
            Self::Misaligned { address } => {
                write!(f, "the region begins at {address:#x}, which is not a multiple of 4096")
            }
            Self::NotARegion { found } => {
                write!(f, "no region header found: the memory begins with {found:#018x}")
            }
            Self::Version { found, expected } => {
                write!(f, "the region has ABI version {found}, but this side supports {expected}")
            }
            Self::BadHeader { field, value } => {
                write!(
                    f,
                    "the field `{field}` of the region header has the invalid value {value:#x}"
                )
            }
            Self::Taken => {
                f.write_str("the `GuestStorage` is in use already: connect each one once")
            }
            Self::OutOfMemory { len } => {
                write!(f, "cannot allocate {len} bytes for the region or its allocator metadata")
            }
        }
    }
}

impl core::error::Error for RegionError {}

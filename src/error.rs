//! What can go wrong: with a call ([`CallError`], [`Failure`]), with a region ([`RegionError`]) and with
//! a connection ([`ConnectError`]).

use core::fmt;

use crate::abi::{Function, Side};

/// Why a call failed. The numbers are status words (ABI, "Statuses").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Why {
    /// The peer serves no function with this signature.
    UnknownFunction = 2,
    /// An offset, a length or an alignment that lies outside the sender's arena, or a handle that
    /// belongs to another connection.
    BadPointer = 3,
    /// A bit pattern that the declared type does not have: a `bool` of 2, an enum's unknown number,
    /// bytes that are no UTF-8, an integer with other high bits.
    BadValue = 4,
    /// An arena has no block of that size left, or a limit of the host's is reached.
    OutOfMemory = 5,
    /// Calls were nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    TooDeep = 6,
    /// No vCPU could run the upcall: others have all of them, or they belong to another thread.
    Busy = 7,
    /// The call was stopped from outside: its host's vCPU says so.
    Cancelled = 8,
    /// The two sides do not speak the same version of the ABI or of the interface.
    VersionMismatch = 9,
    /// The other side does not know this kind of trap or answer.
    Unsupported = 10,
    /// The called function panicked. The peer goes on working.
    PeerPanicked = 11,
    /// The peer is gone: it ended, crashed or was stopped for good.
    PeerDied = 12,
    /// The handle was made before the peer was reset, by `Host::reset` or `Loopback::reset`.
    Stale = 13,
    /// The called function refused, for a reason of its own that the interface does not declare.
    Refused = 14,
    /// The peer broke the protocol: an answer, a trap or a status that has no meaning here.
    Protocol = 15,
}

/// Set in a status word when the function was reached, so that its arguments are consumed
/// (ABI, "Statuses").
const REACHED: u64 = 64;

impl Why {
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

    /// What to tell a person.
    const fn text(self) -> &'static str {
        match self {
            Self::UnknownFunction => "the peer does not serve this function",
            Self::BadPointer => {
                "a pointer leads outside the sender's arena, or to another connection"
            }
            Self::BadValue => "a value is not one of its type's",
            Self::OutOfMemory => {
                "the arena has no block of this size left; give handles back or enlarge it"
            }
            Self::TooDeep => "calls are nested too deep",
            Self::Busy => "no vCPU can run the call: all are in calls, or belong to another thread",
            Self::Cancelled => "the call was stopped",
            Self::VersionMismatch => "the two sides speak different versions",
            Self::Unsupported => "the other side does not know this kind of trap",
            Self::PeerPanicked => "the called function panicked",
            Self::PeerDied => "the peer is gone",
            Self::Stale => "the handle is from before the peer was reset",
            Self::Refused => "the called function refused",
            Self::Protocol => "the peer broke the protocol",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A call that failed, apart from what the interface declares: why, in which function, on which
/// side, and the numbers that a person needs.
///
/// A handler returns one to fail the call that it serves ([`CallError::refused`] where no other
/// reason fits); the caller then gets the same [`Why`].
#[derive(Clone, PartialEq, Eq)]
pub struct CallError {
    why: Why,
    reached: bool,
    side: Option<Side>,
    function: Option<&'static Function>,
    field: &'static str,
    offset: u64,
    len: u64,
    /// How the guest has come to its end, where that is why.
    #[cfg(feature = "std")]
    end: Option<std::sync::Arc<crate::host::End>>,
}

impl CallError {
    /// An error for this reason, for a handler that fails the call which it serves.
    #[must_use]
    #[inline]
    pub const fn new(why: Why) -> Self {
        Self {
            why,
            reached: false,
            side: None,
            function: None,
            field: "",
            offset: 0,
            len: 0,
            #[cfg(feature = "std")]
            end: None,
        }
    }

    /// The called function refuses, and its interface declares no error that says why: the caller gets
    /// [`Why::Refused`].
    #[must_use]
    #[cold]
    pub const fn refused() -> Self {
        Self::new(Why::Refused)
    }

    pub(crate) const fn at(mut self, offset: u64, len: u64) -> Self {
        self.offset = offset;
        self.len = len;
        self
    }

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

    /// The guest has come to this end, and the call could not be made or finished for that.
    #[cfg(feature = "std")]
    pub(crate) fn by_end(mut self, end: Option<std::sync::Arc<crate::host::End>>) -> Self {
        self.end = end;
        self
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn in_field(mut self, field: &'static str) -> Self {
        if self.field.is_empty() {
            self.field = crate::abi::bare(field);
        }
        self
    }

    /// The error that a status word from 2 on stands for (ABI, "Statuses"); one that stands for none
    /// is [`Why::Protocol`]. 0 and 1 are answers, and no failures: look at those before.
    #[must_use]
    pub fn from_status(status: u64) -> Self {
        let why = Why::ALL.into_iter().find(|why| *why as u64 == status & !REACHED);
        let mut error = Self::new(why.unwrap_or(Why::Protocol));
        error.reached = status & REACHED != 0 || why.is_none();
        error
    }

    pub(crate) const fn status(&self) -> u64 {
        self.why as u64 | if self.reached { REACHED } else { 0 }
    }

    /// The reason.
    #[must_use]
    pub const fn why(&self) -> Why {
        self.why
    }

    /// How the guest has come to its end, where that is why the call failed: in a host, for calls to its guest. It is also
    /// in the text of the error and its [`source`](core::error::Error::source).
    #[cfg(feature = "std")]
    #[must_use]
    pub fn end(&self) -> Option<&crate::host::End> {
        self.end.as_deref()
    }

    /// The side that found the error, where it is known. For [`Why::OutOfMemory`] it is the one whose
    /// arena, or whose heap, is full.
    #[must_use]
    pub const fn side(&self) -> Option<Side> {
        self.side
    }

    /// The function that was called, where it is known: not for a raw call, and not to the observer of a
    /// side that does not serve it, or whose handler has panicked.
    #[must_use]
    pub const fn function(&self) -> Option<&'static Function> {
        self.function
    }

    /// Whether the function itself was reached. If not, the call has had no effect: everything that
    /// it lent is the caller's again, and it may be tried once more.
    #[must_use]
    pub const fn reached(&self) -> bool {
        self.reached
    }

    /// The parameter or field with the bad value. Only the side that found it knows: a serving side's
    /// observer is told, the caller across the boundary is not.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        if self.field.is_empty() { None } else { Some(self.field) }
    }

    /// The offset in the region that a bad pointer had, in bytes, on the side that found it.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of bytes that were wanted: of a bad pointer or of the block that was not to be had.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether [`len`](Self::len) is 0.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = self.function {
            write!(f, "{function}: ")?;
        }
        write!(f, "{}", self.why)?;
        if !self.field.is_empty() {
            write!(f, " (`{}`)", self.field)?;
        }
        match self.why {
            Why::BadPointer => write!(f, " ({} bytes at offset {:#x})", self.len, self.offset)?,
            Why::OutOfMemory if self.len != 0 => write!(f, " ({} bytes)", self.len)?,
            _ => {}
        }
        #[cfg(feature = "std")]
        if let Some(end) = &self.end {
            write!(f, ": {end}")?;
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
        self.end.as_deref().map(|end| end as _)
    }
}

/// How a function that declares `Result<T, E>` fails, for its caller and for its handler alike: with
/// the declared error, or as a call.
///
/// `?` and `into` make one from a [`CallError`] and from any scalar, struct or enum that a
/// declaration may name as `E`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The application error that the interface declares.
    App(E),
    /// The call failed.
    Call(CallError),
}

impl<E> Failure<E> {
    /// The application error, if that is what it is.
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
            // Its text is the failure's own.
            Self::Call(error) => error.source(),
        }
    }
}

/// Memory that cannot serve as a region (ABI, "Region header").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionError {
    /// It is shorter than what it must hold.
    TooSmall {
        /// Its length in bytes.
        len: u64,
        /// The least that would do, in bytes.
        needed: u64,
    },
    /// It is longer than a pointer word or the arena's books can express.
    TooLarge {
        /// Its length in bytes.
        len: u64,
    },
    /// It does not begin at a multiple of 4096 bytes.
    Misaligned {
        /// The address at which it begins.
        address: u64,
    },
    /// It does not begin with a region header.
    NotARegion {
        /// The eight bytes that were found.
        found: u64,
    },
    /// The other side speaks another version of the ABI.
    Version {
        /// The header's version.
        found: u32,
        /// The version that this crate speaks.
        expected: u32,
    },
    /// A field of the header contradicts the others.
    BadHeader {
        /// The field's name in the ABI document.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The place for a guest's end was taken before.
    Taken,
    /// There was no memory for the region or for an arena's books.
    OutOfMemory {
        /// The number of bytes that were wanted.
        len: u64,
    },
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooSmall { len, needed } => {
                write!(f, "the region has {len} bytes and needs at least {needed}")
            }
            Self::TooLarge { len } => write!(f, "{len} bytes are more than a region can have"),
            Self::Misaligned { address } => {
                write!(f, "the region begins at {address:#x}, which is no multiple of 4096")
            }
            Self::NotARegion { found } => {
                write!(f, "no region header: it begins with {found:#018x}")
            }
            Self::Version { found, expected } => {
                write!(f, "the region has ABI version {found}, this side speaks {expected}")
            }
            Self::BadHeader { field, value } => {
                write!(f, "the region header's `{field}` cannot be {value:#x}")
            }
            Self::Taken => f.write_str("the place for the guest's end is taken"),
            Self::OutOfMemory { len } => write!(f, "no memory for {len} bytes"),
        }
    }
}

impl core::error::Error for RegionError {}

/// Two sides that could not be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The memory cannot serve as a region.
    Region(RegionError),
    /// A call failed that connecting takes, or no vCPU was free to run the guest. A guest that its host does
    /// not fit gets [`Why::VersionMismatch`]; the host has the details.
    Call(CallError),
    /// The two sides do not serve what they call on each other.
    #[cfg(feature = "alloc")]
    Contract(crate::contract::Mismatch),
    /// The guest has come to its end, in this way.
    #[cfg(feature = "std")]
    Ended(crate::host::End),
}

impl From<RegionError> for ConnectError {
    fn from(error: RegionError) -> Self {
        Self::Region(error)
    }
}

impl From<CallError> for ConnectError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

#[cfg(feature = "alloc")]
impl From<crate::contract::Mismatch> for ConnectError {
    fn from(error: crate::contract::Mismatch) -> Self {
        Self::Contract(error)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
            #[cfg(feature = "alloc")]
            Self::Contract(error) => error.fmt(f),
            #[cfg(feature = "std")]
            Self::Ended(end) => end.fmt(f),
        }
    }
}

impl core::error::Error for ConnectError {}

//! What a guest is allowed, and who hears of what it is refused.

use std::{boxed::Box, fmt, time::Duration};

use crate::peer::{MAX_DEPTH, Observer};

/// How much a guest may have of its host, and how long it may take. The host enforces all of it.
///
/// ```
/// use std::time::Duration;
/// use vmffi::host::Limits;
///
/// let limits = Limits { deadline: Some(Duration::from_secs(1)), calls: 10_000, ..Limits::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a call to the guest may take, from outside of any handler, and a [`run`](super::Host::run): with
    /// all that is nested in it. A guest that takes longer is stopped, [`End::Deadline`](super::End::Deadline);
    /// a handler is not, but its guest is not run on after it. `None`, which is the default: as long as it
    /// likes. [`Host::within`](super::Host::within) sets another one for some calls.
    pub deadline: Option<Duration>,
    /// How many hypercalls a guest may make in one such call. The next one is its end,
    /// [`End::TooManyCalls`](super::End::TooManyCalls). No limit by default.
    pub calls: u64,
    /// How deep calls may be nested, as [`MAX_DEPTH`] counts them, and not more than that, which is the default.
    /// What is deeper fails with [`Why::TooDeep`](crate::Why::TooDeep).
    pub depth: u32,
    /// How many blocks of the host's arena may be in use: what was lent to the guest and not yet given back,
    /// and what handlers have made and not yet handed over. A handler that wants more gets
    /// [`Why::OutOfMemory`](crate::Why::OutOfMemory). By default as many as the arena has room for.
    pub lent_blocks: u32,
    /// The same in bytes; each block takes a multiple of 64.
    pub lent_bytes: u64,
    /// How many handles may live at once, of the guest's memory and of the host's own ([`ForeignBuf`](crate::ForeignBuf),
    /// [`SharedBuf`](crate::SharedBuf), ..): those of calls under way, and those that handlers keep. A call that
    /// brings more fails with [`Why::OutOfMemory`](crate::Why::OutOfMemory). No limit by default. Their bytes lie in the
    /// guest's arena, which is the limit of those.
    pub handles: usize,
    /// How many bytes of a guest's last text, and of a line of its log, are looked at; the rest is cut off. 1,024
    /// by default.
    pub text: u32,
    /// How many bytes of its log a guest may send in one call as in `deadline`. Further lines are refused
    /// ([`Why::Refused`](crate::Why::Refused)), and the observer hears of it. No limit by default.
    pub log: u64,
}

impl Limits {
    /// Texts of 1,024 bytes, and no limits but those of the ABI itself: the default.
    pub const NONE: Self = Self {
        deadline: None,
        calls: u64::MAX,
        depth: MAX_DEPTH,
        lent_blocks: u32::MAX,
        lent_bytes: u64::MAX,
        handles: usize::MAX,
        text: 1024,
        log: u64::MAX,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}

/// What may be said of a host beside what it needs.
#[derive(Default)]
pub struct Options {
    /// What its guest is allowed.
    pub limits: Limits,
    /// Is told of each call that the host refuses or fails, on the thread that serves it: with the function and
    /// the bad field, where they are known. A panic in it is caught and ignored.
    pub observer: Option<Box<Observer>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("limits", &self.limits).finish_non_exhaustive()
    }
}

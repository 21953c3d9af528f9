//! What a guest may use of its host.

use core::time::Duration;

use crate::abi::{MAX_DEPTH, MAX_TEXT};

/// How much of its host a guest may use, and how long it may take. The host enforces all of it.
///
/// ```
/// use std::time::Duration;
/// use vmffi::host::Limits;
///
/// let limits = Limits::new().deadline(Duration::from_secs(1)).calls(10_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(super) deadline: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(super) calls: u64,
    pub(super) depth: u32,
    pub(super) lent_blocks: u32,
    pub(super) lent_bytes: u64,
    pub(super) handles: usize,
    pub(super) text: u32,
    pub(super) log: u64,
}

impl Limits {
    /// The default: texts of [`MAX_TEXT`] bytes, and no limits but those of the ABI.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deadline: None,
            cpu_time: None,
            calls: u64::MAX,
            depth: MAX_DEPTH,
            lent_blocks: u32::MAX,
            lent_bytes: u64::MAX,
            handles: usize::MAX,
            text: MAX_TEXT,
            log: u64::MAX,
        }
    }

    /// Maximum time of a call to the guest from outside of any handler, and of a [`run`](super::Host::run), with all that is
    /// nested in it. A guest that takes longer is stopped, [`GuestExit::Deadline`](super::GuestExit::Deadline). A handler is
    /// not stopped, but its guest is not resumed after it. Without a deadline a guest may take any time.
    /// [`Host::with_deadline`](super::Host::with_deadline) sets another deadline for some calls.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Maximum processor time of the guest in one such call, and on each vCPU in one `run`. A guest that uses more is
    /// stopped, [`GuestExit::CpuTime`](super::GuestExit::CpuTime).
    ///
    /// Only the guest's own time counts, with what the kernel does for it: not the time of handlers, nor that in which
    /// the guest waits for a handler, for another call, or for a processor. So, unlike [`deadline`](Self::deadline), a
    /// machine that is busy with other things stops no guest; but a handler that never returns needs a deadline.
    ///
    /// A guest is never stopped before it has used all of the time. It is stopped at most 1 ms or a 64th of the limit
    /// later, whichever is longer, and as much later as the threads of the host have to wait for a processor. A process
    /// with several vCPUs reads the clocks of its threads as of their last scheduler tick, which adds a few
    /// milliseconds to what is charged, or takes them from it.
    ///
    /// The vCPUs must have a clock ([`Vcpu::cpu_clock`](super::Vcpu::cpu_clock)): if one has none, the guest exits with
    /// [`GuestExit::Lost`](super::GuestExit::Lost) when it is started. Machines have one: reading it takes two system
    /// calls for each trap of a virtual machine, and one for each such call to a process.
    #[must_use]
    pub const fn cpu_time(mut self, limit: Duration) -> Self {
        self.cpu_time = Some(limit);
        self
    }

    /// Maximum number of hypercalls in one such call. The next one makes the guest exit,
    /// [`GuestExit::TooManyCalls`](super::GuestExit::TooManyCalls). Of a batch, each call counts, each result that is taken, and
    /// the batch itself.
    #[must_use]
    pub const fn calls(mut self, calls: u64) -> Self {
        self.calls = calls;
        self
    }

    /// Maximum depth of nested calls, as [`MAX_DEPTH`] counts them; a larger value stands for that. A deeper call fails with
    /// [`ErrorKind::TooDeep`](crate::ErrorKind::TooDeep).
    #[must_use]
    pub const fn depth(mut self, depth: u32) -> Self {
        self.depth = if depth < MAX_DEPTH { depth } else { MAX_DEPTH };
        self
    }

    /// Maximum number of blocks of the host's arena that are in use: those that are lent to the guest, and those that
    /// handlers have made and not yet handed over. A handler that allocates more gets
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory).
    #[must_use]
    pub const fn lent_blocks(mut self, blocks: u32) -> Self {
        self.lent_blocks = blocks;
        self
    }

    /// The same limit in bytes; each block takes a multiple of [`GRANULE_SIZE`](crate::GRANULE_SIZE).
    #[must_use]
    pub const fn lent_bytes(mut self, bytes: u64) -> Self {
        self.lent_bytes = bytes;
        self
    }

    /// Maximum number of handles to the guest's memory and to the host's own ([`ForeignBuf`](crate::ForeignBuf),
    /// [`SharedBuf`](crate::SharedBuf), …): those of calls under way, and those that handlers keep. A call that brings more
    /// fails with [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory). The size of the guest's arena limits their bytes.
    #[must_use]
    pub const fn handles(mut self, handles: usize) -> Self {
        self.handles = handles;
        self
    }

    /// Maximum length in bytes of guest-supplied text that is copied for diagnostics: its last text, and each line of its
    /// log. Longer text is truncated.
    #[must_use]
    pub const fn text(mut self, bytes: u32) -> Self {
        self.text = bytes;
        self
    }

    /// Maximum number of bytes of log that a guest may send in one call as in [`deadline`](Self::deadline). Further lines are
    /// refused ([`ErrorKind::Refused`](crate::ErrorKind::Refused)), and the observer is notified.
    #[must_use]
    pub const fn log(mut self, bytes: u64) -> Self {
        self.log = bytes;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

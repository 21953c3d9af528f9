//! The guest's end of a connection: calls leave with a trap, upcalls arrive as its completion.
//!
//! Nothing here needs an allocator. Everything that a guest's end consists of lies in a
//! [`Place`], which is a `static` of the guest's.

use core::{
    cell::UnsafeCell,
    fmt,
    mem::MaybeUninit,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    abi::{Answer, Registers, Side, Transport, answer, signature, trap},
    arch::Trap,
    arena::Slot,
    dispatch::Serve,
    error::{CallError, ConnectError, RegionError, Why},
    memory::{Layout, Memory},
    owned::{MemoryRef, Owned},
    peer::{Core, Far, Lane, Link, Passage, Peer, Server},
};

#[cfg(all(feature = "guest", target_arch = "x86_64"))]
#[doc(hidden)]
pub mod memory;
#[cfg(all(feature = "guest", target_arch = "x86_64"))]
mod program;

#[cfg(all(feature = "guest", target_arch = "x86_64"))]
pub use program::{exit, panicked, run};

#[cfg(all(feature = "heap", target_arch = "x86_64"))]
pub use program::Heap;

/// Where a guest's end lies: a `static`, with the books for an arena of `GRANULES` granules of 64
/// bytes (16,384 for 1 MiB; 24 bytes each). Of an arena that is larger, the rest is not used.
///
/// ```
/// use vmffi::{arch::x86_64::Out, guest::Place};
///
/// // This guest serves nothing.
/// static PLACE: Place<(), Out<0x5658>, 16_384> = Place::new();
/// ```
pub struct Place<S, T, const GRANULES: usize> {
    taken: AtomicBool,
    /// `guest` is there.
    filled: AtomicBool,
    books: [Slot; GRANULES],
    server: UnsafeCell<MaybeUninit<S>>,
    link: UnsafeCell<MaybeUninit<TrapLink<T>>>,
    memory: UnsafeCell<MaybeUninit<Memory>>,
    core: UnsafeCell<MaybeUninit<Core>>,
    guest: UnsafeCell<MaybeUninit<Guest<T>>>,
}

// SAFETY: only whoever has set `taken` writes to the cells, once, before anyone can read them.
unsafe impl<S: Send + Sync, T: Send + Sync, const GRANULES: usize> Sync for Place<S, T, GRANULES> {}

impl<S, T, const GRANULES: usize> Place<S, T, GRANULES> {
    /// A place with nothing in it.
    #[cfg(not(all(test, loom)))]
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a place is only ever made in a static")]
    pub const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            filled: AtomicBool::new(false),
            books: [const { Slot::new() }; GRANULES],
            server: UnsafeCell::new(MaybeUninit::uninit()),
            link: UnsafeCell::new(MaybeUninit::uninit()),
            memory: UnsafeCell::new(MaybeUninit::uninit()),
            core: UnsafeCell::new(MaybeUninit::uninit()),
            guest: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

impl<S, T, const GRANULES: usize> Place<S, T, GRANULES> {
    /// The end that lies here, once it is connected: what a guest's other vCPUs use.
    #[must_use]
    pub fn guest(&'static self) -> Option<&'static Guest<T>> {
        if !self.filled.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: `filled` says that it is there, and nobody writes to it again.
        Some(unsafe { (*self.guest.get()).assume_init_ref() })
    }
}

impl<S, T, const GRANULES: usize> fmt::Debug for Place<S, T, GRANULES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("granules", &GRANULES).finish_non_exhaustive()
    }
}

/// A guest's end of a connection. It lies in its [`Place`], for ever; several vCPUs may use it at once.
pub struct Guest<T> {
    trap: T,
    core: &'static Core,
    peer: Peer,
}

impl<T: Trap + Copy + Send + Sync + 'static> Guest<T> {
    /// Connects to the host: `trap` is how calls leave, `server` serves the host's calls, and the
    /// region, which the host has laid out, has `len` bytes from `base` on. The first trap is made
    /// here: it hands the guest's contract to the host ([`contract`](crate::contract)).
    ///
    /// # Safety
    ///
    /// `base` is valid for reads of `len` bytes, and for writes of all but the header and the host's
    /// arena (ABI, "Region header"), for ever, and nothing else in this guest uses them.
    ///
    /// # Errors
    ///
    /// What is wrong with the region, and [`RegionError::Taken`] where the place was taken before;
    /// [`ConnectError::Call`] where the contract cannot be handed over, with [`Why::OutOfMemory`] where the
    /// arena is too small for it, or where the host does not accept it ([`Why::VersionMismatch`]).
    pub unsafe fn connect<S: Serve, const GRANULES: usize>(
        place: &'static Place<S, T, GRANULES>,
        trap: T,
        server: S,
        base: *mut u8,
        len: u64,
    ) -> Result<&'static Self, ConnectError> {
        // SAFETY: the caller's promise.
        let layout = unsafe { Layout::read_header(base, len) }?;
        let books = &place.books[..layout.granules(Side::Guest).min(GRANULES)];
        if place.taken.swap(true, Ordering::Acquire) {
            return Err(RegionError::Taken.into());
        }
        let books = [Some(Owned::Static(books)), None];
        // SAFETY: the caller's promise; the books are this place's, which was free until now.
        let memory = unsafe { Memory::new(base, len, layout, books, Owned::Static(&())) }?;
        // SAFETY: `taken` was false until a moment ago, so nobody else has this place's cells; that
        // goes for the four below as well.
        let memory = unsafe { put(&place.memory, memory) };
        // SAFETY: see above.
        let server = unsafe { put(&place.server, server) };
        // SAFETY: see above.
        let link = unsafe { put(&place.link, TrapLink(trap)) };
        let core = Core {
            memory: MemoryRef::Static(memory),
            side: Side::Guest,
            server: Server::new(Owned::Static(server)),
            link: Link::Far(Owned::Static(link)),
            #[cfg(all(feature = "guest", target_arch = "x86_64"))]
            trap: trap.agreed(),
            observer: None,
            #[cfg(feature = "std")]
            text: 0,
        };
        // SAFETY: see above.
        let core = unsafe { put(&place.core, core) };
        let peer = Peer::new(core, 0, Lane::NONE);
        // SAFETY: see above.
        let guest = unsafe { put(&place.guest, Self { trap, core, peer }) };
        introduce(&guest.peer)?;
        place.filled.store(true, Ordering::Release);
        Ok(guest)
    }

    /// The host: calls through it are hypercalls.
    #[must_use]
    pub fn host(&self) -> &Peer {
        &self.peer
    }

    /// Tells the host that the guest has started up, and serves its upcalls, on this stack, until it
    /// lets the guest go on.
    ///
    /// # Errors
    ///
    /// [`Why::Unsupported`] where nobody claims the trap, and what the host says.
    pub fn park(&self) -> Result<(), CallError> {
        let ready = Registers { kind: trap::READY, word: 0, transport: Transport::EMPTY };
        match converse(&self.trap, self.core, 0, ready).status {
            0 => Ok(()),
            status => Err(CallError::from_status(status).on(Side::Host)),
        }
    }

    /// Ends the guest: 0 for a good end, any other status means what the guest wants it to mean. A
    /// host does not complete this trap; if one does, the guest asks again.
    pub fn exit(&self, status: u64) -> ! {
        exit_by(&self.trap, status, Transport::EMPTY)
    }
}

impl<T> fmt::Debug for Guest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Ends the guest, with a text in its arena (ABI, "Traps").
fn exit_by(trap: &impl Trap, status: u64, text: Transport) -> ! {
    let exit = Registers { kind: trap::EXIT, word: status, transport: text };
    loop {
        let _ = trap.trap(exit);
    }
}

/// Hands this side's contract to the host, before any other call (ABI, "Contracts").
fn introduce(host: &Peer) -> Result<(), ConnectError> {
    let mut out = host.outgoing();
    let contract = out.lend_bytes(host.core().server.contract)?;
    Ok(out.ask(signature::MEET, contract)?)
}

/// Fills a cell of a place for good.
///
/// # Safety
///
/// Nobody else has the cell, and it is filled once.
unsafe fn put<V>(cell: &'static UnsafeCell<MaybeUninit<V>>, value: V) -> &'static V {
    // SAFETY: the caller says that there is no other reference.
    let cell = unsafe { &mut *cell.get() };
    cell.write(value)
}

/// Calls by trapping.
struct TrapLink<T>(T);

impl<T: Trap + Send + Sync> Far for TrapLink<T> {
    fn call(&self, peer: &Peer, signature: u64, transport: Transport, _: &mut Passage) -> Answer {
        let call = Registers { kind: trap::CALL, word: signature, transport };
        converse(&self.0, peer.core(), peer.depth() + 1, call)
    }
}

/// Traps, serves upcalls until the host has an answer (ABI, "Traps"). `depth` counts the calls under
/// way.
fn converse(trap: &impl Trap, core: &Core, depth: u32, out: Registers) -> Answer {
    go_on(trap, core, depth, trap.trap(out))
}

/// The same, where the first trap has come back.
#[cold]
pub(crate) fn go_on(trap: &impl Trap, core: &Core, depth: u32, mut back: Registers) -> Answer {
    loop {
        match back.kind {
            answer::ANSWER => return Answer { status: back.word, transport: back.transport },
            answer::UPCALL => {
                let done = core.serve(back.word, back.transport, depth + 1, Lane::NONE);
                back = trap.trap(Registers {
                    kind: trap::RETURN,
                    word: done.status,
                    transport: done.transport,
                });
            }
            // Nobody claimed the trap: the kind comes back as it was.
            _ => return Answer::status(CallError::new(Why::Unsupported).status()),
        }
    }
}

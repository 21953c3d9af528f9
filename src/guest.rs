//! The guest's end of a connection: calls leave with a trap, upcalls arrive as its completion.
//!
//! Nothing here needs an allocator: a guest's end lies in a [`GuestStorage`], which is a `static` of the guest.

use core::{
    cell::UnsafeCell,
    fmt,
    mem::MaybeUninit,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    abi::{Registers, Side, Transport, trap},
    arch::Trap,
    call::{CallContext, Endpoint, Link, Peer, RemoteLink, Serve, Server, converse},
    error::{CallError, RegionError},
    handshake::{ConnectError, introduce},
    memory::{
        Memory, MemoryRef, Passage, RegionLayout, RegionMemory, SideMemory,
        arena::Slot,
        storage::{Owned, put},
    },
};

#[cfg(feature = "guest")]
#[doc(hidden)]
pub mod mem_functions;
mod missing;
#[cfg(feature = "guest")]
#[cfg_attr(target_arch = "aarch64", path = "guest/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "guest/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "guest/x86_64.rs")]
mod native;
#[cfg(feature = "guest")]
mod program;
#[cfg(feature = "guest")]
mod seed;

#[cfg(feature = "guest")]
pub use {
    program::{exit, panicked, run},
    seed::{Seed, seed},
};

#[cfg(feature = "heap")]
pub use program::Heap;

/// Storage for a guest's end: a `static`, with the allocator metadata for an arena of `GRANULES` granules of
/// [`GRANULE_SIZE`](crate::GRANULE_SIZE) bytes (16,384 for 1 MiB; 28 bytes of metadata each). If the arena is larger, the
/// remainder is unused.
///
/// ```
/// use vmffi::{arch::x86_64::Out, guest::GuestStorage};
///
/// // This guest serves nothing.
/// static STORAGE: GuestStorage<(), Out<0x5658>, 16_384> = GuestStorage::new();
/// ```
pub struct GuestStorage<S, T, const GRANULES: usize> {
    taken: AtomicBool,
    /// `guest` is connected.
    filled: AtomicBool,
    metadata: [Slot; GRANULES],
    server: UnsafeCell<MaybeUninit<S>>,
    link: UnsafeCell<MaybeUninit<TrapLink<T>>>,
    memory: UnsafeCell<MaybeUninit<Memory>>,
    endpoint: UnsafeCell<MaybeUninit<Endpoint>>,
    guest: UnsafeCell<MaybeUninit<Guest<T>>>,
}

// SAFETY: only whoever has set `taken` writes to the cells, once, before anyone can read them.
unsafe impl<S: Send + Sync, T: Send + Sync, const GRANULES: usize> Sync
    for GuestStorage<S, T, GRANULES>
{
}

impl<S, T, const GRANULES: usize> GuestStorage<S, T, GRANULES> {
    /// Empty storage.
    #[cfg(not(all(test, loom)))]
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it is only made in a static")]
    pub const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            filled: AtomicBool::new(false),
            metadata: [const { Slot::new() }; GRANULES],
            server: UnsafeCell::new(MaybeUninit::uninit()),
            link: UnsafeCell::new(MaybeUninit::uninit()),
            memory: UnsafeCell::new(MaybeUninit::uninit()),
            endpoint: UnsafeCell::new(MaybeUninit::uninit()),
            guest: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

impl<S, T, const GRANULES: usize> GuestStorage<S, T, GRANULES> {
    /// The end that lies here, if it is connected: for the guest's other vCPUs.
    #[must_use]
    pub fn guest(&'static self) -> Option<&'static Guest<T>> {
        if !self.filled.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: `connect` sets `filled` when it has filled the cell, and fills it once.
        Some(unsafe { (*self.guest.get()).assume_init_ref() })
    }
}

impl<S, T, const GRANULES: usize> fmt::Debug for GuestStorage<S, T, GRANULES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestStorage").field("granules", &GRANULES).finish_non_exhaustive()
    }
}

/// A guest's end of a connection. It lies in its [`GuestStorage`] and is never dropped; several vCPUs may use it at once.
pub struct Guest<T> {
    trap: T,
    endpoint: &'static Endpoint,
    peer: Peer,
}

impl<T: Trap + Copy + Send + Sync + 'static> Guest<T> {
    /// Connects to the host, which has laid out `region`. Calls leave by `trap`, and `server` serves the host's calls. The
    /// first trap is made here: it sends the guest's contract to the host ([`contract`](crate::contract)).
    ///
    /// # Errors
    ///
    /// What is wrong with the region; [`RegionError::Taken`] if the storage holds a guest's end, or one that could not be
    /// connected; [`ConnectError::Call`] if the contract cannot be sent, with [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if the arena is too
    /// small for it, or if the host does not accept it ([`ErrorKind::VersionMismatch`](crate::ErrorKind::VersionMismatch)).
    pub fn connect<S: Serve, const GRANULES: usize>(
        storage: &'static GuestStorage<S, T, GRANULES>,
        region: RegionMemory,
        trap: T,
        server: S,
    ) -> Result<&'static Self, ConnectError> {
        // SAFETY: `RegionMemory` was promised to be readable.
        let layout = unsafe { RegionLayout::read_header(region.base, region.len) }?;
        let metadata = &storage.metadata[..layout.granules(Side::Guest).min(GRANULES)];
        if storage.taken.swap(true, Ordering::Acquire) {
            return Err(RegionError::Taken.into());
        }
        let memory = Memory::new(region, layout, [Some(Owned::Static(metadata)), None])?;
        // SAFETY: `taken` was false until this call has set it, so that no other call fills the cells of this storage, now or
        // later. Each cell is filled once, here and below.
        let memory = unsafe { put(&storage.memory, memory) };
        // SAFETY: this call alone has set `taken`, and fills the cell once.
        let server = unsafe { put(&storage.server, server) };
        // SAFETY: this call alone has set `taken`, and fills the cell once.
        let link = unsafe { put(&storage.link, TrapLink(trap)) };
        let endpoint = Endpoint {
            own: SideMemory { memory: MemoryRef::Static(memory), side: Side::Guest },
            server: Server::new(Owned::Static(server)),
            reserved: None,
            link: Link::Remote(Owned::Static(link)),
            inline: trap.inline_instruction(),
            observer: None,
        };
        // SAFETY: this call alone has set `taken`, and fills the cell once.
        let endpoint = unsafe { put(&storage.endpoint, endpoint) };
        // SAFETY: the endpoint lies in a static and is never dropped; `Outside` points to nothing.
        let peer = unsafe { Peer::new(endpoint, 0, CallContext::Outside) };
        // SAFETY: this call alone has set `taken`, and fills the cell once.
        let guest = unsafe { put(&storage.guest, Self { trap, endpoint, peer }) };
        introduce(&guest.peer)?;
        storage.filled.store(true, Ordering::Release);
        Ok(guest)
    }

    /// The host: calls through it are hypercalls.
    #[must_use]
    pub fn host(&self) -> &Peer {
        &self.peer
    }

    /// Tells the host that the guest has started up, and serves upcalls on this stack until the host resumes the guest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if no host claims the trap, and the error with which a host resumes the guest.
    pub fn park(&self) -> Result<(), CallError> {
        let ready = Registers { kind: trap::READY, word: 0, transport: Transport::EMPTY };
        let mut status = 0;
        let _ = converse(&self.trap, self.endpoint, 0, ready, &mut status);
        match status {
            0 => Ok(()),
            status => Err(CallError::from_status(status).on(Side::Host)),
        }
    }

    /// Exits the guest. Status 0 stands for success, and the guest defines what other statuses mean. Hosts do not complete
    /// this trap; if one does, the guest traps again.
    pub fn exit(&self, status: u64) -> ! {
        exit_by(&self.trap, status, Transport::EMPTY)
    }
}

impl<T> fmt::Debug for Guest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Exits the guest, with a text in its arena (ABI, "Traps").
fn exit_by(trap: &impl Trap, status: u64, text: Transport) -> ! {
    let exit = Registers { kind: trap::EXIT, word: status, transport: text };
    loop {
        let _ = trap.trap(exit);
    }
}

/// Calls by trapping.
struct TrapLink<T>(T);

impl<T: Trap + Send + Sync> RemoteLink for TrapLink<T> {
    fn call(
        &self,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        _: &mut Passage,
        status: &mut u64,
    ) -> Transport {
        let call = Registers { kind: trap::CALL, word: signature, transport };
        converse(&self.0, peer.endpoint(), peer.depth() + 1, call, status)
    }
}

//! Guest and host in one process: for tests, for benchmarks, for a first look.
//!
//! Everything is as it is between a virtual machine and its host, registers, region, arenas and
//! checks, except that a trap is a function call. There is no isolation.

use core::ptr::NonNull;

use alloc::boxed::Box;

use crate::{
    abi::Side,
    contract,
    dispatch::Serve,
    error::{CallError, ConnectError, RegionError},
    memory::{Layout, Memory, PAGE},
    owned::{Fixed, MemoryRef, Owned},
    peer::{Core, Lane, Link, Observer, Peer, Server},
};

/// A guest and a host in one process.
///
/// ```
/// # use vmffi::{CallError, Peer};
/// vmffi::ffi_interface! {
///     pub interface Clock { fn now() -> u64; }
/// }
/// struct Machine;
/// impl Clock for Machine {
///     fn now(&self, _: &Peer) -> Result<u64, CallError> { Ok(7) }
/// }
/// vmffi::serve!(Machine: Clock);
///
/// let pair = vmffi::loopback::Loopback::new((), Machine)?;
/// assert_eq!(ClockClient::from(pair.to_host()).now()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Loopback {
    pair: Fixed<Pair>,
}

struct Pair {
    /// By [`Side`]; set once, when the pair has its place.
    cores: [Core; 2],
    peers: [Peer; 2],
}

/// How a [`Loopback`] is made, where the defaults will not do.
pub struct Builder {
    layout: Result<Layout, RegionError>,
    observers: [Option<Box<Observer>>; 2],
}

impl core::fmt::Debug for Builder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Builder").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Builder {
    /// Sets the sizes of the two arenas, in bytes, rounded up to whole pages. 4 MiB each, if nothing
    /// is said; memory is taken as it is touched.
    #[must_use]
    pub fn arenas(mut self, guest: u64, host: u64) -> Self {
        self.layout = Layout::new(guest, host);
        self
    }

    /// Has every call that `side` refuses or fails reported: with the function, and the bad parameter
    /// or field, where they are known. It runs on the calling thread; a panic in it is caught and ignored.
    #[must_use]
    pub fn observe(
        mut self,
        side: Side,
        observer: impl Fn(&CallError) + Send + Sync + 'static,
    ) -> Self {
        self.observers[side as usize] = Some(Box::new(observer));
        self
    }

    /// Makes the pair in memory of its own: `guest` serves the host's calls, `host` the guest's.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Contract`] where one side does not serve what the other calls,
    /// [`RegionError::OutOfMemory`], and what is wrong with the sizes.
    pub fn build(self, guest: impl Serve, host: impl Serve) -> Result<Loopback, ConnectError> {
        let layout = self.layout?;
        let memory = Pages::new(layout.len())?;
        let (base, len) = (memory.base.as_ptr(), layout.len());
        // SAFETY: `memory` has that many bytes for as long as it lives, and nobody else knows it.
        unsafe { self.build_in(base, len, Box::new(memory), guest, host) }
    }

    /// Makes the pair in memory that is mapped elsewhere too: `len` bytes from `base` on, which stay
    /// mapped for as long as `keep` lives. That is how a test plays a peer that writes to the region
    /// while it is used.
    ///
    /// # Safety
    ///
    /// `base` is valid for reads and writes of `len` bytes until `keep` is dropped, and no Rust
    /// reference covers them. Whoever else writes there does it from another process, or through
    /// another mapping.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Contract`] where one side does not serve what the other calls, and what is wrong
    /// with the memory or the sizes.
    pub unsafe fn build_in(
        self,
        base: *mut u8,
        len: u64,
        keep: Box<dyn Send + Sync>,
        guest: impl Serve,
        host: impl Serve,
    ) -> Result<Loopback, ConnectError> {
        let layout = self.layout?;
        let (guest, host) = (server(guest), server(host));
        contract::compare(guest.contract, host.contract)?;
        let books = [
            Some(Memory::new_books(&layout, Side::Guest)?),
            Some(Memory::new_books(&layout, Side::Host)?),
        ];
        // SAFETY: the caller's promise; the books are new.
        let memory = unsafe { Memory::new(base, len, layout, books, keep.into()) }?;
        // SAFETY: the memory has a page and more.
        unsafe { memory.layout().write_header(base) };
        let memory = MemoryRef::Counted(memory.into());
        let [guest_observer, host_observer] = self.observers;
        let core = |side, server, other, observer: Option<Box<Observer>>| Core {
            memory: memory.clone(),
            side,
            server,
            link: Link::Near(other),
            #[cfg(all(feature = "guest", target_arch = "x86_64"))]
            trap: None,
            observer: observer.map(Owned::Boxed),
            #[cfg(feature = "std")]
            text: 1024,
        };
        let pair = Fixed::new(|place: NonNull<Pair>| {
            // SAFETY: only the address is taken of what is not yet there.
            let cores: *mut [Core; 2] = unsafe { &raw mut (*place.as_ptr()).cores };
            // SAFETY: as above; the first of two, within the place, is not null.
            let guest_at = unsafe { NonNull::new_unchecked(cores.cast::<Core>()) };
            // SAFETY: there are two of them.
            let host_at = unsafe { guest_at.add(1) };
            let guest = core(Side::Guest, guest, host_at, guest_observer);
            let host = core(Side::Host, host, guest_at, host_observer);
            // SAFETY: the cores stay in their place as long as the peers do.
            let peers =
                unsafe { [Peer::top(guest_at, Lane::NONE), Peer::top(host_at, Lane::NONE)] };
            Pair { cores: [guest, host], peers }
        });
        Ok(Loopback { pair })
    }
}

fn server(server: impl Serve) -> Server {
    Server::new(Owned::Boxed(Box::new(server)))
}

impl Loopback {
    /// A pair with the defaults of [`Builder`]: `guest` serves the host's calls, `host` the guest's;
    /// `()` serves nothing.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Contract`] where one side does not serve what the other calls, and
    /// [`RegionError::OutOfMemory`].
    pub fn new(guest: impl Serve, host: impl Serve) -> Result<Self, ConnectError> {
        Self::builder().build(guest, host)
    }

    /// For other sizes, and for observers.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { layout: Layout::new(4 << 20, 4 << 20), observers: [None, None] }
    }

    /// The host, as the guest's code sees it: calls through it are hypercalls.
    #[must_use]
    pub fn to_host(&self) -> &Peer {
        &self.pair.peers[Side::Guest as usize]
    }

    /// The guest, as the host's code sees it: calls through it are upcalls.
    #[must_use]
    pub fn to_guest(&self) -> &Peer {
        &self.pair.peers[Side::Host as usize]
    }

    /// Begins anew, as the host of a virtual machine does when its guest is to be started again: all
    /// that was lent is its owner's again, whoever still has a handle to it. Such a handle reads as
    /// [`Why::Stale`](crate::Why::Stale) and drops as nothing (ABI, "Arenas and loans").
    ///
    /// What was made and not yet handed over, a [`SharedBuf`](crate::SharedBuf) and its like, is no
    /// loan: it stays what it is, and can be sent. The servers stay too, with what they have kept.
    ///
    /// No call is under way, or the loopback could not be borrowed for it. Handles may be read and dropped on other
    /// threads at the same time; the reset waits until a copy that has begun is done.
    ///
    /// ```
    /// # use vmffi::{CallError, ForeignBuf, Peer, SharedBuf, Why, loopback::Loopback};
    /// vmffi::ffi_interface! {
    ///     pub interface Disk { fn block() -> ForeignBuf; }
    /// }
    /// struct Machine;
    /// impl Disk for Machine {
    ///     fn block(&self, guest: &Peer) -> Result<SharedBuf, CallError> {
    ///         SharedBuf::zeroed(guest, 512)
    ///     }
    /// }
    /// vmffi::serve!(Machine: Disk);
    ///
    /// let mut pair = Loopback::new((), Machine)?;
    /// let block = DiskClient::from(pair.to_host()).block()?;
    /// pair.reset();
    /// assert_eq!(block.to_vec().unwrap_err().why(), Why::Stale);
    /// assert_eq!(pair.to_guest().arena_stats().blocks, 0);
    /// assert_eq!(DiskClient::from(pair.to_host()).block()?.len(), 512);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reset(&mut self) {
        let memory = &self.pair.cores[0].memory;
        memory.begin_reset();
        memory.end_reset();
    }

    /// The layout of the region.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.pair.cores[0].memory.layout()
    }
}

impl core::fmt::Debug for Loopback {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Loopback").field("layout", self.layout()).finish_non_exhaustive()
    }
}

/// Zeroed memory from the heap that begins at a page.
struct Pages {
    base: NonNull<u8>,
    layout: core::alloc::Layout,
}

// SAFETY: plain memory, owned.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    fn new(len: u64) -> Result<Self, RegionError> {
        let full = RegionError::OutOfMemory { len };
        let bytes = usize::try_from(len).map_err(|_| full)?;
        let layout =
            core::alloc::Layout::from_size_align(bytes, PAGE as usize).map_err(|_| full)?;
        // SAFETY: a layout of a region has more than 0 bytes.
        let base = NonNull::new(unsafe { alloc::alloc::alloc_zeroed(layout) }).ok_or(full)?;
        Ok(Self { base, layout })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { alloc::alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}

//! Guest and host in one process: for tests, benchmarks and a first look.
//!
//! Registers, region, arenas and checks are the same as between a virtual machine and its host, but a trap is a function
//! call, and nothing isolates the two sides.

use core::ptr::NonNull;

use alloc::boxed::Box;

use crate::{
    abi::{PAGE_SIZE, Side, Transport, signature},
    arch::InlineInstruction,
    call::{CallContext, Endpoint, Link, Peer, Reserved, Serve, Server},
    contract,
    error::{CallError, Observer, RegionError},
    handshake::{self, ConnectError},
    memory::{
        Memory, MemoryRef, RegionLayout, RegionMemory, SideMemory,
        storage::{Fixed, Owned},
    },
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
/// assert_eq!(ClockClient::from(pair.host()).now()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Loopback {
    pair: Fixed<Pair>,
}

struct Pair {
    /// By [`Side`]. Both are set once, when the address of the pair is known.
    endpoints: [Endpoint; 2],
    peers: [Peer; 2],
}

/// Makes a [`Loopback`]: [`Loopback::builder`].
pub struct Builder {
    layout: Result<RegionLayout, RegionError>,
    observers: [Option<Box<Observer>>; 2],
    memory: Option<RegionMemory>,
}

impl core::fmt::Debug for Builder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Builder").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Builder {
    /// Sets the sizes of the two arenas in bytes, which are rounded up to whole pages; 4 MiB each by default. The system
    /// provides the memory when it is first touched.
    #[must_use]
    pub fn arenas(mut self, guest: u64, host: u64) -> Self {
        self.layout = RegionLayout::new(guest, host);
        self
    }

    /// Notifies `observer` of each call that `side` refuses or fails, on the calling thread: with the function and the bad
    /// parameter or field, where they are known. A panic of the observer is caught and ignored.
    #[must_use]
    pub fn observe(
        mut self,
        side: Side,
        observer: impl Fn(&CallError) + Send + Sync + 'static,
    ) -> Self {
        self.observers[side as usize] = Some(Box::new(observer));
        self
    }

    /// Uses this memory instead of memory of its own. If it is mapped elsewhere too, a test can play a peer that writes to the
    /// region while it is in use.
    #[must_use]
    pub fn memory(mut self, memory: RegionMemory) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Makes the pair: `guest` serves the host's calls, `host` the guest's.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Contract`] if one side does not serve what the other calls, [`RegionError::OutOfMemory`], and what is
    /// wrong with the sizes or with the memory.
    pub fn build(self, guest: impl Serve, host: impl Serve) -> Result<Loopback, ConnectError> {
        let layout = self.layout?;
        let (guest, host) = (server(guest), server(host));
        contract::compare(guest.contract, host.contract)?;
        let region = match self.memory {
            Some(memory) => memory,
            None => Pages::new(layout.len())?.into_memory(layout.len()),
        };
        let base = region.base;
        let metadata = [
            Some(Memory::new_metadata(&layout, Side::Guest)?),
            Some(Memory::new_metadata(&layout, Side::Host)?),
        ];
        let memory = Memory::new(region, layout, metadata)?;
        // SAFETY: `RegionMemory` was promised to be writable, and `Memory::new` has checked that it has as many bytes as the
        // layout, which is more than a page.
        unsafe { memory.layout().write_header(base) };
        let memory = MemoryRef::Counted(memory.into());
        let [guest_observer, host_observer] = self.observers;
        let endpoint = |side, server, other, observer: Option<Box<Observer>>| Endpoint {
            own: SideMemory { memory: memory.clone(), side },
            server,
            reserved: (side == Side::Host).then_some(Owned::Static(&HostSignatures)),
            link: Link::Local(other),
            inline: InlineInstruction::NONE,
            observer: observer.map(Owned::Boxed),
        };
        let pair = Fixed::new(|place: NonNull<Pair>| {
            // SAFETY: `Fixed::new` gives the address of memory for a `Pair`; nothing is read, only an address computed.
            let endpoints: *mut [Endpoint; 2] = unsafe { &raw mut (*place.as_ptr()).endpoints };
            // SAFETY: it is an address within the memory of the pair, which is not null.
            let guest_at = unsafe { NonNull::new_unchecked(endpoints.cast::<Endpoint>()) };
            // SAFETY: `endpoints` is an array of two, so that the second follows the first.
            let host_at = unsafe { guest_at.add(1) };
            let guest = endpoint(Side::Guest, guest, host_at, guest_observer);
            let host = endpoint(Side::Host, host, guest_at, host_observer);
            // SAFETY: the endpoints stay in their place as long as the peers do.
            let peers = unsafe {
                [
                    Peer::top(guest_at, CallContext::Outside),
                    Peer::top(host_at, CallContext::Outside),
                ]
            };
            Pair { endpoints: [guest, host], peers }
        });
        Ok(Loopback { pair })
    }
}

/// The reserved signatures of a host whose guest cannot exit.
struct HostSignatures;

impl Reserved for HostSignatures {
    fn serve(
        &self,
        endpoint: &Endpoint,
        signature: u64,
        transport: Transport,
    ) -> Option<Result<(), CallError>> {
        match signature {
            signature::HANDSHAKE => {
                Some(handshake::compare(endpoint, transport).map(drop).map_err(handshake::refusal))
            }
            signature::LOG => Some(crate::log::receive(
                endpoint,
                transport,
                crate::abi::MAX_TEXT,
                crate::log::trace,
            )),
            _ => None,
        }
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
    /// [`ConnectError::Contract`] if one side does not serve what the other calls, and [`RegionError::OutOfMemory`].
    pub fn new(guest: impl Serve, host: impl Serve) -> Result<Self, ConnectError> {
        Self::builder().build(guest, host)
    }

    /// Begins a pair with other sizes, memory or observers.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            layout: RegionLayout::new(4 << 20, 4 << 20),
            observers: [None, None],
            memory: None,
        }
    }

    /// The host, as the guest's code sees it: calls through it are hypercalls.
    #[must_use]
    pub fn host(&self) -> &Peer {
        &self.pair.peers[Side::Guest as usize]
    }

    /// The guest, as the host's code sees it: calls through it are upcalls.
    #[must_use]
    pub fn guest(&self) -> &Peer {
        &self.pair.peers[Side::Host as usize]
    }

    /// Ends all loans, as the reset of a virtual machine does: an existing handle reads as
    /// [`ErrorKind::Stale`](crate::ErrorKind::Stale), and dropping it does nothing (ABI, "Arenas and loans").
    ///
    /// A [`SharedBuf`](crate::SharedBuf) or the like that was not handed over stays valid and can be sent. The servers keep
    /// their state.
    ///
    /// The exclusive borrow excludes calls. Other threads may read and drop handles meanwhile; the reset waits until copies
    /// that have begun are done.
    ///
    /// ```
    /// # use vmffi::{CallError, ForeignBuf, Peer, SharedBuf, ErrorKind, loopback::Loopback};
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
    /// let block = DiskClient::from(pair.host()).block()?;
    /// pair.reset();
    /// assert_eq!(block.read_vec().unwrap_err().kind(), ErrorKind::Stale);
    /// assert_eq!(pair.guest().arena_stats().blocks, 0);
    /// assert_eq!(DiskClient::from(pair.host()).block()?.len(), 512);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reset(&mut self) {
        let memory = &self.pair.endpoints[0].own.memory;
        memory.begin_reset();
        memory.end_reset();
    }

    /// The layout of the region.
    #[must_use]
    pub fn layout(&self) -> &RegionLayout {
        self.pair.endpoints[0].own.memory.layout()
    }
}

impl core::fmt::Debug for Loopback {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Loopback").field("layout", self.layout()).finish_non_exhaustive()
    }
}

/// Zeroed memory of the heap, aligned to a page.
struct Pages {
    base: NonNull<u8>,
    layout: core::alloc::Layout,
}

// SAFETY: it owns heap memory, which no thread is bound to.
unsafe impl Send for Pages {}
// SAFETY: through a shared reference only the address is read.
unsafe impl Sync for Pages {}

impl Pages {
    fn new(len: u64) -> Result<Self, RegionError> {
        let full = RegionError::OutOfMemory { len };
        let bytes = usize::try_from(len).map_err(|_| full)?;
        let layout =
            core::alloc::Layout::from_size_align(bytes, PAGE_SIZE as usize).map_err(|_| full)?;
        // SAFETY: `RegionLayout::new` makes no region without a page, so the size is not 0.
        let base = NonNull::new(unsafe { alloc::alloc::alloc_zeroed(layout) }).ok_or(full)?;
        Ok(Self { base, layout })
    }

    fn into_memory(self, len: u64) -> RegionMemory {
        let base = self.base.as_ptr();
        // SAFETY: these pages have `len` bytes, nobody else has their address, and they are freed when `self` is dropped.
        unsafe { RegionMemory::new(base, len, Box::new(self)) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with this layout, and only `drop` frees it.
        unsafe { alloc::alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}

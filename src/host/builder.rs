//! Builds a host.

use std::{boxed::Box, fmt, sync::Arc};

use super::{
    Host, Limits, Vcpu,
    pool::{HostCheckpoint, VcpuPool},
};
use crate::{
    abi::Side,
    arch::InlineInstruction,
    call::{CallContext, Endpoint, Link, Peer, Serve, Server},
    error::{CallError, Observer, RegionError},
    memory::{
        KeptBlock, Memory, MemoryRef, RegionLayout, RegionMemory, SideMemory,
        storage::{Fixed, Owned},
    },
};

/// Builds a [`Host`] from a region's memory, a server and vCPUs.
pub struct HostBuilder {
    memory: RegionMemory,
    layout: RegionLayout,
    limits: Limits,
    observer: Option<Box<Observer>>,
}

impl fmt::Debug for HostBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory, layout, limits, .. } = self;
        f.debug_struct("HostBuilder")
            .field("memory", memory)
            .field("layout", layout)
            .field("limits", limits)
            .finish_non_exhaustive()
    }
}

impl HostBuilder {
    /// A host whose guest shares `memory` with it, laid out as `layout` says.
    #[must_use]
    pub fn new(memory: RegionMemory, layout: RegionLayout) -> Self {
        Self { memory, layout, limits: Limits::new(), observer: None }
    }

    /// What the guest may use; [`Limits::new`] by default.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Notifies `observer` of each call that the host refuses or fails, on the thread that serves it: with the function and
    /// the bad field, where they are known. A panic of the observer is caught and ignored.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&CallError) + Send + Sync + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Writes the region's header, and connects `vcpus`, whose guest finds the region there. Nothing runs yet.
    ///
    /// `server` serves the guest's calls. `vcpus` are at least one, in the order in which [`Host::run`] starts them.
    ///
    /// # Errors
    ///
    /// [`RegionError::Misaligned`] or [`RegionError::TooSmall`] if the memory does not fit the layout, and
    /// [`RegionError::OutOfMemory`] if the heap has no room for the metadata of the host's arena.
    pub fn build<V: Vcpu + 'static>(
        self,
        server: impl Serve,
        vcpus: impl IntoIterator<Item = V>,
    ) -> Result<Host<V>, RegionError> {
        self.build_from(server, vcpus, None)
    }

    /// The same for a guest that begins with a checkpoint of another one, if there is one.
    pub(crate) fn build_from<V: Vcpu + 'static>(
        self,
        server: impl Serve,
        vcpus: impl IntoIterator<Item = V>,
        from: Option<(HostCheckpoint, &[KeptBlock])>,
    ) -> Result<Host<V>, RegionError> {
        let Self { memory: region, layout, limits, observer } = self;
        let base = region.base;
        let metadata = [None, Some(Memory::new_metadata(&layout, Side::Host)?)];
        let mut memory = Memory::new(region, layout, metadata)?;
        memory.limit(Side::Host, limits.lent_blocks, limits.lent_bytes);
        memory.limit_handles(limits.handles);
        memory.belongs_here();
        // SAFETY: `RegionMemory` was promised to be writable, and `Memory::new` has checked that it has as many bytes as the
        // layout, which is more than a page.
        unsafe { layout.write_header(base) };
        let checkpoint = from.map(|(checkpoint, kept)| {
            memory.adopt(Side::Host, kept);
            checkpoint
        });
        let pool = VcpuPool::new(vcpus, limits, memory.epoch(), checkpoint);
        let endpoint = Fixed::new(|_| Endpoint {
            own: SideMemory { memory: MemoryRef::Counted(Arc::new(memory)), side: Side::Host },
            server: Server::new(Owned::Boxed(Box::new(server))),
            reserved: Some(Owned::Boxed(Box::new(pool.clone()))),
            link: Link::Remote(Owned::Boxed(Box::new(pool.clone()))),
            inline: InlineInstruction::NONE,
            observer: observer.map(Owned::Boxed),
        });
        // SAFETY: the endpoint stays in its place for as long as the host, and the peer in it, live.
        let peer = unsafe { Peer::top(endpoint.address(), CallContext::Outside) };
        Ok(Host { peer, endpoint, pool })
    }
}

//! A host without an operating system and without a heap: its end of the connection lies in a `static`.

use core::{
    cell::UnsafeCell,
    fmt,
    mem::MaybeUninit,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    GuestExit, Limits, ResetError, RunOutcome, Vcpu,
    cpu::{Awaited, Cpu, Step, failed, failed_here},
    rules::{self, Owner, Rules},
};
use crate::{
    abi::{Registers, Side, Transport, answer},
    arch::InlineInstruction,
    call::{CallContext, Endpoint, Link, Peer, RemoteLink, Reserved, Serve, Server},
    error::{CallError, ErrorKind, ErrorText, Observer, RegionError},
    handshake::ConnectError,
    log::Line,
    memory::{
        Epoch, Memory, MemoryRef, Passage, RegionLayout, RegionMemory, SideMemory,
        arena::{Lock, LockGuard, Slot},
        storage::{Owned, put},
    },
};

/// Storage for a host's end of one guest: a `static`, with the state of `VCPUS` vCPUs, and the allocator metadata for an
/// arena of `GRANULES` granules of [`GRANULE_SIZE`](crate::GRANULE_SIZE) bytes (16,384 for 1 MiB; 28 bytes of metadata each).
/// If the host's arena in the region is larger, the remainder is unused.
///
/// ```
/// use vmffi::host::{GuestExit, HostStorage, Vcpu};
/// # use vmffi::abi::Registers;
///
/// struct Hart;
///
/// impl Vcpu for Hart {
///     // Enters the guest, and returns when it traps.
/// #   fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> { Err(GuestExit::Stopped) }
/// }
///
/// // This host serves nothing, and has room for two guests with one vCPU each.
/// static GUESTS: [HostStorage<(), Hart, 1, 256>; 2] = [const { HostStorage::new() }; 2];
/// ```
pub struct HostStorage<S, V: 'static, const VCPUS: usize, const GRANULES: usize> {
    taken: AtomicBool,
    metadata: [Slot; GRANULES],
    server: UnsafeCell<MaybeUninit<S>>,
    memory: UnsafeCell<MaybeUninit<Memory>>,
    guest: UnsafeCell<MaybeUninit<StaticVcpus<V, VCPUS>>>,
    endpoint: UnsafeCell<MaybeUninit<Endpoint>>,
    host: UnsafeCell<MaybeUninit<StaticHost<V, VCPUS>>>,
}

// SAFETY: only whoever has set `taken` writes to the cells, once, before anyone can read them. Afterwards they are shared
// as `&`, for which `Serve` and `StaticVcpus` are `Sync`.
unsafe impl<S: Send + Sync, V: Send, const VCPUS: usize, const GRANULES: usize> Sync
    for HostStorage<S, V, VCPUS, GRANULES>
{
}

impl<S, V, const VCPUS: usize, const GRANULES: usize> HostStorage<S, V, VCPUS, GRANULES> {
    /// Empty storage.
    #[cfg(not(all(test, loom)))]
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it is only made in a static")]
    pub const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            metadata: [const { Slot::new() }; GRANULES],
            server: UnsafeCell::new(MaybeUninit::uninit()),
            memory: UnsafeCell::new(MaybeUninit::uninit()),
            guest: UnsafeCell::new(MaybeUninit::uninit()),
            endpoint: UnsafeCell::new(MaybeUninit::uninit()),
            host: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

impl<S, V, const VCPUS: usize, const GRANULES: usize> fmt::Debug
    for HostStorage<S, V, VCPUS, GRANULES>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("HostStorage");
        debug.field("vcpus", &VCPUS).field("granules", &GRANULES).finish_non_exhaustive()
    }
}

/// A line of a guest's log. The guest has chosen its texts, which may contain control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine<'l> {
    /// 1 for an error, 2 a warning, 3 information, 4 for debugging, 5 for tracing.
    pub level: u8,
    /// The part of the guest that logs, such as a module.
    pub target: &'l str,
    /// The message, without the feature `alloc` of at most 254 bytes together with the target.
    pub text: &'l str,
}

/// Builds a [`StaticHost`].
pub struct StaticHostBuilder<S: 'static, V: 'static, const VCPUS: usize, const GRANULES: usize> {
    storage: &'static HostStorage<S, V, VCPUS, GRANULES>,
    region: RegionMemory,
    layout: RegionLayout,
    limits: Limits,
    observer: Option<&'static Observer>,
    log: Option<fn(LogLine<'_>)>,
}

impl<S: Serve, V: Vcpu + 'static, const VCPUS: usize, const GRANULES: usize>
    StaticHostBuilder<S, V, VCPUS, GRANULES>
{
    /// What the guest may use; [`Limits::new`] by default. Time is not limited: without an operating system there is no
    /// clock that the crate knows, so [`Vcpu::run`] enforces deadlines.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Notifies `observer` of each call that the host refuses or fails, while it serves it: with the function and the bad
    /// field, where they are known.
    #[must_use]
    pub fn observe(mut self, observer: &'static (dyn Fn(&CallError) + Send + Sync)) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Calls `log` with each line of the guest's log; by default lines are dropped.
    #[must_use]
    pub fn log(mut self, log: fn(LogLine<'_>)) -> Self {
        self.log = Some(log);
        self
    }

    /// Writes the region's header, and connects `vcpus`, whose guest finds the region there. Nothing runs yet. `server`
    /// serves the guest's calls. The vCPUs are in the order in which [`StaticHost::run`] starts them.
    ///
    /// # Errors
    ///
    /// [`RegionError::Misaligned`] or [`RegionError::TooSmall`] if the memory does not fit the layout, and
    /// [`RegionError::Taken`] if the storage holds a host's end, or one that could not be connected.
    pub fn connect(
        self,
        server: S,
        vcpus: [V; VCPUS],
    ) -> Result<&'static StaticHost<V, VCPUS>, RegionError> {
        const { assert!(VCPUS > 0, "a guest has at least one vCPU") };
        let Self { storage, region, layout, limits, observer, log } = self;
        let metadata = &storage.metadata[..layout.granules(Side::Host).min(GRANULES)];
        let base = region.base;
        if storage.taken.swap(true, Ordering::Acquire) {
            return Err(RegionError::Taken);
        }
        let mut memory = Memory::new(region, layout, [None, Some(Owned::Static(metadata))])?;
        memory.limit(Side::Host, limits.lent_blocks, limits.lent_bytes);
        // SAFETY: `RegionMemory` was promised to be writable, and `Memory::new` has checked that it has as many bytes as the
        // layout, which is more than a page.
        unsafe { layout.write_header(base) };
        // SAFETY: `taken` was false until this call has set it, so that no other call fills the cells of this storage, now or
        // later. Each cell is filled once, here and below.
        let memory = unsafe { put(&storage.memory, memory) };
        // SAFETY: this call alone has set `taken`, and fills the cell once.
        let server = unsafe { put(&storage.server, server) };
        let guest = StaticVcpus {
            rules: Rules::new(limits, false),
            exit: Lock::new(None),
            checkpoint: Lock::new(None),
            vcpus: vcpus.map(|vcpu| Lock::new(Cpu::new(vcpu))),
            log,
        };
        // SAFETY: this call alone has set `taken`, and fills the cell once.
        let guest = unsafe { put(&storage.guest, guest) };
        let endpoint = Endpoint {
            own: SideMemory { memory: MemoryRef::Static(memory), side: Side::Host },
            server: Server::new(Owned::Static(server)),
            reserved: Some(Owned::Static(guest)),
            link: Link::Remote(Owned::Static(guest)),
            inline: InlineInstruction::NONE,
            observer: observer.map(Owned::Static),
        };
        // SAFETY: this call alone has set `taken`, and fills the cell once.
        let endpoint = unsafe { put(&storage.endpoint, endpoint) };
        // SAFETY: the endpoint lies in a static and is never dropped; `Outside` points to nothing.
        let peer = unsafe { Peer::new(endpoint, 0, CallContext::Outside) };
        // SAFETY: this call alone has set `taken`, and fills the cell once.
        Ok(unsafe { put(&storage.host, StaticHost { endpoint, guest, peer }) })
    }
}

impl<S, V, const VCPUS: usize, const GRANULES: usize> fmt::Debug
    for StaticHostBuilder<S, V, VCPUS, GRANULES>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, layout, limits, .. } = self;
        let mut debug = f.debug_struct("StaticHostBuilder");
        debug.field("region", region).field("layout", layout).field("limits", limits);
        debug.finish_non_exhaustive()
    }
}

/// A host's end of a connection with the vCPUs of one guest, where there is no operating system. It lies in its
/// [`HostStorage`] and is never dropped; several processors may use it at once.
///
/// It is what `Host` is where there is an operating system, with the same rules, except for what needs one: no thread
/// waits for a vCPU, nothing stops a vCPU that runs, and checkpoints are the embedder's.
pub struct StaticHost<V: 'static, const VCPUS: usize> {
    endpoint: &'static Endpoint,
    guest: &'static StaticVcpus<V, VCPUS>,
    peer: Peer,
}

impl<V: Vcpu + 'static, const VCPUS: usize> StaticHost<V, VCPUS> {
    /// A host that lies in `storage`, whose guest shares `region` with it, laid out as `layout` says.
    #[must_use]
    pub fn builder<S: Serve, const GRANULES: usize>(
        storage: &'static HostStorage<S, V, VCPUS, GRANULES>,
        region: RegionMemory,
        layout: RegionLayout,
    ) -> StaticHostBuilder<S, V, VCPUS, GRANULES> {
        let limits = Limits::new();
        StaticHostBuilder { storage, region, layout, limits, observer: None, log: None }
    }

    /// Starts the guest, or resumes a parked one, and serves its hypercalls, until the guest waits for upcalls or exits. With
    /// several vCPUs it does so for one after the other, in their order.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Contract`] if the contracts of guest and host do not fit, and [`ConnectError::Exited`] if the guest
    /// exited otherwise, now or before; it is not resumed then. [`ErrorKind::Busy`] if another processor, or a handler of this
    /// guest, uses a vCPU.
    pub fn run(&self) -> Result<RunOutcome, ConnectError> {
        let ran = self.guest.vcpus.iter().try_for_each(|vcpu| self.start(vcpu));
        RunOutcome::of(ran, || self.guest_exit())
    }

    fn start(&self, vcpu: &Lock<Cpu<V>>) -> Result<(), ErrorKind> {
        let mut cpu = vcpu.try_lock().ok_or(ErrorKind::Busy)?;
        cpu.begin();
        let resume = Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
        let answer = cpu.parked.then_some(resume);
        cpu.run_until(Awaited::Ready, self.guest, self.endpoint, 0, answer, &mut 0)?;
        cpu.parked = true;
        Ok(())
    }

    /// The guest: calls through it are upcalls, on a parked vCPU. A call fails with [`ErrorKind::Busy`] if no vCPU is free: before
    /// the first [`run`](Self::run), while other processors use all of them, and in a handler of this guest, which uses
    /// one itself. A handler calls through the [`Peer`] that it is given.
    #[must_use]
    pub fn guest(&self) -> &Peer {
        &self.peer
    }

    /// How the guest exited; `None` while it lives, and after a [`reset`](Self::reset).
    #[must_use]
    pub fn guest_exit(&self) -> Option<GuestExit> {
        self.guest.exit.lock().clone()
    }

    /// Stops the guest, from any processor: a vCPU is not resumed after the trap that it makes next, or has made. The call that
    /// is under way and all later calls fail with [`ErrorKind::Cancelled`].
    pub fn stop(&self) {
        // Loans end with the call that finds it, or with the next one: the caller holds no vCPU, so a reset may begin another
        // life meanwhile, whose loans are not to end.
        let mut exit = self.guest.exit.lock();
        exit.get_or_insert(GuestExit::Stopped);
        self.guest.rules.set_exited(true);
    }

    /// Serves a trap that the guest has made on a vCPU, by number: for a hypervisor whose trap handler runs between the trap and
    /// the guest's resumption, and that does not wait for the guest in [`run`](Self::run). The handler of a call may make
    /// upcalls, for which [`Vcpu::run`] runs the guest.
    ///
    /// # Errors
    ///
    /// How the guest has exited, with this trap or before: it must not be resumed. [`GuestExit::Lost`] if no vCPU has this
    /// number, or if it is in use.
    pub fn serve(&self, vcpu: usize, trap: Registers) -> Result<Served, GuestExit> {
        let unknown = || GuestExit::Lost("no vCPU is free that has this number".into());
        let cpu = self.guest.vcpus.get(vcpu).and_then(Lock::try_lock);
        let mut cpu = cpu.ok_or_else(unknown)?;
        if let Some(exit) = self.guest_exit() {
            return Err(exit);
        }
        cpu.parked = false;
        match cpu.serve_trap(trap, Awaited::Ready, self.guest, self.endpoint, 0, &mut 0) {
            Ok(Step::Answer(answer)) => Ok(Served::Answer(answer)),
            Ok(Step::Done(_)) => {
                cpu.begin();
                cpu.parked = true;
                Ok(Served::Ready)
            }
            Err(_) => Err(self.guest_exit().unwrap_or(GuestExit::Stopped)),
        }
    }

    /// Calls `save` with the vCPUs, which do not run meanwhile: it saves all memory that the guest can write (its arena and both
    /// release maps too) and its registers, for a [`reset`](Self::reset). The guest holds the loans that it has received by
    /// now in all later lives.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] if a vCPU is in use or does not wait for upcalls.
    pub fn checkpoint(
        &self,
        save: impl FnOnce(&mut dyn Iterator<Item = &mut V>),
    ) -> Result<(), CallError> {
        let all = self.take_all().filter(|all| all.iter().flatten().all(|cpu| cpu.parked));
        let mut all = all.ok_or(CallError::new(ErrorKind::Busy).on(Side::Host))?;
        if let Ok(arena) = self.endpoint.own.memory.arena(Side::Host) {
            arena.keep_loans();
        }
        save(&mut all.iter_mut().flatten().map(|cpu| &mut cpu.vcpu));
        *self.guest.checkpoint.lock() = Some(self.guest.rules.is_known());
        Ok(())
    }

    /// Begins a new life of the guest. `restore` gets the vCPUs, and restores what was saved at the last
    /// [`checkpoint`](Self::checkpoint), also after the guest has exited.
    ///
    /// All loans since then end, in both directions: a handle to one reads as [`ErrorKind::Stale`], and dropping it does nothing.
    /// The free memory of the host's arena is zeroed, so that the new life reads nothing of the old one's. Blocks that the
    /// host has made and not handed over stay as they are, and so does the server.
    ///
    /// # Errors
    ///
    /// [`ResetError::Busy`] while a vCPU is in use, and [`ResetError::NotStarted`] if there is no checkpoint: the guest is
    /// unchanged. [`ResetError::Failed`] with the error of `restore`: the guest has exited, [`GuestExit::Lost`].
    pub fn reset(
        &self,
        restore: impl FnOnce(&mut dyn Iterator<Item = &mut V>) -> Result<(), ErrorText>,
    ) -> Result<(), ResetError> {
        let all = self.take_all().ok_or(ResetError::Busy)?;
        let known = *self.guest.checkpoint.lock();
        self.renew(all, Some(known.ok_or(ResetError::NotStarted)?), restore)
    }

    /// The same for a guest that starts anew: `load` gets the vCPUs, and brings all memory that the guest can write and its
    /// registers to where they were before the first [`run`](Self::run). No checkpoint remains.
    ///
    /// # Errors
    ///
    /// [`ResetError::Busy`] and [`ResetError::Failed`], as of [`reset`](Self::reset).
    pub fn restart(
        &self,
        load: impl FnOnce(&mut dyn Iterator<Item = &mut V>) -> Result<(), ErrorText>,
    ) -> Result<(), ResetError> {
        self.renew(self.take_all().ok_or(ResetError::Busy)?, None, load)
    }

    /// Begins a new life at the checkpoint, at which the guest's contract was known or not, or without one.
    fn renew(
        &self,
        mut all: [Option<LockGuard<'_, Cpu<V>>>; VCPUS],
        checkpoint: Option<bool>,
        restore: impl FnOnce(&mut dyn Iterator<Item = &mut V>) -> Result<(), ErrorText>,
    ) -> Result<(), ResetError> {
        let memory = &self.endpoint.own.memory;
        memory.begin_reset();
        {
            // From here on, a stop stops the next life.
            let mut exit = self.guest.exit.lock();
            *exit = None;
            self.guest.rules.set_exited(true);
        }
        *self.guest.checkpoint.lock() = checkpoint;
        if let (None, Ok(arena)) = (checkpoint, memory.arena(Side::Host)) {
            arena.end_kept();
        }
        memory.wipe(Side::Host);
        let restored = restore(&mut all.iter_mut().flatten().map(|cpu| &mut cpu.vcpu));
        for cpu in all.iter_mut().flatten() {
            cpu.begin();
            cpu.parked = checkpoint.is_some();
        }
        memory.end_reset();
        self.guest.rules.set_known(checkpoint == Some(true));
        let mut exit = self.guest.exit.lock();
        if let Err(why) = restored {
            *exit = Some(GuestExit::Lost(why.clone()));
            return Err(ResetError::Failed(why));
        }
        if exit.is_none() {
            self.guest.rules.set_exited(false);
        }
        Ok(())
    }

    /// All vCPUs, each of them `Some`; `None` if one is in use.
    fn take_all(&self) -> Option<[Option<LockGuard<'_, Cpu<V>>>; VCPUS]> {
        let taken = self.guest.vcpus.each_ref().map(Lock::try_lock);
        taken.iter().all(Option::is_some).then_some(taken)
    }
}

impl<V, const VCPUS: usize> fmt::Debug for StaticHost<V, VCPUS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticHost").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What becomes of a trap that was served: [`StaticHost::serve`].
#[derive(Clone, Copy, Debug)]
#[must_use = "the guest waits for the answer"]
pub enum Served {
    /// The trap is to be completed with these words, and the guest resumed.
    Answer(Registers),
    /// The guest waits for upcalls. [`StaticHost::run`] and upcalls resume it.
    Ready,
}

/// The vCPUs of a guest, and what they share.
struct StaticVcpus<V, const VCPUS: usize> {
    rules: Rules,
    /// How the guest has exited in this life. `Rules::set_exited` is called while it is locked.
    exit: Lock<Option<GuestExit>>,
    /// If there is a checkpoint: whether the guest's contract had been compared by then. It is read and written while all
    /// vCPUs are locked.
    checkpoint: Lock<Option<bool>>,
    /// A vCPU is locked while it runs, and is never waited for.
    vcpus: [Lock<Cpu<V>>; VCPUS],
    log: Option<fn(LogLine<'_>)>,
}

impl<V: Send, const VCPUS: usize> Owner for StaticVcpus<V, VCPUS> {
    fn rules(&self) -> &Rules {
        &self.rules
    }

    #[cold]
    fn end(&self, endpoint: &Endpoint, exit: GuestExit) -> ErrorKind {
        let mut recorded = self.exit.lock();
        let kind = recorded.get_or_insert(exit).kind();
        self.rules.set_exited(true);
        drop(recorded);
        endpoint.own.memory.end_loans();
        kind
    }

    fn kind(&self) -> ErrorKind {
        self.exit.lock().as_ref().map_or(ErrorKind::Cancelled, GuestExit::kind)
    }

    fn log(&self, line: Line<'_>) {
        let Some(log) = self.log else { return };
        // What is not UTF-8 is left out.
        let [target, text] = [line.target, line.text]
            .map(|text| text.utf8_chunks().next().map_or("", |it| it.valid()));
        log(LogLine { level: line.level, target, text });
    }
}

impl<V: Vcpu, const VCPUS: usize> StaticVcpus<V, VCPUS> {
    /// One call from outside of any handler.
    fn outermost(
        &self,
        peer: &Peer,
        call: (u64, Transport),
        passage: &mut Passage,
        status: &mut u64,
    ) -> Result<Transport, CallError> {
        let (endpoint, depth) = (peer.endpoint(), self.rules.depth_of_call(peer)?);
        let memory = &endpoint.own.memory;
        let lent = passage.epoch.filter(|_| passage.count != 0);
        let free = self.vcpus.iter().find_map(|vcpu| vcpu.try_lock().filter(|cpu| cpu.parked));
        // While this call holds a vCPU, there is no reset: the answer is validated in the life in which the call runs.
        let life: Epoch = memory.epoch();
        passage.epoch = Some(life);
        if lent.is_some_and(|lent| lent != life) {
            return Err(CallError::new(ErrorKind::Stale));
        }
        if !self.rules.runs() {
            // A guest that has exited never releases what was lent to it. Without a vCPU, a reset may begin another life
            // before this line, whose loans are not to end.
            if free.is_some() {
                memory.end_loans();
            }
            return Err(CallError::new(self.kind()));
        }
        let mut cpu = free.ok_or(CallError::new(ErrorKind::Busy))?;
        if let (true, Ok(arena)) = (passage.count != 0, memory.arena(Side::Host)) {
            arena.deliver(passage.latest, passage.count);
        }
        cpu.begin();
        let done = cpu.upcall(self, endpoint, depth, call, status);
        done.map_err(|kind| failed(true, kind))
    }
}

impl<V: Vcpu, const VCPUS: usize> RemoteLink for StaticVcpus<V, VCPUS> {
    fn call(
        &self,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
        status: &mut u64,
    ) -> Transport {
        let done = match peer.nested() {
            Some(calls) => calls.call(peer, signature, transport, status),
            None => self.outermost(peer, (signature, transport), passage, status),
        };
        done.unwrap_or_else(|error| failed_here(&error, passage, status))
    }
}

impl<V: Vcpu, const VCPUS: usize> Reserved for StaticVcpus<V, VCPUS> {
    fn serve(
        &self,
        endpoint: &Endpoint,
        signature: u64,
        transport: Transport,
    ) -> Option<Result<(), CallError>> {
        rules::serve_reserved(self, endpoint, signature, transport)
    }
}

//! Machines: a guest's ELF file in a virtual machine, or in a process of its own.
//!
//! An [`Image`] is the program, a [`MachineBuilder`] its resources, a [`Backend`] what runs it.
//! [`MachineBuilder::build`] returns a [`Host`], as for any other guest.
//!
//! ```no_run
//! use vmffi::{host::RunOutcome, machine::{Backend, Image, MachineBuilder}};
//!
//! let image = Image::open("target/guest/release/guest")?;
//! let backend = Backend::best().ok_or("neither KVM nor processes can be used here")?;
//! let host = MachineBuilder::new(&image).arenas(1 << 20, 1 << 20).build(backend, ())?;
//! assert_eq!(host.run()?, RunOutcome::Ready);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    boxed::Box,
    fmt, io,
    str::FromStr,
    string::String,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    vec::Vec,
};

use crate::{
    abi::{Boot, TrapMethod},
    call::Serve,
    contract::Escaped,
    error::{CallError, Observer},
    host::{DeadlineThread, Fault, FaultCause, Host, HostBuilder, Limits, Vcpu},
    memory::{RegionLayout, RegionMemory},
};

mod address_space;
mod check;
mod descriptors;
mod error;
mod image;
#[cfg(feature = "kvm")]
mod kvm;
mod mapping;
#[cfg(feature = "process")]
mod process;
mod ram;
mod signals;

use address_space::{AddressSpace, REGION_AT};
pub use error::MachineError;
pub use image::{Image, ImageError};
use ram::{Ram, Snapshot};

/// What runs a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// A virtual machine, by `/dev/kvm`. The guest runs in ring 3; only its image, its stacks and the region are
    /// mapped.
    #[cfg(feature = "kvm")]
    Kvm,
    /// A process that can only compute and trap, with a thread for each vCPU: filters (seccomp(2)) deny every system
    /// call but three of the crate's own code in it. When the host's process ends, in whatever way, so does the guest. It needs
    /// Linux 5.9.
    #[cfg(feature = "process")]
    Process,
}

impl Backend {
    /// All backends of this build of the crate, in order of preference.
    pub const ALL: &'static [Self] = &[
        #[cfg(feature = "kvm")]
        Self::Kvm,
        #[cfg(feature = "process")]
        Self::Process,
    ];

    /// The backend's name: `kvm` or `process`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "kvm")]
            Self::Kvm => "kvm",
            #[cfg(feature = "process")]
            Self::Process => "process",
        }
    }

    /// Checks whether the backend works in this process, now: builds a small machine, runs a guest of one instruction,
    /// as [`MachineBuilder::build`] and [`Host::run`] do, and drops the machine. It leaves the process unchanged: it
    /// installs no signal handler.
    ///
    /// # Errors
    ///
    /// [`MachineError::System`]: what is missing.
    pub fn check(self) -> Result<(), MachineError> {
        check::runs(self)
    }

    /// The first backend of [`ALL`](Self::ALL) that passes [`check`](Self::check).
    #[must_use]
    pub fn best() -> Option<Self> {
        Self::ALL.iter().copied().find(|backend| backend.check().is_ok())
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    /// The backend with this [name](Self::name).
    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        let found = Self::ALL.iter().copied().find(|backend| backend.name() == name);
        found.ok_or_else(|| UnknownBackend(name.into()))
    }
}

/// A name that no [`Backend`] of this build has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBackend(String);

impl fmt::Display for UnknownBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Backend::ALL.iter().map(|backend| backend.name()).collect();
        write!(f, "unknown backend `{}`: use one of {}", Escaped(&self.0), names.join(", "))
    }
}

impl std::error::Error for UnknownBackend {}

/// How much of its log a guest sends to its host (ABI, "Boot block"): all records up to a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum LogLevel {
    /// Nothing.
    #[default]
    Off = 0,
    /// Errors.
    Error = 1,
    /// Warnings, too.
    Warn = 2,
    /// Information, too.
    Info = 3,
    /// Debugging records, too.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Builds machines that run an [`Image`]: any number of [`Host`]s, with the same resources and limits.
#[derive(Clone)]
pub struct MachineBuilder {
    image: Image,
    arenas: (u64, u64),
    stack: u64,
    vcpus: u32,
    memory: u64,
    log: u32,
    limits: Limits,
    #[cfg(feature = "kvm")]
    signal: kvm::StopSignal,
    observer: Option<Arc<Observer>>,
    deadlines: Arc<DeadlineThread>,
}

impl MachineBuilder {
    /// A builder for this program, with two arenas of 4 MiB, one vCPU, a stack of 256 KiB, up to 1 GiB of memory, and
    /// no log.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        Self {
            image: image.clone(),
            arenas: (4 << 20, 4 << 20),
            stack: 256 << 10,
            vcpus: 1,
            memory: 1 << 30,
            log: 0,
            limits: Limits::new(),
            #[cfg(feature = "kvm")]
            signal: kvm::StopSignal::DEFAULT,
            observer: None,
            deadlines: Arc::default(),
        }
    }

    /// Sets the sizes of the guest's and the host's arena, in bytes, rounded up to whole pages. Pages are allocated on
    /// first access.
    #[must_use]
    pub fn arenas(mut self, guest: u64, host: u64) -> Self {
        self.arenas = (guest, host);
        self
    }

    /// Sets the size of each vCPU's stack, in bytes, rounded up to whole pages. The page below each stack is unmapped,
    /// so an overflow is a fault.
    #[must_use]
    pub fn stack(mut self, bytes: u64) -> Self {
        self.stack = bytes;
        self
    }

    /// Sets the number of vCPUs: 1 to 64.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.vcpus = vcpus;
        self
    }

    /// Limits the memory of the machine, in bytes: image, stacks and region, and the snapshot for
    /// [`reset`](Host::reset) of the pages that the guest has written when it first waits for upcalls. If the snapshot
    /// does not fit, the guest runs, but cannot be reset.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets the most verbose level of the guest's log that is sent to the host; [`LogLevel::Off`] by default. With the
    /// feature `tracing`, records become its events, with the target `vmffi::guest`; without it, they are dropped.
    #[must_use]
    pub fn log(mut self, level: LogLevel) -> Self {
        self.log = level as u32;
        self
    }

    /// Limits the guest's use of host resources, and the time of a call. [`memory`](Self::memory) limits its memory,
    /// and [`arenas`](Self::arenas) what can be lent.
    ///
    /// All hosts that this builder and its clones build share one thread, which enforces their deadlines.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the signal that interrupts `KVM_RUN` when a vCPU is stopped. The default is SIGUSR2; a real-time signal,
    /// SIGRTMIN to SIGRTMAX, is possible.
    ///
    /// If the program has no handler for the signal (it is ignored, or has the default action), [`build`](Self::build)
    /// installs one that does nothing, and so does a stop that finds none. A stop also reaches a thread that blocks the
    /// signal. While such a thread runs the guest, the crate consumes pending signals of this number, so it must not be
    /// used for anything else on that thread.
    ///
    /// # Errors
    ///
    /// [`MachineError::Config`] if the signal does not exist, is reserved by the C library, cannot be handled (SIGKILL,
    /// SIGSTOP), or reports faults of the program, such as SIGSEGV.
    #[cfg(feature = "kvm")]
    pub fn signal(mut self, number: i32) -> Result<Self, MachineError> {
        self.signal = kvm::StopSignal::new(number)?;
        Ok(self)
    }

    /// Notifies `observer` of every call that the host refuses or fails, as
    /// [`HostBuilder::observe`](crate::host::HostBuilder::observe) does.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&CallError) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Builds a machine and loads the guest; [`Host::run`] starts it. `server` serves the guest's calls.
    ///
    /// # Errors
    ///
    /// [`MachineError::Region`] and [`MachineError::Config`] if a size or number is out of its range,
    /// [`MachineError::System`] if the system refuses a request.
    pub fn build(
        &self,
        backend: Backend,
        server: impl Serve,
    ) -> Result<Host<Box<dyn Vcpu>>, MachineError> {
        #[cfg(feature = "kvm")]
        if backend == Backend::Kvm {
            let handled = self.signal.handle().and_then(|_| self.signal.check());
            handled.map_err(MachineError::system(
                "installing the handler of the signal that stops vCPUs",
            ))?;
        }
        let loaded = Arc::new(self.load()?);
        let vcpus = self.start(&loaded, backend)?;
        self.connect(loaded, vcpus, server)
    }

    fn connect(
        &self,
        loaded: Arc<Loaded>,
        vcpus: Vec<Box<dyn Vcpu>>,
        server: impl Serve,
    ) -> Result<Host<Box<dyn Vcpu>>, MachineError> {
        let layout = loaded.layout;
        let base = loaded.ram.at(loaded.space.region);
        // SAFETY: `AddressSpace::new` has reserved `layout.len()` bytes at `base` in the machine's memory. They stay mapped as
        // long as `loaded`, which the host keeps, and `Ram` accesses them through raw pointers only. The guest cannot write the
        // header and the host's arena: their parts are not writable, and both backends map them as such.
        let memory = unsafe { RegionMemory::new(base, layout.len(), Box::new(loaded)) };
        let mut builder = HostBuilder::new(memory, layout).limits(self.limits.clone());
        if let Some(observer) = self.observer.clone() {
            builder = builder.observe(move |error| observer(error));
        }
        let host = builder.build(server, vcpus)?;
        if self.deadlines.is_here() {
            host.share_deadlines(&self.deadlines);
        }
        Ok(host)
    }

    /// Makes the vCPUs of a loaded guest, each at the guest's entry point.
    fn start(
        &self,
        loaded: &Arc<Loaded>,
        backend: Backend,
    ) -> Result<Vec<Box<dyn Vcpu>>, MachineError> {
        match backend {
            #[cfg(feature = "kvm")]
            Backend::Kvm => kvm::start(loaded, self.log, self.signal),
            #[cfg(feature = "process")]
            Backend::Process => process::start(loaded, self.log),
        }
    }

    /// Allocates the machine's memory, and loads the image into it.
    fn load(&self) -> Result<Loaded, MachineError> {
        let layout = RegionLayout::new(self.arenas.0, self.arenas.1)?;
        let space = AddressSpace::new(&self.image, &layout, self.vcpus, self.stack)?;
        let max_snapshot = self.memory.checked_sub(space.len).ok_or(MachineError::Config(
            "image, stacks and arenas exceed the machine's memory limit: raise `MachineBuilder::memory`",
        ))?;
        let ram = Ram::new(space.len)?;
        for (segment, part) in self.image.segments().iter().zip(&space.parts) {
            ram.write(part.offset + segment.skip as u64, self.image.bytes(segment));
        }
        let (image, snapshot) = (self.image.clone(), OnceLock::new());
        let loaded = Loaded { ram, layout, space, image, snapshot, max_snapshot };
        loaded.image.relocate(|address, value| {
            if let Some((offset, _)) = loaded.space.find(address) {
                loaded.ram.write(offset, &value.to_le_bytes());
            }
        });
        Ok(loaded)
    }
}

impl fmt::Debug for MachineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineBuilder")
            .field("image", &self.image)
            .field("arenas", &self.arenas)
            .field("stack", &self.stack)
            .field("vcpus", &self.vcpus)
            .field("memory", &self.memory)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A machine's memory with the guest loaded.
struct Loaded {
    ram: Ram,
    layout: RegionLayout,
    space: AddressSpace,
    image: Image,
    /// The writable parts at the guest's first `READY`.
    snapshot: OnceLock<Snapshot>,
    /// The greatest size of the snapshot, in bytes: the memory limit less the machine's memory.
    max_snapshot: u64,
}

impl Loaded {
    /// Copies the writable parts of the guest's memory. It succeeds once; the caller has stopped all vCPUs.
    fn take_snapshot(&self, cancelled: &AtomicBool) -> io::Result<()> {
        let writable = self.space.parts.iter().filter(|part| part.write);
        let ranges = writable.map(|part| part.offset..part.offset + part.len);
        let snapshot = self.ram.snapshot(ranges, self.max_snapshot, cancelled)?;
        self.snapshot.set(snapshot).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    /// Restores the snapshot.
    fn restore(&self) -> io::Result<()> {
        let snapshot = self.snapshot.get().ok_or(io::ErrorKind::NotFound)?;
        self.ram.restore(snapshot)
    }

    /// Writes the boot block of each vCPU (ABI, "Boot block").
    fn write_boot(&self, trap_method: TrapMethod, log: u32) {
        let AddressSpace { stacks, .. } = &self.space;
        for (cpu, at) in (0..).zip(stacks) {
            let boot = Boot {
                region: REGION_AT,
                region_len: self.layout.len(),
                way: trap_method,
                cpu,
                cpus: stacks.len() as u32,
                log,
            };
            let bytes: Vec<u8> =
                boot.to_words().iter().flat_map(|word| word.to_le_bytes()).collect();
            if let Some((offset, _)) = self.space.find(*at) {
                self.ram.write(offset, &bytes);
            }
        }
    }

    /// Describes a fault: a page fault in the unmapped page below a stack is a stack overflow.
    fn fault(&self, mut cause: FaultCause, address: Option<u64>, instruction: u64) -> Fault {
        let guard = address.is_some_and(|address| self.space.is_guard_page(address));
        if cause == FaultCause::Exception(14) && guard {
            cause = FaultCause::StackOverflow;
        }
        Fault { cause, address, instruction, symbol: self.image.symbol(instruction) }
    }
}

/// Why a forked child cannot use the machines of its parent.
const FORKED: &str =
    "this machine belongs to the parent of this forked process: build another one in the child";

/// The message of [`GuestExit::Lost`](crate::host::GuestExit::Lost) for an error of the system.
fn lost(what: &str, error: impl fmt::Display) -> String {
    std::format!("{what}: {error}")
}

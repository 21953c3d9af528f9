//! Machines that run a guest's program: its ELF file in a virtual machine or in a process of its own.
//!
//! An [`Image`] is the program, a [`Machine`] says what it is given, a [`Backend`] what runs it. What comes
//! out is a [`Host`], as for any other guest.
//!
//! ```no_run
//! use vmffi::{host::Ran, machine::{Backend, Image, Machine}};
//!
//! let image = Image::open("target/guest/release/guest")?;
//! let backend = Backend::best().ok_or("neither KVM nor processes can be used here")?;
//! let host = Machine::new(&image).arenas(1 << 20, 1 << 20).build(backend, ())?;
//! assert_eq!(host.run()?, Ran::Ready);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    boxed::Box,
    fmt, io,
    string::String,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    vec::Vec,
};

use crate::{
    abi::{Boot, Side, Way},
    dispatch::Serve,
    error::{CallError, RegionError},
    host::{Cause, Fault, Host, Limits, Options, Vcpu, Watch},
    memory::{Layout, PAGE},
    peer::Observer,
};

mod check;
mod image;
#[cfg(feature = "kvm")]
mod kvm;
mod mapping;
#[cfg(feature = "process")]
mod process;
mod ram;
mod signals;

pub use image::{Image, ImageError};
use ram::{Kept, Ram};

/// Where the region lies in a guest's address space; it has up to 512 GiB there.
const REGION_AT: u64 = 0x10_0000_0000;
/// Where the stacks lie, the first vCPU's first, each with a page below it that is not there.
const STACKS_AT: u64 = 0x100_0000_0000;
/// The most that all of them may take; what a backend puts into an address space lies behind.
const STACKS_MOST: u64 = 0x80_0000_0000;
/// An address where nothing is, for guests that trap by a store.
const DOORBELL_AT: u64 = 0x200_0000_0000;
/// The most vCPUs.
const MOST_VCPUS: u32 = 64;

/// What runs a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// A virtual machine, by `/dev/kvm`. The guest runs at the least privilege, with nothing mapped but its
    /// image, its stacks and the region.
    #[cfg(feature = "kvm")]
    Kvm,
    /// A process, which computes and traps and can do nothing else: every system call of its is denied. It
    /// has one vCPU, which belongs to the thread that has made it and ends with that: on others, calls to the
    /// guest are [`Why::Busy`](crate::Why::Busy).
    #[cfg(feature = "process")]
    Process,
}

impl Backend {
    /// Those that this crate was built with, the best first.
    pub const ALL: &'static [Self] = &[
        #[cfg(feature = "kvm")]
        Self::Kvm,
        #[cfg(feature = "process")]
        Self::Process,
    ];

    /// Its name: `kvm` or `process`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "kvm")]
            Self::Kvm => "kvm",
            #[cfg(feature = "process")]
            Self::Process => "process",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|backend| backend.name() == name)
    }

    /// Whether it can be used here, now: it makes a small machine and runs a guest of one instruction, as
    /// [`Machine::build`] and [`Host::run`] do, and drops it. It changes nothing of the process.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn check(self) -> Result<(), MachineError> {
        check::runs(self)
    }

    /// The best that can be used here.
    #[must_use]
    pub fn best() -> Option<Self> {
        Self::ALL.iter().copied().find(|backend| backend.check().is_ok())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A machine that could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum MachineError {
    /// The memory that the two share has sizes that no region has.
    Region(RegionError),
    /// A number is out of its range.
    Config(&'static str),
    /// The backend cannot be used, or the system refuses something: what, and why.
    System {
        /// What was wanted.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
}

impl MachineError {
    fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System { what, error: error.into() }
    }
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(error) => error.fmt(f),
            Self::Config(what) => f.write_str(what),
            Self::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for MachineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Region(error) => Some(error),
            Self::Config(_) => None,
            Self::System { error, .. } => Some(error),
        }
    }
}

impl From<RegionError> for MachineError {
    fn from(error: RegionError) -> Self {
        Self::Region(error)
    }
}

/// What a guest is given, and how it is run: made from an image, and turned into any number of
/// [`Host`]s.
#[derive(Clone)]
pub struct Machine {
    image: Image,
    arenas: (u64, u64),
    stack: u64,
    vcpus: u32,
    memory: u64,
    log: u32,
    limits: Limits,
    #[cfg(feature = "process")]
    pin: bool,
    #[cfg(feature = "kvm")]
    signal: kvm::StopSignal,
    observer: Option<Arc<Observer>>,
    watch: Arc<Watch>,
}

impl Machine {
    /// A machine for this program: two arenas of 4 MiB, one vCPU, a stack of 256 KiB, up to 1 GiB of memory,
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
            limits: Limits::default(),
            #[cfg(feature = "process")]
            pin: false,
            #[cfg(feature = "kvm")]
            signal: kvm::StopSignal::DEFAULT,
            observer: None,
            watch: Arc::default(),
        }
    }

    /// The sizes of the guest's arena and of the host's, in bytes, rounded up to whole pages. Memory is taken
    /// as it is touched.
    #[must_use]
    pub fn arenas(mut self, guest: u64, host: u64) -> Self {
        self.arenas = (guest, host);
        self
    }

    /// The size of each vCPU's stack, in bytes, rounded up to whole pages. The page below is not there, so
    /// that an overflow is a fault.
    #[must_use]
    pub fn stack(mut self, bytes: u64) -> Self {
        self.stack = bytes;
        self
    }

    /// How many vCPUs the guest has: 1 to 64, and with [`Backend::Process`] one.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.vcpus = vcpus;
        self
    }

    /// The most memory that the machine may have, in bytes: image, stacks and region together, and the copy for
    /// [`reset`](Host::reset) of what the guest has written when it has started up. A guest that has written more than there
    /// is room for runs, but cannot be reset.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// How much of its log the guest sends: 0 nothing, 1 errors, 2 warnings, 3 information, 4 debugging, from 5 on
    /// everything. With the feature `tracing` it becomes events there, of the target `vmffi::guest`; without, it is
    /// dropped.
    #[must_use]
    pub fn log(mut self, level: u32) -> Self {
        self.log = level;
        self
    }

    /// What the guest may have of its host, and how long it may take. Its memory is limited by
    /// [`memory`](Self::memory), what can be lent by [`arenas`](Self::arenas).
    ///
    /// All hosts that are made from this machine, and its clones, share the one thread that watches their deadlines.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Has a process guest run on the processor that its host runs on, and both stay there, which makes traps
    /// cheaper: the two take turns anyway. It holds for the thread that makes the machine, for as long as that
    /// lives. A virtual machine takes no notice.
    #[cfg(feature = "process")]
    #[must_use]
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// The signal that interrupts a vCPU of a virtual machine, when it is stopped: SIGUSR2, if nothing is said. It may be
    /// a real-time signal, SIGRTMIN to SIGRTMAX.
    ///
    /// Where the program has no handler for it, though it ignores it, one is installed that does nothing, when the machine
    /// is made, and again when a stop finds none. A stop also reaches a thread that blocks the signal. One that is
    /// pending for such a thread while it runs the guest is taken, so the signal is good for nothing else there.
    ///
    /// # Errors
    ///
    /// [`MachineError::Config`] where there is no such signal, the C library keeps it, it cannot be handled, or the
    /// kernel sends it for faults of the program itself.
    #[cfg(feature = "kvm")]
    pub fn signal(mut self, number: i32) -> Result<Self, MachineError> {
        self.signal = kvm::StopSignal::new(number)?;
        Ok(self)
    }

    /// Has every call that the host refuses or fails reported, as [`Host::new`] does.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&CallError) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Makes the machine, with the guest loaded and nothing run yet. `server` serves the guest's calls.
    ///
    /// # Errors
    ///
    /// What is wrong with the sizes, and what the system refuses.
    pub fn build(
        &self,
        backend: Backend,
        server: impl Serve,
    ) -> Result<Host<Box<dyn Vcpu>>, MachineError> {
        #[cfg(feature = "kvm")]
        if backend == Backend::Kvm {
            let handled = self.signal.handle().and_then(|_| self.signal.check());
            handled.map_err(MachineError::system("the signal that stops vCPUs"))?;
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
        let observer = self
            .observer
            .clone()
            .map(|observer| Box::new(move |error: &CallError| observer(error)) as Box<Observer>);
        let layout = loaded.layout;
        let base = loaded.ram.at(loaded.region);
        let options = Options { limits: self.limits.clone(), observer };
        let (len, keep) = (layout.len(), Box::new(loaded));
        // SAFETY: the region lies in the machine's memory, which `loaded` keeps, and which is only ever
        // reached through raw pointers. Both backends map the host's arena read only for the guest.
        let host = unsafe { Host::new(layout, base, len, keep, server, vcpus, options) }?;
        if self.watch.is_here() {
            host.watched_by(&self.watch);
        }
        Ok(host)
    }

    /// Makes the vCPUs of a guest that is loaded, about to begin.
    fn start(
        &self,
        loaded: &Arc<Loaded>,
        backend: Backend,
    ) -> Result<Vec<Box<dyn Vcpu>>, MachineError> {
        match backend {
            #[cfg(feature = "kvm")]
            Backend::Kvm => kvm::start(loaded, self.log, self.signal),
            #[cfg(feature = "process")]
            Backend::Process => {
                Ok(std::vec![Box::new(process::start(loaded, self.log, self.pin)?)])
            }
        }
    }

    /// Lays the machine's memory out, and puts the image there.
    fn load(&self) -> Result<Loaded, MachineError> {
        let layout = Layout::new(self.arenas.0, self.arenas.1)?;
        if !(1..=MOST_VCPUS).contains(&self.vcpus) {
            return Err(MachineError::Config("a guest has 1 to 64 vCPUs"));
        }
        let vcpus = u64::from(self.vcpus);
        let fits = |stack: &u64| *stack <= STACKS_MOST / vcpus - PAGE;
        let stack = self.stack.max(1).checked_next_multiple_of(PAGE).filter(fits);
        let stack = stack.ok_or(MachineError::Config("the stacks are too large"))?;
        let mut parts = Vec::new();
        let mut offset = 0;
        let mut add = |address, len, write, execute| {
            let at = offset;
            parts.push(Part { address, offset, len, write, execute });
            offset += len;
            at
        };
        for segment in self.image.segments() {
            add(segment.address, segment.len, segment.write, segment.execute);
        }
        let mut stacks = Vec::new();
        for cpu in 0..vcpus {
            let bottom = STACKS_AT + cpu * (stack + PAGE) + PAGE;
            add(bottom, stack, true, false);
            stacks.push(bottom + stack - Boot::LEN as u64);
        }
        // The region. Its header and the host's arena are for the guest to read only.
        let (host, host_len) = layout.arena(Side::Host);
        let region = add(REGION_AT, PAGE, false, false);
        add(REGION_AT + PAGE, host - PAGE, true, false);
        add(REGION_AT + host, host_len, false, false);
        if offset > self.memory {
            return Err(MachineError::Config("the machine needs more memory than it may have"));
        }
        let ram = Ram::new(offset)?;
        for (segment, part) in self.image.segments().iter().zip(&parts) {
            ram.write(part.offset + segment.skip as u64, self.image.bytes(segment));
        }
        let image = self.image.clone();
        let kept = OnceLock::new();
        let spare = self.memory - offset;
        let loaded = Loaded { ram, layout, region, parts, stacks, stack, image, kept, spare };
        loaded.image.relocate(|address, value| {
            if let Some((offset, _)) = loaded.find(address) {
                loaded.ram.write(offset, &value.to_le_bytes());
            }
        });
        Ok(loaded)
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("image", &self.image)
            .field("arenas", &self.arenas)
            .field("stack", &self.stack)
            .field("vcpus", &self.vcpus)
            .field("memory", &self.memory)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A piece of a guest's address space, of whole pages, and where it lies in the machine's memory. It can be
/// read; nothing else is there.
#[derive(Clone, Copy, Debug)]
struct Part {
    address: u64,
    offset: u64,
    len: u64,
    write: bool,
    execute: bool,
}

/// A machine's memory with the guest in it.
struct Loaded {
    ram: Ram,
    layout: Layout,
    /// The offset of the region in the memory.
    region: u64,
    parts: Vec<Part>,
    /// The address of each vCPU's boot block, and of its stack's end with that.
    stacks: Vec<u64>,
    stack: u64,
    image: Image,
    /// What the guest can write, as it was when it had started up.
    kept: OnceLock<Kept>,
    /// How many bytes that may be: what the machine may have beside its own memory.
    spare: u64,
}

impl Loaded {
    /// Keeps what the guest can write of its memory.
    fn keep(&self, cancelled: &AtomicBool) -> io::Result<()> {
        let writable = self.parts.iter().filter(|part| part.write);
        let kept = self.ram.keep(
            writable.map(|part| part.offset..part.offset + part.len),
            self.spare,
            cancelled,
        )?;
        self.kept.set(kept).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    /// Brings it back.
    fn restore(&self) -> io::Result<()> {
        self.kept.get().map_or(Err(io::ErrorKind::NotFound.into()), |kept| self.ram.restore(kept))
    }

    /// Where an address of the guest's lies in the memory, and what may be done there.
    fn find(&self, address: u64) -> Option<(u64, Part)> {
        let part = self.parts.iter().find(|part| {
            address.checked_sub(part.address).is_some_and(|within| within < part.len)
        })?;
        Some((part.offset + (address - part.address), *part))
    }

    /// Writes each vCPU's boot block.
    fn write_boot(&self, way: Way, log: u32) {
        for (cpu, at) in (0..).zip(&self.stacks) {
            let boot = Boot {
                region: REGION_AT,
                region_len: self.layout.len(),
                way,
                cpu,
                cpus: self.stacks.len() as u32,
                log,
            };
            let bytes: Vec<u8> =
                boot.to_words().iter().flat_map(|word| word.to_le_bytes()).collect();
            if let Some((offset, _)) = self.find(*at) {
                self.ram.write(offset, &bytes);
            }
        }
    }

    /// Describes what the guest did.
    fn fault(&self, mut cause: Cause, address: Option<u64>, instruction: u64) -> Fault {
        let guard = |address: u64| {
            let within = address.checked_sub(STACKS_AT);
            within.is_some_and(|within| {
                within / (self.stack + PAGE) < self.stacks.len() as u64
                    && within % (self.stack + PAGE) < PAGE
            })
        };
        if cause == Cause::Exception(14) && address.is_some_and(guard) {
            cause = Cause::StackOverflow;
        }
        Fault { cause, address, instruction, symbol: self.image.symbol(instruction) }
    }
}

/// Why a process that was forked does nothing with a machine of its parent's.
const FORKED: &str = "this process was forked, and the machine is its parent's: make another one";

/// A message of the system's, for [`End::Lost`](crate::host::End::Lost).
fn lost(what: &str, error: impl fmt::Display) -> String {
    std::format!("{what}: {error}")
}

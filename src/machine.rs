//! Machines: a guest's ELF file in a virtual machine, or in a process of its own.
//!
//! An [`Image`] is the program, a [`MachineBuilder`] its resources, a [`Backend`] what runs it.
//! [`MachineBuilder::build`] returns a [`Machine`], which is a [`Host`] like that of any other guest.
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

use std::{fmt, str::FromStr, string::String, sync::Arc, vec::Vec};

#[cfg(any(feature = "kvm", feature = "process"))]
use once_cell::race::OnceBox;

use crate::{
    call::Serve,
    contract::Escaped,
    error::CallError,
    host::{DeadlineThread, Host, Limits},
};

#[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64")))]
compile_error!(
    "machines exist for x86_64, aarch64 and riscv64: remove the features `kvm` and `process` for this target"
);

mod address_space;
mod check;
mod checkpoint;
#[cfg(any(feature = "kvm", feature = "process"))]
mod cpu_time;
mod descriptors;
mod error;
mod image;
#[cfg(feature = "kvm")]
mod kvm;
mod life;
mod made;
mod mapping;
mod memfd;
#[cfg_attr(target_arch = "aarch64", path = "machine/native/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "machine/native/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "machine/native/x86_64.rs")]
mod native;
mod plan;
mod pool;
#[cfg(feature = "kvm")]
mod private;
#[cfg(feature = "process")]
mod process;
mod saved;
mod signals;
mod snapshot;
mod vcpu;
mod written;

pub use error::MachineError;
pub use image::{Image, ImageError};
use made::{HostOptions, Made};
use plan::Plan;
pub use pool::{Exits, Lease, Metrics, Pool, PoolBuilder, PoolCall, PoolError};
pub use snapshot::Snapshot;
use vcpu::BackendVcpu;
pub use vcpu::MachineVcpu;

/// What runs a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// A virtual machine, by `/dev/kvm`. The guest runs at the least privilege; only its image, its stacks and the region are
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

/// A guest in a machine of its own, with its host's end of the connection.
pub type Machine = Host<MachineVcpu>;

/// Builds machines that run an [`Image`]: any number of [`Machine`]s, with the same resources and limits.
#[derive(Clone)]
pub struct MachineBuilder {
    image: Image,
    arenas: (u64, u64),
    stack: u64,
    vcpus: u32,
    memory: u64,
    log: u32,
    #[cfg(feature = "kvm")]
    signal: kvm::StopSignal,
    options: HostOptions,
    /// The plan of all machines of this builder and its clones, once one has been built. As with everything here that is made
    /// once, each thread makes one if there is none, and the first is kept: a forked child never waits for a thread of its
    /// parent.
    plan: Arc<OnceBox<Arc<Plan>>>,
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
            #[cfg(feature = "kvm")]
            signal: kvm::StopSignal::DEFAULT,
            options: HostOptions::default(),
            plan: Arc::default(),
        }
    }

    /// Sets the sizes of the guest's and the host's arena, in bytes, rounded up to whole pages. Pages are allocated on
    /// first access.
    #[must_use]
    pub fn arenas(mut self, guest: u64, host: u64) -> Self {
        self.arenas = (guest, host);
        self.plan = Arc::default();
        self
    }

    /// Sets the size of each vCPU's stack, in bytes, rounded up to whole pages. The 1 MiB below each stack is
    /// unmapped, so an overflow is a fault.
    #[must_use]
    pub fn stack(mut self, bytes: u64) -> Self {
        self.stack = bytes;
        self.plan = Arc::default();
        self
    }

    /// Sets the number of vCPUs: 1 to 64.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.vcpus = vcpus;
        self.plan = Arc::default();
        self
    }

    /// Limits the memory of the machine, in bytes: image, stacks and region, and the [`checkpoint`](Host::checkpoint), which
    /// holds the pages that the guest has written until then. If the first checkpoint does not fit, the guest runs, but cannot
    /// be reset.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self.plan = Arc::default();
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
        self.options.limits = limits;
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
        self.options.observer = Some(Arc::new(observer));
        self
    }

    /// Builds a machine and loads the guest; [`Host::run`] starts it. `server` serves the guest's calls.
    ///
    /// # Errors
    ///
    /// [`MachineError::Region`] and [`MachineError::Config`] if a size or number is out of its range,
    /// [`MachineError::System`] if the system refuses a request.
    pub fn build(&self, backend: Backend, server: impl Serve) -> Result<Machine, MachineError> {
        #[cfg(feature = "kvm")]
        if backend == Backend::Kvm {
            self.signal.install()?;
        }
        let plan = self.plan()?;
        let made = self.start(&plan, backend)?;
        made.connect(&Arc::new(self.options.clone()), &plan, server, None)
    }

    /// Makes a machine whose vCPUs are at the guest's entry point.
    fn start(&self, plan: &Arc<Plan>, backend: Backend) -> Result<Made<BackendVcpu>, MachineError> {
        match backend {
            #[cfg(feature = "kvm")]
            Backend::Kvm => Ok(kvm::start(plan, self.log, self.signal)?.map(BackendVcpu::kvm)),
            #[cfg(feature = "process")]
            Backend::Process => Ok(process::start(plan, self.log)?.map(BackendVcpu::process)),
        }
    }

    /// The thread that enforces the deadlines of its machines.
    fn deadlines(&self) -> &Arc<DeadlineThread> {
        &self.options.deadlines
    }

    fn plan(&self) -> Result<Arc<Plan>, MachineError> {
        let plan = || Plan::new(&self.image, self.arenas, self.vcpus, self.stack, self.memory);
        self.plan.get_or_try_init(|| plan().map(Arc::new).map(Box::new)).cloned()
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
            .field("limits", &self.options.limits)
            .finish_non_exhaustive()
    }
}

/// Why a forked child cannot use the machines of its parent.
const FORKED: &str =
    "this machine belongs to the parent of this forked process: build another one in the child";

/// The message of [`GuestExit::Lost`](crate::host::GuestExit::Lost) for an error of the system.
fn lost(what: &str, error: impl fmt::Display) -> crate::error::ErrorText {
    format_args!("{what}: {error}").into()
}

#[cfg(all(test, feature = "kvm", feature = "process"))]
mod tests;

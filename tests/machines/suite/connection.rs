//! The connections, and their interface for a case.

use std::{fmt, path::PathBuf, sync::OnceLock};

use vmffi::{
    Peer,
    host::{GuestExit, RunOutcome},
    loopback::Loopback,
    machine::{Backend, Image, MachineBuilder},
};

use super::{
    guests,
    host::Host,
    shared::control::{ControlClient, Guest, Used},
};

/// What connects guest and host.
#[derive(Clone, Copy, PartialEq)]
pub enum On {
    Loopback,
    Machine(Backend),
    /// A clone of another machine, which was dropped.
    Clone(Backend),
}

impl On {
    pub fn all() -> [Self; 5] {
        let backend = |name: &str| name.parse::<Backend>().expect("both are built for tests");
        let (process, kvm) = (backend("process"), backend("kvm"));
        let (first, clones) = ([process, kvm].map(Self::Machine), [process, kvm].map(Self::Clone));
        [Self::Loopback, first[0], first[1], clones[0], clones[1]]
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Machine(backend) => backend.name(),
            Self::Clone(backend) if backend.name() == "kvm" => "kvm clone",
            Self::Clone(_) => "process clone",
        }
    }

    /// A requirement that is missing here.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Loopback => None,
            Self::Machine(backend) | Self::Clone(backend) => {
                backend.check().err().map(|error| error.to_string())
            }
        }
    }

    pub fn is_any(self) -> bool {
        true
    }

    pub fn is_machine(self) -> bool {
        self != Self::Loopback
    }

    pub fn is_clone(self) -> bool {
        matches!(self, Self::Clone(_))
    }

    pub fn is_no_clone(self) -> bool {
        !self.is_clone()
    }

    /// Whether the connection is a machine whose guest starts during the case.
    pub fn is_new_machine(self) -> bool {
        matches!(self, Self::Machine(_))
    }

    pub fn is_process(self) -> bool {
        self.is_machine() && self.backend().name() == "process"
    }

    pub fn is_kvm(self) -> bool {
        self.is_machine() && self.backend().name() == "kvm"
    }

    pub fn backend(self) -> Backend {
        match self {
            Self::Loopback => panic!("the loopback is not a machine"),
            Self::Machine(backend) | Self::Clone(backend) => backend,
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The guest's program, parsed once.
pub fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| Image::open(program("fixed")).expect("a valid program"))
}

/// The file of one of the guest's programs.
pub fn program(name: &str) -> PathBuf {
    guests::build("tests/machines/guest", name).expect("the guest's program")
}

/// A machine with arenas of the size that the checks expect.
pub fn machine() -> MachineBuilder {
    MachineBuilder::new(image()).arenas(1 << 20, 1 << 20)
}

/// A guest in a machine that has not run yet.
pub type Built = vmffi::machine::Machine;

/// Builds a machine whose guest waits for calls. A clone is made after the first machine has served a call and was dropped.
pub fn started(machine: &MachineBuilder, on: On, host: Host) -> Built {
    let first = |host| {
        let first = machine.build(on.backend(), host).unwrap();
        assert_eq!(first.run(), Ok(RunOutcome::Ready), "{:?}", first.guest_exit());
        first
    };
    if !on.is_clone() {
        return first(host);
    }
    let template = first(Host::with_gift(host.gives()));
    let _: Used = ControlClient::from(template.guest()).used().unwrap();
    let snapshot = template.snapshot().unwrap();
    drop(template);
    snapshot.build(host).unwrap()
}

/// A running guest, and its host.
pub enum Connection {
    Loopback(Loopback),
    Machine(Built),
}

impl Connection {
    pub fn new(on: On, host: Host) -> Self {
        match on {
            On::Loopback => {
                let guest = Guest::new(|_, _| panic!("a guest of the loopback cannot end"));
                let pair = Loopback::builder().arenas(1 << 20, 1 << 20).build(guest, host);
                Self::Loopback(pair.unwrap())
            }
            On::Machine(_) | On::Clone(_) => Self::Machine(started(&machine(), on, host)),
        }
    }

    pub fn guest(&self) -> &Peer {
        match self {
            Self::Loopback(pair) => pair.guest(),
            Self::Machine(host) => host.guest(),
        }
    }

    pub fn control(&self) -> ControlClient<'_> {
        ControlClient::from(self.guest())
    }

    pub fn end(&self) -> Option<GuestExit> {
        match self {
            Self::Loopback(_) => None,
            Self::Machine(host) => host.guest_exit(),
        }
    }

    /// The blocks in use in the host's arena, and in the guest's, as the guest reports them.
    pub fn blocks(&self) -> (usize, u64) {
        let Used { capacity, used, blocks } = self.control().used().unwrap();
        assert!(used <= capacity && capacity == 1 << 20 && used >= 64 * blocks);
        (self.guest().arena_stats().blocks, blocks)
    }
}

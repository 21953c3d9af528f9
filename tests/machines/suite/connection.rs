//! The three connections, and what they look like to a case.

use std::{fmt, path::PathBuf, sync::OnceLock};

use vmffi::{
    Peer,
    host::{self, GuestExit, Vcpu},
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
}

impl On {
    pub fn all() -> [Self; 3] {
        let backend =
            |name: &str| Self::Machine(name.parse::<Backend>().expect("both are built for tests"));
        [Self::Loopback, backend("process"), backend("kvm")]
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Machine(backend) => backend.name(),
        }
    }

    /// What it needs that is not here.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Loopback => None,
            Self::Machine(backend) => backend.check().err().map(|error| error.to_string()),
        }
    }

    pub fn is_any(self) -> bool {
        true
    }

    pub fn is_machine(self) -> bool {
        self != Self::Loopback
    }

    pub fn is_process(self) -> bool {
        self.name() == "process"
    }

    pub fn is_kvm(self) -> bool {
        self.name() == "kvm"
    }

    pub fn backend(self) -> Backend {
        match self {
            Self::Loopback => panic!("the loopback is no machine"),
            Self::Machine(backend) => backend,
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The guest's program, built once.
pub fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| Image::open(program("fixed")).expect("the guest's program is one"))
}

/// The file of one of the guest's programs.
pub fn program(name: &str) -> PathBuf {
    guests::build("tests/machines/guest", name).expect("the guest is built")
}

/// A machine with arenas as large as the checks take them to be.
pub fn machine() -> MachineBuilder {
    MachineBuilder::new(image()).arenas(1 << 20, 1 << 20)
}

/// A guest in a machine, with nothing run yet.
pub type Built = host::Host<Box<dyn Vcpu>>;

/// A guest that runs, and its host.
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
            On::Machine(backend) => {
                let host = machine().build(backend, host).unwrap();
                assert_eq!(host.run(), Ok(host::RunOutcome::Ready), "{:?}", host.guest_exit());
                Self::Machine(host)
            }
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

    /// What is in use in the host's arena, and in the guest's, as that says itself.
    pub fn blocks(&self) -> (usize, u64) {
        let Used { capacity, used, blocks } = self.control().used().unwrap();
        assert!(used <= capacity && capacity == 1 << 20 && used >= 64 * blocks);
        (self.guest().arena_stats().blocks, blocks)
    }
}

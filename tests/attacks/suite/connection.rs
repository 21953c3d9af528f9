//! A hostile guest, and what its host owns.

use std::{
    fmt, fs,
    sync::{Arc, Mutex, OnceLock},
};

use vmffi::{
    CallError, ErrorKind, ForeignBuf, ForeignSlice, ForeignStr, RegionLayout, SharedBuf,
    abi::{Answer, Side, Transport, answer, pointer},
    host::{Fault, GuestExit, Limits, ResetError, RunOutcome},
    machine::{Backend, Image, MachineBuilder, Snapshot},
};

use super::{
    exits::is_harmless,
    guests,
    interface::{
        Colour, Fault as Failure, Kept, ParamsEverythingAloneU16, ParamsEverythingBytes, Point,
        Server,
    },
    list::{List, region},
    ops::{At, Base, Op},
};

/// The address of the region in a guest, that of its doorbell, and one that no guest is ever given.
pub const REGION: u64 = 0x10_0000_0000;
pub const DOORBELL: u64 = 0x200_0000_0000;
pub const NOWHERE: u64 = 0x7000_0123;
/// The address of the host's own pages in a virtual machine.
pub const SUPERVISOR: u64 = 0xffff_ff80_0000_0000;

vmffi::ffi_interface! {
    /// The interface that passes a list to the guest. The guest does not check which function was called, so its result may
    /// have any type.
    pub interface Told {
        fn does(list: ForeignBuf) -> u64;
        fn bytes(list: ForeignBuf) -> ForeignBuf;
        fn text(list: ForeignBuf) -> ForeignStr;
        fn numbers(list: ForeignBuf) -> ForeignSlice<u64>;
        fn nothing(list: ForeignBuf);
        fn flag(list: ForeignBuf) -> bool;
        fn narrow(list: ForeignBuf) -> i8;
        fn glyph(list: ForeignBuf) -> char;
        fn colour(list: ForeignBuf) -> Colour;
        fn point(list: ForeignBuf) -> Point;
        fn maybe(list: ForeignBuf) -> Option<ForeignBuf>;
        fn fails(list: ForeignBuf) -> Result<u64, Failure>;
    }
}

/// A kind of machine.
#[derive(Clone, Copy, PartialEq)]
pub struct On {
    pub backend: Backend,
    /// Whether the machine is a clone of another one, which was dropped, if the guest does nothing before it is ready.
    pub is_clone: bool,
}

impl On {
    pub fn all() -> impl Iterator<Item = Self> {
        let backends = ["kvm", "process"].map(|name: &str| name.parse().expect("both are built"));
        let on = move |is_clone| backends.map(|backend| Self { backend, is_clone });
        [on(false), on(true)].into_iter().flatten()
    }

    pub fn any(self) -> bool {
        true
    }

    pub fn is_new(self) -> bool {
        !self.is_clone
    }

    pub fn is_kvm(self) -> bool {
        self.backend.name() == "kvm"
    }

    pub fn is_process(self) -> bool {
        self.backend.name() == "process"
    }

    pub fn name(self) -> &'static str {
        match (self.is_kvm(), self.is_clone) {
            (true, false) => "kvm",
            (true, true) => "kvm clone",
            (false, false) => "process",
            (false, true) => "process clone",
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The guest's file, built once.
pub fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = guests::build("tests/attacks/guest", "attacker").expect("the guest's program");
        fs::read(path).expect("the program's file")
    })
}

/// The guest's program, parsed once.
pub fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| Image::parse(file()).expect("a valid program"))
}

/// The same program with a list to execute before it is ready.
pub fn scripted(script: &List) -> Image {
    let mut file = file().to_vec();
    let mark = b"attacks: script:";
    let at = file.windows(16).position(|bytes| bytes == mark).expect("the script's mark") + 16;
    let list = script.bytes();
    assert!(list.len() <= 300 << 10, "the script is too long");
    file[at..at + 8].copy_from_slice(&(list.len() as u64).to_le_bytes());
    file[at + 8..at + 8 + list.len()].copy_from_slice(list);
    Image::parse(&file).expect("a valid program")
}

pub type Built = vmffi::machine::Machine;

/// The configuration of a guest.
#[derive(Clone)]
pub struct Setup {
    pub arenas: (u64, u64),
    pub vcpus: u32,
    /// The size of each stack.
    pub stack: u64,
    pub limits: Limits,
    /// The list that it executes before it is ready; then the attack, not the setup, runs the guest.
    pub script: Option<List>,
}

impl Setup {
    pub const PLAIN: Self = Self {
        arenas: (256 << 10, 256 << 10),
        vcpus: 1,
        stack: 256 << 10,
        limits: Limits::new(),
        script: None,
    };

    pub fn layout(&self) -> RegionLayout {
        RegionLayout::new(self.arenas.0, self.arenas.1).unwrap()
    }
}

/// An offset in the arena of a guest with the plain setup, for scripts.
pub fn own(offset: u64) -> u64 {
    Setup::PLAIN.layout().arena(Side::Guest).0 + offset
}

/// A hostile guest, its host, and what the host owns.
pub struct Target {
    pub on: On,
    pub host: Built,
    pub layout: RegionLayout,
    pub vcpus: u32,
    kept: Kept,
    refused: Arc<Mutex<Vec<CallError>>>,
    /// Blocks in the host's arena that were never lent to the guest.
    treasure: Vec<SharedBuf>,
}

const TREASURES: u8 = 5;

impl Target {
    pub fn new(on: On, setup: &Setup) -> Self {
        let scripted = setup.script.as_ref().map(scripted);
        let refused: Arc<Mutex<Vec<CallError>>> = Arc::default();
        let seen = refused.clone();
        let machine = MachineBuilder::new(scripted.as_ref().unwrap_or(image()))
            .arenas(setup.arenas.0, setup.arenas.1)
            .vcpus(setup.vcpus)
            .stack(setup.stack)
            .limits(setup.limits.clone())
            .observe(move |error| seen.lock().unwrap().push(error.clone()));
        let server = Server::default();
        let kept = server.kept.clone();
        let run = |server| {
            let host = machine.build(on.backend, server).unwrap();
            assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
            host
        };
        let host = match (scripted, on.is_clone) {
            (Some(_), _) => machine.build(on.backend, server).unwrap(),
            (None, false) => run(server),
            (None, true) => {
                let template = run(Server::default());
                let plain = List::new().returns(0, Transport::word(77));
                assert_eq!(ToldClient::from(template.guest()).does(plain.bytes()), Ok(77));
                let snapshot = template.snapshot().unwrap();
                drop(template);
                snapshot.build(server).unwrap()
            }
        };
        let layout = setup.layout();
        Self::of(on, host, (layout, setup.vcpus), kept, refused)
    }

    fn of(
        on: On,
        host: Built,
        (layout, vcpus): (RegionLayout, u32),
        kept: Kept,
        refused: Arc<Mutex<Vec<CallError>>>,
    ) -> Self {
        let own = |nr| SharedBuf::copy_from(host.guest(), &[nr; 100]).unwrap();
        let treasure = (1..=TREASURES).map(own).collect();
        Self { on, host, layout, vcpus, kept, refused, treasure }
    }

    /// A clone of this guest, with a host of its own.
    pub fn clone_of(&self, snapshot: &Snapshot) -> Self {
        let refused: Arc<Mutex<Vec<CallError>>> = Arc::default();
        let (seen, server) = (refused.clone(), Server::default());
        let kept = server.kept.clone();
        let snapshot =
            snapshot.clone().observe(move |error| seen.lock().unwrap().push(error.clone()));
        Self::of(self.on, snapshot.build(server).unwrap(), (self.layout, self.vcpus), kept, refused)
    }

    pub fn told(&self) -> ToldClient<'_> {
        ToldClient::from(self.host.guest())
    }

    /// An offset in the guest's arena.
    pub fn own(&self, offset: u64) -> u64 {
        let (arena, len) = self.layout.arena(Side::Guest);
        assert!(offset < len);
        arena + offset
    }

    /// A pointer word for an offset in the guest's arena, as a first loan.
    pub fn lent(&self, offset: u64) -> u64 {
        pointer::join(self.own(offset), 1)
    }

    /// Executes a list that must not end the guest, and returns its result.
    #[track_caller]
    pub fn does(&self, list: &List) -> u64 {
        self.told().does(list.bytes()).unwrap_or_else(|error| panic!("{error}: {:?}", self.end()))
    }

    /// Executes a list and then a call in the guest, and returns the answer to that call.
    #[track_caller]
    pub fn call(&self, before: &List, signature: u64, transport: Transport) -> Answer {
        self.answer(&before.clone().call(signature, transport))
    }

    /// Executes a list in the guest, and returns the last answer.
    #[track_caller]
    pub fn answer(&self, list: &List) -> Answer {
        // The end of the arena, which nothing else uses.
        let place = self.layout.arena(Side::Guest).1 - 64;
        self.does(&list.clone().save(region(self.own(place))));
        self.saved(place)
    }

    /// The answer that the guest has saved at an address.
    #[track_caller]
    pub fn saved(&self, offset: u64) -> Answer {
        let words = Transport { primary: self.lent(offset), secondary: 32 };
        let words = self.told().bytes(List::new().returns(0, words).bytes());
        let bytes = words.and_then(|words| words.read_vec()).unwrap();
        let word = |nr: usize| u64::from_le_bytes(bytes[8 * nr..][..8].try_into().unwrap());
        assert_eq!(word(0), answer::ANSWER, "{:x}", word(0));
        let transport = Transport { primary: word(2), secondary: word(3) };
        Answer { status: word(1), transport }
    }

    /// The operand of the guest's trap: a port, the address of its doorbell, or of its gate.
    pub fn way(&self) -> u64 {
        let copy = Op::Copy { to: region(self.own(0)), from: At(Base::Boot, 32), len: 8 };
        let word = Transport { primary: self.lent(0), secondary: 8 };
        let bytes = self.told().bytes(List::new().op(copy).returns(0, word).bytes());
        u64::from_le_bytes(bytes.unwrap().read_vec().unwrap().try_into().unwrap())
    }

    /// The errors that the host has observed since the last call of this method.
    pub fn refused(&self) -> Vec<CallError> {
        std::mem::take(&mut *self.refused.lock().unwrap())
    }

    /// The number of those errors.
    pub fn refusals(&self) -> usize {
        self.refused.lock().unwrap().len()
    }

    pub fn end(&self) -> Option<GuestExit> {
        self.host.guest_exit()
    }

    /// Blocks that were lent to the guest and not released.
    pub fn lost(&self) -> usize {
        let blocks = self.host.guest().arena_stats().blocks;
        blocks.checked_sub(self.treasure.len()).expect("the host's own blocks are in use")
    }

    /// Drops the handles that the host's handlers have kept.
    pub fn forget(&self) {
        self.kept.lock().unwrap().clear();
    }

    /// The lengths of the handles that the host's handlers have kept.
    pub fn kept(&self) -> Vec<usize> {
        self.kept.lock().unwrap().iter().map(ForeignBuf::len).collect()
    }

    /// Makes the guest write every mark, until no loan is left.
    pub fn settle(&self) {
        self.forget();
        let (map, granules) =
            (self.layout.release_map(Side::Host), self.layout.granules(Side::Host));
        for loan in 1..=u8::MAX {
            if self.lost() == 0 {
                break;
            }
            self.does(&List::new().fill(region(map), granules as u64, loan));
        }
        assert_eq!(self.lost(), 0, "blocks are lost");
    }

    /// Blocks that the host has not lent are unchanged.
    pub fn assert_treasure(&self) {
        for (nr, own) in (1..).zip(&self.treasure) {
            assert_eq!(own.as_slice(), [nr; 100], "the host's memory was overwritten");
        }
    }

    /// Honest calls, in both directions.
    pub fn assert_works(&self) {
        let plain = List::new().returns(0, Transport::word(77));
        assert_eq!(self.told().does(plain.bytes()), Ok(77), "{:?}", self.end());
        let word = Transport::word(0xfedc);
        let answer = self.call(&List::new(), ParamsEverythingAloneU16::FUNCTION.signature, word);
        assert_eq!(answer, Answer { status: 0, transport: word });
        let list = List::new().write(region(self.own(64)), b"to and fro");
        let bytes = Transport { primary: self.lent(64), secondary: 10 };
        let answer = self.call(&list, ParamsEverythingBytes::FUNCTION.signature, bytes);
        assert_eq!((answer.status, answer.transport.secondary), (0, 10));
        let (arena, len) = self.layout.arena(Side::Host);
        assert!((arena..arena + len).contains(&pointer::offset(answer.transport.primary)));
        self.settle();
    }

    /// Checks that no call reaches a guest that has ended, and that no block is lent to it.
    pub fn assert_ended(&self) {
        let end = self.end().expect("the guest has ended");
        assert_eq!(self.lost(), 0, "its loans have ended");
        for _ in 0..2 {
            let error = self.told().does(&[]).unwrap_err();
            assert_eq!((error.kind(), error.reached()), (end.kind(), false), "{end}");
        }
        assert_eq!(self.lost(), 0, "a call that fails lends nothing");
        let lines = if matches!(end, GuestExit::Unfit(_)) { usize::MAX } else { 1 };
        let text = end.to_string();
        assert!(text.lines().count() <= lines, "{text:?}");
        text.lines().for_each(is_harmless);
        self.forget();
    }
}

impl Target {
    /// Resets the guest, however it has ended, and checks that it works as a new one. A guest that never waited for calls
    /// cannot be reset.
    pub fn assert_resets(&self, scripted: bool) {
        match self.host.reset() {
            Err(ResetError::NotStarted) if scripted => return,
            reset => assert_eq!(reset, Ok(())),
        }
        assert_eq!((self.end(), self.lost()), (None, 0));
        self.assert_works();
        self.assert_treasure();
    }
}

/// A handle that was never read.
pub fn handle(buf: Result<ForeignBuf, CallError>) -> Result<usize, (ErrorKind, bool)> {
    buf.map(|buf| buf.len()).map_err(|error| (error.kind(), error.reached()))
}

/// The text of a fault, without parts that depend on how the guest was compiled.
pub fn fault(fault: &Fault) -> String {
    match fault.address {
        Some(address) => format!("{} at {address:#x}", fault.cause),
        None => fault.cause.to_string(),
    }
}

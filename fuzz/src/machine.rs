//! A hostile guest over a real boundary: a process or a virtual machine runs the guest of the attacks
//! (`tests/attacks/guest`), and the input decides what that guest does. After each input the guest is reset.

use std::{
    cell::{OnceCell, RefCell},
    time::Duration,
};

use support::{
    guests,
    interface::{FUNCTIONS, Kept, Server},
    ops::{self, At, Base, Op},
};
use vmffi::{
    CallError, ErrorKind, ForeignBuf, ForeignStr, RegionLayout, SharedBuf,
    abi::{
        Side, Transport, answer,
        batch::{Entry, TAKE},
        pointer, signature, trap,
    },
    host::{Limits, RunOutcome},
    machine::{Backend, Image, MachineBuilder},
};

use super::{counts::count, feed::Feed};

vmffi::ffi_interface! {
    /// The interface by which the guest receives its list. It does not check which function was called.
    pub interface Told {
        fn does(list: ForeignBuf) -> u64;
        fn bytes(list: ForeignBuf) -> ForeignBuf;
        fn text(list: ForeignBuf) -> Option<ForeignStr>;
        fn flag(list: ForeignBuf) -> bool;
    }
}

const ARENAS: u64 = 64 << 10;
const TREASURES: u8 = 3;
/// The number of functions when most of the kept inputs were found.
const OLD: usize = 25;
/// The address of the doorbell, and the port.
const DOORBELL: u64 = 0x200_0000_0000;
const PORT: u64 = 0x5658;
/// In a process: the gate's code, its `syscall` of a trap, the memory that it reads, and the memory that it writes: the
/// number of the last trap, and a signal stack.
const GATE: u64 = 0x1f0_0000_0100;
const GATE_LEN: u64 = 0x300;
const TRAP: u64 = GATE + 0x25;
const SLOT: u64 = 0x1f0_0010_1000;
const NUMBER: u64 = 0x1f0_0080_0000;
const SIGNAL_STACK: u64 = NUMBER + 0x1000;
const SIGNAL_STACK_LEN: u64 = 0x1_0000;
/// The kind by which the gate reports a signal, less the signal's number.
const SIGNALLED: u64 = 0x100;

/// The state of a guest and its host that is kept between inputs.
struct World {
    host: vmffi::machine::Machine,
    layout: RegionLayout,
    kept: Kept,
    /// Blocks that the guest was not lent.
    treasure: Vec<SharedBuf>,
}

thread_local! {
    // All inputs run on one thread, each in the machine of the previous one after a reset.
    static PROCESS: OnceCell<RefCell<World>> = const { OnceCell::new() };
    static KVM: OnceCell<RefCell<World>> = const { OnceCell::new() };
}

impl World {
    fn new(backend: Backend) -> Self {
        let program = guests::build("tests/attacks/guest", "attacker").expect("a guest");
        let image = Image::open(program).expect("a program");
        let server = Server::default();
        let kept = server.kept.clone();
        let limits = Limits::new()
            .deadline(Duration::from_millis(4))
            .calls(300)
            .lent_blocks(100)
            .handles(60)
            .text(200)
            .log(2000);
        let machine = MachineBuilder::new(&image).arenas(ARENAS, ARENAS).limits(limits);
        // libFuzzer handles the default signal itself.
        let machine = machine.signal(40).expect("a real-time signal");
        let machine = machine.observe(move |error| {
            assert_eq!(error.side(), Some(Side::Host));
            clean(&error.to_string());
        });
        let host = machine.build(backend, server).expect("a machine");
        assert_eq!(host.with_deadline(Duration::from_secs(5)).run(), Ok(RunOutcome::Ready));
        let own = |nr| SharedBuf::copy_from(host.guest(), &[nr; 100]).expect("room");
        let treasure = (1..=TREASURES).map(own).collect();
        let layout = RegionLayout::new(ARENAS, ARENAS).expect("sizes");
        Self { host, layout, kept, treasure }
    }

    /// Blocks in use that are not the treasure.
    fn blocks(&self) -> usize {
        self.host.guest().arena_stats().blocks - self.treasure.len()
    }

    fn told(&self) -> ToldClient<'_> {
        ToldClient::from(self.host.guest())
    }

    /// An offset in the guest's arena, mostly near its beginning and aligned.
    fn place(&self, feed: &mut Feed) -> u64 {
        let (arena, len) = self.layout.arena(Side::Guest);
        match feed.byte() {
            nr @ 0..240 => arena + 64 * u64::from(nr % 60) + 8 * u64::from(nr / 60),
            240..250 => arena + len - feed.number(1),
            _ => feed.number(8),
        }
    }

    fn word(&self, feed: &mut Feed) -> u64 {
        match feed.below(4) {
            0 => pointer::join(self.place(feed), feed.byte()),
            1 => pointer::join(self.place(feed), 1),
            _ => feed.scalar(),
        }
    }

    fn transport(&self, feed: &mut Feed) -> Transport {
        let primary = self.word(feed);
        let secondary = match feed.below(4) {
            0 | 1 => 0,
            2 => feed.number(1),
            _ => feed.scalar(),
        };
        Transport { primary, secondary }
    }

    fn signature(&self, feed: &mut Feed) -> u64 {
        match feed.below(16) {
            0 => signature::HAS,
            1 => signature::HANDSHAKE,
            2 => signature::LOG,
            // Added after inputs were kept; the other functions have the numbers that they had.
            3 => match feed.scalar() {
                0x8f => FUNCTIONS[OLD],
                0x8e => signature::BATCH,
                number => number,
            },
            _ => FUNCTIONS[feed.below(OLD)],
        }
    }

    /// Writes the entries of a batch, most of which are calls, and returns the transport of its call.
    fn batch(&self, feed: &mut Feed, list: &mut Vec<u8>) -> Transport {
        let place = self.place(feed);
        let mut entries = Vec::new();
        for _ in 0..=feed.below(8) {
            let entry = match feed.below(4) {
                3 => {
                    let index = feed.number(1) % 9;
                    let size = feed.pick(&[0, 1, 2, 4, 8, 3]);
                    let into = if size == 0 { 0 } else { size << 32 | feed.number(1) };
                    Entry { word: TAKE, transport: Transport { primary: index, secondary: into } }
                }
                _ => Entry { word: self.signature(feed), transport: self.transport(feed) },
            };
            entries.extend(entry.to_bytes());
        }
        Op::Write { at: At(Base::Region, place), bytes: &entries }.put(list);
        let len = if feed.rarely(8) { feed.scalar() } else { entries.len() as u64 };
        count("a batch");
        Transport { primary: pointer::join(place, feed.pick(&[0, 1, 2])), secondary: len }
    }

    fn kind(feed: &mut Feed) -> u64 {
        let known =
            [trap::CALL, trap::RETURN, trap::READY, trap::EXIT, answer::ANSWER, answer::UPCALL];
        if feed.rarely(8) { feed.scalar() } else { feed.pick(&known) }
    }

    /// A list of operations, most of which are almost valid.
    fn list(&self, feed: &mut Feed, depth: u32) -> Vec<u8> {
        let mut list = Vec::new();
        for _ in 0..feed.below(12) {
            if feed.is_empty() {
                break;
            }
            let inside = |feed: &mut Feed| match depth {
                0 => Vec::new(),
                _ => self.list(feed, depth - 1),
            };
            let at = |feed: &mut Feed| At(Base::Region, self.place(feed));
            let choice = feed.byte();
            match choice % 24 {
                _ if choice >= 240 => self.gate(feed, &mut list),
                0..=6 => {
                    let word = self.signature(feed);
                    let transport = match word {
                        signature::BATCH => self.batch(feed, &mut list),
                        _ => self.transport(feed),
                    };
                    let inside = if feed.rarely(4) { inside(feed) } else { Vec::new() };
                    let Transport { primary, secondary } = transport;
                    let kind = trap::CALL;
                    Op::Trap { kind, word, primary, secondary, inside: &inside }.put(&mut list);
                }
                7..=10 => {
                    let words: Vec<u8> =
                        (0..=feed.below(6)).flat_map(|_| self.word(feed).to_le_bytes()).collect();
                    Op::Write { at: at(feed), bytes: &words }.put(&mut list);
                }
                11 => {
                    let map = self.layout.release_map(feed.pick(&[Side::Host, Side::Guest]));
                    let at = At(Base::Region, map + feed.number(1));
                    let (len, byte) = (feed.number(2) % 1024, feed.number(1));
                    Op::Fill { at, len, byte }.put(&mut list);
                }
                12 => {
                    let (kind, word) = (Self::kind(feed), self.word(feed));
                    let Transport { primary, secondary } = self.transport(feed);
                    let inside = inside(feed);
                    Op::Trap { kind, word, primary, secondary, inside: &inside }.put(&mut list);
                }
                13 => {
                    let status = feed.scalar();
                    let Transport { primary, secondary } = self.transport(feed);
                    Op::Return { status, primary, secondary }.put(&mut list);
                }
                14 => Op::Hold {}.put(&mut list),
                15 => {
                    let (count, inner) = (feed.number(1) % 20, inside(feed));
                    Op::Repeat { count: count + 1, list: &inner }.put(&mut list);
                }
                16 => Op::Save { at: at(feed) }.put(&mut list),
                17 => {
                    // Copies memory that the host has lent into the guest's own arena.
                    let (own, len) = (at(feed), feed.number(1));
                    let theirs = self.layout.arena(Side::Host).0 + 64 * feed.number(1);
                    Op::Copy { to: own, from: At(Base::Region, theirs), len }.put(&mut list);
                }
                18 => {
                    let len = self.layout.arena(Side::Guest).0 + ARENAS - 4096;
                    let (seed, count) = (feed.number(2), feed.number(2));
                    let at = At(Base::Region, 4096);
                    // A word that nothing writes to, so the storm runs for its full count.
                    let until = At(Base::Region, 4088);
                    Op::Storm { at, len, seed, count: count + 1, until }.put(&mut list);
                }
                19..=21 => {
                    let places = |feed: &mut Feed| match feed.below(4) {
                        0 => At(Base::Null, DOORBELL),
                        1 => At(Base::Null, DOORBELL.wrapping_add(feed.scalar())),
                        _ => at(feed),
                    };
                    let (which, from, to) = (feed.number(1), places(feed), places(feed));
                    let count = if feed.rarely(2) { feed.number(1) } else { feed.scalar() };
                    let port = if feed.rarely(4) { feed.number(2) } else { PORT };
                    let down = u64::from(feed.rarely(3));
                    Op::Strings { which, from, to, count, port, down }.put(&mut list);
                }
                22 => {
                    let (which, count) = (feed.number(1), feed.scalar());
                    let at = match feed.below(3) {
                        0 => At(Base::Null, DOORBELL + feed.number(1) % 16),
                        _ => at(feed),
                    };
                    Op::Access { which, at, count }.put(&mut list);
                }
                // Any operation, also those that no guest may execute.
                _ => {
                    let bytes: Vec<u8> = (0..feed.below(32)).map(|_| feed.byte()).collect();
                    Op::take(&mut ops::Feed::new(&bytes)).put(&mut list);
                }
            }
        }
        list
    }

    /// An address in or near the gate.
    fn gate_address(&self, feed: &mut Feed) -> u64 {
        match feed.below(6) {
            0 => feed.scalar(),
            1 => GATE.wrapping_add(feed.number(2) % GATE_LEN),
            2 => SLOT | (feed.number(1) % 8),
            3 => NUMBER + feed.number(2),
            4 => SIGNAL_STACK + 8 * (feed.number(2) % (SIGNAL_STACK_LEN / 8)),
            _ => SIGNAL_STACK + feed.number(1),
        }
    }

    /// An attack on the gate, as an operation of a list.
    fn gate(&self, feed: &mut Feed, list: &mut Vec<u8>) {
        let null = |address| At(Base::Null, address);
        match feed.below(4) {
            0 => {
                let registers: Vec<u8> = (0..feed.below(16))
                    .flat_map(|_| self.gate_address(feed).to_le_bytes())
                    .collect();
                let to = match feed.below(3) {
                    0 => TRAP,
                    _ => GATE + feed.number(2) % GATE_LEN,
                };
                // None, single steps, alignment checks, the direction, a nested task, and all of them.
                let flags = feed.pick(&[0x202, 0x302, 0x4_0202, 0x602, 0x4202, 0x4_4702]);
                let stack = match feed.below(2) {
                    0 => At(Base::Boot, 0),
                    _ => null(self.gate_address(feed)),
                };
                Op::Jump { to: null(to), flags, stack, registers: &registers }.put(list);
            }
            1 => {
                let (at, word) = (null(self.gate_address(feed)), feed.scalar());
                Op::Write { at, bytes: &word.to_le_bytes() }.put(list);
            }
            2 => {
                let (at, len) = (null(NUMBER), 0x1000 + SIGNAL_STACK_LEN);
                let (seed, count) = (feed.number(2), feed.number(2));
                let until = At(Base::Region, 4088);
                Op::Storm { at, len, seed, count: count + 1, until }.put(list);
            }
            _ => {
                let kind = SIGNALLED + feed.number(1);
                let (word, primary) = (self.gate_address(feed), self.gate_address(feed));
                Op::Trap { kind, word, primary, secondary: 0, inside: &[] }.put(list);
            }
        }
    }

    /// One upcall, and the checks after it.
    fn upcall(&self, feed: &mut Feed) {
        let list = self.list(feed, 3);
        let was = self.host.guest_exit();
        let told = self.told();
        let error = match feed.below(4) {
            0 => told.bytes(&list).and_then(|bytes| bytes.read_vec()).err(),
            1 => told.text(&list).map(|text| text.map(|text| text.read_string())).err(),
            2 => told.flag(&list).err(),
            _ => told.does(&list).err(),
        };
        for (nr, own) in (1..).zip(&self.treasure) {
            assert_eq!(own.as_slice(), [nr; 100], "the block was overwritten");
        }
        if let Some(end) = self.host.guest_exit() {
            clean(&end.to_string());
            let error = error.expect("a guest that has ended has no result");
            assert_eq!((error.kind(), error.reached()), (end.kind(), was.is_none()), "{end}");
            self.kept.lock().expect("no panic").clear();
            assert_eq!(self.blocks(), 0, "its loans have ended: {end}");
            if let Some(was) = was {
                assert_eq!(was, end, "the first end counts");
            }
        }
    }
}

/// A text for people: one line without control characters.
fn clean(text: &str) {
    let odd = |char: char| {
        char.is_control() || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(odd), "{text:?}");
}

/// Runs an input in a process.
pub fn process(data: &[u8]) {
    PROCESS.with(|world| run(data, world, Backend::Process));
}

/// Runs an input in a virtual machine, if there is KVM.
pub fn kvm(data: &[u8]) {
    if let Some(kvm) = "kvm".parse::<Backend>().ok().filter(|kvm| kvm.check().is_ok()) {
        KVM.with(|world| run(data, world, kvm));
    }
}

fn run(data: &[u8], world: &OnceCell<RefCell<World>>, backend: Backend) {
    let world = world.get_or_init(|| RefCell::new(World::new(backend))).borrow();
    let feed = &mut Feed::new(data);
    for _ in 0..3 {
        if feed.is_empty() {
            break;
        }
        world.upcall(feed);
    }
    world.host.reset().expect("a reset");
    for kept in world.kept.lock().expect("no panic").drain(..) {
        let read = kept.read_vec().map_err(|error: CallError| error.kind());
        assert!(kept.is_empty() || read == Err(ErrorKind::Stale), "{read:?}");
    }
    assert_eq!(world.blocks(), 0, "nothing is lent after a reset");
    let mut honest = Vec::new();
    Op::Return { status: 0, primary: 77, secondary: 0 }.put(&mut honest);
    let within = world.host.with_deadline(Duration::from_secs(10));
    assert_eq!(
        ToldClient::from(within.guest()).does(&honest),
        Ok(77),
        "{:?}",
        world.host.guest_exit()
    );
}

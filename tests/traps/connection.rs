//! A connection over real trap instructions: the crate's guest end on one thread, its host end on
//! another, and the signal handler of `machine` between them (ABI, "Traps").

use std::sync::{Arc, OnceLock, Weak};

use super::machine::{
    self, TrapVcpu, Usual,
    arch::{Doorbell, Gate},
    doorbell, gate, plain_gate, usual,
};
use vmffi::{
    CallError, ConnectError, ErrorKind, Failure, ForeignBuf, ForeignStr, MAX_DEPTH, Peer,
    RegionError, RegionLayout, RegionMemory, SharedBuf,
    abi::{Registers, Side, Transport, answer, trap},
    arch::{NegotiatedTrap, Trap},
    guest::{Guest, GuestStorage},
    host::{GuestExit, Host, HostBuilder, RunOutcome, Vcpu},
};

vmffi::ffi_interface! {
    #[derive(Clone, Debug, PartialEq)]
    pub struct Point { x: i32, y: u8, z: f64 }

    #[derive(Debug, PartialEq)]
    pub enum Bad: u8 { Odd = 7 }

    pub interface Files {
        fn sum(a: u64, b: u32, c: u8) -> u64;
        fn half(a: u64) -> Result<u64, Bad>;
        fn shout(text: ForeignStr) -> ForeignBuf;
        fn mirror(point: Point) -> Point;
        fn down(left: u32) -> u32;
        fn outside() -> bool;
        fn threads() -> bool;
        #[optional]
        fn nobody(a: ForeignBuf, b: u64);
    }

    pub interface Plugin {
        fn down(left: u32) -> u32;
        fn count(bytes: ForeignBuf) -> u64;
        fn keep(bytes: ForeignBuf);
        fn leave(bytes: ForeignBuf);
        fn panic();
    }
}

type Machine = Host<ThreadVcpu>;

/// The host's server. It also refers to its own machine, for calls from outside of any handler.
struct Server {
    machine: Arc<OnceLock<Weak<Machine>>>,
}

impl Files for Server {
    fn sum(&self, _: &Peer, a: u64, b: u32, c: u8) -> Result<u64, CallError> {
        Ok(a + u64::from(b) + u64::from(c))
    }
    fn half(&self, _: &Peer, a: u64) -> Result<u64, Failure<Bad>> {
        if a % 2 == 0 { Ok(a / 2) } else { Err(Bad::Odd.into()) }
    }
    fn shout(&self, guest: &Peer, text: ForeignStr) -> Result<SharedBuf, CallError> {
        let text = text.read_string()?.to_uppercase();
        // An upcall inside the hypercall, with a block of its own.
        let count = PluginClient::from(guest).count(text.as_bytes())?;
        assert_eq!(count, text.len() as u64);
        SharedBuf::copy_from(guest, text.as_bytes())
    }
    fn mirror(&self, _: &Peer, point: Point) -> Result<Point, CallError> {
        Ok(Point { x: -point.x, ..point })
    }
    fn down(&self, guest: &Peer, left: u32) -> Result<u32, CallError> {
        if left == 0 { Ok(0) } else { Ok(PluginClient::from(guest).down(left - 1)? + 1) }
    }
    fn outside(&self, _: &Peer) -> Result<bool, CallError> {
        // The vCPU is in this call, so it is not free for a call from outside, which fails without a wait.
        let machine = self.machine.get().unwrap().upgrade().unwrap();
        let busy = |error: CallError| error.kind() == ErrorKind::Busy;
        Ok(PluginClient::from(machine.guest()).down(0).is_err_and(busy)
            && machine
                .run()
                .is_err_and(|error| matches!(&error, ConnectError::Call(e) if busy(e.clone()))))
    }
    fn threads(&self, guest: &Peer) -> Result<bool, CallError> {
        let calls = std::thread::scope(|scope| {
            let call = || PluginClient::from(guest).down(3);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(call)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        Ok(calls.iter().any(Result::is_ok)
            && calls.iter().all(|call| match call {
                Ok(depth) => *depth == 3,
                Err(error) => error.kind() == ErrorKind::Busy,
            }))
    }
    fn nobody(&self, _: &Peer, _: ForeignBuf, _: u64) -> Result<(), CallError> {
        Err(CallError::refused())
    }
}

vmffi::serve!(Server: Files; calls Plugin);

#[derive(Default)]
struct Guests {
    kept: std::sync::Mutex<Vec<ForeignBuf>>,
}

impl Plugin for Guests {
    fn down(&self, host: &Peer, left: u32) -> Result<u32, CallError> {
        if left == 0 { Ok(0) } else { Ok(FilesClient::from(host).down(left - 1)? + 1) }
    }
    fn count(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        Ok(bytes.len() as u64)
    }
    fn keep(&self, _: &Peer, bytes: ForeignBuf) -> Result<(), CallError> {
        self.kept.lock().unwrap().push(bytes);
        Ok(())
    }
    fn leave(&self, _: &Peer, _: ForeignBuf) -> Result<(), CallError> {
        // Ends the guest in an upcall: this trap is never completed.
        let _ = usual().trap(Registers { kind: trap::EXIT, word: 9, transport: Transport::EMPTY });
        Ok(())
    }
    fn panic(&self, _: &Peer) -> Result<(), CallError> {
        std::panic::resume_unwind(Box::new("a handler's panic"))
    }
}

vmffi::serve!(Guests: Plugin; calls Files);

/// A guest thread as a vCPU.
struct ThreadVcpu {
    start: Option<Box<dyn FnOnce() + Send>>,
    thread: Option<TrapVcpu<()>>,
}

impl ThreadVcpu {
    fn new(guest: impl FnOnce() + Send + 'static) -> Self {
        Self { start: Some(Box::new(guest)), thread: None }
    }
}

impl Vcpu for ThreadVcpu {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        match (answer, &mut self.thread) {
            (Some(answer), Some(thread)) => Ok(thread.resume(answer)),
            (None, thread @ None) => {
                let start = self
                    .start
                    .take()
                    .ok_or_else(|| GuestExit::Lost("it was started before".into()))?;
                let (started, first) = TrapVcpu::start(start);
                *thread = Some(started);
                Ok(first)
            }
            _ => Err(GuestExit::Lost("it has not been started".into())),
        }
    }
}

/// Zeroed memory at a page, whose address both ends know.
#[derive(Clone, Copy)]
struct Region(usize, usize);

impl Region {
    fn new(layout: &RegionLayout) -> Self {
        let len = layout.len() as usize;
        let pages = std::alloc::Layout::from_size_align(len, 4096).unwrap();
        // SAFETY: the layout has more than 0 bytes. The memory is never freed, since the guest's end lives forever.
        let base = unsafe { std::alloc::alloc_zeroed(pages) }.expose_provenance();
        // The leak checker finds the address in this static.
        static ALL: std::sync::Mutex<Vec<usize>> = std::sync::Mutex::new(Vec::new());
        ALL.lock().unwrap().push(base);
        Self(base, len)
    }
    fn base(self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.0)
    }
}

/// A started host whose guest traps through `trap`, runs `guest` before it parks, and exits with
/// status 3 when it is resumed.
fn machine<T: Trap + Copy + Send + Sync + 'static>(
    place: &'static GuestStorage<Guests, T, 1024>,
    trap: T,
    guest: impl FnOnce(&Peer) + Send + 'static,
) -> Arc<Machine> {
    let layout = RegionLayout::new(1 << 16, 1 << 16).unwrap();
    let region = Region::new(&layout);
    let vcpu = ThreadVcpu::new(move || {
        let (base, len) = (region.base(), region.1 as u64);
        let guests = Guests::default();
        // SAFETY: the region is never freed, and this thread is its guest.
        let region = unsafe { RegionMemory::permanent(base, len) };
        let end = Guest::connect(place, region, trap, guests).unwrap();
        guest(end.host());
        end.park().unwrap();
        end.exit(3);
    });
    let own = Arc::new(OnceLock::new());
    let server = Server { machine: own.clone() };
    let (base, len) = (region.base(), region.1 as u64);
    // SAFETY: the region is never freed, and only the guest uses it as well.
    let memory = unsafe { RegionMemory::permanent(base, len) };
    let host = HostBuilder::new(memory, layout).build(server, [vcpu]);
    let host = Arc::new(host.unwrap());
    own.set(Arc::downgrade(&host)).unwrap();
    host
}

fn hypercalls(host: &Peer) {
    let files = FilesClient::from(host);
    for i in 0..1000 {
        assert_eq!(files.sum(i, 2, 3).unwrap(), i + 5);
    }
    assert_eq!(files.half(8), Ok(4));
    assert_eq!(files.half(9), Err(Failure::App(Bad::Odd)));
    let loud = files.shout("quiet").unwrap();
    assert_eq!(loud.read_vec().unwrap(), b"QUIET");
    let point = Point { x: 5, y: 6, z: 7.5 };
    assert_eq!(files.mirror(&point).unwrap(), Point { x: -5, ..point });
    assert!(files.outside().unwrap());
    assert!(files.threads().unwrap());
    assert!(files.has_nobody().unwrap());
    assert_eq!(files.nobody(&[1, 2, 3], 4).unwrap_err().kind(), ErrorKind::Refused);
    // Each of these nests two calls, and the first one counts.
    assert_eq!(files.down(MAX_DEPTH - 1).unwrap(), MAX_DEPTH - 1);
    let error = files.down(MAX_DEPTH).unwrap_err();
    assert_eq!((error.kind(), error.side()), (ErrorKind::TooDeep, Some(Side::Host)));
    drop(loud);
    assert_eq!(host.arena_stats().blocks, 0);
}

fn both_directions(host: &Machine) {
    assert_eq!(PluginClient::from(host.guest()).count(b"abc").unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(host.run().unwrap(), RunOutcome::Ready);
    let plugin = PluginClient::from(host.guest());
    for len in [0, 1, 63, 64, 65, 40_000] {
        assert_eq!(plugin.count(&vec![1; len]).unwrap(), len as u64);
    }
    assert_eq!(plugin.down(MAX_DEPTH - 1).unwrap(), MAX_DEPTH - 1);
    assert_eq!(plugin.down(MAX_DEPTH).unwrap_err().kind(), ErrorKind::TooDeep);
    let error = plugin.panic().unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerPanicked, true));
    let error = plugin.count(&vec![1; 70_000]).unwrap_err();
    assert_eq!((error.kind(), error.side()), (ErrorKind::OutOfMemory, Some(Side::Host)));
    assert_eq!(host.guest().arena_stats().blocks, 0);
    // Two threads of the host: one waits for the end of the other's call.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..100).for_each(|i| assert_eq!(plugin.down(i % 5).unwrap(), i % 5)));
        }
    });
    // The guest keeps a block, and dies: the loan ends.
    plugin.keep(b"never released").unwrap();
    assert_eq!(host.guest().arena_stats().blocks, 1);
    assert_eq!(host.run().unwrap(), RunOutcome::Exited(3));
    assert_eq!(host.guest().arena_stats().blocks, 0);
    assert_eq!(plugin.count(b"abc").unwrap_err().kind(), ErrorKind::PeerDied);
    assert_eq!(host.run().unwrap(), RunOutcome::Exited(3));
    assert_eq!(host.guest().arena_stats().blocks, 0);
}

#[test]
fn a_connection_by_the_usual_trap() {
    static PLACE: GuestStorage<Guests, Usual, 1024> = GuestStorage::new();
    both_directions(&machine(&PLACE, usual(), hypercalls));
}

#[test]
fn a_connection_by_doorbell() {
    static PLACE: GuestStorage<Guests, Doorbell, 1024> = GuestStorage::new();
    both_directions(&machine(&PLACE, doorbell(), hypercalls));
}

/// Calls execute the trap instruction inline.
#[test]
fn a_connection_by_gate() {
    static PLACE: GuestStorage<Guests, NegotiatedTrap, 1024> = GuestStorage::new();
    both_directions(&machine(&PLACE, gate(), hypercalls));
}

/// Calls go through a function of the guest's link.
#[test]
fn a_connection_by_gate_and_link() {
    static PLACE: GuestStorage<Guests, Gate, 1024> = GuestStorage::new();
    both_directions(&machine(&PLACE, plain_gate(), hypercalls));
}

/// ABI, Arenas and loans A-6: a guest that ends during a call may have executed a part of it,
/// and its loans end.
#[test]
fn a_guest_that_ends_in_an_upcall() {
    static PLACE: GuestStorage<Guests, Usual, 1024> = GuestStorage::new();
    let host = machine(&PLACE, usual(), |_| ());
    assert_eq!(host.run().unwrap(), RunOutcome::Ready);
    let plugin = PluginClient::from(host.guest());
    plugin.keep(b"kept").unwrap();
    let error = plugin.leave(b"lent").unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
    assert_eq!(host.guest().arena_stats().blocks, 0);
    let error = plugin.leave(b"lent").unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, false));
    assert_eq!(host.guest().arena_stats().blocks, 0);
    assert_eq!(host.run().unwrap(), RunOutcome::Exited(9));
}

/// ABI, Contracts CT-3: a guest whose contract does not match is not resumed.
#[test]
fn a_guest_that_does_not_match() {
    /// The interface of another host; it also calls a function that this host does not serve.
    mod other {
        vmffi::ffi_interface! {
            pub interface Files { fn sum(a: u64, b: u32, c: u8) -> u64; fn sort(a: u64); }
        }
    }
    struct Stranger;
    vmffi::serve!(Stranger; calls other::Files);
    static PLACE: GuestStorage<Stranger, Usual, 64> = GuestStorage::new();

    let layout = RegionLayout::new(4096, 4096).unwrap();
    let region = Region::new(&layout);
    let (base, len) = (region.base(), region.1 as u64);
    let vcpu = ThreadVcpu::new(move || {
        let base = region.base();
        // SAFETY: the region is never freed.
        let region = unsafe { RegionMemory::permanent(base, len) };
        let end = Guest::connect(&PLACE, region, usual(), Stranger);
        // The guest is not resumed: its trap is returned unclaimed when this vCPU is dropped.
        let error = end.unwrap_err();
        assert!(
            matches!(error, ConnectError::Call(error) if error.kind() == ErrorKind::Unsupported)
        );
    });
    let server = Server { machine: Arc::default() };
    // SAFETY: the region is never freed, and only the guest uses it as well.
    let memory = unsafe { RegionMemory::permanent(base, len) };
    let host = HostBuilder::new(memory, layout).build(server, [vcpu]).unwrap();
    for _ in 0..2 {
        let ConnectError::Contract(mismatch) = host.run().unwrap_err() else { panic!() };
        let [sort, down, ..] = mismatch.differences() else { panic!("{mismatch}") };
        assert_eq!((sort.caller, &*sort.called), (Side::Guest, "fn sort(a: u64)"));
        assert_eq!((down.caller, &*down.function), (Side::Host, "Plugin::down"));
        assert_eq!((&sort.served, &down.served), (&None, &None));
    }
    let error = PluginClient::from(host.guest()).count(b"x").unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::VersionMismatch, false));
}

/// ABI, Traps TR-5 and TR-18: a violation of the protocol by the guest ends the connection, not the host.
#[test]
fn a_guest_that_breaks_the_protocol() {
    const NOTHING: Transport = Transport::EMPTY;
    for kind in [trap::RETURN, 0, u64::MAX, answer::ANSWER] {
        let layout = RegionLayout::new(4096, 4096).unwrap();
        let region = Region::new(&layout);
        let vcpu = ThreadVcpu::new(move || {
            let _ = usual().trap(Registers { kind, word: 0, transport: NOTHING });
        });
        let server = Server { machine: Arc::default() };
        let (base, len) = (region.base(), region.1 as u64);
        // SAFETY: the region is never freed, and only the guest uses it as well.
        let memory = unsafe { RegionMemory::permanent(base, len) };
        let host = HostBuilder::new(memory, layout).build(server, [vcpu]);
        let host = host.unwrap();
        let broken = host.run().unwrap_err();
        assert!(matches!(broken, ConnectError::Exited(end) if end.kind() == ErrorKind::Protocol));
        let error = PluginClient::from(host.guest()).count(b"x").unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Protocol, false));
        assert_eq!(host.guest().arena_stats().blocks, 0);
    }
}

/// ABI, Traps TR-4, Statuses S-4: the kind of a trap that nobody claims is unchanged.
#[test]
fn a_host_that_does_not_answer() {
    static PLACE: GuestStorage<Guests, Usual, 64> = GuestStorage::new();
    let layout = RegionLayout::new(4096, 4096).unwrap();
    let region = Region::new(&layout);
    let (base, len) = (region.base(), region.1 as u64);
    // A host has laid out the region, and does not run.
    let vcpu = ThreadVcpu::new(|| ());
    // SAFETY: the region is never freed.
    let memory = unsafe { RegionMemory::permanent(base, len) };
    drop(HostBuilder::new(memory, layout).build((), [vcpu]).unwrap());
    // The host ran during the handshake.
    let mut met = false;
    machine::as_guest(
        move |seen| {
            let answer = Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
            if std::mem::replace(&mut met, true) { seen } else { answer }
        },
        move || {
            let guests = Guests::default();
            // SAFETY: as above.
            let region = unsafe { RegionMemory::permanent(base, len) };
            let end = Guest::connect(&PLACE, region, usual(), guests).unwrap();
            let before = end.host().arena_stats();
            let error = FilesClient::from(end.host()).shout("anyone?").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert_eq!(end.park().unwrap_err().kind(), ErrorKind::Unsupported);
            assert_eq!(end.host().arena_stats(), before, "the loans have ended");
            // SAFETY: as above.
            let region = unsafe { RegionMemory::permanent(base, len) };
            let again = Guest::connect(&PLACE, region, usual(), Guests::default());
            assert_eq!(again.unwrap_err(), RegionError::Taken.into());
            static OTHER: GuestStorage<Guests, Usual, 64> = GuestStorage::new();
            // SAFETY: as above.
            let region = unsafe { RegionMemory::permanent(base, len) };
            let alone = Guest::connect(&OTHER, region, usual(), Guests::default());
            let error = alone.unwrap_err();
            assert!(
                matches!(error, ConnectError::Call(error) if error.kind() == ErrorKind::Unsupported)
            );
        },
    );
}

/// A `GuestStorage` has as many slots as its type says. Granules of an arena after these are not used.
#[test]
fn a_storage_that_is_smaller_than_the_arena() {
    static PLACE: GuestStorage<Guests, Usual, 63> = GuestStorage::new();
    let layout = RegionLayout::new(4096, 4096).unwrap();
    let region = Region::new(&layout);
    let (base, len) = (region.base(), region.1 as u64);
    // SAFETY: the region is never freed.
    let memory = unsafe { RegionMemory::permanent(base, len) };
    drop(HostBuilder::new(memory, layout).build((), [ThreadVcpu::new(|| ())]));
    let answer = Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
    machine::as_guest(
        move |_| answer,
        move || {
            // SAFETY: as above.
            let region = unsafe { RegionMemory::permanent(base, len) };
            let end = Guest::connect(&PLACE, region, usual(), Guests::default());
            let host = end.unwrap().host();
            assert_eq!(host.arena_stats().capacity, 63 * 64);
            let (used, most) = (host.arena_stats().used, 63 * 64);
            assert!(SharedBuf::zeroed(host, most - used + 1).is_err());
            assert_eq!(SharedBuf::zeroed(host, most - used).unwrap().len(), most - used);
        },
    );
}

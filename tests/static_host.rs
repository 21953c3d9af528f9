//! A host that lies in a static, with guests that are scripts: what needs no operating system below it.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::{
    alloc::{Layout as HeapLayout, alloc_zeroed},
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use vmffi::{
    CallError, ConnectError, ErrorKind, ForeignBuf, Peer, RegionError, RegionLayout, RegionMemory,
    Serve, SharedBuf,
    abi::{Registers, Side, Transport, answer, signature, trap},
    host::{
        GuestExit, HostStorage, Limits, LogLine, ProtocolViolation, ResetError, RunOutcome, Served,
        StaticHost, Vcpu,
    },
};

vmffi::ffi_interface! {
    pub interface Store {
        fn double(value: u64) -> u64;
        fn keep(data: ForeignBuf);
        fn fetch() -> ForeignBuf;
        /// Calls the guest back, through the peer of the handler.
        fn back(value: u64) -> u64;
        /// Calls the guest back, through the host, whose vCPU is in use.
        fn around() -> u32;
    }

    pub interface Guest {
        fn triple(value: u64) -> u64;
        fn eat(data: ForeignBuf) -> u64;
    }
}

/// The granules of each arena: 64 KiB.
const GRANULES: usize = 1024;

type Host = StaticHost<Script, 2>;

#[derive(Default)]
struct Server {
    kept: Mutex<Vec<ForeignBuf>>,
    host: Mutex<Option<&'static Host>>,
}

struct Board(&'static Server);

impl Store for Board {
    fn double(&self, _: &Peer, value: u64) -> Result<u64, CallError> {
        Ok(2 * value)
    }

    fn keep(&self, _: &Peer, data: ForeignBuf) -> Result<(), CallError> {
        self.0.kept.lock().unwrap().push(data);
        Ok(())
    }

    fn fetch(&self, guest: &Peer) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(guest, &[7; 100])
    }

    fn back(&self, guest: &Peer, value: u64) -> Result<u64, CallError> {
        GuestClient::from(guest).triple(value)
    }

    fn around(&self, _: &Peer) -> Result<u32, CallError> {
        let host = *self.0.host.lock().unwrap();
        let error = GuestClient::from(host.unwrap().guest()).triple(1).unwrap_err();
        Ok(error.kind() as u32)
    }
}

vmffi::serve!(Board: Store; calls Guest);

/// A vCPU whose guest makes these traps, one after the other, and stops after the last. What completes them is recorded.
struct Script {
    traps: Arc<Mutex<VecDeque<Registers>>>,
    answers: Arc<Mutex<Vec<Option<Registers>>>>,
}

impl Vcpu for Script {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        self.answers.lock().unwrap().push(answer);
        self.traps.lock().unwrap().pop_front().ok_or(GuestExit::Lost("the script is over".into()))
    }
}

/// A host whose first vCPU has a script.
struct Case {
    host: &'static Host,
    server: &'static Server,
    base: *mut u8,
    layout: RegionLayout,
    traps: Arc<Mutex<VecDeque<Registers>>>,
    answers: Arc<Mutex<Vec<Option<Registers>>>>,
}

fn words(kind: u64, word: u64, primary: u64, secondary: u64) -> Registers {
    Registers { kind, word, transport: Transport { primary, secondary } }
}

fn call(signature: u64, primary: u64, secondary: u64) -> Registers {
    words(trap::CALL, signature, primary, secondary)
}

fn ready() -> Registers {
    words(trap::READY, 0, 0, 0)
}

static LOGGED: Mutex<Vec<(u8, String, String)>> = Mutex::new(Vec::new());

fn log(LogLine { level, target, text, .. }: LogLine<'_>) {
    LOGGED.lock().unwrap().push((level, target.into(), text.into()));
}

static REFUSED: AtomicU64 = AtomicU64::new(0);

fn case(limits: Limits) -> Case {
    let layout = RegionLayout::new(64 << 10, 64 << 10).unwrap();
    let heap = HeapLayout::from_size_align(layout.len() as usize, 4096).unwrap();
    // SAFETY: a layout has more than 0 bytes. They are never freed.
    let base = unsafe { alloc_zeroed(heap) };
    // SAFETY: the bytes are never freed, and the tests access them only while no call is in progress, as a guest would.
    let region = unsafe { RegionMemory::permanent(base, layout.len()) };
    let storage: &'static HostStorage<Board, Script, 2, GRANULES> =
        Box::leak(Box::new(HostStorage::new()));
    let server: &'static Server = Box::leak(Box::default());
    let traps = Arc::new(Mutex::new(VecDeque::new()));
    let answers = Arc::new(Mutex::new(Vec::new()));
    let first = Script { traps: traps.clone(), answers: answers.clone() };
    let waits = Arc::new(Mutex::new([ready(); 8].into()));
    let second = Script { traps: waits, answers: Arc::default() };
    let observer: &'static (dyn Fn(&CallError) + Send + Sync) = &|_| {
        REFUSED.fetch_add(1, Ordering::Relaxed);
    };
    let host = StaticHost::builder(storage, region, layout).limits(limits);
    let host = host.observe(observer).log(log).connect(Board(server), [first, second]).unwrap();
    *server.host.lock().unwrap() = Some(host);
    Case { host, server, base, layout, traps, answers }
}

impl Case {
    /// Lets the first vCPU make these traps next.
    fn script(&self, traps: impl IntoIterator<Item = Registers>) {
        self.answers.lock().unwrap().clear();
        *self.traps.lock().unwrap() = traps.into_iter().collect();
    }

    /// What has completed the traps of the script but for its start.
    fn completed(&self) -> Vec<Registers> {
        self.answers.lock().unwrap().iter().flatten().copied().collect()
    }

    fn run(&self) -> Result<RunOutcome, ConnectError> {
        self.host.run()
    }

    /// Writes bytes to the guest's arena, as the guest would; returns the word of a loan of them.
    fn lend(&self, at: u64, bytes: &[u8]) -> u64 {
        let offset = self.layout.arena(Side::Guest).0 + at;
        // SAFETY: the offset is in the region.
        let to = unsafe { self.base.add(offset as usize) };
        // SAFETY: the bytes are in the guest's arena, and the host does not run.
        unsafe { to.copy_from(bytes.as_ptr(), bytes.len()) };
        offset | 1 << 56
    }

    /// The first 100 bytes of a block that the host has lent, or had.
    fn lent(&self, word: u64) -> Vec<u8> {
        // SAFETY: the offset is in the region.
        let at = unsafe { self.base.add((word & !(0xff << 56)) as usize) };
        // SAFETY: the bytes are in the host's arena, and the host does not run.
        unsafe { std::slice::from_raw_parts(at, 100) }.to_vec()
    }
}

const DOUBLE: u64 = ParamsStoreDouble::FUNCTION.signature;
const KEEP: u64 = ParamsStoreKeep::FUNCTION.signature;
const FETCH: u64 = ParamsStoreFetch::FUNCTION.signature;
const BACK: u64 = ParamsStoreBack::FUNCTION.signature;
const AROUND: u64 = ParamsStoreAround::FUNCTION.signature;
const TRIPLE: u64 = ParamsGuestTriple::FUNCTION.signature;

fn kind(status: u64) -> ErrorKind {
    CallError::from_status(status).kind()
}

#[test]
fn calls_in_both_directions() {
    let case = case(Limits::new());
    case.script([call(DOUBLE, 21, 0), call(1 << 40, 0, 0), ready()]);
    assert_eq!(case.run(), Ok(RunOutcome::Ready));
    let [double, unknown] = case.completed()[..] else { panic!() };
    assert_eq!(double, words(answer::ANSWER, 0, 42, 0));
    assert_eq!((unknown.kind, kind(unknown.word)), (answer::ANSWER, ErrorKind::UnknownFunction));

    // An upcall, whose guest calls back, and is called back in turn.
    let returns = |value| words(trap::RETURN, 0, value, 0);
    case.script([call(BACK, 5, 0), returns(15), returns(42)]);
    assert_eq!(GuestClient::from(case.host.guest()).triple(14), Ok(42));
    let [upcall, nested, back] = case.completed()[..] else { panic!("{:?}", case.completed()) };
    assert_eq!(upcall, words(answer::UPCALL, TRIPLE, 14, 0));
    assert_eq!(nested, words(answer::UPCALL, TRIPLE, 5, 0));
    assert_eq!(back, words(answer::ANSWER, 0, 15, 0));
}

#[test]
fn a_handler_that_goes_around_its_peer() {
    let case = case(Limits::new());
    case.script([call(AROUND, 0, 0), ready()]);
    // Before the guest has waited, no vCPU is parked.
    assert_eq!(case.run(), Ok(RunOutcome::Ready));
    assert_eq!(case.completed()[0].transport.primary, ErrorKind::Busy as u64);
}

#[test]
fn limits_end_a_guest() {
    let case = case(Limits::new().calls(3).depth(2));
    case.script([call(DOUBLE, 1, 0); 4]);
    assert_eq!(case.run(), Err(ConnectError::Exited(GuestExit::TooManyCalls)));
    assert_eq!(case.completed().len(), 3);
    assert_eq!(case.host.guest_exit(), Some(GuestExit::TooManyCalls));
    assert_eq!(case.run(), Err(ConnectError::Exited(GuestExit::TooManyCalls)));
    let error = GuestClient::from(case.host.guest()).triple(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn protocol_violations_end_a_guest() {
    for kind in [trap::RETURN, 0, answer::ANSWER, answer::UPCALL, u64::MAX] {
        let case = case(Limits::new());
        case.script([words(kind, 0, 0, 0), ready()]);
        let exit = GuestExit::Protocol(ProtocolViolation::Order(kind));
        assert_eq!(case.run(), Err(ConnectError::Exited(exit)));
        assert_eq!(case.completed(), []);
    }
    // `READY` in an upcall.
    let case = case(Limits::new());
    case.script([ready(), ready()]);
    assert_eq!(case.run(), Ok(RunOutcome::Ready));
    let error = GuestClient::from(case.host.guest()).triple(1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Protocol, true));
}

#[test]
fn an_exit_with_a_text() {
    let case = case(Limits::new().text(9));
    let text = case.lend(64, b"a message that is longer") & !(0xff << 56);
    case.script([words(trap::EXIT, 3, text, 24)]);
    assert_eq!(case.run(), Ok(RunOutcome::Exited(3)));
    let exit = GuestExit::Exited { status: 3, text: "a message".into() };
    assert_eq!(case.host.guest_exit(), Some(exit));
}

#[test]
fn lines_of_the_log() {
    let case = case(Limits::new().log(100));
    let line = case.lend(0, b"\x02\x04diskit is full\x1b\xff...");
    let bad = case.lend(64, b"\x09\x04diskit is full");
    let call = |word, len| call(signature::LOG, word, len);
    case.script([call(line, 21), call(bad, 16), call(line, 60), call(line, 60), ready()]);
    let before = REFUSED.load(Ordering::Relaxed);
    assert_eq!(case.run(), Ok(RunOutcome::Ready));
    let statuses: Vec<u64> = case.completed().iter().map(|answer| answer.word).collect();
    assert_eq!(statuses[0], 0);
    assert_eq!(kind(statuses[1]), ErrorKind::BadValue);
    assert_eq!(statuses[2], 0);
    assert_eq!(kind(statuses[3]), ErrorKind::Refused);
    assert!(REFUSED.load(Ordering::Relaxed) >= before + 2);
    assert_eq!(LOGGED.lock().unwrap()[0], (2, "disk".into(), "it is full\x1b".into()));
}

#[test]
fn a_contract_that_does_not_fit() {
    let case = case(Limits::new());
    let shake =
        |contract: &[u8]| call(signature::HANDSHAKE, case.lend(0, contract), contract.len() as u64);
    case.script([shake(Other::CONTRACT), ready()]);
    let Err(ConnectError::Contract(mismatch)) = case.run() else { panic!() };
    let text = mismatch.to_string();
    assert!(text.contains("Elsewhere::unknown") && text.contains("Guest::triple"), "{text}");
    assert!(matches!(case.host.guest_exit(), Some(GuestExit::Unfit(_))));

    // The next life is asked anew, once.
    assert_eq!(case.host.restart(|_| Ok(())), Ok(()));
    let shake = shake(Fits::CONTRACT);
    case.script([shake, shake, ready()]);
    assert_eq!(case.run(), Ok(RunOutcome::Ready));
    let [first, second] = case.completed()[..] else { panic!() };
    assert_eq!(first.word, 0);
    assert_eq!(kind(second.word), ErrorKind::Refused);
}

vmffi::ffi_interface! {
    pub interface Elsewhere {
        fn unknown();
    }
}

struct Other;

vmffi::serve!(Other; calls Elsewhere);

struct Fits;

impl Guest for Fits {
    fn triple(&self, _: &Peer, value: u64) -> Result<u64, CallError> {
        Ok(3 * value)
    }

    fn eat(&self, _: &Peer, data: ForeignBuf) -> Result<u64, CallError> {
        Ok(data.len() as u64)
    }
}

vmffi::serve!(Fits: Guest; calls Store);

#[test]
fn lives() {
    let case = case(Limits::new());
    let data = case.lend(0, b"a block of the first life");
    case.script([call(KEEP, data, 25), call(FETCH, 0, 0), ready()]);
    assert_eq!(case.run(), Ok(RunOutcome::Ready));
    let fetched = case.completed()[1].transport;
    assert_eq!(fetched.secondary, 100);
    let kept = || case.server.kept.lock().unwrap()[0].read_vec();
    assert_eq!(kept().as_deref(), Ok(&b"a block of the first life"[..]));
    assert_eq!(case.lent(fetched.primary), [7; 100]);

    assert_eq!(case.host.reset(|_| panic!("no checkpoint")), Err(ResetError::NotStarted));

    // What the guest holds at its checkpoint, it holds after each reset.
    let mut vcpus = 0;
    case.host.checkpoint(|all| vcpus = all.count()).unwrap();
    assert_eq!(vcpus, 2);
    case.script([call(FETCH, 0, 0), ready()]);
    assert_eq!(case.run(), Ok(RunOutcome::Ready));
    let later = case.completed()[1].transport.primary;
    assert_ne!(later, fetched.primary);
    assert_eq!(case.host.reset(|_| Ok(())), Ok(()));
    assert_eq!(kept().unwrap_err().kind(), ErrorKind::Stale);
    assert_eq!(case.lent(fetched.primary), [7; 100], "the checkpoint holds it");
    assert_eq!(case.lent(later), [0; 100], "free memory is zeroed");
    assert_eq!(case.host.guest().arena_stats().blocks, 1);

    // Arguments of the old life, and a call in the new one.
    let mut out = case.host.guest().outgoing();
    let old = vmffi::SendAs::<ForeignBuf>::into_transport(&[1, 2, 3][..], &mut out).unwrap();
    assert_eq!(case.host.reset(|_| Ok(())), Ok(()));
    case.script([words(trap::RETURN, 0, 3, 0)]);
    let eat = ParamsGuestEat::FUNCTION.signature;
    // SAFETY: the guest is a script.
    let stale = unsafe { case.host.guest().call_with(out, eat, old) };
    assert_eq!(kind(stale.status), ErrorKind::Stale);
    assert_eq!(case.completed(), []);
    assert_eq!(GuestClient::from(case.host.guest()).eat(&[1, 2, 3]), Ok(3));

    // One that cannot be restored has exited.
    let failed = case.host.reset(|_| Err("the disk is full".into()));
    assert_eq!(failed, Err(ResetError::Failed("the disk is full".into())));
    assert_eq!(case.host.guest_exit(), Some(GuestExit::Lost("the disk is full".into())));

    // The contract was not known at the checkpoint, and is compared in the life that begins there.
    assert_eq!(case.host.reset(|_| Ok(())), Ok(()));
    assert_eq!(case.host.guest_exit(), None);
    let word = case.lend(0, Fits::CONTRACT);
    case.script([call(signature::HANDSHAKE, word, Fits::CONTRACT.len() as u64), ready()]);
    assert_eq!(case.run(), Ok(RunOutcome::Ready));
    assert_eq!(case.completed()[1].word, 0);

    // A guest that starts anew holds nothing, and is not parked.
    assert_eq!(case.host.restart(|_| Ok(())), Ok(()));
    assert_eq!(case.lent(fetched.primary), [0; 100]);
    assert_eq!(case.host.guest().arena_stats().blocks, 0);
    let early = GuestClient::from(case.host.guest()).triple(1).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Busy);
    assert_eq!(case.host.reset(|_| panic!("no checkpoint")), Err(ResetError::NotStarted));
}

#[test]
fn stops() {
    let case = case(Limits::new());
    case.script([ready()]);
    assert_eq!(case.run(), Ok(RunOutcome::Ready));
    case.host.stop();
    let error = GuestClient::from(case.host.guest()).triple(1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, false));
    assert_eq!(case.run(), Err(ConnectError::Exited(GuestExit::Stopped)));
    assert_eq!(case.completed(), []);
}

#[test]
fn traps_that_a_handler_serves() {
    let case = case(Limits::new().calls(2));
    let Ok(Served::Answer(answer)) = case.host.serve(0, call(DOUBLE, 4, 0)) else { panic!() };
    assert_eq!(answer, words(answer::ANSWER, 0, 8, 0));
    // The handler calls the guest back, which `Vcpu::run` runs.
    case.script([words(trap::RETURN, 0, 9, 0)]);
    let Ok(Served::Answer(answer)) = case.host.serve(0, call(BACK, 3, 0)) else { panic!() };
    assert_eq!(answer, words(answer::ANSWER, 0, 9, 0));
    assert!(matches!(case.host.serve(0, ready()), Ok(Served::Ready)));
    case.script([words(trap::RETURN, 0, 6, 0)]);
    assert_eq!(GuestClient::from(case.host.guest()).triple(2), Ok(6));
    // The calls of each stretch between two `READY`s are counted.
    for _ in 0..2 {
        assert!(matches!(case.host.serve(0, call(DOUBLE, 4, 0)), Ok(Served::Answer(_))));
    }
    let over = case.host.serve(0, call(DOUBLE, 4, 0));
    assert!(matches!(over, Err(GuestExit::TooManyCalls)));
    assert!(matches!(case.host.serve(0, ready()), Err(GuestExit::TooManyCalls)));
    assert!(matches!(case.host.serve(2, ready()), Err(GuestExit::Lost(_))));
}

/// A vCPU that waits in its guest until it is told to go on.
struct Slow(mpsc::Sender<()>, mpsc::Receiver<Registers>);

impl Vcpu for Slow {
    fn run(&mut self, _: Option<Registers>) -> Result<Registers, GuestExit> {
        let gone = || GuestExit::Lost("the test is gone".into());
        self.0.send(()).map_err(|_| gone())?;
        self.1.recv().map_err(|_| gone())
    }
}

#[test]
fn a_vcpu_that_another_processor_uses() {
    static STORAGE: HostStorage<(), Slow, 1, GRANULES> = HostStorage::new();
    let layout = RegionLayout::new(4096, 4096).unwrap();
    let new = || {
        let heap = HeapLayout::from_size_align(layout.len() as usize, 4096).unwrap();
        // SAFETY: a layout has more than 0 bytes.
        let base = unsafe { alloc_zeroed(heap) };
        // SAFETY: the bytes are never freed, and only this host uses them.
        unsafe { RegionMemory::permanent(base, layout.len()) }
    };
    let ((running, is_running), (trap, traps)) = (mpsc::channel(), mpsc::channel());
    let host = StaticHost::builder(&STORAGE, new(), layout);
    let host = host.connect((), [Slow(running, traps)]).unwrap();
    thread::scope(|scope| {
        let runs = scope.spawn(|| host.run());
        is_running.recv().unwrap();
        let Err(ConnectError::Call(busy)) = host.run() else { panic!() };
        assert_eq!(busy.kind(), ErrorKind::Busy);
        assert_eq!(host.restart(|_| panic!("a vCPU is in use")), Err(ResetError::Busy));
        assert_eq!(host.reset(|_| panic!("a vCPU is in use")), Err(ResetError::Busy));
        assert!(host.checkpoint(|_| panic!("a vCPU is in use")).is_err());
        let error = GuestClient::from(host.guest()).triple(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        trap.send(ready()).unwrap();
        assert_eq!(runs.join().unwrap(), Ok(RunOutcome::Ready));
        // A stop is felt at the next trap.
        let upcall = scope.spawn(|| GuestClient::from(host.guest()).triple(1));
        is_running.recv().unwrap();
        host.stop();
        trap.send(call(1 << 50, 0, 0)).unwrap();
        let error = upcall.join().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    });
    let again = StaticHost::builder(&STORAGE, new(), layout);
    let again = again.connect((), [Slow(mpsc::channel().0, mpsc::channel().1)]);
    assert_eq!(again.unwrap_err(), RegionError::Taken);
}

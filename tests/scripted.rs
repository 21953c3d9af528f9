//! A host with a scripted guest: registers that no honest guest's end would send.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::alloc::{Layout as HeapLayout, alloc_zeroed, dealloc};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    CallError, ConnectError, ErrorKind, ForeignBuf, MAX_DEPTH, PAGE_SIZE, Peer, RegionError,
    RegionLayout, RegionMemory, Serve, SharedBuf,
    abi::{Registers, Transport, answer, trap},
    host::{CpuClock, GuestExit, Host, HostBuilder, Limits, ResetError, RunOutcome, Stopper, Vcpu},
};

vmffi::ffi_interface! {
    pub interface Down {
        fn down() -> u32;
    }

    pub interface Store {
        fn fetch() -> ForeignBuf;
    }
}

/// Calls the guest back, and ignores the result.
struct Server;

impl Down for Server {
    fn down(&self, guest: &Peer) -> Result<u32, CallError> {
        Ok(DownClient::from(guest).down().map_or(1, |more| more + 1))
    }
}

impl Store for Server {
    fn fetch(&self, guest: &Peer) -> Result<SharedBuf, CallError> {
        // Whether or not the guest receives it.
        let _ = DownClient::from(guest).down();
        SharedBuf::copy_from(guest, b"a result")
    }
}

vmffi::serve!(Server: Down, Store);

/// Zeroed memory that begins at a page.
struct Pages(*mut u8, HeapLayout);

// SAFETY: the memory is owned, and any thread may use it.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `host` with the same layout.
        unsafe { dealloc(self.0, self.1) }
    }
}

fn host<V: Vcpu + 'static>(server: impl Serve, vcpu: V) -> Host<V> {
    limited(Limits::new(), server, vcpu)
}

fn limited<V: Vcpu + 'static>(limits: Limits, server: impl Serve, vcpu: V) -> Host<V> {
    let layout = RegionLayout::new(PAGE_SIZE, PAGE_SIZE).unwrap();
    let heap = HeapLayout::from_size_align(layout.len() as usize, PAGE_SIZE as usize).unwrap();
    // SAFETY: the layout of a region has more than 0 bytes.
    let base = unsafe { alloc_zeroed(heap) };
    assert!(!base.is_null());
    let keep = Box::new(Pages(base, heap));
    // SAFETY: the memory lives until `keep` is dropped, and no real guest writes to it.
    let memory = unsafe { RegionMemory::new(base, layout.len(), keep) };
    HostBuilder::new(memory, layout).limits(limits).build(server, [vcpu]).unwrap()
}

fn word(kind: u64, word: u64, primary: u64) -> Registers {
    Registers { kind, word, transport: Transport::word(primary) }
}

/// Answers each upcall with a call, as long as there are any, and ignores the depth.
struct Bottomless {
    open: u32,
    /// The depth that the guest reached, and the answer that it got there.
    deepest: Arc<Mutex<Vec<(u32, Registers)>>>,
}

impl Vcpu for Bottomless {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        match answer {
            Some(told) if told.kind == answer::ANSWER => {
                if self.deepest.lock().unwrap().is_empty() || self.open == 1 {
                    self.deepest.lock().unwrap().push((self.open, told));
                }
                self.open -= 1;
                match self.open {
                    0 => Ok(word(trap::READY, 0, 0)),
                    _ => {
                        self.open -= 1;
                        Ok(word(trap::RETURN, 0, told.transport.primary + 1))
                    }
                }
            }
            upcall => {
                self.open += 1 + u32::from(upcall.is_some());
                Ok(word(trap::CALL, ParamsDownDown::FUNCTION.signature, 0))
            }
        }
    }
}

/// ABI, "Nesting" N-2: the callee checks the depth as well, so a guest that ignores it gets no
/// deeper than one that does not.
#[test]
fn a_guest_that_ignores_the_depth_gets_no_deeper() {
    let deepest = Arc::default();
    let host = host(Server, Bottomless { open: 0, deepest: Arc::clone(&deepest) });
    assert_eq!(host.run().unwrap(), RunOutcome::Ready);
    let deepest = deepest.lock().unwrap();
    // Call number 17 was refused, and the 16 around it were answered.
    assert_eq!(deepest[0], (MAX_DEPTH + 1, word(answer::ANSWER, ErrorKind::TooDeep as u64, 0)));
    assert_eq!(deepest[1], (1, word(answer::ANSWER, 0, u64::from(MAX_DEPTH))));
    assert_eq!(deepest.len(), 2);
}

/// Completes its steps in their order.
struct Steps(Vec<Result<Registers, GuestExit>>);

impl Vcpu for Steps {
    fn run(&mut self, _: Option<Registers>) -> Result<Registers, GuestExit> {
        assert!(!self.0.is_empty(), "a guest that has ended is not run again");
        self.0.remove(0)
    }
}

/// ABI, "Arenas and loans" A-6: a guest that ends in an upcall never gets the result of the call whose
/// handler has made the upcall, so the loans of that result end.
#[test]
fn the_result_for_a_guest_that_has_ended() {
    let call = Ok(word(trap::CALL, ParamsStoreFetch::FUNCTION.signature, 0));
    for (end, ran) in [
        (Ok(word(trap::EXIT, 7, 0)), Ok(RunOutcome::Exited(7))),
        (Ok(word(trap::READY, 0, 0)), Err(ErrorKind::Protocol)),
        (Err(GuestExit::Stopped), Err(ErrorKind::Cancelled)),
    ] {
        let host = host(Server, Steps(vec![call.clone(), end.clone()]));
        let why = |error| match error {
            ConnectError::Exited(end) => end.kind(),
            error => panic!("{error}"),
        };
        assert_eq!(host.run().map_err(why), ran);
        assert_eq!(host.guest().arena_stats().blocks, 0, "{end:?}");
    }
}

/// The same for a guest that is stopped while no thread runs it.
#[test]
fn the_loans_of_a_stopped_guest_end() {
    let call = Ok(word(trap::CALL, ParamsStoreFetch::FUNCTION.signature, 0));
    let down = Ok(word(trap::RETURN, 0, 0));
    let host = host(Server, Steps(vec![call, down, Ok(word(trap::READY, 0, 0))]));
    assert_eq!(host.run().unwrap(), RunOutcome::Ready);
    assert_eq!(host.guest().arena_stats().blocks, 1, "the result");
    let stopper = host.stopper();
    stopper.stop();
    assert_eq!(host.guest_exit(), Some(GuestExit::Stopped));
    let error = DownClient::from(host.guest()).down().unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, false));
    assert_eq!(host.guest().arena_stats().blocks, 0);
    drop(host);
    stopper.stop(); // no thread runs the guest
}

/// A vCPU that saves its progress, as an embedder's own would, and may fail to save or restore it.
struct Keeper {
    steps: Steps,
    kept: Option<Vec<Result<Registers, GuestExit>>>,
    fails: [bool; 2],
}

impl Vcpu for Keeper {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        self.steps.run(answer)
    }

    fn snapshot(&mut self, _: &AtomicBool) -> std::io::Result<()> {
        if self.fails[0] {
            return Err(std::io::Error::other("no room"));
        }
        self.kept = Some(self.steps.0.clone());
        Ok(())
    }

    fn restore(&mut self) -> std::io::Result<()> {
        if self.fails[1] {
            return Err(std::io::Error::other("no luck"));
        }
        self.steps.0 = self.kept.clone().expect("saved before");
        Ok(())
    }
}

/// A vCPU of the embedder takes part in resets by two methods, and their failures end the guest.
#[test]
fn resets_of_an_embedders_vcpus() {
    let started = |fails| {
        let steps = Steps(vec![
            Ok(word(trap::READY, 0, 0)),
            Ok(word(trap::RETURN, 0, 5)),
            Ok(word(trap::READY, 0, 0)),
        ]);
        let host = host(Server, Keeper { steps, kept: None, fails });
        assert_eq!(host.reset(), Err(ResetError::NotStarted));
        assert_eq!(host.run(), Ok(RunOutcome::Ready));
        host
    };
    let ends = |host: &Host<Keeper>| {
        assert_eq!(DownClient::from(host.guest()).down(), Ok(5));
        let error = DownClient::from(host.guest()).down().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "`READY` in an upcall");
    };
    let failed = |why: &str| Err(ResetError::Failed(why.into()));

    let keeper = started([false, false]);
    for _ in 0..3 {
        ends(&keeper);
        assert_eq!(keeper.reset(), Ok(()));
    }
    // A vCPU that cannot be saved is no error until it is saved.
    let unkept = started([true, false]);
    ends(&unkept);
    assert_eq!(unkept.reset(), failed("no room"));
    assert!(matches!(unkept.guest_exit(), Some(GuestExit::Protocol(_))), "the same end");
    // A vCPU that cannot be restored has ended its guest, whether in time or not.
    let lost = started([false, true]);
    assert_eq!(lost.reset(), failed("no luck"));
    assert_eq!(lost.guest_exit(), Some(GuestExit::Lost("no luck".into())));
    let error = DownClient::from(lost.guest()).down().unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, false));
    // A vCPU without these methods.
    let plain = host(Server, Steps(vec![Ok(word(trap::READY, 0, 0))]));
    assert_eq!(plain.run(), Ok(RunOutcome::Ready));
    assert_eq!(plain.reset(), failed("this kind of vCPU has no snapshots"));
    assert_eq!(plain.guest_exit(), None);
}

/// Saves until it is stopped, as a vCPU would that copies much memory.
struct SlowKeeper;

impl Vcpu for SlowKeeper {
    fn run(&mut self, _: Option<Registers>) -> Result<Registers, GuestExit> {
        Ok(word(trap::READY, 0, 0))
    }

    fn snapshot(&mut self, cancelled: &AtomicBool) -> std::io::Result<()> {
        let begin = Instant::now();
        while !cancelled.load(Ordering::Relaxed) {
            assert!(begin.elapsed() < Duration::from_secs(20), "it was not stopped");
            thread::sleep(Duration::from_millis(1));
        }
        Err(std::io::ErrorKind::Interrupted.into())
    }
}

/// The time of saving counts for the deadline, and a stop ends it. No lock is held meanwhile.
#[test]
fn saving_ends_with_a_deadline_or_a_stop() {
    let host = host(Server, SlowKeeper);
    let Err(ConnectError::Exited(end)) = host.with_deadline(Duration::from_millis(50)).run() else {
        panic!("the deadline was not exceeded")
    };
    assert_eq!(end, GuestExit::Deadline);
    assert_eq!(host.reset(), Err(ResetError::NotStarted));

    let host = self::host(Server, SlowKeeper);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            assert_eq!(host.guest_exit(), None, "another thread can query the guest");
            let error =
                DownClient::from(host.with_deadline(Duration::from_millis(1)).guest()).down();
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Busy, "a call is refused in time");
            host.stopper().stop();
        });
        let Err(ConnectError::Exited(end)) = host.run() else { panic!("it was not stopped") };
        assert_eq!(end, GuestExit::Stopped);
    });
}

/// Panics at one of its steps.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Run,
    Settle,
    Keep,
    Restore,
}

struct Panics(Step, u32);

impl Panics {
    fn at(&self, step: Step) {
        if self.0 == step {
            std::panic::resume_unwind(Box::new("quietly"));
        }
    }
}

impl Vcpu for Panics {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        self.1 += 1;
        match answer {
            None => Ok(word(trap::READY, 0, 0)),
            Some(_) if self.1 == 2 => Ok(word(trap::RETURN, 0, 5)),
            Some(_) => {
                self.at(Step::Run);
                Ok(word(trap::RETURN, 0, 5))
            }
        }
    }

    fn settle(&mut self) -> std::io::Result<()> {
        if self.1 > 1 {
            self.at(Step::Settle);
        }
        Ok(())
    }

    fn snapshot(&mut self, _: &AtomicBool) -> std::io::Result<()> {
        self.at(Step::Keep);
        Ok(())
    }

    fn restore(&mut self) -> std::io::Result<()> {
        self.at(Step::Restore);
        Ok(())
    }
}

/// A vCPU of the embedder that panics is not lost, and its guest has ended, since its state is unknown.
#[test]
fn a_vcpu_that_panics_ends_its_guest() {
    for step in [Step::Run, Step::Settle, Step::Keep, Step::Restore] {
        let host = host(Server, Panics(step, 0));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert_eq!(host.run(), Ok(RunOutcome::Ready));
            assert_eq!(DownClient::from(host.guest()).down(), Ok(5));
            let lent = DownClient::from(host.guest()).down();
            assert_eq!(lent, Ok(5));
            assert_eq!(host.reset(), Ok(()));
        }));
        assert!(panicked.is_err());
        assert_eq!(host.guest_exit(), Some(GuestExit::Lost("a vCPU panicked".into())));
        // No thread holds the vCPU.
        let error = DownClient::from(host.guest()).down().unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, false));
        assert_eq!(host.guest().arena_stats().blocks, 0);
        if step == Step::Run {
            assert_eq!(host.reset(), Ok(()));
            assert_eq!(host.guest_exit(), None);
        }
    }
}

/// Memory that does not match its layout is refused, and freed.
#[test]
fn memory_that_cannot_be_a_region() {
    struct Counted(Arc<()>);
    let layout = RegionLayout::new(PAGE_SIZE, PAGE_SIZE).unwrap();
    let kept = Arc::new(());
    let pages = vec![0_u8; layout.len() as usize + PAGE_SIZE as usize];
    let base = pages.as_ptr().cast_mut();
    let base = base.wrapping_add(base.align_offset(PAGE_SIZE as usize));
    let refused = |skip: usize, len: u64| {
        let (at, keep) = (base.wrapping_add(skip), Box::new(Counted(kept.clone())));
        assert_eq!(Arc::strong_count(&keep.0), 2);
        // SAFETY: the bytes live until `pages` is dropped, and memory that is refused is not used.
        let memory = unsafe { RegionMemory::new(at, len, keep) };
        let vcpus: [Box<dyn Vcpu>; 0] = [];
        let host = HostBuilder::new(memory, layout).build((), vcpus);
        assert_eq!(Arc::strong_count(&kept), 1);
        host.map(drop).unwrap_err()
    };
    let (len, needed) = (layout.len() - 1, layout.len());
    assert_eq!(refused(0, len), RegionError::TooSmall { len, needed });
    let address = base.addr() as u64 + 8;
    assert_eq!(refused(8, needed), RegionError::Misaligned { address });
}

/// The reading of its clock in milliseconds, if it has one.
#[derive(Default)]
struct Clock {
    milliseconds: AtomicU64,
    broken: AtomicBool,
    panics: AtomicBool,
    stopped: AtomicBool,
}

impl Clock {
    fn read(&self) -> Option<Duration> {
        assert!(!self.panics.load(Ordering::Acquire), "a clock of the embedder");
        let broken = self.broken.load(Ordering::Acquire);
        (!broken).then(|| Duration::from_millis(self.milliseconds.load(Ordering::Acquire)))
    }
}

/// Runs for a given time, or until it is stopped.
struct Clocked<R> {
    clock: Arc<Clock>,
    runs: R,
}

impl<R: FnMut(&Clock) -> Duration + Send> Vcpu for Clocked<R> {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        let (began, lasts) = (Instant::now(), (self.runs)(&self.clock));
        while began.elapsed() < lasts {
            if self.clock.stopped.load(Ordering::Acquire) {
                return Err(GuestExit::Stopped);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(word(if answer.is_some() { trap::RETURN } else { trap::READY }, 0, 7))
    }

    fn stopper(&self) -> Stopper {
        let clock = self.clock.clone();
        Stopper::new(move || clock.stopped.store(true, Ordering::Release))
    }

    fn cpu_clock(&self) -> Option<CpuClock> {
        let clock = self.clock.clone();
        Some(CpuClock::new(move || clock.read()))
    }
}

const CPU_TIME: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_millis(200);
const ENDLESS: Duration = Duration::from_secs(3600);

fn clocked(runs: impl FnMut(&Clock) -> Duration + Send + 'static) -> Host<impl Vcpu + 'static> {
    let clock = Arc::default();
    let host = limited(Limits::new().cpu_time(CPU_TIME), Server, Clocked { clock, runs });
    assert_eq!(host.run(), Ok(RunOutcome::Ready));
    host
}

/// Only the readings of the clock count, from the beginning of each call on.
#[test]
fn processor_time_is_read_from_the_clock() {
    let mut first = true;
    let host = clocked(move |clock| {
        // A call ten times as long as the limit uses all of it but a millisecond, since the time before the call does not count.
        let used = CPU_TIME.as_millis() as u64 - 1;
        clock.milliseconds.fetch_add(used, Ordering::AcqRel);
        if core::mem::take(&mut first) { Duration::ZERO } else { LONG }
    });
    for _ in 0..3 {
        assert_eq!(DownClient::from(host.guest()).down(), Ok(7));
    }
    assert_eq!(host.guest_exit(), None);
}

#[test]
fn a_clock_that_reaches_the_limit() {
    let mut runs = 0;
    let host = clocked(move |clock| {
        runs += 1;
        if runs == 1 {
            return Duration::ZERO;
        }
        clock.milliseconds.fetch_add(CPU_TIME.as_millis() as u64, Ordering::AcqRel);
        ENDLESS
    });
    let error = DownClient::from(host.guest()).down().unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    assert_eq!(host.guest_exit(), Some(GuestExit::CpuTime));
}

/// A guest whose time cannot be measured does not run, or does not continue: without a clock, with one that fails before a call,
/// and with one that fails or panics during a call.
#[test]
fn processor_time_that_cannot_be_measured() {
    let lost = |exit: Option<GuestExit>| {
        let Some(GuestExit::Lost(why)) = exit else { panic!("{exit:?}") };
        assert!(why.contains("Limits::cpu_time"), "{why}");
    };
    let without = limited(Limits::new().cpu_time(CPU_TIME), Server, Steps(Vec::new()));
    let Err(ConnectError::Exited(exit)) = without.run() else { panic!("it has run") };
    lost(Some(exit));

    let host = clocked(|clock| {
        clock.broken.store(true, Ordering::Release);
        Duration::ZERO
    });
    let error = DownClient::from(host.guest()).down().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerDied);
    lost(host.guest_exit());

    for panics in [false, true] {
        let mut first = true;
        let host = clocked(move |clock| {
            if core::mem::take(&mut first) {
                return Duration::ZERO;
            }
            let fails = if panics { &clock.panics } else { &clock.broken };
            fails.store(true, Ordering::Release);
            ENDLESS
        });
        let error = DownClient::from(host.guest()).down().unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
        lost(host.guest_exit());
    }
}

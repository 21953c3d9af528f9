//! A host's program once its processor is set up: connects guests, and checks what comes of it.

use core::{
    fmt,
    sync::atomic::{AtomicU32, Ordering},
};

use spin::Mutex;
use vmffi::{
    CallError, ConnectError, ErrorKind, Failure, ForeignBuf, ForeignList, ForeignStr, List, Peer,
    RegionMemory, SharedBuf, SharedStr, abi,
    host::{GuestExit, HostStorage, Limits, ProtocolViolation, RunOutcome, StaticHost, Vcpu},
};

use crate::{
    Board, Entry, GRANULES, LAYOUT, OpenError, Program, ProgramClient, Service, ServiceClient,
    Stat,
    guest::{COUNT, ENTRIES, filled, sum, total},
    mode,
};

/// What an architecture brings: how to print, and how a guest comes to be.
pub trait Platform {
    /// The only vCPU of a guest.
    type Vcpu: Vcpu + 'static;

    /// How many times as many instructions as a bare trap a call with a scalar may take.
    const CALL_LIMIT: u64 = 2;

    /// Prints a line.
    fn print(line: fmt::Arguments<'_>);

    /// Loads the guest's image into the memory of a slot, 0 or 1, in which everything else that a guest can write is zero (the
    /// region's header and the host's arena are the host's, and stay), and makes a vCPU that enters
    /// it with `mode` and the region's address as arguments. Each slot is in the same place each time. The guest reaches
    /// nothing but its slot, of which the region's header and the host's arena are read-only. Returns the region, as the host
    /// reaches it.
    fn machine(&mut self, slot: usize, mode: u64) -> (Self::Vcpu, RegionMemory);

    /// An address of the host's memory that is none in the guest's.
    fn address_of_host(&self) -> u64;
}

/// The storage of the host's ends of both guests.
pub struct Storage<V: 'static> {
    board: HostStorage<Server, V, 1, GRANULES>,
    service: HostStorage<Nothing, V, 1, GRANULES>,
}

impl<V> Storage<V> {
    /// Empty storage, for a static.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it is only made in a static")]
    pub const fn new() -> Self {
        Self { board: HostStorage::new(), service: HostStorage::new() }
    }
}

impl<V> fmt::Debug for Storage<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
    }
}

/// What the second guest's host serves, which is nothing that this suite tests.
struct Nothing;

vmffi::serve!(Nothing; calls Service);

/// What the host serves to the first guest.
struct Server {
    print: fn(fmt::Arguments<'_>),
    /// The second guest.
    service: &'static Peer,
    results: &'static Results,
    /// [`Platform::CALL_LIMIT`].
    call_limit: u64,
}

vmffi::serve!(Server: Board; calls Program);

/// The results of all checks.
struct Results {
    passed: AtomicU32,
    failed: AtomicU32,
    kept: Mutex<Option<ForeignBuf>>,
}

static RESULTS: Results =
    Results { passed: AtomicU32::new(0), failed: AtomicU32::new(0), kept: Mutex::new(None) };

impl Results {
    fn check(&self, print: fn(fmt::Arguments<'_>), name: &str, passed: bool) {
        let (count, word) = if passed { (&self.passed, "ok") } else { (&self.failed, "FAILED") };
        count.fetch_add(1, Ordering::Relaxed);
        print(format_args!("{name} ... {word}"));
    }
}

impl Board for Server {
    fn double(&self, _: &Peer, value: u64) -> Result<u64, CallError> {
        Ok(value * 2 + u64::from(cfg!(feature = "broken")))
    }

    fn add(&self, _: &Peer, a: u64, b: u32, c: u8) -> Result<u64, CallError> {
        Ok(a + u64::from(b) + u64::from(c))
    }

    fn checksum(&self, _: &Peer, data: ForeignBuf) -> Result<u64, CallError> {
        sum(&data)
    }

    fn fill(&self, guest: &Peer, len: u32, byte: u8) -> Result<SharedBuf, CallError> {
        filled(guest, len, byte)
    }

    fn echo(&self, guest: &Peer, text: ForeignStr) -> Result<SharedStr, CallError> {
        let mut copy = [0; 100];
        SharedStr::copy_from(guest, text.read_into(&mut copy)?)
    }

    fn open(&self, _: &Peer, path: ForeignStr) -> Result<u64, Failure<OpenError>> {
        let mut copy = [0; 100];
        match path.read_into(&mut copy)? {
            "motd" => Ok(3),
            "secret" => Err(Failure::App(OpenError::Denied)),
            _ => Err(Failure::App(OpenError::NotFound)),
        }
    }

    fn stat(&self, _: &Peer, _: u64) -> Result<Stat, CallError> {
        Ok(Stat { size: 1234, mode: 0o644, links: 1 })
    }

    fn total(&self, _: &Peer, entries: ForeignList<Entry>) -> Result<u64, CallError> {
        total(entries)
    }

    fn nest(&self, guest: &Peer, depth: u32) -> Result<u32, CallError> {
        match depth {
            0 => Ok(0),
            _ => Ok(ProgramClient::from(guest).nest(depth - 1)? + 1),
        }
    }

    fn keep(&self, _: &Peer, data: ForeignBuf) -> Result<(), CallError> {
        *self.results.kept.lock() = Some(data);
        Ok(())
    }

    fn relay(&self, _: &Peer, value: u64) -> Result<u64, CallError> {
        ServiceClient::from(self.service).twice(value)
    }

    fn pass(&self, _: &Peer, signature: u64, value: u64) -> Result<u64, CallError> {
        // SAFETY: between a host and its guest any words are safe to send, since the guest validates all of them.
        let answer = unsafe { self.service.call(signature, abi::Transport::word(value)) };
        match answer.status {
            0 => Ok(answer.transport.primary),
            status => Err(CallError::from_status(status)),
        }
    }

    fn report(&self, _: &Peer, check: ForeignStr, passed: bool) -> Result<(), CallError> {
        let mut copy = [0; 100];
        let name = check.read_into(&mut copy)?;
        let print = self.print;
        self.results.check(print, name, passed);
        Ok(())
    }

    fn counted(&self, _: &Peer, bare: u64, calls: u64) -> Result<(), CallError> {
        let (print, limit) = (self.print, self.call_limit);
        print(format_args!(
            "{COUNT} bare traps take {bare} ticks, as many calls with a scalar {calls}: {}.{:02} times as many, of {limit}",
            calls / bare.max(1),
            calls * 100 / bare.max(1) % 100,
        ));
        self.results.check(print, "a call takes no more than it may", calls <= limit * bare);
        Ok(())
    }
}

/// Runs all guests, and prints a line for each check. Returns the number of checks that have failed.
pub fn main<P: Platform>(platform: &mut P, storage: &'static Storage<P::Vcpu>) -> u32 {
    // A platform may run the suite once for each way in which its guests trap.
    RESULTS.passed.store(0, Ordering::Relaxed);
    RESULTS.failed.store(0, Ordering::Relaxed);
    let check = |name: &str, passed: bool| RESULTS.check(P::print, name, passed);
    let limits = || Limits::new().calls(100_000).lent_blocks(200);

    let (vcpu, region) = platform.machine(1, mode::SERVICE);
    let service = StaticHost::builder(&storage.service, region, LAYOUT).limits(limits());
    let Ok(service) = service.connect(Nothing, [vcpu]) else { return u32::MAX };
    let runs = service.run();
    check("a guest that serves another one", matches!(runs, Ok(RunOutcome::Ready)));

    let (vcpu, region) = platform.machine(0, mode::CALLS);
    let server = Server {
        print: P::print,
        service: service.guest(),
        results: &RESULTS,
        call_limit: P::CALL_LIMIT,
    };
    let host = StaticHost::builder(&storage.board, region, LAYOUT).limits(limits());
    let Ok(host) = host.connect(server, [vcpu]) else { return u32::MAX };
    let early = ProgramClient::from(host.guest()).triple(1).map_err(|error| error.kind());
    check("an upcall before the guest waits", early == Err(ErrorKind::Busy));
    let runs = host.run();
    check("a guest that makes calls", matches!(runs, Ok(RunOutcome::Ready)));
    upcalls(host.guest(), &check);
    let runs = host.run();
    check("a guest that exits", matches!(runs, Ok(RunOutcome::Exited(0))));
    let late = ProgramClient::from(host.guest()).triple(1).map_err(|error| error.kind());
    check("an upcall after that", late == Err(ErrorKind::PeerDied));
    let kept = RESULTS.kept.lock().take();
    let bytes = kept.as_ref().map(|kept| kept.read_at(999, &mut [0]));
    check("a handle whose guest has exited", matches!(bytes, Some(Ok(()))));

    let address = platform.address_of_host();
    let mut again = |mode: u64| {
        let renewed = host.restart(|vcpus| {
            vcpus.for_each(|vcpu| *vcpu = platform.machine(0, mode).0);
            Ok(())
        });
        check("a guest that starts anew", renewed.is_ok());
        let ran = host.run();
        if let Err(error) = &ran {
            P::print(format_args!("    {error}"));
        }
        ran
    };
    check("a guest that forges words", matches!(again(mode::HOSTILE), Ok(RunOutcome::Ready)));
    let bytes = kept.as_ref().map(|kept| kept.read_at(0, &mut [0]).map_err(|error| error.kind()));
    check("a handle of an earlier life", bytes == Some(Err(ErrorKind::Stale)));
    drop(kept);
    check(
        "a guest with another declaration",
        matches!(again(mode::UNFIT), Err(ConnectError::Contract(_))),
    );
    check("a guest that reads its host's memory", is_fault(again(mode::READS_HOST | address << 8)));
    check("a guest that writes to its host's arena", is_fault(again(mode::WRITES_ARENA)));
    check(
        "a guest that panics",
        matches!(again(mode::PANICS), Ok(RunOutcome::Exited(abi::exit::PANICKED))),
    );
    let protocol = GuestExit::Protocol(ProtocolViolation::Order(abi::trap::RETURN));
    check(
        "a guest that returns from nothing",
        again(mode::RETURNS) == Err(ConnectError::Exited(protocol)),
    );
    check("a guest that counts", matches!(again(mode::COUNTS), Ok(RunOutcome::Ready)));
    check("an honest guest after all these", matches!(again(mode::CALLS), Ok(RunOutcome::Ready)));
    upcalls(host.guest(), &check);
    check("nothing is left in the arena", host.guest().arena_stats().blocks == 0);

    let (passed, failed) = (&RESULTS.passed, &RESULTS.failed);
    let (passed, failed) = (passed.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    P::print(format_args!("{passed} passed, {failed} failed"));
    // A guest whose reports do not come makes fewer checks.
    if passed + failed == CHECKS { failed } else { failed.max(1) }
}

/// How many checks there are: a guest that ends too early makes fewer.
const CHECKS: u32 = 86;

fn is_fault(ran: Result<RunOutcome, ConnectError>) -> bool {
    matches!(ran, Err(ConnectError::Exited(GuestExit::Fault(_))))
}

/// Calls a guest that waits.
fn upcalls(guest: &Peer, check: &dyn Fn(&str, bool)) {
    let program = ProgramClient::from(guest);
    check("an upcall with a scalar", program.triple(14) == Ok(42));
    check("an upcall with a buffer", program.checksum(&[3; 700]) == Ok(2100));
    let filled = program.fill(900, 2).and_then(|bytes| sum(&bytes));
    check("an upcall that returns a buffer", filled == Ok(1800));
    check("an upcall with a list", program.total(&List::from(&ENTRIES)) == Ok(60));
    check("an upcall that nests", program.nest(9) == Ok(9));
    let deep = program.nest(40).map_err(|error| error.kind());
    check("an upcall that nests too deeply", deep == Err(ErrorKind::TooDeep));
}

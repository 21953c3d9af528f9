//! A guest's program after its entry point.

use vmffi::{
    CallError, ErrorKind, Failure, ForeignBuf, ForeignList, List, Peer, RegionMemory, SharedBuf,
    abi::{self, Registers, Transport},
    arch::Trap,
    guest::{Guest, GuestStorage},
};

use crate::{
    Board, BoardClient, Entry, GRANULES, LAYOUT, OpenError, ParamsServiceTwice, Program, Service,
    Stat, mode,
};

/// The storage of a guest that traps by `T`, whatever its mode is.
#[derive(Debug)]
pub struct Storage<T> {
    fit: GuestStorage<Server, T, GRANULES>,
    service: GuestStorage<Servant, T, GRANULES>,
    unfit: GuestStorage<unfit::Server, T, GRANULES>,
}

impl<T> Storage<T> {
    /// Empty storage, for a static.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it is only made in a static")]
    pub const fn new() -> Self {
        Self { fit: GuestStorage::new(), service: GuestStorage::new(), unfit: GuestStorage::new() }
    }
}

/// What a guest's entry point brings.
#[derive(Clone, Copy, Debug)]
pub struct Entered<T> {
    /// What the guest does ([`mode`]).
    pub mode: u64,
    /// The address of the region.
    pub region: usize,
    /// How it traps.
    pub trap: T,
    /// Makes a trap that is no call of this ABI, to which the host answers at once.
    pub bare: fn(),
    /// A clock that advances with each instruction.
    pub ticks: fn() -> u64,
}

/// What a guest serves to its host.
#[derive(Debug)]
pub struct Server;

vmffi::serve!(Server: Program; calls Board);

impl Program for Server {
    fn triple(&self, _: &Peer, value: u64) -> Result<u64, CallError> {
        Ok(value * 3)
    }

    fn checksum(&self, _: &Peer, data: ForeignBuf) -> Result<u64, CallError> {
        sum(&data)
    }

    fn fill(&self, host: &Peer, len: u32, byte: u8) -> Result<SharedBuf, CallError> {
        filled(host, len, byte)
    }

    fn nest(&self, host: &Peer, depth: u32) -> Result<u32, CallError> {
        match depth {
            0 => Ok(0),
            _ => Ok(BoardClient::from(host).nest(depth - 1)? + 1),
        }
    }

    fn total(&self, _: &Peer, entries: ForeignList<Entry>) -> Result<u64, CallError> {
        total(entries)
    }
}

/// What a guest serves that another one calls, through their host.
#[derive(Debug)]
pub struct Servant;

vmffi::serve!(Servant: Service);

impl Service for Servant {
    fn twice(&self, _: &Peer, value: u64) -> Result<u64, CallError> {
        Ok(value * 2)
    }
}

pub(crate) fn sum(data: &ForeignBuf) -> Result<u64, CallError> {
    let (mut sum, mut part) = (0, [0; 100]);
    for at in (0..data.len()).step_by(part.len()) {
        let part = &mut part[..(data.len() - at).min(100)];
        data.read_at(at, part)?;
        sum += part.iter().copied().map(u64::from).sum::<u64>();
    }
    Ok(sum)
}

pub(crate) fn filled(peer: &Peer, len: u32, byte: u8) -> Result<SharedBuf, CallError> {
    let mut bytes = SharedBuf::zeroed(peer, len as usize)?;
    bytes.as_mut_slice().fill(byte);
    Ok(bytes)
}

pub(crate) fn total(entries: ForeignList<Entry>) -> Result<u64, CallError> {
    let mut copy = [0; 2048];
    let entries = entries.read_into(&mut copy)?;
    Ok(entries.iter().filter(|entry| !entry.name.is_empty()).map(|entry| entry.value).sum())
}

/// The entries whose total is 60.
pub(crate) const ENTRIES: [Entry<'static>; 4] = [
    Entry { name: "ten", value: 10 },
    Entry { name: "", value: 7 },
    Entry { name: "a name with more letters than the others", value: 20 },
    Entry { name: "thirty", value: 30 },
];

/// Connects, does what the mode says, and exits.
///
/// # Safety
///
/// At `entered.region` is a region that the host has laid out ([`RegionMemory::permanent`]), which nothing else uses.
pub unsafe fn main<T: Trap + Copy + Send + Sync + 'static>(
    storage: &'static Storage<T>,
    entered: Entered<T>,
) -> ! {
    let Entered { mode, trap, .. } = entered;
    let base = core::ptr::with_exposed_provenance_mut(entered.region);
    // SAFETY: the caller promises it.
    let region = unsafe { RegionMemory::permanent(base, LAYOUT.len()) };
    if mode == mode::UNFIT {
        // The host does not resume a guest whose contract does not fit.
        let connected = Guest::connect(&storage.unfit, region, trap, unfit::Server);
        exit(&trap, if connected.is_ok() { 10 } else { abi::exit::UNCONNECTED });
    }
    if mode == mode::SERVICE {
        match Guest::connect(&storage.service, region, trap, Servant) {
            Ok(guest) => wait(guest),
            Err(_) => exit(&trap, abi::exit::UNCONNECTED),
        }
    }
    let guest = match Guest::connect(&storage.fit, region, trap, Server) {
        Ok(guest) => guest,
        Err(_) => exit(&trap, abi::exit::UNCONNECTED),
    };
    match mode & 0xff {
        mode::CALLS => calls(guest.host()),
        mode::HOSTILE => hostile(guest.host()),
        mode::READS_HOST => {
            let at = core::ptr::with_exposed_provenance::<u64>((mode >> 8) as usize);
            // SAFETY: there is no Rust object of this guest at the address: the nested page tables do not map it, and the host
            // ends the guest.
            let _ = unsafe { at.read_volatile() };
        }
        mode::WRITES_ARENA => {
            let at = base.wrapping_add(LAYOUT.arena(abi::Side::Host).0 as usize);
            // SAFETY: the bytes are those of the host's arena, which are not writable here: the host ends the guest.
            unsafe { at.write_volatile(1) };
        }
        mode::PANICS => panic!("as its host has asked"),
        mode::RETURNS => {
            let (kind, transport) = (abi::trap::RETURN, Transport::EMPTY);
            let _ = trap.trap(Registers { kind, word: 0, transport });
        }
        mode::COUNTS => counts(guest.host(), entered),
        _ => guest.exit(9),
    }
    wait(guest)
}

/// Serves upcalls, until the host resumes the guest, and exits.
fn wait<T: Trap + Copy + Send + Sync + 'static>(guest: &Guest<T>) -> ! {
    match guest.park() {
        Ok(()) => guest.exit(0),
        Err(_) => guest.exit(8),
    }
}

/// Exits without a connection.
pub fn exit(trap: &impl Trap, status: u64) -> ! {
    loop {
        let (kind, transport) = (abi::trap::EXIT, Transport::EMPTY);
        let _ = trap.trap(Registers { kind, word: status, transport });
    }
}

/// A value that the compiler does not know.
fn hidden(value: u64) -> u64 {
    core::hint::black_box(value)
}

fn calls(host: &Peer) {
    let board = BoardClient::from(host);
    let check = |name: &str, passed: bool| {
        // A check whose result cannot be told is missed by the host, which counts them.
        let _ = board.report(name, passed);
    };
    check("a scalar", board.double(hidden(21)) == Ok(42));
    check("three parameters", board.add(1 << 40, 2, 3) == Ok((1 << 40) + 5));
    let bytes: [u8; 1000] = core::array::from_fn(|nr| nr as u8);
    let expected = bytes.iter().copied().map(u64::from).sum();
    check("a borrowed buffer", board.checksum(&bytes) == Ok(expected));
    check("an empty buffer", board.checksum(&[]) == Ok(0));
    let made = SharedBuf::copy_from(host, &bytes).and_then(|bytes| board.checksum(bytes));
    check("a buffer that is made in place", made == Ok(expected));
    let filled = board.fill(5000, 7).and_then(|bytes| sum(&bytes));
    check("a returned buffer", filled == Ok(35_000));
    let echo = board.echo("how do you do");
    check("a text", echo.is_ok_and(|echo| echo.as_str() == Ok("how do you do")));
    check("a result", matches!(board.open("motd"), Ok(3)));
    let denied = board.open("secret");
    check("an error of the application", matches!(denied, Err(Failure::App(OpenError::Denied))));
    let stat = board.stat(3).map(|Stat { size, mode, links }| (size, mode, links));
    check("a struct", stat == Ok((1234, 0o644, 1)));
    check("a list of structs with texts", board.total(&List::from(&ENTRIES)) == Ok(60));
    check("calls that nest", board.nest(6) == Ok(6));
    let deep = board.nest(40).map_err(|error| error.kind());
    check("calls that nest too deeply", deep == Err(ErrorKind::TooDeep));
    check("a handle that the host keeps", board.keep(&bytes) == Ok(()));
    check("the other guest, by its declaration", board.relay(50) == Ok(100));
    let twice = ParamsServiceTwice::FUNCTION.signature;
    check("the other guest, by a signature", board.pass(twice, 60) == Ok(120));
    let unknown = board.pass(twice ^ 1, 60).map_err(|error| error.kind());
    check(
        "a function that the other guest does not have",
        unknown == Err(ErrorKind::UnknownFunction),
    );
    let mut many = 0;
    for nr in 0..3000 {
        many += u32::from(board.fill(200, nr as u8).is_ok_and(|bytes| bytes.len() == 200));
        many += u32::from(board.checksum(&bytes[..200]).is_ok());
    }
    check("six thousand buffers in an arena for a few", many == 6000);
}

/// Calls with forged words, which all fail, and of which the host reads and frees nothing.
fn hostile(host: &Peer) {
    use crate::{ParamsBoardAdd, ParamsBoardChecksum, ParamsBoardDouble, ParamsBoardReport};

    let board = BoardClient::from(host);
    let call = |signature, primary, secondary| {
        // SAFETY: between a guest and its host any words are safe to send, since the host validates all of them.
        unsafe { host.call(signature, Transport { primary, secondary }) }.status
    };
    let refused = |name: &str, status: u64, kind: ErrorKind| {
        let _ = board.report(name, CallError::from_status(status).kind() == kind);
    };
    let checksum = ParamsBoardChecksum::FUNCTION.signature;
    let add = ParamsBoardAdd::FUNCTION.signature;
    refused("an unknown signature", call(12_345, 1, 0), ErrorKind::UnknownFunction);
    refused("a reserved signature", call(0, 0, 0), ErrorKind::UnknownFunction);
    refused("a second handshake", call(abi::signature::HANDSHAKE, 0, 0), ErrorKind::Refused);
    refused("a buffer in the header", call(checksum, 0, 100), ErrorKind::BadPointer);
    let host_arena = crate::LAYOUT.arena(abi::Side::Host).0;
    let loan = 1 << 56;
    refused("a buffer of the host's", call(checksum, loan | host_arena, 64), ErrorKind::BadPointer);
    let arena = crate::LAYOUT.arena(abi::Side::Guest).0;
    refused("a buffer without a loan", call(checksum, arena, 64), ErrorKind::BadPointer);
    refused(
        "a buffer that is too long",
        call(checksum, loan | arena, 1 << 40),
        ErrorKind::BadPointer,
    );
    refused(
        "a length that overflows",
        call(checksum, loan | arena, u64::MAX),
        ErrorKind::BadPointer,
    );
    refused("parameters elsewhere", call(add, u64::MAX, 0), ErrorKind::BadPointer);
    refused("parameters at an odd offset", call(add, arena + 1, 0), ErrorKind::BadPointer);
    let double = ParamsBoardDouble::FUNCTION.signature;
    refused("a scalar with a length", call(double, 1, 1), ErrorKind::BadValue);
    let report = ParamsBoardReport::FUNCTION.signature;
    refused("no parameters", call(report, 0, 0), ErrorKind::BadPointer);
    let _ = board.report("an honest call after all these", board.double(4) == Ok(8));
}

/// The number of bare traps, and of calls, that are compared.
pub(crate) const COUNT: u64 = 1000;

fn counts<T>(host: &Peer, entered: Entered<T>) {
    let board = BoardClient::from(host);
    let Entered { bare, ticks, .. } = entered;
    let time = |work: &mut dyn FnMut()| {
        // Once before, so that nothing is new to the host.
        work();
        let start = ticks();
        (0..COUNT).for_each(|_| work());
        ticks() - start
    };
    let bare = time(&mut || bare());
    let calls = time(&mut || {
        hidden(board.double(hidden(21)).unwrap_or(0));
    });
    let _ = board.counted(bare, calls);
}

/// A declaration that differs from the host's.
mod unfit {
    vmffi::ffi_interface! {
        pub interface Board {
            fn double(value: u32) -> u32;
        }
    }

    #[derive(Debug)]
    pub struct Server;

    vmffi::serve!(Server; calls Board);
}

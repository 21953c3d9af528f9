//! The crate's guest end against a scripted host: which words it sends, and how it handles each
//! answer.

use std::collections::VecDeque;

use vmffi::abi::Registers;
use vmffi::arch::Trap;
use vmffi::{
    RegionMemory,
    guest::{Guest as Connected, GuestStorage},
};

use super::*;

const fn words(kind: u64, word: u64, primary: u64, secondary: u64) -> Registers {
    Registers { kind, word, transport: Transport { primary, secondary } }
}

/// A trap without a host: the traps that must come, and what completes each.
#[derive(Clone, Copy)]
struct Script(&'static Steps);

impl Script {
    fn set(self, steps: impl IntoIterator<Item = (Registers, Registers)>) {
        assert!(self.0.lock().unwrap().is_empty(), "a trap did not come");
        self.0.lock().unwrap().extend(steps);
    }
    /// One trap, and the answer to it.
    fn once(self, out: Registers, back: Registers) {
        self.set([(out, back)]);
    }
}

impl Trap for Script {
    fn trap(&self, out: Registers) -> Registers {
        let (expected, back) = self.0.lock().unwrap().pop_front().expect("an unexpected trap");
        assert_eq!(out, expected);
        back
    }
}

type Steps = Mutex<VecDeque<(Registers, Registers)>>;

/// A guest's end that serves `Ladder`, its script, and the region, which must outlive it.
macro_rules! connect {
    () => {{
        static PLACE: GuestStorage<Guest, Script, 192> = GuestStorage::new();
        static STEPS: Steps = Mutex::new(VecDeque::new());
        connect(&PLACE, &STEPS)
    }};
}

fn connect(
    place: &'static GuestStorage<Guest, Script, 192>,
    steps: &'static Steps,
) -> (&'static Connected<Script>, Script, Region) {
    let region = Region::new();
    let (base, len) = (region.base, region.pair.layout().len());
    handshake(&region, steps, Guest::CONTRACT);
    // SAFETY: the tests keep the region while they use the end, and make no calls through the
    // pair that has laid it out.
    let memory = unsafe { RegionMemory::permanent(base, len) };
    let end = Connected::connect(place, memory, Script(steps), Guest).unwrap();
    // The host releases the contract.
    region.poke(region.pair.layout().release_map(Side::Guest), &[1]);
    (end, Script(steps), region)
}

/// ABI, Contracts CT-2: a guest's first call hands over its contract, in the first block of its arena. This
/// host accepts it.
fn handshake(region: &Region, steps: &'static Steps, contract: &[u8]) {
    let at = region.arena(Side::Guest) | 1 << 56;
    let first = words(trap::CALL, signature::HANDSHAKE, at, contract.len() as u64);
    Script(steps).once(first, words(answer::ANSWER, 0, 0, 0));
}

/// The words of every hypercall without parameters, here.
const CALL: Registers = words(trap::CALL, ParamsVectorsNothing::FUNCTION.signature, 0, 0);

/// ABI, Traps TR-1 to TR-3 and TR-15 to TR-17, Transport T-1 and T-5: an answer, at once and after
/// two upcalls; upcalls while the guest is parked, twice.
#[test]
fn traps_and_answers_of_a_guest() {
    let (end, script, _region) = connect!();
    let vectors = VectorsClient::from(end.host());
    let answer = words(answer::ANSWER, 0, 0, 0);
    script.once(CALL, answer);
    assert_eq!(vectors.nothing(), Ok(()));

    let upcall = words(answer::UPCALL, ParamsLadderClimb::FUNCTION.signature, 1, 0);
    let done = words(trap::RETURN, 0, 1, 0);
    let narrow = words(trap::CALL, ParamsVectorsNarrow::FUNCTION.signature, -3_i64 as u64, 0);
    script.set([(narrow, upcall), (done, upcall), (done, words(answer::ANSWER, 0, 77, 0))]);
    assert_eq!(vectors.narrow(-3), Ok(77));

    // The upcall makes a hypercall of its own, which makes an upcall.
    let climb = |left| words(trap::CALL, ParamsLadderClimb::FUNCTION.signature, left, 0);
    let deeper = words(answer::UPCALL, ParamsLadderClimb::FUNCTION.signature, 2, 0);
    let eight = words(answer::ANSWER, 0, 8, 0);
    script.set([
        (CALL, deeper),
        (climb(1), upcall),
        (done, eight),
        (words(trap::RETURN, 0, 9, 0), answer),
    ]);
    assert_eq!(vectors.nothing(), Ok(()));

    let ready = words(trap::READY, 0, 0, 0);
    for _ in 0..2 {
        script.set([(ready, upcall), (done, upcall), (done, answer)]);
        assert_eq!(end.park(), Ok(()));
    }
    // RETURN reports a bad parameter, and a function that is not served.
    let bad = words(answer::UPCALL, ParamsLadderClimb::FUNCTION.signature, 1 << 32, 0);
    let unknown = words(answer::UPCALL, ParamsVectorsNothing::FUNCTION.signature, 0, 0);
    let (four, two) = (words(trap::RETURN, 4, 0, 0), words(trap::RETURN, 2, 0, 0));
    script.set([(ready, bad), (four, unknown), (two, answer)]);
    assert_eq!(end.park(), Ok(()));
    script.set([]);
}

/// ABI, Traps TR-4, Statuses S-4, Versioning V-2: an answer of another kind means that nobody claimed
/// the trap; the other words are not read, and all loans of the call end.
#[test]
fn an_unknown_kind_of_answer() {
    let (end, script, region) = connect!();
    let arena = region.arena(Side::Guest);
    // Loan 1 of the block was the contract.
    for (kind, loan) in
        [trap::CALL, trap::READY, 0, answer::UPCALL + 1, u64::MAX].into_iter().zip(2..)
    {
        let signature = ParamsVectorsSum::FUNCTION.signature;
        let call = words(trap::CALL, signature, arena | loan << 56, 2);
        script.once(call, words(kind, 0, u64::MAX, u64::MAX));
        let error = VectorsClient::from(end.host()).sum(&[7]).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Unsupported, false));
        assert_eq!(end.host().arena_stats().blocks, 0);
        script.once(words(trap::READY, 0, 0, 0), words(kind, 0, 0, 0));
        assert_eq!(end.park().unwrap_err().kind(), ErrorKind::Unsupported);
    }
    script.set([]);
}

/// ABI, Statuses S-1 to S-5, Versioning V-2, Checks C-10: the outcome of a hypercall for each answer.
#[test]
fn known_and_unknown_statuses() {
    let (end, script, _region) = connect!();
    let vectors = VectorsClient::from(end.host());
    let says = |status, primary, secondary| {
        script.once(CALL, words(answer::ANSWER, status, primary, secondary));
        vectors.nothing().map_err(|error| (error.kind(), error.reached()))
    };
    for number in 2..16_u64 {
        let why = CallError::from_status(number).kind();
        assert_eq!(why as u64, number);
        assert_eq!(says(number, 0, 0), Err((why, false)));
        assert_eq!(says(number + 64, 0, 0), Err((why, true)));
        assert_eq!(says(number, u64::MAX, 1), Err((why, false)), "S-1: not read");
    }
    for number in [1, 16, 63, 64, 65, 80, 127, 128, 130, 1 << 32, u64::MAX] {
        assert_eq!(says(number, 0, 0), Err((ErrorKind::Protocol, true)), "{number}");
    }
    assert_eq!(says(0, 1, 0), Err((ErrorKind::BadValue, true)));
    assert_eq!(says(0, 0, 1), Err((ErrorKind::BadValue, true)));
    assert_eq!(says(0, 0, 0), Ok(()));
    script.set([]);
}

/// ABI, Signatures SG-7, Transport T-3: the answer to `HAS` is a `bool`, and is validated as one.
#[test]
fn the_answer_to_has_is_validated() {
    let (end, script, _region) = connect!();
    let function = ParamsVectorsNothing::FUNCTION;
    let says = |status, primary, secondary| {
        let ask = words(trap::CALL, 1, function.signature, 0);
        script.once(ask, words(answer::ANSWER, status, primary, secondary));
        end.host().has(function).map_err(|error| (error.kind(), error.reached()))
    };
    assert_eq!([says(0, 0, 0), says(0, 1, 0)], [Ok(false), Ok(true)]);
    for (primary, secondary) in [(2, 0), (257, 0), (u64::MAX, 0), (0, 1), (1, 1)] {
        assert_eq!(says(0, primary, secondary), Err((ErrorKind::BadValue, true)));
    }
    assert_eq!(says(2, 0, 0), Err((ErrorKind::UnknownFunction, false)));
    assert_eq!(says(1, 0, 0), Err((ErrorKind::Protocol, true)));
    script.set([]);
}

/// ABI, Region header, Versioning V-1 and V-2: a guest accepts a region of its own
/// version, whatever the reserved bytes and the fields of a life contain.
#[test]
fn a_guest_connects_to_its_own_version() {
    static STEPS: Steps = Mutex::new(VecDeque::new());
    static PLACES: [GuestStorage<(), Script, 192>; 5] = [const { GuestStorage::new() }; 5];
    let bytes = [(8, 2, false), (9, 1, false), (12, 2, true), (72, 255, true), (112, 255, true)];
    for ((at, byte, right), place) in bytes.into_iter().zip(&PLACES) {
        let region = Region::new();
        region.poke(at, &[byte]);
        if right {
            handshake(&region, &STEPS, <()>::CONTRACT);
        }
        let (base, len) = (region.base, region.pair.layout().len());
        // SAFETY: the end is not used.
        let memory = unsafe { RegionMemory::permanent(base, len) };
        let end = Connected::connect(place, memory, Script(&STEPS), ());
        let refused = matches!(end, Err(ConnectError::Region(RegionError::Version { .. })));
        assert_eq!((end.is_ok(), refused), (right, !right), "byte {at}");
    }
}

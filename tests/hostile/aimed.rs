//! An attacker that changes one word between a valid and an invalid value while the victim reads it: the victim
//! uses what it has validated, since it copies the word first.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use support::{interface::*, panics, region::WRITES};
use vmffi::{
    ForeignBuf, SendAs,
    abi::{Function, Side, Transport, pointer},
};

use super::attack::{Field, StopOnDrop};

const TIME: Duration = Duration::from_millis(250);

/// A place in the attacker's arena that is valid or invalid in turn.
struct Target {
    function: &'static Function,
    transport: Transport,
    at: u64,
    good: Vec<u8>,
    bad: Vec<u8>,
}

/// Calls with a target for a while, during which it changes. Both outcomes must occur; otherwise the
/// attacker was too slow for the test.
fn duel(field: &Field, target: &Target) -> [usize; 2] {
    let stop = AtomicBool::new(false);
    let flips = AtomicUsize::new(0);
    let mut seen = [0; 2];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..16 {
                    field.attacker.write(target.at, &target.bad);
                    field.attacker.write(target.at, &target.good);
                }
                flips.fetch_add(32, Ordering::Relaxed);
            }
        });
        let _stop = StopOnDrop(&stop);
        let start = Instant::now();
        while start.elapsed() < TIME || (seen.contains(&0) && start.elapsed() < 400 * TIME) {
            let answer = field.call(target.function.signature, target.transport);
            match answer.status {
                0 => {
                    seen[0] += 1;
                    field.take(target.function.signature, answer);
                }
                // A bad pointer or value, found by dispatch or by the handler.
                3 | 4 | 67 | 68 => seen[1] += 1,
                status => panic!("{}: status {status}", target.function),
            }
        }
    });
    panics::assert_none_here();
    WRITES.fetch_add(flips.load(Ordering::Relaxed), Ordering::Relaxed);
    assert!(!seen.contains(&0), "{}: {seen:?} good and bad", target.function);
    seen
}

fn targets(field: &Field) -> Vec<(&'static str, Target)> {
    let mut all = Vec::new();
    let mut out = field.to_victim().outgoing();
    let text: Vec<u8> = vec![b'a'; 6000];
    let t = SendAs::<ForeignBuf>::into_transport(&text, &mut out).expect("room");
    let middle = pointer::offset(t.primary) + 5000;
    let function = ParamsEverythingText::FUNCTION;
    let (good, bad) = (b"a".to_vec(), b"\xff".to_vec());
    all.push(("a byte of a text", Target { function, transport: t, at: middle, good, bad }));

    let point = SendAs::<Point>::into_transport(ZERO, &mut out).expect("room");
    let mut in_point = |function, name, at: usize, good: &[u8], bad: &[u8]| {
        let at = pointer::offset(point.primary) + at as u64;
        let (good, bad) = (good.to_vec(), bad.to_vec());
        all.push((name, Target { function, transport: point, at, good, bad }));
    };
    // The wire form: `on` first, `x` at 2, `glyph` at 4, `y` at 8, `colour` at 12.
    for function in [ParamsEverythingSpot::FUNCTION, ParamsEverythingAlonePoint::FUNCTION] {
        in_point(function, "a bool", 0, &[1], &[2]);
        in_point(function, "a char", 4, &[b'a', 0, 0, 0], &[0, 0xd8, 0, 0]);
        in_point(function, "an enum", 12, &[200], &[199]);
    }

    let (_, list) = field.template(3).expect("room");
    let function = ParamsEverythingRows::FUNCTION;
    let mut in_list = |name, at: u64, good: &[u8], bad: &[u8]| {
        let at = pointer::offset(list.primary) + at;
        let (good, bad) = (good.to_vec(), bad.to_vec());
        all.push((name, Target { function, transport: list, at, good, bad }));
    };
    // The count of the list and its byte count; then the first row's fixed part, and behind it its name.
    let row = 16 + size_of::<<Row<'_> as vmffi::Packed>::Wire>() as u64;
    in_list("a count of rows", 0, &3_u64.to_le_bytes(), &u64::MAX.to_le_bytes());
    in_list("the length of a name", 16, &9_u64.to_le_bytes(), &(u64::MAX - 16).to_le_bytes());
    in_list("an enum in a list", 24, &[2], &[0]);
    in_list("a letter of a name", row, b"f", b"\xff");

    let (_, transport) = field.template(0).expect("room");
    let function = ParamsEverythingParcel::FUNCTION;
    let mut in_parcel = |name, at: u64, good: u64, bad: u64| {
        let at = pointer::offset(transport.primary) + at;
        let (good, bad) = (good.to_le_bytes().to_vec(), bad.to_le_bytes().to_vec());
        all.push((name, Target { function, transport, at, good, bad }));
    };
    // `id`, then the pointer word of `body` at 8 and its byte count at 16.
    in_parcel("a byte count", 16, 130, u64::MAX);
    let (start, len) = field.attacker.layout.arena(field.attacker.victim.other());
    in_parcel("a byte count by one", 16, 128, len + 1);
    in_parcel("a pointer", 8, pointer::join(start, 1), pointer::join(start + len - 64, 1));
    all
}

fn all_duels(victim: Side) {
    let field = Field::new(victim, (32 << 10, 32 << 10), 7);
    for (name, target) in targets(&field) {
        let [good, bad] = duel(&field, &target);
        println!("{}, {name}, on the {victim}: {good} good, {bad} refused", target.function);
    }
    field.assert_restored();
}

/// ABI, Overview O-4, Parameter structs PS-4, Checks C-9: the host validates its own copy.
#[test]
fn the_host_uses_the_copy_that_it_has_validated() {
    all_duels(Side::Host);
}

/// ABI, Overview O-5: the guest does as well.
#[test]
fn the_guest_uses_the_copy_that_it_has_validated() {
    all_duels(Side::Guest);
}

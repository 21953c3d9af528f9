//! Batches that no honest guest sends, or that change, exit or take too long while they are served.

use std::time::{Duration, Instant};

use vmffi::{
    ErrorKind,
    abi::{Answer, Side, Transport, batch::Entry, pointer, signature, trap},
    host::{GuestExit, Limits},
};

use super::{
    Came, Case,
    connection::Target,
    crimes::says,
    interface::*,
    liar::Random,
    list::{List, at, deed, region},
    ops::{Deed, Op},
    races::{TIME, beside, until},
    slower,
};

pub fn cases() -> Vec<Case> {
    let limited = |case: Case, limits: Limits| case.with(move |setup| setup.limits = limits);
    let two = |case: Case| case.with(|setup| setup.vcpus = 2);
    vec![
        Case::new("batches_outside_of_the_arena", outside),
        Case::new("batches_of_half_an_entry", uneven),
        Case::new("a_batch_in_a_batch", reserved),
        Case::new("batches_of_forged_calls", forged),
        Case::new("a_batch_as_long_as_the_arena", long),
        Case::new("one_loan_in_all_calls_of_a_batch", one_loan),
        Case::new("a_batch_that_a_handlers_upcall_changes", changed),
        Case::new("a_batch_in_an_upcall_of_a_batch", nested),
        two(Case::new("a_signature_in_a_batch_that_changes", |target| {
            let colour = ParamsEverythingAloneColour::FUNCTION.signature;
            flips(target, 24, (colour, signature::BATCH), [0, 2])
        })),
        two(Case::new("a_parameter_in_a_batch_that_changes", |target| {
            flips(target, 32, (1, 7), [0, 4])
        })),
        two(Case::new("an_index_in_a_batch_that_changes", |target| {
            flips(target, 56, (0, 3), [0, 4])
        })),
        two(Case::new("a_storm_over_batches", storm)),
        limited(
            Case::new("more_calls_in_a_batch_than_a_guest_may_make", too_many),
            Limits::new().calls(20),
        ),
        limited(
            Case::new("more_handles_in_a_batch_than_a_guest_may_lend", handles),
            Limits::new().handles(10),
        ),
        limited(
            Case::new("a_deadline_in_a_batch", |target| {
                ends(target, &deed(Deed::Spin, at(0), 0), &GuestExit::Deadline)
            }),
            Limits::new().deadline(Duration::from_millis(100) * slower()),
        ),
        Case::new("an_exit_in_a_batch", |target| {
            let exit = List::new().trap(trap::EXIT, 4, Transport::EMPTY, &List::new());
            ends(target, &exit, &GuestExit::Exited { status: 4, text: "".into() })
        }),
    ]
}

/// Where the batch, the parameters and the copied answers are in the guest's arena.
const BATCH: u64 = 0x4000;
const PARAMS: u64 = 0x1000;
const ANSWERS: u64 = 0x2_0000;

fn entry(word: u64, primary: u64, secondary: u64) -> Entry {
    Entry { word, transport: Transport { primary, secondary } }
}

fn written(target: &Target, entries: &[Entry]) -> (List, Transport) {
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_bytes()).collect();
    let batch = Transport { primary: target.own(BATCH), secondary: bytes.len() as u64 };
    (List::new().write(region(target.own(BATCH)), &bytes), batch)
}

/// Sends a batch, and returns the answers.
#[track_caller]
fn send(target: &Target, entries: &[Entry], inside: &List) -> Vec<Entry> {
    let (list, batch) = written(target, entries);
    answers(target, &list, batch, inside)
}

#[track_caller]
fn answers(target: &Target, list: &List, batch: Transport, inside: &List) -> Vec<Entry> {
    let answer = target.answer(&list.clone().call_with(signature::BATCH, batch, inside));
    assert_eq!(answer.transport.secondary, batch.secondary);
    read(target, answer)
}

/// Reads the answers.
#[track_caller]
fn read(target: &Target, answer: Answer) -> Vec<Entry> {
    let Transport { primary, secondary: len } = answer.transport;
    assert_eq!(answer.status, 0);
    // The guest releases the answers, which only it can read.
    let (from, loan) = (pointer::offset(primary), pointer::loan(primary));
    let (arena, _) = target.layout.arena(Side::Host);
    let mark = target.layout.release_map(Side::Host) + (from - arena) / 64;
    let (to, from) = (region(target.own(ANSWERS)), region(from));
    let copy = List::new()
        .op(Op::Copy { to, from, len })
        .write(region(mark), &[loan])
        .returns(0, Transport { primary: target.lent(ANSWERS), secondary: len });
    let bytes = target.told().bytes(copy.bytes()).unwrap().read_vec().unwrap();
    bytes.chunks_exact(24).map(|bytes| Entry::from_bytes(bytes.try_into().unwrap())).collect()
}

fn statuses(answers: &[Entry]) -> Vec<u64> {
    answers.iter().map(|answer| answer.word).collect()
}

/// The batch is refused, and none of its calls is made.
#[track_caller]
fn refused(target: &Target, primary: u64, secondary: u64, why: ErrorKind) {
    let batch = Transport { primary, secondary };
    let answer = target.call(&List::new(), signature::BATCH, batch);
    assert_eq!(answer, Answer::status(why as u64), "{primary:#x}, {secondary:#x}");
    let told: Vec<_> =
        target.refused().iter().map(|error| (error.kind(), error.reached())).collect();
    assert_eq!(told, [(why, false)]);
}

fn outside(target: &Target) -> Came {
    let (start, len) = target.layout.arena(Side::Guest);
    let (host, _) = target.layout.arena(Side::Host);
    for (primary, entries) in [
        (0, 1),
        (1, 1),
        (start - 24, 2),
        (start + len - 16, 1),
        (start + len, 1),
        (host, 1),
        (start, len / 24 + 1),
        (start, u64::MAX / 24),
        (start + 24, u64::MAX / 24 - 1),
        (u64::MAX - 7, 1),
        (1 << 63, 1),
        (start | 1 << 48, 1),
        (start + 4, 1),
        (start + 1, 2),
    ] {
        refused(target, primary, entries * 24, ErrorKind::BadPointer);
    }
    Came::Lives("`BadPointer`".into())
}

fn uneven(target: &Target) -> Came {
    for len in [1, 8, 16, 23, 25, 47, 1 << 63, u64::MAX] {
        refused(target, target.lent(0), len, ErrorKind::BadValue);
    }
    let empty = Transport { primary: u64::MAX, secondary: 0 };
    let answer = target.call(&List::new(), signature::BATCH, empty);
    assert_eq!(answer, Answer { status: 0, transport: Transport::EMPTY });
    Came::Lives("`BadValue`".into())
}

fn reserved(target: &Target) -> Came {
    let within = |word| entry(word, target.own(BATCH), 24);
    let entries: Vec<_> = (1..16).map(within).collect();
    let answers = send(target, &entries, &List::new());
    assert_eq!(answers, [entry(2, 0, 0); 15]);
    let told: Vec<_> = target.refused().iter().map(vmffi::CallError::kind).collect();
    assert_eq!(told, [ErrorKind::UnknownFunction; 15]);
    Came::Lives("`UnknownFunction` for each of its calls".into())
}

/// ABI, Statuses S-2: the answer to a call that the host has served or refused.
fn validate(answer: &Entry) {
    let known = matches!(answer.word & !64, 0..=5 | 8 | 14) && answer.word != 64;
    assert!(known, "status {}", answer.word);
    if answer.word > 1 {
        assert_eq!(answer.transport, Transport::EMPTY);
    }
}

/// An entry with words that are almost valid.
fn almost(target: &Target, random: &mut Random, nr: u64) -> Entry {
    match random.below(8) {
        0..=2 => {
            let (offset, size) = (random.below(120), random.pick(&[1, 2, 4, 8, 8, 8, 0, 3]));
            let place = random.pick(&[0, offset | size << 32, offset | size << 32]);
            entry(0, random.below(nr + 2), place)
        }
        3 => entry(random.below(17), random.number(), random.number()),
        _ => {
            let transport = random.transport(&target.layout, Side::Guest);
            Entry { word: random.pick(&FUNCTIONS), transport }
        }
    }
}

fn forged(target: &Target) -> Came {
    let mut random = Random(17);
    let (mut good, mut taken) = (0, 0);
    for round in 0..200 {
        let entries: Vec<_> = (0..40).map(|nr| almost(target, &mut random, nr)).collect();
        let (arena, len) = target.layout.arena(Side::Guest);
        let noise = Op::Storm {
            at: region(arena),
            len: len - 64 - 8,
            seed: round + 1,
            count: 500,
            until: region(arena + len - 8),
        };
        let (list, batch) = written(target, &entries);
        let list = List::new().fill(region(arena + len - 8), 8, 0).op(noise).and(&list);
        let answers = answers(target, &list, batch, &List::new());
        answers.iter().for_each(validate);
        let served = |(entry, answer): &(&Entry, &Entry)| entry.word != 0 && answer.word == 0;
        good += entries.iter().zip(&answers).filter(served).count();
        taken +=
            entries.iter().zip(&answers).filter(|pair| !served(pair) && pair.1.word == 0).count();
        target.assert_treasure();
        target.settle();
        target.refused();
    }
    assert!(good > 100 && taken > 100, "{good} calls were served, {taken} results were taken");
    Came::Lives("each call is answered, or refused with a status".into())
}

fn long(target: &Target) -> Came {
    let (start, len) = target.layout.arena(Side::Guest);
    let zeros = List::new().fill(region(start), len, 0);
    target.does(&zeros);
    // The host's arena has no room for as many answers.
    let whole = Transport { primary: start, secondary: len / 24 * 24 };
    assert_eq!(target.call(&zeros, signature::BATCH, whole), Answer::status(5));
    // Results of nothing, thousands of them: each takes that of the first, which takes its own.
    let half = Transport { primary: start, secondary: 64 << 10 & !7 };
    let half = Transport { secondary: half.secondary / 24 * 24, ..half };
    let began = Instant::now();
    let answers = answers(target, &zeros, half, &List::new());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(answers.iter().all(|answer| [4, 8].contains(&answer.word)));
    target.refused();
    Came::Lives("`OutOfMemory`, or a status for each entry".into())
}

fn one_loan(target: &Target) -> Came {
    let keep = entry(ParamsEverythingKeep::FUNCTION.signature, target.lent(PARAMS), 100);
    let answers = send(target, &[keep; 50], &List::new());
    for (nr, answer) in (1..).zip(&answers) {
        // The host keeps the last eight.
        assert_eq!((answer.word, answer.transport.primary), (0, 100 * nr.min(8)));
    }
    Came::Lives("each call has a handle".into())
}

/// The entry of a call whose handler makes one upcall, which executes the list `inside`, and the parameters of that call.
fn upcall(target: &Target) -> (List, Entry) {
    let mut params = vec![0; 24];
    // An empty text, and the number of calls that are left.
    params[0..8].copy_from_slice(&1_u64.to_le_bytes());
    params[16..20].copy_from_slice(&1_u32.to_le_bytes());
    let list = List::new().write(region(target.own(PARAMS)), &params);
    (list, entry(ParamsCallbackNote::FUNCTION.signature, target.own(PARAMS), 0))
}

/// Each entry is read once, when its turn comes.
fn changed(target: &Target) -> Came {
    let (params, up) = upcall(target);
    let u16 = ParamsEverythingAloneU16::FUNCTION.signature;
    let entries = [entry(u16, 5, 0), up, entry(u16, 6, 0), entry(0, 0, 0), entry(u16, 7, 0)];
    let word = |nr: u64| region(target.own(BATCH + 8 * nr));
    let inside = List::new()
        // The first entry and the second, which are done or under way, then the others.
        .write(word(0), &[0xff; 48])
        .write(word(7), &9_u64.to_le_bytes())
        .write(word(10), &2_u64.to_le_bytes());
    let (list, batch) = written(target, &entries);
    let answers = answers(target, &params.and(&list), batch, &inside);
    let taken: Vec<_> = answers.iter().map(|answer| answer.transport.primary).collect();
    assert_eq!((statuses(&answers), taken), (vec![0; 5], vec![5, 1, 9, 9, 9]));
    Came::Lives("each entry is read once".into())
}

/// Batches are served in upcalls of calls of batches, at depths up to the limit.
fn nested(target: &Target) -> Came {
    let (params, up) = upcall(target);
    let (list, batch) = written(target, &[up]);
    let mark = region(target.own(0x3000));
    let bottom = List::new().fill(mark, 8, 1);
    for levels in [1, 7, 8, 40] {
        let all = (0..levels).fold(bottom.clone(), |inside, _| {
            List::new().call_with(signature::BATCH, batch, &inside)
        });
        target.does(&List::new().fill(mark, 8, 0).and(&params).and(&list).and(&all));
        target.settle();
        let word = Transport { primary: target.lent(0x3000), secondary: 8 };
        let bytes = target.told().bytes(List::new().returns(0, word).bytes()).unwrap();
        // The host's own call has depth 1, the first batch depth 2, the upcall in it depth 3.
        assert_eq!(bytes.read_vec().unwrap(), [u8::from(levels < 8); 8], "{levels} levels");
    }
    assert_eq!(target.refused(), []);
    Came::Lives("served up to the depth of calls".into())
}

/// A word of a batch that is valid and invalid in turn: both outcomes occur, and no other.
fn flips(target: &Target, at: u64, (good, bad): (u64, u64), expected: [u64; 2]) -> Came {
    let colour = ParamsEverythingAloneColour::FUNCTION.signature;
    let u16 = ParamsEverythingAloneU16::FUNCTION.signature;
    let entries = [entry(u16, 2, 0), entry(colour, 1, 0), entry(0, 0, 0), entry(colour, 1, 0)];
    let place = region(target.own(BATCH + at));
    let flip = Op::Flip { at: place, one: good, two: bad, until: region(until(target)) };
    let (list, batch) = written(target, &entries);
    target.does(&list);
    let nr = (at / 24) as usize;
    let seen = beside(target, &List::new().op(flip), || {
        let (began, mut seen) = (Instant::now(), [0_u32; 2]);
        while began.elapsed() < TIME || seen.contains(&0) && began.elapsed() < 1000 * TIME {
            let answers = answers(target, &List::new(), batch, &List::new());
            let which = expected.iter().position(|status| *status == answers[nr].word);
            seen[which.unwrap_or_else(|| panic!("{answers:x?}"))] += 1;
            if nr == 2 {
                assert_eq!(answers[3].word, answers[2].word);
            }
        }
        seen
    });
    assert!(!seen.contains(&0), "{seen:?}: the other vCPU was too slow for the test");
    target.refused();
    Came::Lives(format!("a status of {expected:?}"))
}

fn storm(target: &Target) -> Came {
    let mut random = Random(5);
    let place = (target.own(BATCH), 40 * 24);
    let list = List::new().op(Op::Storm {
        at: region(place.0),
        len: place.1,
        seed: 77,
        count: 0,
        until: region(until(target)),
    });
    beside(target, &list, || {
        let began = Instant::now();
        while began.elapsed() < TIME {
            let entries: Vec<_> = (0..40).map(|nr| almost(target, &mut random, nr)).collect();
            send(target, &entries, &List::new()).iter().for_each(validate);
            target.assert_treasure();
        }
    });
    target.refused();
    Came::Lives("each call is answered, or refused with a status".into())
}

/// ABI, Batches BT-9: the trap counts, and so does each entry.
fn too_many(target: &Target) -> Came {
    let keep = |len| entry(ParamsEverythingKeep::FUNCTION.signature, target.lent(PARAMS), len);
    let (list, batch) = written(target, &(1..=30).map(keep).collect::<Vec<_>>());
    let list = list.call(signature::BATCH, batch);
    let error = target.told().does(list.bytes()).unwrap_err();
    assert!(error.reached());
    assert_eq!(target.end(), Some(GuestExit::TooManyCalls));
    assert_eq!(target.kept().last(), Some(&19));
    Came::Ended(says(&GuestExit::TooManyCalls))
}

fn handles(target: &Target) -> Came {
    let keep = entry(ParamsEverythingKeep::FUNCTION.signature, target.lent(PARAMS), 10);
    let (list, batch) = written(target, &[keep; 20]);
    let place = 0x3000;
    target.does(&list.call(signature::BATCH, batch).save(region(target.own(place))));
    let kept = target.kept().len();
    // So that the host can read the answers.
    target.forget();
    let answers = statuses(&read(target, target.saved(place)));
    let (good, bad) = answers.split_at(kept);
    assert!((1..8).contains(&kept), "{kept} handles are kept");
    assert_eq!(good, vec![0; kept]);
    assert_eq!(bad, vec![ErrorKind::OutOfMemory as u64; 20 - kept]);
    target.refused();
    Came::Lives("`OutOfMemory` for each call above the limit".into())
}

/// ABI, Batches BT-9: the guest ends in an upcall of the third call, and those after it are not made.
fn ends(target: &Target, end: &List, exit: &GuestExit) -> Came {
    let (params, up) = upcall(target);
    let keep = entry(ParamsEverythingKeep::FUNCTION.signature, target.lent(0x2000), 10);
    let (list, batch) = written(target, &[keep, keep, up, keep, keep, keep]);
    let list = params.and(&list).call_with(signature::BATCH, batch, end);
    let error = target.told().does(list.bytes()).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (exit.kind(), true));
    assert_eq!((target.end().as_ref(), target.kept().len()), (Some(exit), 2));
    Came::Ended(says(exit))
}

//! Hostile guests against the state from which resets and clones begin: whatever a guest has done, the next life and every
//! other clone find the checkpoint, byte for byte.

use std::{thread, time::Duration};

use vmffi::{
    SharedBuf,
    abi::{Side, Transport, trap},
    host::{CheckpointError, GuestExit},
};

use super::{
    Came, Case,
    connection::{On, REGION, Target, ToldClient, file},
    crimes::{dies, page, says},
    images,
    list::{List, at, deed, region},
    native::{self, GENERAL, OTHERS, PLAIN, SINGLE_STEP, SYSCALL, UNHEARD, trap_by_jump},
    ops::{At, Base, Deed, Op},
    resets::seen,
};

/// Addresses in a guest's process (`src/machine/process/gate.rs`).
const GATE: u64 = 0x1f0_0000_0000;
const SCRATCH: u64 = GATE + 0x80_0000;
const IMAGE: u64 = 0x300_0000_0000;
const CHECKPOINT: u64 = 0x400_0000_0000;
/// Offsets in the guest's program: an endless loop, and one that uses the stack.
const LOOP: At = At(Base::Code, 16);
const PUSHES: At = At(Base::Code, 32);
/// The size of a stack, of the guard between two, and of the upper end of a stack, which is in use and not compared.
const STACK: u64 = 20 << 20;
const GUARD: u64 = 1 << 20;
const IN_USE: u64 = 64 << 10;

/// A byte of the first vCPU's stack. The second one's lies above.
fn stack(offset: u64) -> At {
    at(0x100_0000_1000 + offset)
}

const STACK_LEN: u64 = STACK - IN_USE;

pub fn cases() -> Vec<Case> {
    let large = |case: Case, vcpus| case.with(|setup| (setup.stack, setup.vcpus) = (STACK, vcpus));
    vec![
        large(Case::new("a_reset_restores_all_memory", memory), 1),
        large(Case::new("a_reset_of_two_vcpus_restores_all_memory", memory_of_two), 2),
        large(Case::new("clones_that_write_all_they_can", clones), 1),
        Case::new("clones_that_write_protected_memory", denied),
        Case::new("a_search_for_the_templates_secrets", secrets),
        Case::new("all_registers_at_a_checkpoint", registers),
        large(Case::new("a_checkpoint_in_the_middle_of_the_gate", in_gate), 1).only(On::is_process),
    ]
}

/// Hashes of the guest's memory: its stack, its variables, and its arena except the end, where results are.
#[track_caller]
fn state(target: &Target) -> Vec<u64> {
    let header = images::header(file(), 6);
    let word = |at: usize| u64::from_le_bytes(file()[at..at + 8].try_into().unwrap());
    let (variables, len) = (word(header + 16), word(header + 40));
    let (arena, arena_len) = target.layout.arena(Side::Guest);
    let mut ranges = vec![
        (stack(0), STACK_LEN),
        (at(variables.next_multiple_of(8)), (len - 8) & !7),
        (region(arena), arena_len - 4096),
    ];
    if target.vcpus == 2 {
        ranges.push((stack(STACK + GUARD), STACK_LEN));
    }
    let saved = target.own(arena_len - 64);
    let hash = |(at, len)| {
        let words = Transport { primary: target.lent(arena_len - 64), secondary: 32 };
        let list = List::new().op(Op::Hash { at, len }).save(region(saved)).returns(0, words);
        let words = target.told().bytes(list.bytes()).and_then(|words| words.read_vec());
        let words = words.unwrap_or_else(|error| panic!("{error}: {:?}", target.end()));
        u64::from_le_bytes(words[16..24].try_into().unwrap())
    };
    ranges.into_iter().map(hash).collect()
}

/// Writes something other than zeros into a part of each.
fn prepare(target: &Target) {
    let never = region(target.own(target.layout.arena(Side::Guest).1 - 128));
    let storm = |at, len, seed| Op::Storm { at, len, seed, count: 20_000, until: never };
    target.does(&List::new().op(storm(stack(3 << 20), 1 << 20, 5)));
    target.does(&List::new().op(storm(stack(9 << 20), 300 << 10, 6)));
    target.does(&List::new().op(storm(region(target.own(0)), 100 << 10, 7)));
    assert_eq!(target.host.checkpoint(), Ok(()));
}

/// The writes of a guest.
fn writes(target: &Target) -> Vec<List> {
    let arena = List::new().fill(region(target.own(0)), 200 << 10, 0xaa);
    let pages = (0..STACK_LEN / 8192)
        .fold(List::new(), |list, nr| list.fill(stack(8192 * nr + 8 * (nr % 512)), 3, 1));
    vec![
        List::new(),
        List::new().fill(stack(0), STACK_LEN, 0x55).and(&arena),
        pages.and(&arena),
        List::new().fill(stack((9 << 20) + 4096), 1, 0xff),
    ]
}

/// The ends of its life: by exceptions and traps with registers that the gate does not expect, or none.
fn ends(target: &Target) -> Vec<List> {
    let jump =
        |to, flags, stack| List::new().jump(to, [0x1234_5678_9abc_def0; GENERAL], flags, stack);
    let mut all = vec![
        List::new(),
        deed(Deed::Undefined, at(0), 0),
        jump(LOOP, PLAIN | OTHERS, at(0)),
        jump(PUSHES, PLAIN | OTHERS, At(Base::Boot, 0)),
        jump(at(1 << 63), PLAIN | OTHERS, at(8)),
    ];
    all.extend(native::ENDS.map(|(what, value)| deed(what, at(0), value)));
    if target.on.is_process() {
        let words = |word: u64| List::new().write(at(SCRATCH), &word.to_le_bytes());
        let nothing = List::new().trap(7, 0, Transport::EMPTY, &List::new());
        let numbers = [0, 5, u64::MAX, 1 << 32, (1 << 32) - 1, 7 << 32];
        all.extend(numbers.map(|number| words(number).and(&nothing)));
        all.extend(numbers.map(|number| {
            List::new().jump(at(SYSCALL), trap_by_jump(7, number), PLAIN | OTHERS, at(0))
        }));
        all.extend([
            List::new().jump(at(SYSCALL), trap_by_jump(7, 1 << 60), PLAIN | SINGLE_STEP, at(0)),
            jump(at(UNHEARD), PLAIN | OTHERS, at(0)),
            jump(at(UNHEARD), PLAIN | OTHERS, at(SCRATCH + 0x1000 + 0x800)),
            // The signal stacks.
            List::new().fill(at(SCRATCH + 0x1000), 0x1_0000, 0xff).deed(Deed::Undefined, at(0), 0),
            List::new().fill(at(SCRATCH + 0x1000), 0x1_0000, 0xff),
            // A trap that imitates one of the gate's own.
            List::new().trap(0x180, 0, Transport::EMPTY, &List::new()),
            List::new().trap(0x10a, SCRATCH + 0x2000, Transport::EMPTY, &List::new()),
        ]);
    }
    all
}

/// Executes a list in the guest, with a deadline.
fn attempt(target: &Target, list: &List) {
    let within = target.host.with_deadline(Duration::from_millis(300));
    let _ = ToldClient::from(within.guest()).does(list.bytes());
}

fn memory(target: &Target) -> Came {
    prepare(target);
    let before = state(target);
    let (writes, ends) = (writes(target), ends(target));
    let mut lives = 0;
    for (nr, end) in ends.iter().enumerate() {
        for (of, write) in writes.iter().enumerate() {
            // Writing all memory takes long, so it is not combined with each end.
            if matches!(of, 1 | 2) && nr % 4 != of {
                continue;
            }
            attempt(target, &write.clone().and(end));
            assert_eq!(target.host.reset(), Ok(()), "{of} {nr}");
            assert_eq!(state(target), before, "{of} {nr}");
            lives += 1;
            if nr % 5 == 0 {
                // After a checkpoint of the same state.
                assert_eq!(target.host.reset(), Ok(()));
                assert_eq!(target.host.checkpoint(), Ok(()), "{of} {nr}");
            }
        }
    }
    Came::Lives(format!("{lives} lives"))
}

/// Another vCPU runs, or writes, and is stopped at any instruction.
fn memory_of_two(target: &Target) -> Came {
    prepare(target);
    let before = state(target);
    let (writes, ends) = (writes(target), ends(target));
    let never = region(target.own(0x30_000));
    let others = [
        deed(Deed::Spin, at(0), 0),
        // Its own stack, and that of the first one.
        List::new().op(Op::Storm {
            at: At(Base::Boot, (-8_i64 << 20) as u64),
            len: 7 << 20,
            seed: 9,
            count: 0,
            until: never,
        }),
        List::new().op(Op::Storm {
            at: at(SCRATCH),
            len: 0x2_1000,
            seed: 3,
            count: 0,
            until: never,
        }),
        List::new().repeat(0, &List::new().call(1, Transport::EMPTY)),
        List::new().jump(LOOP, [0; GENERAL], PLAIN | OTHERS, at(0)),
    ];
    let mut lives = 0;
    for (nr, end) in ends.iter().enumerate() {
        let other = &others[nr % others.len()];
        for write in [&writes[0], &writes[3], &writes[1 + nr % 2]] {
            thread::scope(|scope| {
                let other = scope.spawn(|| target.told().does(other.bytes()));
                let within = target.host.with_deadline(Duration::from_millis(40));
                let _ = ToldClient::from(within.guest()).does(write.clone().and(end).bytes());
                thread::sleep(Duration::from_micros(37 * nr as u64));
                target.host.stopper().stop();
                let _ = other.join().unwrap();
            });
            assert_eq!(target.host.reset(), Ok(()), "{nr}");
            assert_eq!(state(target), before, "{nr}");
            lives += 1;
        }
    }
    Came::Lives(format!("{lives} lives"))
}

/// Writes of a clone are visible only in it: not in the snapshot, nor in another clone, nor in the template.
fn clones(target: &Target) -> Came {
    prepare(target);
    let snapshot = target.host.snapshot().unwrap();
    let (first, before) = (target.clone_of(&snapshot), state(target));
    assert_eq!(state(&first), before);
    let ends = ends(target);
    for (nr, write) in writes(target).iter().cycle().take(12).enumerate() {
        let clone = first.clone_of(&snapshot);
        attempt(&clone, &write.clone().and(&ends[nr % ends.len()]));
        assert_eq!(state(&first.clone_of(&snapshot)), before, "{nr}");
        assert_eq!(clone.host.reset(), Ok(()));
        assert_eq!(state(&clone), before, "{nr}");
        // A snapshot of a clone that has written much, and one of a clone that has written nothing.
        attempt(&clone, write);
        if clone.end().is_none() {
            let (own, now) = (clone.host.snapshot().unwrap(), state(&clone));
            assert_eq!(state(&clone.clone_of(&own)), now, "{nr}");
        }
        clone.assert_treasure();
    }
    assert_eq!(state(&first), before);
    assert_eq!(target.host.reset(), Ok(()));
    assert_eq!(state(target), before);
    Came::Lives("all are as the first one".into())
}

/// Memory that a guest may not write is not writable in a clone either: the header, the host's arena, its own code, and the
/// views from which a process restores its memory.
fn denied(target: &Target) -> Came {
    let snapshot = target.host.snapshot().unwrap();
    let clone = target.clone_of(&snapshot);
    let (theirs, len) = target.layout.arena(Side::Host);
    let places = [
        REGION,
        REGION + 88,
        REGION + theirs,
        REGION + theirs + len - 8,
        REGION + theirs + len,
        file_word(24),
        0x20_0000,
        IMAGE,
        IMAGE + 0x1000,
        CHECKPOINT,
        CHECKPOINT + 0x1000,
        CHECKPOINT + (1 << 39),
    ];
    let mut came = None;
    for place in places {
        let list = List::new().write(at(place), &[0xcc]);
        came = Some(dies(&clone, &list, &[page(place)]));
        assert_eq!(clone.host.reset(), Ok(()));
        clone.assert_works();
        target.clone_of(&snapshot).assert_works();
    }
    clone.assert_treasure();
    drop(clone);
    // The template cannot read the views, which only machines from a checkpoint have, or reads its own.
    drop(came);
    Came::Lives("each is a page fault".into())
}

/// Eight bytes of the guest's file.
fn file_word(at: usize) -> u64 {
    u64::from_le_bytes(file()[at..at + 8].try_into().unwrap())
}

const SECRET: &[u8] = b"a secret of the first host, forty bytes.";
const GIVEN: &[u8] = b"what the guest was given, and has still.";

fn finds(target: &Target, what: &[u8]) -> usize {
    let holds = |part: &Vec<u8>| part.windows(what.len()).any(|bytes| bytes == what);
    seen(target).iter().filter(|part| holds(part)).count()
}

/// A clone's guest finds in the host's arena what it was lent, and nothing else of the template's host.
fn secrets(target: &Target) -> Came {
    let place = region(target.own(0x30_000));
    target.does(&List::new().hold().write(place, GIVEN).fill(place, 100, 0));
    // Blocks that were lent and released; owned and dropped; owned.
    target.does(&List::new().write(place, SECRET).fill(place, 100, 0));
    let mut own = Vec::new();
    while let Ok(block) = SharedBuf::copy_from(target.host.guest(), &SECRET.repeat(50)) {
        own.push(block);
    }
    own.truncate(20);
    let snapshot = target.host.snapshot().unwrap();
    assert!(finds(target, SECRET) > 0 && finds(target, GIVEN) > 0);
    drop(own);
    for round in 0..3 {
        let clone = target.clone_of(&snapshot);
        for _ in 0..2 {
            assert_eq!(finds(&clone, SECRET), 0, "{round}");
            assert_eq!(finds(&clone, GIVEN), 1, "{round}");
            assert_eq!(clone.host.reset(), Ok(()));
        }
    }
    forget_kept(target);
    Came::Lives("nothing is found".into())
}

/// Makes the guest release the loans that its checkpoint has; they end with the next checkpoint.
fn forget_kept(target: &Target) {
    let map = region(target.layout.release_map(Side::Host));
    for loan in 1..=u8::MAX {
        target.does(&List::new().fill(map, target.layout.granules(Side::Host) as u64, loan));
        assert_eq!(target.host.checkpoint(), Ok(()));
        if target.lost() == 0 {
            return;
        }
    }
    panic!("{} blocks are lost", target.lost());
}

/// A guest returns by a jump to the gate's system call, with registers with which the gate cannot save the others, or only
/// just. Either a checkpoint of that state is made, or the earlier one remains.
fn in_gate(target: &Target) -> Came {
    prepare(target);
    let (before, snapshot) = (state(target), target.host.snapshot().unwrap());
    let write = &writes(target)[3];
    let (mut made, mut refused) = (0, 0);
    let scratch = SCRATCH + 0x1000;
    let nowhere = [0, 8, 1 << 63, GATE, IMAGE + 64].map(at);
    for stack in nowhere.into_iter().chain([at(scratch), at(scratch + 64), stack(4096)]) {
        for flags in [PLAIN, PLAIN | OTHERS, PLAIN | SINGLE_STEP, PLAIN | OTHERS | SINGLE_STEP] {
            let guest = target.clone_of(&snapshot);
            // No status and no result.
            let registers = native::traps_with([0x5555; GENERAL], trap::RETURN, 1 << 60);
            let list = write.clone().jump(at(SYSCALL), registers, flags, stack);
            assert_eq!(guest.told().does(list.bytes()), Ok(0), "{:?}", guest.end());
            match guest.host.checkpoint() {
                Ok(()) => {
                    made += 1;
                    // The guest does not return from there, but its host continues.
                    for _ in 0..2 {
                        assert!(guest.told().does(List::new().bytes()).is_err());
                        assert_eq!(guest.host.reset(), Ok(()), "{stack:x?} {flags:x}");
                    }
                    let again = guest.host.snapshot().unwrap();
                    assert!(guest.clone_of(&again).told().does(List::new().bytes()).is_err());
                }
                Err(CheckpointError::Failed(why)) => {
                    refused += 1;
                    assert!(!why.is_empty());
                    assert_eq!(guest.host.reset(), Ok(()), "{stack:x?} {flags:x}");
                    assert_eq!(state(&guest), before, "{stack:x?} {flags:x}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    // Without single steps, and with a gate that uses no stack, nothing prevents a checkpoint.
    assert!(made > 0 && (refused > 0) == (SINGLE_STEP != 0), "{made} made, {refused} refused");
    assert_eq!(state(target), before);
    Came::Lives(format!("{made} checkpoints, {refused} are refused"))
}

fn registers(target: &Target) -> Came {
    let (place, before) = (0x8000, native::frame(target.on));
    if before.is_empty() {
        return Came::Lives("skipped: this processor has no XSAVE".into());
    }
    let park = List::new().write(region(target.own(place)), &before).op(Op::Framed {
        kind: trap::RETURN,
        word: 0,
        frame: region(target.own(place)),
    });
    assert_eq!(target.told().does(park.bytes()), Ok(0), "{:?}", target.end());
    let words = Transport { primary: target.lent(place), secondary: before.len() as u64 };
    let asks = List::new().returns(0, words);
    let check = |target: &Target, when: &str| {
        let now = target.told().bytes(asks.bytes()).and_then(|bytes| bytes.read_vec());
        let now = now.unwrap_or_else(|error| panic!("{when}: {error}: {:?}", target.end()));
        native::assert_preserved(&before, &now, when);
    };
    // Twice, so that the second snapshot is one of the first clone.
    let snapshot = target.host.snapshot().unwrap();
    let clone = target.clone_of(&snapshot);
    let again = clone.host.snapshot().unwrap();
    let of_clone = clone.clone_of(&again);
    for (guest, name) in [(target, "template"), (&clone, "clone"), (&of_clone, "clone of a clone")]
    {
        check(guest, name);
        for _ in 0..3 {
            assert_eq!(guest.host.reset(), Ok(()));
            check(guest, name);
        }
        // Registers that a life changes do not reach the next one.
        let _ = guest
            .told()
            .does(deed(Deed::Vectors, at(0), 0x1234).and(&deed(Deed::Undefined, at(0), 0)).bytes());
        assert!(
            matches!(guest.end(), Some(GuestExit::Fault(_))),
            "{:?}",
            guest.end().map(|end| says(&end))
        );
        assert_eq!(guest.host.reset(), Ok(()));
        assert_eq!(guest.host.checkpoint(), Ok(()));
        check(guest, name);
        assert_eq!(guest.host.reset(), Ok(()));
        check(guest, name);
    }
    forget_kept(target);
    Came::Lives("all are as before".into())
}

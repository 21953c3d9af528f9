//! Batches, made from the document alone: entries and answers byte by byte.

use vmffi::abi::batch::{Entry, MAX_TAKEN, TAKE};

use super::*;

/// Where the guest's batch and the parameter structs of its calls are, from the beginning of its arena.
const BATCH: u64 = 16 * 64;
const STRUCT: u64 = 4 * 64;

fn entry(word: u64, primary: u64, secondary: u64) -> [u64; 3] {
    [word, primary, secondary]
}

fn take(from: u64, offset: u32, size: u32) -> [u64; 3] {
    entry(0, from, u64::from(offset) | u64::from(size) << 32)
}

fn bytes(entries: &[[u64; 3]]) -> Vec<u8> {
    entries.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
}

/// Makes a batch of the guest's, as a loan or without one, and reads and releases the answers.
fn send(region: &Region, loan: u64, entries: &[[u64; 3]]) -> Result<Vec<[u64; 3]>, u64> {
    let bytes = bytes(entries);
    let at = region.arena(Side::Guest) + BATCH;
    region.poke(at, &bytes);
    let batch = Transport { primary: at | loan << 56, secondary: bytes.len() as u64 };
    let Answer { status, transport } = raw(region.pair.host(), 5, batch);
    if status != 0 {
        assert_eq!(transport, EMPTY, "S-1");
        return Err(status);
    }
    assert_eq!(transport.secondary, bytes.len() as u64, "BT-1: as many answers");
    let (at, number) = (pointer::offset(transport.primary), pointer::loan(transport.primary));
    assert_ne!(number, 0, "BT-1: a loan");
    let answers = region.bytes(at, bytes.len());
    region.mark(Side::Host, at).store(number, Ordering::Release);
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    Ok(answers
        .chunks_exact(24)
        .map(|answer| [word(&answer[..8]), word(&answer[8..16]), word(&answer[16..])])
        .collect())
}

fn narrow() -> u64 {
    ParamsVectorsNarrow::FUNCTION.signature
}

/// ABI, Batches BT-1 and BT-2: the calls are made in their order, each with a status, and one that fails or panics does not
/// keep the next one from being made. BT-5: the block of the batch is released, if it is a loan.
#[test]
fn a_batch_by_hand() {
    let region = Region::new();
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let nothing = ParamsVectorsNothing::FUNCTION.signature;
    let entries = [
        entry(nothing, 0, 0),
        entry(narrow(), -5_i64 as u64, 0),
        entry(narrow(), 0, 0),
        entry(narrow(), 1, 0),
        entry(narrow(), 128, 0),
        entry(nothing, 1, 0),
        entry(0xdead_beef, 0, 0),
        entry(narrow(), 7, 0),
    ];
    let answers = [
        [0, 0, 0],
        [0, 5, 0],
        [64 + 14, 0, 0],
        [64 + 11, 0, 0],
        [4, 0, 0],
        [4, 0, 0],
        [2, 0, 0],
        [0, 7, 0],
    ];
    assert_eq!(send(&region, 0, &entries), Ok(answers.to_vec()));
    assert_eq!(region.marks(), [], "A-5: number 0, no mark");
    assert_eq!(send(&region, 9, &entries), Ok(answers.to_vec()));
    assert_eq!(region.marks(), [(BATCH / 64, 9)]);
    std::panic::set_hook(quiet);
    assert_eq!(region.pair.guest().arena_stats().blocks, 0, "the answers were released");
    assert_eq!((signature::BATCH, Entry::LEN, Entry::ALIGN, TAKE, MAX_TAKEN), (5, 24, 8, 0, 16));
}

/// ABI, Batches BT-1: bad buffers are refused, and nothing is called or released. BT-4: neither is it without room for the
/// answers.
#[test]
fn bad_batches() {
    let region = Region::new();
    let (arena, len) = region.pair.layout().arena(Side::Guest);
    let batch = |primary, secondary| raw(region.pair.host(), 5, Transport { primary, secondary });
    // A call that would keep a buffer.
    let keep = ParamsVectorsMaybe::FUNCTION.signature;
    region.poke(arena, &bytes(&[entry(keep, arena + STRUCT, 0); 2]));
    let file = [(arena + 12 * 64) | 1 << 56, 4];
    region.poke(arena + STRUCT, &bytes(&[[file[0], file[1], 0]]));
    for bad in [1, 8, 23, 25, 47, u64::MAX] {
        assert_eq!(batch(arena, bad), Answer::status(4), "{bad} bytes");
    }
    let last = len / 24 * 24;
    for (primary, secondary) in [
        (0, 24),
        (1, 24),
        (arena - 24, 24),
        (arena + len - 16, 24),
        (arena + 4, 24),
        (arena + 1, 48),
        (arena, last + 24),
        (arena, (1 << 63) / 24 * 24),
        (region.arena(Side::Host), 24),
        (arena | 1 << 50, 24),
    ] {
        assert_eq!(batch(primary, secondary), Answer::status(3), "{primary:#x}, {secondary}");
    }
    assert_eq!(batch(u64::MAX, 0), Answer { status: 0, transport: EMPTY }, "T-4");
    // Without room for the answers.
    let mut held = Vec::new();
    while let Ok(buf) = SharedBuf::zeroed(region.pair.guest(), 64) {
        held.push(buf);
    }
    assert_eq!(batch(arena | 1 << 56, 48), Answer::status(5));
    held.pop();
    assert_eq!(batch(arena | 1 << 56, 72), Answer::status(5));
    assert_eq!(region.marks(), []);
    assert_eq!(region.pair.guest().arena_stats().blocks, held.len());
    let kept = batch(arena | 1 << 56, 48);
    assert_eq!((kept.status, kept.transport.secondary), (0, 48), "two of them fit");
}

/// ABI, Batches BT-3: neither reserved signatures nor batches are in a batch. BT-2: it has the depth of a call.
#[test]
fn reserved_signatures_are_not_in_a_batch() {
    let region = Region::new();
    let arena = region.arena(Side::Guest);
    let entries: Vec<_> = (1..16).map(|word| entry(word, arena + BATCH, 24)).collect();
    assert_eq!(send(&region, 0, &entries), Ok(vec![[2, 0, 0]; 15]));
    let climb = ParamsLadderClimb::FUNCTION.signature;
    let climbed = send(&region, 0, &[entry(climb, 16, 0), entry(climb, 17, 0)]).unwrap();
    assert_eq!(climbed, [[0, 16, 0], [64 + 6, 0, 0]]);
}

/// ABI, Batches BT-6: results are taken for the transport and for the parameter struct of the next call, in every size.
#[test]
fn results_are_taken() {
    let region = Region::new();
    let at = region.arena(Side::Guest) + STRUCT;
    let scalars = ParamsVectorsScalars::FUNCTION.signature;
    // The parameters that `scalars` expects, but for `a` at 0, `e` at 16 and `j` at 52, which are taken.
    let wire = join(&[
        &[0xee, 0, 0xfe, 0xff, 3, 0, 0, 0],
        &(-4_i64).to_le_bytes(),
        &[0xee; 8],
        &(-6_i64).to_le_bytes(),
        &1.5_f32.to_le_bytes(),
        &[0; 4],
        &(-2.5_f64).to_le_bytes(),
        &[1, 0, 0, 0, 0xee, 0xee, 0xee, 0xee],
    ]);
    region.poke(at, &wire);
    let entries = [
        entry(narrow(), -1_i64 as u64, 0),
        entry(ParamsVectorsWord::FUNCTION.signature, 0xe4, 0),
        entry(narrow(), 5, 0),
        take(1, 52, 4),
        take(2, 16, 8),
        take(0, 0, 1),
        entry(scalars, at, 0),
        // The same, and `b` at 2, which then is 1, and not -2.
        take(1, 52, 4),
        take(2, 16, 8),
        take(0, 0, 1),
        take(0, 2, 2),
        entry(scalars, at, 0),
        // For the transport, and from a `TAKE`.
        take(2, 0, 0),
        entry(narrow(), 99, 0),
        take(12, 0, 0),
        entry(narrow(), 99, 0),
    ];
    let answers = send(&region, 0, &entries).unwrap();
    let results: Vec<_> = answers.iter().map(|[status, primary, _]| (*status, *primary)).collect();
    let [e, j] = [(0, 5), (0, 0xe4)];
    assert_eq!(results[..7], [(0, 1), j, e, j, e, (0, 1), (0, 1)]);
    assert_eq!(results[7..12], [j, e, (0, 1), (0, 1), (0, 0)]);
    assert_eq!(results[12..], [e, e, e, e]);
    assert_eq!(region.bytes(at, wire.len()), wire, "the copy was changed");
}

/// ABI, Batches BT-7: which results cannot be taken, and that the call is not made then.
#[test]
fn results_are_not_taken() {
    let region = Region::new();
    let refused = |status| [status, 0, 0];
    // Not earlier, of a wrong size, and after 16.
    for bad in [take(1, 0, 0), take(2, 0, 0), take(u64::MAX, 0, 0), take(1 << 32, 0, 0)] {
        let answers = send(&region, 0, &[entry(narrow(), 5, 0), bad, entry(narrow(), 6, 0)]);
        assert_eq!(answers.unwrap()[1..], [refused(4), refused(4)], "{bad:?}");
    }
    for size in [0, 3, 5, 7, 9, 16, 1 << 31, u32::MAX] {
        let bad = take(0, 1, size);
        let answers = send(&region, 0, &[entry(narrow(), 5, 0), bad, entry(narrow(), 6, 0)]);
        assert_eq!(answers.unwrap()[1..], [refused(4), refused(4)], "{size} bytes");
    }
    for (count, statuses) in [(16, [0, 0]), (17, [4, 4])] {
        let mut entries = vec![entry(narrow(), 5, 0)];
        entries.extend([take(0, 0, 0)].repeat(count));
        // They apply to one call only.
        entries.extend([entry(narrow(), 6, 0), entry(narrow(), 7, 0)]);
        let answers = send(&region, 0, &entries).unwrap();
        assert_eq!([answers[count][0], answers[count + 1][0]], statuses);
        assert_eq!(answers[count + 1][1], if count == 16 { 5 } else { 0 });
        assert_eq!(answers[count + 2], [0, 7, 0]);
    }
    // Without a result, or with one that has two words. The first determines the status.
    let arena = region.arena(Side::Guest);
    region.poke(arena + STRUCT, &bytes(&[[1, 8, 0]]));
    let read = entry(ParamsVectorsRead::FUNCTION.signature, arena + STRUCT, 0);
    let entries = [
        entry(narrow(), 0, 0),
        read,
        take(0, 0, 0),
        take(9, 0, 0),
        entry(narrow(), 6, 0),
        take(1, 0, 0),
        entry(narrow(), 6, 0),
        take(4, 0, 0),
        entry(narrow(), 6, 0),
    ];
    let answers = send(&region, 0, &entries).unwrap();
    let statuses: Vec<_> = answers.iter().map(|answer| answer[0]).collect();
    assert_eq!(statuses, [64 + 14, 0, 8, 4, 8, 8, 8, 8, 8]);
    // Behind the last call it takes nothing for nobody.
    let answers = send(&region, 0, &[entry(narrow(), 5, 0), take(0, 0, 0)]).unwrap();
    assert_eq!(answers[1], [0, 5, 0]);
}

/// ABI, Batches BT-8: a place outside of the parameter struct, a call with a byte count, and functions without a struct.
#[test]
fn results_have_no_place() {
    let region = Region::new();
    let arena = region.arena(Side::Guest);
    let at = arena + STRUCT;
    region.poke(at, &bytes(&[[7, 3, 0]]));
    let read = ParamsVectorsRead::FUNCTION.signature;
    let status = |taken, call| {
        let answers = send(&region, 0, &[entry(narrow(), 3, 0), taken, call]).unwrap();
        answers[2]
    };
    assert_eq!(status(take(0, 8, 4), entry(read, at, 0))[2], 3, "in the struct of 16 bytes");
    assert_eq!(status(take(0, 8, 8), entry(read, at, 0))[2], 3, "with its padding");
    for (offset, size) in [(9, 8), (15, 2), (16, 1), (1 << 31, 4), (u32::MAX, 1), (u32::MAX, 8)] {
        assert_eq!(
            status(take(0, offset, size), entry(read, at, 0)),
            [4, 0, 0],
            "{offset}, {size}"
        );
    }
    for secondary in [1, 1 << 63, u64::MAX] {
        assert_eq!(status(take(0, 8, 4), entry(read, at, secondary)), [4, 0, 0], "{secondary}");
    }
    let lent = (arena + 64) | 1 << 56;
    for (function, primary, expected) in [
        (ParamsVectorsNothing::FUNCTION, 0, 4),
        (ParamsVectorsNarrow::FUNCTION, 3, 4),
        (ParamsVectorsWide::FUNCTION, arena + 64, 4),
        (ParamsVectorsSum::FUNCTION, lent, 3),
    ] {
        let [status, ..] = status(take(0, 4, 4), entry(function.signature, primary, 0));
        assert_eq!(status, expected, "{function}");
    }
    // Without a batch, and without a result, such a call is what it always was.
    for secondary in [1, u64::MAX] {
        assert_eq!(region.call(ParamsVectorsRead::FUNCTION, at, secondary).status, 4);
        let answers = send(&region, 0, &[entry(read, at, secondary)]).unwrap();
        assert_eq!(answers, [[4, 0, 0]]);
    }
}

/// ABI, Batches BT-10: the example.
#[test]
fn the_example() {
    let (_, text) = DOCUMENT.split_once("**BT-10**").unwrap();
    let rows: Vec<Vec<String>> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'))
        .map(|row| row.split('|').map(plain).collect())
        .skip(2)
        .take(3)
        .collect();
    let (a, b) = (0x1111, 0x2222);
    let word = |cell: &str| match cell {
        "signature of `a`" => a,
        "signature of `b`" => b,
        "pointer word of the struct" => 0x3333,
        cell => number(cell),
    };
    let entries: Vec<_> = rows.iter().map(|row| [1, 2, 3].map(|nr| word(&row[nr]))).collect();
    // `y` of `{ x: u32, y: u32 }`.
    assert_eq!(entries, [entry(a, 0, 0), take(0, 4, 4), entry(b, 0x3333, 0)]);
}

/// ABI, Batches BT-1 to BT-6: what the crate's client sends is what the document says, byte by byte.
#[test]
fn what_a_client_sends() {
    let region = Region::new();
    let batch = region.pair.host().batch().unwrap();
    let vectors = VectorsClient::from(&batch);
    let five = vectors.narrow(-5).unwrap();
    let read = vectors.read(7, 3).unwrap();
    let word = vectors.word(0xe4).unwrap();
    let arena = region.arena(Side::Guest);
    let entries = region.bytes(arena, 3 * 24);
    let at = |nr: usize| {
        let bytes = entries[nr * 24..][..24].try_into().unwrap();
        Entry::from_bytes(bytes)
    };
    assert_eq!(at(0), Entry { word: narrow(), transport: Transport::word(-5_i64 as u64) });
    let Entry { word: called, transport } = at(1);
    assert_eq!((called, transport.secondary), (ParamsVectorsRead::FUNCTION.signature, 0));
    assert_eq!(pointer::loan(transport.primary), 0, "BT-5");
    assert_eq!(region.bytes(transport.primary, 12), bytes(&[[7, 3, 0]])[..12]);
    assert_eq!(at(2).transport, Transport::word(0xe4));
    let mut results = batch.send().unwrap();
    assert_eq!(results.get(five), Ok(5));
    assert_eq!(results.get(read).unwrap().read_vec().unwrap(), [7, 7, 7]);
    assert_eq!(results.get(word), Ok('ä'));
}

//! The contents of the region, byte for byte.

use super::*;

/// ABI, Types TY-1 and TY-3: scalars alone in a transport.
#[test]
fn scalars_in_a_transport() {
    let region = Region::new();
    let word = Transport::word;
    assert_eq!(region.sent::<u8>(0xff_u8), word(0xff));
    assert_eq!(region.sent::<i8>(-1_i8), word(u64::MAX));
    assert_eq!(region.sent::<i16>(i16::MIN), word(0xffff_ffff_ffff_8000));
    assert_eq!(region.sent::<u32>(u32::MAX), word(0xffff_ffff));
    assert_eq!(region.sent::<i32>(-2_i32), word(0xffff_ffff_ffff_fffe));
    assert_eq!(scalar(u64::MAX), word(u64::MAX));
    assert_eq!(region.sent::<isize>(-1_isize), word(u64::MAX));
    assert_eq!(region.sent::<f32>(-1.5_f32), word(0xbfc0_0000));
    assert_eq!(region.sent::<f64>(-1.5_f64), word(0xbff8_0000_0000_0000));
    assert_eq!(region.sent::<bool>(true), word(1));
    assert_eq!(region.sent::<char>('ä'), word(0xe4));
    assert_eq!(region.sent::<()>(()), EMPTY);
    assert_eq!(region.sent::<Level>(Level::Low), word(u64::MAX), "TY-8");
    assert_eq!(region.sent::<OpenError>(OpenError::Denied), word(2), "TY-8");
    assert_eq!(region.sent::<Braced>(Braced::Second {}), word(1), "TY-8: no value in the braces");
    assert_eq!(region.sent::<Nothing>(Nothing {}), EMPTY, "TY-2");
    assert_eq!(region.sent::<Option<ForeignBuf>>(None::<&[u8]>), EMPTY, "TY-10");
    assert_eq!(region.sent::<Option<ForeignBuf>>(Some(&[])), word(1), "TY-10");
    assert_eq!(region.sent::<ForeignStr>(""), EMPTY, "T-4");
}

/// ABI, Overview O-3, Types TY-2, TY-7, TY-9, TY-11, Layout L-2, L-3, Arenas and loans A-8: forms
/// behind a pointer, byte for byte, the lowest first.
#[test]
fn wire_forms_behind_a_pointer() {
    let region = Region::new();
    // Old data must not be visible.
    let old =
        SharedBuf::copy_from(region.pair.host(), &[0xaa; 4 * PAGE_SIZE as usize / 2]).unwrap();
    drop(old);
    let stat = Stat { size: 0x0102, mode: 3, links: 4 };
    assert_eq!(
        region.behind::<Stat>(stat),
        join(&[&[2, 1, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 0, 4, 0, 0, 0]])
    );
    let mixed = Mixed { a: 0xff, b: 0x0102_0304, c: 0x0506, d: 7 | 8 << 120, e: true };
    #[rustfmt::skip]
    let right = [
        0xff, 0, 0, 0, 4, 3, 2, 1, 6, 5, 0, 0, 0, 0, 0, 0,
        7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8,
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(region.behind::<Mixed>(mixed), right);
    assert_eq!(region.behind::<Event>(Event::Quit), [0; 16]);
    let key = Event::Key { code: 0x0102_0304, down: true };
    assert_eq!(region.behind::<Event>(key), [5, 0, 0, 0, 4, 3, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        region.behind::<Event>(Event::Moved(u64::MAX - 1)),
        [6, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
    );
    assert_eq!(
        region.behind::<u128>(1 | 2 << 120),
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    );
    assert_eq!(region.behind::<Option<u8>>(None::<u8>), [0; 8]);
    assert_eq!(region.behind::<Option<u8>>(Some(9)), [1, 0, 0, 0, 9, 0, 0, 0]);
    assert_eq!(
        region.behind::<Option<u64>>(Some(9)),
        [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        region.behind::<Option<Option<u8>>>(Some(Some(7))),
        [1, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]
    );
    assert_eq!(
        region.behind::<Option<OpenError>>(Some(OpenError::Denied)),
        [1, 0, 0, 0, 2, 0, 0, 0]
    );
    assert_eq!(region.behind::<Option<()>>(Some(())), [1, 0, 0, 0]);
}

vmffi::ffi_interface! {
    #[derive(Clone, Debug, PartialEq)]
    pub enum Shape: u8 { Nothing, Line(u8, u32, u16) = 4, Wide(u64, bool) }
}

/// ABI, Types TY-9, Signatures SG-4: the values of a tuple variant are its fields in their order, without names.
#[test]
fn values_of_tuple_variants_are_fields() {
    let region = Region::new();
    // Old data must not be visible.
    drop(SharedBuf::copy_from(region.pair.host(), &[0xaa; PAGE_SIZE as usize]).unwrap());
    let mut line = [4, 0xff, 0, 0, 4, 3, 2, 1, 6, 5].to_vec();
    line.resize(24, 0);
    assert_eq!(region.behind::<Shape>(Shape::Line(0xff, 0x0102_0304, 0x0506)), line);
    let wide =
        join(&[&[5, 0, 0, 0, 0, 0, 0, 0], &[7, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0]]);
    assert_eq!(region.behind::<Shape>(Shape::Wide(7, true)), wide);
    assert_eq!(region.behind::<Shape>(Shape::Nothing), [0; 24]);

    let [repr, byte, half, word] = ["u8", "u8", "u16", "u32"].map(types::scalar);
    let [long, bit] = ["u64", "bool"].map(types::scalar);
    let variants = vec![
        ("Nothing", 0, vec![]),
        ("Line", 4, vec![("", byte), ("", word), ("", half)]),
        ("Wide", 5, vec![("", long), ("", bit)]),
    ];
    let by_the_document = hash::Type::Enum("Shape", repr.into(), variants);
    assert_eq!(Shape::HASH, by_the_document.hash());
    assert_eq!(by_the_document.layout(), (24, 8));
}

/// ABI, Types TY-5, TY-7 and TY-10, Pointers P-1, Arenas and loans: handles, in a
/// transport and in a struct.
#[test]
fn handles_are_pointer_words() {
    let region = Region::new();
    let to_host = region.pair.host();
    let arena = region.arena(Side::Guest);

    let text = region.sent::<ForeignStr>("twelve bytes");
    assert_eq!(text, Transport { primary: arena | 1 << 56, secondary: 12 }, "the first loan");
    assert_eq!(region.bytes(arena, 12), b"twelve bytes");

    let values: &[u16] = &[1, 0x0203];
    let slice = region.sent::<ForeignSlice<u16>>(values);
    assert_eq!(slice, Transport { primary: (arena + 64) | (1 << 56), secondary: 4 });
    assert_eq!(region.bytes(arena + 64, 4), [1, 0, 3, 2]);

    let stat = Stat { size: 1, mode: 2, links: 3 };
    let shared = Shared::new(to_host, stat).unwrap();
    let shared = region.sent::<Foreign<Stat>>(shared);
    assert_eq!(shared, Transport::word((arena + 128) | (1 << 56)));
    let form = join(&[&[1, 0, 0, 0, 0, 0, 0, 0], &[2, 0, 0, 0, 3, 0, 0, 0]]);
    assert_eq!(region.bytes(arena + 128, 16), form);

    let file = SharedFile {
        name: SharedStr::copy_from(to_host, "ab").unwrap(),
        stat,
        body: Some(SharedBuf::with_capacity(to_host, 0).unwrap()),
        meta: None,
    };
    let name = ((arena + 192) | (1 << 56)).to_le_bytes();
    #[rustfmt::skip]
    let right = join(&[
        &name, &[2, 0, 0, 0, 0, 0, 0, 0],
        &form,
        &[1, 0, 0, 0, 0, 0, 0, 0], &[0; 8],
        &[0; 8],
    ]);
    assert_eq!(region.wire::<File>(file), right);
}

/// ABI, Arenas and loans A-4: each loan of a place has the next number, from 1 to 255, then 1.
#[test]
fn loans_are_numbered_in_turn() {
    let region = Region::new();
    let mut numbers = Vec::new();
    for _ in 0..=256 {
        let Transport { primary, secondary } = region.sent::<ForeignBuf>(&[1]);
        assert_eq!((pointer::offset(primary), secondary), (region.arena(Side::Guest), 1));
        numbers.push(pointer::loan(primary));
        region
            .mark(Side::Guest, pointer::offset(primary))
            .store(pointer::loan(primary), Ordering::Release);
    }
    let right: Vec<_> = (1..=255).chain([1, 2]).collect();
    assert_eq!(numbers, right);
}

/// ABI, Parameter structs PS-3 and PS-4, Arenas and loans A-5: the struct lies in the caller's arena and
/// is not a loan: the callee does not release it, and it is free when the call ends.
#[test]
fn a_parameter_struct_is_free_when_the_call_ends() {
    let region = Region::new();
    let client = VectorsClient::from(region.pair.host());
    assert_eq!(client.scalars(1, -2, 3, -4, 5_usize, -6_isize, 1.5, -2.5, true, 'ä'), Ok(1));
    assert_eq!(region.marks(), [], "no loan");
    #[rustfmt::skip]
    let right = join(&[
        &[1, 0, 0xfe, 0xff, 3, 0, 0, 0],
        &(-4_i64).to_le_bytes(),
        &[5, 0, 0, 0, 0, 0, 0, 0],
        &(-6_i64).to_le_bytes(),
        &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 4, 0xc0],
        &[1, 0, 0, 0, 0xe4, 0, 0, 0],
    ]);
    assert_eq!(region.bytes(region.arena(Side::Guest), 56), right);
    assert_eq!(region.pair.host().arena_stats().blocks, 0);

    // The handler keeps one buffer; the others are released.
    let shared = Shared::new(region.pair.host(), Stat { size: 1, mode: 2, links: 3 }).unwrap();
    assert_eq!(client.maybe(Some(b"keep"), Some(shared), Some(None::<u8>)), Ok(Some(true)));
    let stats = region.pair.host().arena_stats();
    assert_eq!(stats.blocks, 1, "the buffer");
}

/// ABI, Arenas and loans A-8: the byte count is the number of bytes written, not the capacity.
#[test]
fn only_written_bytes_are_sent() {
    let region = Region::with(0xaa, Host::default());
    let mut buf = SharedBuf::with_capacity(region.pair.host(), 1000).unwrap();
    buf.extend_from_slice(b"abc").unwrap();
    let sent = region.sent::<ForeignBuf>(buf);
    assert_eq!(sent.secondary, 3);
    assert_eq!(region.bytes(pointer::offset(sent.primary), 3), b"abc");
}

/// ABI, Arenas and loans: a reset, as seen in the region.
#[test]
fn a_reset_ends_every_loan() {
    let mut region = Region::new();
    let arena = region.arena(Side::Guest);
    let own = SharedBuf::copy_from(region.pair.host(), b"own").unwrap();
    let sent = region.sent::<ForeignBuf>(b"lent");
    assert_eq!(sent.primary, (arena + 64) | (1 << 56));
    let held = ForeignBuf::from_transport(sent, incoming(region.pair.guest())).unwrap();
    let read = VectorsClient::from(region.pair.host()).read(7, 3).unwrap();
    let blocks =
        |pair: &Loopback| [pair.host(), pair.guest()].map(|peer| peer.arena_stats().blocks);
    assert_eq!(blocks(&region.pair), [2, 1]);
    region.pair.reset();
    assert_eq!(blocks(&region.pair), [1, 0], "blocks that were not lent stay their owner's");

    for handle in [held, read] {
        assert_eq!(handle.read_vec().unwrap_err().kind(), ErrorKind::Stale);
    }
    assert_eq!(region.mark(Side::Guest, arena + 64).load(Ordering::Acquire), 0, "no mark");
    let again = region.sent::<ForeignBuf>(b"lent again");
    assert_eq!(again.primary, (arena + 64) | (2 << 56), "the numbers continue");
    region.mark(Side::Guest, arena + 64).store(1, Ordering::Release);
    assert_eq!(blocks(&region.pair), [2, 0], "a mark of an earlier loan");
    region.pair.reset();
    assert_eq!(blocks(&region.pair), [1, 0]);
    let sent = region.sent::<ForeignBuf>(own);
    assert_eq!((sent.primary, sent.secondary), (arena | 1 << 56, 3));
}

/// ABI, Region header R-8, Release map M-4, Arenas and loans A-1: an owner relies neither on the earlier
/// contents of the memory, marks included, nor on what is written there later.
#[test]
fn an_owner_ignores_the_contents_of_its_memory() {
    for fill in [1, 2, 0xff] {
        let region = Region::with(fill, Host::default());
        let to_host = region.pair.host();
        let word = region.sent::<ForeignBuf>(&[5; 100]).primary;
        assert_eq!(word, region.arena(Side::Guest) | 1 << 56, "the first loan");
        assert_eq!(to_host.arena_stats().blocks, 1, "{fill}: ended by an old mark");
        let client = VectorsClient::from(to_host);
        let read = client.read(9, 100).unwrap();
        assert_eq!(region.pair.guest().arena_stats().blocks, 1, "{fill}: the host's block");
        assert_eq!(read.read_vec().unwrap(), [9; 100]);

        assert_eq!(to_host.arena_stats().blocks, 1, "the parameters are free");

        // Overwrites the whole arena but the block, and the map but its mark.
        let (arena, len) = region.pair.layout().arena(Side::Guest);
        region.poke(arena + 128, &vec![fill; len as usize - 128]);
        let map = region.pair.layout().release_map(Side::Guest);
        region.poke(map + 1, &vec![fill; len as usize / 64 - 1]);
        let rest = SharedBuf::with_capacity(to_host, len as usize - 128).unwrap();
        assert_eq!((rest.capacity(), to_host.arena_stats().blocks), (len as usize - 128, 2));
        assert!(SharedBuf::with_capacity(to_host, 1).is_err(), "{fill}");
        drop(rest);
        assert_eq!(to_host.arena_stats().blocks, 1);
        assert_eq!(client.narrow(5), Ok(5));
    }
}

/// ABI, Release map M-3: only the number of the loan ends it.
#[test]
fn a_mark_names_the_loan() {
    let region = Region::new();
    let blocks = || region.pair.host().arena_stats().blocks;
    let word = region.sent::<ForeignBuf>(&[1, 2, 3]).primary;
    let mark = region.mark(Side::Guest, pointer::offset(word));
    for wrong in (0..=255).filter(|number| *number != pointer::loan(word)) {
        mark.store(wrong, Ordering::Release);
        assert_eq!(blocks(), 1, "{wrong}");
    }
    mark.store(pointer::loan(word), Ordering::Release);
    assert_eq!(blocks(), 0);

    // Cleared before the place is lent again (M-4).
    let again = region.sent::<ForeignBuf>(&[4]).primary;
    assert_eq!(pointer::offset(again), pointer::offset(word));
    assert_eq!(mark.load(Ordering::Acquire), 0);
}

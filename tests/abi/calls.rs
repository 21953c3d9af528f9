//! Valid and invalid calls, made from the document alone.

use super::*;

/// A guest that is written from the document alone: it makes a parameter struct by hand, calls by
/// signature, reads the result in place, and releases it with a mark.
#[test]
fn a_call_by_hand() {
    let region = Region::new();
    let at = region.arena(Side::Guest) + 2 * 64;
    // fn read(file: u64, max: u32) -> ForeignBuf
    region.poke(at, &join(&[&[7, 0, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 0, 0xee, 0xee, 0xee, 0xee]]));
    let answer = region.call(ParamsVectorsRead::FUNCTION, at | 9 << 56, 0);
    assert_eq!(
        (answer.status, answer.transport.secondary),
        (0, 3),
        "L-3: padding is not looked at"
    );
    assert_eq!(region.marks(), [(2, 9)], "M-2: granule 2, loan 9");
    let word = answer.transport.primary;
    assert_eq!(word & 0x00ff_ffff_ffff_ffff, region.arena(Side::Host), "P-4, A-2");
    assert_eq!(region.bytes(region.arena(Side::Host), 3), [7, 7, 7]);
    assert_eq!(region.pair.guest().arena_stats().blocks, 1, "A-6: lent");
    region.mark(Side::Host, region.arena(Side::Host)).store((word >> 56) as u8, Ordering::Release);
    assert_eq!(region.pair.guest().arena_stats().blocks, 0, "M-3: released");

    // number 0, no mark.
    region.poke(region.pair.layout().release_map(Side::Guest), &[0; 8]);
    let answer = region.call(ParamsVectorsRead::FUNCTION, at, 0);
    assert_eq!((answer.status, answer.transport.secondary), (0, 3));
    assert_eq!(region.marks(), []);

    // TY-12: an application error, and `()`.
    region.poke(at, &[0; 24]);
    region.poke(at + 16, &[1]);
    let answer = region.call(ParamsVectorsOpen::FUNCTION, at, 0);
    assert_eq!(answer, Answer { status: 1, transport: Transport::word(2) });
    let answer = region.call(ParamsVectorsNothing::FUNCTION, 0, 0);
    assert_eq!(answer, Answer { status: 0, transport: EMPTY });
}

/// ABI, Checks C-1 to C-8: each is made, and has its status; none of these calls is reached.
#[test]
fn bad_calls_are_refused() {
    let region = Region::new();
    let arena = region.arena(Side::Guest);
    let (_, len) = region.pair.layout().arena(Side::Guest);
    let lent = arena | 1 << 56;
    let status = |function, primary, secondary| region.call(function, primary, secondary).status;

    // C-1
    let unknown = |signature| raw(region.pair.host(), signature, EMPTY).status;
    let known = 1..=signature::BATCH;
    for signature in (0..16).filter(|signature| !known.contains(signature)).chain([0xdead_beef]) {
        assert_eq!(unknown(signature), 2, "signature {signature:#x}");
    }
    // C-2, PS-1
    assert_eq!(status(ParamsVectorsNothing::FUNCTION, 0, 1), 4);
    assert_eq!(status(ParamsVectorsNothing::FUNCTION, 1, 0), 4);
    assert_eq!(status(ParamsVectorsNarrow::FUNCTION, 5, 1), 4);
    assert_eq!(status(ParamsVectorsWide::FUNCTION, lent, 1), 4);
    assert_eq!(status(ParamsVectorsRead::FUNCTION, lent, 1), 4);
    // C-3, for 16 bytes
    let read = |word| status(ParamsVectorsRead::FUNCTION, word, 0);
    assert_eq!(read(lent), 0);
    assert_eq!(read(arena + len - 16), 0);
    for bad in [
        0,
        1,
        arena - 16,
        arena + len - 8,
        arena + len,
        region.arena(Side::Host),
        arena | 1 << 48,
        arena | 1 << 55,
        (1 << 56) - 16,
        u64::MAX - 15,
    ] {
        assert_eq!(read(bad), 3, "{bad:#x}");
    }
    let sum = |word, len| status(ParamsVectorsSum::FUNCTION, word, len);
    assert_eq!(sum(lent, len), 0);
    for bad in [len + 2, 1 << 48, 1 << 63, u64::MAX - 1, 0_u64.wrapping_sub(arena)] {
        assert_eq!(sum(lent, bad), 3, "{bad:#x} bytes");
    }
    // C-4
    assert_eq!(read(arena + 4), 3);
    assert_eq!(status(ParamsVectorsWide::FUNCTION, arena + 8, 0), 3);
    assert_eq!(sum(lent + 1, 2), 3);
    assert_eq!(sum(lent + 2, 2), 0);
    // C-5
    assert_eq!(sum(arena, 2), 3);
    // T-4: an empty buffer's pointer is not validated.
    assert_eq!(sum(u64::MAX, 0), 0);
    // C-6, alone: TY-3, TY-4.
    let narrow = |primary| status(ParamsVectorsNarrow::FUNCTION, primary, 0);
    assert_eq!(narrow(-128_i64 as u64), 0);
    for bad in [128, 255, -129_i64 as u64, 1 << 32, u64::MAX ^ 0xff] {
        assert_eq!(narrow(bad), 4, "{bad:#x}");
    }
    // C-6, in a parameter struct: bool, char, tag, absent buffer.
    let at = arena + 64;
    let scalars = |offset: u64, bytes: &[u8]| {
        region.poke(at, &[0; 56]);
        region.poke(at + offset, bytes);
        status(ParamsVectorsScalars::FUNCTION, at, 0)
    };
    assert_eq!(scalars(48, &[1, 0xff, 0xff, 0xff]), 0, "TY-4, L-3");
    assert_eq!(scalars(48, &[2]), 4, "TY-4");
    assert_eq!(scalars(52, &0x0010_ffff_u32.to_le_bytes()), 0, "TY-4");
    assert_eq!(scalars(52, &0x0011_0000_u32.to_le_bytes()), 4, "TY-4");
    assert_eq!(scalars(52, &0xd800_u32.to_le_bytes()), 4, "TY-4");
    let maybe = |offset: u64, bytes: &[u8]| {
        region.poke(at, &[0; 40]);
        region.poke(at + offset, bytes);
        status(ParamsVectorsMaybe::FUNCTION, at, 0)
    };
    assert_eq!(maybe(0, &[]), 0);
    assert_eq!(maybe(8, &[1]), 4, "TY-10");
    assert_eq!(maybe(0, &[1]), 0, "P-3");
    assert_eq!(maybe(24, &[2]), 4, "TY-11");
    assert_eq!(maybe(28, &[9, 9, 9, 9, 9]), 0, "TY-11: the value of `None`");
    assert_eq!(maybe(24, &[1, 0, 0, 0, 2]), 4, "TY-11, nested");
    // C-6: TY-8 and TY-9.
    let event = |number: u16| {
        region.poke(at, &[0; 16]);
        region.poke(at, &number.to_le_bytes());
        status(ParamsVectorsEvent::FUNCTION, at, 0)
    };
    assert_eq!([0, 1, 4, 5, 6, 7].map(event), [0, 4, 4, 0, 0, 4]);
    // C-7
    assert_eq!(sum(lent, 3), 4);
    // PS-6: there is no mark for an invalid struct; only calls with valid pointers have written to
    // the map.
    assert!(region.marks().iter().all(|(granule, _)| *granule == 0));
}

/// ABI, Parameter structs PS-5: every valid handle beside a bad parameter is released.
#[test]
fn a_refused_call_releases_its_handles() {
    let region = Region::new();
    let arena = region.arena(Side::Guest);
    let at = arena + 64;
    let word = |granule: u64, loan: u64| ((arena + 64 * granule) | (loan << 56)).to_le_bytes();
    // The buffer is good, `meta` is not lent, the option's tag is 7.
    region.poke(at, &join(&[&word(4, 3), &[8, 0, 0, 0, 0, 0, 0, 0], &word(5, 0), &[7, 0, 0, 0]]));
    let answer = region.call(ParamsVectorsMaybe::FUNCTION, at | 2 << 56, 0);
    assert_eq!(answer.status, 3, "the first bad one is `meta`");
    assert_eq!(region.marks(), [(1, 2), (4, 3)]);
}

/// ABI, Arenas and loans A-7: a handle is valid until its holder releases it.
#[test]
fn a_kept_handle_stays_lent() {
    let region = Region::new();
    let to_host = region.pair.host();
    let file = SharedFile {
        name: SharedStr::copy_from(to_host, "name").unwrap(),
        stat: Stat { size: 1, mode: 2, links: 3 },
        body: None,
        meta: None,
    };
    let failed = VectorsClient::from(to_host).send(file);
    assert_eq!(failed, Err(Failure::App(Level::Low)), "S-3: consumed, with status 1");
    assert_eq!(to_host.arena_stats().blocks, 1, "the name");
}

/// ABI, Signatures SG-6 and SG-7.
#[test]
fn has_is_signature_1() {
    let region = Region::new();
    let has = |signature| raw(region.pair.host(), 1, Transport::word(signature));
    for function in FUNCTIONS {
        assert_eq!(has(function.signature), Answer { status: 0, transport: Transport::word(1) });
    }
    for other in [0, 1, 15, 16, !FUNCTIONS[0].signature] {
        assert_eq!(has(other), Answer { status: 0, transport: EMPTY }, "{other:#x}");
    }
    // T-3: a byte count has no place there.
    for primary in [0, FUNCTIONS[0].signature] {
        let answer = raw(region.pair.host(), 1, Transport { primary, secondary: 1 });
        assert_eq!(answer, Answer::status(4));
    }
    // The guest answers it too.
    let has = raw(region.pair.guest(), 1, Transport::word(ParamsLadderClimb::FUNCTION.signature));
    assert_eq!(has.transport.primary, 1);
    let (_, text) = DOCUMENT.split_once("**SG-6** Signatures 0 to ").unwrap();
    assert!(text.starts_with(&format!("{} are reserved", signature::FIRST_FREE - 1)));
    assert_eq!(signature::HAS, 1);
}

/// ABI, Nesting N-1 and N-2: calls nest sixteen deep, hypercalls and upcalls in turn, and no deeper.
#[test]
fn calls_nest_sixteen_deep() {
    let region = Region::new();
    for peer in [region.pair.host(), region.pair.guest()] {
        let ladder = LadderClient::from(peer);
        assert_eq!(ladder.climb(16), Ok(16));
        let error = ladder.climb(17).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooDeep);
    }
    assert_eq!(MAX_DEPTH, 16);
    assert!(DOCUMENT.contains("Calls may be nested 16 deep (`MAX_DEPTH`)"));
}

/// ABI, Nesting N-3: two chains of calls run at the same time, each to almost the greatest depth,
/// and a third call is too deep.
#[test]
fn each_vcpu_has_a_chain_of_its_own() {
    let region = Region::with(0, Host { top: Some(Barrier::new(2)), ..Host::default() });
    let climb = |left| LadderClient::from(region.pair.host()).climb(left);
    std::thread::scope(|scope| {
        let chains = [15, 15].map(|left| scope.spawn(move || climb(left)));
        assert_eq!(chains.map(|chain| chain.join().unwrap()), [Ok(15), Ok(15)]);
    });
    assert_eq!(climb(17).unwrap_err().kind(), ErrorKind::TooDeep);
}

/// ABI, Checks C-9: a read stays within the bytes that were checked when the handle arrived, and
/// validates them again each time, since the peer may have changed them.
#[test]
fn reads_are_validated_each_time() {
    fn received<T: FfiType>(region: &Region, value: impl SendAs<T>) -> (T, u64) {
        let sent = region.sent::<T>(value);
        let held = T::from_transport(sent, incoming(region.pair.guest())).unwrap();
        (held, pointer::offset(sent.primary))
    }
    let why = |error: CallError| error.kind();
    let region = Region::new();

    let flag = Shared::new(region.pair.host(), true).unwrap();
    let (flag, at) = received::<Foreign<bool>>(&region, flag);
    for (byte, read) in [(1, Ok(true)), (2, Err(ErrorKind::BadValue)), (0, Ok(false))] {
        region.poke(at, &[byte]);
        assert_eq!(flag.read().map_err(why), read);
    }

    let (letters, at) = received::<ForeignSlice<char>>(&region, &['a', 'b']);
    region.poke(at + 8, &[b'c', 0, 0, 0]);
    region.poke(at + 4, &0xd800_u32.to_le_bytes());
    assert_eq!(letters.get(0), Ok(Some('a')));
    assert_eq!(letters.get(1).map_err(why), Err(ErrorKind::BadValue));
    assert_eq!(letters.get(2), Ok(None));
    assert_eq!(letters.read_vec().map_err(why), Err(ErrorKind::BadValue));
    region.poke(at + 4, &[b'd', 0, 0, 0]);
    assert_eq!(letters.read_vec(), Ok(vec!['a', 'd']));

    let (text, at) = received::<ForeignStr>(&region, "ab");
    region.poke(at, &[0xff]);
    assert_eq!(text.read_string().map_err(why), Err(ErrorKind::BadValue));
    region.poke(at, b"x");
    assert_eq!(text.read_string().as_deref(), Ok("xb"));

    let (bytes, _) = received::<ForeignBuf>(&region, &[1, 2, 3]);
    let mut two = [0; 2];
    assert_eq!(bytes.read_at(1, &mut two), Ok(()));
    assert_eq!(two, [2, 3]);
    for from in [2, 3, 4, usize::MAX] {
        assert_eq!(
            bytes.read_at(from, &mut two).map_err(why),
            Err(ErrorKind::BadPointer),
            "{from}"
        );
    }
    assert_eq!(two, [2, 3]);
}

mod older {
    vmffi::ffi_interface! {
        pub interface Clock { fn now() -> u32; }
    }
}

mod newer {
    vmffi::ffi_interface! {
        pub interface Clock { fn now() -> u64; }
    }
}

struct Clocks;

impl older::Clock for Clocks {
    fn now(&self, _: &Peer) -> Result<u32, CallError> {
        Ok(32)
    }
}

impl newer::Clock for Clocks {
    fn now(&self, _: &Peer) -> Result<u64, CallError> {
        Ok(64)
    }
}

vmffi::serve!(Clocks: older::Clock, newer::Clock);

/// ABI, Versioning V-3, Signatures SG-1: a function with changed types is a different function, and
/// one side serves both.
#[test]
fn a_changed_function_has_another_signature() {
    let pair = Loopback::new((), Clocks).unwrap();
    assert_eq!(older::ClockClient::from(pair.host()).now(), Ok(32));
    assert_eq!(newer::ClockClient::from(pair.host()).now(), Ok(64));
}

type Time = u64;

mod spelt_otherwise {
    vmffi::ffi_interface! {
        /// The same function, with documentation and in another module.
        #[allow(non_camel_case_types, reason = "as it is spelt")]
        pub interface r#Alarm {
            /// The parameters have other names, and so has one type.
            #[must_use]
            fn r#set(r#when: super::Time, loud: bool) -> u8;
            fn more();
        }
    }
}

mod spelt_so {
    vmffi::ffi_interface! {
        pub interface Alarm { fn set(at: u64, noise: bool) -> u8; }
    }
}

/// ABI, Signatures SG-1 and SG-5: what does not change a signature.
#[test]
fn signatures_that_are_the_same() {
    let (one, other) =
        (spelt_so::ParamsAlarmSet::FUNCTION, spelt_otherwise::ParamsAlarmSet::FUNCTION);
    assert_eq!(one.signature, other.signature);
    assert_ne!(one.signature, spelt_otherwise::ParamsAlarmMore::FUNCTION.signature);
}

/// ABI, Signatures SG-8: a table with the same signature twice cannot be made.
#[test]
fn signatures_differ_within_a_side() {
    use vmffi::__private::dispatch::{Index, buckets, slots};
    let [one, other] = [*FUNCTIONS[0], *FUNCTIONS[1]];
    let make = |functions| {
        std::panic::catch_unwind(|| Index::<{ buckets(2) }, { slots(2) }>::build(&functions))
    };
    assert!(make([one, other]).is_ok());
    let refused = *make([one, one]).unwrap_err().downcast::<String>().unwrap();
    assert!(
        refused.contains("same signature") && refused.contains("Vectors::nothing"),
        "{refused}"
    );
}

/// ABI, Log LG-1 and LG-2: what is a line and what is not, and that its block is released.
#[test]
fn lines_of_a_log() {
    let region = Region::new();
    let arena = region.arena(Side::Guest);
    let send = |line: &[u8]| {
        region.poke(arena, line);
        let transport = Transport { primary: arena | 1 << 56, secondary: line.len() as u64 };
        raw(region.pair.host(), signature::LOG, transport)
    };
    for (line, status) in [
        (&b"\x03\x05guestall is well"[..], 0),
        (b"\x01\x00", 0),
        (b"\x05\x02xy\xff\xfe", 0),
        (b"\x00\x00text", 4),
        (b"\x06\x00text", 4),
        (b"\x03\x05text", 4),
        (b"\x03", 4),
        (b"", 4),
    ] {
        let answer = send(line);
        assert_eq!(answer, Answer { status, transport: EMPTY }, "{line:?}");
        let mark = region.mark(Side::Guest, arena).swap(0, Ordering::AcqRel);
        assert_eq!(mark, u8::from(!line.is_empty()), "{line:?}");
    }
    let outside = Transport { primary: arena - 64, secondary: 8 };
    assert_eq!(raw(region.pair.host(), signature::LOG, outside).status, 3);
    assert_eq!(raw(region.pair.guest(), signature::LOG, EMPTY).status, 2, "it is for hosts");
}

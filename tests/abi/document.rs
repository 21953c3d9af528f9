//! Tables, vectors, titles and numbers of the document.

use super::*;

/// ABI, Signatures SG-1 to SG-5: the code's signatures, those computed from the words of the
/// document, and those in its table are the same.
#[test]
fn signatures_match_the_document() {
    use hash::Type::Result;
    use types::*;
    let all: [(&str, Vec<hash::Type>, hash::Type); 13] = [
        ("nothing", vec![], unit()),
        (
            "scalars",
            ["u8", "i16", "u32", "i64", "usize", "isize", "f32", "f64", "bool", "char"]
                .map(scalar)
                .into(),
            scalar("u64"),
        ),
        ("narrow", vec![scalar("i8")], scalar("u16")),
        ("word", vec![scalar("i32")], scalar("char")),
        ("wide", vec![scalar("u128")], scalar("i128")),
        ("stat", vec![scalar("u64")], foreign(stat())),
        ("read", vec![scalar("u64"), scalar("u32")], buf()),
        ("open", vec![text(), scalar("u32")], Result(scalar("u64").into(), open_error().into())),
        ("sum", vec![slice(scalar("u16"))], scalar("u64")),
        ("total", vec![slice(stat()), mixed()], mixed()),
        ("event", vec![event()], option(event())),
        ("send", vec![file()], Result(unit().into(), level().into())),
        (
            "maybe",
            vec![option(buf()), option(foreign(stat())), option(option(scalar("u8")))],
            option(scalar("bool")),
        ),
    ];
    let squeeze = |text: &str| text.replace(char::is_whitespace, "");
    let mut listed: BTreeMap<_, _> = table("Signatures", &["function", "signature"])
        .into_iter()
        .map(|row| (squeeze(&row[0]), row[1].clone()))
        .collect();
    let contract = Contract::read(Host::CONTRACT).unwrap().to_string();
    let of_vectors = contract.lines().filter_map(|line| line.strip_prefix("serves Vectors::"));
    let declarations: BTreeMap<_, _> = of_vectors
        .filter_map(|line| line.split_once(": "))
        .map(|(name, declaration)| (name, declaration.to_owned()))
        .collect();
    for ((name, parameters, returned), function) in all.iter().zip(FUNCTIONS) {
        assert_eq!(*name, function.name);
        let (_, computed) = hash::function(name, parameters, returned);
        let shown = format!("{computed:#018x}");
        let declared = declarations[*name].as_str();
        assert_eq!(function.signature, computed, "{declared} is {shown} by the document's rules");
        let row = listed.remove(&squeeze(declared));
        assert_eq!(row, Some(shown), "row of `{declared}`");
    }
    assert!(listed.is_empty(), "rows without a function: {listed:?}");
}

/// ABI, Signatures SG-4: the same for the types by themselves, and the example of an input.
#[test]
fn hashes_of_types_match_the_document() {
    use types::*;
    let all: [(&str, u64, hash::Type); 24] = [
        ("()", <()>::HASH, unit()),
        ("u8", u8::HASH, scalar("u8")),
        ("u64", u64::HASH, scalar("u64")),
        ("usize", usize::HASH, scalar("usize")),
        ("i128", i128::HASH, scalar("i128")),
        ("f32", f32::HASH, scalar("f32")),
        ("bool", bool::HASH, scalar("bool")),
        ("char", char::HASH, scalar("char")),
        ("ForeignBuf", ForeignBuf::HASH, buf()),
        ("ForeignStr", ForeignStr::HASH, text()),
        ("Stat", Stat::HASH, stat()),
        ("Mixed", Mixed::HASH, mixed()),
        ("File", File::HASH, file()),
        ("OpenError", OpenError::HASH, open_error()),
        ("Level", Level::HASH, level()),
        ("Event", Event::HASH, event()),
        ("Option<u32>", <Option<u32>>::HASH, option(scalar("u32"))),
        ("Foreign<Stat>", <Foreign<Stat>>::HASH, foreign(stat())),
        ("[u8; 16]", <[u8; 16]>::HASH, array(scalar("u8"), 16)),
        ("[Stat; 2]", <[Stat; 2]>::HASH, array(stat(), 2)),
        ("(u8, u64)", <(u8, u64)>::HASH, tuple([scalar("u8"), scalar("u64")])),
        ("(ForeignStr,)", <(ForeignStr,)>::HASH, tuple([text()])),
        ("ForeignPacked<Entry>", <ForeignPacked<Entry<'_>>>::HASH, packed(entry())),
        (
            "ForeignPacked<List<Cell>>",
            <ForeignPacked<List<'_, Cell<'_>>>>::HASH,
            packed(list(cell())),
        ),
    ];
    let rows = table("Signatures", &["type", "hash"]);
    assert_eq!(rows.len(), all.len());
    for ((name, in_code, ty), row) in all.into_iter().zip(rows) {
        let shown = format!("{:#018x}", ty.hash());
        assert_eq!(in_code, ty.hash(), "{name} is {shown} by the document's rules");
        assert_eq!(row, [name, &shown]);
    }

    let (input, _) = hash::function("nothing", &[], &unit());
    let (_, example) = DOCUMENT.split_once("the input of the signature of `nothing` is").unwrap();
    let example = example.split("\n## ").next().unwrap();
    let digits: String = example
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.len() >= 16 && code.bytes().all(|b| b" 0123456789abcdef".contains(&b)))
        .flat_map(str::chars)
        .filter(|c| *c != ' ')
        .collect();
    let shown: String = input.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digits, shown);
}

/// ABI, Types TY-1, TY-7, TY-9 to TY-11, TY-14, TY-15, and Layout: sizes and alignments of wire forms.
#[test]
fn sizes_match_the_document() {
    fn layout<T: FfiType>() -> (u64, u64) {
        (size_of::<T::Wire>() as u64, align_of::<T::Wire>() as u64)
    }
    let code = |name: &str| match name {
        "u8" => layout::<u8>(),
        "i8" => layout::<i8>(),
        "bool" => layout::<bool>(),
        "u16" => layout::<u16>(),
        "i16" => layout::<i16>(),
        "u32" => layout::<u32>(),
        "i32" => layout::<i32>(),
        "f32" => layout::<f32>(),
        "char" => layout::<char>(),
        "u64" => layout::<u64>(),
        "usize" => layout::<usize>(),
        "i64" => layout::<i64>(),
        "isize" => layout::<isize>(),
        "f64" => layout::<f64>(),
        "u128" => layout::<u128>(),
        "i128" => layout::<i128>(),
        "()" => layout::<()>(),
        "Foreign<T>" => layout::<Foreign<u8>>(),
        "ForeignBuf" => layout::<ForeignBuf>(),
        "ForeignStr" => layout::<ForeignStr>(),
        "ForeignSlice<T>" => layout::<ForeignSlice<u8>>(),
        "ForeignPacked<T>" => layout::<ForeignPacked<u8>>(),
        _ => panic!("what is `{name}`?"),
    };
    let mut seen = 0;
    for row in table("Types", &["type", "size", "align", "alone in a transport"]) {
        let [names, size, align, _] = row.try_into().unwrap();
        if size.starts_with(|c: char| c.is_ascii_digit()) {
            for name in names.split(", ") {
                assert_eq!(code(&plain(name)), (number(&size), number(&align)), "{name}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 22);

    assert_eq!(layout::<Nothing>(), (0, 1));
    assert_eq!(layout::<Stat>(), types::stat().layout());
    assert_eq!(layout::<Mixed>(), types::mixed().layout());
    assert_eq!(layout::<File>(), types::file().layout());
    assert_eq!(layout::<Event>(), types::event().layout());
    assert_eq!(layout::<Level>(), (1, 1));
    assert_eq!(layout::<Option<()>>(), (4, 4));
    assert_eq!(layout::<Option<u8>>(), (8, 4));
    assert_eq!(layout::<Option<u64>>(), (16, 8));
    assert_eq!(layout::<Option<u128>>(), (32, 16));
    assert_eq!(layout::<Option<ForeignBuf>>(), (16, 8));
    assert_eq!(layout::<Option<Option<ForeignBuf>>>(), (24, 8));
    assert_eq!(layout::<Option<Option<u8>>>(), (12, 4));
    assert_eq!(layout::<[Mixed; 3]>(), types::array(types::mixed(), 3).layout());
    assert_eq!(layout::<[u32; 0]>(), (0, 4));
    assert_eq!(layout::<[(); 5]>(), (0, 1));
    assert_eq!(layout::<(u8,)>(), (1, 1));
    assert_eq!(layout::<(u8, u128, u16)>(), (48, 16));
    assert_eq!(layout::<Option<(u8, u8)>>(), (8, 4));
    let [byte, wide] = ["u8", "u128"].map(types::scalar);
    let of = types::tuple([byte, wide, types::file()]);
    assert_eq!(layout::<(u8, u128, File)>(), of.layout());
}

/// Whether a type has no handles in it: the trait's constant is found where the type has none of its own,
/// which would have priority.
struct Probe<T>(std::marker::PhantomData<T>);

impl<T: vmffi::Plain> Probe<T> {
    const PLAIN: bool = true;
}

trait Otherwise {
    const PLAIN: bool = false;
}

impl<T> Otherwise for Probe<T> {}

/// ABI, Types TY-13: what `Foreign<T>` and `ForeignSlice<T>` may have as `T`.
#[test]
fn types_without_handles() {
    let plain = [
        <Probe<u8>>::PLAIN,
        <Probe<char>>::PLAIN,
        <Probe<u128>>::PLAIN,
        <Probe<Stat>>::PLAIN,
        <Probe<Mixed>>::PLAIN,
        <Probe<Level>>::PLAIN,
        <Probe<Event>>::PLAIN,
        <Probe<Option<Option<Event>>>>::PLAIN,
        <Probe<[Event; 2]>>::PLAIN,
        <Probe<(u8, [Stat; 2])>>::PLAIN,
    ];
    assert_eq!(plain, [true; 10]);
    let with_handles = [
        <Probe<ForeignBuf>>::PLAIN,
        <Probe<ForeignStr>>::PLAIN,
        <Probe<Foreign<u8>>>::PLAIN,
        <Probe<ForeignSlice<u8>>>::PLAIN,
        <Probe<File>>::PLAIN,
        <Probe<Option<ForeignBuf>>>::PLAIN,
        <Probe<Option<File>>>::PLAIN,
        <Probe<[ForeignStr; 2]>>::PLAIN,
        <Probe<(u8, ForeignStr)>>::PLAIN,
    ];
    assert_eq!(with_handles, [false; 9]);
}

/// ABI, Traps TR-2, TR-3, TR-7 and TR-21.
#[test]
fn kinds_match_the_document() {
    let heading = |kind| [kind, "value", "word", "transport"];
    let values: BTreeMap<_, _> = table("Traps", &heading("kind"))
        .into_iter()
        .map(|row| (row[0].clone(), number(&row[1])))
        .collect();
    let traps = [trap::CALL, trap::RETURN, trap::READY, trap::EXIT];
    let names = ["CALL", "RETURN", "READY", "EXIT"];
    assert_eq!(values, names.map(str::to_owned).into_iter().zip(traps).collect());
    let answers = [("ANSWER", answer::ANSWER), ("UPCALL", answer::UPCALL)];
    for (name, value) in answers {
        assert!(DOCUMENT.contains(&format!("| `{name}` | `{value:#018x}` |")), "{name}");
        assert!(!traps.contains(&value), "{name}");
    }
    let x86_64 = table("Traps", &["instruction", "bytes", "operand", "for"]);
    let x86_64 = x86_64.iter().map(|row| (row[0].clone(), row[1].clone()));
    let others = table("Traps", &["on", "instruction", "bytes", "operands", "words", "for"]);
    let others = others.iter().map(|row| (row[1].clone(), row[2].clone()));
    let all: BTreeMap<_, _> = x86_64.chain(others).collect();
    assert_eq!(all.len(), 9);
    for (instruction, code) in codes() {
        let shown: Vec<_> = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(all[instruction], shown.join(" "), "{instruction}");
    }
}

/// The instructions of this architecture, with their bytes.
fn codes() -> Vec<(&'static str, &'static [u8])> {
    #[cfg(target_arch = "x86_64")]
    {
        use vmffi::arch::x86_64::code;
        vec![
            ("out dx, eax", &code::OUT),
            ("mov [rdx], rax", &code::DOORBELL),
            ("vmcall", &code::VMCALL),
            ("vmmcall", &code::VMMCALL),
        ]
    }
    #[cfg(target_arch = "aarch64")]
    {
        use vmffi::arch::aarch64::code;
        vec![("str x0, [x1]", &code::DOORBELL), ("hvc #0", &code::HVC), ("smc #0", &code::SMC)]
    }
    #[cfg(target_arch = "riscv64")]
    {
        use vmffi::arch::riscv64::code;
        vec![("sd a0, 0(a1)", &code::DOORBELL), ("ecall", &code::ECALL)]
    }
}

/// ABI, Statuses S-2 and S-3.
#[test]
fn statuses_match_the_document() {
    let rows = table("Statuses", &["number", "name", "meaning"]);
    let all = [
        ErrorKind::UnknownFunction,
        ErrorKind::BadPointer,
        ErrorKind::BadValue,
        ErrorKind::OutOfMemory,
        ErrorKind::TooDeep,
        ErrorKind::Busy,
        ErrorKind::Cancelled,
        ErrorKind::VersionMismatch,
        ErrorKind::Unsupported,
        ErrorKind::PeerPanicked,
        ErrorKind::PeerDied,
        ErrorKind::Stale,
        ErrorKind::Refused,
        ErrorKind::Protocol,
    ];
    assert_eq!(rows.len(), all.len());
    for (row, why) in rows.iter().zip(all) {
        assert_eq!((number(&row[0]), row[1].clone()), (why as u64, format!("{why:?}")));
    }
}

/// ABI, Statuses S-3 to S-6, as the callee makes them.
#[test]
fn statuses_of_calls() {
    let region = Region::new();
    let narrow = ParamsVectorsNarrow::FUNCTION;
    let status = |primary, secondary| region.call(narrow, primary, secondary);
    assert_eq!(status(5, 0), Answer { status: 0, transport: Transport::word(5) });
    assert_eq!(status(0, 0), Answer::status(78), "S-6: refused");
    assert_eq!(status(128, 0), Answer::status(4), "S-4: not reached");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = status(1, 0);
    std::panic::set_hook(hook);
    assert_eq!(panicked, Answer::status(75), "S-6: panicked");
    assert_eq!(status(5, 0).status, 0, "and the side continues");
}

/// ABI, Region header: the header in memory, of a host that does not distinguish lives.
#[test]
fn header_fields_match_the_document() {
    let region = Region::new();
    let layout = region.pair.layout();
    let (guest, host) = (layout.arena(Side::Guest), layout.arena(Side::Host));
    let right = |field: &str| match field {
        "magic" => u64::from_le_bytes(*b"VMFFI\0\0\0"),
        "version" => ABI_VERSION.into(),
        "region_len" => layout.len(),
        "guest_arena" => guest.0,
        "guest_arena_len" => guest.1,
        "host_arena" => host.0,
        "host_arena_len" => host.1,
        "guest_release_map" => layout.release_map(Side::Guest),
        "host_release_map" => layout.release_map(Side::Host),
        "generation" | "seed" => 0,
        _ => panic!("what is `{field}`?"),
    };
    let mut header = vec![0; PAGE_SIZE as usize];
    let rows = table("Region header", &["offset", "bytes", "field", "value"]);
    assert_eq!(rows.len(), 11);
    let mut end = 0;
    for row in rows {
        let (at, len) = (number(&row[0]) as usize, number(&row[1]) as usize);
        assert!(at >= end, "{} overlaps the field before it", row[2]);
        end = at + len;
        let word = len.min(8);
        header[at..at + word].copy_from_slice(&right(&row[2]).to_le_bytes()[..word]);
    }
    assert_eq!(region.bytes(0, PAGE_SIZE as usize), header);

    // The formulae of R-4, and the example of R-7.
    let up = |len: u64| len.div_ceil(4096) * 4096;
    let (guest_len, host_len) = (12288, 307_200);
    let host_map = 4096;
    let guest_map = host_map + up(host_len / 64);
    let guest_arena = guest_map + up(guest_len / 64);
    let host_arena = guest_arena + guest_len;
    let end = host_arena + host_len;
    let words = [end, guest_arena, guest_len, host_arena, host_len, guest_map, host_map];
    assert_eq!([2, 3, 4, 5, 6, 7, 8].map(|i| region.u64(8 * i)), words);
    assert_eq!(words, [335_872, 16384, 12288, 28672, 307_200, 12288, 4096]);
    let (_, example) = DOCUMENT.split_once("**R-7**").unwrap();
    let example = example.split("\n## ").next().unwrap();
    for (name, value) in [
        ("host_release_map", host_map),
        ("guest_release_map", guest_map),
        ("guest_arena", guest_arena),
        ("host_arena", host_arena),
        ("region_len", end),
    ] {
        let words: Vec<_> = example.split_whitespace().collect();
        let shown = format!("`{name}` {value}");
        assert!(words.join(" ").contains(&shown), "{shown}");
    }
}

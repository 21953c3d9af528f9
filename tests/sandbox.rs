//! The sandbox of the examples: its program with good, bad and hostile files, and its host
//! against a guest that a file has taken over.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

extern crate alloc;

use std::{
    fs::{self, File},
    io::{self, Cursor, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use host::{Error, GzipError, Sandbox, Summary};
use support::{guests, skips::skip};
use vmffi::{
    CallError, Failure,
    machine::{Backend, Image},
};

// By their paths: these files are the example's, which the tests examine in this process as well.
#[path = "../examples/guests/sandbox/src/gzip.rs"]
mod gzip;
#[path = "../examples/sandbox/host.rs"]
mod host;

/// The module in the folder `tests/sandbox`.
mod sandbox {
    pub mod files;
}

use sandbox::files::{self, Member, noise, text};

fn backends() -> impl Iterator<Item = Backend> {
    Backend::ALL.iter().copied().filter(|backend| match backend.check() {
        Ok(()) => true,
        Err(error) => {
            skip(backend, error);
            false
        }
    })
}

/// The example's program, which `cargo test` builds beside this one.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/sandbox");
    let built = fs::metadata(&program).and_then(|data| data.modified());
    let built = built.expect("built by `cargo test`, or by `cargo build --example sandbox`");
    for source in ["sandbox.rs", "sandbox/host.rs"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(source);
        let written = fs::metadata(source).unwrap().modified().unwrap();
        assert!(written <= built, "the example is old: `cargo build --example sandbox`");
    }
    program
}

/// A file for one test.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sandbox-{name}.gz"));
    fs::write(&path, bytes).unwrap();
    path
}

fn run(backend: Backend, path: &Path) -> Output {
    let mut sandbox = Command::new(program());
    sandbox.args(["--backend", backend.name()]).arg(path).output().unwrap()
}

/// The output of gzip itself for a file, if it is GNU gzip: others answer otherwise to garbage behind a file.
fn by_gzip(path: &Path) -> Option<Output> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| match Command::new("gzip").arg("--version").output() {
        Ok(output) if output.stdout.starts_with(b"gzip 1.") => None,
        Ok(_) => Some("not GNU gzip".into()),
        Err(error) => Some(error.to_string()),
    });
    match missing {
        None => Some(Command::new("gzip").arg("-dc").arg(path).output().unwrap()),
        Some(why) => {
            skip("gzip -dc", why);
            None
        }
    }
}

/// Keeps all that is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The folders of the guests: the example's, and a hostile one.
const SANDBOX: (&str, &str) = ("examples/guests/sandbox", "sandbox");
const ROGUE: (&str, &str) = ("tests/sandbox/rogue", "rogue");

fn sandbox((folder, program): (&str, &str), backend: Backend) -> Sandbox {
    let image = Image::open(guests::build(folder, program).unwrap()).unwrap();
    Sandbox { image, backend, patience: Duration::from_secs(20) }
}

#[test]
fn files_are_unpacked_unchanged() {
    let long = text(3 << 20);
    let all = Member {
        extra: Some(&[7; 300]),
        name: Some("a name"),
        comment: Some("of two\nlines"),
        header_crc: true,
        ..Member::of(b"all of a header")
    };
    let parts = [&b"one"[..], b"", &long[..100_000], b"four"];
    let members: Vec<u8> = parts.iter().flat_map(|part| Member::of(part).file()).collect();
    let one = Member::of(b"one").file();
    let with = |tail: &[u8]| [&one[..], tail].concat();
    let cases: Vec<(&str, Vec<u8>, Vec<u8>, i32)> = vec![
        ("nothing", Member::of(b"").file(), vec![], 0),
        ("one-byte", Member::of(b"a").file(), b"a".into(), 0),
        ("noise", Member::of(&noise(1 << 20)).file(), noise(1 << 20), 0),
        ("text", Member::of(&long[..1 << 20]).file(), long[..1 << 20].into(), 0),
        // More than the region holds, compressed and uncompressed.
        ("long", Member { level: 0, ..Member::of(&long) }.file(), long.clone(), 0),
        ("quick", Member { level: 1, ..Member::of(&long) }.file(), long.clone(), 0),
        ("header", all.file(), all.data.into(), 0),
        ("members", members, parts.concat(), 0),
        ("zeros-behind", with(&[0; 1000]), b"one".into(), 0),
        ("garbage-behind", with(b"garbage"), b"one".into(), 2),
        ("zeros-and-garbage-behind", with(b"\0\0\0garbage"), b"one".into(), 2),
    ];
    for (name, bytes, plain, status) in cases {
        let path = file(name, &bytes);
        if let Some(output) = by_gzip(&path) {
            assert!(output.stdout == plain, "{name} by gzip");
            assert_eq!(output.status.code(), Some(status), "{name} by gzip");
        }
        for backend in backends() {
            let output = run(backend, &path);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(status), "{name} on {backend}: {said}");
            assert!(output.stdout == plain, "{name} on {backend}");
            assert!(said.starts_with(&format!("sandbox: runs on {backend}\n")), "{said}");
            assert_eq!(said.contains("is ignored"), status == 2, "{name}: {said}");
        }
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_decompression_bomb_is_unpacked() {
    struct Zeros(Arc<Mutex<usize>>);
    impl Write for Zeros {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(bytes.iter().all(|byte| *byte == 0));
            *self.0.lock().unwrap() += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    // A hundred members of 1 MiB, compressed as far as possible.
    let bomb = Member { level: 9, ..Member::of(&vec![0; 1 << 20]) }.file().repeat(100);
    assert!(bomb.len() < 110_000);
    for backend in backends() {
        let counted = Arc::new(Mutex::new(0));
        let output = Zeros(counted.clone());
        let done = sandbox(SANDBOX, backend).unpack(Cursor::new(bomb.clone()), output);
        assert_eq!(done.unwrap(), Summary { members: 100, garbage: false });
        assert_eq!(*counted.lock().unwrap(), 100 << 20);
    }
}

/// The guest's result for some bytes, and its output up to there.
fn verdict(sandbox: &Sandbox, bytes: &[u8]) -> (Result<Summary, GzipError>, Vec<u8>) {
    let output = Kept::default();
    let done = match sandbox.unpack(Cursor::new(bytes.to_vec()), output.clone()) {
        Ok(summary) => Ok(summary),
        Err(Error::File(error)) => Err(error),
        Err(error) => panic!("{error}"),
    };
    (done, output.bytes())
}

#[test]
fn errors_name_what_is_wrong() {
    let data = text(1000);
    let member = Member { name: Some("name"), header_crc: true, ..Member::of(&data) };
    let good = member.file();
    let header = 10 + 5 + 2;
    let trailer = good.len() - 8;
    // An offset, the new value of the byte there, and the error.
    let cases = [
        (0, 0x1e, GzipError::NotGzip),
        (1, 0x8a, GzipError::NotGzip),
        (2, 7, GzipError::Unsupported),
        (3, 0x2a, GzipError::Unsupported),
        (4, 1, GzipError::BadHeader),
        (header - 1, !good[header - 1], GzipError::BadHeader),
        // A block of an undefined kind.
        (header, 7, GzipError::BadData),
        (trailer, !good[trailer], GzipError::BadChecksum),
        (trailer + 3, !good[trailer + 3], GzipError::BadChecksum),
        (trailer + 4, !good[trailer + 4], GzipError::BadLength),
        (trailer + 7, !good[trailer + 7], GzipError::BadLength),
    ];
    for backend in backends() {
        let sandbox = sandbox(SANDBOX, backend);
        for (at, byte, error) in &cases {
            let mut bad = good.clone();
            bad[*at] = *byte;
            let (found, output) = verdict(&sandbox, &bad);
            assert_eq!(found.as_ref(), Err(error), "byte {at}");
            assert_eq!(output, if *at < trailer { &[] } else { &data[..] }, "byte {at}");
        }
        for len in (0..good.len()).step_by(7).chain(good.len() - 9..good.len()) {
            let (found, output) = verdict(&sandbox, &good[..len]);
            assert_eq!(found, Err(GzipError::Truncated), "{len} bytes");
            assert!(data.starts_with(&output), "{len} bytes");
            assert!(len < trailer || output == data, "{len} bytes");
        }
        // A reference to data before its member, where another member is.
        let (found, output) = verdict(&sandbox, &[&good[..], &files::BEFORE_ITSELF].concat());
        assert_eq!(found, Err(GzipError::BadData));
        assert_eq!(output, data);
    }
}

#[test]
fn bad_files_are_errors() {
    let data = text(100_000);
    let good = Member::of(&data).file();
    let (mut flipped, cut) = (good.clone(), &good[..good.len() / 2]);
    flipped[good.len() / 2] ^= 0x10;
    let cases = [
        ("empty", &b""[..], "ends too early"),
        ("no-gzip", b"This is no gzip file.", "is not a gzip file"),
        ("flipped", &flipped, "is corrupt"),
        ("cut", cut, "ends too early"),
    ];
    for (name, bytes, error) in cases {
        let path = file(name, bytes);
        if let Some(output) = by_gzip(&path) {
            assert_eq!(output.status.code(), Some(1), "{name} by gzip");
        }
        for backend in backends() {
            let output = run(backend, &path);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{name} on {backend}: {said}");
            assert!(said.contains(error) && said.contains(name), "{name} on {backend}: {said}");
            assert!(name == "flipped" || data.starts_with(&output.stdout), "{name} on {backend}");
        }
        fs::remove_file(path).unwrap();
    }
}

/// Unpacks in this process, in pieces of `piece` bytes.
fn in_pieces(bytes: &[u8], piece: usize) -> (Result<Summary, GzipError>, Vec<u8>) {
    struct Pieces<'b>(&'b [u8], usize, Vec<u8>);
    impl gzip::Files for Pieces<'_> {
        fn read(&mut self, chunk: &mut Vec<u8>) -> Result<(), CallError> {
            assert!(chunk.is_empty());
            let (piece, rest) = self.0.split_at(self.1.min(self.0.len()));
            chunk.extend_from_slice(piece);
            self.0 = rest;
            Ok(())
        }
        fn write(&mut self, bytes: &[u8]) -> Result<(), CallError> {
            assert!((1..=gzip::CHUNK).contains(&bytes.len()));
            self.2.extend_from_slice(bytes);
            Ok(())
        }
    }
    let mut pieces = Pieces(bytes, piece, Vec::new());
    let done = gzip::unpack(&mut pieces).map_err(|failure| match failure {
        Failure::App(error) => error,
        Failure::Call(error) => panic!("{error}"),
    });
    (done, pieces.2)
}

#[test]
fn the_size_of_pieces_makes_no_difference() {
    let data = text(200_000);
    let noise = noise(5000);
    let few = [&data[..], &noise, b"", b"x"];
    let parts: Vec<&[u8]> = few.into_iter().chain((0..400).map(|len| &data[..len])).collect();
    let member = |(at, part)| {
        let member = Member { level: [6, 0, 9, 1][at % 4], ..Member::of(part) };
        Member { header_crc: at % 3 == 0, ..member }.file()
    };
    let file: Vec<u8> = parts.iter().copied().enumerate().flat_map(member).collect();
    let plain = parts.concat();
    for piece in [1, 2, 3, 5, 13, 64, 1000, 1 << 20] {
        let (done, output) = in_pieces(&file, piece);
        assert_eq!(done, Ok(Summary { members: 404, garbage: false }), "pieces of {piece}");
        assert!(output == plain, "pieces of {piece}");
    }
}

/// Files with some bytes changed, truncated or extended: gzip accepts and refuses the same ones.
#[test]
fn gzip_accepts_the_same_files() {
    let data = text(300);
    let header = Member {
        extra: Some(b"ab"),
        name: Some("n"),
        comment: Some("c"),
        header_crc: true,
        ..Member::of(b"ab")
    };
    let good = [header.file(), Member::of(&data).file()].concat();
    let random = noise(4000);
    let mut accepted = 0;
    for (round, random) in random.chunks_exact(8).enumerate() {
        let mut bytes = good.clone();
        let at = usize::from(u16::from_le_bytes([random[0], random[1]])) % good.len();
        match round % 4 {
            0 => bytes[at] ^= 1 << (random[2] % 8),
            1 => bytes.truncate(at),
            2 => bytes.extend(&random[3..4 + usize::from(random[2] % 4)]),
            // Only the first header, in which most bits are significant.
            _ => bytes[at % 24] = random[2],
        }
        let path = file("validated", &bytes);
        let Some(by_gzip) = by_gzip(&path) else { return };
        let (done, output) = in_pieces(&bytes, 1 << 20);
        let status = match &done {
            Ok(summary) => 2 * i32::from(summary.garbage),
            Err(_) => 1,
        };
        assert_eq!(Some(status), by_gzip.status.code(), "{done:?}: {bytes:02x?}");
        if done.is_ok() {
            accepted += 1;
            assert_eq!(output, by_gzip.stdout, "{bytes:02x?}");
        }
    }
    assert!((50..450).contains(&accepted), "{accepted} of 500 are good");
}

#[test]
fn a_hostile_guest_does_no_harm() {
    for backend in backends() {
        let mut rogue = sandbox(ROGUE, backend);
        let cases = [
            ("panics", "the guest panicked"),
            ("writes to nowhere", " at address 0x1000, by the instruction at "),
            ("recurses", "stack overflow"),
            ("loops", "nothing for 500ms"),
            ("reads nothing for ever", "nothing for 500ms"),
            ("goes on after an error", "more than a file of this size can contain"),
            ("eats its heap", "memory allocation of 65536 bytes failed"),
            ("keeps what it is lent", "no free block of this size"),
            ("writes too much at once", "262145 bytes in one call"),
            ("writes more than there can be", "more than a file of this size can contain"),
        ];
        for (deed, error) in cases {
            let output = Kept::default();
            // The guest reads at most 100 bytes for its orders; one of them needs more to read.
            let more = if deed.starts_with("keeps") { 100 << 20 } else { 0 };
            // Guests that run on until they are stopped; the others end by themselves, in a time that depends on the machine.
            let runs_on =
                error == "nothing for 500ms" || error.ends_with("a file of this size can contain");
            let patience = Duration::from_millis(if runs_on { 500 } else { 60_000 });
            rogue.patience = patience;
            let input = Cursor::new(deed).chain(io::repeat(1).take(more));
            match rogue.unpack(input, output.clone()) {
                Err(Error::Guest(text)) => {
                    assert!(text.contains(error), "{deed} on {backend}: {text}");
                    assert!(!text.contains('\x1b'), "{deed} on {backend}: {text:?}");
                }
                other => panic!("{deed} on {backend}: {other:?}"),
            }
            assert!(output.bytes().len() <= 1032 * deed.len(), "{deed} on {backend}");
        }
        // The guest has ended, and no other one has: the next file is unpacked.
        assert_eq!(rogue.unpack(&b"lies"[..], io::sink()).unwrap().members, u64::MAX);
    }
}

#[test]
fn a_waiting_host_does_not_stop_its_guest() {
    struct Slow;
    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_secs(3));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for backend in backends() {
        let slow = Sandbox { patience: Duration::from_secs(1), ..sandbox(SANDBOX, backend) };
        let done = slow.unpack(Cursor::new(Member::of(b"slow").file()), Slow);
        assert_eq!(done.unwrap(), Summary { members: 1, garbage: false });
    }
}

#[test]
fn files_that_cannot_be_read_or_written_are_errors() {
    for backend in backends() {
        let run = |arguments: &[&str], output: Stdio| {
            let output = Command::new(program())
                .args(["--backend", backend.name()])
                .args(arguments)
                .stdout(output)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
                .wait_with_output()
                .unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        for (arguments, error) in [
            (&["/nowhere.gz"][..], "/nowhere.gz: No such file"),
            (&["/"], "/: reading: Is a directory"),
            (&["--patience", "long"], "cannot parse argument \"long\""),
            (&["--backend", "magic"], "unknown backend `magic`: use one of kvm, process"),
            (&["a.gz", "b.gz"], "a.gz: No such file"),
            (&["--quick"], "--quick"),
        ] {
            let (status, said) = run(arguments, Stdio::null());
            assert_eq!(status, Some(1), "{arguments:?}: {said}");
            assert!(said.contains(error), "{arguments:?}: {said}");
        }
        let (status, said) =
            run(&[], File::options().write(true).open("/dev/full").unwrap().into());
        assert_eq!(status, Some(1));
        assert!(said.contains("writing: No space left"), "{said}");
    }
}

#[test]
fn a_reader_that_ends_early_is_not_an_error() {
    let path = file("long-enough", &Member::of(&text(1 << 20)).file());
    for backend in backends() {
        let mut sandbox = Command::new(program());
        sandbox.args(["--backend", backend.name()]).arg(&path);
        let mut child = sandbox.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 100];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        assert_eq!(first, text(100)[..]);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!("sandbox: runs on {backend}\n")
        );
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn there_is_a_sample() {
    let output = Command::new(program()).output().unwrap();
    let packed = include_bytes!("../examples/sandbox/sample.txt.gz");
    // Its header has no optional field.
    let data = &packed[10..packed.len() - 8];
    let plain = miniz_oxide::inflate::decompress_to_vec(data).unwrap();
    assert!(output.status.success());
    assert!(plain.starts_with(b"A letter from inside the sandbox"));
    assert!(output.stdout == plain);
}

//! Reading guests' programs: valid ones, and ones with a changed word in their headers.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod heap;
mod hostile;
mod packed;

use std::{fs, sync::OnceLock};

use proptest::test_runner::{RngAlgorithm, TestRng};
use support::{elf, guests};
use vmffi::machine::{Image, ImageError};

/// Offsets and sizes of the fields of an ELF file's header (ELF-64 Object File Format).
const TYPE: (usize, usize) = (16, 2);
const MACHINE: (usize, usize) = (18, 2);
const VERSION: (usize, usize) = (20, 4);
const ENTRY: (usize, usize) = (24, 8);
const PHOFF: (usize, usize) = (32, 8);
const SHOFF: (usize, usize) = (40, 8);
const PHENTSIZE: (usize, usize) = (54, 2);
const PHNUM: (usize, usize) = (56, 2);
const SHENTSIZE: (usize, usize) = (58, 2);
const SHNUM: (usize, usize) = (60, 2);
/// The same for a program header.
const KIND: (usize, usize) = (0, 4);
const FLAGS: (usize, usize) = (4, 4);
const OFFSET: (usize, usize) = (8, 8);
const ADDRESS: (usize, usize) = (16, 8);
const FILESZ: (usize, usize) = (32, 8);
const MEMSZ: (usize, usize) = (40, 8);

const LOAD: u64 = 1;
const DYNAMIC: u64 = 2;

#[derive(Clone)]
struct File(Vec<u8>);

impl File {
    fn get(&self, (at, len): (usize, usize)) -> u64 {
        let mut word = [0; 8];
        word[..len].copy_from_slice(&self.0[at..at + len]);
        u64::from_le_bytes(word)
    }

    fn set(&mut self, (at, len): (usize, usize), value: u64) {
        self.0[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }

    /// The program headers.
    fn headers(&self) -> impl Iterator<Item = usize> + use<> {
        let (at, count) = (self.get(PHOFF) as usize, self.get(PHNUM) as usize);
        (0..count).map(move |nr| at + 56 * nr)
    }

    /// The first program header of a kind, and with these flags.
    fn header(&self, kind: u64, flags: u64) -> usize {
        self.headers()
            .find(|at| self.get(of(*at, KIND)) == kind && self.get(of(*at, FLAGS)) == flags)
            .expect("the guest has such a segment")
    }

    fn code(&self) -> usize {
        self.header(LOAD, 5)
    }

    fn constants(&self) -> usize {
        self.header(LOAD, 4)
    }

    fn data(&self) -> usize {
        self.header(LOAD, 6)
    }

    /// A header that describes nothing about the program, so a test can replace it.
    fn note(&self) -> usize {
        self.headers().find(|at| self.get(of(*at, KIND)) == 4).expect("a note")
    }

    /// The offset in the file of an entry of the dynamic section.
    fn dynamic(&self, tag: u64) -> usize {
        let section = self.get(of(self.header(DYNAMIC, 6), OFFSET)) as usize;
        (section..).step_by(16).find(|at| self.get((*at, 8)) == tag).expect("such an entry")
    }

    /// The offset in the file of the first relocation.
    fn relocation(&self) -> usize {
        // The first bytes of the file are mapped at the first address.
        self.get((self.dynamic(7) + 8, 8)) as usize
    }
}

/// The value of a field at this offset.
fn of(header: usize, (at, len): (usize, usize)) -> (usize, usize) {
    (header + at, len)
}

fn built(name: &str) -> File {
    let file = guests::build("tests/machines/guest", name).expect("the guest's program");
    File(fs::read(file).expect("the program's file"))
}

/// The guest at a fixed address.
fn fixed() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| built("fixed"))
}

/// The guest that can be loaded at any address.
fn anywhere() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| built("anywhere"))
}

#[test]
fn good_programs_are_read() {
    for file in [fixed(), anywhere()] {
        Image::parse(&file.0).unwrap();
        // The loader ignores these parts.
        let mut without = file.clone();
        without.set(SHOFF, 0);
        without.set(SHNUM, 0);
        Image::parse(&without.0).unwrap();
    }
    assert_eq!(
        (fixed().get(TYPE), anywhere().get(TYPE)),
        (2, 3),
        "an executable and a position-independent one"
    );
    let error = Image::open("no such file").unwrap_err();
    assert!(matches!(error, ImageError::Io { .. }), "{error}");
}

/// The name of a change, the change, and a part of the error.
type Malformed = (&'static str, fn(&mut File), &'static str);

#[track_caller]
fn refused(good: &File, cases: &[Malformed]) {
    for (name, breaks, says) in cases {
        let mut file = good.clone();
        breaks(&mut file);
        assert!(file.0 != good.0, "{name}: nothing is changed");
        match Image::parse(&file.0) {
            Ok(_) => panic!("{name}: it was accepted"),
            Err(error) => assert!(error.to_string().contains(says), "{name}: {error}"),
        }
    }
}

#[test]
fn invalid_headers() {
    refused(
        fixed(),
        &[
            ("empty", |file| file.0.clear(), "not a valid ELF file"),
            ("no magic", |file| file.0[0] = 0, "not a valid ELF file"),
            ("32 bits", |file| file.0[4] = 1, ""),
            ("big-endian", |file| file.0[5] = 2, "not a valid ELF file"),
            ("a future version", |file| file.set(VERSION, 2), "not a valid ELF file"),
            ("for PowerPC", |file| file.set(MACHINE, 21), "not for "),
            ("for i386", |file| file.set(MACHINE, 3), "not for "),
            ("an object file", |file| file.set(TYPE, 1), "not an executable"),
            ("a core file", |file| file.set(TYPE, 4), "not an executable"),
            ("headers of another size", |file| file.set(PHENTSIZE, 32), "not a valid ELF file"),
            ("sections of another size", |file| file.set(SHENTSIZE, 65), "not a valid ELF file"),
            ("no headers", |file| file.set(PHNUM, 0), "is not in an executable segment"),
            ("headers behind the file", |file| file.set(PHOFF, 1 << 40), "not a valid ELF file"),
            (
                "headers that wrap around",
                |file| file.set(PHOFF, u64::MAX - 50),
                "not a valid ELF file",
            ),
            (
                "many headers, more than there is",
                |file| {
                    file.0.truncate(64 + 56 * 9);
                    file.set(SHOFF, 0);
                    file.set(SHNUM, 0);
                    file.set(PHNUM, 0xfffe);
                },
                "not a valid ELF file",
            ),
            (
                "sections behind the file",
                |file| file.set(SHOFF, u64::MAX - 63),
                "not a valid ELF file",
            ),
            (
                "more sections than there are",
                |file| file.set(SHNUM, 0xfeff),
                "not a valid ELF file",
            ),
            (
                "an entry in the data",
                |file| {
                    file.set(ENTRY, file.get(of(file.data(), ADDRESS)));
                },
                "is not in an executable segment",
            ),
            (
                "an entry nowhere",
                |file| file.set(ENTRY, u64::MAX),
                "is not in an executable segment",
            ),
        ],
    );
}

#[test]
fn invalid_segments() {
    refused(
        fixed(),
        &[
            ("a dynamic linker", |file| file.set(of(file.note(), KIND), 3), "a dynamic linker"),
            ("threads' storage", |file| file.set(of(file.note(), KIND), 7), "thread-local storage"),
            (
                "code to be written",
                |file| file.set(of(file.code(), FLAGS), 7),
                "is writable and executable",
            ),
            (
                "data to be executed",
                |file| file.set(of(file.data(), FLAGS), 7),
                "is writable and executable",
            ),
            (
                "code that is not executable",
                |file| file.set(of(file.code(), FLAGS), 4),
                "is not in an executable segment",
            ),
            (
                "two in one place",
                |file| {
                    file.set(of(file.data(), ADDRESS), file.get(of(file.code(), ADDRESS)));
                },
                "overlaps the pages of another segment",
            ),
            (
                "two in one page",
                |file| {
                    let code = file.get(of(file.code(), ADDRESS)) & !4095;
                    let constants = file.get(of(file.constants(), ADDRESS));
                    file.set(of(file.constants(), MEMSZ), code + 1 - constants);
                },
                "overlaps the pages of another segment",
            ),
            (
                "at null",
                |file| file.set(of(file.constants(), ADDRESS), 0),
                "is outside of the address range for guests",
            ),
            (
                "in the lowest 64 KiB",
                |file| {
                    file.set(of(file.constants(), ADDRESS), 0xffff);
                },
                "is outside of the address range for guests",
            ),
            (
                "too high",
                |file| file.set(of(file.data(), ADDRESS), 1 << 36),
                "is outside of the address range for guests",
            ),
            (
                "in the kernel's half",
                |file| {
                    file.set(of(file.data(), ADDRESS), 0xffff_8000_0000_0000);
                },
                "is outside of the address range for guests",
            ),
            (
                "up to where it may not",
                |file| {
                    file.set(of(file.data(), MEMSZ), 1 << 36);
                },
                "is outside of the address range for guests",
            ),
            (
                "around the end of memory",
                |file| {
                    file.set(of(file.data(), MEMSZ), u64::MAX);
                },
                "exceeds the address space",
            ),
            (
                "at the end of memory",
                |file| {
                    file.set(of(file.data(), ADDRESS), u64::MAX - 10);
                },
                "exceeds the address space",
            ),
            (
                "more in the file than in memory",
                |file| {
                    file.set(of(file.code(), MEMSZ), file.get(of(file.code(), FILESZ)) - 1);
                },
                "is larger in the file than in memory",
            ),
            (
                "more than there is in the file",
                |file| {
                    file.set(of(file.data(), FILESZ), 1 << 30);
                    file.set(of(file.data(), MEMSZ), 1 << 30);
                },
                "not a valid ELF file",
            ),
            (
                "behind the file",
                |file| file.set(of(file.data(), OFFSET), 1 << 40),
                "not a valid ELF file",
            ),
            (
                "around the end of the file",
                |file| {
                    file.set(of(file.data(), OFFSET), u64::MAX - 10);
                },
                "not a valid ELF file",
            ),
            (
                "too many",
                |file| {
                    // A new table at the end of the file: 65 small segments, each in a page of its own.
                    let (mut header, at) = (file.0[file.data()..][..56].to_vec(), file.0.len());
                    for nr in 0..65_u64 {
                        header[ADDRESS.0..][..8]
                            .copy_from_slice(&(0x10_0000 + nr * 4096).to_le_bytes());
                        header[FILESZ.0..][..8].fill(0);
                        header[MEMSZ.0..][..8].copy_from_slice(&1_u64.to_le_bytes());
                        file.0.extend_from_slice(&header);
                    }
                    file.set(PHOFF, at as u64);
                    file.set(PHNUM, 65);
                },
                "more than 64 segments",
            ),
        ],
    );
}

#[test]
fn invalid_relocations() {
    const NEEDED: u64 = 1;
    refused(
        anywhere(),
        &[
            (
                "libraries",
                |file| file.set((file.dynamic(0x15), 8), NEEDED),
                "a library without a name",
            ),
            (
                "changes to code",
                |file| file.set((file.dynamic(0x15), 8), 22),
                "relocations in its code",
            ),
            (
                "without addends",
                |file| {
                    file.set((file.dynamic(0x15), 8), 17);
                },
                "relocations without addends",
            ),
            (
                "packed",
                |file| file.set((file.dynamic(0x15), 8), 36),
                "its RELR relocation table is incomplete or outside of its segments",
            ),
            (
                "for calls",
                |file| {
                    let debug = file.dynamic(0x15);
                    file.set((debug, 8), 2);
                    file.set((debug + 8, 8), 24);
                },
                "a procedure linkage table",
            ),
            (
                "of a symbol",
                |file| file.set((file.relocation() + 8, 4), 1),
                "relocations of type 1",
            ),
            (
                "of a thread's",
                |file| file.set((file.relocation() + 8, 4), 16),
                "relocations of type 16",
            ),
            (
                "of an unknown kind",
                |file| file.set((file.relocation() + 8, 4), 0xffff),
                "relocations of type 65535",
            ),
            (
                "of an address that is not mapped",
                |file| {
                    file.set((file.relocation(), 8), 0x7000_0000);
                },
                "which is not in the file",
            ),
            (
                "of the zeros after the data",
                |file| {
                    let data =
                        file.headers().filter(|at| file.get(of(*at, KIND)) == LOAD).last().unwrap();
                    let end = file.get(of(data, ADDRESS)) + file.get(of(data, FILESZ));
                    file.set((file.relocation(), 8), end - 7);
                },
                "which is not in the file",
            ),
            (
                "of the end of memory",
                |file| {
                    file.set((file.relocation(), 8), u64::MAX - 3);
                },
                "which is not in the file",
            ),
            (
                "a table that is not mapped",
                |file| {
                    file.set((file.dynamic(7) + 8, 8), 1 << 40);
                },
                "its RELA relocation table is incomplete or outside of its segments",
            ),
            (
                "a table that wraps around",
                |file| {
                    file.set((file.dynamic(8) + 8, 8), u64::MAX - 23);
                },
                "its RELA relocation table is incomplete or outside of its segments",
            ),
            (
                "a table that is too long",
                |file| {
                    file.set((file.dynamic(8) + 8, 8), 1 << 30);
                },
                "its RELA relocation table is incomplete or outside of its segments",
            ),
            (
                "a table without a length",
                |file| {
                    file.set((file.dynamic(8), 8), 0x6fff_0000);
                },
                "its RELA relocation table is incomplete or outside of its segments",
            ),
            (
                "a table that ends in an entry",
                |file| {
                    let len = (file.dynamic(8) + 8, 8);
                    file.set(len, file.get(len) - 1);
                },
                "its RELA relocation table is incomplete or outside of its segments",
            ),
            (
                "entries of another size",
                |file| {
                    file.set((file.dynamic(9) + 8, 8), 32);
                },
                "its RELA relocation table is incomplete or outside of its segments",
            ),
            (
                "at an address that is too high",
                |file| {
                    file.set(of(file.data(), ADDRESS), (1 << 36) - 0x4000_0000);
                },
                "is outside of the address range for guests",
            ),
        ],
    );
}

/// A truncated file is refused, wherever it ends, unless all that follows is debug information.
#[test]
fn truncated_files() {
    for good in [fixed(), anywhere()] {
        let mut file = good.clone();
        let loads = file.headers().filter(|at| file.get(of(*at, KIND)) == LOAD);
        let ends = loads.map(|at| file.get(of(at, OFFSET)) + file.get(of(at, FILESZ)));
        let needed = ends.max().unwrap() as usize;
        file.set(SHOFF, 0);
        file.set(SHNUM, 0);
        let headers_end = file.headers().last().unwrap() + 56;
        let fields = (0..=headers_end).chain((headers_end..needed).step_by(9973));
        for len in fields.chain([needed - 1]) {
            let error = Image::parse(&file.0[..len]).map(|_| len).unwrap_err();
            assert!(matches!(error, ImageError::Malformed(_)), "{len}: {error}");
        }
        Image::parse(&file.0[..needed]).unwrap();
    }
}

/// Any bytes are either accepted or refused without a panic.
#[test]
fn changed_bytes() {
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut random = move || proptest::prelude::RngCore::next_u64(&mut random);
    let (mut read, mut refused) = (0, 0);
    for (good, names, rounds) in
        [(fixed(), false, 2000), (anywhere(), false, 1000), (anywhere(), true, 200)]
    {
        let mut file = good.clone();
        let mut places: Vec<(usize, usize)> = vec![(0, 64)];
        places.extend(file.headers().map(|at| (at, 56)));
        if good.get(TYPE) == 3 {
            places.push((file.get(of(file.header(DYNAMIC, 6), OFFSET)) as usize, 0xd0));
            places.push((file.relocation(), 4096));
        }
        if names {
            let sections = file.get(SHOFF) as usize;
            places.push((sections, 64 * file.get(SHNUM) as usize));
            // The tables of symbols and of their names are before the section headers.
            places.push((sections - 100_000, 100_000));
        } else {
            file.set(SHOFF, 0);
            file.set(SHNUM, 0);
        }
        for _ in 0..rounds {
            let mut changed = Vec::new();
            for _ in 0..1 + random() % 4 {
                let (at, len) = places[random() as usize % places.len()];
                let at = at + random() as usize % len;
                changed.push((at, file.0[at]));
                // A flipped bit, a byte at the limit of some range, or any byte.
                file.0[at] = match random() % 3 {
                    0 => file.0[at] ^ (1 << (random() % 8)),
                    1 => [0, 1, 0x7f, 0x80, 0xff][random() as usize % 5],
                    _ => random() as u8,
                };
            }
            let len =
                if random() % 8 == 0 { random() as usize % file.0.len() } else { file.0.len() };
            match Image::parse(&file.0[..len]) {
                Ok(image) => {
                    read += 1;
                    assert!(!format!("{image:?}").is_empty());
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
            for (at, byte) in changed.into_iter().rev() {
                file.0[at] = byte;
            }
        }
        let whole = Image::parse(&file.0);
        assert!(whole.is_ok(), "the file is restored");
    }
    assert!(read > 100 && refused > 1000, "{read} were read, {refused} refused");
}

/// The error names what a file needs and a guest does not have, with advice, and escapes the name.
#[test]
fn missing_requirements_are_named() {
    use elf::{DATA, DYN, Elf, INTERP, READ, TLS};
    let needs = |elf: Elf| match Image::parse(&elf.finish()) {
        Err(error @ ImageError::Needs { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let library = |name: &[u8]| {
        let mut elf = Elf::program(DYN);
        elf.segment(READ, DATA, name);
        elf.dynamic(&[(1, 0), (5, DATA), (10, name.len() as u64)]);
        needs(elf)
    };
    let text = library(b"libpthread.so.0\0");
    assert!(text.contains("the library `libpthread.so.0`: link it with"), "{text}");
    let text = library(b"a\x1b[2Jb\nc\xff\0");
    assert!(text.contains("`a\\u{1b}[2Jb\\nc\u{fffd}`"), "{text}");
    assert!(library(&[b'n'; 5000]).len() < 400);
    // Missing or wrong section headers hide none of these needs.
    let mut elf = Elf::program(DYN);
    elf.segment(READ, DATA, b"libc.so.6\0");
    elf.dynamic(&[(1, 0), (5, DATA), (10, 10)]);
    elf.symbols(&[], b"\0");
    assert!(needs(elf).contains("the library `libc.so.6`"));
    let mut elf = Elf::program(DYN);
    elf.header(TLS, READ, 0, DATA, 0, 24);
    let text = needs(elf);
    assert!(
        text.contains("24 bytes of thread-local storage: ") && !text.contains("-static"),
        "{text}"
    );
    let mut elf = Elf::program(DYN);
    elf.header(INTERP, READ, 0, DATA, 0, 24);
    assert!(needs(elf).contains("a dynamic linker: link it with `-static`"));
}

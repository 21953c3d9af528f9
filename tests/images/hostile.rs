//! Files that are built to cost their reader time or memory.

use std::{hint, time::Duration};

use vmffi::machine::Image;

use super::{
    elf::{self, DATA, DYN, Elf, READ, READ_WRITE, function},
    heap,
};

const MIB: usize = 1 << 20;

/// The processor time of this thread, which does not depend on other load.
fn thread_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a `timespec` for the call to write.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    assert_eq!(done, 0);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Builds a hostile file of about this many bytes.
type Make = fn(usize) -> Vec<u8>;

const KINDS: &[(&str, Make)] = &[
    ("data", data),
    ("symbols of one long name", long_name),
    ("symbols whose names never end", endless_names),
    ("symbols of nested back-references", back_references),
    ("symbols that are all as large as can be", large_symbols),
    ("relocations of one word", one_word),
    ("relocations of their own table", own_table),
    ("packed relocations, all bits", packed),
    ("packed relocations with an address before each bitmap", packed_again),
    ("packed relocations across two segments", packed_across),
    ("program headers", program_headers),
    ("dynamic sections", dynamic_sections),
    ("a dynamic section of libraries", libraries),
    ("a dynamic section of tables", tables),
    ("a library with a long name", long_library),
    ("an interpreter with a long name", long_interpreter),
    ("section headers", section_headers),
    ("segments of the same bytes", same_bytes),
];

fn data(len: usize) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    elf.segment(READ_WRITE, DATA, &vec![1; len]);
    elf.finish()
}

/// Names in v0 mangling that expand: each pair of back-references doubles the length of the one before.
fn nested(len: usize) -> Vec<u8> {
    let mut name = b"_RINvC1a1b".to_vec();
    let mut last = name.len() - 2;
    name.extend(b"TuuE");
    while name.len() + 40 < len {
        let at = name.len() - 2;
        // A tuple that contains the previous one twice.
        let mut digits = Vec::new();
        let mut number = last;
        if number > 0 {
            number -= 1;
            loop {
                let digits_62 = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
                digits.insert(0, digits_62[number % 62]);
                number /= 62;
                if number == 0 {
                    break;
                }
            }
        }
        name.push(b'T');
        for _ in 0..2 {
            name.push(b'B');
            name.extend(&digits);
            name.push(b'_');
        }
        name.push(b'E');
        last = at;
    }
    name.push(b'E');
    name
}

fn with_symbols(len: usize, names: &[u8], name: impl Fn(usize) -> u32, size: u64) -> Vec<u8> {
    let count = len.saturating_sub(names.len()) / 24;
    let symbols: Vec<_> =
        (0..count).map(|nr| function(name(nr), elf::CODE + nr as u64, size)).collect();
    let mut elf = Elf::program(DYN);
    elf.symbols(&symbols.concat(), names);
    elf.finish()
}

fn long_name(len: usize) -> Vec<u8> {
    let mut names = vec![b'n'; 64 << 10];
    (names[0], names[(64 << 10) - 1]) = (0, 0);
    with_symbols(len, &names, |_| 1, 1)
}

/// Half of the file is one name without an end, and each symbol's name begins at another byte.
fn endless_names(len: usize) -> Vec<u8> {
    with_symbols(len, &vec![b'n'; len / 2], |nr| nr as u32, 1)
}

fn back_references(len: usize) -> Vec<u8> {
    let mut names = vec![0];
    names.extend(nested(250));
    names.push(0);
    with_symbols(len, &names, |_| 1, 1)
}

fn large_symbols(len: usize) -> Vec<u8> {
    with_symbols(len, b"\0a\0", |_| 1, u64::MAX)
}

/// A table of these relocation entries in a segment of its own, and a writable segment of 4 KiB.
fn with_relocations(entries: impl IntoIterator<Item = [u64; 3]>) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    let words: Vec<u8> =
        entries.into_iter().flatten().flat_map(|word: u64| word.to_le_bytes()).collect();
    elf.segment(READ_WRITE, DATA, &[0; 4096]);
    elf.segment(READ, 2 * DATA, &words);
    elf.dynamic(&[(7, 2 * DATA), (8, words.len() as u64), (9, 24)]);
    elf.finish()
}

fn one_word(len: usize) -> Vec<u8> {
    with_relocations((0..len / 24).map(|nr| [DATA, elf::RELATIVE, nr as u64]))
}

/// Each relocation changes the type of the entry after the next.
fn own_table(len: usize) -> Vec<u8> {
    let count = len as u64 / 24;
    with_relocations(
        (0..count).map(|nr| [2 * DATA + 24 * ((nr + 2) % count) + 8, elf::RELATIVE, 0x0800]),
    )
}

/// Adds `count` segments that share the same `len` bytes of the file, so that the image needs much memory, and refers to the
/// packed relocations, which are `packed` bytes long.
fn relocate_copies(mut elf: Elf, count: u64, at: u64, len: usize, packed: usize) -> Vec<u8> {
    let len = len as u64;
    for nr in 0..count {
        elf.header(elf::LOAD, READ_WRITE, at, 0x8000_0000 + nr * 0x1000_0000, len, len);
    }
    elf.dynamic(&[(36, 0x1000_0000), (35, packed as u64), (37, 8)]);
    elf.finish()
}

fn with_packed(len: usize, word: impl Fn(usize) -> u64) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    let words: Vec<u8> = (0..len / 8).flat_map(|nr| word(nr).to_le_bytes()).collect();
    let at = elf.segment(READ, 0x1000_0000, &words);
    relocate_copies(elf, 61, at, len, words.len())
}

fn packed(len: usize) -> Vec<u8> {
    with_packed(len, |nr| if nr == 0 { 0x8000_0000 } else { u64::MAX })
}

fn packed_again(len: usize) -> Vec<u8> {
    with_packed(len, |nr| {
        if nr % 2 == 0 { 0x8000_0000 + 0x1000_0000 * (nr as u64 / 2 % 61) } else { u64::MAX }
    })
}

/// Two adjacent segments, and bitmaps with bits on both sides.
fn packed_across(len: usize) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    let words: Vec<u8> = (0..len / 16)
        .flat_map(|_| [DATA + 4096 - 256, u64::MAX])
        .flat_map(|word| word.to_le_bytes())
        .collect();
    elf.segment(READ_WRITE, DATA, &[0; 4096]);
    elf.segment(READ_WRITE, DATA + 4096, &[0; 4096]);
    let at = elf.segment(READ, 0x1000_0000, &words);
    relocate_copies(elf, 59, at, len, words.len())
}

fn program_headers(len: usize) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    for nr in 0..len / 56 {
        elf.header([elf::NOTE, elf::TLS, elf::LOAD][nr % 3], READ, 0, 0, 0, 0);
    }
    elf.finish()
}

fn dynamic_sections(len: usize) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    let at = elf.put_words(&[0x15, 0].repeat(len / 32));
    for _ in 0..len / 112 {
        elf.header(elf::DYNAMIC, READ_WRITE, at, 0, len as u64 / 2, 0);
    }
    elf.finish()
}

fn with_dynamic(len: usize, entry: (u64, u64)) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    elf.dynamic(&vec![entry; len / 16]);
    elf.finish()
}

fn libraries(len: usize) -> Vec<u8> {
    with_dynamic(len, (1, 1))
}

fn tables(len: usize) -> Vec<u8> {
    with_dynamic(len, (7, 0))
}

fn long_library(len: usize) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    elf.segment(READ, DATA, &vec![b'n'; len]);
    elf.dynamic(&[(1, 1), (5, DATA), (10, len as u64)]);
    elf.finish()
}

fn long_interpreter(len: usize) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    let at = elf.put(&vec![b'\x1b'; len]);
    elf.header(elf::INTERP, READ, at, 0, len as u64, len as u64);
    elf.finish()
}

fn section_headers(len: usize) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    for _ in 0..len / 64 {
        elf.section(elf::STRTAB, u32::MAX, u64::MAX, u64::MAX, 1);
    }
    elf.finish()
}

fn same_bytes(len: usize) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    let at = elf.put(&vec![1; len]);
    for nr in 0..63 {
        elf.header(elf::LOAD, READ_WRITE, at, 0x1000_0000 * (1 + nr), len as u64, len as u64);
    }
    elf.finish()
}

/// The time for adding up the bytes of a MiB in this build, on this processor.
fn sum_of_a_mib() -> Duration {
    let bytes = vec![1_u8; MIB];
    let once = || {
        let before = thread_time();
        let sum = hint::black_box(&bytes)
            .iter()
            .fold(0, |sum, byte| hint::black_box(sum) + u64::from(*byte));
        assert_eq!(sum, MIB as u64);
        thread_time() - before
    };
    (0..5).map(|_| once()).min().unwrap()
}

/// Reads a file of each kind, in at most this time and in little more heap memory than it takes.
fn read(len: usize, most: Duration) {
    for (name, make) in KINDS {
        let file = make(len);
        let before = thread_time();
        let (result, peak) = heap::peak(|| Image::parse(&file));
        let took = thread_time() - before;
        let mib = file.len() as f64 / MIB as f64;
        let per_mib = took.div_f64(mib);
        let came = match &result {
            Ok(_) => "read".into(),
            Err(error) => error.to_string(),
        };
        println!("{name}: {mib:.1} MiB: {took:.1?}, {per_mib:.2?} a MiB, {peak} bytes: {came}");
        assert!(came.len() < 600, "{name}: an error of {} bytes", came.len());
        assert!(came.chars().all(|char| !char.is_control()), "{name}: {came:?}");
        assert!(per_mib < most, "{name}: {per_mib:?} a MiB");
        // The size of the file, and some memory for the tables of its parts.
        let most = file.len() as u64 + (64 << 10);
        assert!(peak <= most, "{name}: {peak} bytes for a file of {}", file.len());
    }
}

/// The time and memory for reading a file are proportional to its length, whatever is in it. The length is 1 MiB, or
/// `VMFFI_IMAGE_MIB`.
#[test]
fn hostile_files_cost_little() {
    let mib = std::env::var("VMFFI_IMAGE_MIB").map_or(1, |mib| mib.parse().unwrap());
    read(mib * MIB, sum_of_a_mib() * 40);
}

/// If an allocation fails, the error says how many bytes were requested.
#[test]
fn a_file_for_which_there_is_no_memory() {
    let file = data(MIB);
    let error = heap::within(MIB as u64 / 2, || Image::parse(&file).map(drop)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&file.len().to_string()), "{text}");
}

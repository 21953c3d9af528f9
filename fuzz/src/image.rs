//! Guests' programs: ELF files that are built from an input, mostly valid ones. A second reader, written from the format and
//! not from the crate, predicts which are accepted, and the contents of the memory of a guest that was loaded: each accepted
//! file runs in a process, reads a word there, and exits with it as its status.

use std::time::Duration;

use support::elf::{self, CODE, DATA, DYN, Elf};
use vmffi::{
    abi::trap,
    host::{Limits, RunOutcome},
    machine::{Backend, Image, ImageError, MachineBuilder, MachineError},
};

use super::feed::Feed;

const EXEC: u64 = 2;
const PAGE_SIZE: u64 = 4096;
/// The address of a guest that runs anywhere, the range for guests, and the memory of a machine (`MachineBuilder::memory`).
const BASE: u64 = 0x4000_0000;
const LOWEST: u64 = 0x1_0000;
const HIGHEST: u64 = 0x10_0000_0000;
const MEMORY: u64 = 4 << 20;

/// A piece of memory as the file describes it.
#[derive(Clone, Debug)]
struct Segment {
    flags: u32,
    address: u64,
    bytes: Vec<u8>,
    memory: u64,
}

impl Segment {
    fn pages(&self, moves: u64) -> std::ops::Range<u64> {
        let (start, end) = (self.address + moves, self.address + moves + self.memory);
        start / PAGE_SIZE * PAGE_SIZE..end.next_multiple_of(PAGE_SIZE)
    }

    /// The range of its bytes that holds the word at an address.
    fn word(&self, address: u64) -> Option<std::ops::Range<usize>> {
        let at = address.checked_sub(self.address)?;
        (self.bytes.len() as u64 >= at.checked_add(8)?).then(|| at as usize..at as usize + 8)
    }
}

/// The contents of a file.
#[derive(Clone, Debug, Default)]
struct Model {
    moves: u64,
    segments: Vec<Segment>,
    rela: Vec<[u64; 3]>,
    relr: Vec<u64>,
    dynamic: Vec<(u64, u64)>,
    /// Whether it needs a dynamic linker, or has thread-local storage.
    needs: bool,
    /// Names, addresses and sizes.
    symbols: Vec<(String, u64, u64)>,
}

impl Model {
    fn find(&mut self, address: u64) -> Option<&mut [u8]> {
        self.segments.iter_mut().find_map(|segment| {
            let range = segment.word(address)?;
            Some(&mut segment.bytes[range])
        })
    }

    /// Changes one word, given its value in the file.
    fn change(&mut self, file: &Self, place: u64, to: impl Fn(u64) -> u64) -> bool {
        let was = file.segments.iter().find_map(|segment| {
            let range = segment.word(place)?;
            segment.bytes[range].try_into().ok().map(u64::from_le_bytes)
        });
        let Some(was) = was else { return false };
        self.find(place).expect("they are the same").copy_from_slice(&to(was).to_le_bytes());
        true
    }

    /// Whether the file may be loaded; if so, the segments become what they are in memory.
    fn load(&mut self, file: &Self) -> bool {
        if self.needs {
            return false;
        }
        let moves = self.moves;
        for segment in &self.segments {
            let end = (segment.address.checked_add(moves))
                .and_then(|start| start.checked_add(segment.memory).map(|end| (start, end)));
            let placed = end.is_some_and(|(start, end)| start >= LOWEST && end <= HIGHEST);
            if !placed || segment.flags & 3 == 3 || segment.bytes.len() as u64 > segment.memory {
                return false;
            }
        }
        for (nr, one) in self.segments.iter().enumerate() {
            let one = one.pages(moves);
            for two in self.segments[..nr].iter().map(|two| two.pages(moves)) {
                if one.start < two.end && two.start < one.end {
                    return false;
                }
            }
        }
        if self.dynamic.iter().any(|(tag, value)| match tag {
            // Libraries, relocations of code, relocations without addends, calls through a table.
            1 | 22 | 17 => true,
            2 => *value != 0,
            _ => false,
        }) {
            return false;
        }
        moves == 0 || self.relocate(file)
    }

    fn relocate(&mut self, file: &Self) -> bool {
        for [place, kind, value] in &file.rela {
            match *kind as u32 {
                0 => {}
                8 if self.change(file, *place, |_| value.wrapping_add(BASE)) => {}
                _ => return false,
            }
        }
        let (mut next, mut first) = (0, true);
        for entry in &file.relr {
            let add = |word: u64| word.wrapping_add(BASE);
            if entry & 1 == 0 {
                if !first && *entry < next || !self.change(file, *entry, add) {
                    return false;
                }
                (next, first) = (entry.wrapping_add(8), false);
                continue;
            }
            if first {
                return false;
            }
            for bit in (1..64).filter(|bit| entry >> bit & 1 != 0) {
                if !self.change(file, next + 8 * (bit - 1), add) {
                    return false;
                }
            }
            next += 63 * 8;
        }
        true
    }

    /// The word at an address in the guest, if all of it is mapped.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        for (nr, byte) in (0..).zip(&mut bytes) {
            let at = address.checked_add(nr)?;
            let there = |segment: &&Segment| segment.pages(self.moves).contains(&at);
            let segment = self.segments.iter().find(there)?;
            let within = at.wrapping_sub(segment.address + self.moves);
            *byte = segment.bytes.get(within as usize).copied().unwrap_or(0);
        }
        Some(u64::from_le_bytes(bytes))
    }

    /// The function that contains an address of the file.
    fn function(&self, address: u64) -> Option<&str> {
        let within = |(_, start, size): &&(String, u64, u64)| {
            address.checked_sub(*start).is_some_and(|at| at < (*size).max(1))
        };
        // Of several with the last beginning, the first in the file.
        let last = self.symbols.iter().filter(within).map(|symbol| symbol.1).max()?;
        let found = self.symbols.iter().filter(within).find(|symbol| symbol.1 == last);
        found.map(|symbol| &*symbol.0)
    }
}

fn le(word: u64) -> [u8; 8] {
    word.to_le_bytes()
}

/// Exits with the word at an address as its status; if `crashes`, executes an invalid instruction.
fn code(reads: u64, crashes: bool) -> Vec<u8> {
    let mut code = if crashes { vec![0x0f, 0x0b] } else { Vec::new() };
    code.extend([0x48, 0x8b, 0x57, 0x20]); // mov rdx, [rdi + 32]
    code.extend([0x48, 0xb9]); // mov rcx, reads
    code.extend(le(reads));
    code.extend([0x48, 0x8b, 0x19]); // mov rbx, [rcx]
    code.extend([0x48, 0xb8]); // mov rax, EXIT
    code.extend(le(trap::EXIT));
    code.extend([0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9]); // xor r8d, r8d; xor r9d, r9d
    code.extend([0x48, 0x83, 0x7f, 0x18, 0x02]); // cmp qword ptr [rdi + 24], 2
    code.extend([0x72, 0x09, 0x74, 0x03]); // jb; je
    code.extend([0xff, 0xd2, 0xf4]); // call rdx; hlt
    code.extend([0x48, 0x89, 0x02, 0xf4]); // mov [rdx], rax; hlt
    code.extend([0xef, 0xf4]); // out dx, eax; hlt
    assert!(code.len() <= CODE_LEN);
    code
}

/// The length of the code in a file of [`Elf::program`], and its offset there.
const CODE_LEN: usize = 64;
const CODE_AT: usize = 64;

/// An address in one of the segments, or near it.
fn place(feed: &mut Feed, segments: &[Segment]) -> u64 {
    let nth = feed.below(segments.len());
    let segment = &segments[nth];
    match feed.below(8) {
        0 => segment.address.wrapping_add(segment.memory).wrapping_sub(feed.number(1) % 16),
        1 => feed.number(8),
        2 => segment.address.wrapping_sub(feed.number(1)),
        _ => segment.address.wrapping_add(feed.number(2) % segment.bytes.len().max(8) as u64),
    }
}

/// The file that an input describes.
fn build(feed: &mut Feed) -> (Vec<u8>, Model, u64, bool) {
    let kind = if feed.rarely(4) { EXEC } else { DYN };
    let mut elf = Elf::program(kind);
    let moves = if kind == DYN { BASE } else { 0 };
    let mut model = Model { moves, ..Model::default() };
    let hlt = vec![0xf4; CODE_LEN];
    model.segments.push(Segment {
        flags: elf::READ_EXECUTE,
        address: CODE,
        bytes: hlt,
        memory: 64,
    });
    for nr in 0..1 + feed.below(4) as u64 {
        let address = match feed.below(8) {
            0 => DATA + feed.number(2),
            1 => CODE + feed.number(2),
            2 => feed.scalar().wrapping_mul(PAGE_SIZE),
            3 => HIGHEST.wrapping_sub(moves).wrapping_sub(feed.number(2)),
            _ => DATA + nr * 4 * PAGE_SIZE + feed.number(1),
        };
        let len = if feed.rarely(8) { feed.number(2) as usize % 9000 } else { feed.below(80) };
        let seed = feed.byte();
        let bytes: Vec<u8> =
            (0..len).map(|at| (at as u8).wrapping_mul(29).wrapping_add(seed)).collect();
        let memory = match feed.below(6) {
            0 => feed.scalar(),
            1 => len as u64 + feed.number(2),
            _ => len as u64,
        };
        let flags = feed.pick(&[elf::READ, elf::READ_WRITE, elf::READ_EXECUTE, elf::READ_WRITE, 7]);
        let at = elf.put(&bytes);
        elf.header(elf::LOAD, flags, at, address, len as u64, memory);
        // A segment without memory is ignored.
        if memory != 0 {
            model.segments.push(Segment { flags, address, bytes, memory });
        }
    }
    relocations(feed, &mut elf, &mut model);
    if feed.rarely(8) {
        let (kind, memory) = (feed.pick(&[elf::NOTE, elf::TLS, elf::INTERP]), feed.number(1));
        elf.header(kind, elf::READ, 0, 0, 8, memory);
        model.needs = kind == elf::INTERP || kind == elf::TLS && memory != 0;
    }
    for _ in 0..feed.below(4) {
        let name: String =
            (0..1 + feed.below(12)).map(|_| char::from(b'a' + feed.byte() % 26)).collect();
        let start = if feed.rarely(4) { feed.scalar() } else { CODE - 8 + feed.number(1) % 16 };
        model.symbols.push((name, start, feed.scalar()));
    }
    if !model.symbols.is_empty() {
        let mut names = vec![0];
        let mut table = Vec::new();
        for (name, start, size) in &model.symbols {
            table.extend(elf::function(names.len() as u32, *start, *size));
            names.extend(name.bytes());
            names.push(0);
        }
        elf.symbols(&table, &names);
    }
    let reads = place(feed, &model.segments).wrapping_add(moves);
    let crashes = feed.rarely(6);
    let code = code(reads, crashes);
    let mut file = elf.finish();
    file[CODE_AT..CODE_AT + code.len()].copy_from_slice(&code);
    model.segments[0].bytes[..code.len()].copy_from_slice(&code);
    (file, model, reads, crashes)
}

/// Adds tables of relocations, in segments of their own, and a dynamic section that refers to them.
fn relocations(feed: &mut Feed, elf: &mut Elf, model: &mut Model) {
    let rela = feed.below(6);
    for _ in 0..rela {
        let kind = if feed.rarely(12) { feed.scalar() } else { 8 };
        model.rela.push([place(feed, &model.segments), kind, feed.scalar()]);
    }
    for _ in 0..feed.below(6) {
        let entry = match feed.below(3) {
            0 => feed.scalar() | 1,
            _ => place(feed, &model.segments) & !1,
        };
        model.relr.push(entry);
    }
    let tables = [(&model.rela.concat(), [7, 8, 9], 24), (&model.relr, [36, 35, 37], 8)];
    let mut added = Vec::new();
    for (nr, (words, [at, len, entry], size)) in (0..).zip(tables) {
        if !words.is_empty() {
            let address = 2 * DATA + nr * 16 * PAGE_SIZE;
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            elf.segment(elf::READ, address, &bytes);
            let memory = bytes.len() as u64;
            model.dynamic.extend([(at, address), (len, memory), (entry, size)]);
            added.push(Segment { flags: elf::READ, address, bytes, memory });
        }
    }
    model.segments.extend(added);
    if feed.rarely(6) {
        model.dynamic.push((feed.pick(&[1, 22, 17, 2, 20, 0x15]), feed.scalar()));
    }
    if !model.dynamic.is_empty() {
        elf.dynamic(&model.dynamic);
    }
}

/// Changes random bytes of a file.
fn spoil(feed: &mut Feed, file: &mut Vec<u8>) {
    for _ in 0..1 + feed.below(3) {
        let len = file.len();
        // Mostly headers, which are at both ends.
        let at = match feed.below(4) {
            0 => feed.below(64).min(len - 1),
            1 => feed.number(2) as usize % len,
            _ => len - 1 - feed.number(2) as usize % len.min(512),
        };
        match feed.below(8) {
            0 => file.truncate(at.max(1)),
            1 => file[at] ^= 1 << feed.below(8),
            nr => {
                let word = if nr < 4 { feed.number(8) } else { feed.scalar() };
                for (byte, new) in file[at..].iter_mut().zip(le(word)) {
                    *byte = new;
                }
            }
        }
    }
}

/// A text for people: one short line without control characters.
fn clean(text: &str) {
    assert!(text.len() < 700, "{} bytes", text.len());
    assert!(text.chars().all(|char| !char.is_control()), "{text:?}");
}

/// Runs a guest, if there is memory for it: its status, or how it exited.
fn start(image: &Image, within: Duration) -> Option<Result<u64, String>> {
    let limits = Limits::new().deadline(within);
    let machine =
        MachineBuilder::new(image).arenas(PAGE_SIZE, PAGE_SIZE).memory(MEMORY).limits(limits);
    let host = match machine.build(Backend::Process, ()) {
        Ok(host) => host,
        // The machine has too little memory.
        Err(error @ MachineError::Config(_)) => {
            clean(&error.to_string());
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    Some(match host.run() {
        Ok(RunOutcome::Exited(status)) => Ok(status),
        Ok(RunOutcome::Ready) => Err("it is ready".into()),
        Err(error) => {
            let text = error.to_string();
            clean(&text);
            Err(text)
        }
    })
}

/// Runs an input.
pub fn run(data: &[u8]) {
    let feed = &mut Feed::new(data);
    let spoils = feed.rarely(3);
    let (mut file, model, reads, crashes) = build(feed);
    if spoils {
        spoil(feed, &mut file);
    }
    let image = Image::parse(&file);
    if let Err(error) = &image {
        clean(&error.to_string());
        assert!(!matches!(error, ImageError::Io { .. } | ImageError::OutOfMemory(_)), "{error}");
    }
    if spoils {
        if let Ok(image) = image {
            // A guest that loops forever takes this long for each input.
            start(&image, Duration::from_millis(10));
        }
        return;
    }
    let mut loaded = model.clone();
    let fits = loaded.load(&model);
    assert_eq!(image.is_ok(), fits, "{:?}: {model:x?}", image.err().map(|error| error.to_string()));
    let Ok(image) = image else { return };
    let Some(ended) = start(&image, Duration::from_secs(20)) else { return };
    let changed = loaded.segments[0].bytes != model.segments[0].bytes;
    if changed || reads.saturating_add(8) > HIGHEST {
        // A relocation has changed the code, or the word is in the region or on a stack.
        return;
    }
    match (ended, loaded.word(reads)) {
        (Ok(status), Some(word)) if !crashes => {
            assert_eq!(status, word, "at {reads:#x}: {loaded:x?}");
        }
        (Err(text), word) if crashes || word.is_none() => {
            let at = CODE + if crashes { 0 } else { 14 };
            if let Some(name) = loaded.function(at) {
                assert!(text.contains(name), "{text}: in `{name}`: {loaded:x?}");
            }
        }
        (ended, word) => panic!("{ended:x?}, not {word:x?} of {reads:#x}: {loaded:x?}"),
    }
}

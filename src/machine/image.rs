//! A guest's program: an ELF file, read and checked once, put into any number of machines.
//!
//! Nothing is taken out of the file: segments, relocations and names are places in it, so that it costs no more memory than
//! it has bytes, and reading it takes time in proportion to them.

use std::{
    fmt, fs, io,
    ops::Range,
    path::Path,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use elf::{ElfBytes, abi, endian::LittleEndian, file::Class, segment::ProgramHeader};

use crate::memory::PAGE;

mod relocations;
mod symbols;

use relocations::Relocations;
use symbols::Symbols;

/// Where a guest may lie: above the first 64 KiB, which hold nothing so that null leads nowhere, and below
/// 64 GiB.
const LOWEST: u64 = 0x1_0000;
/// See [`LOWEST`].
const HIGHEST: u64 = 0x10_0000_0000;
/// Where a guest lies that runs anywhere.
const BASE: u64 = 0x4000_0000;
/// The most pieces that a guest may be loaded in.
const MOST_SEGMENTS: usize = 64;

/// A guest's program, from an ELF file: static, at a fixed address or position-independent, for x86_64.
///
/// It is checked here, and the kernel never executes the file. It has a copy of the file; cloning it is cheap, and so is
/// making many machines of one.
#[derive(Clone)]
pub struct Image(Arc<Parsed>);

struct Parsed {
    file: Vec<u8>,
    segments: Vec<Segment>,
    relocations: Relocations,
    entry: u64,
    /// What is added to the file's addresses.
    moves: u64,
    symbols: Option<Symbols>,
}

/// A piece of a guest's memory, of whole pages.
pub(super) struct Segment {
    /// The address of its first page, and how many bytes of pages there are.
    pub(super) address: u64,
    pub(super) len: u64,
    /// What it begins with, from `skip` on, is in the file; the rest is zeros.
    pub(super) skip: usize,
    bytes: Range<usize>,
    pub(super) write: bool,
    pub(super) execute: bool,
}

impl Segment {
    pub(super) fn end(&self) -> u64 {
        self.address + self.len
    }

    /// Where in the file `len` bytes from an address on are, if all of them are.
    fn range(&self, address: u64, len: u64) -> Option<Range<usize>> {
        let from = address.checked_sub(self.address + self.skip as u64)?;
        let to = from.checked_add(len)?;
        let there = to <= (self.bytes.end - self.bytes.start) as u64;
        there.then(|| self.bytes.start + from as usize..self.bytes.start + to as usize)
    }
}

/// Where in the file `len` bytes from an address on are. The segments are sorted by address.
fn range(segments: &[Segment], address: u64, len: u64) -> Option<Range<usize>> {
    let at = segments.partition_point(|segment| segment.address <= address).checked_sub(1)?;
    segments[at].range(address, len)
}

/// A file that is no guest.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageError {
    /// It cannot be read.
    Io(io::Error),
    /// There is no memory for a copy of it, of so many bytes.
    OutOfMemory(usize),
    /// It is no ELF file, or one that contradicts itself.
    Malformed(String),
    /// It is for another processor, or no program.
    Wrong(&'static str),
    /// It needs something that a guest has not got.
    Needs {
        /// What that is: a library, say, with its name. What the file says is escaped and short.
        what: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// A segment lies where no guest may, or where another one does.
    Place {
        /// Where it begins.
        address: u64,
        /// How many bytes it has.
        len: u64,
        /// What is wrong with that.
        why: &'static str,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the guest's file cannot be read: {error}"),
            Self::OutOfMemory(len) => {
                write!(f, "there is no memory for the guest's file, of {len} bytes")
            }
            Self::Malformed(what) => write!(f, "the guest's file is no sound ELF file: {what}"),
            Self::Wrong(what) => write!(f, "the guest's file is {what}"),
            Self::Needs { what, instead } => write!(f, "the guest needs {what}: {instead}"),
            Self::Place { address, len, why } => {
                write!(f, "the guest's segment of {len:#x} bytes at {address:#x} {why}")
            }
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<elf::ParseError> for ImageError {
    fn from(error: elf::ParseError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Image {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`ImageError::Io`], and those of [`parse`](Self::parse).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        Self::read(fs::read(path).map_err(ImageError::Io)?)
    }

    /// Reads the bytes of a file, in time that is proportional to their number.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and [`ImageError::OutOfMemory`].
    pub fn parse(file: &[u8]) -> Result<Self, ImageError> {
        let mut copy = Vec::new();
        let full = |_| ImageError::OutOfMemory(file.len());
        copy.try_reserve_exact(file.len()).map_err(full)?;
        copy.extend_from_slice(file);
        Self::read(copy)
    }

    fn read(file: Vec<u8>) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(&file)?;
        let head = &elf.ehdr;
        if head.class != Class::ELF64 || head.e_machine != abi::EM_X86_64 {
            return Err(ImageError::Wrong("not for x86_64"));
        }
        if head.version != u32::from(abi::EV_CURRENT) {
            let version = head.version;
            return Err(ImageError::Malformed(std::format!("ELF version {version} is unknown")));
        }
        let moves = match head.e_type {
            abi::ET_EXEC => 0,
            abi::ET_DYN => BASE,
            _ => return Err(ImageError::Wrong("no program")),
        };
        let mut segments = Vec::new();
        let mut taken = 0;
        for header in elf.segments().into_iter().flatten() {
            match header.p_type {
                abi::PT_INTERP => {
                    return Err(needs(
                        "a dynamic linker",
                        "link it with `-static` or `-static-pie`",
                    ));
                }
                abi::PT_TLS if header.p_memsz != 0 => {
                    let what = std::format!("{} bytes of thread-local storage", header.p_memsz);
                    let instead = "there is no runtime that would set it up; use a `static`, one for each vCPU where it \
                                   must be, and no library that has thread-local variables";
                    return Err(needs(what, instead));
                }
                abi::PT_LOAD if header.p_memsz != 0 => {
                    if segments.len() == MOST_SEGMENTS {
                        let what = std::format!("it has more than {MOST_SEGMENTS} segments");
                        return Err(ImageError::Malformed(what));
                    }
                    let segment = load(&header, file.len(), moves)?;
                    taken += segment.bytes.len();
                    segments.push(segment);
                }
                _ => {}
            }
        }
        if taken > file.len() {
            // They share bytes, which no linker makes: each of them could be all of the file.
            let what = std::format!("its segments have {taken} bytes of a file of {}", file.len());
            return Err(ImageError::Malformed(what));
        }
        segments.sort_by_key(|segment| segment.address);
        for pair in segments.windows(2) {
            if pair[0].end() > pair[1].address {
                return Err(bad_place(&pair[1], "lies in pages of another one"));
            }
        }
        let relocations = Relocations::read(&elf, &file, &segments, moves)?;
        let entry = head.e_entry.wrapping_add(moves);
        let enters = |segment: &Segment| {
            segment.execute && (segment.address..segment.end()).contains(&entry)
        };
        if !segments.iter().any(enters) {
            let what = std::format!("its entry point, {entry:#x}, is not in a segment of code");
            return Err(ImageError::Malformed(what));
        }
        let symbols = Symbols::find(&elf);
        Ok(Self(Arc::new(Parsed { file, segments, relocations, entry, moves, symbols })))
    }

    /// What a segment begins with.
    pub(super) fn bytes(&self, segment: &Segment) -> &[u8] {
        &self.0.file[segment.bytes.clone()]
    }

    /// Calls with the address of each word that is relocated, and its value.
    pub(super) fn relocate(&self, mut each: impl FnMut(u64, u64)) {
        let Parsed { file, segments, relocations, moves, .. } = &*self.0;
        // They were read once, so none of them fails.
        let _ = relocations.each(file, segments, *moves, |place, _, value| {
            each(place, value);
            Ok(())
        });
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.0.segments
    }

    pub(super) fn entry(&self) -> u64 {
        self.0.entry
    }

    /// The function that an address is in, and how far in. It looks at each symbol of the file.
    pub(super) fn symbol(&self, address: u64) -> Option<(String, u64)> {
        let Parsed { file, symbols, moves, .. } = &*self.0;
        symbols.as_ref()?.of(file, address.checked_sub(*moves)?)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("entry", &self.0.entry).finish_non_exhaustive()
    }
}

fn bad_place(segment: &Segment, why: &'static str) -> ImageError {
    ImageError::Place { address: segment.address, len: segment.len, why }
}

fn needs(what: impl Into<String>, instead: &'static str) -> ImageError {
    ImageError::Needs { what: what.into(), instead }
}

fn load(header: &ProgramHeader, file: usize, moves: u64) -> Result<Segment, ImageError> {
    let bad = |why| ImageError::Place { address: header.p_vaddr, len: header.p_memsz, why };
    let address = header.p_vaddr.checked_add(moves);
    let end = address.and_then(|address| address.checked_add(header.p_memsz));
    let (address, end) = address.zip(end).ok_or_else(|| bad("wraps around"))?;
    if address < LOWEST || end > HIGHEST {
        return Err(bad("lies where no guest may: they lie from 64 KiB on and below 64 GiB"));
    }
    if header.p_filesz > header.p_memsz {
        return Err(bad("has more bytes in the file than in memory"));
    }
    let (write, execute) = (header.p_flags & abi::PF_W != 0, header.p_flags & abi::PF_X != 0);
    if write && execute {
        return Err(bad("may be written and executed"));
    }
    let last = header.p_offset.checked_add(header.p_filesz).filter(|last| *last <= file as u64);
    let last = last.ok_or_else(|| {
        let ProgramHeader { p_vaddr, p_offset, p_filesz, .. } = header;
        ImageError::Malformed(std::format!(
            "the segment at {p_vaddr:#x} has {p_filesz:#x} bytes from {p_offset:#x} on, and the file {file:#x}"
        ))
    })?;
    let start = address / PAGE * PAGE;
    let len = end.next_multiple_of(PAGE) - start;
    let skip = (address - start) as usize;
    let bytes = header.p_offset as usize..last as usize;
    Ok(Segment { address: start, len, skip, bytes, write, execute })
}

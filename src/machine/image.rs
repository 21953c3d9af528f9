//! A guest's program: an ELF file, read and checked once, put into any number of machines.

use std::{
    borrow::{Cow, ToOwned},
    fmt, fs, io,
    path::Path,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use elf::{ElfBytes, abi, endian::LittleEndian, file::Class, segment::ProgramHeader};

use crate::memory::PAGE;

/// Where a guest may lie: above the first 64 KiB, which hold nothing so that null leads nowhere, and below
/// 64 GiB.
const LOWEST: u64 = 0x1_0000;
/// See [`LOWEST`].
const HIGHEST: u64 = 0x10_0000_0000;
/// Where a guest lies that runs anywhere.
const BASE: u64 = 0x4000_0000;
/// The most pieces that a guest may be loaded in.
const MOST_SEGMENTS: usize = 64;
/// The most functions whose names are kept, and the most bytes of a name.
const MOST_SYMBOLS: usize = 1 << 16;
/// See [`MOST_SYMBOLS`].
const MOST_NAME: usize = 256;

/// A guest's program, from an ELF file: static, at a fixed address or position-independent, for x86_64.
///
/// It is checked here, and the kernel never executes the file. Cloning it is cheap, and so is making many
/// machines of one.
#[derive(Clone)]
pub struct Image(Arc<Parsed>);

struct Parsed {
    segments: Vec<Segment>,
    entry: u64,
    /// Functions by address, with their sizes.
    symbols: Vec<(u64, u64, String)>,
}

/// A piece of a guest's memory, of whole pages.
pub(super) struct Segment {
    /// The address of its first page, and how many bytes of pages there are.
    pub(super) address: u64,
    pub(super) len: u64,
    /// What it begins with, from `skip` on; the rest is zeros.
    pub(super) skip: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) write: bool,
    pub(super) execute: bool,
}

impl Segment {
    pub(super) fn end(&self) -> u64 {
        self.address + self.len
    }
}

/// A file that is no guest.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageError {
    /// It cannot be read.
    Io(io::Error),
    /// It is no ELF file, or one that contradicts itself.
    Malformed(String),
    /// It is for another processor, or no program.
    Wrong(&'static str),
    /// It needs a dynamic linker, a thread's own storage, or relocations other than relative ones: link it
    /// statically, without a standard library.
    Needs(&'static str),
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
            Self::Malformed(what) => write!(f, "the guest's file is no sound ELF file: {what}"),
            Self::Wrong(what) => write!(f, "the guest's file is {what}"),
            Self::Needs(what) => write!(f, "the guest needs {what}; link it statically"),
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
        Self::parse(&fs::read(path).map_err(ImageError::Io)?)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(file: &[u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
        let head = &elf.ehdr;
        if head.class != Class::ELF64 || head.e_machine != abi::EM_X86_64 {
            return Err(ImageError::Wrong("not for x86_64"));
        }
        if head.version != u32::from(abi::EV_CURRENT) {
            return Err(ImageError::Malformed("its version is none".to_owned()));
        }
        let moves = match head.e_type {
            abi::ET_EXEC => 0,
            abi::ET_DYN => BASE,
            _ => return Err(ImageError::Wrong("no program")),
        };
        let mut segments = Vec::new();
        for header in elf.segments().into_iter().flatten() {
            match header.p_type {
                abi::PT_INTERP => return Err(ImageError::Needs("a dynamic linker")),
                abi::PT_TLS if header.p_memsz != 0 => {
                    return Err(ImageError::Needs("thread-local storage"));
                }
                abi::PT_LOAD if header.p_memsz != 0 => {
                    if segments.len() == MOST_SEGMENTS {
                        return Err(ImageError::Malformed("too many segments".to_owned()));
                    }
                    segments.push(load(&header, elf.segment_data(&header)?, moves)?);
                }
                _ => {}
            }
        }
        segments.sort_by_key(|segment| segment.address);
        for pair in segments.windows(2) {
            if pair[0].end() > pair[1].address {
                return Err(bad_place(&pair[1], "lies in pages of another one"));
            }
        }
        relocate(&elf, &mut segments, moves)?;
        let entry = head.e_entry.wrapping_add(moves);
        let enters = |segment: &Segment| {
            segment.execute && (segment.address..segment.end()).contains(&entry)
        };
        if !segments.iter().any(enters) {
            return Err(ImageError::Malformed("its entry point is no code".to_owned()));
        }
        let symbols = symbols(&elf, moves);
        Ok(Self(Arc::new(Parsed { segments, entry, symbols })))
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.0.segments
    }

    pub(super) fn entry(&self) -> u64 {
        self.0.entry
    }

    /// The function that an address is in, and how far in.
    pub(super) fn symbol(&self, address: u64) -> Option<(String, u64)> {
        let symbols = &self.0.symbols;
        let at = symbols.partition_point(|symbol| symbol.0 <= address).checked_sub(1)?;
        let (start, size, name) = &symbols[at];
        let within = address - start;
        (within < *size).then(|| (name.clone(), within))
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

fn load(header: &ProgramHeader, data: &[u8], moves: u64) -> Result<Segment, ImageError> {
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
    let start = address / PAGE * PAGE;
    let len = end.next_multiple_of(PAGE) - start;
    let skip = (address - start) as usize;
    Ok(Segment { address: start, len, skip, bytes: data.to_vec(), write, execute })
}

/// Applies the relocations of a program that was linked to lie anywhere. There are only relative ones: to
/// a word, the base is added.
fn relocate(
    elf: &ElfBytes<'_, LittleEndian>,
    segments: &mut [Segment],
    moves: u64,
) -> Result<(), ImageError> {
    const DT_RELR: i64 = 36;
    for entry in elf.dynamic()?.iter().flat_map(|dynamic| dynamic.iter()) {
        match entry.d_tag {
            abi::DT_NEEDED => return Err(ImageError::Needs("libraries")),
            abi::DT_TEXTREL => return Err(ImageError::Needs("changes to its code")),
            abi::DT_REL | DT_RELR => return Err(ImageError::Needs("relocations of another kind")),
            abi::DT_PLTRELSZ if entry.d_val() != 0 => {
                return Err(ImageError::Needs("a procedure linkage table"));
            }
            _ => {}
        }
    }
    if moves == 0 {
        return Ok(());
    }
    let value = |tag| {
        let dynamic = elf.dynamic().ok().flatten()?;
        dynamic.iter().find(|entry| entry.d_tag == tag).map(|entry| entry.d_val())
    };
    let wrong = || ImageError::Malformed("its relocations are not in it".to_owned());
    let (at, len) = match (value(abi::DT_RELA), value(abi::DT_RELASZ), value(abi::DT_RELAENT)) {
        (None, None, _) => return Ok(()),
        (Some(at), Some(len), Some(24)) if len % 24 == 0 => (at, len),
        _ => return Err(wrong()),
    };
    let at = at.checked_add(moves).ok_or_else(wrong)?;
    let table = bytes_at(segments, at, len).ok_or_else(wrong)?.to_vec();
    for entry in table.chunks_exact(24) {
        let word = |i: usize| u64::from_le_bytes(core::array::from_fn(|byte| entry[8 * i + byte]));
        match word(1) as u32 {
            0 => continue,
            abi::R_X86_64_RELATIVE => {}
            _ => return Err(ImageError::Needs("relocations of another kind")),
        }
        let place = word(0).checked_add(moves).ok_or_else(wrong)?;
        let target = bytes_at_mut(segments, place, 8).ok_or_else(wrong)?;
        target.copy_from_slice(&word(2).wrapping_add(moves).to_le_bytes());
    }
    Ok(())
}

/// Where in a segment's bytes an address is, with `len` bytes from there on.
fn range(segment: &Segment, address: u64, len: u64) -> Option<core::ops::Range<usize>> {
    let from = address.checked_sub(segment.address + segment.skip as u64)?;
    let to = from.checked_add(len)?;
    (to <= segment.bytes.len() as u64).then_some(from as usize..to as usize)
}

fn bytes_at(segments: &[Segment], address: u64, len: u64) -> Option<&[u8]> {
    segments.iter().find_map(|segment| Some(&segment.bytes[range(segment, address, len)?]))
}

fn bytes_at_mut(segments: &mut [Segment], address: u64, len: u64) -> Option<&mut [u8]> {
    segments.iter_mut().find_map(|segment| {
        let range = range(segment, address, len)?;
        Some(&mut segment.bytes[range])
    })
}

/// The functions that the file names, for people: what cannot be read is left out.
fn symbols(elf: &ElfBytes<'_, LittleEndian>, moves: u64) -> Vec<(u64, u64, String)> {
    let Ok(Some((table, names))) = elf.symbol_table() else { return Vec::new() };
    let mut symbols = Vec::new();
    for symbol in table.iter().filter(|symbol| symbol.st_symtype() == abi::STT_FUNC) {
        let Ok(name) = names.get_raw(symbol.st_name as usize) else { continue };
        let Some(address) = symbol.st_value.checked_add(moves) else { continue };
        if name.is_empty() || symbols.len() == MOST_SYMBOLS {
            continue;
        }
        let name: Cow<'_, str> = String::from_utf8_lossy(&name[..name.len().min(MOST_NAME)]);
        // Without the hash at the end.
        let name = std::format!("{:#}", rustc_demangle::demangle(&name));
        symbols.push((address, symbol.st_size.max(1), name.chars().take(MOST_NAME).collect()));
    }
    symbols.sort();
    symbols
}

//! A guest's program: an ELF file, parsed and checked once, and loaded into any number of machines.
//!
//! Segments, relocations and symbols are kept as ranges of the file, so an image takes little more memory than the
//! file, and parsing takes time in proportion to its length, whatever the file contains.

use std::{
    boxed::Box,
    fmt, fs, io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use elf::{ElfBytes, abi, endian::LittleEndian, file::Class, segment::ProgramHeader};
use once_cell::race::OnceBox;

use super::{
    checkpoint,
    mapping::{Kind, Mapping},
    memfd, native, signals,
};
use crate::{abi::PAGE_SIZE, error::debug_by_display};

mod relocations;
mod symbols;

use relocations::Relocations;
use symbols::Symbols;

/// The lowest address of a segment, 64 KiB: null and small offsets from it stay unmapped.
const LOWEST: u64 = 0x1_0000;
/// The end of the addresses for segments, 64 GiB, where the region begins.
pub(super) const HIGHEST: u64 = 0x10_0000_0000;
/// The load bias of position-independent images.
const BASE: u64 = 0x4000_0000;
/// How many zeros are in the file of an image behind its pages. No guest maps these, so they take no memory.
pub(super) const ZEROS: u64 = 64 << 10;
/// The greatest number of segments.
pub(super) const MAX_SEGMENTS: usize = 64;

/// A guest's program, from an ELF file for this processor's architecture: statically linked, at fixed addresses (`ET_EXEC`) or
/// position-independent (`ET_DYN`). Segments must lie between 64 KiB and 64 GiB.
///
/// It owns a copy of the file, which is checked once and which the kernel never executes. Clones share the copy.
#[derive(Clone)]
pub struct Image(Arc<Parsed>);

struct Parsed {
    file: Vec<u8>,
    segments: Vec<Segment>,
    relocations: Relocations,
    entry: u64,
    /// The difference between addresses in the guest and in the file.
    load_bias: u64,
    symbols: Option<Symbols>,
    /// The file of [`Image::laid_out`].
    laid_out: OnceBox<Arc<fs::File>>,
}

/// A segment of the program (`PT_LOAD`), extended to whole pages.
pub(super) struct Segment {
    /// The address of the first page.
    pub(super) address: u64,
    /// The length of all pages, in bytes.
    pub(super) len: u64,
    /// The offset in the first page at which `bytes` of the file are loaded. The rest of the pages is zeros.
    pub(super) skip: usize,
    bytes: Range<usize>,
    pub(super) write: bool,
    pub(super) execute: bool,
}

impl Segment {
    pub(super) fn end(&self) -> u64 {
        self.address + self.len
    }

    /// The range of the file that is loaded at `len` bytes from an address on; `None` if not all of them are in the
    /// file.
    fn range(&self, address: u64, len: u64) -> Option<Range<usize>> {
        let from = address.checked_sub(self.address + self.skip as u64)?;
        let to = from.checked_add(len)?;
        let there = to <= (self.bytes.end - self.bytes.start) as u64;
        there.then(|| self.bytes.start + from as usize..self.bytes.start + to as usize)
    }
}

/// The same in any of the segments, which are sorted by address.
fn range(segments: &[Segment], address: u64, len: u64) -> Option<Range<usize>> {
    let at = segments.partition_point(|segment| segment.address <= address).checked_sub(1)?;
    segments[at].range(address, len)
}

/// Why a file cannot be used as an image.
#[non_exhaustive]
pub enum ImageError {
    /// The file cannot be read.
    Io {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// There is not enough memory for a copy of the file, whose length is given in bytes.
    OutOfMemory(usize),
    /// The file is not a valid ELF file: what is wrong.
    Malformed(String),
    /// The file is for another processor, or not an executable.
    Wrong(&'static str),
    /// The program needs something that guests do not have.
    Needs {
        /// What it needs, for example a library with its name. Names from the file are escaped and truncated.
        what: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// A segment is outside of the address range for guests, overlaps another one, or has invalid sizes or permissions.
    Place {
        /// The address of the segment.
        address: u64,
        /// Its length in bytes.
        len: u64,
        /// What is wrong.
        why: &'static str,
    },
}

debug_by_display!(ImageError);

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => {
                write!(f, "the guest's file {} cannot be read: {error}", path.display())
            }
            Self::OutOfMemory(len) => {
                write!(f, "there is not enough memory for a copy of the guest's file, {len} bytes")
            }
            Self::Malformed(what) => {
                write!(f, "the guest's file is not a valid ELF file: {what}")
            }
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
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl Image {
    /// Reads and parses a file.
    ///
    /// # Errors
    ///
    /// [`ImageError::Io`], and those of [`parse`](Self::parse).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        Self::read(fs::read(path).map_err(|error| ImageError::Io { path: path.to_owned(), error })?)
    }

    /// Copies and parses the bytes of a file, in time proportional to their number.
    ///
    /// # Errors
    ///
    /// All of [`ImageError`] but [`Io`](ImageError::Io).
    pub fn parse(file: &[u8]) -> Result<Self, ImageError> {
        let mut copy = Vec::new();
        let full = |_| ImageError::OutOfMemory(file.len());
        copy.try_reserve_exact(file.len()).map_err(full)?;
        copy.extend_from_slice(file);
        Self::read(copy)
    }

    fn read(file: Vec<u8>) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(&file);
        let elf = elf.map_err(|error| ImageError::Malformed(error.to_string()))?;
        let head = &elf.ehdr;
        if head.class != Class::ELF64 || head.e_machine != native::ELF_MACHINE {
            return Err(ImageError::Wrong(native::WRONG_MACHINE));
        }
        if head.version != u32::from(abi::EV_CURRENT) {
            let version = head.version;
            return Err(ImageError::Malformed(std::format!("unsupported ELF version {version}")));
        }
        let load_bias = match head.e_type {
            abi::ET_EXEC => 0,
            abi::ET_DYN => BASE,
            _ => return Err(ImageError::Wrong("not an executable (ET_EXEC or ET_DYN)")),
        };
        let mut segments = Vec::new();
        let mut taken = 0;
        for header in elf.segments().into_iter().flatten() {
            match header.p_type {
                abi::PT_INTERP => {
                    return Err(needs(
                        "a dynamic linker",
                        "link it with `-static` or `-static-pie`; if you did, add `-Wl,--no-dynamic-linker`",
                    ));
                }
                abi::PT_TLS if header.p_memsz != 0 => {
                    let what = std::format!("{} bytes of thread-local storage", header.p_memsz);
                    let instead = "guests have no runtime that sets it up; use a `static`, or one for each vCPU, and \
                                   no library that has thread-local variables";
                    return Err(needs(what, instead));
                }
                abi::PT_LOAD if header.p_memsz != 0 => {
                    if segments.len() == MAX_SEGMENTS {
                        let what = std::format!("it has more than {MAX_SEGMENTS} segments");
                        return Err(ImageError::Malformed(what));
                    }
                    let segment = load(&header, file.len(), load_bias)?;
                    taken += segment.bytes.len();
                    segments.push(segment);
                }
                _ => {}
            }
        }
        if taken > file.len() {
            // Segments that share bytes of the file could take 64 times its length. No linker makes such segments.
            let what = std::format!(
                "its segments load {taken} bytes, but the file has {}: segments must not share bytes",
                file.len()
            );
            return Err(ImageError::Malformed(what));
        }
        segments.sort_by_key(|segment| segment.address);
        for pair in segments.windows(2) {
            if pair[0].end() > pair[1].address {
                return Err(bad_place(&pair[1], "overlaps the pages of another segment"));
            }
        }
        let relocations = Relocations::read(&elf, &file, &segments, load_bias)?;
        let entry = head.e_entry.wrapping_add(load_bias);
        let enters = |segment: &Segment| {
            segment.execute && (segment.address..segment.end()).contains(&entry)
        };
        if !segments.iter().any(enters) {
            let what = std::format!("its entry point {entry:#x} is not in an executable segment");
            return Err(ImageError::Malformed(what));
        }
        let (symbols, laid_out) = (Symbols::find(&elf), OnceBox::new());
        Ok(Self(Arc::new(Parsed {
            file,
            segments,
            relocations,
            entry,
            load_bias,
            symbols,
            laid_out,
        })))
    }

    /// The length of all segments, in bytes.
    pub(super) fn pages_len(&self) -> u64 {
        self.segments().iter().map(|segment| segment.len).sum()
    }

    /// The pages of all segments, one behind the other, relocated, in a file that nothing can change, and behind them [`ZEROS`]
    /// bytes that are zero. It is made once.
    pub(super) fn laid_out(&self) -> io::Result<Arc<fs::File>> {
        self.0.laid_out.get_or_try_init(|| Ok(Box::new(Arc::new(self.lay_out()?)))).cloned()
    }

    fn lay_out(&self) -> io::Result<fs::File> {
        let Parsed { file, segments, relocations, load_bias, .. } = &*self.0;
        let len = self.pages_len();
        let laid_out = memfd::new(c"vmffi-image", len + ZEROS)?;
        // The offset of each segment.
        let mut offsets = Vec::new();
        let mut offset = 0;
        for segment in segments {
            let (bytes, at) = (&file[segment.bytes.clone()], offset + segment.skip as u64);
            signals::change_file(len, || laid_out.write_all_at(bytes, at))?;
            offsets.push(offset);
            offset += segment.len;
        }
        // Relocated pages are copied to the file, since a child that was forked meanwhile would inherit a shared mapping of it,
        // through which the file could still be written when it is sealed.
        let map = Mapping::of_file(len, &laid_out, Kind::CopyOnWrite)?;
        let mut changed: Vec<u64> = Vec::new();
        // `Relocations::read` has checked all of them, so there is no error.
        let _ = relocations.each(file, segments, *load_bias, |place, _, value| {
            let behind = segments.partition_point(|segment| segment.address <= place);
            let Some(nr) = behind.checked_sub(1) else { return Ok(()) };
            let (at, bytes) = (offsets[nr] + (place - segments[nr].address), value.to_le_bytes());
            let room = len.saturating_sub(at).min(bytes.len() as u64) as usize;
            // SAFETY: `at` and `room` bytes from there on are in the mapping, or `room` is 0.
            let to = unsafe { map.at().add(at.min(len) as usize) };
            // SAFETY: see above. `bytes` lies on the stack, and nothing else accesses the new mapping.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, room) };
            for page in [at / PAGE_SIZE, (at + 7) / PAGE_SIZE] {
                if changed.last() != Some(&page) && page * PAGE_SIZE < len {
                    changed.push(page);
                }
            }
            Ok(())
        });
        changed.sort_unstable();
        changed.dedup();
        signals::change_file(len, || {
            changed.iter().map(|page| page * PAGE_SIZE).try_for_each(|at| {
                let size = (len - at).min(PAGE_SIZE) as usize;
                // SAFETY: `at` is less than `len`, so `size` bytes from there on are in the mapping.
                unsafe { checkpoint::write(&laid_out, map.at().add(at as usize), size, at) }
            })
        })?;
        memfd::seal(&laid_out)?;
        Ok(laid_out)
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.0.segments
    }

    pub(super) fn entry(&self) -> u64 {
        self.0.entry
    }

    /// The name of the function that contains an address of the guest, and the offset in it. It takes time in
    /// proportion to the number of symbols.
    pub(super) fn symbol(&self, address: u64) -> Option<(String, u64)> {
        let Parsed { file, symbols, load_bias, .. } = &*self.0;
        symbols.as_ref()?.of(file, address.checked_sub(*load_bias)?)
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

fn load(header: &ProgramHeader, file: usize, load_bias: u64) -> Result<Segment, ImageError> {
    let bad = |why| ImageError::Place { address: header.p_vaddr, len: header.p_memsz, why };
    let address = header.p_vaddr.checked_add(load_bias);
    let end = address.and_then(|address| address.checked_add(header.p_memsz));
    let (address, end) = address.zip(end).ok_or_else(|| bad("exceeds the address space"))?;
    if address < LOWEST || end > HIGHEST {
        return Err(bad("is outside of the address range for guests, 64 KiB to 64 GiB"));
    }
    if header.p_filesz > header.p_memsz {
        return Err(bad("is larger in the file than in memory"));
    }
    let (write, execute) = (header.p_flags & abi::PF_W != 0, header.p_flags & abi::PF_X != 0);
    if write && execute {
        return Err(bad("is writable and executable: link code and data into separate segments"));
    }
    let last = header.p_offset.checked_add(header.p_filesz).filter(|last| *last <= file as u64);
    let last = last.ok_or_else(|| {
        let ProgramHeader { p_vaddr, p_offset, p_filesz, .. } = header;
        ImageError::Malformed(std::format!(
            "the segment at {p_vaddr:#x} has {p_filesz:#x} bytes at offset {p_offset:#x} of the file, which has {file:#x}"
        ))
    })?;
    let start = address / PAGE_SIZE * PAGE_SIZE;
    let len = end.next_multiple_of(PAGE_SIZE) - start;
    let skip = (address - start) as usize;
    let bytes = header.p_offset as usize..last as usize;
    Ok(Segment { address: start, len, skip, bytes, write, execute })
}

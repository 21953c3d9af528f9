//! The relocations of a program that was linked to lie anywhere. There are only relative ones: to a word, the base is added.

use elf::{ElfBytes, abi, endian::LittleEndian};

use std::{borrow::ToOwned, ops::Range, string::String};

use super::{ImageError, Segment, needs, range};
use crate::host::Escaped;

const DT_RELRSZ: i64 = 35;
const DT_RELR: i64 = 36;
const DT_RELRENT: i64 = 37;
/// How many bytes of a library's name are looked at.
const MOST_NAME: usize = 100;

/// Where in the file their tables are.
#[derive(Default)]
pub(super) struct Relocations {
    /// A place, a type and a value each.
    rela: Range<usize>,
    /// Places whose words hold the values: one by its address, 63 more by a bitmap.
    relr: Range<usize>,
}

impl Relocations {
    /// Finds them, and sees to it that each of them changes a word of the file.
    pub(super) fn read(
        elf: &ElfBytes<'_, LittleEndian>,
        file: &[u8],
        segments: &[Segment],
        moves: u64,
    ) -> Result<Self, ImageError> {
        // One look at the section: the first entry of each kind counts.
        let mut values = [None; 6];
        const KINDS: [i64; 6] =
            [abi::DT_RELA, abi::DT_RELASZ, abi::DT_RELAENT, DT_RELR, DT_RELRSZ, DT_RELRENT];
        let (mut library, mut names) = (None, None);
        for entry in dynamic(elf, file)?.chunks_exact(16) {
            let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|nr| entry[at + nr]));
            let value = word(8);
            match word(0) as i64 {
                abi::DT_NULL => break,
                abi::DT_NEEDED => library = library.or(Some(value)),
                abi::DT_STRTAB => names = names.or(Some(value)),
                abi::DT_TEXTREL => {
                    return Err(needs(
                        "changes to its code",
                        "compile all of it as position-independent code",
                    ));
                }
                abi::DT_REL => {
                    let instead = "x86_64 has relocations with addends, use a linker for that";
                    return Err(needs("relocations without addends", instead));
                }
                abi::DT_PLTRELSZ if value != 0 => {
                    let instead = "it calls functions that no part of it defines; link it with `-static` or \
                                   `-static-pie`, and with all that it calls";
                    return Err(needs("a procedure linkage table", instead));
                }
                tag => {
                    if let Some(nr) = KINDS.iter().position(|kind| *kind == tag) {
                        values[nr] = values[nr].or(Some(value));
                    }
                }
            }
        }
        if let Some(at) = library {
            let at = names.and_then(|names| names.checked_add(at)?.checked_add(moves));
            return Err(needs_library(
                at.and_then(|at| range(segments, at, 1)).map(|at| &file[at.start..]),
            ));
        }
        if moves == 0 {
            return Ok(Self::default());
        }
        let table = |first: usize, size, name| {
            let wrong = || {
                ImageError::Malformed(std::format!("its table of {name} relocations is not in it"))
            };
            match (values[first], values[first + 1], values[first + 2]) {
                (None, None, _) | (Some(_), Some(0), _) => Ok(0..0),
                (Some(at), Some(len), Some(entry)) if entry == size && len % size == 0 => {
                    at.checked_add(moves).and_then(|at| range(segments, at, len)).ok_or_else(wrong)
                }
                _ => Err(wrong()),
            }
        };
        let this = Self { rela: table(0, 24, "RELA")?, relr: table(3, 8, "RELR")? };
        this.each(file, segments, moves, |_, _, _| Ok(()))?;
        Ok(this)
    }

    /// Calls with the address of each word, its place in the file and its value.
    pub(super) fn each(
        &self,
        file: &[u8],
        segments: &[Segment],
        moves: u64,
        mut each: impl FnMut(u64, usize, u64) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let word = |at: usize| {
            let bytes = file.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        // Only what is in the file has a value to be changed.
        let find = |place: u64| {
            let found = range(segments, place, 8).map(|found| found.start);
            let what =
                || std::format!("a relocation changes the word at {place:#x}, which is not in it");
            found.ok_or_else(|| ImageError::Malformed(what()))
        };
        for at in self.rela.clone().step_by(24) {
            match word(at + 8) as u32 {
                0 => continue,
                abi::R_X86_64_RELATIVE => {}
                kind => {
                    let what = std::format!("relocations of type {kind}");
                    let instead = "it uses symbols that no part of it defines, or thread-local ones; link it with \
                                   `-static-pie`, and with all that it uses";
                    return Err(needs(what, instead));
                }
            }
            let place = word(at).wrapping_add(moves);
            each(place, find(place)?, word(at + 16).wrapping_add(moves))?;
        }
        // Each place is behind the last one, as linkers have it: a word is changed once, and there are no more changes
        // than there are words.
        let mut next: Option<u64> = None;
        let mut change = |place: u64, least: u64| {
            if place < least {
                let what =
                    std::format!("its RELR relocation of {place:#x} is not behind the last one");
                return Err(ImageError::Malformed(what));
            }
            let found = find(place)?;
            each(place, found, word(found).wrapping_add(moves))
        };
        for at in self.relr.clone().step_by(8) {
            let entry = word(at);
            if entry & 1 == 0 {
                let place = entry.wrapping_add(moves);
                change(place, next.unwrap_or(0))?;
                next = place.checked_add(8);
                continue;
            }
            let start = next.ok_or_else(|| {
                ImageError::Malformed("its RELR relocations begin with a bitmap".to_owned())
            })?;
            for bit in 1..64 {
                if entry >> bit & 1 != 0 {
                    change(start.wrapping_add(8 * (bit - 1)), start)?;
                }
            }
            next = start.checked_add(63 * 8);
        }
        Ok(())
    }
}

/// The entries of the dynamic section, as the program headers say: section headers are for linkers, and may say something
/// else.
fn dynamic<'f>(elf: &ElfBytes<'_, LittleEndian>, file: &'f [u8]) -> Result<&'f [u8], ImageError> {
    let mut headers = elf.segments().into_iter().flatten();
    let Some(header) = headers.find(|header| header.p_type == abi::PT_DYNAMIC) else {
        return Ok(&[]);
    };
    let (at, len) = (header.p_offset, header.p_filesz);
    let bytes = usize::try_from(at).ok().zip(usize::try_from(len).ok());
    let bytes = bytes.and_then(|(at, len)| file.get(at..at.checked_add(len)?));
    bytes.ok_or_else(|| {
        ImageError::Malformed(std::format!(
            "its dynamic section, {len:#x} bytes from {at:#x} on, is not in it"
        ))
    })
}

/// The name is the file's, up to its end or as much as is looked at.
fn needs_library(name: Option<&[u8]>) -> ImageError {
    let instead = "link it with `-static` or `-static-pie`; if it is, it was linked with `-shared` or `-Bdynamic` as well";
    let name = name.unwrap_or_default();
    let end = name.iter().take(MOST_NAME).position(|byte| *byte == 0);
    let name = String::from_utf8_lossy(&name[..end.unwrap_or(name.len().min(MOST_NAME))]);
    match &*name {
        "" => needs("a library without a name", instead),
        name => needs(std::format!("the library `{}`", Escaped(name)), instead),
    }
}

//! The relocations of a position-independent program (ELF-64 Object File Format, "Relocations"; the gABI's "RELR").
//!
//! A static program has only relative relocations: a word becomes the sum of the load bias and an addend.

use elf::{ElfBytes, abi, endian::LittleEndian};

use std::{borrow::ToOwned, ops::Range, string::String};

use super::{super::native, ImageError, Segment, needs, range};
use crate::contract::Escaped;

const DT_RELRSZ: i64 = 35;
const DT_RELR: i64 = 36;
const DT_RELRENT: i64 = 37;
/// The maximum length of a library's name that is copied for diagnostics, in bytes.
const MAX_NAME_LEN: usize = 100;

/// The ranges of the file with the relocation tables.
#[derive(Default)]
pub(super) struct Relocations {
    /// Entries of 24 bytes: an address, a type and an addend.
    rela: Range<usize>,
    /// Words: an address, or a bitmap of the 63 words behind the last one. The relocated words hold the addends.
    relr: Range<usize>,
}

impl Relocations {
    /// Finds the tables in the dynamic section, and checks that every relocation is relative and changes a word that is
    /// loaded from the file.
    pub(super) fn read(
        elf: &ElfBytes<'_, LittleEndian>,
        file: &[u8],
        segments: &[Segment],
        load_bias: u64,
    ) -> Result<Self, ImageError> {
        // The first entry of each tag counts.
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
                        "relocations in its code",
                        "compile all of it as position-independent code",
                    ));
                }
                abi::DT_REL => {
                    let instead =
                        "this architecture uses relocations with addends; use a linker for it";
                    return Err(needs("relocations without addends", instead));
                }
                abi::DT_PLTRELSZ if value != 0 => {
                    let instead = "it calls functions that it does not define; link it with `-static` or \
                                   `-static-pie`, and with everything that it calls";
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
            let at = names.and_then(|names| names.checked_add(at)?.checked_add(load_bias));
            return Err(needs_library(
                at.and_then(|at| range(segments, at, 1)).map(|at| &file[at.start..]),
            ));
        }
        if load_bias == 0 {
            return Ok(Self::default());
        }
        let table = |first: usize, size, name| {
            let wrong = || {
                ImageError::Malformed(std::format!(
                    "its {name} relocation table is incomplete or outside of its segments"
                ))
            };
            match (values[first], values[first + 1], values[first + 2]) {
                (None, None, _) | (Some(_), Some(0), _) => Ok(0..0),
                (Some(at), Some(len), Some(entry)) if entry == size && len % size == 0 => at
                    .checked_add(load_bias)
                    .and_then(|at| range(segments, at, len))
                    .ok_or_else(wrong),
                _ => Err(wrong()),
            }
        };
        let this = Self { rela: table(0, 24, "RELA")?, relr: table(3, 8, "RELR")? };
        this.each(file, segments, load_bias, |_, _, _| Ok(()))?;
        Ok(this)
    }

    /// Calls `each` with the address of each relocated word, its offset in the file and its value.
    pub(super) fn each(
        &self,
        file: &[u8],
        segments: &[Segment],
        load_bias: u64,
        mut each: impl FnMut(u64, usize, u64) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let word = |at: usize| {
            let bytes = file.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        let find = |place: u64| {
            let found = range(segments, place, 8).map(|found| found.start);
            let what = || {
                std::format!(
                    "a relocation changes the word at {place:#x}, which is not in the file"
                )
            };
            found.ok_or_else(|| ImageError::Malformed(what()))
        };
        for at in self.rela.clone().step_by(24) {
            match word(at + 8) as u32 {
                0 => continue,
                native::RELATIVE => {}
                kind => {
                    let what = std::format!("relocations of type {kind}");
                    let instead = "it uses symbols that it does not define, or thread-local ones; link it with \
                                   `-static-pie`, and with everything that it uses";
                    return Err(needs(what, instead));
                }
            }
            let place = word(at).wrapping_add(load_bias);
            each(place, find(place)?, word(at + 16).wrapping_add(load_bias))?;
        }
        // Addresses must ascend, as linkers sort them: then each word is relocated once, and the time is in proportion
        // to the length of the file.
        let mut next: Option<u64> = None;
        let mut change = |place: u64, least: u64| {
            if place < least {
                let what = std::format!(
                    "its RELR relocations are not sorted: {place:#x} follows {least:#x}"
                );
                return Err(ImageError::Malformed(what));
            }
            let found = find(place)?;
            each(place, found, word(found).wrapping_add(load_bias))
        };
        for at in self.relr.clone().step_by(8) {
            let entry = word(at);
            if entry & 1 == 0 {
                let place = entry.wrapping_add(load_bias);
                change(place, next.unwrap_or(0))?;
                next = place.checked_add(8);
                continue;
            }
            let start = next.ok_or_else(|| {
                ImageError::Malformed(
                    "its RELR relocations begin with a bitmap, not an address".to_owned(),
                )
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

/// The dynamic section, found by its program header (`PT_DYNAMIC`), as a loader does. Section headers are for linkers,
/// and may differ.
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
            "its dynamic section, {len:#x} bytes at file offset {at:#x}, exceeds the file"
        ))
    })
}

/// The error for a dynamic library. `name` begins with its name, which ends with a zero or at the maximum length.
fn needs_library(name: Option<&[u8]>) -> ImageError {
    let instead = "link it with `-static` or `-static-pie`; if you did, remove `-shared` and `-Bdynamic` as well";
    let name = name.unwrap_or_default();
    let end = name.iter().take(MAX_NAME_LEN).position(|byte| *byte == 0);
    let name = String::from_utf8_lossy(&name[..end.unwrap_or(name.len().min(MAX_NAME_LEN))]);
    match &*name {
        "" => needs("a library without a name", instead),
        name => needs(std::format!("the library `{}`", Escaped(name)), instead),
    }
}

//! The names of a program's functions, for diagnostics. They are read on demand, since a file may have any number of
//! symbols, and a short mangled name may stand for a very long text.

use std::{
    fmt::{self, Write},
    ops::Range,
    string::String,
};

use elf::{ElfBytes, abi, endian::LittleEndian};

/// The maximum length of a mangled name that is read, and of the demangled text, in bytes.
const MAX_NAME_LEN: usize = 256;
/// The length of an entry of the symbol table, in bytes (ELF-64 Object File Format, "Symbol Table").
const SYMBOL: usize = 24;

/// The ranges of the file with the symbol table and the names. They are checked on each access.
pub(super) struct Symbols {
    table: Range<usize>,
    names: Range<usize>,
}

impl Symbols {
    /// Finds the first symbol table; `None` if there is none, or it is malformed.
    pub(super) fn find(elf: &ElfBytes<'_, LittleEndian>) -> Option<Self> {
        let headers = elf.section_headers()?;
        let table = headers.iter().find(|header| header.sh_type == abi::SHT_SYMTAB)?;
        let names = headers.get(table.sh_link as usize).ok()?;
        let place = |offset: u64, size: u64| {
            let (from, to) = (usize::try_from(offset), usize::try_from(offset.checked_add(size)?));
            Some(from.ok()?..to.ok()?)
        };
        Some(Self {
            table: place(table.sh_offset, table.sh_size)?,
            names: place(names.sh_offset, names.sh_size)?,
        })
    }

    /// The name of the function that contains an address, and the offset in it. If several do, the last one to begin
    /// wins.
    pub(super) fn of(&self, file: &[u8], address: u64) -> Option<(String, u64)> {
        let names = file.get(self.names.clone())?;
        let mut best: Option<(u64, &[u8])> = None;
        for symbol in file.get(self.table.clone())?.chunks_exact(SYMBOL) {
            let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|nr| symbol[at + nr]));
            let (start, size) = (word(8), word(16).max(1));
            let within = address.checked_sub(start).is_some_and(|within| within < size);
            if symbol[4] & 0xf != abi::STT_FUNC
                || !within
                || best.is_some_and(|best| best.0 >= start)
            {
                continue;
            }
            let name = names.get(word(0) as u32 as usize..).unwrap_or_default();
            if name.first().is_some_and(|first| *first != 0) {
                best = Some((start, name));
            }
        }
        let (start, name) = best?;
        let len = name.iter().take(MAX_NAME_LEN).position(|byte| *byte == 0);
        Some((demangled(&name[..len.unwrap_or(name.len().min(MAX_NAME_LEN))]), address - start))
    }
}

/// Demangles a name, without its hash, and truncates the text.
fn demangled(name: &[u8]) -> String {
    let mut text = TruncatedString(String::new());
    // The error stops the demangler when the text is full.
    let _ = write!(text, "{:#}", rustc_demangle::demangle(&String::from_utf8_lossy(name)));
    text.0
}

/// A text of at most `MAX_NAME_LEN` bytes. A write that exceeds it is truncated between two characters, and fails.
struct TruncatedString(String);

impl Write for TruncatedString {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_NAME_LEN - self.0.len();
        let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        self.0.push_str(&text[..end.unwrap_or(0)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// A base-62 number of the v0 mangling (RFC 2603): `_` is 0, `0_` is 1.
    fn base_62(number: usize) -> String {
        const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut text = String::from("_");
        let mut rest = number.checked_sub(1);
        while let Some(number) = rest {
            text.insert(0, char::from(DIGITS[number % 62]));
            rest = (number >= 62).then_some(number / 62);
        }
        text
    }

    /// A name of almost 256 bytes whose demangled text has exponential length: each tuple contains the previous one
    /// twice.
    #[test]
    fn names_that_unfold() {
        let mut name = String::from("_RINvC1a1b");
        let mut last = name.len() - 2;
        name.push_str("TuuE");
        while name.len() < MAX_NAME_LEN - 20 {
            // Back references count from behind `_R`.
            let (at, back) = (name.len() - 2, base_62(last));
            name.push_str(&std::format!("TB{back}B{back}E"));
            last = at;
        }
        name.push('E');
        let parsed = rustc_demangle::try_demangle(&name).expect("it is a name");
        let mut long = TruncatedString(String::new());
        assert!(
            write!(long, "{parsed:#}").is_err(),
            "the text should exceed the maximum length: {}",
            long.0
        );
        let begin = Instant::now();
        for name in
            [&name, "_RNvC1a1b", "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "plain"]
        {
            assert!(demangled(name.as_bytes()).len() <= MAX_NAME_LEN);
        }
        assert!(begin.elapsed() < Duration::from_secs(1));
        assert_eq!(
            demangled(b"_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            "core::fmt::Write::write_fmt"
        );
        assert!(demangled(&[0xff; 400][..256]).len() <= MAX_NAME_LEN);
    }
}

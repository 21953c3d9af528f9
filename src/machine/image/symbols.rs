//! The names that a file has for its functions, for people. They are looked at when somebody asks for one: a file may have
//! any number, and a short one may stand for a very long text.

use std::{
    fmt::{self, Write},
    ops::Range,
    string::String,
};

use elf::{ElfBytes, abi, endian::LittleEndian};

/// The most bytes of a name that are looked at, and the most of what they stand for.
const MOST_NAME: usize = 256;
/// The size of a symbol (ELF-64 Object File Format, "Symbol Table").
const SYMBOL: usize = 24;

/// Where in the file they are.
pub(super) struct Symbols {
    table: Range<usize>,
    names: Range<usize>,
}

impl Symbols {
    /// The file's table of symbols, if it has one that can be read.
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

    /// The function that an address is in, and how far in: of those that have it, the one that begins last.
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
        let len = name.iter().take(MOST_NAME).position(|byte| *byte == 0);
        Some((demangled(&name[..len.unwrap_or(name.len().min(MOST_NAME))]), address - start))
    }
}

/// What a name stands for, without the hash at its end, as far as there is room.
fn demangled(name: &[u8]) -> String {
    let mut text = Short(String::new());
    // It ends where the room does, with what there is by then.
    let _ = write!(text, "{:#}", rustc_demangle::demangle(&String::from_utf8_lossy(name)));
    text.0
}

/// A text that takes no more than its room, and then fails.
struct Short(String);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MOST_NAME - self.0.len();
        let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        self.0.push_str(&text[..end.unwrap_or(0)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// A number of the mangling (RFC 2603), which counts from "nothing is 0".
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

    /// A name of almost 256 bytes that stands for a text without end: each of its tuples is the one before it, twice.
    #[test]
    fn names_that_unfold() {
        let mut name = String::from("_RINvC1a1b");
        let mut last = name.len() - 2;
        name.push_str("TuuE");
        while name.len() < MOST_NAME - 20 {
            // Places count from behind `_R`.
            let (at, back) = (name.len() - 2, base_62(last));
            name.push_str(&std::format!("TB{back}B{back}E"));
            last = at;
        }
        name.push('E');
        let parsed = rustc_demangle::try_demangle(&name).expect("it is a name");
        let mut long = Short(String::new());
        assert!(
            write!(long, "{parsed:#}").is_err(),
            "its text is longer than there is room: {}",
            long.0
        );
        let begin = Instant::now();
        for name in
            [&name, "_RNvC1a1b", "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "plain"]
        {
            assert!(demangled(name.as_bytes()).len() <= MOST_NAME);
        }
        assert!(begin.elapsed() < Duration::from_secs(1));
        assert_eq!(
            demangled(b"_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            "core::fmt::Write::write_fmt"
        );
        assert!(demangled(&[0xff; 400][..256]).len() <= MOST_NAME);
    }
}

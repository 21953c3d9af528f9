//! Writes ELF files, part by part.

#[cfg_attr(target_arch = "aarch64", path = "native/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "native/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "native/x86_64.rs")]
mod native;

pub use native::{ELF_MACHINE, RELATIVE};

/// Types of file (ELF-64 Object File Format).
pub const DYN: u64 = 3;

/// Types of program header.
pub const LOAD: u32 = 1;
pub const DYNAMIC: u32 = 2;
pub const INTERP: u32 = 3;
pub const NOTE: u32 = 4;
pub const TLS: u32 = 7;

/// Types of section.
pub const SYMTAB: u32 = 2;
pub const STRTAB: u32 = 3;

/// Flags of a segment.
pub const READ: u32 = 4;
pub const READ_EXECUTE: u32 = 5;
pub const READ_WRITE: u32 = 6;

/// The offset of the code in a file that `Elf::program` begins.
pub const CODE: u64 = 0x20_0000;
/// The address of data, after the code.
pub const DATA: u64 = 0x40_0000;
const HEAD: usize = 64;

pub struct Elf {
    kind: u64,
    entry: u64,
    headers: Vec<[u8; 56]>,
    sections: Vec<[u8; 64]>,
    /// The contents after the file's header.
    body: Vec<u8>,
}

impl Elf {
    /// A file with one page of code, which has the entry point.
    pub fn program(kind: u64) -> Self {
        let mut elf =
            Self { kind, entry: CODE, headers: Vec::new(), sections: Vec::new(), body: Vec::new() };
        let code = elf.put(&[0xf4; 64]);
        elf.header(LOAD, READ_EXECUTE, code, CODE, 64, 64);
        elf
    }

    /// Appends bytes, and returns their offset in the file.
    pub fn put(&mut self, bytes: &[u8]) -> u64 {
        self.body.resize(self.body.len().next_multiple_of(8), 0);
        let at = HEAD + self.body.len();
        self.body.extend_from_slice(bytes);
        at as u64
    }

    pub fn put_words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(&bytes)
    }

    /// Adds a program header.
    pub fn header(&mut self, kind: u32, flags: u32, at: u64, address: u64, len: u64, memory: u64) {
        let mut header = [0; 56];
        header[0..4].copy_from_slice(&kind.to_le_bytes());
        header[4..8].copy_from_slice(&flags.to_le_bytes());
        for (nr, word) in [at, address, address, len, memory, 1].into_iter().enumerate() {
            header[8 + 8 * nr..][..8].copy_from_slice(&word.to_le_bytes());
        }
        self.headers.push(header);
    }

    /// Adds a segment, with its bytes.
    pub fn segment(&mut self, flags: u32, address: u64, bytes: &[u8]) -> u64 {
        let (at, len) = (self.put(bytes), bytes.len() as u64);
        self.header(LOAD, flags, at, address, len, len);
        at
    }

    /// Adds a dynamic section with these entries.
    pub fn dynamic(&mut self, entries: &[(u64, u64)]) {
        let words: Vec<u64> = entries.iter().flat_map(|(tag, value)| [*tag, *value]).collect();
        let (at, len) = (self.put_words(&words), 8 * words.len() as u64);
        self.header(DYNAMIC, READ_WRITE, at, 0, len, len);
    }

    /// Adds a section header.
    pub fn section(&mut self, kind: u32, link: u32, at: u64, len: u64, entry: u64) {
        let mut header = [0; 64];
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&at.to_le_bytes());
        header[32..40].copy_from_slice(&len.to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        header[56..64].copy_from_slice(&entry.to_le_bytes());
        self.sections.push(header);
    }

    /// Adds a table of symbols with its table of names.
    pub fn symbols(&mut self, symbols: &[u8], names: &[u8]) {
        let (at, names_at) = (self.put(symbols), self.put(names));
        self.section(0, 0, 0, 0, 0);
        self.section(SYMTAB, 2, at, symbols.len() as u64, 24);
        self.section(STRTAB, 0, names_at, names.len() as u64, 0);
    }

    pub fn finish(mut self) -> Vec<u8> {
        let count = self.headers.len() as u64;
        let many = count >= 0xffff;
        if many && self.sections.is_empty() {
            self.section(0, 0, 0, 0, 0);
        }
        if many {
            // The first section header has the number (`PN_XNUM`).
            self.sections[0][44..48].copy_from_slice(&(count as u32).to_le_bytes());
        }
        let headers = self.put(&self.headers.concat());
        let sections = self.sections.len() as u64;
        if sections >= 0xff00 {
            self.sections[0][32..40].copy_from_slice(&sections.to_le_bytes());
        }
        let sections_at = if sections == 0 { 0 } else { self.put(&self.sections.concat()) };
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend((self.kind | u64::from(ELF_MACHINE) << 16 | 1 << 32).to_le_bytes());
        for word in [self.entry, headers, sections_at] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0_u32.to_le_bytes());
        let sections = if sections >= 0xff00 { 0 } else { sections as u16 };
        for half in [64, 56, if many { 0xffff } else { count as u16 }, 64, sections, 0] {
            file.extend(half.to_le_bytes());
        }
        file.append(&mut self.body);
        file
    }
}

/// An entry of a table of symbols: a function.
pub fn function(name: u32, address: u64, len: u64) -> [u8; 24] {
    let mut symbol = [0; 24];
    symbol[0..4].copy_from_slice(&name.to_le_bytes());
    symbol[4] = 2; // STT_FUNC, local
    symbol[6] = 1;
    symbol[8..16].copy_from_slice(&address.to_le_bytes());
    symbol[16..24].copy_from_slice(&len.to_le_bytes());
    symbol
}

//! Packed relocations (`-z pack-relative-relocs`): the words that they change, and invalid ones.

use vmffi::machine::Image;

use super::elf::{DATA, DYN, Elf, READ, READ_WRITE};

const PLACE: u64 = 2 * DATA;

/// A file with a page of zeros at `DATA`, and these entries.
fn file(entries: &[u64], size: u64) -> Vec<u8> {
    let mut elf = Elf::program(DYN);
    let words: Vec<u8> = entries.iter().flat_map(|word| word.to_le_bytes()).collect();
    elf.segment(READ_WRITE, DATA, &[0; 4096]);
    elf.segment(READ, PLACE, &words);
    elf.dynamic(&[(36, PLACE), (35, words.len() as u64), (37, size)]);
    elf.finish()
}

#[test]
fn packed_relocations_are_read() {
    for entries in [
        &[][..],
        &[DATA],
        &[DATA, DATA + 8, DATA + 4088],
        &[DATA, u64::MAX],
        &[DATA, 0b101, 0b11, 1, u64::MAX],
        &[DATA, u64::MAX, DATA + 8 + 63 * 8],
    ] {
        Image::parse(&file(entries, 8)).unwrap_or_else(|error| panic!("{entries:x?}: {error}"));
    }
}

#[test]
fn invalid_packed_relocations() {
    for (entries, size, says) in [
        (&[DATA][..], 16, "its RELR relocation table is incomplete or outside of its segments"),
        (&[u64::MAX], 8, "begin with a bitmap"),
        (&[DATA + 8, DATA], 8, "RELR relocations are not sorted"),
        (&[DATA, DATA], 8, "RELR relocations are not sorted"),
        (&[DATA, u64::MAX, DATA + 8], 8, "RELR relocations are not sorted"),
        (&[DATA + 4092], 8, "which is not in the file"),
        (&[DATA + 4088, 0b11], 8, "which is not in the file"),
        (&[0x1000], 8, "which is not in the file"),
    ] {
        let error = Image::parse(&file(entries, size)).unwrap_err().to_string();
        assert!(error.contains(says), "{entries:x?}: {error}");
    }
}

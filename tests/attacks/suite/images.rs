//! Programs with segments at addresses that the host has used, or reserves.

use vmffi::machine::{Image, ImageError, MachineBuilder};

use super::{
    Case,
    connection::{DOORBELL, On, REGION, SUPERVISOR, file},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::other("a_segment_over_the_region", |on| {
            misplaced(on, &[REGION, REGION - 4096, REGION + (1 << 30)])
        }),
        Case::other("a_segment_over_the_stacks", |on| {
            misplaced(on, &[0x100_0000_0000, 0x100_0000_0000 - 4096, 0x180_0000_0000 - 4096])
        }),
        Case::other("a_segment_over_the_doorbell", |on| {
            misplaced(on, &[DOORBELL, DOORBELL - 4096, DOORBELL + 4088])
        }),
        Case::other("a_segment_over_the_hosts_own_pages", |on| {
            misplaced(on, &[SUPERVISOR, SUPERVISOR + 0x2000, 0x1f0_0000_0000, 0x7fff_ffff_e000])
        }),
        Case::other("a_segment_over_null", |on| misplaced(on, &[0, 1, 0xffff])),
        Case::other("a_segment_over_another_one", overlap),
        Case::other("segments_larger_than_the_memory_limit", huge),
        Case::other("a_segment_around_the_end_of_memory", around),
        Case::other("code_that_can_be_written", writable),
    ]
    .into_iter()
    .map(|case| case.only(On::is_new))
    .collect()
}

/// The offset in the file of the program header of the first segment with these flags: 4 is constants, 5 code, 6 data.
pub fn header(file: &[u8], flags: u32) -> usize {
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let (headers, count) = (word(32) as usize, usize::from(file[56]));
    let of = |nr: usize| headers + 56 * nr;
    let (kind, flags) = (1_u32, flags);
    let begins = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    (0..count).map(of).find(|at| file[*at..*at + 8] == begins).expect("a segment with these flags")
}

/// The flags of a segment that the tests move: that of constants, or of data, if the linker has put the constants beside
/// the code.
fn moved() -> u32 {
    let begins = [1_u32.to_le_bytes(), 4_u32.to_le_bytes()].concat();
    if file()[..4096].windows(8).any(|bytes| bytes == begins) { 4 } else { 6 }
}

/// Offsets of fields of a program header.
const FLAGS: usize = 4;
const ADDRESS: usize = 16;
const FILESZ: usize = 32;
const MEMSZ: usize = 40;

/// The guest's file with some words of a segment's header changed.
fn changed(flags: u32, changes: &[(usize, u64)]) -> Vec<u8> {
    let mut file = file().to_vec();
    let header = header(&file, flags);
    for (at, word) in changes {
        file[header + at..header + at + 8].copy_from_slice(&word.to_le_bytes());
    }
    file
}

#[track_caller]
fn refused(file: &[u8], says: &str) -> String {
    let error = Image::parse(file).map(drop).unwrap_err();
    assert!(matches!(error, ImageError::Place { .. }), "{error:?}");
    assert!(error.to_string().contains(says), "{error}");
    format!("`ImageError`: {error}")
}

/// The length in memory of the segment that the tests move: at least two pages, so that it reaches from a page into the next.
fn len() -> u64 {
    let file = file();
    let at = header(file, moved()) + MEMSZ;
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap()).max(2 * 4096)
}

/// A segment at that address, and one that reaches from an allowed address to it.
fn misplaced(_: On, places: &[u64]) -> String {
    let mut came = String::new();
    for place in places {
        came = refused(
            &changed(moved(), &[(ADDRESS, *place), (MEMSZ, len())]),
            "is outside of the address range for guests",
        );
    }
    came
}

fn overlap(_: On) -> String {
    let file = file();
    let code = header(file, 5);
    let address = u64::from_le_bytes(file[code + ADDRESS..][..8].try_into().unwrap());
    // The linker may have put the code at the lowest address that there is.
    const LOWEST: u64 = 0x1_0000;
    for place in [address, address - 1, address & !4095, address | 4095] {
        let says = if place < LOWEST {
            "is outside of the address range for guests"
        } else {
            "overlaps the pages of another segment"
        };
        refused(&changed(moved(), &[(ADDRESS, place)]), says);
    }
    let before = address.saturating_sub(0x10_0000).max(LOWEST);
    refused(
        &changed(moved(), &[(ADDRESS, before), (MEMSZ, 0x20_0000)]),
        "overlaps the pages of another segment",
    )
}

/// A segment of zeros as large as the address range below the region: no page exists before it is touched.
fn huge(on: On) -> String {
    let mut came = String::new();
    let file = file();
    let constants = header(file, moved());
    let len = u64::from_le_bytes(file[constants + FILESZ..][..8].try_into().unwrap());
    for size in [1 << 30, (1 << 36) - (1 << 32)] {
        assert!(size > len);
        // After all other segments.
        let file = changed(moved(), &[(ADDRESS, 1 << 31), (MEMSZ, size)]);
        let image = Image::parse(&file).unwrap();
        let error =
            MachineBuilder::new(&image).build(on.backend, ()).map(drop).unwrap_err().to_string();
        assert_eq!(
            error,
            "image, stacks and arenas exceed the machine's memory limit: raise `MachineBuilder::memory`"
        );
        came = error;
    }
    format!("`MachineError`: {came}")
}

fn around(_: On) -> String {
    let beyond = [(ADDRESS, u64::MAX - 4095), (MEMSZ, len())];
    for changes in [&beyond[..], &[(MEMSZ, u64::MAX)], &[(MEMSZ, u64::MAX - 4095)]] {
        refused(&changed(moved(), changes), "exceeds the address space");
    }
    refused(
        &changed(moved(), &[(ADDRESS, 1 << 35), (MEMSZ, 1 << 36)]),
        "is outside of the address range for guests",
    )
}

fn writable(_: On) -> String {
    let mut file = file().to_vec();
    let code = header(&file, 5);
    file[code + FLAGS] = 7;
    refused(&file, "is writable and executable")
}

//! Files in memory (memfd_create(2)).

use core::ops::Range;
use std::{
    ffi::CStr,
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    libc,
    sys::memfd::{MFdFlags, memfd_create},
    unistd::{Whence, lseek},
};

use super::{descriptors, signals};
use crate::abi::PAGE_SIZE;

/// A new file of `len` bytes, all of them zero. Its pages are allocated when they are written.
pub(super) fn new(name: &CStr, len: u64) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(descriptors::not_standard(memfd_create(name, flags)?)?);
    signals::change_file(len, || file.set_len(len))?;
    Ok(file)
}

/// Makes the contents of a file final, for this program and for all others. The caller has written it by system calls, and no
/// mapping of it is shared and writable.
pub(super) fn seal(file: &File) -> io::Result<()> {
    let all = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    // Without writable mappings, this forbids what `F_SEAL_WRITE` does, since Linux 5.1. That one also fails (EBUSY) while the
    // kernel uses a page for a purpose of its own.
    let future = SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE);
    match fcntl(file, FcntlArg::F_ADD_SEALS(all | future)) {
        Err(Errno::EINVAL) => fcntl(file, FcntlArg::F_ADD_SEALS(all | SealFlag::F_SEAL_WRITE))?,
        done => done?,
    };
    Ok(())
}

/// Calls `each` with each run of allocated pages in a range (lseek(2), `SEEK_DATA`).
pub(super) fn each_run(
    file: &File,
    range: Range<u64>,
    mut each: impl FnMut(Range<u64>) -> io::Result<()>,
) -> io::Result<()> {
    let file = file.as_fd();
    let mut at = range.start;
    while at < range.end {
        let start = match lseek(file, at as i64, Whence::SeekData) {
            Ok(start) => start as u64,
            // No data up to the end of the file.
            Err(Errno::ENXIO) => break,
            Err(error) => return Err(error.into()),
        };
        if start >= range.end {
            break;
        }
        let end = lseek(file, start as i64, Whence::SeekHole)? as u64;
        at = end.min(range.end);
        each(start.max(range.start)..at)?;
    }
    Ok(())
}

/// Copies the allocated pages from an offset of a file on to a range of another one.
pub(super) fn copy(from: &File, offset: u64, to: &File, range: Range<u64>) -> io::Result<()> {
    let mut bytes = [0; 16 * PAGE_SIZE as usize];
    each_run(from, offset..offset + (range.end - range.start), |run| {
        let mut at = run.start;
        while at < run.end {
            let len = bytes.len().min((run.end - at) as usize);
            from.read_exact_at(&mut bytes[..len], at)?;
            to.write_all_at(&bytes[..len], at - offset + range.start)?;
            at += len as u64;
        }
        Ok(())
    })
}

//! The gzip format (RFC 1952), read as `gzip -dc` reads it: members one behind the other, then perhaps zeros,
//! then perhaps garbage, which is ignored. All of it in memory of a fixed size.

use alloc::{boxed::Box, vec, vec::Vec};

use crc32fast::Hasher;
use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, TINFL_LZ_DICT_SIZE as WINDOW, decompress, inflate_flags as flags},
};
use vmffi::{CallError, Failure};

use super::{GzipError, Summary};

/// How much crosses at a time. With less, the calls are felt; with more, the processor's caches are too
/// small.
pub const CHUNK: usize = 256 << 10;

/// Where a file comes from, and where it goes.
pub trait Files {
    /// Adds what comes next of the file to an empty `chunk`; nothing is its end.
    fn read(&mut self, chunk: &mut Vec<u8>) -> Result<(), CallError>;
    /// Takes what has come out.
    fn write(&mut self, bytes: &[u8]) -> Result<(), CallError>;
}

type Result<T, E = Failure<GzipError>> = core::result::Result<T, E>;

/// Unpacks a file. Where it is bad, what was good of it is written first.
pub fn unpack(files: &mut impl Files) -> Result<Summary> {
    let mut input = Input { files, chunk: Vec::new(), at: 0 };
    let mut output =
        Output { bytes: vec![0; WINDOW + CHUNK], member: WINDOW, sent: WINDOW, len: WINDOW };
    let done = members(&mut input, &mut output);
    output.send(input.files)?;
    done
}

fn members(input: &mut Input<'_, impl Files>, output: &mut Output) -> Result<Summary> {
    let mut inflate = Box::<DecompressorOxide>::default();
    let mut found = Summary { members: 0, garbage: false };
    if [input.byte()?, input.byte()?] != MAGIC {
        return Err(GzipError::NotGzip.into());
    }
    loop {
        header(input)?;
        member(input, output, &mut inflate)?;
        found.members += 1;
        let next = match input.next()? {
            Some(first @ 1..) if [first, input.byte()?] == MAGIC => continue,
            Some(0) => input.behind_zeros()?,
            next => next,
        };
        found.garbage = next.is_some();
        return Ok(found);
    }
}

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// Reads what follows the magic number, up to the data.
fn header(input: &mut Input<'_, impl Files>) -> Result<()> {
    let mut crc = Hasher::new();
    crc.update(&MAGIC);
    let mut byte = || {
        let byte = input.byte()?;
        crc.update(&[byte]);
        Ok::<u8, Failure<GzipError>>(byte)
    };
    // The time, the compressor's effort and its system tell a reader nothing.
    let [method, flags, ..] =
        [byte()?, byte()?, byte()?, byte()?, byte()?, byte()?, byte()?, byte()?];
    if method != DEFLATE || flags & RESERVED != 0 {
        return Err(GzipError::Unsupported.into());
    }
    if flags & EXTRA != 0 {
        for _ in 0..u16::from_le_bytes([byte()?, byte()?]) {
            byte()?;
        }
    }
    for text in [NAME, COMMENT] {
        while flags & text != 0 && byte()? != 0 {}
    }
    if flags & HEADER_CRC != 0 {
        let right = crc.finalize() as u16;
        if u16::from_le_bytes(input.bytes()?) != right {
            return Err(GzipError::BadHeader.into());
        }
    }
    Ok(())
}

/// Inflates a member's data, and compares what has come out with what the trailer says.
fn member(
    input: &mut Input<'_, impl Files>,
    output: &mut Output,
    inflate: &mut DecompressorOxide,
) -> Result<()> {
    inflate.init();
    output.member = output.len;
    let mut crc = Hasher::new();
    let mut len = 0_u32;
    loop {
        let before = output.len;
        // A member cannot refer to what lies before it.
        let (status, read, written) = decompress(
            inflate,
            input.rest(),
            &mut output.bytes[output.member..],
            before - output.member,
            flags::TINFL_FLAG_HAS_MORE_INPUT
                | flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
                | flags::TINFL_FLAG_IGNORE_ADLER32,
        );
        input.at += read;
        output.len += written;
        crc.update(&output.bytes[before..output.len]);
        len = len.wrapping_add(written as u32);
        match status {
            TINFLStatus::Done => break,
            TINFLStatus::NeedsMoreInput if input.more()? => {}
            TINFLStatus::NeedsMoreInput => return Err(GzipError::Truncated.into()),
            TINFLStatus::HasMoreOutput => output.send(input.files)?,
            _ => return Err(GzipError::BadData.into()),
        }
    }
    if u32::from_le_bytes(input.bytes()?) != crc.finalize() {
        return Err(GzipError::BadChecksum.into());
    }
    if u32::from_le_bytes(input.bytes()?) != len {
        return Err(GzipError::BadLength.into());
    }
    Ok(())
}

struct Input<'f, F> {
    files: &'f mut F,
    chunk: Vec<u8>,
    /// How far it has been read.
    at: usize,
}

impl<F: Files> Input<'_, F> {
    fn rest(&self) -> &[u8] {
        &self.chunk[self.at..]
    }

    /// Gets the next chunk, if there is one; the last was read to its end.
    fn more(&mut self) -> Result<bool> {
        self.chunk.clear();
        self.at = 0;
        self.files.read(&mut self.chunk)?;
        Ok(!self.chunk.is_empty())
    }

    fn next(&mut self) -> Result<Option<u8>> {
        if self.rest().is_empty() && !self.more()? {
            return Ok(None);
        }
        self.at += 1;
        Ok(Some(self.chunk[self.at - 1]))
    }

    fn behind_zeros(&mut self) -> Result<Option<u8>> {
        loop {
            match self.next()? {
                Some(0) => {}
                next => return Ok(next),
            }
        }
    }

    fn byte(&mut self) -> Result<u8> {
        self.next()?.ok_or(GzipError::Truncated.into())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }
}

struct Output {
    bytes: Vec<u8>,
    /// Where the member begins, or the window where that is later.
    member: usize,
    /// Up to here it was sent, up to `len` there is something.
    sent: usize,
    len: usize,
}

impl Output {
    /// Sends what was not sent yet, and makes room behind the window.
    fn send(&mut self, files: &mut impl Files) -> Result<()> {
        if self.sent < self.len {
            files.write(&self.bytes[self.sent..self.len])?;
        }
        // What comes may refer to it.
        let past = self.len - WINDOW;
        self.bytes.copy_within(past..self.len, 0);
        self.member = self.member.saturating_sub(past);
        self.len = WINDOW;
        self.sent = self.len;
        Ok(())
    }
}

//! Reads the gzip format (RFC 1952) as `gzip -dc` does: one or more members, then optional zeros, then optional
//! garbage, which is ignored. It uses memory of a fixed size.

use alloc::{boxed::Box, vec, vec::Vec};

use crc32fast::Hasher;
use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, TINFL_LZ_DICT_SIZE as WINDOW, decompress, inflate_flags as flags},
};
use vmffi::{CallError, Failure};

use super::{GzipError, Summary};

/// How much crosses at a time. With less, the cost of the calls shows; with more, the data does not fit into the
/// processor's caches.
pub const CHUNK: usize = 256 << 10;

/// The source of a compressed file, and the destination of its content.
pub trait Files {
    /// Appends the next bytes of the file to an empty `chunk`; it stays empty at the end of the file.
    fn read(&mut self, chunk: &mut Vec<u8>) -> Result<(), CallError>;
    /// Takes the next bytes of the content.
    fn write(&mut self, bytes: &[u8]) -> Result<(), CallError>;
}

type Result<T, E = Failure<GzipError>> = core::result::Result<T, E>;

/// Unpacks a file. If it is corrupt, the content before that point is written first.
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

/// Reads a member's header after the magic number.
fn header(input: &mut Input<'_, impl Files>) -> Result<()> {
    let mut crc = Hasher::new();
    crc.update(&MAGIC);
    let mut byte = || {
        let byte = input.byte()?;
        crc.update(&[byte]);
        Ok::<u8, Failure<GzipError>>(byte)
    };
    // A reader needs neither the time nor the compressor's effort nor its system.
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

/// Inflates a member's data, and compares the content with the trailer.
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
        // A member cannot refer to content before it.
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
    /// The number of bytes that have been read.
    at: usize,
}

impl<F: Files> Input<'_, F> {
    fn rest(&self) -> &[u8] {
        &self.chunk[self.at..]
    }

    /// Gets the next chunk, if there is one; the last one was read to its end.
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
    /// Where the member's content begins, or the window if that is later.
    member: usize,
    /// Bytes before this were sent; those up to `len` were not yet.
    sent: usize,
    len: usize,
}

impl Output {
    /// Sends what has not been sent, and makes room after the window.
    fn send(&mut self, files: &mut impl Files) -> Result<()> {
        if self.sent < self.len {
            files.write(&self.bytes[self.sent..self.len])?;
        }
        // The content that follows may refer to the window.
        let past = self.len - WINDOW;
        self.bytes.copy_within(past..self.len, 0);
        self.member = self.member.saturating_sub(past);
        self.len = WINDOW;
        self.sent = self.len;
        Ok(())
    }
}

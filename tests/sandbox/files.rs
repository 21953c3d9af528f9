//! Writes gzip files, for the tests of the sandbox.

/// One member of a file (RFC 1952).
pub struct Member<'m> {
    pub extra: Option<&'m [u8]>,
    pub name: Option<&'m str>,
    pub comment: Option<&'m str>,
    pub header_crc: bool,
    /// The compression level: 0 stores, 1 to 9 take increasingly long.
    pub level: u8,
    pub data: &'m [u8],
}

impl<'m> Member<'m> {
    pub fn of(data: &'m [u8]) -> Self {
        Self { extra: None, name: None, comment: None, header_crc: false, level: 6, data }
    }

    pub fn file(&self) -> Vec<u8> {
        let flags =
            [self.header_crc, self.extra.is_some(), self.name.is_some(), self.comment.is_some()];
        let flags = (1..).zip(flags).fold(0, |all, (bit, flag)| all | u8::from(flag) << bit);
        let mut file = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255];
        if let Some(extra) = self.extra {
            file.extend((extra.len() as u16).to_le_bytes());
            file.extend(extra);
        }
        for text in [self.name, self.comment].into_iter().flatten() {
            file.extend(text.as_bytes());
            file.push(0);
        }
        if self.header_crc {
            file.extend((crc32fast::hash(&file) as u16).to_le_bytes());
        }
        file.extend(miniz_oxide::deflate::compress_to_vec(self.data, self.level));
        file.extend(crc32fast::hash(self.data).to_le_bytes());
        file.extend((self.data.len() as u32).to_le_bytes());
        file
    }
}

/// A member whose data begins with a reference to 4 bytes before it: a block with the fixed codes, of
/// length 3 (0000001) and distance 4 (00011), then its end (0000000).
pub const BEFORE_ITSELF: [u8; 21] =
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 0x03, 0x62, 0x00, 0, 0, 0, 0, 0, 3, 0, 0];

/// Random bytes.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Random words, up to this length in bytes.
pub fn text(len: usize) -> Vec<u8> {
    let words: Vec<&str> = include_str!("../../docs/abi.md").split_inclusive(' ').collect();
    let mut text = Vec::with_capacity(len + 100);
    for number in noise(2 * len + 2).chunks_exact(2) {
        if text.len() >= len {
            break;
        }
        let number = usize::from(u16::from_le_bytes([number[0], number[1]]));
        text.extend(words[number % words.len()].as_bytes());
    }
    text.truncate(len);
    text
}

//! The source of all choices: the fuzzer's bytes.

/// Draws numbers from an input, in the order in which the run needs them. After the end of the input all are 0,
/// so 0 is always the plain choice.
#[derive(Debug, Default)]
pub struct Feed {
    data: Vec<u8>,
    at: usize,
}

impl Feed {
    pub fn new(data: &[u8]) -> Self {
        Self { data: data.to_vec(), at: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.data.len()
    }

    pub fn byte(&mut self) -> u8 {
        let byte = self.data.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    /// A number of this many bytes.
    pub fn number(&mut self, bytes: usize) -> u64 {
        (0..bytes).fold(0, |number, i| number | u64::from(self.byte()) << (8 * i))
    }

    /// A number below `end`, from as few bytes as hold it.
    pub fn below(&mut self, end: usize) -> usize {
        let bytes = if end <= 256 { 1 } else { 2 };
        self.number(bytes) as usize % end
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// True once in `n` times.
    pub fn rarely(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    /// Mostly a small number, else one at the limits of some type, else any.
    pub fn scalar(&mut self) -> u64 {
        let byte = self.byte();
        match byte {
            0..0x90 => u64::from(byte),
            0x90..0xc0 => ODD[usize::from(byte - 0x90) % ODD.len()],
            _ => self.number(1 << (byte % 4)),
        }
    }
}

/// Limits of types, surrogates, sign extensions and numbers close to them.
const ODD: [u64; 24] = [
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0xd7ff,
    0xd800,
    0xdfff,
    0x10_ffff,
    0x11_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    u64::MAX << 7,
    0xffff_ff80,
    u64::MAX << 15,
    u64::MAX << 31,
    u64::MAX,
    1 << 63,
    1 << 48,
    0x7ff8_0000_0000_0000,
    0x7f80_0001,
];

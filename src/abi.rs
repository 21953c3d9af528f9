//! What both sides must agree on: registers, words, numbers. `docs/abi.md` is the specification;
//! every item here names its section.

use core::fmt;

/// What a call or a return carries beside its signature or status (ABI, "Transport").
///
/// `primary` is a scalar or a [pointer word](mod@pointer), `secondary` the byte count of a buffer and 0
/// for everything else. Two registers: R8 and R9 on x86_64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Transport {
    /// A scalar's bits, or a pointer word.
    pub primary: u64,
    /// The number of bytes in a buffer; 0 where there is none.
    pub secondary: u64,
}

impl Transport {
    /// `{0, 0}`: no parameter, `()`, `None`, an empty buffer.
    pub const EMPTY: Self = Self { primary: 0, secondary: 0 };

    /// A transport for a word without a byte count.
    #[must_use]
    #[inline]
    pub const fn word(primary: u64) -> Self {
        Self { primary, secondary: 0 }
    }
}

/// How a call ended: a status word (ABI, "Statuses") and, for 0 and 1, what it returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Answer {
    /// 0: success; 1: an application error; others: see [`Why`](crate::Why).
    pub status: u64,
    /// The returned value or the application error; [`Transport::EMPTY`] for any other status.
    pub transport: Transport,
}

impl Answer {
    /// An answer that carries nothing but its status.
    #[must_use]
    pub const fn status(status: u64) -> Self {
        Self { status, transport: Transport::EMPTY }
    }
}

/// The two sides of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// Runs in the virtual machine, and traps.
    Guest = 0,
    /// Owns the virtual machine, and answers.
    Host = 1,
}

impl Side {
    /// The other one.
    #[must_use]
    #[inline]
    pub const fn other(self) -> Self {
        match self {
            Self::Guest => Self::Host,
            Self::Host => Self::Guest,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guest => "guest",
            Self::Host => "host",
        })
    }
}

/// The version of the ABI that this crate speaks (ABI, "Region header"). Two sides connect when
/// they have the same number.
pub const ABI_VERSION: u32 = 1;

/// Kinds of trap: what the guest puts into RAX (ABI, "Traps").
pub mod trap {
    /// The guest calls: signature and transport follow.
    pub const CALL: u64 = 0x564d_4646_0000_0001;
    /// An upcall is done: status and transport follow.
    pub const RETURN: u64 = 0x564d_4646_0000_0002;
    /// The guest has started up and waits for upcalls.
    pub const READY: u64 = 0x564d_4646_0000_0003;
    /// The guest ends; the status word says why, 0 for a good end, and the transport may hold a text.
    pub const EXIT: u64 = 0x564d_4646_0000_0004;
}

/// Statuses of `EXIT` that this crate's guests use (ABI, "Traps"); all but 0 mean what a guest wants them
/// to mean.
pub mod exit {
    /// The guest has panicked; the text says where and why.
    pub const PANICKED: u64 = 101;
    /// The guest could not connect to its host, or not be parked; the text says why.
    pub const UNCONNECTED: u64 = 102;
}

/// Kinds of answer: what the host puts into RAX (ABI, "Traps"). No trap kind has these values, so
/// that a trap which nobody claimed, and which leaves RAX as it was, is seen as unsupported.
pub mod answer {
    /// The trap is completed: status and transport follow.
    pub const ANSWER: u64 = 0x564d_4646_0000_0101;
    /// The host calls the guest first: signature and transport follow.
    pub const UPCALL: u64 = 0x564d_4646_0000_0102;
}

/// The four words that cross at a trap, in the order of the ABI's register table: on x86_64 RAX,
/// RBX, R8 and R9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// A kind of [`trap`] on the way out, a kind of [`answer`] on the way back.
    pub kind: u64,
    /// The signature of a call or upcall; the status of a return, answer or exit.
    pub word: u64,
    /// Parameters or result.
    pub transport: Transport,
}

/// Signatures that mean something to the ABI itself (ABI, "Signatures"). A declared function never
/// has one of them: that would be a compile error.
pub mod signature {
    /// The first signature that a declared function may have.
    pub const FIRST_FREE: u64 = 16;
    /// Asks whether the peer serves the signature in `primary`; returns a `bool`.
    pub const HAS: u64 = 1;
    /// Hands the guest's contract to its host, as a buffer; the host answers with status 0, or with that
    /// of [`Why::VersionMismatch`](crate::Why::VersionMismatch).
    pub const MEET: u64 = 2;
    /// Hands one line of the guest's log to its host, as a buffer (ABI, "Log").
    pub const LOG: u64 = 3;
}

/// Pointer words (ABI, "Pointers"): a byte offset from the start of the region in bits 0 to 47, the
/// number of the loan in bits 56 to 63, zeros between.
pub mod pointer {
    /// The bits that hold the offset.
    pub const OFFSET: u64 = (1 << 48) - 1;
    /// Where the number of the loan begins.
    pub const LOAN_SHIFT: u32 = 56;
    /// A word that is not null and points at nothing: the pointer of a buffer that is there and empty.
    pub const EMPTY: u64 = 1;

    /// Joins an offset and the number of its loan.
    #[must_use]
    #[inline]
    pub const fn join(offset: u64, loan: u8) -> u64 {
        offset | (loan as u64) << LOAN_SHIFT
    }

    /// The offset of a pointer word, in bytes from the start of the region, with the bits that must
    /// be zero left in, so that a range check refuses them.
    #[must_use]
    #[inline]
    pub const fn offset(word: u64) -> u64 {
        word & ((1 << LOAN_SHIFT) - 1)
    }

    /// The number of the loan, 0 where the block is not lent and must not be given back.
    #[must_use]
    #[inline]
    pub const fn loan(word: u64) -> u8 {
        (word >> LOAN_SHIFT) as u8
    }
}

/// The hash that signatures are made of (ABI, "Signatures"): FNV-1a over bytes, with a finishing
/// step that spreads every bit. All of it runs at compile time.
#[derive(Clone, Copy, Debug)]
pub struct Hasher(u64);

impl Hasher {
    /// Starts with the name of what is hashed: `"fn"`, `"struct"`, `"enum"`, ….
    #[must_use]
    pub const fn new(kind: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).str(kind)
    }

    /// FNV-1a. Written without calls: each would be interpreted, byte for byte, at compile time.
    const fn bytes(self, bytes: &[u8]) -> Self {
        let mut hash = self.0;
        let mut i = 0;
        while i < bytes.len() {
            hash = ((hash ^ bytes[i] as u64) as u128 * 0x0000_0100_0000_01b3) as u64;
            i += 1;
        }
        Self(hash)
    }

    /// Adds the length of a text (as [`u64`](Self::u64)) and its bytes.
    #[must_use]
    pub const fn str(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// Adds a name from a declaration as a text, without the `r#` of a raw identifier: which names
    /// need one depends on the edition.
    #[must_use]
    pub const fn name(self, name: &str) -> Self {
        self.str(bare(name))
    }

    /// Adds a number as eight bytes, the lowest first.
    #[must_use]
    pub const fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// The hash.
    #[must_use]
    pub const fn finish(self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A name without the mark of a raw identifier.
pub(crate) const fn bare(name: &str) -> &str {
    match name.as_bytes() {
        [b'r', b'#', rest @ ..] => match core::str::from_utf8(rest) {
            Ok(rest) => rest,
            Err(_) => name, // not after a whole character
        },
        _ => name,
    }
}

/// One function of an interface, as its declaration says: `ParamsFilesOpen::FUNCTION` for `open` of
/// `interface Files`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Function {
    /// The number that names it on the wire.
    pub signature: u64,
    /// The interface that declares it.
    pub interface: &'static str,
    /// Its name in that interface.
    pub name: &'static str,
}

impl Function {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(signature: u64, interface: &'static str, name: &'static str) -> Self {
        Self { signature, interface: bare(interface), name: bare(name) }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.interface, self.name)
    }
}

/// How a guest is to trap, as its boot block says (ABI, "Boot block").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// By `out dx, eax` to this port.
    Out(u16),
    /// By a store to this address.
    Doorbell(u64),
}

/// What a guest finds at its entry: where the region is, how to trap, who it is (ABI, "Boot block").
///
/// RSP and RDI both point to its words, at the top of the vCPU's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The address of the region in the guest's address space.
    pub region: u64,
    /// How many bytes are mapped there.
    pub region_len: u64,
    /// How the guest traps.
    pub way: Way,
    /// The number of this vCPU, from 0.
    pub cpu: u32,
    /// How many vCPUs there are.
    pub cpus: u32,
    /// What the host wants to be logged: 0 nothing, 1 errors, to 5 everything.
    pub log: u32,
}

impl Boot {
    /// The size of a boot block in bytes. It begins at a multiple of 64.
    pub const LEN: usize = 64;
    /// `"VMFFIBB\x01"`, the first eight bytes of a boot block.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"VMFFIBB\x01");

    /// The words of the block, in the order in which they lie in memory.
    #[must_use]
    pub const fn to_words(self) -> [u64; Self::LEN / 8] {
        let (way, operand) = match self.way {
            Way::Out(port) => (1, port as u64),
            Way::Doorbell(address) => (2, address),
        };
        let cpus = self.cpu as u64 | (self.cpus as u64) << 32;
        [Self::MAGIC, self.region, self.region_len, way, operand, cpus, self.log as u64, 0]
    }

    /// Reads the words of a block: `None` if they are none of this version's, or name a way to trap that
    /// this one does not know.
    #[must_use]
    pub const fn from_words(words: [u64; Self::LEN / 8]) -> Option<Self> {
        let [magic, region, region_len, way, operand, cpus, log, _] = words;
        let way = match way {
            1 if operand <= 0xfffc => Way::Out(operand as u16),
            2 if operand % 8 == 0 => Way::Doorbell(operand),
            _ => return None,
        };
        if magic != Self::MAGIC {
            return None;
        }
        let (cpu, cpus) = (cpus as u32, (cpus >> 32) as u32);
        Some(Self { region, region_len, way, cpu, cpus, log: log as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ABI, Boot block B-2: the words, and what is refused.
    #[test]
    fn boot_blocks() {
        let boot = Boot {
            region: 0x10_0000_0000,
            region_len: 0x5000,
            way: Way::Out(0x5658),
            cpu: 2,
            cpus: 3,
            log: 4,
        };
        let words = boot.to_words();
        assert_eq!(words[0].to_le_bytes(), *b"VMFFIBB\x01");
        assert_eq!(words[1..], [0x10_0000_0000, 0x5000, 1, 0x5658, 3 << 32 | 2, 4, 0]);
        assert_eq!(Boot::from_words(words), Some(boot));
        let bell = Boot { way: Way::Doorbell(0x40), ..boot };
        assert_eq!((bell.to_words()[3], bell.to_words()[4]), (2, 0x40));
        assert_eq!(Boot::from_words(bell.to_words()), Some(bell));
        // The last word means nothing.
        let with = |word: usize, value| {
            let mut words = words;
            words[word] = value;
            Boot::from_words(words)
        };
        assert_eq!(with(7, 1), Some(boot));
        for (word, bad) in [(0, 0), (0, words[0] ^ 1 << 56), (3, 0), (3, 3), (4, 0xfffd)] {
            assert_eq!(with(word, bad), None, "word {word} is {bad:#x}");
        }
        let mut odd = bell.to_words();
        odd[4] += 4;
        assert_eq!(Boot::from_words(odd), None, "a doorbell is a multiple of 8");
    }
}

//! The constants and words of the ABI: registers, statuses, pointer words, the boot block. The specification is
//! `docs/abi.md`; every item here names its section there.

use core::fmt;

/// The two words that carry the parameters of a call or its result (ABI, "Transport").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Transport {
    /// The bits of a scalar, or a [pointer word](mod@pointer).
    pub primary: u64,
    /// The length of a buffer in bytes; 0 for everything else.
    pub secondary: u64,
}

impl Transport {
    /// `{0, 0}`: a call without parameters, `()`, `None`, or an empty buffer.
    pub const EMPTY: Self = Self { primary: 0, secondary: 0 };

    /// A transport with `primary` and a byte count of 0.
    #[must_use]
    #[inline]
    pub const fn word(primary: u64) -> Self {
        Self { primary, secondary: 0 }
    }
}

/// The outcome of a call: a status word (ABI, "Statuses") and, for the statuses 0 and 1, the value that it returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Answer {
    /// 0 for success, 1 for an application error, else the number of an [`ErrorKind`](crate::ErrorKind).
    pub status: u64,
    /// The returned value or the application error; [`Transport::EMPTY`] for any other status.
    pub transport: Transport,
}

impl Answer {
    /// An answer with this status and an empty transport.
    #[must_use]
    pub const fn status(status: u64) -> Self {
        Self { status, transport: Transport::EMPTY }
    }
}

/// The two sides of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// The side that runs in the virtual machine and traps.
    Guest = 0,
    /// The side that owns the virtual machine and answers.
    Host = 1,
}

impl Side {
    /// The peer of this side.
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

/// The version of the ABI that this crate implements (ABI, "Region header"). Two sides connect only if their versions
/// are equal.
pub const ABI_VERSION: u32 = 1;

/// The page size in bytes: a region and each of its parts begin and end at a multiple of it (ABI, "Region header").
pub const PAGE_SIZE: u64 = 4096;

/// The maximum depth of nested calls, counted over both sides: a hypercall has depth 1, an upcall that its handler
/// makes depth 2, and so on (ABI, "Nesting").
pub const MAX_DEPTH: u32 = 16;

/// Maximum length in bytes of a text for diagnostics: the text of an `EXIT` and a line of the log (ABI, "Traps" and
/// "Log"). Guests of this crate send no more, and hosts copy no more by default.
pub const MAX_TEXT: u32 = 1024;

/// Kinds of trap (ABI, "Traps").
pub mod trap {
    /// The guest makes a call; the other words are the signature and the parameters.
    pub const CALL: u64 = 0x564d_4646_0000_0001;
    /// The guest has finished an upcall; the other words are the status and the result.
    pub const RETURN: u64 = 0x564d_4646_0000_0002;
    /// The guest has started and waits for upcalls.
    pub const READY: u64 = 0x564d_4646_0000_0003;
    /// The guest exits; the word is its exit status, 0 for success, and the transport may hold a text for diagnostics.
    pub const EXIT: u64 = 0x564d_4646_0000_0004;
}

/// The function of SMCCC in W0 for a kind of trap, less the kind's low byte (ABI, Traps TR-22): a fast 64-bit call to the
/// vendor-specific hypervisor service, function 0x5600.
pub const SMCCC_FUNCTION: u64 = 0xc600_5600;

/// The extension of SBI in a7, in the range of experimental ones (ABI, Traps TR-23).
pub const SBI_EXTENSION: u64 = 0x0856_4d46;

/// Exit statuses of guests of this crate (ABI, "Traps"). 0 is success; a guest defines the meaning of all others.
pub mod exit {
    /// The guest has panicked; the text says where and why.
    pub const PANICKED: u64 = 101;
    /// The guest could not connect to its host, or could not wait for upcalls; the text says why.
    pub const UNCONNECTED: u64 = 102;
}

/// Kinds of answer (ABI, "Traps"). They differ from all kinds of trap, so that the guest detects a trap that no host
/// handled: its kind is then unchanged.
pub mod answer {
    /// The host has finished the call; the other words are the status and the result.
    pub const ANSWER: u64 = 0x564d_4646_0000_0101;
    /// The host makes an upcall before it answers; the other words are the signature and the parameters.
    pub const UPCALL: u64 = 0x564d_4646_0000_0102;
}

/// The four words that cross at a trap (ABI, "Traps"), in the order of a frame (ABI, Traps TR-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// A kind of [`trap`] from the guest, a kind of [`answer`] from the host.
    pub kind: u64,
    /// The signature of a call or upcall; the status of a return, answer or exit.
    pub word: u64,
    /// The parameters or the result.
    pub transport: Transport,
}

/// Signatures that the ABI reserves (ABI, "Signatures"). If a declared function hashes to one of them, it does not
/// compile.
pub mod signature {
    /// The least signature that a declared function may have.
    pub const FIRST_FREE: u64 = 16;
    /// Asks whether the peer serves the signature in `primary`. Returns a `bool`.
    pub const HAS: u64 = 1;
    /// Sends the guest's contract to its host, as a buffer. The host answers with status 0, or with that of
    /// [`ErrorKind::VersionMismatch`](crate::ErrorKind::VersionMismatch).
    pub const HANDSHAKE: u64 = 2;
    /// Sends one line of the guest's log to its host, as a buffer (ABI, "Log").
    pub const LOG: u64 = 3;
    /// Asks for the callee's contract. Returns a buffer (ABI, CT-11).
    pub const CONTRACT: u64 = 4;
    /// Makes the calls of a batch, a buffer. Returns their answers, as a buffer (ABI, "Batches").
    pub const BATCH: u64 = 5;
}

/// Batches (ABI, "Batches"): buffers of entries, which the callee answers with a buffer of as many.
pub mod batch {
    use super::Transport;

    /// In place of a signature: the entry takes the result of an earlier call as a parameter of the next one.
    pub const TAKE: u64 = 0;
    /// The maximum number of results that one call takes.
    pub const MAX_TAKEN: usize = 16;

    /// One call of a batch, or its answer: the words that would be in the registers if it were made alone.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Entry {
        /// The signature of a call, or [`TAKE`]; the status of an answer.
        pub word: u64,
        /// The parameters or the result. Of a `TAKE`, `primary` is the index of the entry whose result it takes, and
        /// `secondary` says where it is put: 0 means into `primary` of the next entry, anything else into the parameter
        /// struct, at the offset in bits 0 to 31, with the size of 1, 2, 4 or 8 bytes in the bits above.
        pub transport: Transport,
    }

    impl Entry {
        /// The size of an entry in bytes.
        pub const LEN: usize = 24;
        /// The alignment of a batch in bytes.
        pub const ALIGN: usize = 8;

        /// The bytes of the entry.
        #[must_use]
        pub fn to_bytes(self) -> [u8; Self::LEN] {
            let Transport { primary, secondary } = self.transport;
            bytemuck::cast([self.word, primary, secondary])
        }

        /// The entry with these bytes.
        #[must_use]
        pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
            let [word, primary, secondary] = bytemuck::cast(bytes);
            Self { word, transport: Transport { primary, secondary } }
        }
    }
}

/// Pointer words (ABI, "Pointers"): a byte offset from the start of the region in bits 0 to 47, the
/// number of the loan in bits 56 to 63, zeros between.
pub mod pointer {
    /// The mask of the offset's bits.
    pub const OFFSET: u64 = (1 << 48) - 1;
    /// The position of the loan number's lowest bit.
    pub const LOAN_SHIFT: u32 = 56;
    /// The pointer word of an optional buffer that is present and empty (ABI, P-3).
    pub const EMPTY: u64 = 1;

    /// The pointer word for an offset in bytes, below 2^48, and the number of its loan.
    #[must_use]
    #[inline]
    pub const fn join(offset: u64, loan: u8) -> u64 {
        offset | (loan as u64) << LOAN_SHIFT
    }

    /// The offset of a pointer word in bytes. Bits 48 to 55, which must be 0, are included, so that a range check
    /// refuses a word in which they are set.
    #[must_use]
    #[inline]
    pub const fn offset(word: u64) -> u64 {
        word & ((1 << LOAN_SHIFT) - 1)
    }

    /// The number of the loan; 0 if the block is not lent, in which case the receiver does not release it.
    #[must_use]
    #[inline]
    pub const fn loan(word: u64) -> u8 {
        (word >> LOAN_SHIFT) as u8
    }
}

/// The hash from which signatures are computed (ABI, "Signatures"): FNV-1a over bytes, then a finalizer that mixes all
/// bits. It runs at compile time.
#[derive(Clone, Copy, Debug)]
pub struct Hasher(u64);

impl Hasher {
    /// Begins a hash with the kind of item that is hashed: `"fn"`, `"struct"`, `"enum"`, ….
    #[must_use]
    pub const fn new(kind: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).str(kind)
    }

    /// FNV-1a, without calls in the loop, since const evaluation would interpret a call for each byte.
    #[inline(never)]
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
    #[inline(never)]
    pub const fn str(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// Adds a name from a declaration as a text, without the `r#` of a raw identifier, since the edition decides which
    /// names need it.
    #[must_use]
    pub const fn name(self, name: &str) -> Self {
        self.str(bare(name))
    }

    /// Adds a number as eight little-endian bytes.
    #[must_use]
    #[inline(never)]
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

/// A name without the `r#` of a raw identifier.
pub(crate) const fn bare(name: &str) -> &str {
    match name.as_bytes() {
        [b'r', b'#', rest @ ..] => match core::str::from_utf8(rest) {
            Ok(rest) => rest,
            Err(_) => name, // unreachable: `r#` ends at a character boundary
        },
        _ => name,
    }
}

/// A declared function of an interface: `ParamsFilesOpen::FUNCTION` for `open` of `interface Files`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Function {
    /// Its signature (ABI, "Signatures").
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

/// The trap method that a host assigns to its guest (ABI, "Boot block").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrapMethod {
    /// `out dx, eax` to this port, at most 0xfffc, on x86_64.
    Out(u16),
    /// An eight-byte store to this address, a multiple of 8.
    Doorbell(u64),
    /// A call of the gate at this address, which is not 0.
    Gate(u64),
}

/// The boot block, which tells a vCPU of the guest where its region is, how to trap, and its own number (ABI, "Boot
/// block").
///
/// At the guest's entry the stack pointer and the first argument's register point to its words, at the top of the vCPU's
/// stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The address of the region in the guest's address space.
    pub region: u64,
    /// The number of bytes that are mapped there.
    pub region_len: u64,
    /// The trap method.
    pub way: TrapMethod,
    /// The number of this vCPU, counted from 0.
    pub cpu: u32,
    /// The number of vCPUs.
    pub cpus: u32,
    /// The log level that the host asks for, from 0 (off) and 1 (errors) to 5 (trace).
    pub log: u32,
}

impl Boot {
    /// The size of a boot block in bytes. A boot block is aligned to 64 bytes.
    pub const LEN: usize = 64;
    /// `"VMFFIBB\x01"`, the first eight bytes of a boot block.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"VMFFIBB\x01");

    /// The words of the block, in memory order.
    #[must_use]
    pub const fn to_words(self) -> [u64; Self::LEN / 8] {
        let (way, operand) = match self.way {
            TrapMethod::Out(port) => (1, port as u64),
            TrapMethod::Doorbell(address) => (2, address),
            TrapMethod::Gate(address) => (3, address),
        };
        let cpus = self.cpu as u64 | (self.cpus as u64) << 32;
        [Self::MAGIC, self.region, self.region_len, way, operand, cpus, self.log as u64, 0]
    }

    /// Reads the words of a block. Returns `None` if the magic is not [`MAGIC`](Self::MAGIC), or the trap method is
    /// unknown or has an invalid operand.
    #[must_use]
    pub const fn from_words(words: [u64; Self::LEN / 8]) -> Option<Self> {
        let [magic, region, region_len, way, operand, cpus, log, _] = words;
        let way = match way {
            1 if operand <= 0xfffc => TrapMethod::Out(operand as u16),
            2 if operand % 8 == 0 => TrapMethod::Doorbell(operand),
            3 if operand != 0 => TrapMethod::Gate(operand),
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
            way: TrapMethod::Out(0x5658),
            cpu: 2,
            cpus: 3,
            log: 4,
        };
        let words = boot.to_words();
        assert_eq!(words[0].to_le_bytes(), *b"VMFFIBB\x01");
        assert_eq!(words[1..], [0x10_0000_0000, 0x5000, 1, 0x5658, 3 << 32 | 2, 4, 0]);
        assert_eq!(Boot::from_words(words), Some(boot));
        let doorbell = Boot { way: TrapMethod::Doorbell(0x40), ..boot };
        assert_eq!((doorbell.to_words()[3], doorbell.to_words()[4]), (2, 0x40));
        assert_eq!(Boot::from_words(doorbell.to_words()), Some(doorbell));
        let gate = Boot { way: TrapMethod::Gate(0x1f0_0000_0110), ..boot };
        assert_eq!((gate.to_words()[3], gate.to_words()[4]), (3, 0x1f0_0000_0110));
        assert_eq!(Boot::from_words(gate.to_words()), Some(gate));
        // The last word is reserved and ignored.
        let with = |word: usize, value| {
            let mut words = words;
            words[word] = value;
            Boot::from_words(words)
        };
        assert_eq!(with(7, 1), Some(boot));
        for (word, bad) in [(0, 0), (0, words[0] ^ 1 << 56), (3, 0), (3, 4), (4, 0xfffd)] {
            assert_eq!(with(word, bad), None, "word {word} is {bad:#x}");
        }
        let mut odd = doorbell.to_words();
        odd[4] += 4;
        assert_eq!(Boot::from_words(odd), None, "a doorbell is a multiple of 8");
        let mut nowhere = gate.to_words();
        nowhere[4] = 0;
        assert_eq!(Boot::from_words(nowhere), None, "a gate is not at 0");
    }
}

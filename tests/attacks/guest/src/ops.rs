//! The operations of the hostile guest: a list, as bytes. Any bytes are such a list, so a fuzzer
//! may generate them. The guest reads with this file what its host has written with it.

/// Reads values from a list. After its end all are 0, and operation 0 ends the list.
#[derive(Clone, Copy)]
pub struct Feed<'l>(&'l [u8]);

impl<'l> Feed<'l> {
    pub fn new(list: &'l [u8]) -> Self {
        Self(list)
    }

    fn byte(&mut self) -> u8 {
        let [first, rest @ ..] = self.0 else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u64 {
        let mut word = [0; 8];
        word.fill_with(|| self.byte());
        u64::from_le_bytes(word)
    }

    /// The next `len` bytes, or as many as are left.
    fn bytes(&mut self, len: u64) -> &'l [u8] {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}

/// An operand of an operation: numbers are little-endian, and a count precedes bytes.
trait Field<'l> {
    fn take(feed: &mut Feed<'l>) -> Self;
    fn put(&self, to: &mut impl Extend<u8>);
}

impl Field<'_> for u64 {
    fn take(feed: &mut Feed<'_>) -> Self {
        feed.word()
    }
    fn put(&self, to: &mut impl Extend<u8>) {
        to.extend(self.to_le_bytes());
    }
}

impl<'l> Field<'l> for &'l [u8] {
    fn take(feed: &mut Feed<'l>) -> Self {
        let len = feed.word();
        feed.bytes(len)
    }
    fn put(&self, to: &mut impl Extend<u8>) {
        (self.len() as u64).put(to);
        to.extend(self.iter().copied());
    }
}

/// Enums of one byte, for which every number is valid.
macro_rules! bytes {
    ($($(#[$meta:meta])* pub enum $name:ident { $($(#[$of:meta])* $variant:ident),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant),* }

        impl Field<'_> for $name {
            fn take(feed: &mut Feed<'_>) -> Self {
                const ALL: &[$name] = &[$($name::$variant),*];
                ALL[usize::from(feed.byte()) % ALL.len()]
            }
            fn put(&self, to: &mut impl Extend<u8>) {
                to.extend([*self as u8]);
            }
        }
    )*};
}

bytes! {
    /// The base that an offset is added to.
    pub enum Base {
        /// Address 0.
        Null,
        /// The region.
        Region,
        /// The guest's first instruction.
        Code,
        /// The boot block of the vCPU, at the upper end of its stack.
        Boot,
    }
}

/// Operations that a guest may not execute, or never needs, by architecture.
#[cfg_attr(target_arch = "aarch64", path = "aarch64/deed.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64/deed.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64/deed.rs")]
mod deed;

pub use deed::Deed;

/// An address: an offset from a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(pub Base, pub u64);

impl Field<'_> for At {
    fn take(feed: &mut Feed<'_>) -> Self {
        Self(Base::take(feed), feed.word())
    }
    fn put(&self, to: &mut impl Extend<u8>) {
        self.0.put(to);
        self.1.put(to);
    }
}

/// The operations. Each is a byte with its number, followed by its fields in their order.
macro_rules! ops {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* },)*) => {
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Op<'l> { $($(#[$meta])* $name { $($field: $type),* },)* }

        #[derive(Clone, Copy)]
        enum Number { $($name),* }

        impl<'l> Op<'l> {
            /// Reads the next operation of a list.
            pub fn take(feed: &mut Feed<'l>) -> Self {
                const ALL: &[Number] = &[$(Number::$name),*];
                match ALL[usize::from(feed.byte()) % ALL.len()] {
                    $(Number::$name => Self::$name { $($field: Field::take(feed)),* },)*
                }
            }

            /// Appends the operation to a list.
            #[allow(dead_code, reason = "for the host")]
            pub fn put(&self, to: &mut impl Extend<u8>) {
                match self {
                    $(Self::$name { $($field),* } => {
                        to.extend([Number::$name as u8]);
                        $($field.put(to);)*
                    })*
                }
            }
        }
    };
}

ops! {
    /// The end of the list; the bytes after it are ignored.
    End {},
    Write { at: At, bytes: &'l [u8] },
    Fill { at: At, len: u64, byte: u64 },
    Copy { to: At, from: At, len: u64 },
    /// Reads a word, and stores it as the primary of the last answer.
    Read { at: At },
    /// Traps by the negotiated method. The answer becomes the last answer. Upcalls before it are served; those without
    /// a list execute `inside`.
    Trap { kind: u64, word: u64, primary: u64, secondary: u64, inside: &'l [u8] },
    /// Writes the four words of the last answer to an address.
    Save { at: At },
    /// Ends the list and all lists around it up to the upcall, with this result of the upcall.
    Return { status: u64, primary: u64, secondary: u64 },
    /// Does not release the list's memory at its end.
    Hold {},
    /// Executes a list `count` times, or forever if that is 0.
    Repeat { count: u64, list: &'l [u8] },
    /// Writes `count` random words over this memory, or without a limit if that is 0, and only while the word at
    /// `until` is 0.
    Storm { at: At, len: u64, seed: u64, count: u64, until: At },
    /// Waits until the word is not 0.
    Wait { until: At },
    Do { deed: Deed, at: At, value: u64 },
    /// Executes a string instruction of x86_64: number `which` of the table in `strings.rs`, with this count in RCX, the port in RDX,
    /// and the direction flag set if `down` is not 0.
    Strings { which: u64, from: At, to: At, count: u64, port: u64, down: u64 },
    /// Executes instruction `which` of the table in `accesses.rs` on this address, with this count in RCX.
    Access { which: u64, at: At, count: u64 },
    /// Writes one word and then another one, alternately, while the word at `until` is 0.
    Flip { at: At, one: u64, two: u64, until: At },
    /// Jumps to an address, with these flags and this stack pointer. `registers` holds the other general registers, of which
    /// missing ones are 0. On x86_64: RAX, RBX, RCX, RDX, RSI, RDI, RBP, then R8 to R15. On aarch64: X0 to X30, except that
    /// X16 is the address. On riscv64: x1 to x31, except that x2 is the stack pointer and x6 the address; there are no flags.
    Jump { to: At, flags: u64, stack: At, registers: &'l [u8] },
    /// Computes a hash of `len` bytes, a multiple of eight, and stores it as the primary of the last answer.
    Hash { at: At, len: u64 },
    /// Traps with these words, and with the contents of `frame` (`frames.rs`) in all other registers, then stores in the frame
    /// the registers after the trap. The answer is handled as for `Trap`.
    Framed { kind: u64, word: u64, frame: At },
}

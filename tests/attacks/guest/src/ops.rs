//! What a hostile guest is told to do: a list of operations, as bytes. Any bytes are such a list, so a fuzzer
//! may write them. The guest reads what its host has written with the same file.

/// Draws from a list. Behind its end all is 0, and the operation 0 is the end.
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

    /// So many bytes, or as many as there are.
    fn bytes(&mut self, len: u64) -> &'l [u8] {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}

/// Something that an operation has: numbers are little-endian, bytes have their count before them.
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

/// Enums that are a byte, of which every number is a value.
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
    /// What an address counts from.
    pub enum Base {
        /// 0.
        Null,
        /// The region.
        Region,
        /// The guest's first instruction.
        Code,
        /// The boot block of the vCPU, which is the end of its stack.
        Boot,
    }

    /// What a guest may not do, or has no need to: mostly one instruction. `at` and `value` are its operands.
    pub enum Deed {
        /// Stores of other widths than a trap's, and of its width by another instruction.
        Store1,
        Store2,
        Store4,
        Store8,
        Store16,
        /// Adds to a word, by a locked instruction.
        Add,
        /// The port is `at`.
        Out1,
        Out2,
        Out4,
        In1,
        In2,
        In4,
        /// `rep outsd`, so many words.
        OutString,
        Jump,
        Call,
        Divide,
        /// By a zero in vector registers, with that exception asked for.
        DivideFloat,
        Overflow,
        /// `movaps` from there.
        LoadAligned,
        /// An ordinary access, with alignment checks asked for.
        Checked,
        Halt,
        Cli,
        Sti,
        Lgdt,
        Lidt,
        Lldt,
        Ltr,
        /// `mov cr0`, and so on.
        Cr0,
        Cr3,
        Cr4,
        Dr7,
        Clts,
        /// The register is `at`.
        Wrmsr,
        Rdmsr,
        Invlpg,
        Wbinvd,
        Swapgs,
        Xsetbv,
        Sysret,
        Sysexit,
        /// To a code segment and an address.
        Iret,
        FarJump,
        LoadDs,
        LoadSs,
        /// An interrupt of this number.
        Int,
        /// A system call of this number; by `sysenter`, and by an interrupt of the 32-bit kind.
        Syscall,
        Sysenter,
        Int80,
        Vmcall,
        Vmmcall,
        Undefined,
        Breakpoint,
        /// Single steps.
        Steps,
        /// `wrpkru`.
        Pkru,
        FsBase,
        /// Every vector register becomes this.
        Vectors,
        Spin,
        /// Stores 108 bytes, of x87 registers.
        StoreX87,
        /// A system call of 32 bits, from code of 32 bits, if there is such a thing.
        Compat,
        /// `ud2`, without a stack.
        NoStack,
        /// `int1`.
        Icebp,
        /// Calls a function that there is not, with these flags set. `at` is the port, the doorbell, or the gate.
        Flagged,
    }
}

/// An address: so many bytes behind something.
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

/// The operations, each with its fields in their order behind a byte that is its number.
macro_rules! ops {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* },)*) => {
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Op<'l> { $($(#[$meta])* $name { $($field: $type),* },)* }

        #[derive(Clone, Copy)]
        enum Number { $($name),* }

        impl<'l> Op<'l> {
            /// The next operation of a list.
            pub fn take(feed: &mut Feed<'l>) -> Self {
                const ALL: &[Number] = &[$(Number::$name),*];
                match ALL[usize::from(feed.byte()) % ALL.len()] {
                    $(Number::$name => Self::$name { $($field: Field::take(feed)),* },)*
                }
            }

            /// Appends it to a list.
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
    /// The end of the list: what is behind it is not looked at.
    End {},
    Write { at: At, bytes: &'l [u8] },
    Fill { at: At, len: u64, byte: u64 },
    Copy { to: At, from: At, len: u64 },
    /// Reads a word, and takes it for the primary of the last answer.
    Read { at: At },
    /// Traps as agreed. What comes back is the last answer. Upcalls that come first are done; those without
    /// a list of their own do what is in `inside`.
    Trap { kind: u64, word: u64, primary: u64, secondary: u64, inside: &'l [u8] },
    /// Writes the four words of the last answer there.
    Save { at: At },
    /// Ends the list, and all that it is in, up to its upcall, which has this result.
    Return { status: u64, primary: u64, secondary: u64 },
    /// Does not give the list's memory back, when it is done.
    Hold {},
    /// Does a list so often, or for ever if that is 0.
    Repeat { count: u64, list: &'l [u8] },
    /// Writes so many words of noise over this memory, or for ever if that is 0, but only while the word at
    /// `until` is 0.
    Storm { at: At, len: u64, seed: u64, count: u64, until: At },
    /// Waits until the word is not 0.
    Wait { until: At },
    Do { deed: Deed, at: At, value: u64 },
    /// Executes a string instruction: number `which` of the table in `strings.rs`, with this count in RCX, the port in RDX,
    /// and the direction flag set if `down` is not 0.
    Strings { which: u64, from: At, to: At, count: u64, port: u64, down: u64 },
    /// Executes number `which` of the table in `accesses.rs` on that place, with this count in RCX.
    Access { which: u64, at: At, count: u64 },
    /// Writes one word and then the other one, again and again, while the word at `until` is 0.
    Flip { at: At, one: u64, two: u64, until: At },
    /// Jumps there, with these flags and this stack pointer. `registers` holds the other general registers: RAX, RBX, RCX,
    /// RDX, RSI, RDI, RBP, then R8 to R15. Those that it lacks are 0.
    Jump { to: At, flags: u64, stack: At, registers: &'l [u8] },
    /// Computes a hash of so many bytes, a multiple of eight, and takes it for the primary of the last answer.
    Hash { at: At, len: u64 },
    /// Traps with these words, and with the contents of `frame` (`frames.rs`) in all other registers, then replaces these by what
    /// the registers are behind the trap. What comes back is done as for `Trap`.
    Framed { kind: u64, word: u64, frame: At },
}

//! Lists of operations for the guest in `tests/attacks/guest`, as its host writes them.

use vmffi::abi::{Transport, trap};

use crate::ops::{At, Base, Deed, Op};

/// An address in the guest.
pub fn at(address: u64) -> At {
    At(Base::Null, address)
}

/// A byte of the region.
pub fn region(offset: u64) -> At {
    At(Base::Region, offset)
}

#[derive(Clone, Debug, Default)]
pub struct List(Vec<u8>);

impl List {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn op(mut self, op: Op<'_>) -> Self {
        op.put(&mut self.0);
        self
    }

    /// Both lists, one after the other.
    pub fn and(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    pub fn write(self, at: At, bytes: &[u8]) -> Self {
        self.op(Op::Write { at, bytes })
    }

    pub fn fill(self, at: At, len: u64, byte: u8) -> Self {
        self.op(Op::Fill { at, len, byte: byte.into() })
    }

    pub fn trap(self, kind: u64, word: u64, transport: Transport, inside: &Self) -> Self {
        let Transport { primary, secondary } = transport;
        self.op(Op::Trap { kind, word, primary, secondary, inside: &inside.0 })
    }

    pub fn call(self, signature: u64, transport: Transport) -> Self {
        self.trap(trap::CALL, signature, transport, &Self::new())
    }

    /// A call in which the host makes an upcall that executes `inside`.
    pub fn call_with(self, signature: u64, transport: Transport, inside: &Self) -> Self {
        self.trap(trap::CALL, signature, transport, inside)
    }

    pub fn save(self, at: At) -> Self {
        self.op(Op::Save { at })
    }

    pub fn returns(self, status: u64, transport: Transport) -> Self {
        let Transport { primary, secondary } = transport;
        self.op(Op::Return { status, primary, secondary })
    }

    pub fn hold(self) -> Self {
        self.op(Op::Hold {})
    }

    pub fn repeat(self, count: u64, list: &Self) -> Self {
        self.op(Op::Repeat { count, list: &list.0 })
    }

    /// Appends a jump with chosen registers, in the order of [`Op::Jump`].
    pub fn jump(
        self,
        to: At,
        registers: impl IntoIterator<Item = u64>,
        flags: u64,
        stack: At,
    ) -> Self {
        let registers: Vec<u8> = registers.into_iter().flat_map(u64::to_le_bytes).collect();
        self.op(Op::Jump { to, flags, stack, registers: &registers })
    }

    pub fn deed(self, deed: Deed, at: At, value: u64) -> Self {
        self.op(Op::Do { deed, at, value })
    }
}

/// A list of one deed.
pub fn deed(deed: Deed, at: At, value: u64) -> List {
    List::new().deed(deed, at, value)
}

//! Whether two contracts agree: each side serves what the other calls (ABI, "Contracts"). It needs no heap.

use super::walk::{BadContract, FunctionHead, Index, TypeHead, Visitor, walk};
use crate::abi::Side;

/// Why two contracts do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disagreement<'c> {
    /// The contract of this side is invalid.
    Invalid(Side, BadContract),
    /// A side calls functions that the other does not serve under the same signatures.
    Functions {
        /// The side that calls the first one.
        caller: Side,
        /// Its interface and its name.
        interface: &'c str,
        name: &'c str,
        /// Whether the other side serves a function with this name.
        differs: bool,
        /// The number of further functions.
        more: usize,
    },
}

/// How many words [`agree`] needs for a contract: one for each record.
pub(crate) fn words(contract: &[u8]) -> usize {
    match *contract {
        // A record has at least two bytes, so a number of records that are not there takes no memory.
        [low, high, ..] => usize::from(u16::from_le_bytes([low, high])).min(contract.len() / 2),
        _ => 0,
    }
}

/// Checks that each side serves what the other calls. `words` are at least as many for each contract as [`words`] says. The
/// time is in proportion to the length of the contracts, and to the number of functions that one calls times those that the
/// other serves.
pub(crate) fn agree<'c>(
    guest: &'c [u8],
    host: &'c [u8],
    words: [&mut [u64]; 2],
) -> Result<(), Disagreement<'c>> {
    let [guest_words, host_words] = words;
    let guest = Read::new(Side::Guest, guest, guest_words)?;
    let host = Read::new(Side::Host, host, host_words)?;
    let mut found = None;
    guest.calls(&host, &mut found);
    host.calls(&guest, &mut found);
    found.map_or(Ok(()), Err)
}

/// A valid contract: the hashes of its types, and the signatures of the functions that it serves.
struct Read<'c, 'w> {
    side: Side,
    contract: &'c [u8],
    hashes: &'w [u64],
    served: &'w [u64],
}

/// The hashes of types from the first word on, and signatures from the last word on.
struct Collected<'w> {
    words: &'w mut [u64],
    types: usize,
    served: usize,
}

impl Collected<'_> {
    /// The place of the next word, if there is room for it.
    fn room(&mut self, at: usize) -> Option<&mut u64> {
        if self.types + self.served < self.words.len() { self.words.get_mut(at) } else { None }
    }
}

impl<'c> Visitor<'c> for Collected<'_> {
    fn hash(&self, index: Index) -> Option<u64> {
        self.words[..self.types].get(usize::from(index)).copied()
    }

    fn declare(&mut self, _: TypeHead<'c>, hash: u64) -> bool {
        match self.room(self.types) {
            Some(word) => {
                *word = hash;
                self.types += 1;
                true
            }
            None => false,
        }
    }

    fn function(&mut self, function: FunctionHead<'c>) {
        let last = self.words.len().wrapping_sub(self.served + 1);
        if function.served() {
            if let Some(word) = self.room(last) {
                *word = function.signature;
                self.served += 1;
            }
        }
    }
}

/// Calls `each` for each function of a contract, whose types have these hashes.
struct Functions<'w, F> {
    hashes: &'w [u64],
    each: F,
}

impl<'c, F: FnMut(FunctionHead<'c>)> Visitor<'c> for Functions<'_, F> {
    fn hash(&self, index: Index) -> Option<u64> {
        self.hashes.get(usize::from(index)).copied()
    }

    fn declare(&mut self, _: TypeHead<'c>, _: u64) -> bool {
        true
    }

    fn function(&mut self, function: FunctionHead<'c>) {
        (self.each)(function);
    }
}

impl<'c, 'w> Read<'c, 'w> {
    fn new(side: Side, contract: &'c [u8], words: &'w mut [u64]) -> Result<Self, Disagreement<'c>> {
        let mut collected = Collected { words, types: 0, served: 0 };
        walk(contract, &mut collected).map_err(|bad| Disagreement::Invalid(side, bad))?;
        let Collected { words, types, served } = collected;
        let words: &'w [u64] = words;
        Ok(Self { side, contract, hashes: &words[..types], served: &words[words.len() - served..] })
    }

    /// Calls `each` for each function.
    fn functions(&self, each: impl FnMut(FunctionHead<'c>)) {
        // The contract is valid: `new` has walked through it.
        let _ = walk(self.contract, &mut Functions { hashes: self.hashes, each });
    }

    /// Records the functions that this side must find and that the other one does not serve.
    fn calls(&self, other: &Self, found: &mut Option<Disagreement<'c>>) {
        self.functions(|function| {
            if !function.called()
                || function.optional()
                || other.served.contains(&function.signature)
            {
                return;
            }
            if let Some(Disagreement::Functions { more, .. }) = found {
                *more += 1;
                return;
            }
            let FunctionHead { interface, name, .. } = function;
            let mut differs = false;
            other.functions(|other| {
                differs |= other.served() && (other.interface, other.name) == (interface, name);
            });
            let caller = self.side;
            *found = Some(Disagreement::Functions { caller, interface, name, differs, more: 0 });
        });
    }
}

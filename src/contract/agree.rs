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
    let invalid = |side| move |bad| Disagreement::Invalid(side, bad);
    let guest = Read::new(guest, guest_words).map_err(invalid(Side::Guest))?;
    let host = Read::new(host, host_words).map_err(invalid(Side::Host))?;
    let mut found = None;
    guest.calls(Side::Guest, &host, &mut found);
    host.calls(Side::Host, &guest, &mut found);
    found.map_or(Ok(()), Err)
}

/// A valid contract: the hashes of its types, and the signatures of the functions that it serves.
struct Read<'c, 'w> {
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
    fn new(contract: &'c [u8], words: &'w mut [u64]) -> Result<Self, BadContract> {
        let mut collected = Collected { words, types: 0, served: 0 };
        walk(contract, &mut collected)?;
        let Collected { words, types, served } = collected;
        let words: &'w [u64] = words;
        Ok(Self { contract, hashes: &words[..types], served: &words[words.len() - served..] })
    }

    /// Calls `each` for each function.
    fn functions(&self, each: impl FnMut(FunctionHead<'c>)) {
        // The contract is valid: `new` has walked through it.
        let _ = walk(self.contract, &mut Functions { hashes: self.hashes, each });
    }

    /// Records the functions that this side, the `caller`, must find and that the other one does not serve.
    fn calls(&self, caller: Side, other: &Self, found: &mut Option<Disagreement<'c>>) {
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
            *found = Some(Disagreement::Functions { caller, interface, name, differs, more: 0 });
        });
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use std::vec;

    use super::*;
    use crate::{Serve, contract::compare};

    mod here {
        use crate::*;

        crate::ffi_interface! {
            pub struct Stat { size: u64, mode: u32, links: u32 }
            pub enum Kind: u8 { File = 1, Folder(u64), Both { a: u32, b: u16 } }

            pub interface Files {
                fn open(path: ForeignStr, flags: u32) -> Result<u64, Kind>;
                fn stat(file: u64) -> Foreign<Stat>;
                fn pair(both: (u8, [u16; 3]), maybe: Option<Stat>);
            }

            pub interface Screen {
                fn show(text: ForeignStr);
                #[optional]
                fn clear();
            }
        }

        pub(super) struct Host;

        impl Files for Host {
            fn open(&self, _: &Peer, _: ForeignStr, _: u32) -> Result<u64, Failure<Kind>> {
                Err(CallError::refused().into())
            }

            fn stat(&self, _: &Peer, _: u64) -> Result<Shared<Stat>, CallError> {
                Err(CallError::refused())
            }

            fn pair(&self, _: &Peer, _: (u8, [u16; 3]), _: Option<Stat>) -> Result<(), CallError> {
                Ok(())
            }
        }

        crate::serve!(Host: Files; calls Screen);

        pub(super) struct Guest;

        impl Screen for Guest {
            fn show(&self, _: &Peer, _: ForeignStr) -> Result<(), CallError> {
                Ok(())
            }

            fn clear(&self, _: &Peer) -> Result<(), CallError> {
                Ok(())
            }
        }

        crate::serve!(Guest: Screen; calls Files);
    }

    /// Whether two contracts agree, and that the comparison on a heap finds the same, also of what is wrong.
    fn both(guest: &[u8], host: &[u8]) -> bool {
        let mut words = [guest, host].map(|contract| vec![0; words(contract)]);
        let agreed = agree(guest, host, words.each_mut().map(|words| words.as_mut_slice()));
        match (&agreed, compare(guest, host)) {
            (Ok(()), Ok(())) => {}
            (Err(Disagreement::Invalid(side, bad)), Err(mismatch)) => {
                assert_eq!(mismatch.unreadable(), Some((*side, *bad)));
            }
            (Err(Disagreement::Functions { caller, interface, name, differs, more }), Err(all)) => {
                let first = &all.differences()[0];
                assert_eq!(*caller, first.caller);
                assert_eq!(first.served.is_some(), *differs);
                assert_eq!(more + 1, all.differences().len());
                if interface.chars().chain(name.chars()).all(|char| char.is_ascii_alphanumeric()) {
                    assert_eq!(std::format!("{interface}::{name}"), first.function);
                }
            }
            (agreed, compared) => panic!("{agreed:?} {compared:?}"),
        }
        agreed.is_ok()
    }

    /// ABI, "Contracts": with and without a heap, the same contracts agree.
    #[test]
    fn the_comparison_with_a_heap_finds_the_same() {
        let (guest, host) = (here::Guest::CONTRACT, here::Host::CONTRACT);
        // The roles are exchanged with the sides.
        assert!(both(guest, host) && both(host, guest));
        let nothing = <() as Serve>::CONTRACT;
        assert!(both(nothing, nothing));
        for (guest, host) in [(nothing, host), (guest, nothing), (host, host), (guest, guest)] {
            assert!(!both(guest, host));
        }
        let mut agreed = 0;
        for at in 0..guest.len() {
            for change in [1, 2, 3, 0x20, 0x80, 0xff] {
                let mut guest = guest.to_vec();
                guest[at] ^= change;
                agreed += u32::from(both(&guest, host));
            }
            assert!(!both(&guest[..at], host));
        }
        for at in 0..host.len() {
            for change in [1, 2, 3, 0x20, 0x80, 0xff] {
                let mut host = host.to_vec();
                host[at] ^= change;
                agreed += u32::from(both(guest, &host));
            }
            assert!(!both(guest, &host[..at]));
        }
        // Names of parameters, and optional functions, do not count.
        assert!(agreed > 0);
    }

    /// A contract that claims records which are not there takes no memory for them.
    #[test]
    fn the_number_of_words_is_bounded_by_the_length() {
        assert_eq!(words(&[]), 0);
        assert_eq!(words(&[0xff]), 0);
        assert_eq!(words(&[0xff, 0xff]), 1);
        assert_eq!(words(&[0xff, 0xff, 0, 0, 0, 0, 0, 0]), 4);
        assert_eq!(words(here::Guest::CONTRACT), usize::from(here::Guest::CONTRACT[0]));
        // Tuples without values are the shortest records.
        let mut most = vec![200, 0];
        most.extend([5, 0].repeat(200));
        let mut room = vec![0; words(&most)];
        let kind = super::super::format::kind::TUPLE;
        most.iter_mut().skip(2).step_by(2).for_each(|byte| *byte = kind);
        assert_eq!(agree(&most, &[0, 0], [&mut room, &mut []]), Ok(()));
    }
}

//! Nested calls.

use vmffi::{CallError, ErrorKind, ForeignStr, MAX_DEPTH, Peer, SharedStr, abi::Side as Which};

use super::{Check, Side};

vmffi::ffi_interface! {
    pub interface Nesting {
        /// Nests this many calls more, then does `bottom`; returns the number of calls.
        fn down(levels: u32, bottom: u32) -> u32;
        /// The same with memory that is lent at each level.
        fn spell(levels: u32, text: ForeignStr) -> ForeignStr;
    }
}

impl<S: Side> Nesting for S {
    fn down(&self, peer: &Peer, levels: u32, bottom: u32) -> Result<u32, CallError> {
        match levels {
            0 => {
                self.bottom(bottom);
                Ok(1)
            }
            levels => Ok(1 + NestingClient::from(peer).down(levels - 1, bottom)?),
        }
    }
    fn spell(&self, peer: &Peer, levels: u32, text: ForeignStr) -> Result<SharedStr, CallError> {
        let mut said = text.read_string()?;
        said.push(if peer.side() == Which::Guest { 'g' } else { 'h' });
        if levels == 0 {
            return SharedStr::copy_from(peer, &said);
        }
        let back = NestingClient::from(peer).spell(levels - 1, &said)?;
        SharedStr::copy_from(peer, &back.read_string()?)
    }
}

pub const CHECKS: &[Check] =
    &[("nesting_to_the_limit", to_the_limit), ("nesting_with_memory", memory)];

/// The number of calls in progress where a check runs: in the guest, the call that asked for it.
fn under_way(peer: &Peer) -> u32 {
    u32::from(peer.side() == Which::Guest)
}

fn to_the_limit(peer: &Peer) {
    let call = NestingClient::from(peer);
    let most = MAX_DEPTH - under_way(peer);
    for calls in 1..=most {
        assert_eq!(call.down(calls - 1, 0), Ok(calls));
    }
    for _ in 0..2 {
        let error = call.down(most, 0).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::TooDeep, true));
    }
    assert_eq!(call.down(most - 1, 0), Ok(most), "as deep as before");
}

fn memory(peer: &Peer) {
    let call = NestingClient::from(peer);
    let most = MAX_DEPTH - under_way(peer);
    let (us, them) = if peer.side() == Which::Guest { ("g", "h") } else { ("h", "g") };
    let expected: alloc::string::String =
        (0..most).map(|level| if level % 2 == 0 { them } else { us }).collect();
    assert_eq!(call.spell(most - 1, "").unwrap().read_string().unwrap(), expected);
    assert_eq!(call.spell(most, "").unwrap_err().kind(), ErrorKind::TooDeep);
}

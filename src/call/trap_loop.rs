//! The trap loop of a guest: from a trap to its answer. Upcalls that arrive instead of the answer are served first
//! (ABI, "Traps").

use crate::{
    abi::{Registers, Transport, answer, trap},
    arch::Trap,
    error::{CallError, ErrorKind},
};

use super::{CallContext, Endpoint};

/// Traps with `out`, and serves upcalls until the host answers. `depth` is the number of calls in progress. Returns the
/// answer's transport, and writes its status.
pub(crate) fn converse(
    trap: &impl Trap,
    endpoint: &Endpoint,
    depth: u32,
    out: Registers,
    status: &mut u64,
) -> Transport {
    let back = trap.trap(out);
    if back.kind == answer::ANSWER {
        *status = back.word;
        return back.transport;
    }
    serve_upcalls(trap, endpoint, depth, back, status)
}

/// The same, beginning with the registers that the first trap has returned.
#[cold]
pub(crate) fn serve_upcalls(
    trap: &impl Trap,
    endpoint: &Endpoint,
    depth: u32,
    mut back: Registers,
    status: &mut u64,
) -> Transport {
    loop {
        match back.kind {
            answer::ANSWER => {
                *status = back.word;
                return back.transport;
            }
            answer::UPCALL => {
                let mut word = 0;
                let served = endpoint.serve(
                    back.word,
                    back.transport,
                    depth + 1,
                    CallContext::Outside,
                    &mut word,
                );
                back = trap.trap(Registers { kind: trap::RETURN, word, transport: served });
            }
            // If no host handles the trap, the registers are unchanged, so its own kind is returned.
            _ => {
                *status = CallError::new(ErrorKind::Unsupported).status();
                return Transport::EMPTY;
            }
        }
    }
}

//! What every host enforces of its guest, whoever runs the vCPUs: limits, one handshake in a life, and no call after an exit.

use super::{GuestExit, Limits};
use crate::{
    abi::{Transport, signature},
    call::{Endpoint, Peer},
    error::{CallError, ErrorKind, ErrorText},
    handshake::{self, ConnectError, ContractCopy},
    log::{self, Line},
    memory::sync::{AtomicBool, Ordering},
};

/// What a host records of its guest's current life, and its limits.
pub(super) struct Rules {
    pub(super) limits: Limits,
    /// Whether the guest has exited, so that no vCPU may run.
    exited: AtomicBool,
    /// Whether the guest's contract has been compared in this life, and fits.
    handshake_done: AtomicBool,
}

/// A host: what runs the vCPUs of one guest, and knows how the guest has exited.
pub(super) trait Owner: Sync {
    fn rules(&self) -> &Rules;

    /// Records an exit, unless the guest has exited already, stops its other vCPUs, and ends its loans. Returns the
    /// error for the call. The caller holds a vCPU, so no reset can begin a new life before.
    fn end(&self, endpoint: &Endpoint, exit: GuestExit) -> ErrorKind;

    /// The error of calls to the guest, which has exited.
    fn kind(&self) -> ErrorKind;

    /// Whether this process runs the guest; false in a forked child.
    fn is_here(&self) -> bool {
        true
    }

    /// Keeps the guest's contract, which fits that of the host.
    fn keep(&self, _: ContractCopy) {}

    /// Emits a line of the guest's log.
    fn log(&self, line: Line<'_>);
}

impl Rules {
    /// The rules of a life that begins now. `known` says whether the guest's contract has been compared before.
    pub(super) fn new(limits: Limits, known: bool) -> Self {
        let (exited, handshake_done) = (AtomicBool::new(false), AtomicBool::new(known));
        Self { limits, exited, handshake_done }
    }

    /// The flag that the guest has exited.
    #[cfg(feature = "std")]
    pub(super) fn exited(&self) -> &AtomicBool {
        &self.exited
    }

    /// Whether the guest has not exited.
    pub(super) fn runs(&self) -> bool {
        !self.exited.load(Ordering::Acquire)
    }

    /// Lets the vCPUs run, or not.
    pub(super) fn set_exited(&self, exited: bool) {
        self.exited.store(exited, Ordering::Release);
    }

    /// Whether the guest's contract has been compared in this life.
    pub(super) fn is_known(&self) -> bool {
        self.handshake_done.load(Ordering::Relaxed)
    }

    /// Sets whether the guest's contract has been compared in this life.
    pub(super) fn set_known(&self, known: bool) {
        self.handshake_done.store(known, Ordering::Relaxed);
    }

    /// The depth of a call through `peer`, if it is within the limit.
    pub(super) fn depth_of_call(&self, peer: &Peer) -> Result<u32, CallError> {
        let depth = peer.depth() + 1;
        if depth > self.limits.depth {
            return Err(CallError::new(ErrorKind::TooDeep));
        }
        Ok(depth)
    }

    /// Copies the text of an `EXIT` trap, at most [`Limits::text`] bytes; empty if it is not in the guest's arena.
    pub(super) fn last_text(&self, endpoint: &Endpoint, text: Transport) -> ErrorText {
        let max = self.limits.text;
        let text = Transport { secondary: text.secondary.min(max.into()), ..text };
        let own = &endpoint.own;
        let copied = own.memory.with_text(own.side, text, max as usize, ErrorText::from_bytes);
        copied.unwrap_or_default()
    }
}

/// Serves the signatures that are reserved for hosts; `None` for others.
pub(super) fn serve_reserved(
    owner: &impl Owner,
    endpoint: &Endpoint,
    signature: u64,
    transport: Transport,
) -> Option<Result<(), CallError>> {
    match signature {
        signature::HANDSHAKE => Some(handshake(owner, endpoint, transport)),
        signature::LOG => {
            let max = owner.rules().limits.text;
            Some(log::receive(endpoint, transport, max, |line| owner.log(line)))
        }
        _ => None,
    }
}

/// Compares the guest's contract with the host's, once in each life, which bounds the cost that a guest can cause.
/// If the contracts do not fit, the guest exits, and is not resumed.
fn handshake(
    owner: &impl Owner,
    endpoint: &Endpoint,
    contract: Transport,
) -> Result<(), CallError> {
    let rules = owner.rules();
    if rules.is_known() {
        return Err(CallError::refused());
    }
    match handshake::compare(endpoint, contract) {
        Ok(contract) => {
            owner.keep(contract);
            rules.set_known(true);
            Ok(())
        }
        Err(ConnectError::Contract(mismatch)) => {
            Err(CallError::new(owner.end(endpoint, GuestExit::Unfit(mismatch))))
        }
        Err(error) => Err(handshake::refusal(error)),
    }
}

//! Batches, as they are served: many calls of the peer in one (ABI, "Batches").

use core::ptr::NonNull;

use super::{CallContext, Endpoint, NestedCalls, Peer};
use crate::{
    abi::{
        Transport,
        batch::{Entry, MAX_TAKEN, TAKE},
        signature,
    },
    error::{CallError, ErrorKind},
    memory::{Incoming, Outgoing, SideMemory},
};

/// The secondary word of a call whose parameter struct takes results. Every function without a parameter struct refuses it,
/// since no arena has as many bytes, and [`receive`](super::server::receive) takes it for what it is only in a batch.
const TAKES: u64 = u64::MAX;

/// An [`Entry`] as it is in memory.
type Words = [u64; 3];

/// A result in the parameter struct of a later call: the first `len` bytes of `value`, at an offset.
#[derive(Clone, Copy)]
struct Field {
    offset: u32,
    len: u32,
    value: u64,
}

/// The results that the next call of a batch takes.
pub(crate) struct Taken {
    /// The context in which the batch is served, which is not [`CallContext::Taking`].
    context: CallContext,
    /// How many entries before the call take a result.
    count: usize,
    /// What `primary` is replaced by.
    primary: Option<u64>,
    /// Those that are put into the parameter struct.
    fields: [Field; MAX_TAKEN],
    fields_len: usize,
    /// Why the call is not made.
    failed: Option<ErrorKind>,
}

impl Taken {
    fn new(context: CallContext) -> Self {
        let fields = [Field { offset: 0, len: 0, value: 0 }; MAX_TAKEN];
        Self { context, count: 0, primary: None, fields, fields_len: 0, failed: None }
    }

    pub(super) fn context(&self) -> CallContext {
        self.context
    }

    /// Takes a result for the next call, as `entry` says. Returns the result.
    fn take(&mut self, entry: Entry, answers: &[Words]) -> Result<Transport, ErrorKind> {
        self.count += 1;
        let taken = self.find(entry, answers);
        if let Err(kind) = taken {
            // The first one determines the status of the call.
            self.failed = self.failed.or(Some(kind));
        }
        taken
    }

    fn find(&mut self, entry: Entry, answers: &[Words]) -> Result<Transport, ErrorKind> {
        let Transport { primary: nr, secondary: place } = entry.transport;
        let nr = usize::try_from(nr).map_err(|_| ErrorKind::BadValue)?;
        let [status, value, secondary] = *answers.get(nr).ok_or(ErrorKind::BadValue)?;
        let (offset, len) = (place as u32, (place >> 32) as u32);
        if self.count > MAX_TAKEN || place != 0 && !matches!(len, 1 | 2 | 4 | 8) {
            return Err(ErrorKind::BadValue);
        }
        if status != 0 || secondary != 0 {
            return Err(ErrorKind::Cancelled);
        }
        if place == 0 {
            self.primary = Some(value);
        } else {
            self.fields[self.fields_len] = Field { offset, len, value };
            self.fields_len += 1;
        }
        Ok(Transport::word(value))
    }

    /// Puts the results into a copy of the parameter struct.
    fn put(&self, wire: &mut [u8]) -> Result<(), CallError> {
        for &Field { offset, len, value } in &self.fields[..self.fields_len] {
            let (offset, len) = (offset as usize, len as usize);
            let field = offset.checked_add(len).and_then(|end| wire.get_mut(offset..end));
            let field = field.ok_or(CallError::new(ErrorKind::BadValue))?;
            field.copy_from_slice(&value.to_le_bytes()[..len]);
        }
        Ok(())
    }
}

/// Copies the parameter struct of a call that takes results, and puts them into the copy.
///
/// # Errors
///
/// [`ErrorKind::BadValue`] if no results are to be put there: `secondary` is not 0, and this is no call of a batch, or one
/// that takes nothing.
#[cold]
#[inline(never)]
pub(super) fn copy_taking(
    peer: &Peer,
    transport: Transport,
    from: Incoming<'_>,
    align: usize,
    wire: &mut [u8],
) -> Result<(), CallError> {
    let bad = CallError::new(ErrorKind::BadValue);
    let Some(taken) = peer.taken().filter(|taken| taken.fields_len != 0) else { return Err(bad) };
    if wire.is_empty() {
        return Err(bad);
    }
    from.copy_form(transport.primary, align, wire)?;
    taken.put(wire)
}

impl Endpoint {
    /// Serves a batch. `peer` is that of the call.
    pub(super) fn serve_batch(
        &self,
        peer: &Peer,
        batch: Transport,
    ) -> Result<Transport, CallError> {
        let SideMemory { ref memory, side } = self.own;
        let Transport { primary: word, secondary: len } = batch;
        if len % Entry::LEN as u64 != 0 {
            return Err(CallError::new(ErrorKind::BadValue));
        }
        if len == 0 {
            return Ok(Transport::EMPTY);
        }
        let at = memory.check(side, word, len, Entry::ALIGN as u64)?;
        let epoch = memory.epoch();
        let mut out = Outgoing::new(&self.own, peer.depth());
        // The memory for the answers is there before the first call is made.
        let primary = out.lend_form(len as usize, |answers, _| {
            // A block is aligned, and has whole entries.
            let answers = bytemuck::try_cast_slice_mut(answers).unwrap_or_default();
            self.serve_entries(peer, at, answers);
            Ok(())
        })?;
        memory.release(side, word, epoch);
        out.depart();
        Ok(Transport { primary, secondary: len })
    }

    /// Serves the entries at an offset, as many as there is room for answers. The caller has checked that they are in the
    /// peer's arena.
    fn serve_entries(&self, peer: &Peer, at: u64, answers: &mut [Words]) {
        let mut taken = Taken::new(peer.context());
        let guest = Guest::of(peer);
        let admitted = guest.admit(answers.len());
        for nr in 0..admitted {
            if !guest.goes_on() {
                // The guest has exited, and gets no answer.
                return;
            }
            let mut words = Words::default();
            // SAFETY: the caller has checked as many entries at `at`, which is a multiple of their alignment, as `answers`
            // has. `words` is local.
            unsafe {
                self.own.memory.copy_out(at + (nr * Entry::LEN) as u64, &raw mut words, 1);
            };
            let [word, primary, secondary] = words;
            let entry = Entry { word, transport: Transport { primary, secondary } };
            let served = if entry.word == TAKE {
                match taken.take(entry, &answers[..nr]) {
                    Ok(transport) => Entry { word: 0, transport },
                    Err(kind) => self.refused(kind),
                }
            } else {
                let served = self.serve_entry(peer, entry, &taken);
                if taken.count != 0 {
                    taken = Taken::new(peer.context());
                }
                served
            };
            let Transport { primary, secondary } = served.transport;
            answers[nr] = [served.word, primary, secondary];
        }
        if admitted < answers.len() {
            guest.exceeded(peer);
        }
    }

    /// Serves one call of a batch.
    fn serve_entry(&self, peer: &Peer, entry: Entry, taken: &Taken) -> Entry {
        let Entry { word: called, mut transport } = entry;
        if called < signature::FIRST_FREE {
            return self.refused(ErrorKind::UnknownFunction);
        }
        if let Some(kind) = taken.failed {
            return self.refused(kind);
        }
        let mut context = taken.context;
        if let Some(primary) = taken.primary {
            transport.primary = primary;
        }
        if taken.fields_len != 0 {
            if transport.secondary != 0 {
                return self.refused(ErrorKind::BadValue);
            }
            transport.secondary = TAKES;
            context = CallContext::Taking(NonNull::from(taken));
        }
        let mut word = 0;
        let transport = self.serve(called, transport, peer.depth(), context, &mut word);
        Entry { word, transport }
    }

    /// The answer to an entry that is not served.
    fn refused(&self, kind: ErrorKind) -> Entry {
        Entry { word: self.refuse(CallError::new(kind)), transport: Transport::EMPTY }
    }
}

/// The guest whose batch is served, if this is its host.
struct Guest<'p>(Option<&'p dyn NestedCalls>);

impl<'p> Guest<'p> {
    fn of(peer: &'p Peer) -> Self {
        Self(peer.nested())
    }

    fn admit(&self, entries: usize) -> usize {
        self.0.map_or(entries, |calls| calls.admit(entries))
    }

    #[inline]
    fn goes_on(&self) -> bool {
        self.0.is_none_or(NestedCalls::goes_on)
    }

    fn exceeded(&self, peer: &Peer) {
        if let Some(calls) = self.0 {
            calls.exceeded(peer);
        }
    }
}

//! Batches: many calls for one trap.
//!
//! [`Peer::batch`] begins a batch, from which clients are made as from a peer: their methods have the same parameters, but
//! add a call to the batch, and return a [`Pending`] result. [`Batch::send`] makes all of the calls, in their order, and
//! [`Results::get`] returns what the method would have returned.
//!
//! The format is in the ABI, "Batches"; `call/batch.rs` serves them.

use core::{
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
};

use crate::{
    abi::{
        Answer, Function, Transport,
        batch::{Entry, MAX_TAKEN, TAKE},
        pointer, signature,
    },
    call::{Caller, Peer, span::Span},
    error::{CallError, ErrorKind},
    memory::{AddsCalls, Epoch, Incoming, Loans, Outgoing, SideMemory, arena::Allocated, sealed},
    types::{FfiReturn, FfiType, Plain, SendAs},
};

mod calls;
mod in_arena;
mod structs;

use calls::{Call, Calls, Release};
use in_arena::InArena;
use structs::Structs;

/// Calls that are made together, for one trap: [`Peer::batch`].
///
/// A client that is made from a `&Batch` has the methods of one that is made from a [`&Peer`](Peer). They take the same
/// arguments, and also [`Pending`] results of earlier calls. Each adds a call, and fails only if it cannot be added:
/// [`ErrorKind::OutOfMemory`] if this side's arena is full. The calls that were added before are not affected by that, and
/// [`send`](Self::send) makes them.
///
/// Nothing is sent before [`send`](Self::send). A batch that is dropped instead frees the memory of all arguments.
///
/// ```
/// use vmffi::{CallError, Peer, loopback::Loopback};
///
/// vmffi::ffi_interface! {
///     pub interface Calculator {
///         fn add(a: u64, b: u64) -> u64;
///         fn square(a: u64) -> u64;
///     }
/// }
///
/// struct Host;
/// impl Calculator for Host {
///     fn add(&self, _: &Peer, a: u64, b: u64) -> Result<u64, CallError> { Ok(a + b) }
///     fn square(&self, _: &Peer, a: u64) -> Result<u64, CallError> { Ok(a * a) }
/// }
/// vmffi::serve!(Host: Calculator);
///
/// let pair = Loopback::new((), Host)?;
/// let batch = pair.host().batch()?;
/// let calculator = CalculatorClient::from(&batch);
/// let sum = calculator.add(1, 2)?;
/// let square = calculator.square(&sum)?;
/// let mut results = batch.send()?;
/// assert_eq!(results.get(square)?, 9);
/// assert_eq!(results.get(sum)?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What runs
///
/// The callee makes the calls one after the other, each as if it were made alone: at the depth of the batch, with the same
/// checks, and counted against the same limits. A call that fails, or whose handler panics, does not keep those after it
/// from being made, unless they take its result: they end with [`ErrorKind::Cancelled`] and are not reached. If the peer exits
/// or is stopped in the middle, [`send`](Self::send) fails: calls up to some point have run, and their results are lost.
pub struct Batch<'p> {
    /// Tells batches of one connection apart.
    id: u64,
    inner: RefCell<Inner<'p>>,
    /// Whether a call is being added. If its arguments panic, this stays so.
    adding: Cell<bool>,
}

/// The entries of a batch until it is sent, and then the answers to them.
struct Inner<'p> {
    peer: &'p Peer,
    id: u64,
    /// The words of each entry or answer.
    entries: InArena<'p, [u64; 3]>,
    /// The number of entries of all calls that were added. Behind them may be those of a call that is being added.
    len: usize,
    calls: Calls<'p>,
    structs: Structs,
    /// The offset of the parameter struct of the call that is being added, if it has one.
    placed: Option<u64>,
    /// The latest loan of all calls, and how many there are.
    latest: Allocated,
    loans: u32,
    /// The life of the peer in which the batch was begun; after it was sent, in which it ran.
    epoch: Epoch,
    /// Whether results may have something to release.
    owning: bool,
    /// Whether the entries are the answers.
    answered: bool,
}

/// The result that a call of a batch will have, for a function that returns `R`.
///
/// [`Results::get`] exchanges it for the result. A reference to it may be given for a parameter of a later call of the same
/// batch, if its type is an integer of up to 8 bytes, a float, `bool`, `char`, an enum without values, or a type that
/// [crosses as](crate::CrossesAs) one of these. For a function that returns a `Result<T, E>`, that is the `T`. Such a call
/// is made only if the earlier one has succeeded. It may take up to 16 results.
///
/// If the reference is given for something else than a parameter, such as an element of a tuple that is the only parameter,
/// the call is not added ([`ErrorKind::BadValue`]).
#[must_use = "the result is dropped with the others, unless `Results::get` returns it"]
pub struct Pending<R> {
    batch: u64,
    call: usize,
    function: &'static Function,
    returns: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("function", self.function).finish_non_exhaustive()
    }
}

/// The results of a batch: [`Batch::send`]. Those that are not read are dropped with it, and the memory that the peer has lent
/// with them is released.
pub struct Results<'p> {
    inner: Inner<'p>,
}

impl Peer {
    /// Begins a batch: calls that are made together, for one trap.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena is full.
    pub fn batch(&self) -> Result<Batch<'_>, CallError> {
        let mut entries = InArena::new(self);
        // So the batch has a block, whose number no other batch has meanwhile.
        entries.reserve()?;
        let inner = Inner {
            peer: self,
            id: entries.id(),
            entries,
            len: 0,
            calls: Calls::new(self),
            structs: Structs::NONE,
            placed: None,
            latest: Allocated::NONE,
            loans: 0,
            epoch: self.memory().epoch(),
            owning: false,
            answered: false,
        };
        Ok(Batch { id: inner.id, inner: RefCell::new(inner), adding: Cell::new(false) })
    }
}

impl<'p> Batch<'p> {
    /// The number of calls that were added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.borrow().calls.len()
    }

    /// Whether no call was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the calls, in the order in which they were added, and returns their results. An empty batch makes none, and
    /// does not trap.
    ///
    /// # Errors
    ///
    /// Those of any call, for example [`ErrorKind::PeerDied`]: the results are lost then. [`reached`](CallError::reached)
    /// says whether calls have run. With [`ErrorKind::OutOfMemory`] the peer's arena has no room for the answers, with
    /// [`ErrorKind::UnknownFunction`] the peer serves no batches, and with [`ErrorKind::Stale`] it has been reset since the
    /// batch was begun; none has run.
    pub fn send(self) -> Result<Results<'p>, CallError> {
        let mut inner = self.inner.into_inner();
        inner.exchange().map_err(|error| match error.side() {
            None => error.on(inner.peer.side()),
            Some(_) => error,
        })?;
        Ok(Results { inner })
    }

    /// Adds the call that `out` was begun for. Returns its number.
    #[inline(never)]
    fn add(
        &self,
        out: &mut Outgoing<'_>,
        signature: u64,
        transport: Transport,
        release: Option<Release>,
    ) -> Result<usize, CallError> {
        if out.batch().is_none() {
            return Err(CallError::new(ErrorKind::Busy));
        }
        let call = self.inner.borrow_mut().add(out, signature, transport, release)?;
        self.adding.set(false);
        Ok(call)
    }

    /// The error of a call that was not added.
    #[cold]
    #[inline(never)]
    fn not_added(
        &self,
        out: &Outgoing<'_>,
        error: CallError,
        function: &'static Function,
    ) -> CallError {
        if out.batch().is_some() {
            self.adding.set(false);
        }
        error.on(self.peer().side()).in_function(function)
    }
}

impl sealed::Sealed for &Batch<'_> {}

impl Caller for &Batch<'_> {
    type Returned<R: FfiReturn> = Result<Pending<R>, CallError>;

    fn peer(&self) -> &Peer {
        self.inner.borrow().peer
    }

    #[inline]
    fn outgoing(&self) -> Outgoing<'_> {
        let mut inner = self.inner.borrow_mut();
        // An argument's own code may use the batch, while a call is being added: that one is not.
        let batch = if self.adding.replace(true) {
            None
        } else {
            // What a call has left that was not added.
            let len = inner.len;
            inner.entries.truncate(len);
            inner.placed = None;
            Some(*self as &dyn AddsCalls)
        };
        inner.peer.outgoing().in_batch(inner.latest, inner.epoch, batch)
    }

    #[inline(always)]
    unsafe fn finish<R: FfiReturn>(
        &self,
        mut out: Outgoing<'_>,
        function: &'static Function,
        transport: Result<Transport, CallError>,
    ) -> Result<Pending<R>, CallError> {
        let release: Release = |answer, from| drop(R::receive(answer, from));
        let release = R::OWNS.then_some(release);
        let added = match transport {
            Ok(transport) => self.add(&mut out, function.signature, transport, release),
            Err(error) => Err(error),
        };
        match added {
            Ok(call) => Ok(Pending { batch: self.id, call, function, returns: PhantomData }),
            Err(error) => Err(self.not_added(&out, error, function)),
        }
    }
}

/// The entry that takes a result, before the call that it belongs to is added. If the result goes into a parameter struct,
/// the first word is its size, and the last one its place as an offset in the region.
impl AddsCalls for Batch<'_> {
    fn place(&self, len: usize) -> Result<*mut u8, CallError> {
        let inner = &mut *self.inner.borrow_mut();
        let own = &inner.peer.endpoint().own;
        let at = inner.structs.place(own, len)?;
        inner.placed = Some(own.memory.offset_of(at));
        Ok(at)
    }

    fn take(
        &self,
        batch: u64,
        call: usize,
        to: Option<*const u8>,
        len: usize,
    ) -> Result<(), CallError> {
        let mut inner = self.inner.borrow_mut();
        let call = inner.calls.get(call).filter(|_| batch == self.id);
        let call = call.ok_or(CallError::new(ErrorKind::BadValue))?;
        let (word, place) = match to {
            None => (TAKE, 0),
            Some(to) => (len as u64, inner.peer.memory().offset_of(to)),
        };
        inner.entries.reserve()?;
        inner.entries.push([word, u64::from(call.entry), place]);
        Ok(())
    }
}

impl Inner<'_> {
    fn add(
        &mut self,
        out: &mut Outgoing<'_>,
        signature: u64,
        transport: Transport,
        release: Option<Release>,
    ) -> Result<usize, CallError> {
        if self.entries.len() != self.len {
            self.place_results()?;
        }
        self.entries.reserve()?;
        self.calls.reserve()?;
        // From here on nothing fails.
        let Loans { latest, count } = out.take_loans();
        let entry = self.entries.len() as u32;
        let call = self.calls.len();
        self.calls.push(Call { signature, release, latest, loans: count, entry });
        self.entries.push([signature, transport.primary, transport.secondary]);
        (self.latest, self.len) = (latest, self.entries.len());
        self.loans += count;
        self.owning |= release.is_some();
        Ok(call)
    }

    /// Completes the entries that take results for the call that is being added.
    #[inline(never)]
    fn place_results(&mut self) -> Result<(), CallError> {
        let bad = || CallError::new(ErrorKind::BadValue);
        if self.entries.len() - self.len > MAX_TAKEN {
            return Err(bad());
        }
        for nr in self.len..self.entries.len() {
            let [word, from, place] = self.entries.get(nr).ok_or_else(bad)?;
            if word != TAKE {
                let params = self.placed.ok_or_else(bad)?;
                let offset = u32::try_from(place.wrapping_sub(params)).map_err(|_| bad())?;
                self.entries.set(nr, [TAKE, from, u64::from(offset) | word << 32]);
            }
        }
        Ok(())
    }

    /// Makes the calls, and replaces the entries by their answers.
    fn exchange(&mut self) -> Result<(), CallError> {
        self.entries.truncate(self.len);
        let (peer, len) = (self.peer, (self.len * Entry::LEN) as u64);
        if len == 0 {
            return Ok(());
        }
        let SideMemory { ref memory, side } = peer.endpoint().own;
        let count = core::mem::take(&mut self.loans);
        let loans = Loans { latest: self.latest, count };
        let mut out = peer.outgoing().with_loans(loans, self.epoch);
        let batch = Transport { primary: self.entries.offset(), secondary: len };
        let span = Span::call(peer, format_args!("{} calls of a batch", self.calls.len()));
        let answer = peer.ask_any(&mut out, signature::BATCH, batch);
        span.end(answer.as_ref().map_or_else(CallError::status, |answer| answer.status));
        let Answer { status, transport } = answer?;
        let from = out.received().kept();
        self.epoch = from.epoch.unwrap_or(self.epoch);
        let copied = match status {
            0 if transport.secondary != len => Err(CallError::new(ErrorKind::BadValue)),
            // The answers are a buffer like any other, in a loan (ABI, BT-1 and C-5).
            0 if pointer::loan(transport.primary) == 0 => {
                Err(CallError::new(ErrorKind::BadPointer))
            }
            0 => from.copy_form(transport.primary, Entry::ALIGN, self.entries.bytes_mut()),
            // A batch has no error of its own (ABI, S-5).
            _ => Err(CallError::new(ErrorKind::Protocol)),
        };
        copied.map_err(|error| error.reached_handler().on(side))?;
        self.answered = true;
        if count != 0 {
            let arena = memory.arena(side)?;
            for call in self.all() {
                let status = self.answer(call).status;
                if call.loans != 0 && status > 1 && !CallError::from_status(status).reached() {
                    arena.take_back(call.latest, call.loans);
                }
            }
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = Call> {
        (0..self.calls.len()).filter_map(|nr| self.calls.get(nr))
    }

    /// The answer to a call.
    #[inline]
    fn answer(&self, call: Call) -> Answer {
        // Every call of a batch that was sent has one. Without it, the status would be that of a broken protocol.
        let none = [CallError::new(ErrorKind::Protocol).status(), 0, 0];
        let [status, primary, secondary] = self.entries.get(call.entry as usize).unwrap_or(none);
        Answer { status, transport: Transport { primary, secondary } }
    }

    /// The origin of the answers.
    fn from(&self) -> Incoming<'_> {
        let SideMemory { ref memory, side } = self.peer.endpoint().own;
        Incoming::new(memory, side, Some(self.epoch))
    }
}

impl Drop for Inner<'_> {
    fn drop(&mut self) {
        let own = &self.peer.endpoint().own;
        self.structs.free(own);
        if self.loans != 0 {
            let loans = Loans { latest: self.latest, count: self.loans };
            drop(self.peer.outgoing().with_loans(loans, self.epoch));
        }
        if self.answered && self.owning {
            for call in self.all() {
                let answer = self.answer(call);
                if let (Some(release), 0 | 1) = (call.release, answer.status) {
                    release(answer, self.from());
                }
            }
        }
    }
}

impl Results<'_> {
    /// The result of a call: what its method would have returned if it had been made alone.
    ///
    /// # Errors
    ///
    /// Those of the method, and [`ErrorKind::Cancelled`], not reached, if the call takes the result of one that has failed.
    /// [`ErrorKind::BadValue`] if `pending` is from another batch.
    #[inline]
    pub fn get<R: FfiReturn>(&mut self, pending: Pending<R>) -> R::Received {
        let function = pending.function;
        match self.receive::<R>(&pending) {
            Ok(received) => R::received(Ok(received)),
            Err(error) => R::received(Err(error.in_function(function))),
        }
    }

    #[inline]
    fn receive<R: FfiReturn>(&mut self, pending: &Pending<R>) -> Result<R, CallError> {
        let inner = &mut self.inner;
        let side = inner.peer.side();
        let call = inner.calls.get(pending.call).filter(|call| {
            pending.batch == inner.id
                && call.signature == pending.function.signature
                && call.release.is_some() == R::OWNS
        });
        let Some(call) = call else { return Err(CallError::new(ErrorKind::BadValue).on(side)) };
        let answer = inner.answer(call);
        if R::OWNS {
            inner.calls.set(pending.call, Call { release: None, ..call });
        }
        if answer.status > 1 {
            return Err(CallError::from_status(answer.status).on(side.other()));
        }
        R::receive(answer, inner.from()).map_err(|error| error.reached_handler().on(side))
    }

    /// The number of calls.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.calls.len()
    }

    /// Whether there were no calls.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl fmt::Debug for Results<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Takes the result of `pending` as a `T` at `to`, or alone in the transport.
fn take<T: FfiType, R>(
    pending: &Pending<R>,
    to: Option<&mut [u8]>,
    out: &Outgoing<'_>,
) -> Result<(), CallError> {
    let len = const {
        assert!(
            !T::WIDE && size_of::<T::Wire>() != 0,
            "only a result that is an integer of up to 8 bytes, a float, a bool, a char or an enum without values can be given \
             to a later call"
        );
        size_of::<T::Wire>()
    };
    let to = to.map(|wire| wire.as_ptr());
    // Without a batch, the call is made alone.
    let batch = out.batch().ok_or(CallError::new(ErrorKind::BadValue))?;
    batch.take(pending.batch, pending.call, to, len)
}

/// Implements `SendAs` for a result that is pending.
macro_rules! pending {
    ($([$($generics:tt)*] $from:ty;)*) => { $(
        // SAFETY: a `T` is plain, so its wire form has no pointer words, and none is written.
        unsafe impl<$($generics)*> SendAs<T> for $from {
            fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
                take::<T, _>(self, Some(wire), out)
            }
            fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                take::<T, _>(self, None, out).map(|()| Transport::EMPTY)
            }
        }
    )* };
}

pending! {
    [T: Plain] &Pending<T>;
    [T: Plain, E: FfiType] &Pending<Result<T, E>>;
}

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
        signature,
    },
    call::{Caller, Peer, span::Span},
    error::{CallError, ErrorKind},
    memory::{
        Epoch, GRANULE_SIZE, Incoming, Loans, Outgoing, SideMemory, TakesResults, arena::Allocated,
        sealed,
    },
    shared::SharedBuf,
    types::{FfiReturn, FfiType, Plain, SendAs},
};

mod calls;

use calls::{Call, Calls, Release};

/// Calls that are made together, for one trap: [`Peer::batch`].
///
/// A client that is made from a `&Batch` has the methods of one that is made from a [`&Peer`](Peer). They take the same
/// arguments, and also [`Pending`] results of earlier calls. Each adds a call, and fails only if it cannot be added:
/// [`ErrorKind::OutOfMemory`] if this side's arena is full. The calls that were added before are not affected by that, and
/// [`send`](Self::send) makes them.
///
/// Nothing is sent before [`send`](Self::send). A batch that is dropped instead gives back the memory of all arguments.
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
    inner: RefCell<Inner<'p>>,
    /// Whether a call is being added. If its arguments panic, this stays so.
    adding: Cell<bool>,
}

/// The entries of a batch until it is sent, and then the answers to them.
struct Inner<'p> {
    peer: &'p Peer,
    /// Tells batches of one connection apart.
    id: u64,
    entries: SharedBuf,
    /// The length of the entries of all calls that were added. Behind it may be those of a call that is being added.
    len: usize,
    calls: Calls,
    /// The latest loan of all calls, and how many there are.
    latest: Allocated,
    loans: u32,
    /// The life of the peer in which the batch was begun; after it was sent, in which it ran.
    epoch: Epoch,
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
        // So the batch has a block, whose number no other batch has meanwhile.
        let entries = SharedBuf::with_capacity(self, 16 * GRANULE_SIZE)?;
        let inner = Inner {
            peer: self,
            id: entries.id(),
            entries,
            len: 0,
            calls: Calls::new(self),
            latest: Allocated::NONE,
            loans: 0,
            epoch: self.memory().epoch(),
            answered: false,
        };
        Ok(Batch { inner: RefCell::new(inner), adding: Cell::new(false) })
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
        out: Outgoing<'_>,
        function: &'static Function,
        transport: Result<Transport, CallError>,
        release: Release,
    ) -> Result<Pending<()>, CallError> {
        let mut inner = self.inner.borrow_mut();
        let side = inner.peer.side();
        let added = if out.batch().is_some() {
            self.adding.set(false);
            transport.and_then(|transport| inner.add(out, function.signature, transport, release))
        } else {
            Err(CallError::new(ErrorKind::Busy))
        };
        match added {
            Ok(call) => Ok(Pending { batch: inner.id, call, function, returns: PhantomData }),
            Err(error) => Err(error.on(side).in_function(function)),
        }
    }
}

impl sealed::Sealed for &Batch<'_> {}

impl Caller for &Batch<'_> {
    type Returned<R: FfiReturn> = Result<Pending<R>, CallError>;

    fn peer(&self) -> &Peer {
        self.inner.borrow().peer
    }

    fn outgoing(&self) -> Outgoing<'_> {
        let mut inner = self.inner.borrow_mut();
        // What a call has left that was not added.
        let len = inner.len;
        let own = &inner.peer.endpoint().own;
        // An argument's own code may use the batch, while a call is being added: that one is not.
        let batch = if self.adding.replace(true) {
            None
        } else {
            inner.entries.truncate(len);
            Some(*self as &dyn TakesResults)
        };
        Outgoing::new(own, inner.peer.depth()).in_batch(inner.latest, inner.epoch, batch)
    }

    unsafe fn finish<R: FfiReturn>(
        &self,
        out: Outgoing<'_>,
        function: &'static Function,
        transport: Result<Transport, CallError>,
    ) -> Result<Pending<R>, CallError> {
        let added =
            self.add(out, function, transport, |answer, from| drop(R::receive(answer, from)));
        let Pending { batch, call, function, .. } = added?;
        Ok(Pending { batch, call, function, returns: PhantomData })
    }
}

/// The entry that takes a result, before the call that it belongs to is added. If the result goes into a parameter struct,
/// `word` is its size, and `secondary` its place as an offset in the region.
impl TakesResults for Batch<'_> {
    fn take(
        &self,
        batch: u64,
        call: usize,
        to: Option<*const u8>,
        len: usize,
    ) -> Result<(), CallError> {
        let mut inner = self.inner.borrow_mut();
        let call = inner.calls.get(call).filter(|_| batch == inner.id);
        let primary = u64::from(call.ok_or(CallError::new(ErrorKind::BadValue))?.entry);
        let (word, secondary) = match to {
            None => (TAKE, 0),
            Some(to) => (len as u64, inner.peer.memory().offset_of(to)),
        };
        let entry = Entry { word, transport: Transport { primary, secondary } };
        inner.entries.extend_from_slice(&entry.to_bytes())
    }
}

impl Inner<'_> {
    fn add(
        &mut self,
        out: Outgoing<'_>,
        signature: u64,
        transport: Transport,
        release: Release,
    ) -> Result<usize, CallError> {
        let params = out.has_params().then_some(transport.primary);
        self.place_results(params)?;
        self.entries.reserve(Entry::LEN)?;
        self.calls.reserve()?;
        // There is memory for all of it, so from here on nothing fails.
        let Loans { latest, count } = out.into_loans();
        let entry = (self.entries.len() / Entry::LEN) as u32;
        let params = params.unwrap_or(0);
        let release = Some(release);
        self.calls.push(Call { signature, params, release, latest, loans: count, entry })?;
        self.entries.extend_from_slice(&Entry { word: signature, transport }.to_bytes())?;
        (self.latest, self.loans, self.len) = (latest, self.loans + count, self.entries.len());
        Ok(self.calls.len() - 1)
    }

    /// Completes the entries that take results for the call that is being added. `params` is the offset of its parameter
    /// struct.
    fn place_results(&mut self, params: Option<u64>) -> Result<(), CallError> {
        let bad = || CallError::new(ErrorKind::BadValue);
        let entries = self.entries.as_mut_slice().get_mut(self.len..).unwrap_or_default();
        if entries.len() > MAX_TAKEN * Entry::LEN {
            return Err(bad());
        }
        for bytes in entries.chunks_exact_mut(Entry::LEN) {
            let mut entry = Entry::from_bytes(bytes.try_into().map_err(|_| bad())?);
            if entry.word != TAKE {
                let params = params.ok_or_else(bad)?;
                let offset = u32::try_from(entry.transport.secondary.wrapping_sub(params));
                entry.transport.secondary =
                    u64::from(offset.map_err(|_| bad())?) | entry.word << 32;
                entry.word = TAKE;
                bytes.copy_from_slice(&entry.to_bytes());
            }
        }
        Ok(())
    }

    /// Makes the calls, and replaces the entries by their answers.
    fn exchange(&mut self) -> Result<(), CallError> {
        self.entries.truncate(self.len);
        let (peer, len) = (self.peer, self.len as u64);
        if len == 0 {
            return Ok(());
        }
        let SideMemory { ref memory, side } = peer.endpoint().own;
        let loans = Loans { latest: self.latest, count: core::mem::take(&mut self.loans) };
        let mut out = peer.outgoing().with_loans(loans, self.epoch);
        let batch = Transport { primary: self.entries.offset(), secondary: len };
        let span = Span::call(peer, format_args!("{} calls of a batch", self.calls.len()));
        let answer = peer.ask_any(&mut out, signature::BATCH, batch);
        span.end(answer.as_ref().map_or_else(CallError::status, |answer| answer.status));
        let Answer { status, transport } = answer?;
        let from = out.received().kept();
        self.epoch = from.epoch.unwrap_or(self.epoch);
        let copied = match status {
            0 if transport.secondary == len => {
                from.copy_form(transport.primary, Entry::ALIGN, self.entries.as_mut_slice())
            }
            0 => Err(CallError::new(ErrorKind::BadValue)),
            // A batch has no error of its own (ABI, S-5).
            _ => Err(CallError::new(ErrorKind::Protocol)),
        };
        copied.map_err(|error| error.reached_handler().on(side))?;
        let arena = memory.arena(side)?;
        for call in (0..self.calls.len()).filter_map(|nr| self.calls.get(nr)) {
            let status = self.answer(call).status;
            if call.loans != 0 && status > 1 && !CallError::from_status(status).reached() {
                arena.take_back(call.latest, call.loans);
            }
        }
        self.answered = true;
        Ok(())
    }

    /// The answer to a call.
    fn answer(&self, call: Call) -> Answer {
        let start = call.entry as usize * Entry::LEN;
        let bytes = self.entries.as_slice().get(start..).and_then(<[u8]>::first_chunk);
        // Without an answer, which every call of a batch that was sent has, the status of a broken protocol.
        bytes.map_or(Answer::status(CallError::new(ErrorKind::Protocol).status()), |bytes| {
            let Entry { word: status, transport } = Entry::from_bytes(*bytes);
            Answer { status, transport }
        })
    }

    /// The origin of the answers.
    fn from(&self) -> Incoming<'_> {
        let SideMemory { ref memory, side } = self.peer.endpoint().own;
        Incoming::new(memory, side, Some(self.epoch))
    }
}

impl Drop for Inner<'_> {
    fn drop(&mut self) {
        for nr in 0..self.calls.len() {
            let Some(call) = self.calls.get(nr) else { return };
            if call.params != 0 {
                let SideMemory { ref memory, side } = self.peer.endpoint().own;
                memory.drop_owned(side, call.params);
            }
            let answer = self.answer(call);
            if let (true, Some(release), 0 | 1) = (self.answered, call.release, answer.status) {
                release(answer, self.from());
            }
        }
        let loans = Loans { latest: self.latest, count: self.loans };
        drop(self.peer.outgoing().with_loans(loans, self.epoch));
    }
}

impl Results<'_> {
    /// The result of a call: what its method would have returned if it had been made alone.
    ///
    /// # Errors
    ///
    /// Those of the method, and [`ErrorKind::Cancelled`], not reached, if the call takes the result of one that has failed.
    /// [`ErrorKind::BadValue`] if `pending` is from another batch.
    pub fn get<R: FfiReturn>(&mut self, pending: Pending<R>) -> R::Received {
        let Pending { batch, call: nr, function, .. } = pending;
        let inner = &mut self.inner;
        let side = inner.peer.side();
        let call = inner.calls.get(nr).filter(|call| {
            batch == inner.id && call.signature == function.signature && call.release.is_some()
        });
        let Some(call) = call else {
            let error = CallError::new(ErrorKind::BadValue).on(side);
            return R::received(Err(error.in_function(function)));
        };
        inner.calls.set_read(nr);
        let answer = inner.answer(call);
        let received = if answer.status > 1 {
            Err(CallError::from_status(answer.status).on(side.other()))
        } else {
            R::receive(answer, inner.from()).map_err(|error| error.reached_handler().on(side))
        };
        R::received(received.map_err(|error| error.in_function(function)))
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

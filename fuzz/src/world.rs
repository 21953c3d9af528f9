//! One run: the memory, the choices, the calls that are under way, and what must come of each.
//!
//! All of it is one thread's. Handlers, traps and vCPUs reach it through the functions below; no call
//! into the crate is made while it is borrowed, save to drop or read a handle.

use std::{cell::RefCell, sync::Arc};

use vmffi::{
    CallError, Layout, MAX_DEPTH, PAGE, Peer, Why,
    abi::{Answer, Side, Transport, answer, pointer, signature, trap},
};

use super::{
    feed::Feed,
    model::{Judge, Lent, View},
    types::{FUNCTIONS, Fun, HAS},
};

/// By status, from 2 on (ABI, "Statuses").
pub const WHYS: [Why; 14] = [
    Why::UnknownFunction,
    Why::BadPointer,
    Why::BadValue,
    Why::OutOfMemory,
    Why::TooDeep,
    Why::Busy,
    Why::Cancelled,
    Why::VersionMismatch,
    Why::Unsupported,
    Why::PeerPanicked,
    Why::PeerDied,
    Why::Stale,
    Why::Refused,
    Why::Protocol,
];

/// How a call ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With success, and what is seen of the value.
    Value(Vec<u8>),
    /// With the declared error.
    App(Vec<u8>),
    /// With a reason, and whether the function was reached.
    Failed(Why, bool),
}

/// Adds what is seen of a handle to some bytes.
type Looking = dyn Fn(&mut Vec<u8>);

/// A handle, whatever its type.
pub struct Handle {
    look: Box<Looking>,
    lent: Option<Lent>,
}

impl Handle {
    pub fn new<T: super::types::Look>(handle: T) -> Self {
        Self { look: Box::new(move |seen| handle.look(seen)), lent: None }
    }
}

/// Zeroed pages with a region in them.
pub struct Pages {
    base: *mut u8,
    layout: std::alloc::Layout,
}

// SAFETY: plain memory, owned.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    pub fn new(len: usize) -> Self {
        let layout = std::alloc::Layout::from_size_align(len, PAGE as usize).expect("a size");
        // SAFETY: more than 0 bytes.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        assert!(!base.is_null());
        Self { base, layout }
    }

    pub fn base(&self) -> *mut u8 {
        self.base
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, with this layout.
        unsafe { std::alloc::dealloc(self.base, self.layout) };
    }
}

/// A call that is under way.
enum Call {
    /// The attacker calls.
    Served { fun: Option<&'static Fun>, expect: Expect },
    /// The victim calls.
    Made {
        fun: &'static Fun,
        sent: Vec<u8>,
        arrived: bool,
        /// What is lent along with it.
        words: Vec<u64>,
        result: Option<Returned>,
    },
}

/// What must come of a call that the attacker makes.
enum Expect {
    /// This answer, and no handler is reached.
    Answer(Answer),
    /// A handler is reached, and sees this.
    Reached(Vec<u8>, Vec<Lent>),
    /// A handler is at it.
    Running,
    /// The handler has returned this.
    Done(Outcome),
}

/// What must come of a call that the victim makes.
struct Returned {
    outcome: Outcome,
    lent: Vec<Lent>,
}

/// What the attacker does when it has the word.
#[derive(Clone, Copy, Debug)]
pub enum Move {
    /// Calls the victim.
    Call(u64, Transport),
    /// Answers the victim's call, or lets it go on where there is none.
    Answer(Answer),
    /// A guest waits for upcalls.
    Ready,
    /// A guest ends.
    Exit(u64),
    /// A kind of trap or answer that means nothing here.
    Odd(u64),
    /// A vCPU cannot be run.
    Fail(Why),
}

/// Bytes of each arena.
const ARENA: u64 = 2 * PAGE;

pub struct World {
    pub feed: Feed,
    pub pages: Arc<Pages>,
    pub layout: Layout,
    /// The crate's side; the other one is played by the fuzzer.
    pub victim: Side,
    calls: Vec<Call>,
    /// Why no calls reach the attacker: it is not there yet, or no more.
    pub gone: Option<Why>,
    /// A guest ends when the input does.
    pub closing: bool,
    /// Whether a vCPU has been run.
    pub started: bool,
    /// Guest and host do not fit together.
    pub misfit: bool,
    /// The attacker sends nothing that is wrong, for now.
    pub calm: bool,
    /// The attacker answers the next call as it should.
    pub friendly: bool,
    /// The status with which the attacker has ended, or has let the victim go on.
    pub ended: Option<u64>,
    kept: Vec<Handle>,
    /// Words that the victim has sent, ever.
    known: Vec<u64>,
    /// Loans of the victim's that have not ended: their words and their bytes, which stay as they are.
    loans: Vec<(u64, Vec<u8>)>,
    /// The attacker's arena as the attacker has left it.
    shadow: Vec<u8>,
    /// The release map for that arena as it was when it was last looked at.
    marks: Vec<u8>,
    /// Marks that the victim leaves before it is looked at again: granules, and loans.
    due: Vec<(u64, u8)>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

pub fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| f(world.as_mut().expect("a run is under way")))
}

/// A region's header for two sizes of arena, in words (ABI, "Region header").
pub fn header(guest: u64, host: u64) -> [u64; 9] {
    let map = |arena: u64| (arena / 64).next_multiple_of(PAGE);
    let guest_map = PAGE + map(host);
    let guest_at = guest_map + map(guest);
    let host_at = guest_at + guest;
    let magic = u64::from_le_bytes(*b"VMFFI\0\0\0");
    [magic, 1, host_at + host, guest_at, guest, host_at, host, guest_map, PAGE]
}

/// Begins a run.
pub fn begin(data: &[u8], victim: Side) -> (Layout, Arc<Pages>) {
    let layout = Layout::new(ARENA, ARENA).expect("sizes");
    let pages = Arc::new(Pages::new(layout.len() as usize));
    let world = World {
        feed: Feed::new(data),
        pages: pages.clone(),
        layout,
        victim,
        calls: Vec::new(),
        gone: None,
        closing: false,
        started: false,
        misfit: false,
        calm: false,
        friendly: false,
        ended: None,
        kept: Vec::new(),
        known: Vec::new(),
        loans: Vec::new(),
        shadow: vec![0; ARENA as usize],
        marks: vec![0; layout.granules(victim.other())],
        due: Vec::new(),
    };
    WORLD.set(Some(world));
    (layout, pages)
}

/// Ends a run: the attack is over, all handles are dropped. Nothing of the victim's may be lost: `peer`
/// is what it allocates through.
pub fn end(peer: &Peer) {
    with(World::drop_all);
    let mut loan = 0;
    while peer.arena_stats().blocks != 0 {
        with(|w| {
            assert!(w.gone.is_none(), "the peer is gone, and has taken blocks along");
            loan += 1;
            assert!(loan < 256, "a block is lost");
            (0..w.layout.granules(w.victim) as u64).for_each(|at| w.mark(at, loan as u8));
        });
    }
    let stats = peer.arena_stats();
    assert_eq!((stats.used, stats.blocks), (0, 0));
    let all = vmffi::SharedBuf::with_capacity(peer, stats.capacity);
    drop(all.expect("all memory as one block"));
}

/// Forgets a run.
pub fn forget() {
    WORLD.set(None);
}

pub fn scalar() -> u64 {
    with(|w| w.feed.scalar())
}

pub fn pick<T: Copy>(from: &[T]) -> T {
    with(|w| w.feed.pick(from))
}

pub fn rarely(n: u8) -> bool {
    with(|w| w.feed.rarely(n))
}

pub fn find(signature: u64) -> Option<&'static Fun> {
    FUNCTIONS.iter().find(|fun| fun.function.signature == signature)
}

/// A handler begins: it has been called with this, and may do as it likes.
pub fn entered(name: &str, seen: Vec<u8>, handles: Vec<Handle>, peer: &Peer) {
    with(|w| {
        let Some(Call::Served { fun: Some(fun), expect }) = w.calls.last_mut() else {
            panic!("{name} runs, and was not called");
        };
        assert_eq!(fun.function.name, name);
        let Expect::Reached(right, lent) = std::mem::replace(expect, Expect::Running) else {
            panic!("{name} runs, and should have been refused");
        };
        assert_eq!(seen, right, "{name}");
        w.keep(handles, lent);
        w.juggle();
    });
    while with(|w| !w.feed.is_empty() && w.feed.rarely(3)) {
        call_out(peer);
        with(World::juggle);
    }
}

/// A handler ends like this.
pub fn left(outcome: Outcome) {
    with(|w| {
        let Some(Call::Served { expect, .. }) = w.calls.last_mut() else { panic!("no handler") };
        *expect = Expect::Done(outcome);
        if w.gone.is_some() {
            // Nobody will see the answer.
            w.calls.pop();
        }
    });
}

/// The victim calls any function.
pub fn call_out(peer: &Peer) {
    let nth = with(|w| w.feed.below(FUNCTIONS.len() + 2));
    (FUNCTIONS.get(nth).unwrap_or(&HAS).call)(peer);
}

/// The victim is about to call.
pub fn calls(fun: &'static Fun, sent: Vec<u8>) {
    with(|w| {
        w.calls.push(Call::Made { fun, sent, arrived: false, words: Vec::new(), result: None })
    });
}

/// The victim's call has ended like this.
pub fn called(outcome: Result<Outcome, CallError>, handles: Vec<Handle>) {
    let outcome = outcome.unwrap_or_else(|error| Outcome::Failed(error.why(), error.reached()));
    with(|w| {
        let depth = w.calls.len() as u32;
        let Some(Call::Made { fun, arrived, words, result, .. }) = w.calls.pop() else {
            panic!("no call was made");
        };
        let name = fun.function.name;
        if matches!(outcome, Outcome::Failed(_, false)) {
            // What was lent is the victim's again.
            w.loans.retain(|(word, _)| !words.contains(word));
        }
        match result {
            Some(right) => {
                assert_eq!(outcome, right.outcome, "{name}");
                w.keep(handles, right.lent);
            }
            None => {
                assert!(!arrived);
                let Outcome::Failed(why, false) = outcome else { panic!("{name}: {outcome:?}") };
                let fine = why == Why::OutOfMemory
                    || why == Why::TooDeep && depth > MAX_DEPTH
                    || Some(why) == w.gone;
                assert!(fine, "{name}: {why:?}");
            }
        }
    });
}

impl World {
    /// The arena of a side.
    pub fn view(&self, side: Side) -> View {
        let (start, len) = self.layout.arena(side);
        View { base: self.pages.base(), start, len }
    }

    fn raw(&mut self, at: u64, byte: u8) {
        assert!(at < self.layout.len());
        // SAFETY: within the region, and nobody has a reference to what the attacker may write to.
        unsafe { self.pages.base().add(at as usize).write_volatile(byte) };
    }

    /// The attacker writes to its arena, as much as lies in it.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (start, len) = self.layout.arena(self.victim.other());
        for (offset, byte) in (offset..).zip(bytes) {
            if let Some(at) = offset.checked_sub(start).filter(|at| *at < len) {
                self.shadow[at as usize] = *byte;
                self.raw(offset, *byte);
            }
        }
    }

    /// The attacker marks a block of the victim's.
    fn mark(&mut self, granule: u64, loan: u8) {
        let start = self.layout.arena(self.victim).0;
        let word = pointer::join(start + granule * vmffi::GRANULE as u64, loan);
        self.loans.retain(|(lent, _)| *lent != word);
        self.raw(self.layout.release_map(self.victim) + granule, loan);
    }

    fn granule(&self, side: Side, word: u64) -> u64 {
        (pointer::offset(word) - self.layout.arena(side).0) / vmffi::GRANULE as u64
    }

    /// The victim gives these back, in whatever order.
    fn gives(&mut self, blocks: &[(u64, usize)]) {
        self.sync();
        for (word, _) in blocks.iter().filter(|(word, _)| pointer::loan(*word) != 0) {
            self.due.push((self.granule(self.victim.other(), *word), pointer::loan(*word)));
        }
    }

    /// The memory is as it should be: the victim writes nothing to the attacker's but marks, and nothing
    /// to what it has lent.
    fn sync(&mut self) {
        let attacker = self.victim.other();
        let View { base, start, len } = self.view(attacker);
        // SAFETY: within the region, and nobody else runs.
        let arena = unsafe { std::slice::from_raw_parts(base.add(start as usize), len as usize) };
        assert!(arena == self.shadow, "somebody else wrote to the attacker's arena");
        let map = self.layout.release_map(attacker) as usize;
        // SAFETY: as above.
        let map = unsafe { std::slice::from_raw_parts(base.add(map), self.marks.len()) };
        for (granule, loan) in &self.due {
            // One of the marks that were due for the same granule is the last.
            let found = map[*granule as usize];
            let fine = self.due.contains(&(*granule, found));
            assert!(fine, "granule {granule}: loan {loan} was not given back, but {found}");
            self.marks[*granule as usize] = found;
        }
        assert!(map == self.marks, "a mark that should not be there");
        self.due.clear();
        let view = self.view(self.victim);
        for (word, bytes) in &self.loans {
            let found = view.read(pointer::offset(*word), bytes.len());
            assert!(found == *bytes, "loan {word:#x} has changed");
        }
    }

    /// Takes handles in, and drops some at once.
    fn keep(&mut self, handles: Vec<Handle>, lent: Vec<Lent>) {
        assert_eq!(handles.len(), lent.len());
        for (mut handle, lent) in handles.into_iter().zip(lent) {
            handle.lent = Some(lent);
            self.kept.push(handle);
            if !self.feed.rarely(3) {
                self.drop_kept(self.kept.len() - 1);
            }
        }
    }

    fn drop_kept(&mut self, nth: usize) {
        let handle = self.kept.remove(nth);
        let lent = handle.lent.expect("set when it was kept");
        // Its bytes may have changed since it came, and are read again.
        let (mut seen, mut right) = (Vec::new(), Vec::new());
        (handle.look)(&mut seen);
        lent.look(self.view(self.victim.other()), &mut right);
        assert_eq!(seen, right, "{lent:?}");
        self.gives(&[(lent.word, lent.len)]);
        drop(handle);
        self.sync();
    }

    /// Drops all that was kept, at the end.
    pub fn drop_all(&mut self) {
        self.sync();
        assert!(self.calls.is_empty());
        while !self.kept.is_empty() {
            self.drop_kept(0);
        }
    }

    /// Drops some of what was kept.
    pub fn juggle(&mut self) {
        while !self.kept.is_empty() && (self.kept.len() > 12 || self.feed.rarely(4)) {
            let nth = self.feed.below(self.kept.len());
            self.drop_kept(nth);
        }
    }

    /// Whether the victim has called, and waits for an answer.
    pub fn asked(&self) -> bool {
        matches!(self.calls.last(), Some(Call::Made { .. }))
    }

    /// Whether the attacker has called, and waits for an answer.
    pub fn serves(&self) -> bool {
        matches!(self.calls.last(), Some(Call::Served { .. }))
    }

    /// The attacker is called.
    pub fn on_call(&mut self, signature: u64, t: Transport) {
        self.sync();
        let view = self.view(self.victim);
        let depth = self.calls.len();
        let Some(Call::Made { fun, sent, arrived, .. }) = self.calls.last_mut() else {
            panic!("nobody has called");
        };
        assert!(!std::mem::replace(arrived, true));
        assert!(depth <= MAX_DEPTH as usize);
        assert_eq!(signature, fun.function.signature);
        let mut judge = Judge::new(view);
        judge.strict = true;
        assert_eq!(judge.parameters(fun.parameters, t), Ok(()), "{}", fun.function);
        assert_eq!(judge.seen, *sent, "{}", fun.function);
        let all = self.learn(&judge);
        if let Some(Call::Made { words, .. }) = self.calls.last_mut() {
            *words = all;
        }
    }

    /// The victim has lent these: nobody else has them.
    fn learn(&mut self, judge: &Judge) -> Vec<u64> {
        let view = self.view(self.victim);
        let lent = judge.lent.iter().map(|lent| (lent.word, lent.len));
        let all = judge.given.iter().copied().chain(lent).filter(|(word, _)| *word != 0);
        let all = all.collect::<Vec<_>>();
        let places = |word: u64, len: usize| {
            let granule = self.granule(self.victim, word);
            granule..granule + len.div_ceil(vmffi::GRANULE) as u64
        };
        for (nr, (word, len)) in all.iter().enumerate() {
            let place = places(*word, *len);
            let lent = self.loans.iter().map(|(word, bytes)| places(*word, bytes.len()));
            let others = all[..nr].iter().map(|(word, len)| places(*word, *len));
            for other in lent.chain(others) {
                let apart = place.end <= other.start || other.end <= place.start;
                assert!(apart, "{word:#x} is lent, and somebody has it");
            }
        }
        for (word, len) in &all {
            self.known.push(*word);
            self.loans.push((*word, view.read(pointer::offset(*word), *len)));
        }
        all.into_iter().map(|(word, _)| word).collect()
    }

    /// The attacker is answered.
    pub fn on_answer(&mut self, answer: Answer) {
        self.sync();
        let view = self.view(self.victim);
        let Some(Call::Served { fun, expect }) = self.calls.pop() else {
            panic!("nobody has asked");
        };
        let name = fun.map_or("no function", |fun| fun.function.name);
        let (ty, right, status) = match (expect, fun) {
            (Expect::Answer(right), _) => {
                assert_eq!(answer, right, "{name}");
                return;
            }
            (Expect::Done(Outcome::Value(right)), Some(fun)) => (&fun.ok, right, 0),
            (Expect::Done(Outcome::App(right)), Some(Fun { err: Some(err), .. })) => {
                (err, right, 1)
            }
            (Expect::Done(Outcome::Failed(why, true)), _) => {
                assert_eq!(answer, Answer::status(why as u64 | 64), "{name}");
                return;
            }
            _ => panic!("{name} should have been reached"),
        };
        if answer == Answer::status(64 | Why::OutOfMemory as u64) {
            // For the wire form of what was returned, or for a buffer in it.
            return;
        }
        let mut judge = Judge::new(view);
        judge.strict = true;
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(judge.transport(ty, answer.transport), Ok(()), "{name}");
        assert_eq!(judge.seen, right, "{name}");
        self.learn(&judge);
    }

    /// The attacker calls with these words: what must come of it?
    fn expect_call(&mut self, signature: u64, t: Transport) {
        let refused = |why: Why| Expect::Answer(Answer::status(why as u64));
        let fun = find(signature);
        let expect = match fun {
            _ if self.calls.len() >= MAX_DEPTH as usize => refused(Why::TooDeep),
            _ if signature == signature::HAS => match t.secondary {
                0 => {
                    let has = u64::from(find(t.primary).is_some());
                    Expect::Answer(Answer { status: 0, transport: Transport::word(has) })
                }
                _ => refused(Why::BadValue),
            },
            _ if signature == signature::MEET && self.victim == Side::Host => {
                let view = self.view(Side::Guest);
                let bytes = match t.secondary {
                    0 => Ok(Vec::new()),
                    len => view.check(t.primary, len, 1).map(|at| view.read(at, len as usize)),
                };
                if bytes.is_ok() && t.secondary != 0 {
                    self.gives(&[(t.primary, t.secondary as usize)]);
                }
                match bytes {
                    Err(why) => refused(why),
                    Ok(bytes) if super::contract::fits(&bytes) => Expect::Answer(Answer::status(0)),
                    Ok(_) => {
                        // It gets no answer, and is not resumed.
                        self.misfit = true;
                        self.lose(Why::VersionMismatch);
                        return;
                    }
                }
            }
            None => refused(Why::UnknownFunction),
            Some(fun) => {
                let mut judge = Judge::new(self.view(self.victim.other()));
                let judged = judge.parameters(fun.parameters, t);
                self.gives(&judge.given);
                match judged {
                    Ok(()) => Expect::Reached(judge.seen, judge.lent),
                    Err(why) => refused(why),
                }
            }
        };
        self.calls.push(Call::Served { fun, expect });
    }

    /// The attacker answers with these words: what does the victim get?
    fn expect_answer(&mut self, answer: Answer) {
        let mut judge = Judge::new(self.view(self.victim.other()));
        let Some(Call::Made { fun, result, .. }) = self.calls.last_mut() else { return };
        let (status, t) = (answer.status, answer.transport);
        let mut judged = |ty, as_outcome: fn(Vec<u8>) -> Outcome| match judge.transport(ty, t) {
            Ok(()) => as_outcome(judge.seen.clone()),
            Err(why) => Outcome::Failed(why, true),
        };
        let outcome = match (status, *fun) {
            (0, fun) => judged(&fun.ok, Outcome::Value),
            (1, Fun { err: Some(err), .. }) => judged(err, Outcome::App),
            (2..=15 | 66..=79, _) => {
                Outcome::Failed(WHYS[(status as usize & 63) - 2], status >= 64)
            }
            _ => Outcome::Failed(Why::Protocol, true),
        };
        *result = Some(Returned { outcome, lent: judge.lent });
        let given = judge.given;
        self.gives(&given);
    }

    /// The calls that are under way end with this, and there will be no others.
    pub fn lose(&mut self, why: Why) {
        self.gone = Some(why);
        self.loans.clear();
        for call in &mut self.calls {
            if let Call::Made { result, .. } = call {
                let outcome = Outcome::Failed(why, true);
                *result = Some(Returned { outcome, lent: Vec::new() });
            }
        }
    }

    /// Nobody claims the trap that a guest's call is.
    pub fn unclaimed(&mut self) {
        if let Some(Call::Made { result, .. }) = self.calls.last_mut() {
            let outcome = Outcome::Failed(Why::Unsupported, false);
            *result = Some(Returned { outcome, lent: Vec::new() });
        }
    }

    /// The attacker has the word.
    pub fn play(&mut self) -> Move {
        self.sync();
        let step = self.choose();
        match step {
            Move::Call(signature, t) => self.expect_call(signature, t),
            Move::Answer(answer) => self.expect_answer(answer),
            // Whether these are fine depends on who plays.
            Move::Ready | Move::Exit(_) | Move::Odd(_) | Move::Fail(_) => {}
        }
        step
    }

    fn choose(&mut self) -> Move {
        let guest = self.victim == Side::Host;
        if std::mem::take(&mut self.friendly) {
            return Move::Answer(Answer::status(0));
        }
        while !self.feed.is_empty() {
            match self.feed.below(16) {
                0 => {
                    let (at, len) = (self.place(1, 1), self.feed.below(24));
                    let bytes = (0..len).map(|_| self.feed.byte()).collect::<Vec<_>>();
                    self.write(at, &bytes);
                }
                1 if !self.known.is_empty() => {
                    let nth = self.feed.below(self.known.len().min(256));
                    let word = self.known[self.known.len() - 1 - nth];
                    self.mark(self.granule(self.victim, word), pointer::loan(word));
                }
                2 => {
                    let granule = self.feed.below(self.layout.granules(self.victim)) as u64;
                    let loan = self.feed.byte();
                    self.mark(granule, loan);
                }
                3 => match self.feed.below(16) {
                    0 if guest => return Move::Exit(self.feed.scalar()),
                    1 if guest => return Move::Ready,
                    2 => return Move::Odd(self.feed.number(8)),
                    3 => return Move::Odd(self.feed.pick(&if guest { ANSWERS } else { TRAPS })),
                    4 if guest => return Move::Fail(self.feed.pick(&WHYS)),
                    5 => return Move::Answer(Answer { status: self.feed.scalar(), ..self.any() }),
                    _ => {}
                },
                4..=9 => {
                    let (signature, transport) = self.forge_call();
                    return Move::Call(signature, transport);
                }
                10..=14 if self.asked() => {
                    let Some(Call::Made { fun, .. }) = self.calls.last() else { continue };
                    let fun = *fun;
                    return Move::Answer(self.forge_answer(fun));
                }
                15 if !self.asked() => break,
                _ => {}
            }
        }
        match () {
            () if self.asked() || !guest => Move::Answer(Answer::status(0)),
            () if self.closing => Move::Exit(0),
            () => Move::Ready,
        }
    }

    fn any(&mut self) -> Answer {
        let transport = Transport { primary: self.feed.number(8), secondary: self.feed.number(8) };
        Answer { status: 0, transport }
    }
}

/// What no guest says, and what no host says.
const ANSWERS: [u64; 4] = [answer::ANSWER, answer::UPCALL, 0, trap::CALL | 1 << 32];
const TRAPS: [u64; 4] = [trap::CALL, trap::RETURN, trap::READY, trap::EXIT];

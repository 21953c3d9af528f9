//! One run: the memory, the choices, the calls in progress, and the expected outcome of each.
//!
//! One thread runs all of it. Handlers, traps and vCPUs reach it through the functions below; it is never
//! borrowed during a call into the crate, except to drop or read a handle.

use std::{cell::RefCell, sync::Arc};

use vmffi::{
    CallError, ErrorKind, MAX_DEPTH, PAGE_SIZE, Peer, RegionLayout,
    abi::{Answer, Side, pointer},
};

use super::{
    batch::{made::Asked, served::Batch},
    feed::Feed,
    model::{Lent, View},
    types::{BATCH, FUNCTIONS, Fun, HAS, OLD},
};

/// By status, from 2 on (ABI, "Statuses").
pub const WHYS: [ErrorKind; 14] = [
    ErrorKind::UnknownFunction,
    ErrorKind::BadPointer,
    ErrorKind::BadValue,
    ErrorKind::OutOfMemory,
    ErrorKind::TooDeep,
    ErrorKind::Busy,
    ErrorKind::Cancelled,
    ErrorKind::VersionMismatch,
    ErrorKind::Unsupported,
    ErrorKind::PeerPanicked,
    ErrorKind::PeerDied,
    ErrorKind::Stale,
    ErrorKind::Refused,
    ErrorKind::Protocol,
];

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Success, with the bytes that the caller sees of the value.
    Value(Vec<u8>),
    /// With the declared error.
    App(Vec<u8>),
    /// A reason, and whether the function was reached.
    Failed(ErrorKind, bool),
}

/// Appends what is seen of a handle.
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
        let layout = std::alloc::Layout::from_size_align(len, PAGE_SIZE as usize).expect("a size");
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

/// A call in progress.
pub enum Call {
    /// The attacker calls.
    Served { fun: Option<&'static Fun>, expect: Expect },
    /// The victim calls.
    Made {
        fun: &'static Fun,
        sent: Vec<u8>,
        arrived: bool,
        /// The pointer words that the call lends.
        words: Vec<u64>,
        result: Option<Returned>,
    },
    /// The victim makes a batch.
    Asked(Box<Asked>),
}

impl Call {
    /// The victim's call fails.
    pub fn fails(&mut self, why: ErrorKind, reached: bool) {
        match self {
            Self::Served { .. } => {}
            Self::Made { result, .. } => {
                let outcome = Outcome::Failed(why, reached);
                *result = Some(Returned { outcome, lent: Vec::new() });
            }
            Self::Asked(asked) => asked.result = Some(Err((why, reached))),
        }
    }
}

/// The expected outcome of a call that the attacker makes.
pub enum Expect {
    /// This answer, and no handler is reached.
    Answer(Answer),
    /// A handler is reached, and sees this.
    Reached(Vec<u8>, Vec<Lent>),
    /// A handler runs.
    Running,
    /// The handler has returned this.
    Done(Outcome),
    /// Entries are served one by one.
    Batch(Box<Batch>),
}

/// The expected outcome of a call that the victim makes.
pub struct Returned {
    pub outcome: Outcome,
    pub lent: Vec<Lent>,
}

/// The size of each arena in bytes.
const ARENA: u64 = 2 * PAGE_SIZE;

pub struct World {
    pub feed: Feed,
    pub pages: Arc<Pages>,
    pub layout: RegionLayout,
    /// The crate's side; the fuzzer plays the other one.
    pub victim: Side,
    pub calls: Vec<Call>,
    /// Why no calls reach the attacker: it is not connected yet, or has ended.
    pub gone: Option<ErrorKind>,
    /// The guest exits when the input ends.
    pub closing: bool,
    /// Whether a vCPU has been run.
    pub started: bool,
    /// The guest has sent a contract that matches.
    pub matched: bool,
    /// The contracts of guest and host do not match.
    pub misfit: bool,
    /// The attacker sends only valid words, for now.
    pub calm: bool,
    /// The attacker answers the next call correctly.
    pub friendly: bool,
    /// The status with which the attacker has exited, or has resumed the victim.
    pub ended: Option<u64>,
    kept: Vec<Handle>,
    /// All words that the victim has sent.
    pub known: Vec<u64>,
    /// Loans of the victim that have not ended: their words and their bytes, which must not change.
    pub loans: Vec<(u64, Vec<u8>)>,
    /// A copy of the attacker's arena as the attacker has left it.
    shadow: Vec<u8>,
    /// The release map for that arena at the last check.
    marks: Vec<u8>,
    /// Marks that the victim leaves before the next check: granules and numbers of loans.
    pub due: Vec<(u64, u8)>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

pub fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| f(world.as_mut().expect("a run is under way")))
}

/// A region's header for two sizes of arena, in words (ABI, "Region header").
pub fn header(guest: u64, host: u64) -> [u64; 9] {
    let map = |arena: u64| (arena / 64).next_multiple_of(PAGE_SIZE);
    let guest_map = PAGE_SIZE + map(host);
    let guest_at = guest_map + map(guest);
    let host_at = guest_at + guest;
    let magic = u64::from_le_bytes(*b"VMFFI\0\0\0");
    [magic, 1, host_at + host, guest_at, guest, host_at, host, guest_map, PAGE_SIZE]
}

/// Begins a run.
pub fn begin(data: &[u8], victim: Side) -> (RegionLayout, Arc<Pages>) {
    let layout = RegionLayout::new(ARENA, ARENA).expect("sizes");
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
        matched: false,
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

/// Ends a run: the attack is over, and all handles are dropped. The victim must have lost no block: `peer`
/// is the peer through which it allocates.
pub fn end(peer: &Peer) {
    with(World::drop_all);
    let mut loan = 0;
    while peer.arena_stats().blocks != 0 {
        with(|w| {
            assert!(w.gone.is_none(), "the peer is gone, and its loans have not ended");
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

/// A handler begins with these arguments, and may do anything.
pub fn entered(name: &str, seen: Vec<u8>, handles: Vec<Handle>, peer: &Peer) {
    with(|w| {
        let Some((fun, expect)) = w.served() else { panic!("{name} runs, and was not called") };
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

/// A handler ends with this outcome.
pub fn left(outcome: Outcome) {
    with(|w| {
        match w.calls.last_mut() {
            Some(Call::Served { expect: Expect::Batch(_), .. }) => return w.entry_left(outcome),
            Some(Call::Served { expect, .. }) => *expect = Expect::Done(outcome),
            _ => panic!("no handler"),
        }
        if w.gone.is_some() {
            // No answer reaches the caller.
            w.calls.pop();
        }
    });
}

/// The victim calls a function that the input chooses.
pub fn call_out(peer: &Peer) {
    let fun = with(|w| match w.feed.below(OLD + 2) {
        nth if nth < OLD => &FUNCTIONS[nth],
        OLD => &HAS,
        _ => match OLD + w.feed.below(FUNCTIONS.len() - OLD + 4) {
            nth if nth < FUNCTIONS.len() => &FUNCTIONS[nth],
            _ => &BATCH,
        },
    });
    (fun.call)(peer);
}

/// The victim is about to call.
pub fn calls(fun: &'static Fun, sent: Vec<u8>) {
    with(|w| {
        w.calls.push(Call::Made { fun, sent, arrived: false, words: Vec::new(), result: None })
    });
}

/// The victim's call has ended with this outcome.
pub fn called(outcome: Result<Outcome, CallError>, handles: Vec<Handle>) {
    let outcome = outcome.unwrap_or_else(|error| Outcome::Failed(error.kind(), error.reached()));
    with(|w| {
        let depth = w.calls.len() as u32;
        let Some(Call::Made { fun, arrived, words, result, .. }) = w.calls.pop() else {
            panic!("no call was made");
        };
        let name = fun.function.name;
        // If the function was not reached, the loans have ended; a word without a loan's number never lent anything.
        let failed = matches!(outcome, Outcome::Failed(_, false));
        w.loans.retain(|(word, _)| !words.contains(word) || !failed && pointer::loan(*word) != 0);
        match result {
            Some(right) => {
                assert_eq!(outcome, right.outcome, "{name}");
                w.keep(handles, right.lent);
            }
            None => {
                assert!(!arrived);
                let Outcome::Failed(why, false) = outcome else { panic!("{name}: {outcome:?}") };
                let fine = why == ErrorKind::OutOfMemory
                    || why == ErrorKind::TooDeep && depth > MAX_DEPTH
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
        // SAFETY: the range is within the region, and no reference covers memory that the attacker may write.
        unsafe { self.pages.base().add(at as usize).write_volatile(byte) };
    }

    /// The attacker writes to its arena; bytes outside of it are omitted.
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
    pub fn mark(&mut self, granule: u64, loan: u8) {
        let start = self.layout.arena(self.victim).0;
        let word = pointer::join(start + granule * vmffi::GRANULE_SIZE as u64, loan);
        self.marked(granule, loan);
        self.loans.retain(|(lent, _)| *lent != word);
        self.raw(self.layout.release_map(self.victim) + granule, loan);
    }

    pub fn granule(&self, side: Side, word: u64) -> u64 {
        (pointer::offset(word) - self.layout.arena(side).0) / vmffi::GRANULE_SIZE as u64
    }

    /// The victim releases these, in any order.
    pub fn gives(&mut self, blocks: &[(u64, usize)]) {
        self.sync();
        self.owe(blocks);
    }

    /// The same, before the victim has released what it owes already.
    pub fn owe(&mut self, blocks: &[(u64, usize)]) {
        for (word, _) in blocks.iter().filter(|(word, _)| pointer::loan(*word) != 0) {
            self.due.push((self.granule(self.victim.other(), *word), pointer::loan(*word)));
        }
    }

    /// Checks the memory: the victim writes to the attacker's arena nothing but marks, and nothing
    /// to memory that it has lent.
    pub fn sync(&mut self) {
        let attacker = self.victim.other();
        let View { base, start, len } = self.view(attacker);
        // SAFETY: the range is within the region, and no other thread runs.
        let arena = unsafe { std::slice::from_raw_parts(base.add(start as usize), len as usize) };
        assert!(arena == self.shadow, "the attacker's arena was overwritten");
        let map = self.layout.release_map(attacker) as usize;
        // SAFETY: as above.
        let map = unsafe { std::slice::from_raw_parts(base.add(map), self.marks.len()) };
        for (granule, loan) in &self.due {
            // If several marks were due for one granule, one of them is the last.
            let found = map[*granule as usize];
            let fine = self.due.contains(&(*granule, found));
            assert!(fine, "granule {granule}: loan {loan} was not released; the mark is {found}");
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

    /// Keeps some handles, and drops the others at once.
    pub fn keep(&mut self, handles: Vec<Handle>, lent: Vec<Lent>) {
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
        let lent = handle.lent.expect("set when the handle was kept");
        // The bytes may have changed since the handle arrived, and are read again.
        let (mut seen, mut right) = (Vec::new(), Vec::new());
        (handle.look)(&mut seen);
        lent.look(self.view(self.victim.other()), &mut right);
        assert_eq!(seen, right, "{lent:?}");
        self.gives(&[(lent.word, lent.len)]);
        drop(handle);
        self.sync();
    }

    /// Drops all handles that were kept.
    pub fn drop_all(&mut self) {
        self.sync();
        assert!(self.calls.is_empty());
        while !self.kept.is_empty() {
            self.drop_kept(0);
        }
    }

    /// Drops some of the handles that were kept.
    pub fn juggle(&mut self) {
        while !self.kept.is_empty() && (self.kept.len() > 12 || self.feed.rarely(4)) {
            let nth = self.feed.below(self.kept.len());
            self.drop_kept(nth);
        }
    }
}

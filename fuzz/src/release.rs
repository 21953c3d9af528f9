//! Loans and marks against a plain model: which bytes of an arena are in use, and since when.
//!
//! Everything goes through the public interface of a loopback: blocks are allocated, dropped, lent by calls that
//! arrive and by calls that do not, released correctly, late, twice, or with the number of another loan, and recovered
//! by a reset.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use vmffi::{
    CallError, ErrorKind, FfiType, ForeignBuf, GRANULE_SIZE, Outgoing, PAGE_SIZE, Peer,
    RegionMemory, SendAs, SharedBuf,
    abi::{Answer, Side, Transport, pointer},
    loopback::Loopback,
};

use super::{feed::Feed, world::Pages};

vmffi::ffi_interface! {
    pub interface Depot {
        fn takes();
        fn refuses();
    }
}

struct Keeper;

impl Depot for Keeper {
    fn takes(&self, _: &Peer) -> Result<(), CallError> {
        Ok(())
    }
    fn refuses(&self, _: &Peer) -> Result<(), CallError> {
        Err(CallError::refused())
    }
}

vmffi::serve!(Keeper: Depot);

const ARENA: u64 = PAGE_SIZE;
const GRANULES: usize = ARENA as usize / GRANULE_SIZE;

/// A block in use.
struct Block {
    at: usize,
    len: usize,
    /// The number of its loan, once it is lent.
    loan: Option<u8>,
    /// Until it is lent: the block itself, and the byte that fills it.
    buf: Option<(SharedBuf, u8)>,
}

/// The loans of one call, the latest last.
struct Lending<'p> {
    out: Outgoing<'p>,
    loans: Vec<(usize, u8)>,
}

struct Model<'p> {
    owner: &'p Peer,
    other: &'p Peer,
    lendings: Vec<Lending<'p>>,
    s: &'p mut State,
}

/// State that outlives a reset.
struct State {
    feed: Feed,
    pages: Arc<Pages>,
    /// The beginning of the owner's arena and of its release map.
    arena: usize,
    map: usize,
    blocks: Vec<Block>,
    handles: Vec<Handle>,
    /// How often a block was allocated at each granule.
    issued: [usize; GRANULES],
}

/// A handle of the receiver, the place of its block, and the number of the loan.
struct Handle {
    buf: ForeignBuf,
    at: usize,
    loan: u8,
    stale: bool,
}

impl State {
    fn mark(&self, at: usize) -> &AtomicU8 {
        // SAFETY: the byte is within the release map, and all accesses to it are atomic.
        unsafe { AtomicU8::from_ptr(self.pages.base().add(self.map + at)) }
    }

    fn marked(&self, block: &Block) -> bool {
        block.loan == Some(self.mark(block.at).load(Relaxed))
    }

    /// A reset ends every loan.
    fn reset(&mut self) {
        self.blocks.retain(|block| block.loan.is_none());
        for handle in &mut self.handles {
            handle.stale = true;
            let read = handle.buf.read_vec().map_err(|error| error.kind());
            assert_eq!(read, Err(ErrorKind::Stale));
        }
    }
}

impl<'p> Model<'p> {
    /// Makes the owner collect all marks.
    fn sweep(&mut self) {
        assert!(self.agrees(), "blocks are lost, or were freed too early");
    }

    fn agrees(&mut self) -> bool {
        let stats = self.owner.arena_stats();
        let mut blocks = std::mem::take(&mut self.s.blocks);
        blocks.retain(|block| !self.s.marked(block));
        self.s.blocks = blocks;
        let used = self.s.blocks.iter().map(|block| block.len).sum::<usize>() * GRANULE_SIZE;
        (stats.used, stats.blocks) == (used, self.s.blocks.len())
    }

    fn alloc(&mut self) {
        let size = 1 + match self.s.feed.byte() {
            byte @ 0..0xc0 => usize::from(byte) * 3,
            byte => usize::from(byte - 0xc0) * GRANULE_SIZE,
        };
        let len = size.div_ceil(GRANULE_SIZE);
        let mut taken = [false; GRANULES];
        for block in self.s.blocks.iter().filter(|block| !self.s.marked(block)) {
            for granule in &mut taken[block.at..block.at + block.len] {
                assert!(!std::mem::replace(granule, true), "two blocks in one place");
            }
        }
        let room = taken.split(|taken| *taken).map(<[bool]>::len).max().unwrap_or(0);
        let mut buf = match SharedBuf::with_capacity(self.owner, size) {
            Ok(buf) => buf,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::OutOfMemory);
                assert!(
                    room < len,
                    "there is room for {room} granules, and {len} are not to be had"
                );
                return;
            }
        };
        let at = self.taken(&buf, len);
        assert!(!taken[at..at + len].contains(&true), "the block is already in use");
        let fill = self.s.feed.byte();
        buf.extend_from_slice(&vec![fill; size]).expect("room");
        self.s.blocks.push(Block { at, len, loan: None, buf: Some((buf, fill)) });
    }

    /// Records a new block, and returns its granule.
    fn taken(&mut self, buf: &SharedBuf, len: usize) -> usize {
        let place = buf.as_slice().as_ptr().addr() - self.s.pages.base().addr() - self.s.arena;
        assert_eq!(place % GRANULE_SIZE, 0);
        let at = place / GRANULE_SIZE;
        // Blocks that lay here were released, and the owner has collected their marks.
        self.s.blocks.retain(|block| block.at + block.len <= at || at + len <= block.at);
        self.s.issued[at] += 1;
        assert_eq!(self.s.mark(at).load(Relaxed), 0, "an old mark is left");
        at
    }

    fn pick_owned(&mut self) -> Option<usize> {
        let owned = |(_, block): &(usize, &Block)| block.buf.is_some();
        let all = self.s.blocks.iter().enumerate().filter(owned).map(|(nth, _)| nth);
        let all = all.collect::<Vec<_>>();
        if all.is_empty() { None } else { Some(self.s.feed.pick(&all)) }
    }

    fn lend(&mut self) {
        let Some(nth) = self.pick_owned() else { return };
        let block = &mut self.s.blocks[nth];
        let Some((buf, fill)) = block.buf.take() else { return };
        assert!(buf.as_slice().iter().all(|byte| *byte == fill), "the block was overwritten");
        if self.lendings.is_empty() || self.s.feed.rarely(2) {
            self.lendings.push(Lending { out: self.owner.outgoing(), loans: Vec::new() });
        }
        let Some(lending) = self.lendings.last_mut() else { return };
        let t: Transport = SendAs::<ForeignBuf>::into_transport(buf, &mut lending.out)
            .expect("a block of its own");
        let loan = pointer::loan(t.primary);
        assert_eq!(pointer::offset(t.primary) as usize, self.s.arena + block.at * GRANULE_SIZE);
        assert_eq!(
            usize::from(loan),
            (self.s.issued[block.at] - 1) % 255 + 1,
            "the loan's number is the next"
        );
        lending.loans.push((block.at, loan));
        block.loan = Some(loan);
        if !self.s.feed.rarely(4) {
            // SAFETY: the word was lent above, and this is its only handle.
            let from = unsafe { self.other.outgoing().incoming() };
            let handle = ForeignBuf::from_transport(t, from).expect("a loan");
            let bytes = handle.read_vec().expect("a loan");
            assert!(bytes.iter().all(|byte| *byte == fill), "not what was sent");
            self.s.handles.push(Handle { buf: handle, at: block.at, loan, stale: false });
        }
    }

    /// Ends a call that has lent blocks.
    fn call(&mut self) {
        if self.lendings.is_empty() {
            return;
        }
        let nth = self.s.feed.below(self.lendings.len());
        let Lending { out, loans } = self.lendings.remove(nth);
        // A block that is marked is a loan until its owner collects the mark, at any time.
        let marked = |(at, loan): &(usize, u8)| self.s.mark(*at).load(Relaxed) == *loan;
        if loans.iter().any(marked) {
            self.sweep();
        }
        let arrives = match self.s.feed.below(4) {
            0 | 1 => {
                let answer =
                    empty(self.owner, out, ParamsDepotTakes::FUNCTION.signature, Transport::EMPTY);
                assert_eq!(answer, Answer::status(0));
                true
            }
            2 => {
                let answer = empty(
                    self.owner,
                    out,
                    ParamsDepotRefuses::FUNCTION.signature,
                    Transport::EMPTY,
                );
                assert_eq!(answer, Answer::status(64 | ErrorKind::Refused as u64));
                true
            }
            _ if self.s.feed.rarely(2) => {
                drop(out);
                false
            }
            _ => {
                let answer = empty(self.owner, out, 99, Transport::EMPTY);
                assert_eq!(answer, Answer::status(ErrorKind::UnknownFunction as u64));
                false
            }
        };
        if !arrives {
            // The owner takes back all loans of the call, from the latest on. At one that has ended already the
            // list may end, since its link may belong to a later loan.
            for (at, loan) in loans.into_iter().rev() {
                let same = |block: &Block| block.at == at && block.loan == Some(loan);
                match self.s.blocks.iter().position(same) {
                    Some(nth) => drop(self.s.blocks.remove(nth)),
                    None if self.agrees() => break,
                    None => {}
                }
            }
        }
    }

    /// A byte of the release map is about to change. The owner collects marks first that would be
    /// overwritten.
    fn before_mark(&mut self, at: usize, value: u8) {
        if self.s.blocks.iter().any(|b| b.at == at && self.s.marked(b) && b.loan != Some(value)) {
            self.sweep();
        }
    }

    fn release(&mut self) {
        if self.s.handles.is_empty() {
            return;
        }
        let nth = self.s.feed.below(self.s.handles.len());
        let Handle { buf, at, loan, stale } = self.s.handles.swap_remove(nth);
        let before = self.s.mark(at).load(Relaxed);
        if !stale {
            self.before_mark(at, loan);
        }
        drop(buf);
        let found = self.s.mark(at).load(Relaxed);
        assert_eq!(found, if stale { before } else { loan }, "a handle leaves its mark, once");
    }

    /// Whether more can be done before a reset.
    fn step(&mut self) -> bool {
        match self.s.feed.below(16) {
            0..5 => self.alloc(),
            5 => {
                if let Some(nth) = self.pick_owned() {
                    let block = self.s.blocks.swap_remove(nth);
                    let fine = block
                        .buf
                        .is_some_and(|(buf, fill)| buf.as_slice().iter().all(|byte| *byte == fill));
                    assert!(fine, "the block was overwritten");
                }
            }
            6..9 => self.lend(),
            9 | 10 => self.call(),
            11 | 12 => self.release(),
            13 => {
                let at = self.s.feed.below(GRANULES);
                let loan = match self.s.feed.byte() {
                    // Numbers of other loans of this granule.
                    byte @ 0..0x80 => {
                        ((self.s.issued[at] + 256 - usize::from(byte % 4)) % 256) as u8
                    }
                    byte => byte,
                };
                self.before_mark(at, loan);
                self.s.mark(at).store(loan, Relaxed);
            }
            14 => {
                // A block is allocated and dropped until its loan numbers repeat.
                let Some(nth) = self.pick_owned() else { return true };
                let len = self.s.blocks.swap_remove(nth).len;
                for _ in 0..self.s.feed.byte() {
                    let buf = SharedBuf::with_capacity(self.owner, len * GRANULE_SIZE);
                    self.taken(&buf.expect("room for the one that was dropped"), len);
                }
            }
            _ if self.s.feed.rarely(4) => return false,
            _ => self.sweep(),
        }
        !self.s.feed.is_empty()
    }

    /// All loans are released by their own numbers; then no block is missing.
    fn end(mut self) {
        while !self.s.handles.is_empty() {
            self.release();
        }
        self.sweep();
        for block in &self.s.blocks {
            if let Some(loan) = block.loan {
                self.s.mark(block.at).store(loan, Relaxed);
            }
        }
        self.s.blocks.retain(|block| block.loan.is_some());
        self.sweep();
        let all = SharedBuf::with_capacity(self.owner, ARENA as usize);
        drop(all.expect("all memory as one block"));
    }
}

/// Runs an input.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let side = feed.pick(&[Side::Guest, Side::Host]);
    let layout = vmffi::RegionLayout::new(ARENA, ARENA).expect("sizes");
    let len = layout.len();
    let pages = Arc::new(Pages::new(len as usize));
    let keep = Box::new(pages.clone());
    let builder = Loopback::builder().arenas(ARENA, ARENA);
    // SAFETY: the pages outlive `keep`; only this thread writes to them, and to the release maps
    // atomically.
    let memory = unsafe { RegionMemory::new(pages.base(), len, keep) };
    let pair = builder.memory(memory).build(Keeper, Keeper);
    let mut pair = pair.expect("a region");
    let mut state = State {
        feed,
        pages,
        arena: layout.arena(side).0 as usize,
        map: layout.release_map(side) as usize,
        blocks: Vec::new(),
        handles: Vec::new(),
        issued: [0; GRANULES],
    };
    loop {
        let (owner, other) = match side {
            Side::Guest => (pair.host(), pair.guest()),
            Side::Host => (pair.guest(), pair.host()),
        };
        let mut model = Model { owner, other, lendings: Vec::new(), s: &mut state };
        while model.step() {}
        // Calls that have not arrived by now do not arrive.
        while !model.lendings.is_empty() {
            model.call();
        }
        if model.s.feed.is_empty() {
            return model.end();
        }
        model.sweep();
        drop(model);
        pair.reset();
        state.reset();
    }
}

/// The raw call of a function without parameters.
fn empty(peer: &Peer, out: Outgoing<'_>, signature: u64, transport: Transport) -> Answer {
    // SAFETY: the transport is empty.
    unsafe { peer.call_with(out, signature, transport) }
}

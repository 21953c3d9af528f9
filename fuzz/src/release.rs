//! Loans and marks against a plain model: which bytes of an arena are somebody's, and since when.
//!
//! All through the public interface of a loopback: blocks are allocated, dropped, lent by calls that
//! arrive and by calls that do not, given back rightly, late, twice, or in the place of others.

use vmffi::{
    CallError, FfiType, ForeignBuf, GRANULE, Outgoing, PAGE, Peer, SendAs, SharedBuf, Why,
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

const ARENA: u64 = PAGE;
const GRANULES: usize = ARENA as usize / GRANULE;

/// A block that is somebody's.
struct Block {
    at: usize,
    len: usize,
    /// Its number, once it is lent.
    loan: Option<u8>,
    /// Until it is lent: the block itself, and what is in it.
    buf: Option<(SharedBuf, u8)>,
}

/// What one call lends, the latest last.
struct Lending<'p> {
    out: Outgoing<'p>,
    loans: Vec<(usize, u8)>,
}

struct Model<'p> {
    feed: Feed,
    owner: &'p Peer,
    other: &'p Peer,
    pages: &'p Pages,
    /// Where the owner's arena and its release map begin.
    arena: usize,
    map: usize,
    blocks: Vec<Block>,
    lendings: Vec<Lending<'p>>,
    /// What the receiver has: the handle, its place and the number of the loan.
    handles: Vec<(ForeignBuf, usize, u8)>,
    /// How often a block at each granule was taken.
    issued: [usize; GRANULES],
}

impl<'p> Model<'p> {
    fn mark(&self, at: usize) -> &'p std::sync::atomic::AtomicU8 {
        // SAFETY: within the release map, which only ever is used as atomic bytes.
        unsafe { std::sync::atomic::AtomicU8::from_ptr(self.pages.base().add(self.map + at)) }
    }

    fn marked(&self, block: &Block) -> bool {
        block.loan == Some(self.mark(block.at).load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Has the owner look at everything.
    fn sweep(&mut self) {
        assert!(self.agrees(), "blocks are lost, or were freed too early");
    }

    fn agrees(&mut self) -> bool {
        let stats = self.owner.arena_stats();
        let mut blocks = std::mem::take(&mut self.blocks);
        blocks.retain(|block| !self.marked(block));
        self.blocks = blocks;
        let used = self.blocks.iter().map(|block| block.len).sum::<usize>() * GRANULE;
        (stats.used, stats.blocks) == (used, self.blocks.len())
    }

    fn alloc(&mut self) {
        let size = 1 + match self.feed.byte() {
            byte @ 0..0xc0 => usize::from(byte) * 3,
            byte => usize::from(byte - 0xc0) * GRANULE,
        };
        let len = size.div_ceil(GRANULE);
        let mut taken = [false; GRANULES];
        for block in self.blocks.iter().filter(|block| !self.marked(block)) {
            for granule in &mut taken[block.at..block.at + block.len] {
                assert!(!std::mem::replace(granule, true), "two blocks in one place");
            }
        }
        let room = taken.split(|taken| *taken).map(<[bool]>::len).max().unwrap_or(0);
        let mut buf = match SharedBuf::with_capacity(self.owner, size) {
            Ok(buf) => buf,
            Err(error) => {
                assert_eq!(error.why(), Why::OutOfMemory);
                assert!(
                    room < len,
                    "there is room for {room} granules, and {len} are not to be had"
                );
                return;
            }
        };
        let at = self.taken(&buf, len);
        assert!(!taken[at..at + len].contains(&true), "somebody else has this");
        let fill = self.feed.byte();
        buf.append(&vec![fill; size]).expect("room");
        self.blocks.push(Block { at, len, loan: None, buf: Some((buf, fill)) });
    }

    /// A block has been taken: its place.
    fn taken(&mut self, buf: &SharedBuf, len: usize) -> usize {
        let place = buf.as_slice().as_ptr().addr() - self.pages.base().addr() - self.arena;
        assert_eq!(place % GRANULE, 0);
        let at = place / GRANULE;
        // What was given back and lay here has been seen.
        self.blocks.retain(|block| block.at + block.len <= at || at + len <= block.at);
        self.issued[at] += 1;
        at
    }

    fn pick_owned(&mut self) -> Option<usize> {
        let owned = |(_, block): &(usize, &Block)| block.buf.is_some();
        let all = self.blocks.iter().enumerate().filter(owned).map(|(nth, _)| nth);
        let all = all.collect::<Vec<_>>();
        if all.is_empty() { None } else { Some(self.feed.pick(&all)) }
    }

    fn lend(&mut self) {
        let Some(nth) = self.pick_owned() else { return };
        let block = &mut self.blocks[nth];
        let Some((buf, fill)) = block.buf.take() else { return };
        assert!(buf.as_slice().iter().all(|byte| *byte == fill), "somebody else wrote here");
        if self.lendings.is_empty() || self.feed.rarely(2) {
            self.lendings.push(Lending { out: self.owner.outgoing(), loans: Vec::new() });
        }
        let Some(lending) = self.lendings.last_mut() else { return };
        let t: Transport = SendAs::<ForeignBuf>::into_transport(buf, &mut lending.out)
            .expect("a block of its own");
        let loan = pointer::loan(t.primary);
        assert_eq!(pointer::offset(t.primary) as usize, self.arena + block.at * GRANULE);
        assert_eq!(usize::from(loan), (self.issued[block.at] - 1) % 255 + 1, "the next number");
        lending.loans.push((block.at, loan));
        block.loan = Some(loan);
        if !self.feed.rarely(4) {
            let handle = ForeignBuf::from_transport(t, self.other.incoming()).expect("a loan");
            let bytes = handle.to_vec().expect("a loan");
            assert!(bytes.iter().all(|byte| *byte == fill), "not what was sent");
            self.handles.push((handle, block.at, loan));
        }
    }

    /// Ends a call that has lent something.
    fn call(&mut self) {
        if self.lendings.is_empty() {
            return;
        }
        let Lending { out, loans } = self.lendings.remove(self.feed.below(self.lendings.len()));
        // A block that is given back is still a loan until its owner looks, which is when it likes.
        let marked = |(at, loan): &(usize, u8)| {
            self.mark(*at).load(std::sync::atomic::Ordering::Relaxed) == *loan
        };
        if loans.iter().any(marked) {
            self.sweep();
        }
        let arrives = match self.feed.below(4) {
            0 | 1 => {
                let answer = out.call(ParamsDepotTakes::FUNCTION.signature, Transport::EMPTY);
                assert_eq!(answer, Answer::status(0));
                true
            }
            2 => {
                let answer = out.call(ParamsDepotRefuses::FUNCTION.signature, Transport::EMPTY);
                assert_eq!(answer, Answer::status(64 | Why::Refused as u64));
                true
            }
            _ if self.feed.rarely(2) => {
                drop(out);
                false
            }
            _ => {
                let answer = out.call(99, Transport::EMPTY);
                assert_eq!(answer, Answer::status(Why::UnknownFunction as u64));
                false
            }
        };
        if !arrives {
            // All are the owner's again, from the latest on. At one that it has had back before the
            // list may end: its links may be another loan's by now.
            for (at, loan) in loans.into_iter().rev() {
                let same = |block: &Block| block.at == at && block.loan == Some(loan);
                match self.blocks.iter().position(same) {
                    Some(nth) => drop(self.blocks.remove(nth)),
                    None if self.agrees() => break,
                    None => {}
                }
            }
        }
    }

    /// Something is about to change a byte of the release map. A mark that the owner has perhaps not
    /// seen yet must not get lost.
    fn before_mark(&mut self, at: usize, value: u8) {
        if self.blocks.iter().any(|b| b.at == at && self.marked(b) && b.loan != Some(value)) {
            self.sweep();
        }
    }

    fn give_back(&mut self) {
        if self.handles.is_empty() {
            return;
        }
        let nth = self.feed.below(self.handles.len());
        let (handle, at, loan) = self.handles.swap_remove(nth);
        self.before_mark(at, loan);
        drop(handle);
        let found = self.mark(at).load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(found, loan, "a handle leaves its mark");
    }

    fn step(&mut self) {
        match self.feed.below(16) {
            0..5 => self.alloc(),
            5 => {
                if let Some(nth) = self.pick_owned() {
                    let block = self.blocks.swap_remove(nth);
                    let fine = block
                        .buf
                        .is_some_and(|(buf, fill)| buf.as_slice().iter().all(|byte| *byte == fill));
                    assert!(fine, "somebody else wrote here");
                }
            }
            6..9 => self.lend(),
            9 | 10 => self.call(),
            11 | 12 => self.give_back(),
            13 => {
                let at = self.feed.below(GRANULES);
                let loan = match self.feed.byte() {
                    // Numbers that were or will be right here.
                    byte @ 0..0x80 => ((self.issued[at] + 256 - usize::from(byte % 4)) % 256) as u8,
                    byte => byte,
                };
                self.before_mark(at, loan);
                self.mark(at).store(loan, std::sync::atomic::Ordering::Relaxed);
            }
            14 => {
                // A block is taken and dropped so often that its numbers begin again.
                let Some(nth) = self.pick_owned() else { return };
                let len = self.blocks.swap_remove(nth).len;
                for _ in 0..self.feed.byte() {
                    let buf = SharedBuf::with_capacity(self.owner, len * GRANULE);
                    self.taken(&buf.expect("room for the one that was dropped"), len);
                }
            }
            _ => self.sweep(),
        }
    }
}

/// Runs an input.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let side = feed.pick(&[Side::Guest, Side::Host]);
    let layout = vmffi::Layout::new(ARENA, ARENA).expect("sizes");
    let len = layout.len();
    let pages = std::sync::Arc::new(Pages::new(len as usize));
    let keep = Box::new(pages.clone());
    let builder = Loopback::builder().arenas(ARENA, ARENA);
    // SAFETY: the pages live as long as `keep`; this thread alone writes there, to the release maps,
    // as atomics.
    let pair = unsafe { builder.build_in(pages.base(), len, keep, Keeper, Keeper) };
    let pair = pair.expect("a region");
    let (owner, other) = match side {
        Side::Guest => (pair.to_host(), pair.to_guest()),
        Side::Host => (pair.to_guest(), pair.to_host()),
    };
    let mut model = Model {
        feed,
        owner,
        other,
        pages: &pages,
        arena: layout.arena(side).0 as usize,
        map: layout.release_map(side) as usize,
        blocks: Vec::new(),
        lendings: Vec::new(),
        handles: Vec::new(),
        issued: [0; GRANULES],
    };
    while !model.feed.is_empty() {
        model.step();
    }
    // The end: all that is still lent is given back, by its right name.
    while !model.lendings.is_empty() {
        model.call();
    }
    while !model.handles.is_empty() {
        model.give_back();
    }
    model.sweep();
    for block in &model.blocks {
        if let Some(loan) = block.loan {
            model.mark(block.at).store(loan, std::sync::atomic::Ordering::Relaxed);
        }
    }
    model.blocks.retain(|block| block.loan.is_some());
    model.sweep();
    let all = SharedBuf::with_capacity(owner, ARENA as usize);
    drop(all.expect("all memory as one block"));
}

//! The guest's interface for its host's commands, and its requests to its host.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::sync::atomic::{AtomicU32, Ordering};

use vmffi::{CallError, ErrorKind, ForeignBuf, ForeignStr, Peer};

use super::{
    Check, Side, crimes,
    state::{Gifts, State},
};

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Used { capacity: u64, used: u64, blocks: u64 }

    /// Operations that the system denies to a guest. The host passes the address for those that have one.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Crime: u32 {
        Read, Write, Jump, Undefined, Divide, Overflow, SystemCall, Halt, Breakpoint, Narrow, Chatter,
    }

    /// What the guest offers to its host.
    pub interface Control {
        /// Runs one of the guest's checks against its host.
        fn check(nr: u32);
        /// The blocks in use in the guest's arena.
        fn used() -> Used;
        fn says(text: ForeignStr) -> u32;
        fn panics(text: ForeignStr);
        fn log(level: u8, text: ForeignStr);
        /// The address of a block of the host in the guest.
        fn place(bytes: ForeignBuf) -> u64;
        /// The address of a function of the guest.
        fn code() -> u64;
        fn commit(crime: Crime, place: u64);
        /// Tells the host that it begins, and never returns.
        fn spin();
        /// Computes for a time that is proportional to this number.
        fn work(rounds: u64) -> u64;
        /// Returns when this many calls of it are in progress at once.
        fn together(count: u32);
        /// Computes a sum, with one call of the host for each number.
        fn sum(count: u64) -> u64;
        /// Makes the host call back and then return a buffer; returns its length.
        fn calls_back() -> u64;
        /// Whether a panic in the host's handler is only an error here.
        fn host_panics() -> bool;
    }

    /// What the host offers to its guest.
    pub interface Errands {
        fn add(one: u64, two: u64) -> u64;
        fn panics(text: ForeignStr) -> ForeignBuf;
        fn spins();
        fn calls_back() -> ForeignBuf;
    }
}

/// The guest's server, in a machine or on the loopback.
pub struct Guest {
    kept: spin::Mutex<Vec<ForeignBuf>>,
    here: AtomicU32,
    /// Ends the guest, with a status and a text, if it can end.
    end: fn(u64, &str),
}

impl Guest {
    pub const fn new(end: fn(u64, &str)) -> Self {
        Self { kept: spin::Mutex::new(Vec::new()), here: AtomicU32::new(0), end }
    }
}

impl Side for Guest {
    fn kept(&self) -> &spin::Mutex<Vec<ForeignBuf>> {
        &self.kept
    }

    fn bottom(&self, what: u32) {
        match what {
            BOTTOM_EXIT => (self.end)(7, "from the bottom"),
            BOTTOM_PANIC => panic!("at the bottom"),
            BOTTOM_CRIME => crimes::commit(Crime::Undefined, 0),
            _ => {}
        }
    }
}

/// The values of `bottom`: what the innermost of nested calls does.
pub const BOTTOM_EXIT: u32 = 1;
/// The innermost call exits.
pub const BOTTOM_PANIC: u32 = 2;
/// The innermost call panics.
pub const BOTTOM_CRIME: u32 = 3;

impl Control for Guest {
    fn check(&self, host: &Peer, nr: u32) -> Result<(), CallError> {
        let check: Check = super::check(nr).ok_or(CallError::refused())?;
        super::run(check, host);
        Ok(())
    }
    fn used(&self, host: &Peer) -> Result<Used, CallError> {
        let stats = host.arena_stats();
        let (used, blocks) = (stats.used as u64, stats.blocks as u64);
        Ok(Used { capacity: stats.capacity as u64, used, blocks })
    }
    fn says(&self, _: &Peer, text: ForeignStr) -> Result<u32, CallError> {
        // Through the guest's heap.
        let boxed: Box<String> = Box::new(text.read_string()?);
        Ok(boxed.chars().map(u32::from).sum())
    }
    fn panics(&self, _: &Peer, text: ForeignStr) -> Result<(), CallError> {
        panic!("{}", text.read_string()?)
    }
    fn log(&self, _: &Peer, level: u8, text: ForeignStr) -> Result<(), CallError> {
        let text = text.read_string()?;
        let level = log::Level::iter().nth(usize::from(level) - 1).ok_or(CallError::refused())?;
        log::log!(target: "guest of the tests", level, "{text}");
        Ok(())
    }
    fn place(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        let at = bytes.as_slice()?.as_ptr().expose_provenance() as u64;
        self.kept.lock().push(bytes);
        Ok(at)
    }
    fn code(&self, _: &Peer) -> Result<u64, CallError> {
        let code: fn() = crimes::undefined;
        Ok(code as usize as u64)
    }
    fn commit(&self, _: &Peer, crime: Crime, place: u64) -> Result<(), CallError> {
        crimes::commit(crime, place);
        Ok(())
    }
    fn spin(&self, host: &Peer) -> Result<(), CallError> {
        ErrandsClient::from(host).spins()?;
        loop {
            core::hint::spin_loop();
        }
    }
    fn work(&self, _: &Peer, rounds: u64) -> Result<u64, CallError> {
        Ok((0..rounds).fold(1, |sum, nr| core::hint::black_box(nr.wrapping_add(sum))))
    }
    fn together(&self, _: &Peer, count: u32) -> Result<(), CallError> {
        self.here.fetch_add(1, Ordering::AcqRel);
        while self.here.load(Ordering::Acquire) < count {
            core::hint::spin_loop();
        }
        Ok(())
    }
    fn sum(&self, host: &Peer, count: u64) -> Result<u64, CallError> {
        let host = ErrandsClient::from(host);
        (1..=count).try_fold(0, |sum, nr| host.add(sum, nr))
    }
    fn calls_back(&self, host: &Peer) -> Result<u64, CallError> {
        Ok(ErrandsClient::from(host).calls_back()?.len() as u64)
    }
    fn host_panics(&self, host: &Peer) -> Result<bool, CallError> {
        let before = host.arena_stats();
        let host_does = ErrandsClient::from(host);
        let error = host_does.panics("a text").unwrap_err();
        let panicked = (error.kind(), error.reached()) == (ErrorKind::PeerPanicked, true);
        Ok(panicked && host.arena_stats() == before && host_does.add(2, 3) == Ok(5))
    }
}

super::serve_side!(Guest: Control, State; calls Errands, Gifts);

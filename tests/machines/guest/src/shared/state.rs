//! State of a guest that a reset must restore.

use core::sync::atomic::{AtomicU64, Ordering};

use vmffi::{CallError, ForeignBuf, Peer, SharedBuf};

use super::{control::Guest, native};

vmffi::ffi_interface! {
    /// Registers that no code of the guest uses: on x86_64 the rounding modes of vector and x87 instructions, and the high
    /// half of an AVX register, if there is AVX; elsewhere the rounding mode, and the register of the thread.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Registers { rounding: u32, x87: u16, other: u64 }

    /// The number of the guest's life, with the first bytes of its seed; zeros if lives are not distinguished.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Life { generation: u64, seed: u64 }

    pub interface State {
        /// Adds to a number in the guest's memory, and returns it.
        fn count(more: u64) -> u64;
        /// Writes this many bytes of the guest's heap, and keeps them.
        fn fill(len: u64);
        /// Changes those registers, if `change`, and returns their contents.
        fn registers(change: bool) -> Registers;
        /// The gift that the guest got from its host during startup.
        fn gift() -> ForeignBuf;
        fn life() -> Life;
        /// The processor's counter of time.
        fn ticks() -> u64;
    }

    pub interface Gifts {
        fn gift() -> Option<ForeignBuf>;
    }
}

static COUNT: AtomicU64 = AtomicU64::new(3);
/// The gift that the guest got from its host during startup.
pub static GIFT: spin::Mutex<Option<ForeignBuf>> = spin::Mutex::new(None);

impl State for Guest {
    fn count(&self, _: &Peer, more: u64) -> Result<u64, CallError> {
        Ok(COUNT.fetch_add(more, Ordering::Relaxed) + more)
    }
    fn fill(&self, _: &Peer, len: u64) -> Result<(), CallError> {
        alloc::vec![0xee_u8; len as usize].leak();
        Ok(())
    }
    fn registers(&self, _: &Peer, change: bool) -> Result<Registers, CallError> {
        Ok(native::registers(change))
    }
    fn gift(&self, host: &Peer) -> Result<SharedBuf, CallError> {
        match &*GIFT.lock() {
            Some(gift) => SharedBuf::copy_from(host, &gift.read_vec()?),
            None => Err(CallError::refused()),
        }
    }
    fn life(&self, _: &Peer) -> Result<Life, CallError> {
        Ok(vmffi::guest::seed().map_or(Life { generation: 0, seed: 0 }, |seed| {
            let bytes = core::array::from_fn(|byte| seed.bytes[byte]);
            Life { generation: seed.generation, seed: u64::from_le_bytes(bytes) }
        }))
    }
    fn ticks(&self, _: &Peer) -> Result<u64, CallError> {
        Ok(native::ticks())
    }
}

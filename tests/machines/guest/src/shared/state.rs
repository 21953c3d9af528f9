//! State of a guest that a reset must restore.

use core::{
    arch::asm,
    sync::atomic::{AtomicU64, Ordering},
};

use vmffi::{CallError, ForeignBuf, Peer, SharedBuf};

use super::{control::Guest, vectors};

vmffi::ffi_interface! {
    /// Registers that no code of the guest uses: the rounding modes of vector and x87 instructions, and the high half
    /// of an AVX register, if there is AVX.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Registers { vectors: u32, x87: u16, high: u64 }

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
        /// The time-stamp counter.
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
        let (mut vectors, mut x87, mut high) = (0_u32, 0_u16, 0_u64);
        if change {
            // SAFETY: it changes the rounding mode, on which no code here depends.
            unsafe { asm!("ldmxcsr [{}]", in(reg) &0x7f80_u32) };
            // SAFETY: as above.
            unsafe { asm!("fldcw [{}]", in(reg) &0x0f7f_u16) };
        }
        // SAFETY: the instruction stores 4 bytes in the variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut vectors) };
        // SAFETY: the instruction stores 2 bytes in the variable.
        unsafe { asm!("fnstcw [{}]", in(reg) &mut x87) };
        if vectors::has_avx() {
            if change {
                // SAFETY: the processor has AVX, and no code here is compiled for it, so none uses that half. All bits are set.
                unsafe { asm!("vcmptrueps ymm15, ymm15, ymm15", out("xmm15") _) };
            }
            // SAFETY: as above.
            unsafe {
                asm!("vextractf128 xmm14, ymm15, 1", "movq {}, xmm14", out(reg) high, out("xmm14") _)
            };
        }
        Ok(Registers { vectors, x87, high })
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
        // SAFETY: the instruction only reads a counter, and a guest may execute it.
        Ok(unsafe { core::arch::x86_64::_rdtsc() })
    }
}

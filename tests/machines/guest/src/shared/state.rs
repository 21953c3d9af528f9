//! What a guest remembers: what a reset is to bring back.

use core::{
    arch::asm,
    sync::atomic::{AtomicU64, Ordering},
};

use vmffi::{CallError, ForeignBuf, Peer, SharedBuf};

use super::{control::Guest, vectors};

vmffi::ffi_interface! {
    /// Registers that no code of the guest's changes: how vector and x87 instructions round, and the high half
    /// of a register of AVX, where there is such a thing.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Registers { vectors: u32, x87: u16, high: u64 }

    /// Which life of the guest this is, with the first bytes of its seed; zeros where lives are not told apart.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Life { generation: u64, seed: u64 }

    pub interface State {
        /// A number that lies in the guest's memory, to which something is added.
        fn count(more: u64) -> u64;
        /// Has so many bytes of its heap written, and keeps them.
        fn fill(len: u64);
        /// Changes those registers, or not, and says what is in them.
        fn registers(change: bool) -> Registers;
        /// What it got when it started up.
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
/// What it got from its host when it started up.
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
            // SAFETY: it rounds to zero now, which no code here looks at.
            unsafe { asm!("ldmxcsr [{}]", in(reg) &0x7f80_u32) };
            // SAFETY: as above.
            unsafe { asm!("fldcw [{}]", in(reg) &0x0f7f_u16) };
        }
        // SAFETY: it stores 4 bytes there.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut vectors) };
        // SAFETY: it stores 2 bytes there.
        unsafe { asm!("fnstcw [{}]", in(reg) &mut x87) };
        if vectors::has_avx() {
            if change {
                // SAFETY: there is AVX, and nothing here is compiled for it, so nobody uses that half. All ones.
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
        // SAFETY: the instruction reads a counter, and nothing denies it to a guest.
        Ok(unsafe { core::arch::x86_64::_rdtsc() })
    }
}

//! A guest with random numbers of the crates `uuid` and `rand`, and with one generator that ignores lives.
#![no_std]
#![no_main]

mod interface;
mod random;

use chacha20::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use rand::{RngExt, rngs::StdRng};
use spin::Mutex;
use uuid::Uuid;
use vmffi::{CallError, Peer, guest::Seed};

use interface::Random;

struct Guest {
    /// The seed of the life in which the guest started up.
    first: Option<Seed>,
    /// A generator that is seeded with it, once.
    stale: Mutex<ChaCha20Rng>,
}

impl Guest {
    fn new() -> Self {
        let first = vmffi::guest::seed();
        let key = first.map_or([0; 32], |seed| seed.bytes);
        Self { first, stale: Mutex::new(ChaCha20Rng::from_seed(key)) }
    }
}

/// The first half of a seed's bytes.
fn half(seed: Seed) -> u128 {
    let (half, _) = seed.bytes.split_first_chunk().expect("a seed has 32 bytes");
    u128::from_le_bytes(*half)
}

impl Random for Guest {
    fn uuid(&self, _: &Peer) -> Result<u128, CallError> {
        Ok(Uuid::new_v4().as_u128())
    }

    fn number(&self, _: &Peer) -> Result<u64, CallError> {
        Ok(rand::make_rng::<StdRng>().random())
    }

    fn stale_number(&self, _: &Peer) -> Result<u64, CallError> {
        Ok(self.stale.lock().next_u64())
    }

    fn generation(&self, _: &Peer) -> Result<u64, CallError> {
        Ok(vmffi::guest::seed().map_or(0, |seed| seed.generation))
    }

    fn first_generation(&self, _: &Peer) -> Result<u64, CallError> {
        Ok(self.first.map_or(0, |seed| seed.generation))
    }

    fn seed(&self, _: &Peer) -> Result<u128, CallError> {
        Ok(vmffi::guest::seed().map_or(0, half))
    }

    fn first_seed(&self, _: &Peer) -> Result<u128, CallError> {
        Ok(self.first.map_or(0, half))
    }
}

vmffi::serve!(Guest: Random);
vmffi::entry! { server: Guest = Guest::new(), arena: 1 << 16 }
vmffi::panic_handler!();
vmffi::memory_functions!();

//! The guest's source of random numbers, for the crate `getrandom` and all that is based on it.

use chacha20::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use getrandom::Error;
use spin::Mutex;

/// The generator of this life, with the life's number.
static GENERATOR: Mutex<Option<(u64, ChaCha20Rng)>> = Mutex::new(None);

// `getrandom` calls it with memory that is valid for writes of `len` bytes, which need not be initialized.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(dest: *mut u8, len: usize) -> Result<(), Error> {
    let seed = vmffi::guest::seed().ok_or(Error::UNSUPPORTED)?;
    let mut state = GENERATOR.lock();
    let (_, generator) = match &mut *state {
        Some(known) if known.0 == seed.generation => known,
        // The first use in this life.
        other => other.insert((seed.generation, ChaCha20Rng::from_seed(seed.bytes))),
    };
    // SAFETY: `getrandom` promises that `dest` is valid for writes of `len` bytes.
    unsafe { dest.write_bytes(0, len) };
    // SAFETY: these bytes have just been initialized, and `getrandom` lends them to this function alone.
    generator.fill_bytes(unsafe { core::slice::from_raw_parts_mut(dest, len) });
    Ok(())
}

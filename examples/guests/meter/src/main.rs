//! The guest for the benchmarks of machines.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU8, Ordering};

use vmffi::{Batch, CallError, Peer, Pending};

mod meter;

use meter::{BATCH, Load, Meter, MeterClient};

static TOUCHED: [AtomicU8; 1 << 20] = [const { AtomicU8::new(0) }; 1 << 20];

struct Guest;

impl Load for Guest {
    fn echo(&self, _: &Peer, x: u64) -> Result<u64, CallError> {
        Ok(x)
    }

    fn sum(&self, _: &Peer, a: u64, b: u32, c: u8) -> Result<u64, CallError> {
        Ok(a + u64::from(b) + u64::from(c))
    }

    fn scalars(&self, host: &Peer, n: u64) -> Result<u64, CallError> {
        let meter = MeterClient::from(host);
        (0..n).try_fold(0, |sum, i| Ok(sum + meter.scalar(i)?))
    }

    fn threes(&self, host: &Peer, n: u64) -> Result<u64, CallError> {
        let meter = MeterClient::from(host);
        (0..n).try_fold(0, |sum, i| Ok(sum + meter.three(i, 1_u32, 2_u8)?))
    }

    fn scalars_in_batches(&self, host: &Peer, n: u64) -> Result<u64, CallError> {
        (0..n).try_fold(0, |sum, _| Ok(sum + batched(host, |meter, i| meter.scalar(i))?))
    }

    fn threes_in_batches(&self, host: &Peer, n: u64) -> Result<u64, CallError> {
        (0..n)
            .try_fold(0, |sum, _| Ok(sum + batched(host, |meter, i| meter.three(i, 1_u32, 2_u8))?))
    }

    fn touch(&self, _: &Peer, bytes: u64) -> Result<(), CallError> {
        TOUCHED
            .iter()
            .take(bytes as usize)
            .step_by(64)
            .for_each(|at| at.store(1, Ordering::Relaxed));
        Ok(())
    }

    fn spin(&self, _: &Peer) -> Result<(), CallError> {
        loop {
            core::hint::spin_loop();
        }
    }
}

/// Makes a batch of calls, and adds up their results. This guest has no heap.
fn batched<'p>(
    host: &'p Peer,
    call: impl for<'b> Fn(MeterClient<'b, &'b Batch<'p>>, u64) -> Result<Pending<u64>, CallError>,
) -> Result<u64, CallError> {
    let batch = host.batch()?;
    let meter = MeterClient::from(&batch);
    let mut added = [const { None }; BATCH as usize];
    for (i, added) in (0..).zip(&mut added) {
        *added = Some(call(meter, i)?);
    }
    let mut results = batch.send()?;
    added.into_iter().flatten().try_fold(0, |sum, pending| Ok(sum + results.get(pending)?))
}

vmffi::serve!(Guest: Load; calls Meter);
vmffi::entry! { server: Guest = Guest, arena: 1 << 20 }
vmffi::panic_handler!();
vmffi::memory_functions!();

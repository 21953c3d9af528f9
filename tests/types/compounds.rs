//! Arrays and tuples with handles, types that cross as another one, and slices of arrays, tuples and converted types.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use vmffi::{CallError, CrossesAs, ErrorKind, ForeignSlice, Peer, loopback::Loopback};

use crate::{
    run_all,
    shared::{
        Side,
        compounds::{CHECKS, Compounds, Converted},
        plain::{Checked, Percent, padded},
    },
    slices,
};

struct Server;

impl Side for Server {}

vmffi::serve!(Server: Compounds, Converted);

#[test]
fn arrays_and_tuples_with_handles_cross() {
    run_all(|| Server, CHECKS);
}

slices! {
    slice_arrays: [u16; 3] = [[1, 2, 3], [0, 0, u16::MAX]];
    slice_bools: [bool; 3] = [[true, false, true], [false; 3]];
    slice_tuples: (u8, u64) = [(1, u64::MAX), (255, 0)];
    slice_percents: Percent = [Percent(1), Percent(100)];
    slice_checked: Checked = [Checked(padded())];
    slice_durations: Duration = [Duration::ZERO, Duration::MAX];
}

/// The number of live `Boxed` values.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Larger than its wire form, with a destructor.
#[derive(Debug, PartialEq)]
struct Boxed(Box<u8>, [u64; 2]);

impl CrossesAs for Boxed {
    type Wire = u8;
    fn to_wire(&self) -> u8 {
        *self.0
    }
    fn from_wire(wire: u8) -> Option<Self> {
        (wire < 100).then(|| {
            LIVE.fetch_add(1, Ordering::Relaxed);
            Self(Box::new(wire), [u64::MAX; 2])
        })
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

vmffi::crosses_as!(Boxed);

/// The sender's declaration.
mod sent {
    vmffi::ffi_interface! { pub interface Boxes { fn take(values: vmffi::ForeignSlice<u8>) -> u64; } }
}

vmffi::ffi_interface! { interface Boxes { fn take(values: ForeignSlice<Boxed>) -> u64; } }

struct Boxer;

impl Boxes for Boxer {
    fn take(&self, _: &Peer, values: ForeignSlice<Boxed>) -> Result<u64, CallError> {
        let values = values.read_vec()?;
        assert_eq!(LIVE.load(Ordering::Relaxed), values.len());
        assert!(values.iter().all(|value| value.1 == [u64::MAX; 2]));
        Ok(values.iter().map(|value| u64::from(*value.0)).sum())
    }
}

vmffi::serve!(Boxer: Boxes);

/// Values are decoded over their own wire forms, and dropped if one of them is invalid.
#[test]
fn values_larger_than_their_wire_forms_are_read_and_dropped() {
    let pair = Loopback::new((), Boxer).unwrap();
    let take = |values: &[u8]| sent::BoxesClient::from(pair.host()).take(values);
    for len in [0, 1, 2, 5, 99] {
        let values: Vec<u8> = (0..len).collect();
        assert_eq!(take(&values), Ok(values.iter().copied().map(u64::from).sum()));
        assert_eq!(LIVE.load(Ordering::Relaxed), 0);
    }
    for bad in [&[100][..], &[1, 2, 100, 3], &[1, 2, 3, 255]] {
        assert_eq!(take(bad).map_err(|error| error.kind()), Err(ErrorKind::BadValue));
        assert_eq!(LIVE.load(Ordering::Relaxed), 0);
    }
}

vmffi::ffi_interface! {
    interface Lent {
        fn tuple(value: (u8, Checked), more: Option<(u8, u64)>) -> (u8, Checked);
        fn converted(value: Percent, wait: Duration) -> Percent;
        fn alone(wait: Duration) -> Duration;
        fn array(values: [Percent; 2]) -> [Percent; 2];
    }
}

struct Lender;

impl Lent for Lender {
    fn tuple(
        &self,
        _: &Peer,
        value: (u8, Checked),
        more: Option<(u8, u64)>,
    ) -> Result<(u8, Checked), CallError> {
        assert_eq!(more, Some((7, 8)));
        Ok(value)
    }

    fn converted(&self, _: &Peer, value: Percent, wait: Duration) -> Result<Percent, CallError> {
        assert_eq!(wait, Duration::from_millis(1500));
        Ok(value)
    }

    fn alone(&self, _: &Peer, wait: Duration) -> Result<Duration, CallError> {
        Ok(wait)
    }

    fn array(&self, _: &Peer, values: [Percent; 2]) -> Result<[Percent; 2], CallError> {
        Ok(values)
    }
}

vmffi::serve!(Lender: Lent);

/// Plain values are sent by reference as well as by value.
#[test]
#[allow(clippy::needless_borrows_for_generic_args, reason = "the references are what is tested")]
fn plain_values_are_sent_by_reference() {
    let pair = Loopback::new((), Lender).unwrap();
    let lent = LentClient::from(pair.host());
    let (tuple, wait) = (|| (9, Checked(padded())), Duration::from_millis(1500));
    assert_eq!(lent.tuple(&tuple(), &Some((7, 8))), Ok(tuple()));
    assert_eq!(lent.tuple(&tuple(), Some(&(7, 8))), Ok(tuple()));
    assert_eq!(lent.converted(&Percent(3), &wait), Ok(Percent(3)));
    assert_eq!(lent.alone(&wait), Ok(wait));
    assert_eq!(lent.array(&[Percent(1), Percent(2)]), Ok([Percent(1), Percent(2)]));
}

//! Arrays and tuples with handles in them, types that cross as another one, and slices of arrays, tuples and converted types.

use std::time::Duration;

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

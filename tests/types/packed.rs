//! Packed values: every type in them, both ways, and bytes that are no packed value.

use vmffi::{Packed, SharedPacked, loopback::Loopback};

use crate::{
    assert_clean, both_ways, run_all,
    shared::{
        Side,
        packed::{CHECKS, Entry, Packs, PacksClient},
    },
};

struct Server;

impl Side for Server {}

vmffi::serve!(Server: Packs);

#[test]
fn packed_values_cross() {
    run_all(|| Server, CHECKS);
}

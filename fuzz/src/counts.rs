//! What has occurred in the runs of a thread, by name: a target whose inputs no longer reach something is noticed.

use std::{cell::RefCell, collections::BTreeMap};

thread_local! {
    static COUNTS: RefCell<BTreeMap<&'static str, usize>> = const { RefCell::new(BTreeMap::new()) };
}

pub fn count(what: &'static str) {
    COUNTS.with_borrow_mut(|counts| *counts.entry(what).or_default() += 1);
}

/// How often each thing has occurred on this thread since the last time.
pub fn take() -> BTreeMap<&'static str, usize> {
    COUNTS.take()
}

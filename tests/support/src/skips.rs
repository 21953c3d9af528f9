//! Tests that are skipped where something is missing that they need.

use std::{env, fmt::Display, path::Path};

/// Says that tests are skipped which need `what`, and why it is missing.
///
/// # Panics
///
/// With `CI=true` in the environment, which stands for the machine that decides, unless `what` is `kvm` and there is no
/// `/dev/kvm`.
pub fn skip(what: impl Display, why: impl Display) {
    println!("skipped: {what}: {why}");
    assert!(
        may_skip(&what.to_string()),
        "with CI=true only tests that need a missing /dev/kvm may be skipped"
    );
}

/// Whether tests may be skipped that need this.
#[must_use]
pub fn may_skip(what: &str) -> bool {
    let decides = env::var_os("CI").is_some_and(|value| value == "true");
    !decides || what == "kvm" && !Path::new("/dev/kvm").exists()
}

//! Tests that are skipped where something is missing that they need.

use std::{env, fmt::Display, fs, path::Path, sync::OnceLock};

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

/// Why a case of a test program is left out where it runs: the file that `VMFFI_SKIPS` names has lines of the form
/// `program case: reason`.
///
/// # Panics
///
/// If the file cannot be read.
#[must_use]
pub fn reason(program: &str, case: &str) -> Option<&'static str> {
    static LIST: OnceLock<String> = OnceLock::new();
    let list = LIST.get_or_init(|| match env::var_os("VMFFI_SKIPS") {
        Some(file) => fs::read_to_string(file).expect("the file of VMFFI_SKIPS"),
        None => String::new(),
    });
    list.lines().find_map(|line| {
        let (name, reason) = line.split_once(": ")?;
        (name.split_once(' ')? == (program, case)).then_some(reason)
    })
}

/// The same, and says so.
#[must_use]
pub fn is_skipped(program: &str, case: &str) -> bool {
    let reason = reason(program, case);
    if let Some(reason) = reason {
        println!("skipped: {program}: {case}: {reason}");
    }
    reason.is_some()
}

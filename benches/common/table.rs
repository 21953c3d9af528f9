//! The table at the end: medians that criterion has written to disk, and their targets.

use std::{fmt, fs, path::PathBuf, time::Duration};

use criterion::Criterion;

/// The most that a case may cost, given the cost of its floor.
#[derive(Clone, Copy)]
pub enum Target {
    /// This many times the floor.
    Times(f64),
    /// This many times the floor, or this many nanoseconds, whichever is more.
    TimesOr(f64, f64),
    /// One and a half times the floor, a `memcpy`, for each copy, and 25 ns for the call.
    Copies(u32),
}

impl Target {
    fn limit(self, floor: f64) -> f64 {
        match self {
            Self::Times(times) => times * floor,
            Self::TimesOr(times, least) => (times * floor).max(least),
            Self::Copies(count) => 1.5 * f64::from(count) * floor + 25.0,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Times(times) => format!("{times} x floor"),
            Self::TimesOr(times, least) => format!("{times} x floor or {least} ns"),
            Self::Copies(count) => format!("{} x floor + 25 ns", 1.5 * f64::from(*count)),
        };
        f.pad(&text)
    }
}

/// A case and its floor, both of them benchmarks of the same group.
pub struct Row {
    group: String,
    case: String,
    floor: String,
    target: Target,
}

impl Row {
    pub fn new(group: &str, case: &str, floor: &str, target: Target) -> Self {
        Self { group: group.into(), case: case.into(), floor: floor.into(), target }
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("criterion")
}

/// A configuration of criterion that finishes in less than a minute and a half.
pub fn criterion(warm_up: Duration, measurement: Duration) -> Criterion {
    // Results of an earlier run would be taken for this one's where this one omits cases.
    let _ = fs::remove_dir_all(directory());
    Criterion::default()
        .output_directory(&directory())
        .warm_up_time(warm_up)
        .measurement_time(measurement)
        .nresamples(2000)
        .without_plots()
        .configure_from_args()
}

/// The median in nanoseconds, if this benchmark has run.
fn median(group: &str, name: &str) -> Option<f64> {
    // Criterion names its directories like this.
    let safe = |name: &str| name.replace(['?', '"', '/', '\\', '*', '<', '>', ':', '|', '^'], "_");
    let path = directory().join(safe(group)).join(safe(name)).join("new/estimates.json");
    let json = fs::read_to_string(path).ok()?;
    let (_, median) = json.split_once("\"median\"")?;
    let (_, value) = median.split_once("\"point_estimate\":")?;
    value.split([',', '}']).next()?.trim().parse().ok()
}

pub fn print(rows: &[Row]) {
    let mut lines = Vec::new();
    for Row { group, case, floor, target } in rows {
        let (Some(ns), Some(floor_ns)) = (median(group, case), median(group, floor)) else {
            continue;
        };
        let met = if ns <= target.limit(floor_ns) { "met" } else { "MISSED" };
        let ratio = ns / floor_ns;
        lines.push(format!(
            "| {group}: {case} | {ns:.1} | {floor} | {floor_ns:.1} | {ratio:.2} | {target} | {:.1} | {met} |",
            target.limit(floor_ns),
        ));
    }
    if !lines.is_empty() {
        println!("\n| case | ns | floor | ns | ratio | target | ns | |");
        println!("|---|---:|---|---:|---:|---|---:|---|");
        println!("{}", lines.join("\n"));
    }
}

//! The table.

use crate::measure::{Kind, Work};

/// Nanoseconds, or a larger unit.
pub fn shown(ns: f64) -> String {
    match ns {
        ..100.0 => format!("{ns:.1} ns"),
        ..10_000.0 => format!("{ns:.0} ns"),
        _ => format!("{:.1} µs", ns / 1000.0),
    }
}

pub fn print(works: &[Work]) {
    println!("| work | vmffi | beside | | vmffi / it | at most |");
    println!("|---|---:|---|---:|---:|---:|");
    for work in works {
        let ours = work.median();
        let mut first = Some((work.name, ours.map_or("–".into(), shown)));
        for case in work.cases.iter().filter(|case| case.kind != Kind::Ours) {
            let (name, us) = first.take().unwrap_or_default();
            let ns = case.median();
            let ratio = ours.map(|ours| ours / ns);
            let limit = work.limit(case);
            let limit = match (limit, ratio) {
                (Some(limit), Some(ratio)) if ratio > limit => format!("{limit} MISSED"),
                (Some(limit), _) => limit.to_string(),
                (None, _) => String::new(),
            };
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            println!("| {name} | {us} | {} | {} | {ratio} | {limit} |", case.name, shown(ns));
        }
    }
    println!(
        "\nMedians of interleaved rounds, in one process. `cargo bench --bench machines` has the calls of guests in machines."
    );
}

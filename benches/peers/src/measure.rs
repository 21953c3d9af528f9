//! Works and their cases, measured in rounds: each round runs every case once, so that what slows the machine for a
//! while slows all of them.

use std::{hint::black_box, time::Instant};

/// A case is run this often.
const ROUNDS: usize = 101;
/// For about this long each time.
const SLICE_NS: f64 = 1e6;

/// Does the work so many times.
pub type Run = Box<dyn FnMut(u32)>;

/// A run that calls `work` for each time.
pub fn each<R>(mut work: impl FnMut() -> R + 'static) -> Run {
    Box::new(move |times| {
        for _ in 0..times {
            black_box(work());
        }
    })
}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Ours,
    Peer,
    /// What the work costs at least.
    Floor,
}

pub struct Case {
    pub name: &'static str,
    pub kind: Kind,
    run: Run,
    /// Nanoseconds a time, one entry a round.
    times: Vec<f64>,
}

impl Case {
    pub fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    fn time(&mut self, times: u32) -> f64 {
        let start = Instant::now();
        (self.run)(times);
        start.elapsed().as_nanos() as f64 / f64::from(times)
    }
}

/// What is to be done, and who does it.
pub struct Work {
    pub name: &'static str,
    pub cases: Vec<Case>,
    reaches: Vec<(f64, &'static [&'static str])>,
}

impl Work {
    pub fn new(name: &'static str) -> Self {
        Self { name, cases: Vec::new(), reaches: Vec::new() }
    }

    pub fn ours(self, run: Run) -> Self {
        self.case("vmffi", Kind::Ours, run)
    }

    pub fn peer(self, name: &'static str, run: Run) -> Self {
        self.case(name, Kind::Peer, run)
    }

    pub fn floor(self, name: &'static str, run: Run) -> Self {
        self.case(name, Kind::Floor, run)
    }

    fn case(mut self, name: &'static str, kind: Kind, run: Run) -> Self {
        self.cases.push(Case { name, kind, run, times: Vec::new() });
        self
    }

    /// This crate should take at most so many times what the fastest of these cases takes.
    pub fn at_most(mut self, times: f64, cases: &'static [&'static str]) -> Self {
        self.reaches.push((times, cases));
        self
    }

    /// The median of this crate, if it does this work.
    pub fn median(&self) -> Option<f64> {
        self.cases.iter().find(|case| case.kind == Kind::Ours).map(Case::median)
    }

    /// How many times this case this crate may take, if this is the case that it is compared with.
    pub fn limit(&self, case: &Case) -> Option<f64> {
        let fastest = |cases: &[&str]| {
            let named = self.cases.iter().filter(|other| cases.contains(&other.name));
            named.min_by(|a, b| a.median().total_cmp(&b.median())).map(|fastest| fastest.name)
        };
        let reach = self.reaches.iter().find(|(_, cases)| fastest(cases) == Some(case.name));
        reach.map(|(times, _)| *times)
    }
}

pub fn run(works: &mut [Work]) {
    let mut cases: Vec<_> = works.iter_mut().flat_map(|work| &mut work.cases).collect();
    let counts: Vec<_> = cases
        .iter_mut()
        .map(|case| {
            let mut count = 1;
            loop {
                let ns = case.time(count);
                if ns * f64::from(count) >= SLICE_NS / 4.0 {
                    return (SLICE_NS / ns).max(1.0) as u32;
                }
                count *= 2;
            }
        })
        .collect();
    for _ in 0..ROUNDS {
        for (case, &count) in cases.iter_mut().zip(&counts) {
            // Brings the case's code and data back into the caches.
            case.time(count.div_ceil(10));
            let ns = case.time(count);
            case.times.push(ns);
        }
    }
}

//! Loads the service with good documents, and hostile ones among them.

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::client::Client;

pub struct Load {
    pub clients: usize,
    pub requests: u64,
    /// The share of the requests that are hostile.
    pub hostile: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self { clients: 4, requests: 10_000, hostile: 0.0 }
    }
}

/// A kind of request: its name, path and body.
type Kind = (&'static str, &'static str, Vec<u8>);

/// What an ordinary client sends: a page of records, some of which contain a secret.
fn good() -> Kind {
    let record = |n: u32| {
        let note =
            if n % 16 == 3 { "the key is AKIA0123456789ABCDEF" } else { "nothing to see here" };
        format!(r#"{{"id":{n},"name":"user {n}","tags":["a","b"],"score":{n}.5,"note":"{note}"}}"#)
    };
    let records: Vec<_> = (0..32).map(record).collect();
    ("good", "/parse", format!("[{}]", records.join(",\n")).into_bytes())
}

/// What hostile clients send.
fn hostile() -> [Kind; 5] {
    // Each pair needs 7 bytes of the document, and about 600 of a parser's heap.
    let greedy = format!("[{}1]", r#"{"":0},"#.repeat(35_000));
    [
        ("malformed", "/parse", b"[1, 2,\n 3, oops]".to_vec()),
        ("endless loop", "/attack/loop", Vec::new()),
        ("panic", "/attack/panic", Vec::new()),
        ("stack overflow", "/attack/overflow", Vec::new()),
        ("greedy document", "/parse", greedy.into_bytes()),
    ]
}

impl Load {
    /// Sends the requests, and prints the results. It fails if a good document was not answered with 200.
    pub fn run(&self, address: SocketAddr) -> Result<ExitCode, Box<dyn Error>> {
        let (good, hostile) = (good(), hostile());
        let next = AtomicU64::new(0);
        let began = Instant::now();
        let client = || -> io::Result<Vec<_>> {
            let (mut client, mut times) = (Client::connect(address)?, Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.requests {
                    return Ok(times);
                }
                // Hostile requests are spread evenly, and each kind has its turn.
                let [before, after] =
                    [number, number + 1].map(|n| (n as f64 * self.hostile) as usize);
                let kind = if before < after { &hostile[before % hostile.len()] } else { &good };
                let began = Instant::now();
                let (status, _) = client.request("POST", kind.1, &kind.2)?;
                times.push(((kind.0, status), began.elapsed()));
            }
        };
        let results: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients).map(|_| scope.spawn(client)).collect();
            clients.into_iter().map(|client| client.join()).collect()
        });
        let took = began.elapsed().as_secs_f64();
        let mut kinds: BTreeMap<_, Vec<Duration>> = BTreeMap::new();
        for result in results {
            for (kind, time) in result.map_err(|_| "a client panicked")?? {
                kinds.entry(kind).or_default().push(time);
            }
        }
        let Self { requests, clients, .. } = self;
        let rate = *requests as f64 / took;
        println!("{requests} requests by {clients} clients in {took:.1} s: {rate:.0} a second");
        println!("{:<16} {:>6} {:>8} {:>9} {:>9}", "request", "status", "number", "p50", "p99");
        for ((kind, status), times) in &mut kinds {
            times.sort_unstable();
            let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
            println!(
                "{kind:<16} {status:>6} {:>8} {:>6.2} ms {:>6.2} ms",
                times.len(),
                at(50),
                at(99)
            );
        }
        let all_good = kinds.keys().all(|(kind, status)| *kind != good.0 || *status == 200);
        Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

//! Counts the instructions of calls through a loopback, with valgrind, and compares them with `benches/instructions.txt`.
//!
//! Unlike times, these numbers repeat, so that a change of a few instructions shows. `cargo bench --bench instructions`
//! fails if a call takes 5% more than there; `cargo bench --bench instructions -- renew` writes the file anew. The counts
//! depend on the compiler: with another version than that of the file nothing is compared.

use std::{env, fs, hint::black_box, process::Command};

use vmffi::{
    Batch, CallError, ForeignBuf, ForeignSlice, Peer, Pending, SharedBuf, loopback::Loopback,
};

vmffi::ffi_interface! {
    #[derive(Clone, Copy)]
    #[size(32)]
    pub struct Block { a: u64, b: u32, c: i32, d: f64, e: u16, f: u16, g: bool }

    pub interface Calls {
        fn scalar(x: u64) -> u64;
        fn three(x: u64, step: u32, by: f64) -> u64;
        fn bytes(bytes: ForeignBuf) -> u64;
        fn returned() -> ForeignBuf;
        fn blocks(blocks: ForeignSlice<Block>) -> u64;
        fn record(block: Block) -> Block;
    }
}

struct Host;

impl Calls for Host {
    fn scalar(&self, _: &Peer, x: u64) -> Result<u64, CallError> {
        Ok(x.wrapping_add(1))
    }

    fn three(&self, _: &Peer, x: u64, step: u32, by: f64) -> Result<u64, CallError> {
        Ok(x.wrapping_add(u64::from(step)) ^ by.to_bits())
    }

    fn bytes(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        Ok(black_box(bytes.read_vec()?).len() as u64)
    }

    fn returned(&self, guest: &Peer) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(guest, &[7; 64])
    }

    fn blocks(&self, _: &Peer, blocks: ForeignSlice<Block>) -> Result<u64, CallError> {
        Ok(black_box(blocks.read_vec()?).len() as u64)
    }

    fn record(&self, _: &Peer, block: Block) -> Result<Block, CallError> {
        Ok(Block { a: block.a.wrapping_add(1), ..block })
    }
}

vmffi::serve!(Host: Calls);

const BLOCK: Block = Block { a: 1, b: 2, c: -3, d: 4.5, e: 5, f: 6, g: true };

type Call = fn(CallsClient<'_>) -> Result<(), CallError>;

/// What is counted.
const CASES: &[(&str, Call)] = &[
    ("scalar", |calls| calls.scalar(black_box(7)).map(drop)),
    ("three parameters", |calls| calls.three(black_box(7), 8_u32, 9.5).map(drop)),
    ("64 B borrowed, read into a vector", |calls| calls.bytes(&black_box([7; 64])[..]).map(drop)),
    ("64 B returned, read into a vector", |calls| {
        black_box(calls.returned()?.read_vec()?);
        Ok(())
    }),
    ("record of 32 B in and out", |calls| calls.record(black_box(BLOCK)).map(drop)),
    ("32 records of 32 B borrowed, read into a vector", |calls| {
        calls.blocks(&black_box([BLOCK; 32])[..]).map(drop)
    }),
];

type Together = fn(&Peer) -> Result<(), CallError>;

/// Calls that are made together.
const BATCHES: &[(&str, Together)] = &[
    ("64 scalars in a batch", |host| batch(host, |calls, x| calls.scalar(x))),
    ("64 calls with three parameters in a batch", |host| {
        batch(host, |calls, x| calls.three(x, 8_u32, 9.5))
    }),
];

type Added = Result<Pending<u64>, CallError>;

fn batch<'p>(
    host: &'p Peer,
    call: impl for<'b> Fn(CallsClient<'b, &'b Batch<'p>>, u64) -> Added,
) -> Result<(), CallError> {
    let batch = host.batch()?;
    let calls = CallsClient::from(&batch);
    let mut added = [const { None }; 64];
    for (x, added) in (0..).zip(&mut added) {
        *added = Some(call(calls, black_box(x))?);
    }
    let mut results = batch.send()?;
    added.into_iter().flatten().try_for_each(|added| results.get(added).map(black_box).map(drop))
}

/// How many calls are counted together.
const TIMES: u64 = 1000;

/// Valgrind counts while this function runs.
#[unsafe(no_mangle)]
#[inline(never)]
fn counted_calls(calls: CallsClient<'_>, call: Call) {
    for _ in 0..TIMES {
        black_box(call)(black_box(calls)).expect("a good call");
    }
}

/// The same for batches.
#[unsafe(no_mangle)]
#[inline(never)]
fn counted_batches(host: &Peer, batch: fn(&Peer) -> Result<(), CallError>) {
    for _ in 0..TIMES {
        black_box(batch)(black_box(host)).expect("good calls");
    }
}

/// Makes the calls of one case.
fn make(case: usize) {
    let pair = Loopback::new((), Host).expect("memory");
    if let Some((_, batch)) = case.checked_sub(CASES.len()).and_then(|case| BATCHES.get(case)) {
        for _ in 0..10 {
            batch(pair.host()).expect("good calls");
        }
        return counted_batches(pair.host(), *batch);
    }
    let calls = CallsClient::from(pair.host());
    let (_, call) = CASES[case];
    // The first calls find the arena as no later one does.
    for _ in 0..10 {
        call(calls).expect("a good call");
    }
    counted_calls(calls, call);
}

/// The instructions of one call of a case; `None` without valgrind.
fn count(case: usize) -> Option<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg("--toggle-collect=counted_*");
    valgrind.arg(env::current_exe().ok()?).args(["make", &case.to_string()]);
    let output = valgrind.output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    let Some((_, collected)) = collected.filter(|_| output.status.success()) else {
        panic!("valgrind has counted nothing:\n{text}");
    };
    Some(collected.trim().parse::<u64>().expect("a number") / TIMES)
}

fn main() {
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let ["make", case] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return make(case.parse().expect("the number of a case"));
    }
    let renew = arguments.iter().any(|argument| argument == "renew");

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
    let version = Command::new("rustc").arg("--version").output().expect("a compiler");
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let kept = fs::read_to_string(path).unwrap_or_default();
    let compiler = kept.lines().next().unwrap_or_default();
    if !renew && compiler != version {
        println!("skipped: {path} has the counts of {compiler}, and this is {version}");
        return;
    }

    let (mut lines, mut grown) = (vec![version], false);
    println!("| call | instructions | before | |\n|---|---:|---:|---:|");
    let names = CASES.iter().map(|(name, _)| name).chain(BATCHES.iter().map(|(name, _)| name));
    for (nr, name) in names.enumerate() {
        let Some(count) = count(nr) else {
            println!("skipped: there is no valgrind");
            return;
        };
        let before = kept.lines().filter_map(|line| line.split_once(": "));
        let before = before.into_iter().find(|(case, _)| case == name);
        let before = before.and_then(|(_, count)| count.parse::<u64>().ok());
        let more = before.map(|before| count as f64 / before as f64 * 100.0 - 100.0);
        let shown = before.map_or(String::new(), |before| before.to_string());
        println!("| {name} | {count} | {shown} | {:+.1}% |", more.unwrap_or(0.0));
        grown |= more.is_none_or(|more| more > 5.0);
        lines.push(format!("{name}: {count}"));
    }
    if renew {
        fs::write(path, lines.join("\n") + "\n").expect("the file of counts");
    } else if grown {
        eprintln!("A call takes more than 5% more instructions, or is new. If that is intended:");
        eprintln!("    cargo bench --bench instructions -- renew");
        std::process::exit(1);
    }
}

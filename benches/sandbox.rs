//! Measures the sandbox: gzip files unpacked by the guest, and by the same code in this process.
//! `cargo bench --bench sandbox` makes its own files; `cargo bench --bench sandbox -- FILE.gz` takes another.

extern crate alloc;

use std::{
    error::Error,
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use host::{GzipError, Sandbox, Summary};
use support::guests;
use vmffi::{
    CallError,
    machine::{Backend, Image},
};

// By their paths: the benchmark measures the example's own files.
#[path = "../examples/guests/sandbox/src/gzip.rs"]
mod gzip;
#[path = "../examples/sandbox/host.rs"]
mod host;

const ROUNDS: usize = 9;

/// The same work without a guest.
struct Native<'f> {
    file: &'f [u8],
    output: &'f mut dyn io::Write,
}

impl gzip::Files for Native<'_> {
    fn read(&mut self, chunk: &mut Vec<u8>) -> Result<(), CallError> {
        let (read, rest) = self.file.split_at(self.file.len().min(gzip::CHUNK));
        chunk.extend_from_slice(read);
        self.file = rest;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        self.output.write_all(bytes).map_err(|_| CallError::refused())
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A text of `len` bytes with the frequencies of English words.
fn text(len: usize) -> Vec<u8> {
    let words: Vec<&str> = include_str!("../docs/abi.md").split_inclusive([' ', '\n']).collect();
    let mut text = Vec::with_capacity(len + 100);
    let mut state = 1_u64;
    while text.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Up to four consecutive words, from a random place.
        let at = (state >> 33) as usize % words.len();
        for word in words[at..].iter().take(1 + (state >> 29) as usize % 4) {
            text.extend_from_slice(word.as_bytes());
        }
    }
    text.truncate(len);
    text
}

/// A gzip file with one member.
fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    file.extend(miniz_oxide::deflate::compress_to_vec(plain, 6));
    file.extend(crc32fast::hash(plain).to_le_bytes());
    file.extend((plain.len() as u32).to_le_bytes());
    file
}

fn took(
    work: impl FnOnce() -> Result<Summary, Box<dyn Error>>,
) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn compare(name: &str, backend: Backend, image: &Image, file: &[u8]) -> Result<(), Box<dyn Error>> {
    let file: Arc<[u8]> = file.into();
    let sandbox = Sandbox { image: image.clone(), backend, patience: Duration::from_secs(10) };
    let in_guest = |output: Kept| sandbox.unpack(io::Cursor::new(file.clone()), output);
    let native = |output: &mut dyn io::Write| gzip::unpack(&mut Native { file: &file, output });

    let (mut plain, kept) = (Vec::new(), Kept::default());
    native(&mut plain)?;
    in_guest(kept.clone())?;
    assert!(*kept.0.lock().unwrap() == plain, "the guest unpacks what it should");

    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        times[0].push(took(|| Ok(sandbox.unpack(io::Cursor::new(file.clone()), io::sink())?))?);
        times[1].push(took(|| Ok(native(&mut io::sink())?))?);
    }
    let [guest, native] = times.map(|times| {
        // Other load on the machine only adds to a time, so the least one counts.
        times.into_iter().min().unwrap_or_default()
    });
    let speed = |time: Duration| plain.len() as f64 / (1 << 20) as f64 / time.as_secs_f64();
    println!(
        "| {name}, {} bytes of {} | {backend} | {guest:.1?}, {:.0} MiB/s | {native:.1?}, {:.0} MiB/s | {:.2} |",
        plain.len(),
        file.len(),
        speed(guest),
        speed(native),
        guest.as_secs_f64() / native.as_secs_f64(),
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let image = Image::open(guests::build("examples/guests/sandbox", "sandbox")?)?;
    println!("| file | backend | in the guest | in this process | ratio |");
    println!("|---|---|---:|---:|---:|");
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let files = match named {
        Some(name) => vec![(name.clone(), std::fs::read(name)?)],
        None => [("nothing", 0), ("1 MiB", 1 << 20), ("100 MiB", 100 << 20)]
            .map(|(name, len)| (name.to_owned(), gzip(&text(len))))
            .into(),
    };
    for (name, file) in &files {
        for backend in Backend::ALL.iter().filter(|backend| backend.check().is_ok()) {
            compare(name, *backend, &image, file)?;
        }
    }
    Ok(())
}

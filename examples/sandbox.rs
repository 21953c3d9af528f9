//! Unpacks a gzip file as `gzip -dc` does, in a machine that isolates the decompressor: `guests/sandbox`
//! inflates it there.
//!
//! ```console
//! $ cargo run --release --example sandbox -- FILE.gz > FILE
//! ```

use std::{
    error::Error,
    fs::File,
    io::{self, ErrorKind, IsTerminal, Read},
    os::fd::AsFd,
    process::ExitCode,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use vmffi::machine::{Backend, Image};

mod guests;
/// The module in the folder `examples/sandbox`.
mod sandbox {
    pub mod host;
}

use sandbox::host;

const HELP: &str = "\
Unpacks a gzip file as `gzip -dc` does, in a sandbox.

    sandbox [--backend kvm|process] [--patience SECONDS] [FILE]

Without FILE, it unpacks a sample. The status is 0; 1 for a bad file or another failure; 2 if the file ends
with data that is not gzip, which is ignored.";

/// The file that is unpacked if none is named.
const SAMPLE: &[u8] = include_bytes!("sandbox/sample.txt.gz");

struct Options {
    backend: Backend,
    patience: Duration,
    /// The file's name, and the open file.
    file: Option<(String, File)>,
}

fn options() -> Result<Option<Options>, Box<dyn Error>> {
    use lexopt::prelude::*;

    let (mut backend, mut patience, mut file) = (None, 10_u32, None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("backend") => {
                let name = arguments.value()?.string()?;
                let named: Backend = name.parse()?;
                named.check()?;
                backend = Some(named);
            }
            Long("patience") => patience = arguments.value()?.parse()?,
            Short('h') | Long("help") => return Ok(None),
            Value(path) if file.is_none() => {
                let name = path.to_string_lossy().into_owned();
                let opened = File::open(path).map_err(|error| format!("{name}: {error}"))?;
                file = Some((name, opened));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let backend = backend.or_else(Backend::best);
    let backend = backend.ok_or("neither KVM nor processes can be used here")?;
    Ok(Some(Options { backend, patience: Duration::from_secs(patience.max(1).into()), file }))
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("sandbox: {error}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let Some(Options { backend, patience, file }) = options()? else {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let image = Image::open(guests::build("examples/guests/sandbox", "sandbox")?)?;
    eprintln!("sandbox: runs on {backend}");
    let bar = ProgressBar::hidden();
    let (name, input): (String, Box<dyn Read + Send>) = match file {
        Some((name, file)) => {
            if io::stderr().is_terminal() {
                bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
                bar.set_length(file.metadata()?.len());
                bar.set_style(ProgressStyle::with_template(
                    "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}",
                )?);
            }
            (name, Box::new(bar.wrap_read(file)))
        }
        None => ("the sample".into(), Box::new(SAMPLE)),
    };
    // Unbuffered, unlike the standard library's, since the writes are large.
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let done = host::Sandbox { image, backend, patience }.unpack(input, output);
    bar.finish_and_clear();
    match done {
        Ok(summary) if summary.garbage => {
            eprintln!("sandbox: {name}: what follows the last member is ignored");
            Ok(ExitCode::from(2))
        }
        Ok(_) => Ok(ExitCode::SUCCESS),
        // The reader has closed the pipe early, as `head` does; that is no error to report.
        Err(host::Error::Write(error)) if error.kind() == ErrorKind::BrokenPipe => {
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(format!("{name}: {error}").into()),
    }
}

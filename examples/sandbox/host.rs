//! The host of the sandbox: it passes the file to the guest, takes the content, and does not trust the guest.

use std::{
    fmt,
    io::{self, Read, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use vmffi::{
    CallError, ConnectError, Failure, ForeignBuf, Peer, SharedBuf,
    host::{Host, RunOutcome, Vcpu},
    machine::{Backend, Image, MachineBuilder, MachineError},
};

// The guest has the same declaration: both sides compile their own, and the handshake compares them.
vmffi::ffi_interface! {
    #[derive(Debug, PartialEq)]
    pub struct Summary { members: u64, garbage: bool }

    #[derive(Debug, PartialEq)]
    pub enum GzipError: u32 {
        NotGzip = 1,
        Unsupported = 2,
        BadHeader = 3,
        BadData = 4,
        BadChecksum = 5,
        BadLength = 6,
        Truncated = 7,
    }

    pub interface Files {
        fn read(max: u32) -> ForeignBuf;
        fn write(bytes: ForeignBuf);
    }

    pub interface Unpacker {
        fn unpack() -> Result<Summary, GzipError>;
    }
}

/// The most that crosses at a time in each direction. The guest asks for as much.
const CHUNK: usize = 256 << 10;
/// The most bytes that one byte of a file can expand to: two bits can encode 258 bytes.
const MOST_OF_ONE: u64 = 1032;

/// The options of a sandbox.
pub struct Sandbox {
    /// The guest, which serves [`Unpacker`].
    pub image: Image,
    pub backend: Backend,
    /// How long the guest may compute without reading or writing.
    pub patience: Duration,
}

/// Why a file was not unpacked.
#[derive(Debug)]
pub enum Error {
    /// The guest reports that the file is bad.
    File(GzipError),
    /// The guest itself failed.
    Guest(String),
    Read(io::Error),
    Write(io::Error),
    MachineBuilder(MachineError),
}

impl Sandbox {
    /// Unpacks `input` into `output`, in a new machine.
    pub fn unpack(
        &self,
        input: impl Read + Send + 'static,
        output: impl Write + Send + 'static,
    ) -> Result<Summary, Error> {
        let desk = Arc::new(Desk {
            work: Mutex::new(Work {
                input: Box::new(input),
                output: Box::new(output),
                read: 0,
                written: 0,
                chunk: vec![0; CHUNK],
                failed: None,
            }),
            moved: AtomicU64::new(0),
            busy: AtomicBool::new(false),
        });
        // Each side holds one chunk at a time, and at most one that is not released yet.
        let arena = 4 * CHUNK as u64;
        let host = MachineBuilder::new(&self.image)
            .arenas(arena, arena)
            .memory(16 << 20)
            .build(self.backend, Server(desk.clone()))
            .map_err(Error::MachineBuilder)?;
        let done = watched(&host, &desk, self.patience, || match host.run()? {
            RunOutcome::Ready => Ok(UnpackerClient::from(host.guest()).unpack()),
            RunOutcome::Exited(_) => Err(CallError::refused().into()),
        });
        // An error of the host's own is reported first, since the others follow from it.
        let failed = desk.work().failed.take();
        let guest = |error: &dyn fmt::Display| match host.guest_exit() {
            Some(end) => Error::Guest(end.to_string()),
            None => Error::Guest(error.to_string()),
        };
        match (failed, done) {
            (Some(failed), _) => Err(failed),
            (None, Ok(Ok(summary))) => Ok(summary),
            (None, Ok(Err(Failure::App(error)))) => Err(Error::File(error)),
            (None, Ok(Err(Failure::Call(error)))) => Err(guest(&error)),
            (None, Err(error)) => Err(guest(&error)),
        }
    }
}

/// Runs the guest's work, and stops the guest if nothing has moved for a while.
fn watched<V: Vcpu + 'static, T>(
    host: &Host<V>,
    desk: &Arc<Desk>,
    patience: Duration,
    work: impl FnOnce() -> Result<T, ConnectError>,
) -> Result<T, ConnectError> {
    let (stopper, desk) = (host.stopper(), desk.clone());
    let (working, done) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let mut before = 0;
        while done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            // Time in which the host itself waits, for a pipe for example, does not count.
            let moved = desk.moved.load(Ordering::Relaxed);
            if moved == before && !desk.busy.load(Ordering::Relaxed) {
                desk.work().fail(Error::Guest(format!(
                    "the guest has done nothing for {patience:?}, and was stopped"
                )));
                stopper.stop();
                break;
            }
            before = moved;
        }
    });
    let result = work();
    drop(working);
    // The watchdog does nothing that panics.
    let _ = watchdog.join();
    result
}

struct Desk {
    work: Mutex<Work>,
    /// The number of bytes that have crossed.
    moved: AtomicU64,
    /// The host reads or writes.
    busy: AtomicBool,
}

impl Desk {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a part of the host's own work.
    fn busy<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.busy.store(true, Ordering::Relaxed);
        let result = work();
        self.busy.store(false, Ordering::Relaxed);
        result
    }
}

struct Work {
    input: Box<dyn Read + Send>,
    output: Box<dyn Write + Send>,
    read: u64,
    written: u64,
    chunk: Vec<u8>,
    /// The first error; after it, no work is done.
    failed: Option<Error>,
}

impl Work {
    fn fail(&mut self, error: Error) -> CallError {
        self.failed.get_or_insert(error);
        CallError::refused()
    }
}

struct Server(Arc<Desk>);

impl Files for Server {
    fn read(&self, guest: &Peer, max: u32) -> Result<SharedBuf, CallError> {
        let mut work = self.0.work();
        if work.failed.is_some() {
            return Err(CallError::refused());
        }
        let mut chunk = SharedBuf::zeroed(guest, CHUNK.min(max as usize))?;
        let read = self.0.busy(|| {
            loop {
                match work.input.read(chunk.as_mut_slice()) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result,
                }
            }
        });
        let read = read.map_err(|error| work.fail(Error::Read(error)))?;
        chunk.truncate(read);
        work.read += read as u64;
        self.0.moved.fetch_add(read as u64, Ordering::Relaxed);
        Ok(chunk)
    }

    fn write(&self, _guest: &Peer, bytes: ForeignBuf) -> Result<(), CallError> {
        let work = &mut *self.0.work();
        let len = bytes.len() as u64;
        if work.failed.is_some() {
            return Err(CallError::refused());
        }
        if bytes.len() > CHUNK {
            return Err(
                work.fail(Error::Guest(format!("the guest writes {len} bytes in one call")))
            );
        }
        if work.written + len > MOST_OF_ONE * work.read {
            let text = "the guest writes more than a file of this size can contain";
            return Err(work.fail(Error::Guest(text.into())));
        }
        let chunk = bytes.read_into(&mut work.chunk)?;
        let written = self.0.busy(|| work.output.write_all(chunk));
        written.map_err(|error| work.fail(Error::Write(error)))?;
        work.written += len;
        self.0.moved.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }
}

vmffi::serve!(Server: Files; calls Unpacker);

impl fmt::Display for GzipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotGzip => "this is not a gzip file",
            Self::Unsupported => "the file is compressed by an unsupported method",
            Self::BadHeader => "the file is corrupt: a header's checksum is wrong",
            Self::BadData => "the file is corrupt: the data cannot be inflated",
            Self::BadChecksum => "the file is corrupt: the data's checksum is wrong",
            Self::BadLength => "the file is corrupt: the data's length is wrong",
            Self::Truncated => "the file ends too early",
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Guest(text) => f.write_str(text),
            Self::Read(error) => write!(f, "reading: {error}"),
            Self::Write(error) => write!(f, "writing: {error}"),
            Self::MachineBuilder(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

//! What the cases share: machines, guests that run forever, children.

use std::{
    env, fs,
    io::Error,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, OnceLock, mpsc},
    time::{Duration, Instant},
};

use vmffi::{
    ErrorKind,
    host::{GuestExit, RunOutcome},
    machine::{Backend, Image, MachineBuilder},
};

use super::cases::GUEST;
use sides::{host::Host, shared::control::ControlClient};

/// A guest in a machine.
pub type Built = vmffi::machine::Machine;

/// How late a deadline of 50 ms may be on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

pub fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    let open = || Image::open(env::var_os(GUEST).expect("the guest's program"));
    IMAGE.get_or_init(|| open().expect("a valid program"))
}

pub fn machine() -> MachineBuilder {
    MachineBuilder::new(image()).arenas(1 << 20, 1 << 20)
}

/// The same program as a new image, of which no machine was made.
pub fn fresh() -> MachineBuilder {
    let image = Image::open(env::var_os(GUEST).expect("the guest's program"));
    MachineBuilder::new(&image.expect("an image")).arenas(1 << 20, 1 << 20)
}

/// A guest that waits for calls.
pub fn started(machine: &MachineBuilder, backend: Backend) -> Built {
    start(machine, backend, Host::default())
}

pub fn start(machine: &MachineBuilder, backend: Backend, server: Host) -> Built {
    let host = machine.build(backend, server).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
    host
}

/// Receives a message when a guest is about to run forever.
pub struct Begins(Mutex<mpsc::Receiver<()>>);

impl Begins {
    pub fn wait(&self) {
        self.0.lock().unwrap().recv_timeout(Duration::from_secs(20)).expect("the guest begins");
    }

    /// Discards messages of earlier calls.
    pub fn forget(&self) {
        while self.0.lock().unwrap().try_recv().is_ok() {}
    }
}

/// A guest that sends a message before it runs forever.
pub fn spinner(machine: &MachineBuilder, backend: Backend) -> (Built, Begins) {
    let (begun, begins) = mpsc::channel();
    let begun = Mutex::new(begun);
    let server = Host::on_spin(move || {
        // In some cases there is no receiver.
        let _ = begun.lock().unwrap().send(());
    });
    (start(machine, backend, server), Begins(Mutex::new(begins)))
}

/// The guest computes a sum.
#[track_caller]
pub fn works(host: &Built) {
    assert_eq!(ControlClient::from(host.guest()).sum(4), Ok(10), "{:?}", host.guest_exit());
}

/// A deadline of 50 ms ends an endless guest, which works again after a reset.
#[track_caller]
pub fn meets_a_deadline(host: &Built) {
    let began = Instant::now();
    let within = host.with_deadline(Duration::from_millis(50));
    let within = within.guest();
    let ended = ControlClient::from(within).spin();
    let took = began.elapsed();
    assert_eq!(ended.map_err(|error| error.kind()), Err(ErrorKind::Cancelled), "after {took:?}");
    assert_eq!(host.guest_exit(), Some(GuestExit::Deadline), "after {took:?}");
    assert!(took >= Duration::from_millis(50) && took < SOON, "{took:?}");
    host.reset().unwrap();
    works(host);
}

/// Every operation of the guest works.
#[track_caller]
pub fn works_in_every_way(host: &Built) {
    works(host);
    meets_a_deadline(host);
    host.reset().unwrap();
    works(host);
}

/// The guest runs forever on this thread, and another thread stops it, 20 ms after it has begun.
#[track_caller]
pub fn is_stopped(host: &Built, begins: &Begins) {
    let stopper = host.stopper();
    begins.forget();
    std::thread::scope(|scope| {
        let stops = scope.spawn(move || {
            begins.wait();
            std::thread::sleep(Duration::from_millis(20));
            let began = Instant::now();
            stopper.stop();
            began
        });
        let error = ControlClient::from(host.guest()).spin().unwrap_err();
        let ended = Instant::now();
        assert_eq!(
            (error.kind(), error.reached()),
            (ErrorKind::Cancelled, true),
            "{:?}",
            host.guest_exit()
        );
        let took = ended - stops.join().unwrap();
        assert!(took < SOON, "{took:?}");
    });
    assert_eq!(host.guest_exit(), Some(GuestExit::Stopped));
}

/// A system call that must work.
#[track_caller]
pub fn done(result: i32) -> i32 {
    assert_ne!(result, -1, "{}", Error::last_os_error());
    result
}

/// Forks; the child runs a function and exits. A child that panics, crashes or takes 20 s fails the case.
#[track_caller]
pub fn forked(child: impl FnOnce()) {
    join(fork(child));
}

/// Forks, and returns the child's process ID without waiting.
#[track_caller]
pub fn fork(child: impl FnOnce()) -> i32 {
    // SAFETY: the child does what this C library permits after fork(2), including the use of the
    // heap, and exits without returning.
    let pid = done(unsafe { libc::fork() });
    if pid != 0 {
        return pid;
    }
    // SAFETY: alarm(2) takes an integer; the child does not handle the signal, which therefore ends it.
    unsafe { libc::alarm(20) };
    let failed = panic::catch_unwind(AssertUnwindSafe(child)).is_err();
    // SAFETY: the call ends this process.
    unsafe { libc::_exit(i32::from(failed)) }
}

#[track_caller]
pub fn join(pid: i32) {
    let mut status = 0;
    // SAFETY: the pointer to the status is valid.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1 {
        assert_eq!(Error::last_os_error().raw_os_error(), Some(libc::EINTR));
    }
    assert!(!libc::WIFSIGNALED(status), "the child died of signal {}", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "the child's exit status");
}

/// The lines of /proc/self/maps that are a machine's memory.
pub fn mapped() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("memfd:vmffi")).map(str::to_owned).collect()
}

/// The open descriptors of this process that belong to machines.
pub fn descriptors() -> Vec<String> {
    let listed = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = listed.filter_map(|entry| fs::read_link(entry.path()).ok());
    let targets = targets.map(|target| target.display().to_string());
    let ours = |target: &String| ["vmffi", "kvm", "pidfd"].iter().any(|of| target.contains(of));
    targets.filter(ours).filter(|target| !support::left::is_shared(target)).collect()
}

/// The children of this process that were not waited for, in any state.
pub fn children() -> Vec<i32> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    found
}

/// This process has no resource of a machine.
#[track_caller]
pub fn nothing_left() {
    assert_eq!((mapped(), descriptors(), children()), (vec![], vec![], vec![]));
}

/// A process that has inherited machines has made no other ones that are left.
#[track_caller]
pub fn nothing_left_but_descriptors() {
    assert_eq!((mapped(), children()), (vec![], vec![]));
}

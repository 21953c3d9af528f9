//! Runs each case in a process of its own.

use std::{
    env,
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Failed, Trial};
use vmffi::machine::Backend;

use super::{
    checks, children, descriptors, drops, filters, forks, kills, limits, namespaces, outside,
    signals, state, tools, users,
};
use support::guests;

/// The variable that names the case for which a process was started.
pub const CASE: &str = "VMFFI_TEST_CASE";
/// The variable with the path of the guest's program, which is built once.
pub const GUEST: &str = "VMFFI_TEST_GUEST";
/// What a case prints before the name of a missing requirement.
const SKIPPED: &str = "skipped: ";
/// The longest time of a case.
const PATIENCE: Duration = Duration::from_secs(300);

/// A name, the backends that it is for, and its function.
pub type Case = (&'static str, fn(Backend) -> bool, fn(Backend));

pub fn any(_: Backend) -> bool {
    true
}

pub fn kvm(backend: Backend) -> bool {
    backend.name() == "kvm"
}

pub fn process(backend: Backend) -> bool {
    backend.name() == "process"
}

fn all() -> impl Iterator<Item = Case> {
    [
        forks::CASES,
        signals::CASES,
        limits::CASES,
        checks::CASES,
        drops::CASES,
        state::CASES,
        children::CASES,
        descriptors::CASES,
        filters::CASES,
        kills::CASES,
        namespaces::CASES,
        outside::CASES,
        tools::CASES,
        users::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Ends a case that cannot run here.
pub fn skip(why: &str) -> ! {
    println!("{SKIPPED}{why}");
    std::process::exit(0);
}

pub fn main() -> ExitCode {
    if let Ok(name) = env::var(CASE) {
        let case = |&(backend, case, _): &(Backend, Case, String)| name == title(backend, case.0);
        let (backend, (_, _, run), _) = pairs().find(case).expect("a known case");
        run(backend);
        return ExitCode::SUCCESS;
    }
    // The environment for children must not contain this process's own case.
    // SAFETY: there is no other thread yet.
    unsafe { env::remove_var(CASE) };
    let guest = guests::build("tests/machines/guest", "fixed").expect("the guest's program");
    let missing = |backend: Backend| backend.check().err();
    let usable: Vec<_> = Backend::ALL.iter().map(|&backend| (backend, missing(backend))).collect();
    for (backend, why) in &usable {
        if let Some(why) = why {
            support::skips::skip(backend, why);
        }
    }
    let trials = pairs().map(|(backend, _, name)| {
        let guest = guest.clone();
        let missing = usable.iter().any(|(of, why)| *of == backend && why.is_some());
        let case = name.clone();
        Trial::test(name, move || apart(&case, &guest)).with_ignored_flag(missing)
    });
    let documented = Trial::test("the_guide_names_each_case", || {
        documented();
        Ok(())
    });
    let mut arguments = Arguments::from_args();
    // One at a time, since the cases measure deadlines.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.chain([documented]).collect()).exit_code()
}

/// The guide's table names each case, and no others: they are in the last column of its rows.
fn documented() {
    let guide = include_str!("../../../docs/guide/process.md");
    let rows = guide.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| tests |"));
    let mut named: Vec<&str> = rows
        .filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next())
        .flat_map(|tests| tests.split(", ").map(|test| test.trim_matches('`')))
        .collect();
    named.sort_unstable();
    let mut cases: Vec<&str> = all().map(|case| case.0).collect();
    cases.sort_unstable();
    assert_eq!(named, cases);
}

pub fn title(backend: Backend, name: &str) -> String {
    format!("{backend}: {name}")
}

fn pairs() -> impl Iterator<Item = (Backend, Case, String)> {
    let backends = Backend::ALL.iter().copied();
    backends.flat_map(|backend| {
        all()
            .filter(move |case| (case.1)(backend))
            .map(move |case| (backend, case, title(backend, case.0)))
    })
}

/// Runs a case in a process of its own, in one process group with all that it starts.
fn apart(name: &str, guest: &std::path::Path) -> Result<(), Failed> {
    let mut child = Command::new(env::current_exe()?)
        .env(CASE, name)
        .env(GUEST, guest)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let group = child.id() as i32;
    fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
        let mut pipe = pipe.expect("a piped stream");
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    // SAFETY: kill(2) takes two integers; the group is the case's own, which was or is now waited for.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    if status.is_none() {
        child.wait()?;
    }
    let (out, err) = (out.join().expect("a reader"), err.join().expect("a reader"));
    print!("{out}");
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{status}\n{out}{err}").into()),
        None => Err(format!("has not ended after {PATIENCE:?}\n{out}{err}").into()),
    }
}

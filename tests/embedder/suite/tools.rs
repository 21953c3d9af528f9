//! Programs that run others: debuggers, tracers, memory checkers.

use std::{
    env, fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use vmffi::machine::Backend;

use super::{
    cases::{CASE, Case, any, process, skip, title},
    makes::{is_stopped, machine, nothing_left, spinner, works_in_every_way},
};

pub const CASES: &[Case] = &[
    (PLAIN, any, plain),
    ("under_strace", process, |backend| under(backend, &["strace", "-f", "-o", "/dev/null"])),
    ("under_gdb", process, |backend| {
        let run = ["-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "run", "-ex"];
        let after = ["kill", "--args"];
        under(backend, &[&["gdb"][..], &run, &after].concat());
    }),
    ("under_valgrind", process, |backend| under(backend, &["valgrind", "-q", "--tool=none"])),
];

const PLAIN: &str = "a_machine_in_a_program_that_does_nothing_else";
/// What a program prints if its machines work, and what it prints before the reason if they do not.
const WORKS: &str = "machines work";
const FAILS: &str = "machines do not work: ";

fn plain(backend: Backend) {
    if let Err(error) = backend.check() {
        println!("{FAILS}{error}");
        return;
    }
    let (host, begins) = spinner(&machine(), backend);
    works_in_every_way(&host);
    is_stopped(&host, &begins);
    host.reset().unwrap();
    works_in_every_way(&host);
    drop(host);
    nothing_left();
    println!("{WORKS}");
}

/// Runs the case above under a tool: its machines work, or one line says why not.
fn under(backend: Backend, tool: &[&str]) {
    let paths = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&paths).any(|path| path.join(tool[0]).is_file()) {
        skip(&format!("{} is not installed", tool[0]));
    }
    let output = env::temp_dir().join(format!("under-{}-{}", tool[0], std::process::id()));
    let file = fs::File::create(&output).unwrap();
    let mut child = Command::new(tool[0])
        .args(&tool[1..])
        .arg(env::current_exe().unwrap())
        .env(CASE, title(backend, PLAIN))
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(250);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > patience => break None,
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = String::from_utf8_lossy(&fs::read(&output).unwrap()).into_owned();
    let _ = fs::remove_file(&output);
    let Some(status) = status else {
        child.kill().unwrap();
        panic!("{} has not ended: {text}", tool[0]);
    };
    let said = text.lines().find(|line| line.contains(WORKS) || line.contains(FAILS));
    let Some(said) = said else { panic!("{}: {status}\n{text}", tool[0]) };
    println!("under {}: {said}", tool[0]);
}

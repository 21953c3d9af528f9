//! What the crate costs beside time: bytes of a guest's program, memory of a machine, and the time to compile a host.
//!
//! `cargo bench --bench sizes` prints a table of each.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod sizes {
    use std::{
        fmt::Write,
        fs,
        path::{Path, PathBuf},
        process::Command,
        time::Duration,
    };

    use support::guests;
    use vmffi::{
        host::RunOutcome,
        machine::{Backend, Image, MachineBuilder},
    };

    pub fn main() {
        programs();
        machines();
        hosts();
    }

    fn guest(name: &str) -> PathBuf {
        guests::build("tests/golden/guest", name).expect("a guest")
    }

    /// The bytes of a program's segments: code and constants, and data of any kind.
    fn segments(program: &Path) -> [u64; 2] {
        let output = Command::new("size").arg(program).output().expect("binutils").stdout;
        let text = String::from_utf8(output).expect("numbers");
        let line = text.lines().nth(1).expect("a line of numbers");
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>());
        let mut next = || numbers.next().expect("a column").expect("a number");
        [next(), next() + next()]
    }

    /// `tests/golden/guest`: guests that call no function, one, and fifty.
    fn programs() {
        println!(
            "| guest that calls | file | code and constants | other data |\n|---|---:|---:|---:|"
        );
        let all = [("nothing", "none"), ("1 function", "one"), ("50 functions", "fifty")];
        let codes = all.map(|(shown, name)| {
            let program = guest(name);
            let file = fs::metadata(&program).expect("a file").len();
            let [code, data] = segments(&program);
            println!("| {shown} | {file} B | {code} B | {data} B |");
            code
        });
        println!("\nEach further function: {} B\n", (codes[2] - codes[1]) / 49);
    }

    fn memory_in_use() -> u64 {
        let info = fs::read_to_string("/proc/meminfo").expect("procfs");
        let kib = |name: &str| -> u64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            line.trim_end_matches("kB").trim().parse().expect("a number")
        };
        kib("MemTotal:") - kib("MemFree:") - kib("Buffers:") - kib("Cached:") + kib("Shmem:")
    }

    /// Machines of the guest that calls nothing, which wait for calls. The system's memory has all that the kernel keeps
    /// for them.
    fn machines() {
        const COUNT: u64 = 200;
        let image = Image::open(guest("none")).expect("an image");
        let builder = MachineBuilder::new(&image).arenas(4096, 4096);
        println!("| minimal machine | memory of the system |\n|---|---:|");
        for backend in Backend::ALL {
            if let Err(error) = backend.check() {
                println!("skipped: {backend}: {error}");
                continue;
            }
            let build = || {
                let host = builder.build(*backend, ()).expect("a machine");
                assert_eq!(host.run(), Ok(RunOutcome::Ready));
                host
            };
            let first = build();
            let before = memory_in_use();
            let hosts: Vec<_> = (0..COUNT).map(|_| build()).collect();
            println!("| {backend} | {} KiB |", memory_in_use().saturating_sub(before) / COUNT);
            drop((first, hosts));
        }
        println!();
    }

    /// A host that serves so many functions, each with a scalar, a text and a struct.
    fn host(functions: usize) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sizes/host-{functions}"));
        let vmffi = env!("CARGO_MANIFEST_DIR");
        let mut text = String::from(
            "use vmffi::{CallError, ForeignStr, Peer, loopback::Loopback};\n\
             vmffi::ffi_interface! {\npub struct Stat { size: u64, mode: u32, links: u32 }\npub interface Files {\n",
        );
        let each = |text: &mut String, line: &dyn Fn(usize) -> String| {
            (0..functions).for_each(|nr| writeln!(text, "{}", line(nr)).expect("a string"));
        };
        each(&mut text, &|nr| {
            format!("fn f{nr}(file: u64, path: ForeignStr, stat: Stat) -> Stat;")
        });
        text += "} }\nstruct Host;\nimpl Files for Host {\n";
        each(&mut text, &|nr| {
            format!(
                "fn f{nr}(&self, _: &Peer, file: u64, path: ForeignStr, stat: Stat) -> Result<Stat, CallError> {{\n\
                 Ok(Stat {{ size: file + path.len() as u64 + {nr}, ..stat }}) }}"
            )
        });
        text += "}\nvmffi::serve!(Host: Files);\n\
            fn main() { drop(Loopback::new((), Host).expect(\"memory\")); }\n";
        fs::create_dir_all(folder.join("src")).expect("a folder");
        let manifest = format!(
            "[package]\nname = \"host-{functions}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
             [dependencies]\nvmffi = {{ path = {vmffi:?} }}\n"
        );
        fs::write(folder.join("Cargo.toml"), manifest).expect("a manifest");
        fs::write(folder.join("src/main.rs"), text).expect("a source");
        fs::copy(Path::new(vmffi).join("Cargo.lock"), folder.join("Cargo.lock")).expect("a lock");
        folder
    }

    /// The processor time of all children so far, which a busy machine hardly changes.
    fn children() -> Duration {
        // SAFETY: zeros are a value of it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: it writes to `usage` alone.
        assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) }, 0);
        [usage.ru_utime, usage.ru_stime]
            .map(|time| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000))
            .iter()
            .sum()
    }

    /// Compiles the host's own package; its dependencies are ready.
    fn compile(folder: &Path, command: &[&str]) -> Duration {
        let source = folder.join("src/main.rs");
        let once = || {
            fs::write(&source, fs::read(&source).expect("a source")).expect("the same source");
            let start = children();
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(command).arg("--quiet").current_dir(folder);
            cargo.env(
                "CARGO_TARGET_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("sizes/target"),
            );
            cargo.env("CARGO_INCREMENTAL", "0").env_remove("RUSTFLAGS");
            assert!(cargo.status().expect("cargo").success());
            children() - start
        };
        // The first builds the dependencies.
        once();
        once().min(once())
    }

    fn hosts() {
        println!("| processor time | host of 1 function | of 10 | of 200 |\n|---|---:|---:|---:|");
        let hosts = [1, 10, 200].map(host);
        for command in [&["check"][..], &["build"], &["build", "--release"]] {
            let times: Vec<_> =
                hosts.iter().map(|host| format!("{:.2?}", compile(host, command))).collect();
            println!("| cargo {} | {} |", command.join(" "), times.join(" | "));
        }
    }
}

fn main() {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    sizes::main();
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    println!("there are no machines here");
}

//! Building guests, for build scripts (feature `build`).
//!
//! A guest's `build.rs` says how the guest is linked, and that of its host builds it:
//!
//! ```no_run
//! // In `main` of plugin/build.rs:
//! vmffi::build::link();
//! ```
//!
//! ```no_run
//! // In `main` of host/build.rs:
//! vmffi::build::guest("../plugin");
//! ```
//!
//! ```ignore
//! // In host/src/main.rs:
//! let image = Image::parse(include_bytes!(env!("GUEST_PLUGIN")))?;
//! ```
//!
//! Both packages name the crate among their build dependencies:
//!
//! ```toml
//! [build-dependencies]
//! vmffi = { version = "0.1", default-features = false, features = ["build"] }
//! ```
//!
//! The [guide](https://docs.rs/vmffi/latest/vmffi/guide/layout) has whole layouts of hosts and guests.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::Mutex,
    time::SystemTime,
};

/// The architectures of machines, as `CARGO_CFG_TARGET_ARCH` names them, and the targets for which guests are built: the
/// only ones whose programs [`link`] makes programs for machines.
const TARGETS: [(&str, &str); 3] = [
    ("x86_64", "x86_64-unknown-linux-gnu"),
    ("aarch64", "aarch64-unknown-linux-gnu"),
    ("riscv64", "riscv64gc-unknown-linux-gnu"),
];

/// What a guest does not have below it: start-up code of C, libraries, a dynamic linker, a loader that relocates it.
const ARGUMENTS: [&str; 4] = ["-nostartfiles", "-nostdlib", "-static", "-no-pie"];

/// Links all programs of this package as guests. It is all that the build script of a guest calls.
///
/// The linker chooses the addresses of the program. For one that is independent of its position, print the arguments
/// `-nostartfiles`, `-nostdlib` and `-static-pie` instead (`cargo:rustc-link-arg-bins=…`). On riscv64, GCC 12 and its linker also
/// need `-Wl,--no-dynamic-linker` and a version script (`-Wl,--version-script=…`) of `{ local: *; };`.
///
/// It does nothing where the package is built for another system than Linux, or for an architecture without machines:
/// linkers have other arguments there.
pub fn link() {
    if target_of_machines().is_some() {
        for argument in ARGUMENTS {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}

/// Builds the guest in `folder`, which is relative to the package whose build script calls this.
///
/// The path of each of its programs is in an environment variable of the package's compilation: of a program `my-guest` in
/// `env!("GUEST_MY_GUEST")`, for `include_bytes!`.
///
/// [`Guest`] says how and when it is built, and has options.
///
/// # Exits
///
/// If the guest cannot be built, it prints why, and the build script exits with status 1.
pub fn guest(folder: impl AsRef<Path>) {
    Guest::new(folder).build();
}

/// A guest that a build script builds, with options.
///
/// ```no_run
/// vmffi::build::Guest::new("../plugin").profile("dev").features(["trace"]).build();
/// ```
///
/// - *Compiler*: the one that builds the host.
/// - *Target*: Linux on the architecture of the host, which is that of its machines: `x86_64-unknown-linux-gnu`,
///   `aarch64-unknown-linux-gnu` or `riscv64gc-unknown-linux-gnu`. Where the host is built for another architecture than
///   that of the compiler, the guest needs the same linker and standard library as the host; or choose another
///   [`target`](Self::target).
/// - *Flags*: those of the configuration files of cargo (`.cargo/config.toml`) that apply in the guest's folder. What is
///   for the host's compiler (`RUSTFLAGS`, wrappers, the build target) is not passed on.
/// - *Profile*: `release`, if no other is chosen, and with `panic = "abort"` in any case.
/// - *Target folder*: one in the `OUT_DIR` of the build script, with a build folder that all guests share (since Rust
///   1.91). Cargo locks these while it builds, so it would wait for itself in those of the host.
/// - *Rebuilds*: the build script runs again when a file of the guest or of a package that it has by a path has changed, or
///   a manifest, a lock file or a configuration that applies to them, or a variable that sets the guest's profile
///   (`CARGO_PROFILE_RELEASE_OPT_LEVEL`). A lock file or a configuration that did not exist at the last build is not noticed:
///   touch `build.rs` then.
/// - *Messages*: cargo shows errors of the guest as those of the build script, and warnings line by line.
#[derive(Clone, Debug)]
#[must_use = "`build` builds it"]
pub struct Guest {
    folder: PathBuf,
    profile: String,
    features: Vec<String>,
    target: Option<String>,
    locked: bool,
}

impl Guest {
    /// The guest whose `Cargo.toml` is in `folder`, relative to the package whose build script calls this.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref().to_owned();
        let profile = "release".to_owned();
        Self { folder, profile, features: Vec::new(), target: None, locked: false }
    }

    /// The profile with which it is built, such as `dev`. Without optimization, guests are many times slower.
    pub fn profile(mut self, name: &str) -> Self {
        name.clone_into(&mut self.profile);
        self
    }

    /// Features of the guest's package with which it is built, beside its default ones.
    pub fn features<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Self {
        self.features.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// Builds it for this target instead, such as `x86_64-unknown-none`. Only for the default targets does [`link`] print
    /// arguments: the guest's build script must print those for another one. A machine runs programs of its host's
    /// architecture only.
    pub fn target(mut self, triple: &str) -> Self {
        self.target = Some(triple.to_owned());
        self
    }

    /// Builds the versions of the guest's lock file, as `cargo build --locked`; the build fails if they do not fit. Cargo
    /// does not tell build scripts that the host is built with `--locked`.
    pub fn locked(mut self) -> Self {
        self.locked = true;
        self
    }

    /// Builds it, and sets an environment variable for each of its programs, as [`guest`] does.
    ///
    /// # Exits
    ///
    /// If the guest cannot be built, it prints why, and the build script exits with status 1.
    pub fn build(self) {
        if let Err(problem) = self.try_build() {
            eprintln!("vmffi: {problem}");
            process::exit(1);
        }
    }

    fn try_build(&self) -> Result<(), String> {
        let built_for = match &self.target {
            Some(target) => target.clone(),
            None => default_target()?.to_owned(),
        };
        let folder = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join(&self.folder);
        let shown = folder.display();
        if !folder.join("Cargo.toml").is_file() {
            return Err(format!("the guest's folder {shown} has no Cargo.toml"));
        }
        let folder = folder.canonicalize().map_err(|error| format!("{shown}: {error}"))?;
        let target = PathBuf::from(variable("OUT_DIR")?).join("guests");
        let shared = shared_folder(&target);
        let locks = LockFiles::new(&folder);

        let output = self.cargo(&folder, &built_for, &target, &shared)?.output();
        let output = output.map_err(|error| format!("cargo cannot be started: {error}"))?;
        let messages = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            eprint!("{messages}");
            return Err(format!("the guest in {shown} cannot be built ({})", output.status));
        }
        for line in messages.lines().filter(|line| !line.is_empty()) {
            println!("cargo:warning={line}");
        }
        locks.keep_times();

        let programs = executables(&String::from_utf8_lossy(&output.stdout));
        if programs.is_empty() {
            return Err(format!("the package in {shown} has no program that is built"));
        }
        let mut sources = BTreeSet::new();
        for program in programs {
            println!("cargo:rustc-env={}={}", variable_of(&program)?, program.display());
            let list = program.with_extension("d");
            let list = fs::read_to_string(&list).map_err(|error| {
                format!("the sources of the guest, {}: {error}", list.display())
            })?;
            sources.extend(dependencies(&list).iter().map(|file| Path::new("/").join(file)));
        }
        // What the build has written is newer than the build script's start, which cargo compares with.
        sources.retain(|source| !source.starts_with(&target) && !source.starts_with(&shared));
        for path in watched(&folder, sources) {
            println!("cargo:rerun-if-changed={}", path.display());
        }
        let profile = self.profile.to_uppercase().replace('-', "_");
        for key in PROFILE_KEYS {
            println!("cargo:rerun-if-env-changed=CARGO_PROFILE_{profile}_{key}");
        }
        Ok(())
    }

    fn cargo(
        &self,
        folder: &Path,
        built_for: &str,
        target: &Path,
        shared: &Path,
    ) -> Result<Command, String> {
        let mut cargo = Command::new(variable("CARGO")?);
        // From there, since cargo reads the configuration files of its working directory.
        cargo.current_dir(folder).args(["build", "--quiet", "--bins", "--target", built_for]);
        cargo.args(["--message-format", "json-render-diagnostics", "--profile", &self.profile]);
        cargo.arg("--config").arg(format!("profile.{}.panic='abort'", self.profile));
        if !self.features.is_empty() {
            cargo.arg("--features").arg(self.features.join(","));
        }
        if self.locked {
            cargo.arg("--locked");
        }
        for (name, _) in env::vars_os().filter(|(name, _)| is_of_host(&name.to_string_lossy())) {
            cargo.env_remove(name);
        }
        cargo.arg("--target-dir").arg(target).env("CARGO_BUILD_BUILD_DIR", shared);
        // A configuration may have the paths of sources shortened: by this they are shortened by a known part.
        cargo.env("CARGO_BUILD_DEP_INFO_BASEDIR", "/");
        Ok(cargo)
    }
}

/// What a variable of the environment can set of a profile (the Cargo book, "Environment variables"), besides `PANIC`, which
/// this module sets.
const PROFILE_KEYS: [&str; 8] = [
    "CODEGEN_UNITS",
    "DEBUG",
    "DEBUG_ASSERTIONS",
    "INCREMENTAL",
    "LTO",
    "OPT_LEVEL",
    "OVERFLOW_CHECKS",
    "STRIP",
];

/// The target of guests for the target of the package that is being built, if there are machines on it.
fn target_of_machines() -> Option<&'static str> {
    let (arch, system) = (env::var("CARGO_CFG_TARGET_ARCH"), env::var("CARGO_CFG_TARGET_OS"));
    let (arch, system) = (arch.ok()?, system.ok()?);
    let (_, target) = TARGETS.iter().find(|(name, _)| *name == arch)?;
    (system == "linux").then_some(*target)
}

/// Guests run on the architecture of their host.
fn default_target() -> Result<&'static str, String> {
    let target = variable("TARGET")?;
    target_of_machines().ok_or_else(|| {
        format!(
            "machines run on Linux, on x86_64, aarch64 and riscv64, and this package is built for {}: build a guest only \
             where it can run",
            target.to_string_lossy()
        )
    })
}

/// For what is between sources and programs, in the folder of the host's target that cargo has marked as its cache.
fn shared_folder(target: &Path) -> PathBuf {
    let of_host = target.ancestors().skip(1).find(|folder| folder.join("CACHEDIR.TAG").is_file());
    of_host.map_or(target.to_owned(), |folder| folder.join("vmffi-guests"))
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: only cargo runs build scripts"))
}

/// Whether a variable of the environment is for the compilation of the host only.
fn is_of_host(name: &str) -> bool {
    const STARTS: &[&str] =
        &["CARGO_CFG_", "CARGO_FEATURE_", "CARGO_MANIFEST_", "CARGO_PKG_", "DEP_"];
    const NAMES: &[&str] = &[
        "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_RUSTC_WRAPPER",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
    ];
    STARTS.iter().any(|start| name.starts_with(start))
        || NAMES.contains(&name)
        || name.starts_with("CARGO_TARGET_") && name.ends_with("_RUSTFLAGS")
}

/// The name of the variable for a program's path. Each may be set once.
fn variable_of(program: &Path) -> Result<String, String> {
    static SET: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let letter = |char: char| if char.is_alphanumeric() { char.to_ascii_uppercase() } else { '_' };
    let variable = format!("GUEST_{}", name.chars().map(letter).collect::<String>());
    let mut set = SET.lock().map_err(|error| error.to_string())?;
    if set.insert(variable.clone()) {
        return Ok(variable);
    }
    Err(format!("a second program of guests has the name `{name}`: rename one of the two"))
}

/// The programs that cargo has built, from its messages: an object of JSON in each line.
fn executables(messages: &str) -> Vec<PathBuf> {
    let artifacts =
        messages.lines().filter(|line| line.contains(r#""reason":"compiler-artifact""#));
    let path = |line: &str| -> Option<PathBuf> {
        let (_, rest) = line.split_once(r#""executable":""#)?;
        let (mut path, mut chars) = (String::new(), rest.chars());
        loop {
            match chars.next()? {
                '"' => return Some(path.into()),
                '\\' => path.push(chars.next()?),
                char => path.push(char),
            }
        }
    };
    artifacts.filter_map(path).collect()
}

/// The files behind the colon of a rule for make, in which a backslash stands before a space in a name.
fn dependencies(rule: &str) -> Vec<PathBuf> {
    let Some((_, files)) = rule.split_once(": ") else { return Vec::new() };
    let marked = files.trim_end().replace("\\ ", "\0");
    marked.split(' ').map(|file| file.replace('\0', " ").into()).collect()
}

/// What cargo has to watch: sources, and what applies to their packages.
fn watched(folder: &Path, sources: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let package_of = |file: &PathBuf| {
        file.ancestors()
            .skip(1)
            .find(|folder| folder.join("Cargo.toml").is_file())
            .map(Path::to_owned)
    };
    let mut packages: BTreeSet<PathBuf> = sources.iter().filter_map(package_of).collect();
    packages.insert(folder.to_owned());
    let mut watched = sources;
    for package in packages {
        // The folder, since a new file in it may be a module or a program.
        watched.insert(package.join("src"));
        for folder in package.ancestors() {
            let files = ["Cargo.toml", "Cargo.lock", ".cargo/config.toml", ".cargo/config"];
            watched.extend(files.map(|file| folder.join(file)));
        }
    }
    // Cargo would run the build script each time for a file that does not exist.
    watched.retain(|path| path.exists());
    watched
}

/// The lock files that apply to a guest, or would, with their times before it is built.
struct LockFiles(Vec<(PathBuf, Option<SystemTime>)>);

impl LockFiles {
    fn new(folder: &Path) -> Self {
        let packages = folder.ancestors().filter(|folder| folder.join("Cargo.toml").is_file());
        let lock = |folder: &Path| folder.join("Cargo.lock");
        Self(packages.map(lock).map(|lock| (lock.clone(), modified(&lock))).collect())
    }

    /// Gives those that were written since then the times of their manifests: cargo would take what the build has written
    /// for a change, and run the build script once more.
    fn keep_times(self) {
        for (lock, before) in self.0 {
            if modified(&lock) != before {
                let manifest = modified(&lock.with_file_name("Cargo.toml"));
                if let (Some(time), Ok(file)) =
                    (manifest, fs::File::options().write(true).open(&lock))
                {
                    let _ = file.set_modified(time); // it would only cost time
                }
            }
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}

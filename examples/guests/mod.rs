//! Builds guests, so that `cargo run` needs no other step.

use std::{env, error::Error, fs, path::Path, path::PathBuf, process::Command};

/// Builds a program of the guest in a folder of this repository, and returns the path of its ELF file.
pub fn build(folder: &str, program: &str) -> Result<PathBuf, Box<dyn Error>> {
    build_for(folder, program, None)
}

/// The same for another target than that of the compiler's machine.
pub fn build_for(
    folder: &str,
    program: &str,
    triple: Option<&str>,
) -> Result<PathBuf, Box<dyn Error>> {
    // Packages in folders of the repository compile this file as well.
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let vmffi = folders.find(|folder| folder.join("examples/guests").is_dir());
    let vmffi = vmffi.ok_or("the source of this crate")?;
    let folder = vmffi.join(folder);
    // The versions that the repository is tested with.
    if !folder.join("Cargo.lock").exists() && vmffi.join("Cargo.lock").exists() {
        fs::copy(vmffi.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    }
    // This program is `target/debug/…`, or in a folder there: `target/debug/examples/…`.
    let here = env::current_exe()?;
    let mut folders = here.ancestors().skip(1);
    let inner = |folder: &&Path| folder.ends_with("examples") || folder.ends_with("deps");
    let profile = folders.find(|folder| !inner(folder));
    let mut target =
        profile.and_then(Path::parent).ok_or("a program in a target folder")?.join("guests");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Cargo runs in the guest's folder, since that may have a configuration of its own.
    cargo.current_dir(folder).args(["build", "--quiet", "--release", "--bin", program]);
    if let Some(triple) = triple {
        // A folder of its own, since guests for different targets may have one name.
        target.push(triple);
        cargo.args(["--target", triple]);
    }
    cargo.arg("--target-dir").arg(&target);
    target.extend(triple);
    // Settings for the host's compiler must not reach the guest's.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(variable);
    }
    if !cargo.status()?.success() {
        return Err(format!("the guest `{program}` cannot be built").into());
    }
    Ok(target.join("release").join(program))
}

//! Builds guests, so that `cargo run` is the whole set-up.

use std::{env, error::Error, fs, path::Path, path::PathBuf, process::Command};

/// Builds a guest of the examples, and says where its ELF file is.
#[allow(dead_code, reason = "tests have guests of their own")]
pub fn build(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    build_in("examples/guests", name, name)
}

/// Builds a program of a package in a workspace of guests, and says where its ELF file is.
pub fn build_in(workspace: &str, package: &str, name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let vmffi = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (label, workspace) = (workspace.replace('/', "-"), vmffi.join(workspace));
    // The versions that this crate is tested with.
    if !workspace.join("Cargo.lock").exists() && vmffi.join("Cargo.lock").exists() {
        fs::copy(vmffi.join("Cargo.lock"), workspace.join("Cargo.lock"))?;
    }
    // This program is `target/debug/examples/…`, or so.
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3).ok_or("a program in a target folder")?;
    let target = target.join("guests").join(label);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Its folder may have a configuration, too.
    cargo.current_dir(&workspace);
    // By package: what others ask of a dependency is not for this one.
    cargo.args(["build", "--quiet", "--release", "--package", package, "--bin", name]);
    cargo.arg("--target-dir").arg(&target);
    // What is said to the host's compiler is not for the guest's.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(variable);
    }
    if !cargo.status()?.success() {
        return Err(format!("the guest `{name}` cannot be built").into());
    }
    Ok(target.join("release").join(name))
}

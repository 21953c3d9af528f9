//! Builds the guests of the examples, so that `cargo run` is the whole set-up.

use std::{env, error::Error, path::PathBuf, process::Command};

/// Builds a guest, and says where its ELF file is.
pub fn build(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests");
    // This program is `target/debug/examples/…`, or so.
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3).ok_or("a program in a target folder")?.join("guests");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Its folder has a configuration too.
    cargo.current_dir(workspace);
    cargo.args(["build", "--quiet", "--release", "--package", name]);
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

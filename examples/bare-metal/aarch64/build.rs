//! Links the hypervisor, and builds the guest that it embeds.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let folder = env::var("CARGO_MANIFEST_DIR").unwrap();
    println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
    println!("cargo:rerun-if-changed=link.ld");
    for path in ["guest", "../../../src", "../../../Cargo.toml"] {
        println!("cargo:rerun-if-changed={path}");
    }

    // The guest has a target folder of its own, since cargo locks the one of the hypervisor meanwhile.
    let (target, out) = (env::var("TARGET").unwrap(), env::var("OUT_DIR").unwrap());
    let status = Command::new(env::var("CARGO").unwrap())
        .args(["build", "--quiet", "--release", "--target", &target, "--target-dir"])
        .arg(PathBuf::from(&out).join("guest"))
        .current_dir("guest")
        .status()
        .expect("cargo, which runs this, can run");
    assert!(status.success(), "the guest cannot be built");
    println!("cargo:rustc-env=GUEST={out}/guest/{target}/release/guest");
}

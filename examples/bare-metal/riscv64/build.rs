//! Links the hypervisor, and builds the guest that it embeds: once for each address at which it may be loaded, since a guest of
//! a host in M-mode has physical addresses.

use std::{env, fs, path::Path, process::Command};

/// The addresses of the two slots' memory, as in `link.ld`.
const SLOTS: [&str; 2] = ["0x82000000", "0x82400000"];

fn main() {
    let folder = env::var("CARGO_MANIFEST_DIR").unwrap();
    println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
    println!("cargo:rerun-if-changed=link.ld");
    for path in ["guest", "../../../src", "../../../Cargo.toml"] {
        println!("cargo:rerun-if-changed={path}");
    }

    let (target, out) = (env::var("TARGET").unwrap(), env::var("OUT_DIR").unwrap());
    for (slot, address) in SLOTS.iter().enumerate() {
        // The guest has a target folder of its own, since cargo locks the one of the hypervisor meanwhile.
        let build = Path::new(&out).join("guest");
        let status = Command::new(env::var("CARGO").unwrap())
            .args(["build", "--quiet", "--release", "--target", &target, "--target-dir"])
            .arg(&build)
            .env("GUEST_ADDRESS", address)
            .current_dir("guest")
            .status()
            .expect("cargo, which runs this, can run");
        assert!(status.success(), "the guest cannot be built");
        let image = format!("{out}/guest-{slot}");
        fs::copy(build.join(&target).join("release/guest"), &image).unwrap();
        println!("cargo:rustc-env=GUEST_{slot}={image}");
    }
}

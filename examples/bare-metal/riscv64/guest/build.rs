//! Links the guest as the bytes that its hypervisor copies into its memory, at the address `GUEST_ADDRESS`.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let address = std::env::var("GUEST_ADDRESS").unwrap_or("0x82000000".into());
    println!("cargo:rustc-link-arg-bins=--defsym=ADDRESS={address}");
    println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
    println!("cargo:rustc-link-arg-bins=--oformat=binary");
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rerun-if-env-changed=GUEST_ADDRESS");
}

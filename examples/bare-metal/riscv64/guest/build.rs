//! Links the guest as the bytes of its memory, without a file format around them: once for each address at which it may be loaded,
//! since below a host in M-mode a guest has physical addresses.

/// The programs, and the addresses of the two slots' memory, as in the linker script of the host.
const PROGRAMS: [(&str, u64); 2] = [("slot0", 0x8200_0000), ("slot1", 0x8240_0000)];

// Each package is a workspace of its own, so the linker runs in its folder.
fn main() {
    for (program, address) in PROGRAMS {
        println!("cargo:rustc-link-arg-bin={program}=--defsym=ADDRESS={address:#x}");
    }
    for argument in ["--oformat=binary", "-Tlink.ld"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=link.ld");
}

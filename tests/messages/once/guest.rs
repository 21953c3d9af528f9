//! The macros of a guest program where the feature is missing.

vmffi::entry! { //~ a guest program needs the feature `guest` of vmffi
    server: () = (),
    arena: 4096,
}
vmffi::panic_handler!();
vmffi::memory_functions!();

fn main() {}

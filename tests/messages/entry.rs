//! What a guest gives to `entry!` is as safe as the code around it: neither its server's expression stands in the macro's
//! own `unsafe`, nor can safe code call the function that the macro makes.

/// # Safety
///
/// Never.
pub unsafe fn dangerous() {}

vmffi::entry! {
    server: () = dangerous(),
    arena: 1 << 20,
}

pub fn again(boot: *const u64) -> ! {
    __vmffi_entry(boot)
}

fn main() {}

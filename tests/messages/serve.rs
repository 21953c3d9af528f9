//! What `serve!` does not take.

vmffi::ffi_interface! {
    pub interface Clock { fn now() -> u64; }
}

pub struct Machine;

vmffi::serve!(Machine);
vmffi::serve!(Machine, Clock);
vmffi::serve!(Machine: Clock calls Clock);
vmffi::serve!(Machine: Clock; uses Clock);
vmffi::serve!(Machine<T>: Clock where T: Copy);

fn main() {}

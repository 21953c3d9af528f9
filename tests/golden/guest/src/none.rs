//! A guest that serves nothing and calls nothing: it connects, and waits for calls.
#![no_std]
#![no_main]

vmffi::entry! { server: () = (), arena: 4096 }
vmffi::panic_handler!();
vmffi::memory_functions!();

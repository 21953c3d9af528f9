//! Makes a program of the guest, whose other parts the test compiles as well.

use vmffi::Peer;

use guest::shared::{
    control::Guest,
    state::{GIFT, GiftsClient},
};

fn start(host: &Peer) {
    *GIFT.lock() = GiftsClient::from(host).gift().expect("a gift, or none");
    log::info!("the guest has started");
}

vmffi::entry! { server: Guest = Guest::new(end), arena: 1 << 20, start: start }
vmffi::panic_handler!();
vmffi::memory_functions!();
vmffi::heap!(4 << 20);

/// Ends the guest, at any depth of calls.
fn end(status: u64, text: &str) {
    vmffi::guest::exit(status, format_args!("{text}"))
}

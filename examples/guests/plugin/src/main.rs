//! A guest: it declares what crosses, serves an interface, and calls its host.
#![no_std]
#![no_main]

use vmffi::{CallError, ForeignSlice, ForeignStr, Peer};

vmffi::ffi_interface! {
    /// What the host offers to its plug-ins.
    pub interface Desk {
        fn print(line: ForeignStr);
        /// The prices of some articles, by number, in cents.
        fn prices(first: u32, count: u32) -> ForeignSlice<u32>;
    }

    /// What a plug-in offers to its host.
    pub interface Bill {
        /// The sum of the prices of `count` articles, in cents.
        fn sum(first: u32, count: u32, discount: u8) -> u64;
    }
}

struct Plugin;

impl Bill for Plugin {
    fn sum(&self, host: &Peer, first: u32, count: u32, discount: u8) -> Result<u64, CallError> {
        let desk = DeskClient::from(host);
        // The prices lie in the host's memory, which is released when `prices` is dropped.
        let prices = desk.prices(first, count)?;
        let mut sum = 0;
        for price in prices.iter() {
            sum += u64::from(price?);
        }
        desk.print("added up")?;
        Ok(sum - sum * u64::from(discount) / 100)
    }
}

vmffi::serve!(Plugin: Bill; calls Desk);

fn start(host: &Peer) {
    log::info!("the plug-in has started");
    // If the host does not take the line, the guest can do nothing about it.
    let _ = DeskClient::from(host).print("ready");
}

vmffi::entry! { server: Plugin = Plugin, arena: 1 << 20, start: start }
vmffi::panic_handler!();
vmffi::memory_functions!();

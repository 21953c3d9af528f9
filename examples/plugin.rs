//! A host with a plug-in: a guest in a machine of its own. `guests/plugin` is the other half.

use vmffi::{
    CallError, ForeignSlice, ForeignStr, Peer, SharedSlice,
    host::RunOutcome,
    machine::{Backend, Image, MachineBuilder},
};

mod guests;

// The guest has the same declaration: both sides compile their own, and the handshake compares them.
vmffi::ffi_interface! {
    pub interface Desk {
        fn print(line: ForeignStr);
        fn prices(first: u32, count: u32) -> ForeignSlice<u32>;
    }

    pub interface Bill {
        fn sum(first: u32, count: u32, discount: u8) -> u64;
    }
}

struct Shop;

impl Desk for Shop {
    fn print(&self, _guest: &Peer, line: ForeignStr) -> Result<(), CallError> {
        // Escaped, since the host does not trust the text.
        println!("plug-in: {:?}", line.read_string()?);
        Ok(())
    }

    fn prices(&self, guest: &Peer, first: u32, count: u32) -> Result<SharedSlice<u32>, CallError> {
        if count > 1000 {
            return Err(CallError::refused());
        }
        let prices: Vec<u32> = (first..first.saturating_add(count)).map(|n| 100 + n % 7).collect();
        SharedSlice::copy_from(guest, &prices)
    }
}

vmffi::serve!(Shop: Desk; calls Bill);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = Image::open(guests::build("examples/guests/plugin", "plugin")?)?;
    let backend = match std::env::args().nth(1) {
        Some(name) => name.parse()?,
        None => Backend::best().ok_or("neither KVM nor processes can be used here")?,
    };
    let host = MachineBuilder::new(&image).arenas(1 << 20, 1 << 20).build(backend, Shop)?;
    if host.run()? != RunOutcome::Ready {
        return Err(host.guest_exit().expect("it has ended").into());
    }

    let bill = BillClient::from(host.guest());
    println!("host: the sum on {backend} is {}", bill.sum(10, 20, 25_u8)?);
    println!("host: {}", bill.sum(10, 2000, 0_u8).unwrap_err());
    Ok(())
}

//! An HTTP service that parses documents of untrusted clients, each in a guest of its own.
//!
//! ```console
//! $ cargo run --release --manifest-path examples/service/Cargo.toml
//! $ cargo run --release --manifest-path examples/service/Cargo.toml -- load --hostile 0.01
//! ```

use std::{error::Error, net::SocketAddr, process::ExitCode, time::Duration};

use vmffi::{
    host::{Limits, RunOutcome},
    machine::{Backend, Image, MachineBuilder, Pool},
};

mod client;
mod http;
// By its path: guest and host share one declaration, and their packages are workspaces of their own.
#[path = "../guest/src/interface.rs"]
mod interface;
mod load;

use interface::ScannerClient;

const HELP: &str = "\
Scans JSON documents for secrets, each in a guest of its own.

    service [--backend kvm|process] [--guests N] [--listen ADDRESS] [--cpu-time MS] [--deadline MS]
    service load [--clients N] [--requests N] [--hostile SHARE] [--connect ADDRESS]";

/// The terms that a guest searches for.
const TERMS: &str = include_str!("../terms.txt");

fn main() -> ExitCode {
    arguments().unwrap_or_else(|error| {
        eprintln!("service: {error}");
        ExitCode::FAILURE
    })
}

fn arguments() -> Result<ExitCode, Box<dyn Error>> {
    use lexopt::prelude::*;

    let mut address = SocketAddr::from(([127, 0, 0, 1], 8080));
    let (mut backend, mut guests, mut cpu_time, mut deadline) = (None, 4, 100, 5000);
    let mut load = None;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match (argument, &mut load) {
            (Value(command), None) if command == "load" => load = Some(load::Load::default()),
            (Long("clients"), Some(load)) => load.clients = arguments.value()?.parse()?,
            (Long("requests"), Some(load)) => load.requests = arguments.value()?.parse()?,
            (Long("hostile"), Some(load)) => load.hostile = arguments.value()?.parse()?,
            (Long("connect"), Some(_)) => address = arguments.value()?.parse()?,
            (Long("backend"), None) => {
                let named: Backend = arguments.value()?.parse()?;
                named.check()?;
                backend = Some(named);
            }
            (Long("guests"), None) => guests = arguments.value()?.parse()?,
            (Long("listen"), None) => address = arguments.value()?.parse()?,
            (Long("cpu-time"), None) => cpu_time = arguments.value()?.parse()?,
            (Long("deadline"), None) => deadline = arguments.value()?.parse()?,
            (Short('h') | Long("help"), _) => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            (other, _) => return Err(other.unexpected().into()),
        }
    }
    if let Some(load) = load {
        return load.run(address);
    }
    let limits = Limits::new()
        .cpu_time(Duration::from_millis(cpu_time))
        .deadline(Duration::from_millis(deadline));
    let backend = backend.or_else(Backend::best);
    let backend = backend.ok_or("neither KVM nor processes can be used here")?;
    http::log_events();
    http::serve(pool(backend, guests, limits)?, address, backend)?;
    Ok(ExitCode::SUCCESS)
}

/// A pool of clones of a guest that has built its index.
fn pool(backend: Backend, guests: usize, limits: Limits) -> Result<Pool, Box<dyn Error>> {
    let image = Image::parse(include_bytes!(env!("GUEST_SCANNER")))?;
    let machine = MachineBuilder::new(&image)
        .arenas(64 << 10, 2 * http::MAX_BODY as u64)
        .memory(16 << 20)
        .limits(limits)
        .build(backend, ())?;
    if machine.run()? != RunOutcome::Ready {
        return Err(machine.guest_exit().ok_or("the guest has not started")?.into());
    }
    let terms = ScannerClient::from(machine.guest()).configure(TERMS)?;
    tracing::info!(%backend, terms, guests, "the first guest is ready");
    Ok(Pool::from_snapshot(&machine.snapshot()?).size(guests).build(|| ())?)
}

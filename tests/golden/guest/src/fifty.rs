//! A guest that calls fifty functions, ten of each kind.
#![no_std]
#![no_main]

use vmffi::{CallError, ForeignBuf, ForeignStr, Peer};

macro_rules! functions {
    ($($n:literal)*) => { paste::paste! {
        vmffi::ffi_interface! {
            pub struct Stat { size: u64, mode: u32, links: u32 }
            pub enum Why: u32 { Missing = 1, Denied = 2 }
            pub interface Files { $(
                fn [<scalar $n>](x: u64) -> u64;
                fn [<two $n>](file: u64, flags: u32) -> Result<u64, Why>;
                fn [<text $n>](path: ForeignStr) -> u64;
                fn [<bytes $n>](file: u64, max: u32) -> ForeignBuf;
                fn [<stat $n>](stat: Stat) -> Stat;
            )* }
        }

        fn start(host: &Peer) {
            $( let _ = [<calls $n>](host); )*
        }

        $(
            #[inline(never)]
            fn [<calls $n>](host: &Peer) -> Result<u64, CallError> {
                let files = FilesClient::from(host);
                let x = files.[<scalar $n>]($n)?;
                let y = files.[<two $n>](x, 1_u32).unwrap_or(0);
                let z = files.[<text $n>]("path")?;
                let bytes = files.[<bytes $n>](y, 2_u32)?;
                let stat = files.[<stat $n>](Stat { size: z, mode: 1, links: 2 })?;
                Ok(bytes.len() as u64 + stat.size)
            }
        )*
    } };
}

functions! { 0 1 2 3 4 5 6 7 8 9 }

struct Guest;
vmffi::serve!(Guest; calls Files);
vmffi::entry! { server: Guest = Guest, arena: 4096, start: start }
vmffi::panic_handler!();
vmffi::memory_functions!();

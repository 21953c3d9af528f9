//! A host of ten functions and nothing else, to see how large the crate's part of it is. It is built and not run:
//!
//!     cargo build --release --target aarch64-unknown-none-softfloat
#![no_std]
#![no_main]

use core::{panic::PanicInfo, ptr};

use vmffi::{
    CallError, ForeignBuf, ForeignStr, Peer, RegionLayout, RegionMemory, SharedBuf, SharedStr,
    abi::Registers,
    host::{
        GuestExit, GuestMemory, HostStorage, Piece, RunOutcome, SavedRegisters, StaticHost, Vcpu,
        registers::aarch64::GeneralRegisters,
    },
};

vmffi::ffi_interface! {
    pub struct Stat { size: u64, mode: u32, links: u32 }

    pub interface Device {
        fn get(register: u64) -> u64;
        fn set(register: u64, value: u64);
        fn time() -> u64;
        fn random(len: u32) -> ForeignBuf;
        fn write(offset: u64, data: ForeignBuf) -> u64;
        fn read(offset: u64, len: u32) -> ForeignBuf;
        fn stat(name: ForeignStr) -> Stat;
        fn name(device: u32) -> ForeignStr;
        fn reset(hard: bool);
        fn log(level: u8, text: ForeignStr);
    }

    pub interface Driver {
        fn interrupt(line: u32) -> bool;
    }
}

/// A register of the machine, so that nothing is known to the compiler.
static REGISTER: u64 = 0;

fn register() -> u64 {
    // SAFETY: it is a static of this program.
    unsafe { ptr::read_volatile(&raw const REGISTER) }
}

struct Board;

vmffi::serve!(Board: Device; calls Driver);

impl Device for Board {
    fn get(&self, _: &Peer, number: u64) -> Result<u64, CallError> {
        Ok(register() + number)
    }

    fn set(&self, _: &Peer, _: u64, _: u64) -> Result<(), CallError> {
        Ok(())
    }

    fn time(&self, _: &Peer) -> Result<u64, CallError> {
        Ok(register())
    }

    fn random(&self, guest: &Peer, len: u32) -> Result<SharedBuf, CallError> {
        SharedBuf::zeroed(guest, len as usize)
    }

    fn write(&self, _: &Peer, _: u64, data: ForeignBuf) -> Result<u64, CallError> {
        let mut start = [0; 64];
        data.read_at(0, &mut start)?;
        Ok(u64::from(start[0]))
    }

    fn read(&self, guest: &Peer, _: u64, len: u32) -> Result<SharedBuf, CallError> {
        SharedBuf::zeroed(guest, len as usize)
    }

    fn stat(&self, _: &Peer, name: ForeignStr) -> Result<Stat, CallError> {
        Ok(Stat { size: name.len() as u64, mode: 0, links: 1 })
    }

    fn name(&self, guest: &Peer, _: u32) -> Result<SharedStr, CallError> {
        SharedStr::copy_from(guest, "a device")
    }

    fn reset(&self, guest: &Peer, _: bool) -> Result<(), CallError> {
        DriverClient::from(guest).interrupt(1).map(drop)
    }

    fn log(&self, _: &Peer, _: u8, text: ForeignStr) -> Result<(), CallError> {
        let mut copy = [0; 64];
        text.read_into(&mut copy).map(drop)
    }
}

struct Nothing;

// SAFETY: there are no pieces.
unsafe impl GuestMemory for Nothing {
    fn translate(&self, _: u64, _: usize) -> Option<Piece> {
        None
    }
}

struct Core(GeneralRegisters);

impl Vcpu for Core {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        if let Some(answer) = answer {
            self.0.complete(&Nothing, answer)?;
        }
        // Here a hypervisor enters its guest.
        self.0.x = self.0.x.map(|word| word ^ register());
        self.0.trap(&Nothing)?.ok_or(GuestExit::Stopped)
    }
}

static STORAGE: HostStorage<Board, Core, 1, 4096> = HostStorage::new();

const LAYOUT: RegionLayout = match RegionLayout::new(256 << 10, 256 << 10) {
    Ok(layout) => layout,
    Err(_) => panic!("the sizes are valid"),
};

#[unsafe(no_mangle)]
extern "C" fn _start() -> u64 {
    let base = ptr::with_exposed_provenance_mut(register() as usize);
    // SAFETY: this program is not run.
    let region = unsafe { RegionMemory::permanent(base, LAYOUT.len()) };
    let host = StaticHost::builder(&STORAGE, region, LAYOUT);
    let Ok(host) = host.connect(Board, [Core(GeneralRegisters::default())]) else { return 1 };
    loop {
        match host.run() {
            Ok(RunOutcome::Ready) => {}
            Ok(RunOutcome::Exited(status)) => return status,
            Err(_) => return 2,
        }
        let _ = DriverClient::from(host.guest()).interrupt(3);
        let _ = host.restart(|_| Ok(()));
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

//! A host on a processor with SVM.
#![no_std]
#![no_main]

mod boot;
mod glue;
mod platform;
mod svm;

use glue::{Method, SvmVcpu};
use platform::{exit, fail, print};
use vmffi::RegionLayout;
use vmffi::abi::{Registers, Transport, answer, trap};
use vmffi::host::{GuestExit, Vcpu};

static GUEST: &[u8] = include_bytes!(env!("GUEST_GUEST"));
const LAYOUT: RegionLayout = match RegionLayout::new(512 << 10, 448 << 10) {
    Ok(l) => l,
    Err(_) => panic!(),
};

fn machine(slot: usize, mode: u64, method: Method) -> SvmVcpu {
    SvmVcpu::load(slot, GUEST, mode, method, &LAYOUT).0
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    boot::report_exceptions();
    if let Err(error) = svm::enable() {
        fail(format_args!("{error}"));
    }
    print(format_args!("guest has {} bytes", GUEST.len()));
    let ans = |kind, word, primary, secondary| {
        Some(Registers { kind, word, transport: Transport { primary, secondary } })
    };
    for (bit, method) in [(0, Method::Vmmcall), (1 << 63, Method::Out(0x5658))] {
        // Nesting: two guests live, calls inside upcalls.
        let mut a = machine(0, bit, method);
        let mut b = machine(1, bit, method);
        let show =
            |name: &str, r: &Result<Registers, GuestExit>| print(format_args!("{name}: {r:x?}"));
        let r = a.run(None);
        show("a", &r);
        let r = b.run(None);
        show("b", &r);
        let r = a.run(ans(answer::UPCALL, 77, 5, 6));
        show("a", &r); // nested call from the upcall
        let r = b.run(ans(answer::ANSWER, 0, 8, 9));
        show("b", &r);
        let r = a.run(ans(answer::ANSWER, 0, 21, 0));
        show("a", &r); // RETURN
        let r = a.run(ans(answer::ANSWER, 0, 40, 2));
        show("a", &r); // EXIT
        for mode in 1..18 {
            let mut a = machine(0, mode | bit, method);
            let r = a.run(None);
            show("hostile", &r);
            if r.is_ok_and(|r| r.kind != trap::CALL) {
                fail(format_args!("survived"))
            }
            let r = b.run(ans(answer::ANSWER, 0, mode, 0));
            if !r.as_ref().is_ok_and(|r| r.transport.primary == mode) {
                show("b", &r);
                fail(format_args!("b is wrong"))
            }
        }
    }
    exit(true)
}

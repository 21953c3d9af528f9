//! Descriptors 0, 1 and 2: closed or replaced before machines are made, and while they exist.

use vmffi::machine::Backend;

use super::{
    cases::{Case, any},
    makes::{Built, done, image, machine, nothing_left, started, works, works_in_every_way},
};

pub const CASES: &[Case] = &[
    ("standard_descriptors_are_closed", any, closed),
    ("standard_descriptors_are_closed_later", any, closed_later),
    ("standard_descriptors_are_written_to", any, written),
];

/// Runs a function while some standard descriptors are closed. Output of the case is lost meanwhile.
fn without<R>(closed: u32, act: impl FnOnce() -> R) -> R {
    let numbers = || (0..=2).filter(|number| closed & 1 << number != 0);
    let kept: Vec<i32> = numbers()
        .map(|number| {
            // SAFETY: takes integers.
            done(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 10) })
        })
        .collect();
    // SAFETY: no other thread uses the descriptor meanwhile.
    numbers().for_each(|number| {
        done(unsafe { libc::close(number) });
    });
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
    for (number, kept) in numbers().zip(kept) {
        // SAFETY: takes integers.
        done(unsafe { libc::dup2(kept, number) });
        // SAFETY: the descriptor is this case's own.
        done(unsafe { libc::close(kept) });
    }
    caught.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Closes some of them, in each way.
fn each() -> impl Iterator<Item = u32> {
    1..8
}

fn lives(backend: Backend, host: &Built) {
    works_in_every_way(host);
    backend.check().unwrap();
    works(&started(&machine().vcpus(2), backend));
}

fn closed(backend: Backend) {
    image();
    for closed in each() {
        without(closed, || {
            let host = started(&machine(), backend);
            lives(backend, &host);
            drop(host);
        });
        nothing_left();
    }
}

/// Descriptors that were closed when the machine was made are open again.
fn closed_later(backend: Backend) {
    for closed in each() {
        let host = started(&machine(), backend);
        without(closed, || lives(backend, &host));
        drop(host);
        if super::cases::kvm(backend) {
            // A virtual machine is a descriptor, which may have one of these numbers.
            continue;
        }
        let host = without(closed, || started(&machine(), backend));
        lives(backend, &host);
        drop(host);
        nothing_left();
    }
}

/// A program prints without a check for errors: its output reaches no machine.
fn written(backend: Backend) {
    image();
    for closed in each() {
        without(closed, || {
            for vcpus in [1, 3] {
                let host = started(&machine().vcpus(vcpus), backend);
                for number in 0..=2 {
                    let text = [0x5a_u8; 4096];
                    // SAFETY: the buffer has that many bytes.
                    let done = unsafe { libc::write(number, text.as_ptr().cast(), text.len()) };
                    let open = closed & 1 << number == 0;
                    assert!(open || done == -1, "{number} of {closed:#b} was written to");
                }
                works(&host);
            }
        });
    }
}

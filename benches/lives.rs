//! Measures what a life costs: a new machine, a reset, a machine from a snapshot; for a small guest, and for one with 50 MiB of
//! memory that it has written.
//!
//! `cargo bench --bench lives` prints a table for each backend. `cargo bench --bench lives -- alive 1000 process` makes 1,000
//! machines from one snapshot, calls each, and prints the descriptors, memory and time for each.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod lives {
    use std::{fs, time::Duration};

    use support::{
        guests,
        times::{self, timed},
        warmth::WarmthClient,
    };
    use vmffi::{
        host::RunOutcome,
        machine::{Backend, Image, Machine, MachineBuilder, Snapshot},
    };

    /// How often each operation is measured.
    const ROUNDS: usize = 61;
    const WARM: u64 = 50 << 20;

    pub fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["alive", count, name] => {
                alive(name.parse().expect("kvm or process"), count.parse().expect("a number"));
            }
            _ => Backend::ALL.iter().for_each(|backend| match backend.check() {
                Ok(()) => table(*backend),
                Err(error) => println!("skipped: {backend}: {error}"),
            }),
        }
    }

    fn builder() -> MachineBuilder {
        let program = guests::build("examples/guests/meter", "warm").expect("a guest");
        let image = Image::open(program).expect("an image");
        MachineBuilder::new(&image).arenas(64 << 10, 64 << 10)
    }

    /// A snapshot of a guest that has written this many bytes.
    fn warmed(builder: &MachineBuilder, backend: Backend, bytes: u64) -> Snapshot {
        let first = builder.build(backend, ()).expect("a machine");
        assert_eq!(first.run(), Ok(RunOutcome::Ready));
        WarmthClient::from(first.guest()).warm(bytes).expect("memory");
        first.snapshot().expect("a snapshot")
    }

    fn calls(host: &Machine) {
        assert_eq!(WarmthClient::from(host.guest()).echo(5_u64), Ok(5));
    }

    fn median(one: impl FnMut() -> Duration) -> Duration {
        times::median(ROUNDS, one)
    }

    fn print(name: &str, times: &[Duration]) {
        let micros: Vec<_> =
            times.iter().map(|time| format!("{:.0}", time.as_secs_f64() * 1e6)).collect();
        println!("| {name} | {} |", micros.join(" | "));
    }

    fn table(backend: Backend) {
        let builder = builder();
        println!("\n| {backend}, µs | small | 50 MiB |\n|---|---:|---:|");
        let new = || {
            let host = builder.build(backend, ()).expect("a machine");
            assert_eq!(host.run(), Ok(RunOutcome::Ready));
            calls(&host);
            host
        };
        print("a new machine, until its first call is answered", &[median(|| timed(new))]);
        let snapshots = [warmed(&builder, backend, 0), warmed(&builder, backend, WARM)];
        let clone = |snapshot: &Snapshot| {
            let host = snapshot.build(()).expect("a machine");
            calls(&host);
            host
        };
        let each = |mut one: Box<dyn FnMut(&Snapshot) -> Duration + '_>| {
            snapshots.each_ref().map(|snapshot| median(|| one(snapshot)))
        };
        print(
            "one of a snapshot, until its first call is answered",
            &each(Box::new(|snapshot| timed(|| clone(snapshot)))),
        );
        print(
            "the same, prepared",
            &each(Box::new(|snapshot| {
                snapshot.prepare(1).expect("a machine");
                timed(|| clone(snapshot))
            })),
        );
        print(
            "the end of one",
            &each(Box::new(|snapshot| {
                let host = clone(snapshot);
                timed(|| drop(host))
            })),
        );
        for (name, bytes) in [
            ("a call", 0),
            ("16 KiB were written", 16 << 10),
            ("1 MiB was written", 1 << 20),
            ("10 MiB were written", 10 << 20),
        ] {
            let resets = snapshots.each_ref().map(|snapshot| {
                let host = clone(snapshot);
                let guest = WarmthClient::from(host.guest());
                let mut next = Vec::new();
                let reset = median(|| {
                    next.push(timed(|| guest.dirty(bytes).expect("memory")));
                    timed(|| host.reset().expect("a reset"))
                });
                next.sort();
                (reset, next[ROUNDS / 2])
            });
            print(&format!("reset after {name}"), &resets.map(|both| both.0));
            print("- and the next such call", &resets.map(|both| both.1));
        }
        let mapped = snapshots.each_ref().map(|snapshot| {
            let host = clone(snapshot);
            let guest = WarmthClient::from(host.guest());
            median(|| {
                guest.read(WARM).expect("memory");
                guest.dirty(16_u64 << 10).expect("memory");
                timed(|| host.reset().expect("a reset"))
            })
        });
        print("reset after all 50 MiB were read and 16 KiB written", &mapped);
    }

    /// The memory that all processes of this program use, and the kernel for them, in bytes.
    fn memory_in_use() -> u64 {
        let info = fs::read_to_string("/proc/meminfo").expect("procfs");
        let kib = |name: &str| -> u64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            line.trim_end_matches("kB").trim().parse().expect("a number")
        };
        (kib("MemTotal:") - kib("MemFree:") - kib("Buffers:") - kib("Cached:") + kib("Shmem:"))
            << 10
    }

    fn alive(backend: Backend, count: usize) {
        let builder = builder();
        let snapshot = warmed(&builder, backend, WARM);
        let descriptors = || fs::read_dir("/proc/self/fd").expect("procfs").count();
        let (fds, memory) = (descriptors(), memory_in_use());
        let mut hosts = Vec::new();
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(timed(|| {
                let host = snapshot.build(()).expect("a machine");
                calls(&host);
                WarmthClient::from(host.guest()).dirty(16_u64 << 10).expect("memory");
                hosts.push(host);
            }));
        }
        let around = |at: usize| {
            let mut some = times[at.saturating_sub(10)..(at + 10).min(times.len())].to_vec();
            some.sort();
            some[some.len() / 2].as_secs_f64() * 1e6
        };
        let each = |of: f64| of / count as f64;
        let resets: Vec<_> =
            hosts.iter().map(|host| timed(|| host.reset().expect("a reset"))).collect();
        let mut sorted = resets.clone();
        sorted.sort();
        println!(
            "{backend}: {count} alive, each {:.1} descriptors, {:.0} KiB of the system's memory; made and called in {:.0} µs \
             (around the 10th), {:.0} µs (around the last); reset in {:.0} µs",
            each((descriptors() - fds) as f64),
            each((memory_in_use() as f64 - memory as f64) / 1024.0),
            around(10),
            around(count.saturating_sub(10)),
            sorted[count / 2].as_secs_f64() * 1e6,
        );
        let end = timed(|| drop(hosts));
        println!("{backend}: their ends, each {:.0} µs", each(end.as_secs_f64() * 1e6));
    }
}

fn main() {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    lives::main();
    #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
    println!("there are no machines here");
}

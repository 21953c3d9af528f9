//! Random numbers of a guest: new ones in each life and in each machine.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
};

use vmffi::{
    host::RunOutcome,
    machine::{Image, Machine, MachineBuilder},
};

use super::{Case, connection::On, guests};

// By its path: guest and host share one declaration, as the guide shows.
#[path = "../random/src/interface.rs"]
mod interface;

use interface::RandomClient;

const FOLDER: &str = "tests/machines/random";
const CHAPTER: &str = include_str!("../../../docs/guide/machines.md");

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(On)| Case::new(name, On::is_machine, run);
    vec![
        case("each_life_draws_other_numbers", lives),
        case("each_machine_draws_other_numbers", machines),
        case("all_vcpus_draw_other_numbers", vcpus),
        case("a_life_after_a_stop_draws_other_numbers", stopped),
        case("the_guide_shows_the_source_of_random_numbers", guide),
    ]
}

fn program() -> PathBuf {
    guests::build(FOLDER, "random").expect("the guest's program")
}

fn built(on: On, vcpus: u32) -> Machine {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    let image = IMAGE.get_or_init(|| Image::open(program()).expect("a valid program"));
    let host = MachineBuilder::new(image).vcpus(vcpus).build(on.backend(), ()).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
    host
}

/// The numbers that a life draws: ten of each.
fn drawn(host: &Machine) -> (Vec<u128>, Vec<u64>) {
    let random = RandomClient::from(host.guest());
    let uuids = (0..10).map(|_| random.uuid().unwrap()).collect();
    (uuids, (0..10).map(|_| random.number().unwrap()).collect())
}

/// Numbers that were drawn, to check that none is drawn twice.
#[derive(Default)]
struct Drawn {
    uuids: BTreeSet<u128>,
    numbers: BTreeSet<u64>,
    seeds: BTreeSet<u128>,
}

impl Drawn {
    fn add(&mut self, host: &Machine) {
        let (uuids, numbers) = drawn(host);
        for uuid in uuids {
            assert!(self.uuids.insert(uuid), "{uuid:#x} was drawn twice");
            assert_eq!(
                (uuid >> 76 & 0xf, uuid >> 62 & 3),
                (4, 2),
                "{uuid:#x} is no UUID of version 4"
            );
        }
        for number in numbers {
            assert!(self.numbers.insert(number), "{number:#x} was drawn twice");
        }
        let seed = RandomClient::from(host.guest()).seed().unwrap();
        assert!(self.seeds.insert(seed), "{seed:#x} is not new");
        assert_eq!(
            RandomClient::from(host.guest()).seed(),
            Ok(seed),
            "the same for the whole life"
        );
    }
}

/// ABI, Region header: a guest that follows them draws other numbers in each life, and one that does not
/// draws the same.
fn lives(on: On) {
    let host = built(on, 1);
    let random = RandomClient::from(host.guest());
    let (mut all, mut stale) = (Drawn::default(), Vec::new());
    let first_seed = random.first_seed().unwrap();
    for generation in 1..=5 {
        assert_eq!(random.generation(), Ok(generation));
        assert_eq!(random.first_generation(), Ok(1), "the one of the snapshot");
        assert_eq!(random.first_seed(), Ok(first_seed));
        assert_eq!(random.seed().unwrap() == first_seed, generation == 1);
        all.add(&host);
        stale.push([(); 10].map(|()| random.stale_number().unwrap()));
        assert_eq!(host.reset(), Ok(()));
    }
    assert_eq!((all.uuids.len(), all.numbers.len()), (50, 50));
    assert_eq!(BTreeSet::from(stale[0]).len(), 10);
    assert_eq!(stale, [stale[0]; 5], "a generator of the snapshot repeats itself");
}

/// ABI, Region header R-9: machines with one program have seeds of their own from the start.
fn machines(on: On) {
    let (mut all, mut stale) = (Drawn::default(), BTreeSet::new());
    for _ in 0..5 {
        let host = built(on, 1);
        let random = RandomClient::from(host.guest());
        assert_eq!(random.generation(), Ok(1));
        all.add(&host);
        assert!(stale.insert(random.stale_number().unwrap()), "of the first life's seed");
    }
}

fn vcpus(on: On) {
    const VCPUS: usize = 3;
    let host = built(on, VCPUS as u32);
    for generation in 1..=3 {
        let (mut uuids, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        let draws: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..VCPUS).map(|_| scope.spawn(|| drawn(&host))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (drawn_uuids, drawn_numbers) in draws {
            uuids.extend(drawn_uuids);
            numbers.extend(drawn_numbers);
        }
        assert_eq!((uuids.len(), numbers.len()), (10 * VCPUS, 10 * VCPUS));
        assert_eq!(RandomClient::from(host.guest()).generation(), Ok(generation));
        assert_eq!(host.reset(), Ok(()));
    }
}

fn stopped(on: On) {
    let host = built(on, 1);
    let random = RandomClient::from(host.guest());
    let mut all = Drawn::default();
    for generation in 1..=3 {
        assert_eq!(random.generation(), Ok(generation));
        all.add(&host);
        host.stopper().stop();
        assert!(random.uuid().is_err());
        assert_eq!(host.reset(), Ok(()));
    }
}

/// The guide shows the files of this guest.
fn guide(_: On) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("random");
    let file = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (_, source) = file("src/random.rs")
        .split_once("\n\n")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let dependencies = file("Cargo.toml");
    let (_, dependencies) = dependencies.split_once("# What `random.rs` needs.\n").unwrap();
    let (dependencies, _) = dependencies.split_once("\n\n").unwrap();
    for shown in [source.trim(), dependencies, file(".cargo/config.toml").trim()] {
        assert!(CHAPTER.contains(shown), "the chapter does not show\n{shown}");
    }
}

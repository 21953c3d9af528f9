//! The guest of the guide's chapter on machines: built of what stands there, and run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use vmffi::{
    CallError, Peer,
    host::RunOutcome,
    machine::{Image, MachineBuilder},
};

use super::{Case, connection::On, guests};

const CHAPTER: &str = include_str!("../../../docs/guide/machines.md");

vmffi::ffi_interface! {
    pub interface Desk { fn price(article: u32) -> u32; }
    pub interface Bill { fn sum(first: u32, count: u32) -> u64; }
}

struct Shop;

impl Desk for Shop {
    fn price(&self, _: &Peer, article: u32) -> Result<u32, CallError> {
        Ok(article * 2)
    }
}

vmffi::serve!(Shop: Desk; calls Bill);

pub fn cases() -> Vec<Case> {
    vec![Case::new("the_guest_of_the_guide", On::is_new_machine, runs)]
}

/// The first block of a language in the chapter.
fn block(language: &str) -> &'static str {
    let (_, rest) = CHAPTER.split_once(&format!("```{language}\n")).expect("there is such a block");
    rest.split_once("```").expect("a block ends").0
}

/// Does what the chapter says, but for the crate's source, which is here.
fn built() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin");
    fs::create_dir_all(folder.join("src")).unwrap();
    let here = format!("path = {:?}", env!("CARGO_MANIFEST_DIR"));
    let manifest = block("toml").replacen("version = \"0.1\"", &here, 1);
    assert!(manifest.contains(&here), "{manifest}");
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("build.rs"), block("rust")).unwrap();
    fs::write(folder.join("src/main.rs"), block("rust,ignore")).unwrap();
    guests::build(folder.to_str().unwrap(), "plugin").unwrap()
}

fn runs(on: On) {
    let image = Image::open(built()).unwrap();
    let host = MachineBuilder::new(&image).build(on.backend(), Shop).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
    assert_eq!(BillClient::from(host.guest()).sum(10, 20), Ok((10..30).map(|n| n * 2).sum()));
}

//! Crates that do not know each other declare the same interface, function by function.

use stranger_2021::{deep::deeper as young, keywords as young_keywords, other};
use stranger_2024 as old;
use stranger_renamed as renamed;
use vmffi::loopback::Loopback;

macro_rules! same {
    ($($a:expr, $b:expr;)*) => { $(
        assert_eq!($a.signature, $b.signature, "{}", $a);
    )* };
}

fn main() -> Result<(), vmffi::CallError> {
    same! {
        old::ParamsFilesOpen::FUNCTION, young::ParamsFilesOpen::FUNCTION;
        old::ParamsFilesRead::FUNCTION, young::ParamsFilesRead::FUNCTION;
        old::ParamsFilesStat::FUNCTION, young::ParamsFilesStat::FUNCTION;
        old::ParamsFilesAll::FUNCTION, young::ParamsFilesAll::FUNCTION;
        old::ParamsFilesHere::FUNCTION, young::ParamsFilesHere::FUNCTION;
        old::ParamsFilesRead::FUNCTION, renamed::ParamsFilesRead::FUNCTION;
        old::ParamsFilesStat::FUNCTION, renamed::ParamsFilesStat::FUNCTION;
    }
    assert_eq!(old::body(), stranger_2021::body());
    assert_ne!(
        old::ParamsFilesStat::FUNCTION.signature,
        other::ParamsFilesStat::FUNCTION.signature,
        "the struct behind it is different"
    );
    assert_ne!(
        old::ParamsFilesDelete::FUNCTION.signature,
        young::ParamsFilesDelete::FUNCTION.signature,
        "the return type is different"
    );

    same! { old::keywords::ParamsKeywordsGen::FUNCTION, young_keywords::ParamsKeywordsGen::FUNCTION; }
    // A raw identifier is the name without `r#`, on the wire as everywhere.
    assert_eq!(old::names::ParamsNamesType::FUNCTION.name, "type");

    let pair = Loopback::new(old::names::Server, renamed::Server).expect("a region");
    let files = young::FilesClient::from(pair.host());
    assert_eq!(files.read(1, 100)?.len(), 100);
    assert_eq!((files.has_stat()?, files.has_sync()?), (true, false));
    let stat = files.stat(7)?.read()?;
    assert_eq!((stat.size, stat.mode, stat.links), (7, 1, 2));
    assert_eq!(old::names::calls(pair.guest())?, 1);
    println!("met");
    Ok(())
}

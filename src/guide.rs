#![doc = include_str!("guide/names.md")]
#![doc = include_str!("../docs/guide/README.md")]
// The chapters are files in `docs/guide`, so that they can be read there, too. The names that lead from
// one to another are defined at the end of each, as files, and in `names.md`, in front of each, as
// modules: of two definitions the first one holds. Everything else that they link to is in the crate.
// Without `std` there is no guide, and the crate's page leads to `elsewhere.md`.

macro_rules! chapters {
    ($($name:ident $file:literal)*) => { $(
        #[doc = include_str!("guide/names.md")]
        #[doc = include_str!(concat!("../docs/guide/", $file))]
        pub mod $name {}
    )* };
}

chapters! {
    first_interface "first-interface.md"
    errors "errors.md"
    guest "guest.md"
    host "host.md"
    machines "machines.md"
    process "process.md"
    untrusted "untrusted.md"
    versioning "versioning.md"
    safety "safety.md"
}

// The picture is in the page itself, where it can follow the page's theme; what the chapter links to as
// its picture is empty here.
#[doc = include_str!("guide/names.md")]
#[doc = include_str!("../docs/guide/ownership.md")]
#[doc = concat!("<div>\n", include_str!("../docs/guide/ownership.svg"), "</div>")]
pub mod ownership {}

#[doc = include_str!("../docs/abi.md")]
pub mod abi {}

#![doc = include_str!("guide/names.md")]
#![doc = include_str!("../docs/guide/README.md")]
// The chapters are files in `docs/guide`, so that they can be read there, too. Links between chapters are
// defined twice: as files at the end of each chapter, and as modules in `names.md`, which is included before
// each. Markdown uses the first of two definitions. All other links refer to items of the crate. Where the
// guide is not built, the crate's page includes `elsewhere.md`, which links to docs.rs.

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
    batches "batches.md"
    guest "guest.md"
    host "host.md"
    hypervisor "hypervisor.md"
    layout "layout.md"
    crates "crates.md"
    what_goes_wrong "what-goes-wrong.md"
    machines "machines.md"
    process "process.md"
    untrusted "untrusted.md"
    versioning "versioning.md"
    safety "safety.md"
}

// The picture is inlined, so that it follows the theme of the page; the chapter's own link to it is an
// empty image here.
#[doc = include_str!("guide/names.md")]
#[doc = include_str!("../docs/guide/ownership.md")]
#[doc = concat!("<div>\n", include_str!("../docs/guide/ownership.svg"), "</div>")]
pub mod ownership {}

#[doc = include_str!("../docs/abi.md")]
pub mod abi {}

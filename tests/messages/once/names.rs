//! Names that are declared twice. The error is at the second one.

vmffi::ffi_interface! {
    pub struct Page { a: u8 }
    pub struct Page { b: u16, c: u32 } //~ 16: the name `Page` is defined multiple times
    pub enum Page: u8 { A } //~ 14: the name `Page` is defined multiple times
    pub struct Files { a: u8 }
    pub interface Files { fn read(page: Page) -> Page; } //~ 19: the name `Files` is defined multiple times
}

// Beside what the grammar does not have.
vmffi::ffi_interface! {
    pub struct Entry { a: u8 }
    pub struct Entry { b: u16 } //~ 16: the name `Entry` is defined multiple times
    pub struct Unit; //~ 16: a struct has braces, also if it has no fields
    pub struct Unit { a: u8 } //~ 16: the name `Unit` is defined multiple times
    pub enum Entry: u8 { A } //~ 14: the name `Entry` is defined multiple times
    pub interface Entries {
        fn one(entry: Entry);
        fn one(unit: Unit); //~ 12: the name `one` is defined multiple times
        fn two(mut entry: Entry); //~ 12: function `Entries::two`: a parameter is a name, without `mut`
    }
}

vmffi::ffi_interface! {
    /// Documented.
    #[derive(Clone)]
    pub struct Stat {
        size: u64,
        mode: u32,
        size: u32, //~ 9: field `size` specified more than once
    }
    pub enum Kind: u8 { File, Folder, File } //~ 39: field `File` specified more than once
    pub enum Event: u8 {
        Opened(Kind),
        Closed { by: u8 },
        Opened, //~ 9: field `Opened` specified more than once
    }
    pub interface Folders {
        fn one(stat: Stat);
        fn two(kind: Kind, event: Event) -> Stat;
        fn three();
        fn four();
        fn five();
        fn two(kind: u8); //~ 12: the name `two` is defined multiple times
        #[optional]
        fn six();
        fn one(); //~ 12: the name `one` is defined multiple times
    }
}

struct Server;
impl Folders for Server {
    fn one(&self, _: &vmffi::Peer, _: Stat) -> Result<(), vmffi::CallError> { Ok(()) }
    fn two(&self, _: &vmffi::Peer, _: Kind, _: Event) -> Result<Stat, vmffi::CallError> { Ok(Stat { size: 1, mode: 2 }) }
    fn three(&self, _: &vmffi::Peer) -> Result<(), vmffi::CallError> { Ok(()) }
    fn four(&self, _: &vmffi::Peer) -> Result<(), vmffi::CallError> { Ok(()) }
    fn five(&self, _: &vmffi::Peer) -> Result<(), vmffi::CallError> { Ok(()) }
    fn six(&self, _: &vmffi::Peer) -> Result<(), vmffi::CallError> { Ok(()) }
}
vmffi::serve!(Server: Folders);

fn main() {}

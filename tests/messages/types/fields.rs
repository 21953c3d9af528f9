//! Types that cannot cross, as fields.

vmffi::ffi_interface! {
    pub struct Owned { path: String } //~ `String` cannot cross between guest and host
    pub struct Outcome { value: Result<u8, u8> } //~ `Result<u8, u8>` cannot cross between guest and host
    pub struct Text { path: &'static str } //~ `&'static str` cannot cross between guest and host
    pub enum Event: u8 {
        Named { name: String }, //~ `String` cannot cross between guest and host
        Sent(Vec<u8>), //~ `Vec<u8>` cannot cross between guest and host
    }
}

fn main() {}

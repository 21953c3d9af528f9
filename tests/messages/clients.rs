//! Arguments that are not what the declaration says.

use vmffi::{ForeignBuf, ForeignStr, Peer, SharedBuf};

vmffi::ffi_interface! {
    pub struct Request { path: ForeignStr, body: ForeignBuf }

    pub interface Files {
        fn seek(file: u64);
        fn open(path: ForeignStr);
        fn write(file: u64, body: ForeignBuf);
        fn send(request: Request);
    }
}

pub fn calls(host: &Peer, number: u32, buf: SharedBuf, request: Request) {
    let files = FilesClient::from(host);
    let _ = files.seek(number);
    let _ = files.open(buf);
    let _ = files.write(1, "text");
    let _ = files.send(request);
    let _ = files.open(String::from("owned"));
}

fn main() {}

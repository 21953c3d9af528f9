//! One declaration, both sides: a guest asks its host to load a page, and the host reports progress
//! back into the guest while it does so.

use vmffi::{CallError, Failure, ForeignBuf, ForeignStr, Peer, SharedBuf, loopback::Loopback};

vmffi::ffi_interface! {
    /// How far a call has come.
    #[derive(Debug)]
    pub struct Progress { done: u32, total: u32 }

    #[derive(Debug, PartialEq)]
    pub enum PageError: u32 { NotFound = 1, TooLong = 2 }

    /// What the host offers to its guest.
    pub interface Pages {
        fn load(name: ForeignStr, limit: u32) -> Result<ForeignBuf, PageError>;
    }

    /// What the guest offers to its host.
    pub interface Screen {
        fn progress(at: Progress);
    }
}

struct Host;

impl Pages for Host {
    fn load(
        &self,
        guest: &Peer,
        name: ForeignStr,
        limit: u32,
    ) -> Result<SharedBuf, Failure<PageError>> {
        let name = name.read_string()?;
        if name != "hello" {
            return Err(PageError::NotFound.into());
        }
        let text = "Hello across the boundary!";
        // An upcall inside the hypercall.
        ScreenClient::from(guest).progress(Progress { done: 1, total: 2 })?;
        if text.len() > limit as usize {
            return Err(PageError::TooLong.into());
        }
        // The page lies in the host's arena; dropping its handle releases it.
        Ok(SharedBuf::copy_from(guest, text.as_bytes())?)
    }
}

struct Guest;

impl Screen for Guest {
    fn progress(&self, _host: &Peer, at: Progress) -> Result<(), CallError> {
        println!("guest: progress {} of {}", at.done, at.total);
        Ok(())
    }
}

vmffi::serve!(Host: Pages; calls Screen);
vmffi::serve!(Guest: Screen; calls Pages);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pair = Loopback::new(Guest, Host)?;
    let pages = PagesClient::from(pair.host());

    let page = pages.load("hello", 100)?;
    println!("guest: {} bytes: {}", page.len(), String::from_utf8(page.read_vec()?)?);
    drop(page);

    println!("guest: {:?}", pages.load("missing", 100));
    println!("guest: {:?}", pages.load("hello", 10));
    println!("host's arena: {:?}", pair.guest().arena_stats());
    Ok(())
}

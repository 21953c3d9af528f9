use vmffi::{ForeignBuf, ForeignStr};

vmffi::ffi_interface! {
    /// A page, as its receiver has it.
    pub struct Page {
        /// When it was last changed, in seconds.
        changed: u64,
        /// What to show above it.
        title: ForeignStr,
        /// The text.
        body: ForeignBuf,
    }

    /// Why there is no page.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum PageError: u32 {
        /// Nobody has a page of this name.
        NotFound = 1,
        /// It is longer than the caller wants.
        TooLong = 2,
    }

    /// What the host offers to its guest.
    pub interface Pages {
        /// The page of this name, if its text has no more than `limit` bytes.
        fn load(name: ForeignStr, limit: u32) -> Result<Page, PageError>;
        /// Changes a page, and returns how many there are. Not every host lets its guest do that.
        #[optional]
        fn store(name: ForeignStr, page: Page) -> u64;
    }
}

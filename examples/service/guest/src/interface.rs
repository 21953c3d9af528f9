//! The interface of the scanner. Guest and host compile the same file.

use vmffi::{ForeignBuf, ForeignSlice, ForeignStr};

vmffi::ffi_interface! {
    /// What was found in a document.
    pub struct Report {
        /// Strings, numbers, `true`, `false` and `null`, objects and arrays.
        values: u64,
        /// The depth to which arrays and objects are nested; a scalar has depth 0.
        depth: u32,
        /// The terms that occur, in their order.
        findings: ForeignSlice<Finding>,
    }

    /// A term that strings of the document contain.
    pub struct Finding {
        /// Its number among those of `configure`, from 0.
        term: u32,
        strings: u32,
    }

    /// Why a document has no report. Lines and columns begin at 1.
    pub enum ScanError: u32 {
        /// The document is not JSON, or nested deeper than 127 levels.
        Syntax { line: u32, column: u32 } = 1,
        /// The document ends too early.
        Truncated { line: u32, column: u32 } = 2,
        /// The terms are not configured yet.
        NotConfigured = 3,
    }

    /// What `attack` does.
    pub enum Attack: u32 {
        Loop = 1,
        Panic = 2,
        Overflow = 3,
    }

    /// What the scanner offers to its host.
    pub interface Scanner {
        /// Builds the index of the terms, one on a line, and returns their number. It can be called once.
        fn configure(terms: ForeignStr) -> u32;
        /// Parses a document, and searches its strings and keys for the terms.
        fn scan(document: ForeignBuf) -> Result<Report, ScanError>;
        /// Misbehaves as a broken parser would, for the load generator and the tests.
        fn attack(attack: Attack);
    }
}

//! The shared memory of one connection: the region, its arenas, and the blocks that the two sides lend to each other.
//!
//! Only [`region`] turns an offset into an address. [`arena`] allocates in the part of the region that this side owns,
//! with allocator metadata that the peer cannot access. [`transfer`] tracks the blocks that one call lends.

pub(crate) mod arena;
mod layout;
mod peer_bytes;
#[cfg(feature = "std")]
mod process_id;
mod region;
mod region_memory;
pub(crate) mod storage;
pub(crate) mod sync;
mod transfer;

#[cfg(feature = "std")]
pub(crate) use arena::KeptBlock;
pub use arena::{ArenaStats, GRANULE_SIZE};
pub use layout::RegionLayout;
#[cfg(feature = "std")]
pub(crate) use process_id::ProcessId;
pub(crate) use region::{Epoch, Memory, stale};
pub use region_memory::RegionMemory;
pub(crate) use storage::MemoryRef;
pub(crate) use transfer::{AddsCalls, Loans, Passage, alloc, sealed};
pub use transfer::{Incoming, Lender, Outgoing, SideMemory};

//! The host's server for the guest in `tests/machines/guest`.

use vmffi::{CallError, ForeignBuf, ForeignStr, Peer, SharedBuf};

use crate::shared::{
    Side,
    control::{Control, Errands},
    serve_side,
    state::{Gifts, State},
};

/// What a host does when its guest reports that it will run forever.
type Spins = dyn Fn() + Send + Sync;

/// What a host does in a call of its guest.
type Calls = dyn Fn(&Peer) + Send + Sync;

#[derive(Default)]
pub struct Host {
    kept: spin::Mutex<Vec<ForeignBuf>>,
    spins: Option<Box<Spins>>,
    calls: Option<Box<Calls>>,
    gift: &'static [u8],
    makes: Option<Box<Spins>>,
}

impl Host {
    pub fn on_spin(spins: impl Fn() + Send + Sync + 'static) -> Self {
        Self { spins: Some(Box::new(spins)), ..Self::default() }
    }

    /// A host that gives its guest a buffer during the guest's startup.
    pub fn with_gift(gift: &'static [u8]) -> Self {
        Self { gift, ..Self::default() }
    }

    /// The content of that buffer.
    pub fn gives(&self) -> &'static [u8] {
        self.gift
    }

    /// The same; runs `makes` before it gives the buffer.
    pub fn while_it_is_made(self, makes: impl Fn() + Send + Sync + 'static) -> Self {
        Self { makes: Some(Box::new(makes)), ..self }
    }

    pub fn on_call(calls: impl Fn(&Peer) + Send + Sync + 'static) -> Self {
        Self { calls: Some(Box::new(calls)), ..Self::default() }
    }
}

impl Side for Host {
    fn kept(&self) -> &spin::Mutex<Vec<ForeignBuf>> {
        &self.kept
    }

    fn bottom(&self, _: u32) {}
}

impl Errands for Host {
    fn add(&self, _: &Peer, one: u64, two: u64) -> Result<u64, CallError> {
        Ok(one.wrapping_add(two))
    }
    fn panics(&self, guest: &Peer, text: ForeignStr) -> Result<SharedBuf, CallError> {
        let _made = SharedBuf::copy_from(guest, text.read_string()?.as_bytes())?;
        std::panic::resume_unwind(Box::new("quietly"))
    }
    fn spins(&self, _: &Peer) -> Result<(), CallError> {
        self.spins.iter().for_each(|spins| spins());
        Ok(())
    }
    fn calls_back(&self, guest: &Peer) -> Result<SharedBuf, CallError> {
        self.calls.iter().for_each(|calls| calls(guest));
        SharedBuf::zeroed(guest, 1000)
    }
}

impl Gifts for Host {
    fn gift(&self, guest: &Peer) -> Result<Option<SharedBuf>, CallError> {
        let given = !self.gift.is_empty();
        let gift = given.then(|| SharedBuf::copy_from(guest, self.gift)).transpose();
        self.makes.iter().for_each(|makes| makes());
        gift
    }
}

serve_side!(Host: Errands, Gifts; calls Control, State);

//! In a loopback both sides are one program, so a forged pointer word would be a second reference to memory that is
//! written. Safe code can neither send such words nor turn them into handles, by none of these ways.
#![forbid(unsafe_code)]

use vmffi::{
    CallError, FfiReturn, FfiType, ForeignBuf, Incoming, Outgoing, Peer, Plain, SendAs, Unpackable,
    abi::{Answer, Function, Transport},
    __private::dispatch::Entry,
};

vmffi::ffi_interface! {
    pub interface Pages { fn load(page: ForeignBuf) -> ForeignBuf; }
}

const WORDS: Transport = Transport { primary: 1 << 56 | 0x3000, secondary: 64 };
const LOAD: &Function = ParamsPagesLoad::FUNCTION;

/// By a call with forged words.
pub fn called(peer: &Peer) {
    let _ = peer.call(LOAD.signature, WORDS);
    let _ = peer.call_with(peer.outgoing(), LOAD.signature, WORDS);
    let _ = vmffi::Caller::finish::<ForeignBuf>(&peer, peer.outgoing(), LOAD, Ok(WORDS));
}

/// By a handle that is made of forged words.
pub fn validated(peer: &Peer) {
    let _ = ForeignBuf::from_transport(WORDS, peer.outgoing().incoming());
    let _ = ForeignBuf::from_transport(WORDS, vmffi::__private::incoming(peer));
}

/// The typed calls of the crate alone use this.
pub fn validated_within(peer: &Peer) {
    let _ = ForeignBuf::from_transport(WORDS, peer.incoming());
}

/// By an answer with forged words.
pub const ANSWERED: Entry<()> = Entry::new(LOAD, |_, _, _, _| WORDS);

/// By an argument that says which words are sent.
pub struct Argument;

impl<T: FfiType> SendAs<T> for Argument {
    fn encode(self, _: &mut [u8], _: &mut Outgoing<'_>) -> Result<(), CallError> {
        Ok(())
    }

    fn into_transport(self, _: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        Ok(WORDS)
    }
}

/// By a type that validates words which are not its own.
pub struct Parameter(ForeignBuf);

impl FfiType for Parameter {
    type Wire = <u64 as FfiType>::Wire;
    type OptionWire = <u64 as FfiType>::OptionWire;
    type Shared = Argument;
    const SHAPE: &'static vmffi::__private::descriptor::Shape = <u64 as FfiType>::SHAPE;
    const HANDLES: bool = false;

    fn decode(_: &[u8], from: Incoming<'_>) -> Result<Self, CallError> {
        ForeignBuf::from_transport(WORDS, from).map(Self)
    }

    fn write(&self, _: &mut [u8]) {}
}

/// By a type that is called plain and is not.
impl Plain for Parameter {}

/// By parameters that are not unpacked as they lie.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Parameters;

impl Unpackable for Parameters {
    type Output = ForeignBuf;

    fn unpack(_: &[u8], from: Incoming<'_>) -> Result<ForeignBuf, CallError> {
        ForeignBuf::from_transport(WORDS, from)
    }
}

/// By a result that is not what was answered.
pub struct Returned;

impl FfiReturn for Returned {
    type Handled = ();
    type Received = ();
    const SHAPE: &'static vmffi::__private::descriptor::Shape = <ForeignBuf as FfiType>::SHAPE;

    fn answer(_: (), _: &mut Outgoing<'_>) -> Result<Answer, CallError> {
        Ok(Answer { status: 0, transport: WORDS })
    }

    fn receive(_: Answer, _: Incoming<'_>) -> Result<Self, CallError> {
        Ok(Self)
    }

    fn received(_: Result<Self, CallError>) {}
}

fn main() {}

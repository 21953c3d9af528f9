//! One operation of one side's code.

use vmffi::{CallError, ErrorKind, MAX_DEPTH, Peer, SharedBuf, SharedStr, abi::Side};

use crate::{
    counts::count,
    interface::{KINDS, ParamsSpareSpare, SpareClient},
    model::Thing,
    ops::{Op, Thread},
    value::{Made, Value},
    world::{Error, Real, State, World},
};

impl World {
    /// Executes one operation, outside of any call or in a handler. Returns the failure of a call.
    pub fn act(&self, peer: &Peer, op: &Op) -> Option<CallError> {
        let (mut error, side) = (None, peer.side());
        let inside = self.with(|state| {
            state.ops += 1;
            !state.flights.is_empty()
        });
        // The name of the operation; `None` if there was no object for it.
        let done = match op {
            Op::Call(call) => {
                error = self.call(peer, call);
                Some("a call")
            }
            Op::Batch(batch) => {
                let done;
                (done, error) = self.batch(peer, batch);
                Some(done)
            }
            Op::Forge(forge) => {
                self.forge(peer, forge);
                Some("a call with forged words")
            }
            Op::Unknown { signature, bytes, forget } => {
                self.unknown(peer, *signature, bytes, *forget);
                Some("a call of no function")
            }
            Op::Has => {
                self.has(peer);
                Some("asking for the optional function")
            }
            Op::Late(nth) => self.late(peer, *nth).then_some("a late mark"),
            Op::Make { kind, value, spare } => {
                self.make_and_keep(peer, *kind, value, *spare);
                Some("making something")
            }
            Op::Append(nth, text) => self.append(*nth, side, text).then_some("adding to it"),
            Op::Truncate(nth, len) => {
                let shorten = |made: &mut SharedBuf, bytes: &mut Vec<u8>| {
                    made.truncate(*len);
                    bytes.truncate(*len);
                };
                self.change(*nth, side, shorten).then_some("shortening it")
            }
            Op::Overwrite(nth, byte) => {
                let overwrite = |made: &mut SharedBuf, bytes: &mut Vec<u8>| {
                    made.as_mut_slice().fill(*byte);
                    bytes.fill(*byte);
                };
                self.change(*nth, side, overwrite).then_some("writing over it")
            }
            Op::DropMade(nth) => {
                let made = self.with(|state| state.made_id(*nth, side, |_| true));
                made.map(|id| self.drop_any(id)).map(|()| "dropping it unsent")
            }
            Op::Read(nth, thread) => self.read(*nth, side, None, *thread).map(|_| match thread {
                Thread::This => "reading",
                Thread::Other => "reading on another thread",
            }),
            Op::Drop(nth, thread) => self.drop_held(*nth, side, *thread).then_some(match thread {
                Thread::This => "dropping",
                Thread::Other => "dropping on another thread",
            }),
            Op::Check => {
                self.compare(peer);
                Some("a look at an arena")
            }
        };
        if let Some(done) = done {
            let place = if inside { ", in a handler" } else { "" };
            count(|counts| {
                counts.ops += 1;
                counts.add(format!("op: {done}{place}"));
            });
        }
        error
    }

    fn has(&self, peer: &Peer) {
        let to = peer.side().other();
        let too_deep = self.with(|state| state.flights.len()) >= MAX_DEPTH as usize;
        match SpareClient::from(peer).has_spare() {
            Ok(has) => assert!(!too_deep && has == (to == Side::Host)),
            Err(error) => {
                assert!(too_deep);
                let function = ParamsSpareSpare::FUNCTION;
                self.fails(
                    &error,
                    Error::new(ErrorKind::TooDeep, peer.side()).in_function(function),
                );
            }
        }
        self.told(to, None);
    }

    fn make_and_keep(&self, peer: &Peer, kind: usize, value: &Value, spare: usize) {
        let ty = &KINDS[kind];
        let made = match value {
            Value::Bytes(bytes) => {
                let capacity = bytes.len() + spare;
                let blocks: Vec<_> = Some(capacity).filter(|len| *len > 0).into_iter().collect();
                self.make_in(peer, ty, value, &blocks, || {
                    let mut buf = SharedBuf::with_capacity(peer, capacity)?;
                    buf.extend_from_slice(bytes)?;
                    Ok(Box::new(buf))
                })
            }
            Value::Text(text) => {
                let capacity = text.len() + spare;
                let blocks: Vec<_> = Some(capacity).filter(|len| *len > 0).into_iter().collect();
                self.make_in(peer, ty, value, &blocks, || {
                    let mut made = SharedStr::with_capacity(peer, capacity)?;
                    made.push_str(text)?;
                    Ok(Box::new(made))
                })
            }
            _ => self.make(peer, ty, value).map(|(made, id, _)| (made, id)),
        };
        if let Ok((made, id)) = made {
            self.with(|state| state.reals.insert(id, Real::Made(made)));
        }
    }

    /// Changes a buffer that was made and not sent.
    fn change(
        &self,
        nth: usize,
        side: Side,
        change: impl FnOnce(&mut SharedBuf, &mut Vec<u8>),
    ) -> bool {
        self.with(|state| {
            let Some((made, thing)) = state.made_of(nth, side, |thing| thing.ty.is(&KINDS[0]))
            else {
                return false;
            };
            let made: &mut SharedBuf = made.downcast_mut().expect("a buffer");
            let Value::Bytes(bytes) = &mut thing.value else { panic!("not a buffer") };
            change(made, bytes);
            assert_eq!(made.as_slice(), bytes);
            true
        })
    }

    /// Appends to a buffer or a text that was not sent, which grows if it has no room.
    fn append(&self, nth: usize, side: Side, more: &str) -> bool {
        self.with(|state| {
            let ty = |thing: &Thing| thing.ty.is(&KINDS[0]) || thing.ty.is(&KINDS[1]);
            let Some((made, thing)) = state.made_of(nth, side, ty) else { return false };
            let capacity = thing.blocks.first().copied().unwrap_or_default();
            let (len, grown, result) = match (&mut thing.value, made) {
                (Value::Bytes(bytes), made) => {
                    let made: &mut SharedBuf = made.downcast_mut().expect("a buffer");
                    let result = made.extend_from_slice(more.as_bytes());
                    if result.is_ok() {
                        bytes.extend(more.as_bytes());
                    }
                    assert_eq!(made.as_slice(), bytes);
                    (bytes.len(), made.capacity(), result)
                }
                (Value::Text(text), made) => {
                    let made: &mut SharedStr = made.downcast_mut().expect("a text");
                    let result = made.push_str(more);
                    if result.is_ok() {
                        text.push_str(more);
                    }
                    assert_eq!(made.as_str(), text);
                    (text.len(), made.capacity(), result)
                }
                _ => panic!("neither a buffer nor a text"),
            };
            match result {
                // Whether the arena has room depends on the places of its blocks, which the model does not predict.
                Ok(()) if len > capacity => (thing.blocks, thing.grown) = (vec![grown], true),
                Ok(()) => assert_eq!(grown, capacity),
                Err(error) => {
                    assert!(len + more.len() > capacity && grown == capacity);
                    assert_eq!((error.kind(), error.side()), (ErrorKind::OutOfMemory, Some(side)));
                }
            }
            true
        })
    }
}

impl State {
    fn made_of(
        &mut self,
        nth: usize,
        side: Side,
        will_do: impl Fn(&Thing) -> bool,
    ) -> Option<(&mut Made, &mut Thing)> {
        let id = self.made_id(nth, side, will_do)?;
        let Some(Real::Made(made)) = self.reals.get_mut(&id) else { panic!("not made") };
        Some((made, self.model.things.get_mut(&id)?))
    }
}

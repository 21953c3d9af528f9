//! Every type of the declaration, in every place, in both directions, on the loopback.
//!
//! Whatever a test does, both arenas must be empty when it is done: a value that crossed must not
//! leave a block behind, and neither must a call that failed.

mod aggregates;
mod buffers;
mod calls;
mod failures;
mod handles;
mod lives;
mod memory;
mod options;
mod results;
mod scalars;

use vmffi::{Peer, Serve, loopback::Loopback};

/// Has the same server called by a guest and by a host.
pub fn both_ways<S: Serve>(server: impl Fn() -> S, test: impl Fn(&Peer)) {
    let pair = Loopback::new((), server()).unwrap();
    test(pair.to_host());
    assert_clean(&pair);
    let pair = Loopback::new(server(), ()).unwrap();
    test(pair.to_guest());
    assert_clean(&pair);
}

/// Nothing is in use in either arena.
#[track_caller]
pub fn assert_clean(pair: &Loopback) {
    assert_eq!(pair.to_host().arena_stats().blocks, 0, "blocks are left in the guest's arena");
    assert_eq!(pair.to_guest().arena_stats().blocks, 0, "blocks are left in the host's arena");
}

/// Makes a module for a plain type: an interface that sends it in every place where a plain type can
/// stand, a server that sends it back, and a test that sends all the values both ways.
#[macro_export]
macro_rules! echoes {
    ($($module:ident: $t:ty = [$($value:expr),* $(,)?];)*) => { $(
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            use vmffi::{CallError, Failure, Foreign, Peer, Shared};

            vmffi::ffi_interface! {
                #[derive(Clone, Debug, PartialEq)]
                pub struct Inside { before: u8, value: $t, maybe: Option<$t>, after: u8 }

                pub enum Choice: i16 { No, Tuple($t), Named { pad: bool, value: $t } }

                pub interface Echo {
                    fn alone(value: $t) -> $t;
                    fn among(before: u8, value: $t, after: u16) -> $t;
                    fn second(one: $t, two: $t) -> $t;
                    fn option(value: Option<$t>) -> Option<$t>;
                    fn options(nr: u8, value: Option<Option<$t>>) -> Option<Option<$t>>;
                    fn inside(value: Inside) -> Inside;
                    fn inside_among(before: bool, value: Inside, after: char) -> Inside;
                    fn choice(value: Choice) -> Choice;
                    fn foreign(value: Foreign<$t>) -> Foreign<$t>;
                    fn foreign_among(before: u8, value: Foreign<$t>, after: u8) -> Foreign<Inside>;
                    fn result(fail: bool, value: $t) -> Result<$t, $t>;
                }
            }

            pub struct Server;

            impl Echo for Server {
                fn alone(&self, _: &Peer, value: $t) -> Result<$t, CallError> {
                    Ok(value)
                }
                fn among(&self, _: &Peer, before: u8, value: $t, after: u16) -> Result<$t, CallError> {
                    assert_eq!((before, after), (0xa5, 0x5a5a));
                    Ok(value)
                }
                fn second(&self, _: &Peer, _: $t, two: $t) -> Result<$t, CallError> {
                    Ok(two)
                }
                fn option(&self, _: &Peer, value: Option<$t>) -> Result<Option<$t>, CallError> {
                    Ok(value)
                }
                fn options(&self, _: &Peer, nr: u8, value: Option<Option<$t>>) -> Result<Option<Option<$t>>, CallError> {
                    assert_eq!(nr, match value { None => 0, Some(None) => 1, Some(Some(_)) => 2 });
                    Ok(value)
                }
                fn inside(&self, _: &Peer, value: Inside) -> Result<Inside, CallError> {
                    Ok(value)
                }
                fn inside_among(&self, _: &Peer, before: bool, value: Inside, after: char) -> Result<Inside, CallError> {
                    assert_eq!((before, after), (true, 'é'));
                    Ok(value)
                }
                fn choice(&self, _: &Peer, value: Choice) -> Result<Choice, CallError> {
                    Ok(match value {
                        Choice::No => Choice::No,
                        Choice::Tuple(value) => Choice::Named { pad: true, value },
                        Choice::Named { value, .. } => Choice::Tuple(value),
                    })
                }
                fn foreign(&self, peer: &Peer, value: Foreign<$t>) -> Result<Shared<$t>, CallError> {
                    Shared::new(peer, value.read()?)
                }
                fn foreign_among(&self, peer: &Peer, before: u8, value: Foreign<$t>, after: u8) -> Result<Shared<Inside>, CallError> {
                    Shared::new(peer, Inside { before, value: value.read()?, maybe: None, after })
                }
                fn result(&self, _: &Peer, fail: bool, value: $t) -> Result<$t, Failure<$t>> {
                    if fail { Err(value.into()) } else { Ok(value) }
                }
            }

            vmffi::serve!(Server: Echo);

            #[test]
            fn crosses() {
                let values = || -> Vec<$t> { Vec::from([$($value),*]) };
                $crate::both_ways(|| Server, |peer| {
                    let echo = EchoClient::from(peer);
                    for (value, other) in values().into_iter().zip(values().into_iter().rev()) {
                        let same = || value.clone();
                        let inside = Inside { before: 1, value: same(), maybe: Some(same()), after: 0xff };
                        let empty = Inside { maybe: None, ..inside.clone() };
                        assert_eq!(echo.alone(same()), Ok(same()));
                        assert_eq!(echo.among(0xa5, same(), 0x5a5a), Ok(same()));
                        assert_eq!(echo.second(other, same()), Ok(same()));
                        assert_eq!(echo.option(Some(same())), Ok(Some(same())));
                        assert_eq!(echo.option(None::<$t>), Ok(None));
                        assert_eq!(echo.options(0, None::<Option<$t>>), Ok(None));
                        assert_eq!(echo.options(1, Some(None::<$t>)), Ok(Some(None)));
                        assert_eq!(echo.options(2, Some(Some(same()))), Ok(Some(Some(same()))));
                        assert_eq!(echo.inside(&inside), Ok(inside.clone()));
                        assert_eq!(echo.inside(empty.clone()), Ok(empty.clone()));
                        assert_eq!(echo.inside_among(true, inside.clone(), 'é'), Ok(inside.clone()));
                        assert_eq!(echo.inside_among(true, &empty, 'é'), Ok(empty));
                        assert!(matches!(echo.choice(Choice::No), Ok(Choice::No)));
                        let Ok(Choice::Named { pad: true, value }) = echo.choice(Choice::Tuple(same())) else { panic!() };
                        assert_eq!(value, same());
                        let Ok(Choice::Tuple(value)) = echo.choice(Choice::Named { pad: false, value }) else { panic!() };
                        assert_eq!(value, same());
                        let shared = Shared::new(peer, same()).unwrap();
                        assert_eq!(echo.foreign(shared).unwrap().read(), Ok(same()));
                        let shared = Shared::new(peer, same()).unwrap();
                        let foreign = echo.foreign_among(1, shared, 0xff).unwrap();
                        assert_eq!(foreign.read(), Ok(Inside { maybe: None, ..inside }));
                        assert_eq!(foreign.read().unwrap().value, same(), "a handle can be read again");
                        assert_eq!(echo.result(false, same()), Ok(same()));
                        assert_eq!(echo.result(true, same()), Err(Failure::App(same())));
                    }
                });
            }
        }
    )* };
}

/// Makes a module for a plain type that has bytes: slices of it, of several lengths, both ways.
#[macro_export]
macro_rules! slices {
    ($($module:ident: $t:ty = [$($value:expr),* $(,)?];)*) => { $(
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            use vmffi::{CallError, ForeignSlice, Peer, SharedSlice};

            vmffi::ffi_interface! {
                pub struct Inside { nr: u8, values: ForeignSlice<$t> }

                pub interface Echo {
                    fn alone(values: ForeignSlice<$t>) -> ForeignSlice<$t>;
                    fn among(nr: u8, values: ForeignSlice<$t>, more: Option<ForeignSlice<$t>>) -> Option<ForeignSlice<$t>>;
                    fn inside(value: Inside) -> Inside;
                }
            }

            pub struct Server;

            fn again(peer: &Peer, values: &ForeignSlice<$t>) -> Result<SharedSlice<$t>, CallError> {
                let by_one = values.iter().collect::<Result<Vec<_>, _>>()?;
                assert_eq!(by_one, values.to_vec()?);
                assert_eq!(values.get(values.len()), Ok(None));
                if let Some(first) = values.get(0)? {
                    let mut into = vec![first; values.len() + 1];
                    assert_eq!(values.read_into(&mut into)?, &by_one[..]);
                }
                SharedSlice::copied(peer, &by_one)
            }

            impl Echo for Server {
                fn alone(&self, peer: &Peer, values: ForeignSlice<$t>) -> Result<SharedSlice<$t>, CallError> {
                    again(peer, &values)
                }
                fn among(
                    &self,
                    peer: &Peer,
                    nr: u8,
                    values: ForeignSlice<$t>,
                    more: Option<ForeignSlice<$t>>,
                ) -> Result<Option<SharedSlice<$t>>, CallError> {
                    assert_eq!(nr, 7);
                    more.map(|more| {
                        assert_eq!(values.len(), more.len());
                        again(peer, &more)
                    })
                    .transpose()
                }
                fn inside(&self, peer: &Peer, value: Inside) -> Result<SharedInside, CallError> {
                    Ok(SharedInside { nr: value.nr, values: again(peer, &value.values)? })
                }
            }

            vmffi::serve!(Server: Echo);

            #[test]
            fn slices_cross() {
                let some: Vec<$t> = Vec::from([$($value),*]);
                let many: Vec<$t> = some.iter().cycle().take(300).cloned().collect();
                $crate::both_ways(|| Server, |peer| {
                    let echo = EchoClient::from(peer);
                    for values in [&some, &many, &Vec::new()] {
                        assert_eq!(echo.alone(values).unwrap().to_vec().unwrap(), *values);
                        assert_eq!(echo.alone(&values[..]).unwrap().len(), values.len());
                        let shared = || SharedSlice::copied(peer, values).unwrap();
                        assert_eq!(shared().len(), values.len());
                        assert_eq!(shared().is_empty(), values.is_empty());
                        assert_eq!(echo.alone(shared()).unwrap().is_empty(), values.is_empty());
                        let more = echo.among(7, values, Some(values)).unwrap().unwrap();
                        assert_eq!(more.to_vec().unwrap(), *values);
                        assert!(echo.among(7, values, None::<&[$t]>).unwrap().is_none());
                        let inside = echo.inside(SharedInside { nr: 9, values: shared() }).unwrap();
                        assert_eq!((inside.nr, inside.values.to_vec().unwrap()), (9, values.clone()));
                    }
                    let array = [$($value),*];
                    assert_eq!(echo.alone(&array).unwrap().to_vec().unwrap(), array);
                });
            }
        }
    )* };
}

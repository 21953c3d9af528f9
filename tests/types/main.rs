//! Every type of the declaration, in every position, in both directions, on the loopback.
//!
//! After each test both arenas must be empty: neither a value that crossed nor a failed call may
//! leave a block behind.

extern crate alloc;

mod aggregates;
mod borrows;
mod buffers;
mod calls;
mod compounds;
mod failures;
mod growth;
mod handles;
mod lives;
mod memory;
mod options;
mod packed;
mod panics;
mod results;
mod scalars;
mod shared;

use vmffi::{Peer, Serve, loopback::Loopback};

/// Runs calls of the same server by a guest and by a host.
pub fn both_ways<S: Serve>(server: impl Fn() -> S, test: impl Fn(&Peer)) {
    let pair = Loopback::new((), server()).unwrap();
    test(pair.host());
    assert_clean(&pair);
    let pair = Loopback::new(server(), ()).unwrap();
    test(pair.guest());
    assert_clean(&pair);
}

/// Runs checks in both directions, each on connections of its own.
pub fn run_all<S: Serve>(server: impl Fn() -> S, checks: &[shared::Check]) {
    for (name, check) in checks {
        println!("{name}");
        both_ways(&server, check);
    }
}

/// No block is in use in either arena.
#[track_caller]
pub fn assert_clean(pair: &Loopback) {
    assert_eq!(pair.host().arena_stats().blocks, 0, "blocks are left in the guest's arena");
    assert_eq!(pair.guest().arena_stats().blocks, 0, "blocks are left in the host's arena");
}

/// Makes a module for a plain type with bytes: slices of it, of several lengths, in both directions.
#[macro_export]
macro_rules! slices {
    ($($module:ident: $t:ty = [$($value:expr),* $(,)?];)*) => { $(
        mod $module {
            #[allow(unused_imports, reason = "some types are the language's own")]
            use super::*;
            use vmffi::{CallError, ForeignSlice, Peer, SharedSlice};

            vmffi::ffi_interface! {
                pub struct Inside { nr: u8, values: ForeignSlice<$t> }

                pub interface Echo {
                    fn alone(values: ForeignSlice<$t>) -> ForeignSlice<$t>;
                    fn among(
                        nr: u8, values: ForeignSlice<$t>, more: Option<ForeignSlice<$t>>,
                    ) -> Option<ForeignSlice<$t>>;
                    fn inside(value: Inside) -> Inside;
                }
            }

            pub struct Server;

            fn again(peer: &Peer, values: &ForeignSlice<$t>) -> Result<SharedSlice<$t>, CallError> {
                let by_one = values.iter().collect::<Result<Vec<_>, _>>()?;
                assert_eq!(by_one, values.read_vec()?);
                assert_eq!(values.get(values.len()), Ok(None));
                if let Some(first) = values.get(0)? {
                    let mut into = vec![first; values.len() + 1];
                    assert_eq!(values.read_into(&mut into)?, &by_one[..]);
                }
                SharedSlice::copy_from(peer, &by_one)
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
                        assert_eq!(echo.alone(values).unwrap().read_vec().unwrap(), *values);
                        assert_eq!(echo.alone(&values[..]).unwrap().len(), values.len());
                        let shared = || SharedSlice::copy_from(peer, values).unwrap();
                        assert_eq!(shared().len(), values.len());
                        assert_eq!(shared().is_empty(), values.is_empty());
                        assert_eq!(echo.alone(shared()).unwrap().is_empty(), values.is_empty());
                        let more = echo.among(7, values, Some(values)).unwrap().unwrap();
                        assert_eq!(more.read_vec().unwrap(), *values);
                        assert!(echo.among(7, values, None::<&[$t]>).unwrap().is_none());
                        let inside = echo.inside(SharedInside { nr: 9, values: shared() }).unwrap();
                        assert_eq!((inside.nr, inside.values.read_vec().unwrap()), (9, values.clone()));
                    }
                    let array = [$($value),*];
                    assert_eq!(echo.alone(&array).unwrap().read_vec().unwrap(), array);
                });
            }
        }
    )* };
}

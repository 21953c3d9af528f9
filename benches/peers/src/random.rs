//! Calls of 1,024 functions, in an order that a branch predictor cannot learn.

use std::hint::black_box;

use vmffi::{CallError, Peer, abi::Transport, loopback::Loopback};

use crate::measure::{Run, each};

/// An interface whose functions are named by as many binary digits as there are `double`s, and the same functions without
/// an interface.
macro_rules! functions {
    ([$( [$($b:tt)*] )*] double $($left:tt)*) => {
        functions! { [$( [$($b)* 0] [$($b)* 1] )*] $($left)* }
    };
    ([$( [$($b:tt)*] )*]) => { paste::paste! {
        vmffi::ffi_interface! {
            pub interface Many { $( fn [<f $($b)*>](x: u64) -> u64; )* }
        }

        impl Many for Host {
            $( fn [<f $($b)*>](&self, _: &Peer, x: u64) -> Result<u64, CallError> {
                Ok(plain::[<f $($b)*>](x))
            } )*
        }

        mod plain {
            // Each function is another one, so that none is merged with the next.
            $( #[inline]
            pub fn [<f $($b)*>](x: u64) -> u64 {
                x.wrapping_add(0 $( * 2 + $b )*)
            } )*
        }

        const SIGNATURES: &[u64] = &[$( [<ParamsManyF $($b)*>]::FUNCTION.signature ),*];
        const FUNCTIONS: &[fn(u64) -> u64] = &[$( plain::[<f $($b)*>] ),*];
    } };
}

struct Host;

functions! { [[]] double double double double double double double double double double }

vmffi::serve!(Host: Many);

/// How many calls the order has before it repeats.
const ORDER: usize = 1 << 16;

/// Another function each time.
fn next() -> impl FnMut() -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let order: Vec<u16> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u16 % FUNCTIONS.len() as u16
    })
    .take(ORDER)
    .collect();
    let mut at = 0;
    move || {
        at += 1;
        usize::from(order[at % ORDER])
    }
}

pub fn calls() -> Run {
    #[inline(never)]
    fn call(peer: &Peer, signature: u64, x: u64) -> u64 {
        // SAFETY: these functions take a number.
        unsafe { peer.call(signature, Transport::word(x)) }.transport.primary
    }
    let pair: &Loopback = Box::leak(Box::new(Loopback::new((), Host).expect("memory")));
    let mut next = next();
    each(move || call(black_box(pair.host()), black_box(SIGNATURES)[next()], black_box(7)))
}

pub fn indirect_calls() -> Run {
    #[inline(never)]
    fn call(function: fn(u64) -> u64, x: u64) -> u64 {
        function(x)
    }
    let mut next = next();
    each(move || call(black_box(FUNCTIONS)[next()], black_box(7)))
}

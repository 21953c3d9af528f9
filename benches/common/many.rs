//! Dispatch among 4, 64 and 1,024 functions.

use std::hint::black_box;

use criterion::Criterion;
use vmffi::{CallError, Peer, abi::Transport, loopback::Loopback};

use super::table::{Row, Target};
use crate::{floor, measure};

/// Declares an interface with 2 to the power of n functions, whose names have n binary digits, and with it a server,
/// its signatures, and the same functions without an interface.
macro_rules! interface {
    ($name:ident $server:ident $module:ident [$($n:tt)*] double $($left:tt)*) => {
        interface! { @ $name $server $module [] [$($n)*] $($left)* }
    };
    (@ $name:ident $server:ident $module:ident [] [$( { $($b:tt)* } )*] $($left:tt)*) => {
        interface! { $name $server $module [$( { $($b)* 0 } { $($b)* 1 } )*] $($left)* }
    };
    ($name:ident $server:ident $module:ident [$( { $($b:tt)* } )*]) => { paste::paste! {
        vmffi::ffi_interface! {
            pub interface $name { $( fn [<f $($b)*>](x: u64) -> u64; )* }
        }

        struct $server;

        impl $name for $server {
            $( fn [<f $($b)*>](&self, _: &Peer, x: u64) -> Result<u64, CallError> {
                Ok($module::[<f $($b)*>](x))
            } )*
        }

        vmffi::serve!($server: $name);

        mod $module {
            // The functions differ, so that the linker merges none of them.
            $( #[inline]
            pub fn [<f $($b)*>](x: u64) -> u64 {
                let number = 0_u64 $( * 2 + $b )*;
                x.wrapping_add(number)
            } )*

            pub const SIGNATURES: &[u64] =
                &[$( super::[<Params $name F $($b)*>]::FUNCTION.signature ),*];

            pub const FUNCTIONS: &[fn(u64) -> u64] = &[$( [<f $($b)*>] ),*];
        }
    } };
}

interface! { Four FourServer four [{}] double double }
interface! { Dozens DozensServer dozens [{}] double double double double double double }
interface! { Thousand ThousandServer thousand [{}]
double double double double double double double double double double }

/// The length of a random order of calls before it repeats: too long for a branch predictor to learn.
const ORDER: usize = 1 << 16;

fn order(among: usize) -> Vec<u16> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as usize % among
    };
    (0..ORDER).map(|_| next() as u16).collect()
}

#[inline(never)]
fn call(peer: &Peer, signature: u64, x: u64) -> u64 {
    // SAFETY: each of these functions takes one number.
    unsafe { peer.call(signature, Transport::word(x)) }.transport.primary
}

pub fn dispatch(c: &mut Criterion, rows: &mut Vec<Row>) {
    let none = "memory";
    let cases = [
        (Loopback::new((), FourServer).expect(none), four::SIGNATURES, four::FUNCTIONS),
        (Loopback::new((), DozensServer).expect(none), dozens::SIGNATURES, dozens::FUNCTIONS),
        (Loopback::new((), ThousandServer).expect(none), thousand::SIGNATURES, thousand::FUNCTIONS),
    ];

    let mut group = c.benchmark_group("dispatch");
    for (pair, signatures, _) in &cases {
        let count = signatures.len();
        let case = format!("hot, {count} functions");
        let signature = signatures[count / 2];
        measure(&mut group, &case, || {
            call(black_box(pair.host()), black_box(signature), black_box(7))
        });
        rows.push(Row::new("dispatch", &case, "hot, 4 functions", Target::Times(1.1)));
    }
    for (pair, signatures, functions) in &cases {
        let count = signatures.len();
        let order = order(count);
        let mut i = 0;
        let mut next = || {
            i += 1;
            usize::from(order[i % ORDER])
        };
        let floor = format!("indirect call, random, {count}");
        measure(&mut group, &floor, || floor::indirect(black_box(functions)[next()], black_box(7)));
        let case = format!("random, {count} functions");
        measure(&mut group, &case, || {
            call(black_box(pair.host()), black_box(signatures)[next()], black_box(7))
        });
        rows.push(Row::new("dispatch", &case, &floor, Target::Times(3.0)));
    }
    group.finish();
}

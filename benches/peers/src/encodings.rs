//! Encodings: into bytes that exist already, and out of them.

use std::hint::black_box;

use rkyv::{rancor::Error, util::AlignedVec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Entry, entries,
    measure::{Run, each},
};

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Three {
    x: u64,
    step: u32,
    by: f64,
}

#[derive(
    Clone, Copy, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
struct Block {
    a: u64,
    b: u32,
    c: i32,
    d: f64,
    e: u16,
    f: u16,
    g: bool,
}

const BLOCK: Block = Block { a: 1, b: 2, c: -3, d: 4.5, e: 5, f: 6, g: true };

/// A call: the sender encodes, the receiver decodes and answers, and the sender decodes the answer.
fn postcard<P, R>(parameters: P, handler: fn(P) -> R) -> Run
where
    P: Serialize + DeserializeOwned + Copy + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    #[inline(never)]
    fn serve<P: DeserializeOwned, R: Serialize>(
        handler: fn(P) -> R,
        call: &[u8],
        answer: &mut [u8],
    ) -> usize {
        let parameters = postcard::from_bytes(call).expect("a value");
        postcard::to_slice(&handler(parameters), answer).expect("space").len()
    }
    #[inline(never)]
    fn call<P: Serialize + DeserializeOwned, R: Serialize + DeserializeOwned>(
        handler: fn(P) -> R,
        parameters: P,
        (call, answer): (&mut [u8], &mut [u8]),
    ) -> R {
        let call = postcard::to_slice(&parameters, call).expect("space");
        let len = serve(handler, black_box(call), answer);
        postcard::from_bytes(&answer[..len]).expect("a value")
    }
    let (mut there, mut back) = ([0; 64], [0; 64]);
    each(move || call(black_box(handler), black_box(parameters), (&mut there, &mut back)))
}

pub fn postcard_three() -> Run {
    let three = Three { x: 7, step: 8, by: 9.5 };
    postcard(three, |three| three.x.wrapping_add(u64::from(three.step)) ^ three.by.to_bits())
}

pub fn postcard_record() -> Run {
    postcard(BLOCK, |block: Block| Block { a: block.a.wrapping_add(1), ..block })
}

pub fn rkyv_record() -> Run {
    #[inline(never)]
    fn encode(block: Block, mut bytes: AlignedVec) -> AlignedVec {
        bytes.clear();
        rkyv::api::high::to_bytes_in::<_, Error>(&block, bytes).expect("memory")
    }
    #[inline(never)]
    fn decode(bytes: &[u8]) -> Block {
        rkyv::from_bytes::<_, Error>(bytes).expect("a value")
    }
    let (mut there, mut back) = (AlignedVec::new(), AlignedVec::new());
    each(move || {
        there = encode(black_box(BLOCK), std::mem::take(&mut there));
        let block = decode(&there);
        let answer = Block { a: block.a.wrapping_add(1), ..block };
        back = encode(black_box(answer), std::mem::take(&mut back));
        decode(&back)
    })
}

pub fn postcard_entries() -> Run {
    #[inline(never)]
    fn encode<'b>(entries: &[Entry], bytes: &'b mut [u8]) -> &'b mut [u8] {
        postcard::to_slice(entries, bytes).expect("space")
    }
    #[inline(never)]
    fn decode(bytes: &[u8]) -> Vec<Entry> {
        postcard::from_bytes(bytes).expect("a value")
    }
    let (entries, mut bytes) = (entries(), vec![0; 1 << 20]);
    each(move || decode(black_box(encode(black_box(&entries), &mut bytes))))
}

#[inline(never)]
fn rkyv_encode(entries: &Vec<Entry>, mut bytes: AlignedVec) -> AlignedVec {
    bytes.clear();
    rkyv::api::high::to_bytes_in::<_, Error>(entries, bytes).expect("memory")
}

pub fn rkyv_entries() -> Run {
    #[inline(never)]
    fn decode(bytes: &[u8]) -> Vec<Entry> {
        rkyv::from_bytes::<_, Error>(bytes).expect("a value")
    }
    let (entries, mut bytes) = (entries(), AlignedVec::new());
    each(move || {
        bytes = rkyv_encode(black_box(&entries), std::mem::take(&mut bytes));
        decode(black_box(&bytes))
    })
}

/// The receiver checks the bytes and reads each entry, but keeps nothing.
pub fn rkyv_entries_in_place() -> Run {
    #[inline(never)]
    fn read(bytes: &[u8]) -> u64 {
        let entries = rkyv::access::<rkyv::Archived<Vec<Entry>>, Error>(bytes).expect("a value");
        let read = |entry: &rkyv::Archived<Entry>| {
            (entry.name.len() + entry.path.len()) as u64 + entry.size.to_native()
        };
        entries.iter().map(read).sum()
    }
    let (entries, mut bytes) = (entries(), AlignedVec::new());
    each(move || {
        bytes = rkyv_encode(black_box(&entries), std::mem::take(&mut bytes));
        read(black_box(&bytes))
    })
}

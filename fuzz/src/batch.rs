//! Batches in both directions, as the document says (ABI, "Batches"): those that the attacker makes, and those of the victim.

use vmffi::{
    ErrorKind,
    abi::{Answer, Transport},
};

use super::{
    model::{Ty, View},
    types::Fun,
    world::Outcome,
};

mod forge;
pub mod made;
pub mod served;

/// The bytes of an entry and of an answer.
pub const ENTRY: u64 = 24;
/// The reserved signatures are below this one.
const FIRST_FREE: u64 = 16;
/// How many results a call may take.
const MOST_TAKEN: usize = 16;

/// An entry or an answer: its three words.
type Words = [u64; 3];

fn words(view: View, at: u64) -> Words {
    let bytes = view.read(at, ENTRY as usize);
    [0, 8, 16].map(|nr| u64::from_le_bytes(bytes[nr..nr + 8].try_into().expect("8 bytes")))
}

fn bytes(words: Words) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn answer([status, primary, secondary]: Words) -> Answer {
    Answer { status, transport: Transport { primary, secondary } }
}

fn refused(why: ErrorKind) -> Answer {
    Answer::status(why as u64)
}

/// What a `TAKE` finds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    Word(u64),
    /// The pointer word of a block, or nothing, if there was no memory for it: that of the answer with this index.
    Later(usize),
    Nothing,
}

/// What a `TAKE` finds in the result of a call that has ended, whose answer has this index.
fn found(fun: &'static Fun, outcome: &Outcome, index: usize) -> Found {
    match outcome {
        Outcome::Value(seen) => word(&fun.ok, seen, index),
        Outcome::App(_) | Outcome::Failed(..) => Found::Nothing,
    }
}

fn word(ty: &Ty, seen: &[u8], index: usize) -> Found {
    let mut bytes = [0; 8];
    let mut extended = |size: usize, signed: bool| {
        let negative = signed && seen[size - 1] >> 7 == 1;
        bytes.fill(if negative { u8::MAX } else { 0 });
        bytes[..size].copy_from_slice(seen);
        Found::Word(u64::from_le_bytes(bytes))
    };
    match *ty {
        Ty::Number { size, signed } if size <= 8 => extended(size, signed),
        Ty::Enum { size, signed, .. } => extended(size, signed),
        Ty::Bool => extended(1, false),
        Ty::Char => extended(4, false),
        Ty::Converted(as_ty, _) => word(as_ty, seen, index),
        Ty::Option(inner) if inner.nullable() && seen[0] == 0 => Found::Word(0),
        Ty::Option(inner) if inner.nullable() => match word(inner, &seen[1..], index) {
            Found::Word(_) => Found::Word(1),
            found => found,
        },
        Ty::Buffer { .. } | Ty::Slice(_) | Ty::Packed(_) => {
            // The length is seen last.
            let empty = seen[seen.len() - 8..].iter().all(|byte| *byte == 0);
            if empty { Found::Word(0) } else { Found::Nothing }
        }
        _ if ty.layout().0 == 0 => Found::Word(0),
        _ => Found::Later(index),
    }
}

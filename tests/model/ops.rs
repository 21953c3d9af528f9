//! The operations, as proptest generates them. A number that selects one of several things is taken modulo
//! their count, so that a sequence stays valid when a part of it is removed.

use std::sync::Arc;

use proptest::prelude::*;
use vmffi::{ErrorKind, abi::Side};

use crate::{
    batch,
    forge::{self, Forge},
    interface::{Entry, FUNCTIONS, KINDS},
    value::{Type, Value, bytes, text},
};

/// One step of a case.
#[derive(Clone, Debug)]
pub enum Top {
    /// An operation of the code of one side, outside of any call.
    By(Side, Op),
    Reset,
}

/// An operation of one side, outside of any call or in a handler.
#[derive(Clone, Debug)]
pub enum Op {
    Call(Box<Call>),
    Batch(Box<Batch>),
    Forge(Box<Forge>),
    /// A raw call of an unknown function, with some bytes that are lent, possibly without an end.
    Unknown {
        signature: u64,
        bytes: Vec<u8>,
        forget: bool,
    },
    /// Asks whether the peer has the optional function.
    Has,
    /// A mark for a loan that has ended.
    Late(usize),
    /// Makes a thing of one of the [`KINDS`], and keeps it.
    Make {
        kind: usize,
        value: Value,
        spare: usize,
    },
    /// Changes a buffer or a text that was made and not sent.
    Append(usize, String),
    Truncate(usize, usize),
    Overwrite(usize, u8),
    /// Drops a thing that was made and not sent.
    DropMade(usize),
    /// Reads a thing that was received.
    Read(usize, Thread),
    /// Drops a thing that was received.
    Drop(usize, Thread),
    /// Compares the side's arena with the model.
    Check,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Thread {
    This,
    Other,
}

/// The source of an argument; if there is no thing of the kind, a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// Lent by the client, or made before the call.
    Value,
    Made,
    /// The nth thing that the caller has made and kept.
    Kept(usize),
    /// The nth thing that the other side has made and kept, which the caller may not send.
    Theirs(usize),
}

/// What the receiver does with a thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Drop(Thread),
    Keep,
}

/// A call, and what its handler does.
#[derive(Clone, Debug)]
pub struct Call {
    pub entry: &'static Entry,
    pub args: Vec<(Value, Source)>,
    pub plan: Arc<Plan>,
    /// For the result.
    pub fate: Fate,
}

/// Calls that are made together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Each with the results that it takes, by parameter: the nth of those of the right type, if there is one.
    pub calls: Vec<(Call, Vec<Option<usize>>)>,
    /// Operations between the calls, and between the results.
    pub between: Vec<Op>,
    pub sent: bool,
    /// Which of the results that are left is read next. The others are dropped.
    pub order: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Plan {
    /// For each argument, and whether that happens after the operations.
    pub fates: Vec<(Fate, bool)>,
    pub ops: Vec<Op>,
    /// Ends with the error of a call among the operations, if there was one.
    pub propagate: bool,
    pub end: End,
}

/// How a handler ends.
#[derive(Clone, Debug)]
pub enum End {
    Value(Value),
    /// With the nth thing of the right type that it has made and kept, or else the value.
    Kept(usize, Value),
    /// With a copy of the nth thing of the right type that it has received, or else the value.
    Copy(usize, Value),
    App(Value),
    Fail(ErrorKind),
    Panic,
    /// A panic whose payload panics again when it is dropped.
    Bomb,
}

pub const WHYS: [ErrorKind; 14] = [
    ErrorKind::Refused,
    ErrorKind::UnknownFunction,
    ErrorKind::BadPointer,
    ErrorKind::BadValue,
    ErrorKind::OutOfMemory,
    ErrorKind::TooDeep,
    ErrorKind::Busy,
    ErrorKind::Cancelled,
    ErrorKind::VersionMismatch,
    ErrorKind::Unsupported,
    ErrorKind::PeerPanicked,
    ErrorKind::PeerDied,
    ErrorKind::Stale,
    ErrorKind::Protocol,
];

fn thread() -> impl Strategy<Value = Thread> {
    prop_oneof![5 => Just(Thread::This), 1 => Just(Thread::Other)]
}

fn fate(handles: bool) -> BoxedStrategy<Fate> {
    if handles {
        prop_oneof![5 => thread().prop_map(Fate::Drop), 2 => Just(Fate::Keep)].boxed()
    } else {
        Just(Fate::Drop(Thread::This)).boxed()
    }
}

fn source(ty: &Type) -> BoxedStrategy<Source> {
    if !KINDS.iter().any(|kind| kind.is(ty)) {
        return prop_oneof![Just(Source::Value), Just(Source::Made)].boxed();
    }
    prop_oneof![
        8 => Just(Source::Value),
        6 => Just(Source::Made),
        5 => any::<usize>().prop_map(Source::Kept),
        1 => any::<usize>().prop_map(Source::Theirs),
    ]
    .boxed()
}

fn end(ok: Type, app: Option<Type>) -> BoxedStrategy<End> {
    let value = || (ok.any)();
    let nth = any::<usize>;
    let fail = prop::sample::select(&WHYS[..]);
    let mut all = vec![
        (12, value().prop_map(End::Value).boxed()),
        (1, fail.prop_map(End::Fail).boxed()),
        (1, Just(End::Fail(ErrorKind::Refused)).boxed()),
        (1, Just(End::Panic).boxed()),
        (1, Just(End::Bomb).boxed()),
    ];
    if ok.handles {
        all.push((6, (nth(), value()).prop_map(|(nth, value)| End::Copy(nth, value)).boxed()));
    }
    if KINDS.iter().any(|kind| kind.is(&ok)) {
        all.push((3, (nth(), value()).prop_map(|(nth, value)| End::Kept(nth, value)).boxed()));
    }
    if let Some(app) = app {
        all.push((8, (app.any)().prop_map(End::App).boxed()));
    }
    prop::strategy::Union::new_weighted(all).boxed()
}

/// A plan for a handler with these parameters and this result.
pub fn plan(
    params: &[Type],
    ok: Type,
    app: Option<Type>,
    ops: BoxedStrategy<Vec<Op>>,
) -> impl Strategy<Value = Plan> + use<> {
    let fates: Vec<_> = params.iter().map(|ty| (fate(ty.handles), any::<bool>())).collect();
    (fates, ops, any::<bool>(), end(ok, app)).prop_map(|(fates, ops, propagate, end)| Plan {
        fates,
        ops,
        propagate,
        end,
    })
}

/// A call of any function, whose handler does one of `ops`. `weight` is how often a function is called, if the usual one is 1.
fn call(ops: &BoxedStrategy<Vec<Op>>, weight: fn(&Entry) -> u32) -> BoxedStrategy<Call> {
    let one = |entry: &'static Entry| {
        let args: Vec<_> = entry.params.iter().map(|ty| ((ty.any)(), source(ty))).collect();
        let plan = plan(entry.params, entry.ok, entry.app, ops.clone()).prop_map(Arc::new);
        (args, plan, fate(entry.ok.handles || entry.app.is_some_and(|ty| ty.handles)))
            .prop_map(move |(args, plan, fate)| Call { entry, args, plan, fate })
            .boxed()
    };
    let all =
        FUNCTIONS.iter().map(|entry| (weight(entry), entry)).filter(|(weight, _)| *weight > 0);
    prop::strategy::Union::new_weighted(all.map(|(weight, entry)| (weight, one(entry))).collect())
        .boxed()
}

/// Functions with handles are called more often.
fn handles(entry: &Entry) -> u32 {
    if entry.ok.handles || entry.params.iter().any(|ty| ty.handles) { 3 } else { 1 }
}

/// Functions whose results can be taken, or that can take results.
fn takes(entry: &Entry) -> u32 {
    let many = entry.params.len() > 1 && entry.params.iter().any(batch::may_be_taken);
    if many { 6 } else { u32::from(batch::may_be_taken(&entry.ok)) }
}

fn batches(nested: &BoxedStrategy<Vec<Op>>) -> impl Strategy<Value = Batch> + use<> {
    let call =
        prop_oneof![2 => call(nested, handles), 3 => call(nested, takes)].prop_flat_map(|call| {
            let takes = vec![prop::option::weighted(0.6, any::<usize>()); call.args.len()];
            (Just(call), takes)
        });
    let order = prop_oneof![
        2 => prop::collection::vec(any::<usize>(), 6),
        1 => prop::collection::vec(any::<usize>(), 0..6),
    ];
    let sent = prop::bool::weighted(0.9);
    (prop::collection::vec(call, 2..=6), nested.clone(), sent, order)
        .prop_map(|(calls, between, sent, order)| Batch { calls, between, sent, order })
}

/// Nested calls, so many that the last ones are too deep.
fn chain() -> impl Strategy<Value = Op> {
    let call = call(&Just(Vec::new()).boxed(), handles);
    prop::collection::vec((call, any::<bool>()), 2..22).prop_map(|calls| {
        let nested = calls.into_iter().rev().fold(None, |inner: Option<Op>, (mut call, last)| {
            if let Some(inner) = inner {
                let ops = &mut Arc::make_mut(&mut call.plan).ops;
                ops.insert(if last { ops.len() } else { 0 }, inner);
            }
            Some(Op::Call(Box::new(call)))
        });
        nested.expect("two calls and more")
    })
}

fn op(depth: u32) -> BoxedStrategy<Op> {
    let nested = match depth {
        0 => Just(Vec::new()).boxed(),
        _ => prop_oneof![
            3 => Just(Vec::new()),
            1 => prop::collection::vec(op(depth - 1), 1..4),
        ]
        .boxed(),
    };
    let nth = any::<usize>;
    let signature = prop_oneof![
        prop::sample::select(vec![0, 9, 15]),
        any::<u64>().prop_map(|signature| signature | 1 << 40)
    ];
    let kind = (0..KINDS.len())
        .map(|kind| (KINDS[kind].any)().prop_map(move |value| (kind, value)).boxed());
    let make = (prop::strategy::Union::new(kind), prop_oneof![Just(0), 0_usize..200]);
    let mut all = vec![
        (5, (nth(), thread()).prop_map(|(nth, thread)| Op::Drop(nth, thread)).boxed()),
        (3, (nth(), thread()).prop_map(|(nth, thread)| Op::Read(nth, thread)).boxed()),
        (2, nth().prop_map(Op::DropMade).boxed()),
        (14, call(&nested, handles).prop_map(|call| Op::Call(Box::new(call))).boxed()),
        (5, make.prop_map(|((kind, value), spare)| Op::Make { kind, value, spare }).boxed()),
        (2, (nth(), text()).prop_map(|(nth, text)| Op::Append(nth, text)).boxed()),
        (1, (nth(), 0_usize..300).prop_map(|(nth, len)| Op::Truncate(nth, len)).boxed()),
        (1, (nth(), any::<u8>()).prop_map(|(nth, byte)| Op::Overwrite(nth, byte)).boxed()),
        (1, Just(Op::Check).boxed()),
        (1, Just(Op::Has).boxed()),
        (2, nth().prop_map(Op::Late).boxed()),
        (
            1,
            (signature, bytes(), any::<bool>())
                .prop_map(|(signature, bytes, forget)| Op::Unknown { signature, bytes, forget })
                .boxed(),
        ),
        (2, batches(&nested).prop_map(|batch| Op::Batch(Box::new(batch))).boxed()),
        (3, forge::forges(nested).prop_map(|forge| Op::Forge(Box::new(forge))).boxed()),
    ];
    if depth > 0 {
        all.push((1, chain().boxed()));
    }
    prop::strategy::Union::new_weighted(all).boxed()
}

/// A case: the sizes of the guest's and the host's arena in pages; the number of steps between comparisons
/// with the model; and the steps.
#[derive(Clone, Debug)]
pub struct Case {
    pub pages: [u64; 2],
    pub every: usize,
    pub steps: Vec<Top>,
    /// The order in which the remaining things are dropped.
    pub last: Vec<usize>,
}

pub fn cases(longest: usize) -> impl Strategy<Value = Case> {
    let side = prop_oneof![Just(Side::Guest), Just(Side::Host)];
    let step = prop_oneof![
        40 => (side, op(3)).prop_map(|(side, op)| Top::By(side, op)),
        1 => Just(Top::Reset),
    ];
    let pages = || prop_oneof![3 => Just(1_u64), 2 => 2_u64..8, 3 => Just(64), 1 => Just(1024)];
    let every = prop_oneof![3 => Just(1), 1 => 2_usize..20];
    let last = prop::collection::vec(any::<usize>(), 8);
    (pages(), pages(), every, prop::collection::vec(step, 1..=longest), last).prop_map(
        |(guest, host, every, steps, last)| Case { pages: [guest, host], every, steps, last },
    )
}

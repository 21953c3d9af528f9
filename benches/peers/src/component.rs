//! The component model under wasmtime: `component.wat` calls the host, and the host calls it.

use std::hint::black_box;

use wasmtime::{
    Engine, Store, StoreContextMut,
    component::{
        Component, ComponentNamedList, ComponentType, Instance, Lift, Linker, Lower, TypedFunc,
    },
};

use crate::{
    Entry, entries,
    measure::{Run, each},
};

#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(record)]
struct Block {
    a: u64,
    b: u32,
    c: i32,
    d: f64,
    e: u16,
    f: u16,
    g: bool,
}

/// What the host returns.
static BYTES: [u8; 4096] = [7; 4096];

fn instance() -> wasmtime::Result<(Store<()>, Instance)> {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::new(&engine);
    let mut host = linker.root();
    host.func_wrap("host-bytes", |_: StoreContextMut<()>, (bytes,): (Vec<u8>,)| {
        Ok((black_box(bytes).len() as u64,))
    })?;
    host.func_wrap("host-returned", |_: StoreContextMut<()>, (): ()| Ok((&BYTES[..],)))?;
    host.func_wrap("host-numbers", |_: StoreContextMut<()>, (numbers,): (Vec<u64>,)| {
        Ok((black_box(numbers).len() as u64,))
    })?;
    host.func_wrap("host-record", |_: StoreContextMut<()>, (block,): (Block,)| {
        Ok((Block { a: block.a.wrapping_add(1), ..block },))
    })?;
    host.func_wrap("host-entries", |_: StoreContextMut<()>, (entries,): (Vec<Entry>,)| {
        Ok((black_box(entries).len() as u64,))
    })?;
    let component = Component::new(&engine, include_str!("component.wat"))?;
    let instance = linker.instantiate(&mut store, &component)?;
    Ok((store, instance))
}

fn function<P, R>(name: &str) -> (Store<()>, TypedFunc<P, R>)
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let (mut store, instance) = instance().unwrap_or_else(|error| panic!("{error:?}"));
    let function = instance.get_typed_func(&mut store, name);
    (store, function.unwrap_or_else(|error| panic!("{error:?}")))
}

/// The guest calls the host in a loop of its own.
fn runs<P>(name: &str, parameters: impl Fn(u32) -> P + 'static) -> Run
where
    P: ComponentNamedList + Lower + 'static,
{
    let (mut store, function) = function::<P, (u64,)>(name);
    Box::new(move |times| {
        black_box(function.call(&mut store, parameters(times)).expect("no trap"));
    })
}

#[inline(never)]
fn call<P, R>(store: &mut Store<()>, function: &TypedFunc<P, R>, parameters: P) -> R
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    function.call(store, parameters).expect("no trap")
}

pub fn taken(len: u32) -> Run {
    runs("run-bytes", move |times| (times, len))
}

pub fn made(len: u32) -> Run {
    runs("run-made", move |times| (times, len))
}

pub fn returned_to_guest() -> Run {
    runs("run-returned", |times| (times,))
}

pub fn numbers_to_host() -> Run {
    runs("run-numbers", |times| (times, 1_u32 << 17))
}

pub fn record_to_host() -> Run {
    runs("run-record", |times| (times,))
}

pub fn entries_to_host() -> Run {
    runs("run-entries", |times| (times,))
}

pub fn given(len: usize) -> Run {
    let (mut store, function) = function::<(&'static [u8],), (u64,)>("bytes");
    let bytes = vec![7; len].leak();
    each(move || call(&mut store, &function, (black_box(&*bytes),)))
}

pub fn returned_to_host() -> Run {
    let (mut store, function) = function::<(), (Vec<u8>,)>("returned");
    each(move || call(&mut store, &function, ()))
}

pub fn record_to_guest() -> Run {
    let (mut store, function) = function::<(Block,), (Block,)>("guest-record");
    let block = Block { a: 1, b: 2, c: -3, d: 4.5, e: 5, f: 6, g: true };
    each(move || call(&mut store, &function, (black_box(block),)))
}

pub fn entries_to_guest() -> Run {
    let (mut store, function) = function::<(&'static [Entry],), (u64,)>("entries");
    let entries = entries().leak();
    each(move || call(&mut store, &function, (black_box(&*entries),)))
}

//! Calls of a core WebAssembly module under wasmtime: typed calls into it, and imports that it calls.

use std::hint::black_box;

use wasmtime::{Engine, Instance, Linker, Module, Store};

use crate::measure::{Run, each};

const MODULE: &str = r#"(module
    (import "host" "scalar" (func $scalar (param i64) (result i64)))
    (import "host" "three" (func $three (param i64 i32 f64) (result i64)))

    (func (export "scalar") (param i64) (result i64)
        (i64.add (local.get 0) (i64.const 1)))
    (func (export "three") (param i64 i32 f64) (result i64)
        (i64.xor
            (i64.add (local.get 0) (i64.extend_i32_u (local.get 1)))
            (i64.reinterpret_f64 (local.get 2))))

    (func (export "scalars") (param $times i32) (param $x i64) (result i64) (local $sum i64)
        (loop $again
            (local.set $sum (i64.add (local.get $sum) (call $scalar (local.get $x))))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
        (local.get $sum))
    (func (export "threes") (param $times i32) (param $x i64) (param $step i32) (param $by f64)
        (result i64) (local $sum i64)
        (loop $again
            (local.set $sum (i64.add (local.get $sum)
                (call $three (local.get $x) (local.get $step) (local.get $by))))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
        (local.get $sum)))"#;

fn three(x: u64, step: u32, by: f64) -> u64 {
    x.wrapping_add(u64::from(step)) ^ by.to_bits()
}

fn instance() -> wasmtime::Result<(Store<()>, Instance)> {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::new(&engine);
    linker.func_wrap("host", "scalar", |x: u64| x.wrapping_add(1))?;
    linker.func_wrap("host", "three", three)?;
    let instance = linker.instantiate(&mut store, &Module::new(&engine, MODULE)?)?;
    Ok((store, instance))
}

/// A function of the module, called for each time.
fn typed<P, R>(name: &str, parameters: P) -> Run
where
    P: wasmtime::WasmParams + Copy + 'static,
    R: wasmtime::WasmResults + 'static,
{
    #[inline(never)]
    fn call<P: wasmtime::WasmParams, R: wasmtime::WasmResults>(
        store: &mut Store<()>,
        function: &wasmtime::TypedFunc<P, R>,
        parameters: P,
    ) -> wasmtime::Result<R> {
        function.call(store, parameters)
    }
    let (mut store, instance) = instance().expect("a module");
    let function = instance.get_typed_func::<P, R>(&mut store, name).expect("this function");
    each(move || call(&mut store, &function, black_box(parameters)).expect("no trap"))
}

pub fn typed_scalar() -> Run {
    typed::<u64, u64>("scalar", 7)
}

pub fn typed_three() -> Run {
    typed::<(u64, u32, f64), u64>("three", (7, 8, 9.5))
}

pub fn import_scalar() -> Run {
    let (mut store, instance) = instance().expect("a module");
    let function = instance.get_typed_func::<(u32, u64), u64>(&mut store, "scalars");
    let function = function.expect("this function");
    Box::new(move |times| {
        black_box(function.call(&mut store, (times, black_box(7))).expect("no trap"));
    })
}

pub fn import_three() -> Run {
    let (mut store, instance) = instance().expect("a module");
    let function = instance.get_typed_func::<(u32, u64, u32, f64), u64>(&mut store, "threes");
    let function = function.expect("this function");
    Box::new(move |times| {
        let parameters = (times, black_box(7), black_box(8), black_box(9.5));
        black_box(function.call(&mut store, parameters).expect("no trap"));
    })
}

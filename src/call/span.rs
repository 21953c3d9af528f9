//! With the feature `tracing`, a span for each call; without it, nothing.
//!
//! The target of the span is `vmffi`, its level `DEBUG`, its name `call` on the side that makes the call and `serve` on
//! the side that serves it. Its fields are `function`, `direction` (`hypercall` or `upcall`), and, when the call has
//! returned, `status` (ABI, "Statuses") and `nanos`, its duration in nanoseconds.

use core::fmt;

use super::Peer;
use crate::abi::Function;

/// The span of a call in progress.
#[cfg(not(feature = "tracing"))]
#[derive(Debug)]
#[must_use]
pub struct Span;

#[cfg(not(feature = "tracing"))]
impl Span {
    /// Enters the span of a call that this side makes.
    #[inline(always)]
    pub(crate) fn call(_: &Peer, _: impl fmt::Display) -> Self {
        Self
    }

    /// Enters the span of a call that this side serves.
    #[inline(always)]
    pub fn serve(_: &Peer, _: &'static Function) -> Self {
        Self
    }

    /// Records the status and the duration, and leaves the span.
    #[inline(always)]
    pub fn end(self, _: u64) {}
}

/// The span of a call in progress, if a subscriber is interested. It is boxed, so that without a subscriber it costs a
/// null pointer only.
#[cfg(feature = "tracing")]
#[derive(Debug)]
#[must_use]
pub struct Span(Option<alloc::boxed::Box<Entered>>);

#[cfg(feature = "tracing")]
#[derive(Debug)]
struct Entered {
    span: tracing::span::EnteredSpan,
    start: std::time::Instant,
}

/// Runs code that calls the subscriber, and catches its panics: unwinding through a call would lose its loans and
/// result.
#[cfg(feature = "tracing")]
pub(crate) fn subscriber<R>(f: impl FnOnce() -> R) -> Option<R> {
    std::panic::catch_unwind(core::panic::AssertUnwindSafe(f)).ok()
}

/// Makes and enters the span.
#[cfg(feature = "tracing")]
macro_rules! enter {
    ($name:literal, $function:ident, $caller:expr) => {{
        let span = tracing::debug_span!(
            target: "vmffi",
            $name,
            function = %$function,
            direction = direction($caller),
            status = tracing::field::Empty,
            nanos = tracing::field::Empty,
        );
        if span.is_disabled() {
            return Span(None);
        }
        let entered = Entered { span: span.entered(), start: std::time::Instant::now() };
        Span(Some(alloc::boxed::Box::new(entered)))
    }};
}

/// Whether a subscriber may be interested in spans of this level.
#[cfg(feature = "tracing")]
#[inline]
fn listens() -> bool {
    use tracing::level_filters::LevelFilter;
    LevelFilter::current() >= LevelFilter::DEBUG
}

#[cfg(feature = "tracing")]
impl Span {
    /// Enters the span of a call that this side makes. The function is displayed as a [`Function`] is.
    #[inline]
    pub(crate) fn call(peer: &Peer, function: impl fmt::Display) -> Self {
        #[cold]
        #[inline(never)]
        fn enter(peer: &Peer, function: impl fmt::Display) -> Span {
            subscriber(|| enter!("call", function, peer.side())).unwrap_or(Span(None))
        }
        if listens() { enter(peer, function) } else { Self(None) }
    }

    /// Enters the span of a call that this side serves.
    #[inline]
    pub fn serve(peer: &Peer, function: &'static Function) -> Self {
        #[cold]
        #[inline(never)]
        fn enter(peer: &Peer, function: &'static Function) -> Span {
            subscriber(|| enter!("serve", function, peer.side().other())).unwrap_or(Span(None))
        }
        if listens() { enter(peer, function) } else { Self(None) }
    }

    /// Records the status and the duration, and leaves the span.
    #[inline]
    pub fn end(self, status: u64) {
        #[cold]
        #[inline(never)]
        fn end(entered: alloc::boxed::Box<Entered>, status: u64) {
            let _ = subscriber(|| {
                entered.span.record("status", status);
                entered.span.record("nanos", entered.start.elapsed().as_nanos() as u64);
                drop(entered);
            });
        }
        if let Some(entered) = self.0 {
            end(entered, status);
        }
    }
}

/// The direction of a call that this side makes.
#[cfg(feature = "tracing")]
fn direction(caller: crate::abi::Side) -> &'static str {
    match caller {
        crate::abi::Side::Guest => "hypercall",
        crate::abi::Side::Host => "upcall",
    }
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use std::{
        fmt::{self, Write},
        string::String,
        sync::{
            Arc, Mutex,
            atomic::{AtomicU32, Ordering},
        },
        vec::Vec,
    };

    use tracing::{Event, Metadata, Subscriber, field, span};

    use crate::{
        CallError, ForeignBuf, Peer, SharedBuf, contract::Contract, dynamic::Value,
        loopback::Loopback,
    };

    crate::ffi_interface! {
        pub interface Clock {
            fn now(nr: u32) -> u64;
            fn never() -> u64;
            fn echo(text: crate::ForeignStr) -> u64;
            fn text() -> crate::ForeignStr;
        }
    }

    struct Machine;

    impl Clock for Machine {
        fn now(&self, _: &Peer, nr: u32) -> Result<u64, CallError> {
            Ok(nr.into())
        }

        fn never(&self, _: &Peer) -> Result<u64, CallError> {
            Err(CallError::refused())
        }

        fn echo(&self, _: &Peer, text: crate::ForeignStr) -> Result<u64, CallError> {
            Ok(text.len() as u64)
        }

        fn text(&self, peer: &Peer) -> Result<crate::SharedStr, CallError> {
            crate::SharedStr::copy_from(peer, "a text")
        }
    }

    crate::serve!(Machine: Clock);

    /// A subscriber that records names and fields of spans.
    struct Seen(&'static Mutex<Vec<String>>);

    struct Fields<'s>(&'s mut String);

    impl field::Visit for Fields<'_> {
        fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
            match field.name() {
                "nanos" => self.0.push_str(" nanos"),
                name => write!(self.0, " {name}={value:?}").unwrap(),
            }
        }
    }

    impl Subscriber for Seen {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "vmffi"
        }
        fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
            let mut text = String::from(span.metadata().name());
            span.record(&mut Fields(&mut text));
            let mut all = self.0.lock().unwrap();
            all.push(text);
            span::Id::from_u64(all.len() as u64)
        }
        fn record(&self, span: &span::Id, values: &span::Record<'_>) {
            let nth = span.into_u64() as usize - 1;
            values.record(&mut Fields(&mut self.0.lock().unwrap()[nth]));
        }
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    crate::ffi_interface! {
        pub interface Shelf { fn keep(bytes: ForeignBuf); }
    }

    /// A server that keeps the handles that it receives.
    struct Keeper(Arc<Mutex<Vec<ForeignBuf>>>);

    impl Shelf for Keeper {
        fn keep(&self, _: &Peer, bytes: ForeignBuf) -> Result<(), CallError> {
            self.0.lock().unwrap().push(bytes);
            Ok(())
        }
    }

    crate::serve!(Keeper: Shelf);

    /// A subscriber that panics when the end of the first span is recorded.
    struct PanicsAtTheEnd(AtomicU32);

    impl Subscriber for PanicsAtTheEnd {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "vmffi"
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(u64::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1)
        }
        fn record(&self, span: &span::Id, _: &span::Record<'_>) {
            if span.into_u64() == 1 {
                std::panic::resume_unwind(std::boxed::Box::new("a subscriber's"));
            }
        }
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    /// The peer holds the loan, so it must not end: in a loopback the memory would have two owners.
    #[test]
    fn a_subscriber_that_panics_takes_no_loan_back() {
        let kept = Arc::default();
        let pair = Loopback::new((), Keeper(Arc::clone(&kept))).unwrap();
        tracing::subscriber::with_default(PanicsAtTheEnd(AtomicU32::new(0)), || {
            ShelfClient::from(pair.host()).keep(&[1; 64]).unwrap();
        });
        let other = SharedBuf::copy_from(pair.host(), &[2; 64]).unwrap();
        let handle = kept.lock().unwrap().pop().unwrap();
        assert_eq!(handle.read_vec().unwrap(), [1; 64]);
        assert_eq!(pair.host().arena_stats().blocks, 2);
        drop((handle, other));
        assert_eq!(pair.host().arena_stats().blocks, 0);
    }

    #[test]
    fn both_ends_of_a_call_are_spans() {
        static ALL: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let pair = Loopback::new((), Machine).unwrap();
        tracing::subscriber::with_default(Seen(&ALL), || {
            let clock = ClockClient::from(pair.host());
            assert_eq!(clock.now(7_u32), Ok(7));
            assert!(clock.never().is_err());
        });
        let hypercall = |name, function, status| {
            std::format!(
                "{name} function=Clock::{function} direction=\"hypercall\" status={status} nanos"
            )
        };
        assert_eq!(
            *ALL.lock().unwrap(),
            [
                hypercall("call", "now", 0),
                hypercall("serve", "now", 0),
                hypercall("call", "never", 78),
                hypercall("serve", "never", 78),
            ]
        );
    }

    /// A call that is not declared has the spans of one that is. What is refused before it is sent is no call.
    #[test]
    fn both_ends_of_a_dynamic_call_are_spans() {
        static ALL: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let pair = Loopback::new((), Machine).unwrap();
        let host = pair.host();
        let bytes = host.contract().unwrap();
        let contract = Contract::read(&bytes).unwrap();
        let function = |name| contract.served("Clock", name).unwrap();
        tracing::subscriber::with_default(Seen(&ALL), || {
            let now = host.call_dynamic(function("now"), &[7_u32.into()]);
            assert_eq!(now.unwrap(), Value::U64(7));
            assert!(host.call_dynamic(function("now"), &["seven".into()]).is_err());
            assert!(host.call_dynamic(function("never"), &[]).is_err());
        });
        let spans = |function, status| {
            ["call", "serve"].map(|name| {
                std::format!(
                    "{name} function=Clock::{function} direction=\"hypercall\" status={status} nanos"
                )
            })
        };
        assert_eq!(*ALL.lock().unwrap(), [spans("now", 0), spans("never", 78)].concat());
    }

    /// A subscriber that panics on the nth event.
    struct Panics(core::sync::atomic::AtomicU32);

    impl Panics {
        fn counts(&self) {
            use core::sync::atomic::Ordering;
            if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
                std::panic::resume_unwind(std::boxed::Box::new("quietly"));
            }
        }
    }

    impl Subscriber for Panics {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "vmffi"
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            self.counts();
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {
            self.counts();
        }
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &span::Id) {
            self.counts();
        }
        fn exit(&self, _: &span::Id) {
            self.counts();
        }
    }

    #[test]
    fn a_subscriber_that_panics_loses_nothing() {
        let pair = Loopback::new((), Machine).unwrap();
        let bytes = pair.host().contract().unwrap();
        let contract = Contract::read(&bytes).unwrap();
        for nth in 1..18 {
            let panics = Panics(core::sync::atomic::AtomicU32::new(nth));
            tracing::subscriber::with_default(panics, || {
                let clock = ClockClient::from(pair.host());
                assert_eq!(clock.echo("a text"), Ok(6), "{nth}");
                let text = clock.text().unwrap();
                assert_eq!(text.read_string().as_deref(), Ok("a text"), "{nth}");
                let echo = contract.served("Clock", "echo").unwrap();
                let len = pair.host().call_dynamic(echo, &["a text".into()]);
                assert_eq!(len.unwrap(), Value::U64(6), "{nth}");
            });
            assert_eq!(pair.host().arena_stats().blocks, 0, "{nth}");
            assert_eq!(pair.guest().arena_stats().blocks, 0, "{nth}");
        }
    }
}

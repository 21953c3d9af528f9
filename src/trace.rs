//! A span for each call, where the feature `tracing` is on; nothing at all where it is off.
//!
//! Its target is `vmffi`, its level `DEBUG`, its name `call` where it is made and `serve` where it is served. The
//! fields are `function`, `direction` (`hypercall` or `upcall`), and, when it is over, `status` (ABI,
//! "Statuses") and `nanos`, how long it took.

use crate::{abi::Function, peer::Peer};

/// A call that is under way.
#[cfg(not(feature = "tracing"))]
#[derive(Debug)]
#[must_use]
pub struct Span;

#[cfg(not(feature = "tracing"))]
impl Span {
    #[inline(always)]
    pub(crate) fn call(_: &Peer, _: &'static Function) -> Self {
        Self
    }

    /// A call that is served.
    #[inline(always)]
    pub fn serve(_: &Peer, _: &'static Function) -> Self {
        Self
    }

    /// It is over, with this status.
    #[inline(always)]
    pub fn end(self, _: u64) {}
}

/// A call that is under way, unless nobody wants to know. A pointer: calls are to be as quick as without
/// it while nobody listens.
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

/// Does what a subscriber has a say in. A panic of its is no matter of the call, whose loans and results would be lost with
/// it.
#[cfg(feature = "tracing")]
fn subscriber<R>(does: impl FnOnce() -> R) -> Option<R> {
    std::panic::catch_unwind(core::panic::AssertUnwindSafe(does)).ok()
}

/// Makes the span, and enters it.
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

/// Whether somebody may want to know.
#[cfg(feature = "tracing")]
#[inline]
fn listens() -> bool {
    use tracing::level_filters::LevelFilter;
    LevelFilter::current() >= LevelFilter::DEBUG
}

#[cfg(feature = "tracing")]
impl Span {
    #[inline]
    pub(crate) fn call(peer: &Peer, function: &'static Function) -> Self {
        #[cold]
        #[inline(never)]
        fn enter(peer: &Peer, function: &'static Function) -> Span {
            subscriber(|| enter!("call", function, peer.side())).unwrap_or(Span(None))
        }
        if listens() { enter(peer, function) } else { Self(None) }
    }

    /// A call that is served.
    #[inline]
    pub fn serve(peer: &Peer, function: &'static Function) -> Self {
        #[cold]
        #[inline(never)]
        fn enter(peer: &Peer, function: &'static Function) -> Span {
            subscriber(|| enter!("serve", function, peer.side().other())).unwrap_or(Span(None))
        }
        if listens() { enter(peer, function) } else { Self(None) }
    }

    /// It is over, with this status.
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

/// What a call is that this side makes.
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

    use crate::{CallError, ForeignBuf, Peer, SharedBuf, loopback::Loopback};

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
            crate::SharedStr::copied(peer, "a text")
        }
    }

    crate::serve!(Machine: Clock);

    /// Writes down what it sees.
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

    /// Keeps what it gets.
    struct Keeper(Arc<Mutex<Vec<ForeignBuf>>>);

    impl Shelf for Keeper {
        fn keep(&self, _: &Peer, bytes: ForeignBuf) -> Result<(), CallError> {
            self.0.lock().unwrap().push(bytes);
            Ok(())
        }
    }

    crate::serve!(Keeper: Shelf);

    /// PanicsAtTheEnd when it is told how the call that was made has ended.
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

    /// The peer has what was lent, so it must not be taken back: in a loopback that would be memory with two owners.
    #[test]
    fn a_subscriber_that_panics_takes_no_loan_back() {
        let kept = Arc::default();
        let pair = Loopback::new((), Keeper(Arc::clone(&kept))).unwrap();
        tracing::subscriber::with_default(PanicsAtTheEnd(AtomicU32::new(0)), || {
            ShelfClient::from(pair.to_host()).keep(&[1; 64]).unwrap();
        });
        let other = SharedBuf::copied(pair.to_host(), &[2; 64]).unwrap();
        let handle = kept.lock().unwrap().pop().unwrap();
        assert_eq!(handle.to_vec().unwrap(), [1; 64]);
        assert_eq!(pair.to_host().arena_stats().blocks, 2);
        drop((handle, other));
        assert_eq!(pair.to_host().arena_stats().blocks, 0);
    }

    #[test]
    fn both_ends_of_a_call_are_spans() {
        static ALL: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let pair = Loopback::new((), Machine).unwrap();
        tracing::subscriber::with_default(Seen(&ALL), || {
            let clock = ClockClient::from(pair.to_host());
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

    /// Panics when it is told of a span for the nth time.
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
        for nth in 1..12 {
            let panics = Panics(core::sync::atomic::AtomicU32::new(nth));
            tracing::subscriber::with_default(panics, || {
                let clock = ClockClient::from(pair.to_host());
                assert_eq!(clock.echo("a text"), Ok(6), "{nth}");
                let text = clock.text().unwrap();
                assert_eq!(text.to_string().as_deref(), Ok("a text"), "{nth}");
            });
            assert_eq!(pair.to_host().arena_stats().blocks, 0, "{nth}");
            assert_eq!(pair.to_guest().arena_stats().blocks, 0, "{nth}");
        }
    }
}

//! The events of a pool.

use std::{
    fmt::Write,
    sync::{Arc, Mutex},
};

use support::host::Host;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use vmffi::machine::Backend;

use super::{Case, builder, control};

pub const CASES: &[Case] =
    &[("made_reset_and_ended", events), ("a_subscriber_that_panics", panics)];

/// Keeps the events of pools on this thread.
#[derive(Clone, Default)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    panics: bool,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        assert!(value > 0);
        write!(self.0, " {field}").unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "vmffi::pool"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
        if self.panics {
            std::panic::resume_unwind(Box::new("quietly"));
        }
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn said(backend: Backend, panics: bool) -> Vec<String> {
    let lines = Lines { panics, ..Lines::default() };
    tracing::subscriber::with_default(lines.clone(), || {
        let pool = builder(backend).build(Host::default).unwrap();
        pool.call(|guest| control(guest).sum(3)).unwrap().unwrap();
        pool.call(|guest| control(guest).panics("no milk")).unwrap().unwrap_err();
        pool.call(|guest| control(guest).sum(3)).unwrap().unwrap();
    });
    let lines = lines.lines.lock().unwrap();
    lines.clone()
}

fn events(backend: Backend) {
    let lines = said(backend, false);
    let [made, reset, ended, last] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(made, "DEBUG message=made nanos");
    assert_eq!((reset, last), (last, &"TRACE message=reset nanos".to_owned()));
    assert!(ended.starts_with("DEBUG message=ended exit=the guest panicked at "), "{ended}");
    assert!(ended.ends_with("no milk"), "{ended}");
}

fn panics(backend: Backend) {
    assert_eq!(said(backend, true).len(), 4);
}

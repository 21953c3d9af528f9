//! Keeps the events of `tracing` that have one target, as lines of text.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// A subscriber; clones keep the same lines.
#[derive(Clone)]
pub struct Events {
    target: &'static str,
    panics: bool,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Events {
    pub fn of(target: &'static str) -> Self {
        Self { target, panics: false, lines: Arc::default() }
    }

    /// Each event is kept, and then panics.
    pub fn panicking(self) -> Self {
        Self { panics: true, ..self }
    }

    /// The events that `run` emits on this thread: the level, the message, and the other fields.
    pub fn during(self, run: impl FnOnce()) -> Vec<String> {
        tracing::subscriber::with_default(self.clone(), run);
        let lines = self.lines.lock().unwrap();
        lines.clone()
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }

    /// Removes a time, which differs in each run.
    fn record_u64(&mut self, field: &Field, value: u64) {
        assert!(value > 0);
        write!(self.0, " {field}").unwrap();
    }
}

impl Subscriber for Events {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == self.target
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

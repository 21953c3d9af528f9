//! The events of a pool.

use sides::host::Host;
use support::events::Events;
use vmffi::machine::Backend;

use super::{Case, builder, control};

pub const CASES: &[Case] =
    &[("made_reset_and_ended", events), ("a_subscriber_that_panics", panics)];

fn said(backend: Backend, events: Events) -> Vec<String> {
    events.during(|| {
        let pool = builder(backend).build(Host::default).unwrap();
        pool.call(|guest| control(guest).sum(3)).unwrap().unwrap();
        pool.call(|guest| control(guest).panics("no milk")).unwrap().unwrap_err();
        pool.call(|guest| control(guest).sum(3)).unwrap().unwrap();
    })
}

fn events(backend: Backend) {
    let lines = said(backend, Events::of("vmffi::pool"));
    let [made, reset, ended, last] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(made, "DEBUG message=made nanos");
    assert_eq!((reset, last), (last, &"TRACE message=reset nanos".to_owned()));
    assert!(ended.starts_with("DEBUG message=ended exit=the guest panicked at "), "{ended}");
    assert!(ended.ends_with("no milk"), "{ended}");
}

fn panics(backend: Backend) {
    assert_eq!(said(backend, Events::of("vmffi::pool").panicking()).len(), 4);
}

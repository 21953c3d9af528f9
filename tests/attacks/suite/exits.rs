//! Exits that the guest makes itself, at any point, and with any text.

use vmffi::{
    ErrorKind,
    abi::{Transport, pointer, signature, trap},
    host::{GuestExit, RunOutcome},
};

use super::{
    Came, Case,
    connection::{Setup, Target},
    crimes::{UNDEFINED, dies},
    forgeries::outside,
    list::{List, at, region},
    ops::Deed,
    traps::{PARAMS, nested},
};

pub fn cases() -> Vec<Case> {
    let large = |case: Case| case.with(|setup| setup.arenas.0 = 2 << 20);
    vec![
        Case::new("an_exit_in_an_upcall", |target| exits(target, 0)),
        Case::new("an_exit_in_a_nested_upcall", |target| exits(target, 1)),
        Case::new("an_exit_seven_levels_down", |target| exits(target, 7)),
        Case::new("a_fault_seven_levels_down", faults_below),
        Case::new("an_exit_with_all_statuses", statuses),
        Case::new("an_exit_with_a_text_outside_of_the_arena", nowhere),
        large(Case::new("a_panic_with_a_megabyte_of_escapes", |target| megabyte(target, 0))),
        large(Case::new("a_panic_in_a_nested_upcall_with_a_megabyte", |target| {
            megabyte(target, 3)
        })),
        large(Case::new("a_panic_that_is_not_utf8", not_text)),
        large(Case::new("log_lines_of_a_megabyte", log)),
    ]
}

/// Characters that control a terminal, or deceive a reader.
const EVIL: &str =
    "\u{1b}[2J\u{1b}]0;owned\u{7}\r\n\0\u{202e}txt.exe\u{9b}31m\u{2066}\u{200f}\u{7f}";
/// No such character is in a text for people.
#[track_caller]
pub fn is_harmless(text: &str) {
    let bad = |char: char| {
        char.is_control()
            || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    assert!(!text.contains(bad), "{text:?}");
}

fn exit(status: u64, text: Transport) -> List {
    List::new().trap(trap::EXIT, status, text, &List::new())
}

/// The guest has exited in that upcall.
#[track_caller]
fn exited(target: &Target, list: &List, status: u64) -> String {
    let error = target.told().does(list.bytes()).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
    assert_eq!(target.host.run(), Ok(RunOutcome::Exited(status)));
    let Some(GuestExit::Exited { status: said, text }) = target.end() else {
        panic!("{:?}", target.end())
    };
    assert_eq!(said, status);
    text.into()
}

fn exits(target: &Target, levels: u32) -> Came {
    let text = Transport { primary: target.own(0), secondary: 4 };
    let list = List::new().write(region(target.own(0)), b"bye\n").and(&exit(7, text));
    // While it holds a loan of the host.
    target.does(&List::new().hold());
    assert_eq!(exited(target, &nested(target.own(PARAMS), levels, &list), 7), "bye");
    let end = target.end().unwrap().to_string();
    assert_eq!(end, "the guest exited with status 7: bye");
    Came::Ended(format!("`PeerDied`: {end}"))
}

fn faults_below(target: &Target) -> Came {
    let list = nested(target.own(PARAMS), 7, &List::new().deed(Deed::Undefined, at(0), 0));
    dies(target, &list, &[UNDEFINED])
}

/// The host attaches no meaning to any status.
fn statuses(target: &Target) -> Came {
    for status in [0, 1, 101, 102, trap::READY] {
        let other = Target::new(target.on, &Setup::PLAIN);
        assert_eq!(exited(&other, &exit(status, Transport::EMPTY), status), "");
        other.assert_ended();
    }
    exited(target, &exit(u64::MAX, Transport::EMPTY), u64::MAX);
    Came::Ended(format!("`PeerDied`: {}", target.end().unwrap()))
}

/// ABI, Traps TR-2: a text outside of the arena is ignored.
fn nowhere(target: &Target) -> Came {
    let mut places = outside(target);
    let last = places.pop().unwrap();
    for place in places {
        // Up to 1,024 bytes are read, and these may be inside.
        if place.primary == target.own(0) || place.primary == target.own(8) {
            continue;
        }
        let other = Target::new(target.on, &Setup::PLAIN);
        assert_eq!(exited(&other, &exit(101, place), 101), "", "{place:x?}");
    }
    assert_eq!(exited(target, &exit(101, last), 101), "");
    Came::Ended(format!("`PeerDied`: {}", target.end().unwrap()))
}

/// A megabyte of it, in the guest's arena.
fn shouts(target: &Target, first: &[u8], len: u64) -> List {
    use super::ops::Op;
    let piece = first.len() as u64;
    let start = target.own(0);
    List::new().write(region(start), first).op(Op::Copy {
        to: region(start + piece),
        from: region(start),
        len: len - piece,
    })
}

fn megabyte(target: &Target, levels: u32) -> Came {
    let text = Transport { primary: target.own(0), secondary: 1 << 20 };
    let list = shouts(target, EVIL.as_bytes(), 1 << 20).and(&exit(101, text));
    let text = exited(target, &nested(target.own(PARAMS), levels, &list), 101);
    assert!(text.len() <= 1024 + 2, "{}", text.len());
    assert!(text.starts_with(EVIL), "unescaped, for a program");
    let end = target.end().unwrap();
    let shown = end.to_string();
    is_harmless(&shown);
    assert!(
        shown.starts_with(
            "the guest panicked: \\u{1b}[2J\\u{1b}]0;owned\\u{7}\\r\\n\\0\\u{202e}txt.exe\\u{9b}31m"
        ),
        "{shown}"
    );
    assert!(shown.len() < 8 << 10, "{}", shown.len());
    is_harmless(&format!("{end:?}"));
    Came::Ended(format!("`PeerDied`: the guest panicked: {} bytes of 1 MiB, escaped", text.len()))
}

fn not_text(target: &Target) -> Came {
    let text = Transport { primary: target.own(0), secondary: 1 << 20 };
    let list = shouts(target, b"\xff\xc0\x80\xed\xa0\x80\xf5", 1 << 20).and(&exit(101, text));
    let text = exited(target, &list, 101);
    // At most one replacement character for each byte.
    assert!(
        text.len() <= 3 * 1024 && text.chars().all(|char| char == '\u{fffd}' || char == '\0'),
        "{text:?}"
    );
    is_harmless(&target.end().unwrap().to_string());
    Came::Ended("`PeerDied`: the guest panicked: replacement characters".into())
}

fn log(target: &Target) -> Came {
    let lines = lines::gathered(|| {
        for levels in [0, 2] {
            let mut first = vec![1, 21];
            first.extend_from_slice(EVIL.as_bytes());
            let line = Transport { primary: pointer::join(target.own(0), 9), secondary: 1 << 20 };
            let list = shouts(target, &first, 1 << 20).call(signature::LOG, line);
            target.does(&nested(target.own(PARAMS), levels, &list));
        }
    });
    assert_eq!(lines.len(), 2);
    for line in &lines {
        is_harmless(line);
        assert!(line.contains("\\u{1b}[2J") && line.len() < 10 << 10, "{line}");
    }
    Came::Lives("taken: 1,024 bytes of it, escaped".into())
}

/// Collects log lines, by a subscriber of this thread.
mod lines {
    use std::{
        fmt::{self, Write},
        sync::{Arc, Mutex},
    };

    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span::{Attributes, Id, Record},
        subscriber::with_default,
    };

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "vmffi::guest"
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            struct Text(String);
            impl Visit for Text {
                fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                    write!(self.0, "{}={value:?} ", field.name()).unwrap();
                }
            }
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    pub fn gathered(run: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        with_default(Lines(lines.0.clone()), run);
        std::mem::take(&mut *lines.0.lock().unwrap())
    }
}

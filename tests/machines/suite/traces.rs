//! The lines of the guest's log, as `tracing` gets them.

use support::events::Events;
use vmffi::{ErrorKind, machine::LogLevel};

use super::{
    Case,
    connection::{self, On, machine},
    host::Host,
    shared::control::ControlClient,
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("the_guests_log", On::is_machine, log),
        Case::new("a_guest_without_a_log", On::is_machine, silent),
    ]
}

/// The lines of a guest that logs at each level.
fn said(on: On, level: LogLevel) -> Vec<String> {
    Events::of("vmffi::guest").during(|| {
        let host = connection::started(&machine().log(level), on, Host::default());
        let control = ControlClient::from(host.guest());
        for level in 1..=5 {
            control.log(level, &format!("level {level}")).unwrap();
        }
        assert_eq!(control.log(6, "no level").unwrap_err().kind(), ErrorKind::Refused);
        control.log(1, "two\nlines, \x1b[2J and \"quotes\"").unwrap();
        control.log(1, &"✗".repeat(5000)).unwrap();
        assert_eq!(host.guest().arena_stats().blocks, 0);
        assert_eq!(control.used().unwrap().blocks, 1);
    })
}

fn log(on: On) {
    let module = "module=guest of the tests";
    use LogLevel::{Debug, Error, Info, Trace, Warn};
    for most in [Error, Warn, Info, Debug, Trace] {
        let said = said(on, most);
        let mut expected = Vec::new();
        if most >= Info {
            expected.push("INFO message=the guest has started module=fixed::program".to_owned());
        }
        let levels = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
        for (nr, level) in levels.iter().enumerate().take(most as usize) {
            expected.push(format!("{level} message=level {} {module}", nr + 1));
        }
        let text = r#"two\nlines, \u{1b}[2J and "quotes""#;
        expected.push(format!("ERROR message={text} {module}"));
        assert_eq!(said[..said.len() - 1], expected);
        let long = said.last().unwrap();
        assert!(long.len() > 900 && long.len() < 1100, "{long}");
        assert!(long.contains("✗✗✗") && !long.contains('\u{fffd}'), "{long}");
    }
}

fn silent(on: On) {
    assert_eq!(said(on, LogLevel::Off), Vec::<String>::new());
}

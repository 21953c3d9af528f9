//! Citations of the document: a test cites every clause, and every citation names a clause that exists.
//!
//! A citation is the number of a clause in a test, best in its comment, after "ABI" and the title of
//! the section for the reader. Between two numbers, `to` cites the clauses between them as
//! well. Numbers in the sources of the crate must exist too, but only those in its unit tests count.

use std::{fs, path::Path};

use super::*;

/// The document's clauses by section, numbered in order, so that a citation is unambiguous: the
/// letters, the title, and the text of each clause.
fn clauses() -> BTreeMap<&'static str, (&'static str, Vec<&'static str>)> {
    let mut all = BTreeMap::new();
    for section in DOCUMENT.split("\n## ").skip(1) {
        let (title, text) = section.split_once('\n').unwrap();
        for clause in text.split("\n- **").skip(1) {
            let (number, text) = clause.split_once("** ").unwrap();
            let (letters, number) = number.split_once('-').unwrap();
            let (of, texts) = all.entry(letters).or_insert((title, Vec::new()));
            assert_eq!(*of, title, "{letters} stands for two sections");
            texts.push(text);
            assert_eq!(number, texts.len().to_string(), "{letters} is numbered in order");
        }
    }
    all
}

/// The text of one file in one line, and the part of it that is a test.
struct Source {
    name: String,
    all: String,
    test: String,
}

/// Joins lines into running text, without comment markers.
fn running(text: &str) -> String {
    let marks = ["///", "//!", "//", "/*", "* "];
    let lines = text.lines().map(|line| {
        let line = line.trim();
        marks.iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line).trim()
    });
    lines.collect::<Vec<_>>().join(" ")
}

fn sources(folder: &Path, all: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let ends = |ending| path.extension().is_some_and(|extension| extension == ending);
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, all);
        } else if ends("rs") || ends("c") || ends("h") {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
            let test = match text.find("#[cfg(all(test") {
                // The C guest's implementation cites clauses, but does not test them.
                _ if name.starts_with("tests/c_guest/vmffi") => "",
                _ if name.starts_with("tests") || name.ends_with("tests.rs") => &text,
                at => at.map_or("", |at| &text[at..]),
            };
            all.push(Source { all: running(&text), test: running(test), name });
        }
    }
}

/// Every number of a clause in a text: where it begins and ends, its letters, and the number.
fn numbers<'t>(
    text: &'t str,
    letters: &'t BTreeMap<&str, (&str, Vec<&str>)>,
) -> impl Iterator<Item = (usize, usize, &'t str, usize)> {
    text.match_indices('-').filter_map(|(dash, _)| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let start = text[..dash].rfind(|c| !word(c)).map_or(0, |at| at + 1);
        let end = text[dash + 1..].find(|c| !word(c)).map_or(text.len(), |at| dash + 1 + at);
        let (section, number) = (&text[start..dash], text[dash + 1..end].parse().ok()?);
        letters.contains_key(section).then_some((start, end, section, number))
    })
}

fn all_sources() -> Vec<Source> {
    let mut all = Vec::new();
    for folder in ["src", "tests"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut all);
    }
    all
}

/// Sections by their titles, and clauses by their numbers, with the title of their own section
/// before it if any.
#[test]
fn cited_sections_and_clauses_exist() {
    let clauses = clauses();
    assert!(clauses.len() >= 15, "{:?}", clauses.keys());
    let titles: Vec<_> = clauses.values().map(|(title, _)| *title).collect();
    let mut cited = [0, 0];
    for Source { name, all, .. } in all_sources() {
        for (at, before) in all.match_indices(concat!("ABI", ", ")) {
            let rest = &all[at + before.len()..];
            let known = match rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                Some(title) => DOCUMENT.contains(&format!("\n## {title}\n")),
                None => {
                    titles.iter().any(|title| rest.starts_with(title))
                        || numbers(rest, &clauses).next().is_some_and(|(at, ..)| at == 0)
                }
            };
            let rest: String = rest.chars().take(40).collect();
            assert!(known, "{name}: no section is called {rest:?}");
            cited[0] += 1;
        }
        for (start, _, letters, number) in numbers(&all, &clauses) {
            let (title, texts) = &clauses[letters];
            assert!(
                (1..=texts.len()).contains(&number),
                "{name}: {letters}-{number} is not a clause"
            );
            let before = all[..start].trim_end_matches(['"', ' ']);
            let right = before.ends_with(title) || !titles.iter().any(|t| before.ends_with(t));
            assert!(right, "{name}: {letters}-{number} is in {title:?}");
            cited[1] += 1;
        }
    }
    assert!(cited[0] > 100 && cited[1] > 300, "{cited:?}");
}

/// Reserved clauses require nothing, and have no test.
#[test]
fn every_clause_is_cited() {
    let clauses = clauses();
    let mut cited: BTreeMap<(&str, usize), Vec<&str>> = BTreeMap::new();
    let sources = all_sources();
    for Source { name, test, .. } in &sources {
        let mut last: Option<(usize, &str, usize)> = None;
        for (start, end, letters, number) in numbers(test, &clauses) {
            let from = match last {
                Some((end, before, first)) if before == letters && &test[end..start] == " to " => {
                    first
                }
                _ => number,
            };
            for number in from..=number {
                cited.entry((letters, number)).or_default().push(name);
            }
            last = Some((end, letters, number));
        }
    }
    let mut missing = Vec::new();
    for (letters, (_, texts)) in &clauses {
        for (number, text) in (1..).zip(texts) {
            let reserved = text.starts_with("*Reserved*");
            match cited.get(&(letters, number)) {
                Some(files) => assert!(!reserved, "{letters}-{number} is reserved: {files:?}"),
                None if reserved => {}
                None => missing.push(format!("{letters}-{number}")),
            }
        }
    }
    assert!(missing.is_empty(), "no test cites {}", missing.join(", "));
}

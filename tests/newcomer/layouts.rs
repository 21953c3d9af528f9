//! The layouts of the guide: the printed files, with the crate's path in the place of its version, and the printed commands.

use crate::project::Project;

const MACHINES: &str = include_str!("../../docs/guide/machines.md");
const LAYOUT: &str = include_str!("../../docs/guide/layout.md");

/// The text between two titles.
fn section<'t>(chapter: &'t str, from: &str, to: &str) -> &'t str {
    let (_, rest) = chapter.split_once(from).expect("the section");
    rest.split_once(to).expect("the end of the section").0
}

/// Each block of code, with the last line before it.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut pieces = text.split("```");
    let mut before = pieces.next();
    std::iter::from_fn(move || {
        let (language, code) = pieces.next()?.split_once('\n')?;
        let paragraph = before?.trim_end().rsplit("\n\n").next()?;
        before = pieces.next();
        Some((paragraph.trim_start(), language, code))
    })
}

/// Writes the files of a section: the code blocks whose paragraph begins with a path.
fn write(project: &Project, section: &str) -> usize {
    let mut written = 0;
    for (paragraph, language, code) in blocks(section) {
        if language != "console" {
            let path = paragraph.strip_prefix('`').and_then(|rest| rest.split_once('`'));
            let (path, _) = path.unwrap_or_else(|| panic!("no path before\n{code}"));
            project.write(path, code);
            written += 1;
        }
    }
    written
}

/// Runs the commands of a section, and compares their output.
fn run(project: &Project, section: &str) -> usize {
    let mut run = 0;
    for (_, _, code) in blocks(section).filter(|block| block.1 == "console") {
        for step in code.split("$ ").skip(1) {
            let (command, printed) = step.split_once('\n').expect("a line");
            let said = project.must(command);
            if !command.contains("cargo test") {
                assert_eq!(said.out, printed, "{command}\n{}", said.err);
            }
            run += 1;
        }
    }
    run
}

fn the_guest_in_its_hosts_folder() {
    let files = section(MACHINES, "## The guest\n", "## The runtime of a guest\n");
    let project = Project::new("shop");
    // `cargo new` creates files that are replaced afterwards.
    let (_, new) = files.split_once("```console\n").expect("the commands");
    let (new, files) = new.split_once("```").expect("their end");
    assert_eq!(new, "$ cargo new shop && cd shop\n$ cargo new plugin\n");
    assert_eq!(write(&project, files), 7);
    assert_eq!(run(&project, files), 1);
}

fn a_crate_for_the_declaration() {
    let files = section(LAYOUT, "## A crate for the declaration\n", "## One workspace\n");
    let project = Project::new("words");
    assert_eq!(write(&project, files), 8);
    assert_eq!(run(&project, files), 1);

    // The other layout shares some of these files.
    let files = section(LAYOUT, "## One workspace\n", "## Cross-built guests\n");
    for lock in ["api/Cargo.lock", "guest/Cargo.lock", "host/Cargo.lock"] {
        std::fs::remove_file(project.path(lock)).expect("a lock file");
    }
    assert_eq!(write(&project, files), 3);
    std::fs::remove_file(project.path("guest/Cargo.lock")).expect("a lock file");
    assert_eq!(run(&project, files), 2);
}

#[test]
fn layouts_are_built_as_they_are_printed() {
    the_guest_in_its_hosts_folder();
    a_crate_for_the_declaration();
}

//! README and guide quote code, output and names that exist.

use std::{fs, path::Path, process::Command};

const README: &str = include_str!("../README.md");
const GUEST: &str = include_str!("../docs/guide/guest.md");
const FIRST: &str = include_str!("../docs/guide/first-interface.md");
const SECURITY: &str = include_str!("../SECURITY.md");
const SAFETY: &str = include_str!("../docs/guide/safety.md");

/// The first block of a language in a text.
fn block<'t>(text: &'t str, language: &str) -> &'t str {
    let begin = format!("```{language}\n");
    let (_, rest) = text.split_once(&begin).expect("a block of this language");
    rest.split_once("```").expect("a block ends").0
}

/// The output of an example. It was built along with this test, unless only this test was requested.
fn output(example: &str) -> Option<String> {
    let here = std::env::current_exe().expect("a place for this test");
    let built = here.ancestors().nth(2)?.join("examples").join(example);
    if !built.exists() {
        println!("skipped: {example} is not built; `cargo build --examples` does it");
        return None;
    }
    let output = Command::new(built).output().expect("the example can be started");
    assert!(output.status.success(), "{example}: {output:?}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// The code in the README is the example that the first command runs, and the output is its output.
#[test]
fn the_readmes_code_is_the_example() {
    let example = include_str!("../examples/hello.rs");
    let (_, code) = example.split_once("\n\n").expect("the example begins with a comment");
    assert_eq!(block(README, "rust").trim(), code.trim());
    if let Some(printed) = output("hello") {
        assert_eq!(block(README, "text"), printed);
    }
}

/// The number of lines that are not empty, of tokens (words and single signs), and of bytes with each white space as one; without
fn sizes(code: &str) -> [usize; 3] {
    let counted = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("#[derive(");
    let lines: Vec<&str> = code.lines().filter(counted).collect();
    let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let tokens = |word: &&str| {
        let signs = word.chars().filter(|char| !is_word(*char)).count();
        signs + word.split(|char| !is_word(char)).filter(|part| !part.is_empty()).count()
    };
    let bytes = words.iter().map(|word| word.len() + 1).sum();
    [lines.len(), words.iter().map(tokens).sum(), bytes]
}

/// The declarations beside those in WIT and protobuf: the crate's are the examples', the counts are correct, and they are the
/// shortest.
#[test]
fn the_declaration_is_shorter() {
    let (_, text) = FIRST.split_once("## Beside WIT").expect("the section");
    let (text, _) = text.split_once("\n## ").expect("its end");
    let mut blocks =
        text.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap());
    let (_, lists) = FIRST.split_once("## Lists of records").expect("the section");
    for example in [include_str!("../examples/hello.rs"), block(lists, "rust")] {
        let mut least = None;
        for (language, shown) in [("rust,ignore", "Rust"), ("wit", "WIT"), ("proto", "protobuf")] {
            let (found, code) = blocks.next().expect("a block");
            assert_eq!(found, language);
            assert!(shown != "Rust" || example.contains(code), "{code}");
            let [lines, tokens, bytes] = sizes(code);
            let row = format!("| {shown} | {lines} | {tokens} | {bytes} |");
            println!("{row}");
            assert!(text.contains(&row), "not in the table: {row}");
            let least = least.get_or_insert([lines, tokens, bytes]);
            let longer = least.iter().zip([lines, tokens, bytes]).all(|(a, b)| *a < b);
            assert!(shown == "Rust" || longer, "{row}");
        }
    }
    assert!(blocks.next().is_none());
}

/// The guest in the guide is the one that the example runs.
#[test]
fn the_guides_guest_is_the_examples() {
    let example = include_str!("../examples/two_threads.rs");
    assert!(example.contains(block(GUEST, "rust").trim()));
    if let Some(printed) = output("two_threads") {
        assert!(printed.ends_with("host: Exited(0)\n"), "{printed}");
    }
}

/// The service's page shows its code, and the README the same output of its load generator.
#[test]
fn the_service_page_shows_the_examples_code() {
    let page = include_str!("../examples/service/README.md");
    assert!(include_str!("../examples/service/src/main.rs").contains(block(page, "rust")));
    let loaded = |text: &'static str| {
        let (_, output) = text.split_once("-- load --hostile 0.01    # --backend kvm\n")?;
        output.split_once("$ cargo")
    };
    let (measured, _) = loaded(page).expect("the output on KVM");
    assert!(README.contains(&format!("-- load --hostile 0.01\n{measured}```")), "{measured}");
}

/// The text of all Rust files in a folder.
fn sources(dir: &Path, into: &mut String) {
    for entry in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry")) {
        match entry.path() {
            path if path.is_dir() => sources(&path, into),
            path if path.extension().is_some_and(|extension| extension == "rs") => {
                into.push_str(&fs::read_to_string(path).expect("a source"));
            }
            _ => {}
        }
    }
}

/// Whether a path ends with `name` in this folder, or in one of those within it.
fn below(dir: &Path, name: &Path) -> bool {
    dir.join(name).exists()
        || fs::read_dir(dir)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .any(|path| path.is_dir() && below(&path, name))
}

/// Files and functions that the safety argument cites exist.
#[test]
fn citations_of_the_safety_argument_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    sources(&root.join("src"), &mut all);
    sources(&root.join("tests"), &mut all);
    let mut cited = 0;
    let pieces: Vec<_> = SAFETY.split('`').collect();
    for (before, name) in pieces.chunks_exact(2).map(|pair| (pair[0], pair[1])) {
        if before.ends_with('[') {
            continue; // rustdoc has checked this link
        }
        let there = if name.starts_with("src/") || name.starts_with("tests/") {
            root.join(name).exists()
        } else if name.contains("::") || name.contains('_') {
            let function = name.rsplit("::").next().unwrap_or(name);
            all.contains(&format!("fn {function}")) || all.contains(&format!("{function}("))
        } else {
            continue;
        };
        assert!(there, "`{name}` is cited and does not exist");
        cited += 1;
    }
    assert!(cited > 50, "only {cited} citations were found");
}

/// The tests that `SECURITY.md` names exist: files with their path or in the folder of the file before, and functions.
#[test]
fn tests_that_the_security_page_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    sources(&root.join("tests"), &mut all);
    let (mut folder, mut named) = (Path::new(""), 0);
    for name in SECURITY.split('`').skip(1).step_by(2) {
        let path = Path::new(name);
        let there = if name.starts_with("src/") || name.starts_with("tests/") {
            folder = path.parent().unwrap_or(path);
            root.join(path).exists()
        } else if name.ends_with(".rs") {
            root.join(folder).join(name).exists()
        } else if name.contains('_') && !name.contains(' ') {
            all.contains(name)
        } else {
            continue;
        };
        assert!(there, "`{name}` is named and does not exist");
        named += 1;
    }
    assert!(named > 25, "only {named} names were found");
}

/// The files and functions that `ARCHITECTURE.md` names exist; in its answers, each function is in the file beside it.
#[test]
fn files_that_the_architecture_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = include_str!("../ARCHITECTURE.md");
    let (_, answers) = text.split_once("## Where is").expect("the section");
    let (answers, _) = answers.split_once("\n## ").expect("its end");
    let mut named = 0;
    for row in answers.lines().filter(|row| row.starts_with("| where")) {
        let names: Vec<&str> = row.split('`').collect();
        let Some(at) = names.iter().position(|name| name.starts_with("src/")) else {
            panic!("no file in {row}");
        };
        let file = fs::read_to_string(root.join(names[at])).expect(names[at]);
        if let Some(function) = names.get(at + 2) {
            let function = function.rsplit("::").next().expect("a name");
            assert!(file.contains(&format!("fn {function}")), "{} has no `{function}`", names[at]);
        }
        named += 1;
    }
    assert_eq!(named, 7);
    // Everything else that the document names: files, in any room, and functions, variants and types behind a `::`.
    let mut all = String::new();
    sources(&root.join("src"), &mut all);
    let (before, rest) = text.split_once("\n## Files\n").expect("the section");
    let (_, after) = rest.split_once("\n## ").expect("the next section");
    let mut cited = 0;
    for name in [before, after].into_iter().flat_map(|text| text.split('`').skip(1).step_by(2)) {
        let there = if name.ends_with(".rs") {
            root.join(name).exists() || below(&root.join("src"), Path::new(name))
        } else if let Some((_, last)) = name.rsplit_once("::") {
            all.contains(&format!("fn {last}")) || all.contains(&format!("    {last}"))
        } else {
            continue;
        };
        assert!(there, "`{name}` is named and does not exist");
        cited += 1;
    }
    assert!(cited > 80, "only {cited} names were found");
}

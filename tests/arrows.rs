//! The arrows between the modules of `src/` run one way: each module imports from modules above it in [`ORDER`] only. And
//! `ARCHITECTURE.md` lists every file. No file is long.
//!
//! The test reads every path within the crate in `src/`: `use crate::…` with its braces, and `crate::…` in the code.
//! Tests, models, documentation and the paths of macro expansions (`$crate::…`) do not count.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The modules, beginning with the one that imports nothing. `ARCHITECTURE.md` has the same order.
const ORDER: &[&str] = &[
    "abi",
    "error",
    "arch",
    "memory",
    "types",
    "contract",
    "exit",
    "call",
    "shared",
    "foreign",
    "batch",
    "dynamic",
    "macros",
    "handshake",
    "log",
    "loopback",
    "guest",
    "host",
    "machine",
    "build",
];

/// Files outside of the order: the crate's root, and modules that exist for its documentation only.
const OUTSIDE: &[&str] = &["lib", "guide", "example_generated"];

/// Source without comments and strings, and without each item after `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn code(source: &str) -> String {
    let mut code = String::new();
    let mut chars = source.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '/' if chars.peek() == Some(&'/') => {
                while chars.next_if(|char| *char != '\n').is_some() {}
            }
            '"' => {
                while let Some(char) = chars.next() {
                    match char {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                code.push_str("\"\"");
            }
            // A character literal, not a lifetime.
            '\'' => {
                let rest: Vec<char> = chars.clone().take(2).collect();
                match rest[..] {
                    ['\\', _] => {
                        chars.next();
                        chars.next();
                        while chars.next_if(|char| *char != '\'').is_some() {}
                        chars.next();
                    }
                    [_, '\''] => {
                        chars.next();
                        chars.next();
                    }
                    _ => {}
                }
            }
            char => code.push(char),
        }
    }
    without_tests(&code)
}

fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) =
        ["#[cfg(test)]", "#[cfg(all(test,"].iter().filter_map(|mark| rest.find(mark)).min()
    {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        // The item ends with its block, or with a semicolon before any block.
        let (mut depth, mut end) = (0, item.len());
        for (at, char) in item.char_indices() {
            match char {
                '{' => depth += 1,
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        end = at + 1;
                        break;
                    }
                }
                ';' if depth == 0 => {
                    end = at + 1;
                    break;
                }
                _ => {}
            }
        }
        rest = &item[end..];
    }
    kept + rest
}

/// The modules that follow `crate::` in some code.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at]
            .ends_with(|before: char| before == '$' || before.is_alphanumeric() || before == '_')
        {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let (mut depth, mut start) = (1, true);
        for (at, char) in list.char_indices() {
            match char {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                char if depth == 1 && start && !char.is_whitespace() => {
                    found.insert(name(&list[at..]));
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn name(path: &str) -> String {
    path.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push(path);
        }
    }
}

/// The position of a module in the order.
fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

/// The imports of one file that are against the order.
fn wrong(module: &str, code: &str) -> Vec<String> {
    let here = place(module).unwrap_or_else(|| panic!("`{module}` is not in the order"));
    let against = |to: &String| {
        let to = place(to)
            .unwrap_or_else(|| panic!("`{module}` imports `{to}`, which is not in the order"));
        to > here
    };
    imports(code).into_iter().filter(against).map(|to| format!("{module} -> {to}")).collect()
}

#[test]
fn all_arrows_run_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&root, &mut all);
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for path in &all {
        let inside = path.strip_prefix(&root).expect("the file is in `src`");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        let file = inside.file_stem().expect("a name").to_string_lossy();
        if OUTSIDE.contains(&&*module) || ["tests", "models", "short"].contains(&&*file) {
            continue;
        }
        if inside.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let source = fs::read_to_string(path).expect("a source file");
        found.extend(wrong(&module, &code(&source)));
        seen.insert(module);
    }
    assert!(found.is_empty(), "against the order of modules: {found:#?}");
    let order: BTreeSet<String> = ORDER.iter().map(ToString::to_string).collect();
    assert_eq!(seen, order, "the order names the modules that there are");
    // `ARCHITECTURE.md` has a row for each, in the same order.
    let rows = include_str!("../ARCHITECTURE.md").lines().filter_map(|row| row.strip_prefix("| `"));
    let rows: Vec<&str> = rows.filter_map(|row| row.split_once('`')).map(|row| row.0).collect();
    let rooms = rows.iter().map(|row| row.trim_end_matches(".rs").trim_end_matches('/'));
    assert!(rooms.eq(ORDER.iter().copied()), "the rows of `ARCHITECTURE.md`: {rows:?}");
}

#[test]
fn an_arrow_against_the_order_is_found() {
    let source = "use crate::{abi::Side, host::{Host, Vcpu}, error::CallError};";
    assert_eq!(wrong("memory", &code(source)), ["memory -> host"]);
    assert!(wrong("machine", &code(source)).is_empty());
    let inline = "fn f() { let x: crate::call::Peer = y; } // crate::host\n \"crate::host\"";
    assert_eq!(wrong("types", &code(inline)), ["types -> call"]);
    let tests = "#[cfg(test)]\nmod tests { use crate::host::Host; }\nuse $crate::host;";
    assert!(wrong("types", &code(tests)).is_empty());
}

/// No file has more than 600 lines, and no line of a macro more than 110 columns, comments aside.
#[test]
fn files_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut long = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "fuzz"] {
        let mut all = Vec::new();
        files(&root.join(folder), &mut all);
        all.retain(|path| !path.components().any(|part| part.as_os_str() == "target"));
        for path in all {
            let source = fs::read_to_string(&path).expect("a source file");
            let lines = source.lines().count();
            if lines > 600 {
                long.push(format!("{}: {lines} lines", path.display()));
            }
            let mut in_macro = false;
            for (nr, line) in source.lines().enumerate().filter(|_| folder == "src") {
                in_macro = line.starts_with("macro_rules!") || in_macro && line != "}";
                let columns = line.chars().count();
                if in_macro && columns > 110 && !line.trim_start().starts_with("//") {
                    long.push(format!("{}:{}: {columns} columns", path.display(), nr + 1));
                }
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

/// The first sentence of a file's documentation.
fn sentence(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let paragraph: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let end = paragraph.find(". ").map_or(paragraph.len(), |at| at + 1);
    // The text of rustdoc's links, without their targets.
    let mut text = String::new();
    for (nr, part) in paragraph[..end].split("`](").enumerate() {
        let part = if nr == 0 { part } else { part.split_once(')').map_or(part, |(_, rest)| rest) };
        text = if nr == 0 { part.to_owned() } else { text + "`" + part };
    }
    text.replace("[`", "`").replace("`]", "`")
}

/// `ARCHITECTURE.md` has a line for each file of `src/`, with the first sentence of its documentation.
#[test]
fn all_files_are_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    files(&root.join("src"), &mut all);
    // A module before those in it.
    all.sort_by_key(|path| path.with_extension(""));
    let mut list = String::new();
    for path in &all {
        let name = path.strip_prefix(root).expect("a file in the repository").display();
        let sentence = sentence(&fs::read_to_string(path).expect("a source file"));
        // These two files are shown in the documentation, and have none of their own.
        if sentence.is_empty() {
            assert!(name.to_string().contains("guide") || name.to_string().contains("example"));
            continue;
        }
        assert!(sentence.ends_with('.'), "{name} does not begin with a sentence: {sentence}");
        let _ = writeln!(list, "- `{name}`: {sentence}");
    }
    let path = root.join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).expect("the document");
    let (before, rest) = text.split_once("\n## Files\n").expect("the section");
    let (section, after) = rest.split_once("\n## ").expect("the next section");
    let introduction = section.split("\n- ").next().expect("a paragraph").trim_end();
    let right = format!("{introduction}\n\n{list}");
    if std::env::var_os("TREE").is_some_and(|how| how == "overwrite") {
        fs::write(&path, format!("{before}\n## Files\n{right}\n## {after}")).expect("the document");
    } else {
        assert!(
            section == right,
            "the list of files in `ARCHITECTURE.md` is old; `TREE=overwrite cargo test --test arrows -- listed` writes it"
        );
    }
}

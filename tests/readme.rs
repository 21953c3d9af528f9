//! The README shows what is really there.

const README: &str = include_str!("../README.md");

fn block(language: &str) -> &'static str {
    let begin = format!("```{language}\n");
    let (_, rest) = README.split_once(&begin).expect("the README has such a block");
    rest.split_once("```").expect("a block ends").0
}

/// The screen of code is the example that the first command runs.
#[test]
fn the_code_is_the_example() {
    let example = include_str!("../examples/hello.rs");
    let (_, code) = example.split_once("\n\n").expect("the example begins with a comment");
    assert_eq!(block("rust").trim(), code.trim());
}

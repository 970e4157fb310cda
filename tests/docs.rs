//! What the documentation says of the tests is so: each test that a page names is there, and each attack of
//! `docs/security.md` names one.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).expect("a page")
}

/// The tests that a page names, as `file.rs::test` between backquotes.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|word| word.split_once(".rs::")).collect()
}

fn is_there(file: &str, test: &str) -> bool {
    let text = fs::read_to_string(root().join(format!("{file}.rs"))).unwrap_or_default();
    let function = format!("fn {test}(");
    // In a `proptest!` the attribute stands some lines above.
    let attributed =
        |at: usize| text[..at].lines().rev().take(5).any(|line| line.trim().starts_with("#[") && line.contains("test"));
    text.match_indices(&function).any(|(at, _)| attributed(at))
}

#[test]
fn every_test_that_a_page_names_is_there() {
    for page_name in fs::read_dir(root().join("docs")).expect("pages").map(|entry| entry.expect("listed").file_name()) {
        let page_name = page_name.to_string_lossy().into_owned();
        if Path::new(&page_name).extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        for (file, test) in named_tests(&page(&page_name)) {
            assert!(is_there(file, test), "docs/{page_name} names {file}.rs::{test}, which is no test");
        }
    }
    assert!(
        !is_there("tests/docs", "no_such_test") && !is_there("tests/docs", "page"),
        "the search finds what is not there"
    );
}

#[test]
fn every_attack_names_the_test_that_shows_the_answer() {
    let text = page("security.md");
    let section = |title: &str, end: &str| {
        let after = text.split_once(title).expect("the section").1;
        after.split_once(end).expect("its end").0.to_owned()
    };
    let rows = |section: &str| -> Vec<String> {
        let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
        rows.map(str::to_owned).collect()
    };
    let first_cell = |row: &str| row[2..].split(" | ").next().expect("a cell").to_owned();
    let shown = rows(&section("## Which test shows it", "## Reporting"));
    let attacks = rows(&section("### Attacks", "## What is not protected"));
    assert!(attacks.len() > 20 && shown.len() > 40, "{} attacks, {} rows", attacks.len(), shown.len());
    for attack in attacks.iter().skip(1) {
        let has_row = || shown.iter().any(|row| first_cell(row) == first_cell(attack));
        assert!(!named_tests(attack).is_empty() || has_row(), "no test for: {}", first_cell(attack));
    }
    let without: Vec<_> = shown.iter().filter(|row| named_tests(row).is_empty()).collect();
    // Two heads of tables, and what nobody can prevent.
    assert!(without.len() <= 4, "{without:?}");
}

/// The source files that a page names between backquotes: a path from `root` or below `src`, or the end of one.
fn named_files(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|word| word.ends_with(".rs") && !word.contains([' ', '*', '{'])).collect()
}

fn files_below(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("listed").path()) {
        match entry.is_dir() {
            true => files_below(&entry, found),
            false => found.push(format!("/{}", entry.strip_prefix(root()).expect("below it").display())),
        }
    }
}

#[test]
fn every_source_file_that_a_page_for_developers_names_is_there() {
    let mut files = Vec::new();
    ["src", "tests"].into_iter().for_each(|folder| files_below(&root().join(folder), &mut files));
    let is_there = |name: &str| files.iter().any(|file| file.ends_with(&format!("/{name}")));
    for page in ["docs/architecture.md", "CONTRIBUTING.md", "tests/README.md"] {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        let named = named_files(&text);
        assert!(named.len() > 10, "{page} names {} files", named.len());
        named.into_iter().for_each(|name| assert!(is_there(name), "{page} names {name}, which is not there"));
    }
    assert!(!is_there("no_such_file.rs"), "the search finds what is not there");
}

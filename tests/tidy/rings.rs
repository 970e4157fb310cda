//! No rings of files: a file must not reach itself by following the paths that it and others name.
//!
//! The graph has an edge from a file to each file that it names something of, by a `use` or by a path in the code. A name
//! that a `mod.rs` re-exports leads to the file that defines it; only for the files below that `mod.rs` it leads to the
//! `mod.rs` itself, which leads back to what it re-exports. So files import from the file that defines a name, never
//! from the `mod.rs` above them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, code_of, none, sources};

/// Folders that may still have rings, with the number of files in them. The numbers only fall.
const FILES_IN_RINGS: &[(&str, usize)] =
    &[("check", 3), ("format", 5), ("history", 9), ("segments", 3), ("store", 7), ("tree", 6), ("volume", 20)];

/// Longest chain of re-exports that is followed.
const REEXPORTS_MAX: usize = 8;

/// A path below the crate's root, as its modules; and its last name.
type Path = Vec<String>;

/// A module that lies in a file of its own.
struct Module {
    file: String,
    code: String,
    /// What its `use` declarations bring into scope: the name here, and the path as it is written.
    imports: Vec<(String, Path)>,
}

/// The modules of the crate, by their paths.
struct Modules(BTreeMap<Path, Module>);

/// Which files each file names something of.
type Graph = BTreeMap<String, BTreeSet<String>>;

impl Modules {
    fn new(sources: &[Source]) -> Self {
        let module = |source: &Source| {
            let name = source.name.strip_suffix(".rs").unwrap_or(&source.name);
            let name = name.strip_suffix("/mod").unwrap_or(name);
            let code = without_inner_modules(&source.code);
            let imports = use_declarations(&code).iter().flat_map(|declared| tree_paths(declared)).collect();
            (path_of(name, '/'), Module { file: source.name.clone(), code, imports })
        };
        let roots = ["lib.rs", "main.rs"];
        Self(sources.iter().filter(|source| !roots.contains(&source.name.as_str())).map(module).collect())
    }

    fn graph(&self) -> Graph {
        let targets = |(path, module): (&Path, &Module)| {
            let named = self.named_paths(path, &module.code);
            let mut files: BTreeSet<_> =
                named.iter().filter_map(|named| self.file_of(path, path, named, REEXPORTS_MAX)).collect();
            files.remove(&module.file);
            (module.file.clone(), files)
        };
        self.0.iter().map(targets).collect()
    }

    /// The paths in the code of a module that lead to this crate's modules.
    fn named_paths(&self, module: &Path, code: &str) -> Vec<Path> {
        let mut paths = Vec::new();
        for (at, _) in code.match_indices("::") {
            let before = &code[..at];
            let start = before
                .rfind(|character: char| !is_of_word(character))
                .map_or(0, |found| found + before[found..].chars().next().map_or(0, char::len_utf8));
            // `pub(in crate::a)` names nothing of it.
            let is_first = !code[..start].ends_with([':', '$']) && !code[..start].ends_with("pub(in ");
            if is_first && self.is_begin(module, &code[start..at]) {
                paths.extend(tree_paths(&code[start..]).into_iter().map(|(_, path)| path));
            }
        }
        paths
    }

    /// Whether a path that begins with this word in this module leads to a module of the crate.
    fn is_begin(&self, module: &Path, word: &str) -> bool {
        ["crate", "super", "self"].contains(&word) || self.0.contains_key(&below(module, word))
    }

    /// The file that a path, as it is written in module `at`, leads to, for what is written in module `reader`.
    fn file_of(&self, reader: &Path, at: &Path, written: &Path, reexports_left: usize) -> Option<String> {
        let mut here = at.clone();
        for (number, word) in written.iter().enumerate() {
            match word.as_str() {
                "crate" => here.clear(),
                "super" => _ = here.pop(),
                "self" => {}
                word if self.0.contains_key(&below(&here, word)) => here = below(&here, word),
                // A path of another crate, in a `use` of module `at`.
                _ if number == 0 => return None,
                name => return self.file_of_name(reader, &here, name, reexports_left),
            }
        }
        Some(self.0.get(&here)?.file.clone())
    }

    /// The file that defines `name`, which was named as one of module `here`.
    fn file_of_name(&self, reader: &Path, here: &Path, name: &str, reexports_left: usize) -> Option<String> {
        let module = self.0.get(here)?;
        let is_above = reader.starts_with(here) && reader != here;
        if !is_above && reexports_left > 0 {
            for (import, path) in &module.imports {
                let is_defined_there = || {
                    let file = self.file_of(here, here, &path[..path.len() - 1].to_vec(), 0);
                    file.is_some_and(|file| {
                        self.0.values().any(|other| other.file == file && defines(&other.code, name))
                    })
                };
                if import == name || import == "*" && is_defined_there() {
                    // Another crate's name is the module's own as far as this crate goes.
                    let path = if import == "*" {
                        [&path[..path.len() - 1], &[name.to_owned()]].concat()
                    } else {
                        path.clone()
                    };
                    return self.file_of(here, here, &path, reexports_left - 1).or(Some(module.file.clone()));
                }
            }
        }
        Some(module.file.clone())
    }
}

fn below(module: &Path, name: &str) -> Path {
    [module.as_slice(), &[name.to_owned()]].concat()
}

fn path_of(text: &str, separator: char) -> Path {
    text.split(separator).map(str::to_owned).collect()
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether code declares an item of this name.
fn defines(code: &str, name: &str) -> bool {
    let kinds = ["struct", "enum", "union", "trait", "type", "fn", "const", "static"];
    kinds.iter().any(|kind| {
        let declared = format!("{kind} {name}");
        code.match_indices(&declared).any(|(at, _)| !code[at + declared.len()..].starts_with(is_of_word))
    })
}

/// Code whose inner modules name things as the code around them does.
fn without_inner_modules(code: &str) -> String {
    let mut is_inside = false;
    let mut plain = String::new();
    for line in code.lines() {
        is_inside = is_inside && line != "}" || line.starts_with("mod ") && line.ends_with('{');
        match is_inside {
            true => plain
                .push_str(&line.replace("super::super::", "\0").replace("super::", "self::").replace('\0', "super::")),
            false => plain.push_str(line),
        }
        plain.push('\n');
    }
    plain
}

/// What the `use` declarations of code say, without the keyword.
fn use_declarations(code: &str) -> Vec<String> {
    let mut declarations = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let line_start = rest[..at].rfind('\n').map_or(0, |found| found + 1);
        let before = rest[line_start..at].trim();
        rest = &rest[at + "use ".len()..];
        if before.is_empty() || before == "pub" || before.starts_with("pub(") && before.ends_with(')') {
            declarations.push(rest.split(';').next().unwrap_or_default().to_owned());
        }
    }
    declarations
}

/// The paths of a `use` tree, or of a path in code, that the text begins with; each with the name that it gets.
/// A `self` at the end is left out: it names the module itself.
fn tree_paths(text: &str) -> Vec<(String, Path)> {
    let mut paths = Vec::new();
    read_tree(text, &Vec::new(), &mut paths);
    paths
}

/// Reads one tree below `prefix`; what follows it.
fn read_tree<'a>(text: &'a str, prefix: &Path, paths: &mut Vec<(String, Path)>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut list) = text.strip_prefix('{') {
        loop {
            list = list.trim_start();
            if let Some(after) = list.strip_prefix('}') {
                return after;
            }
            let after = read_tree(list, prefix, paths).trim_start();
            match after.strip_prefix(',') {
                Some(after) => list = after,
                None => return after.strip_prefix('}').unwrap_or(after),
            }
        }
    }
    let end =
        if text.starts_with('*') { 1 } else { text.find(|character| !is_of_word(character)).unwrap_or(text.len()) };
    let (word, after) = text.split_at(end);
    if word.is_empty() {
        paths.push((prefix.last().cloned().unwrap_or_default(), prefix.clone()));
        return after;
    }
    let path = if word == "self" && !prefix.is_empty() { prefix.clone() } else { below(prefix, word) };
    if let Some(deeper) = after.strip_prefix("::") {
        return read_tree(deeper, &path, paths);
    }
    let alias = after.strip_prefix(" as ").map(super::word);
    let name = alias.map_or_else(|| path.last().cloned().unwrap_or_default(), str::to_owned);
    paths.push((name, path));
    alias.map_or(after, |alias| &after[" as ".len() + alias.len()..])
}

/// The rings, each with its files: the strongly connected components of more than one file.
fn rings(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<_, _> = graph.keys().map(|file| (file, reachable(graph, file))).collect();
    let mut rings = BTreeSet::new();
    for (file, from_here) in &reached {
        if from_here.contains(*file) {
            let returns = |other: &&String| reached.get(other).is_some_and(|reached| reached.contains(*file));
            rings.insert(from_here.iter().filter(returns).cloned().collect());
        }
    }
    rings.into_iter().collect()
}

/// The files that a file leads to, itself only if it lies in a ring.
fn reachable(graph: &Graph, file: &str) -> BTreeSet<String> {
    let (mut found, mut left) = (BTreeSet::new(), vec![file]);
    while let Some(file) = left.pop() {
        for next in graph.get(file).into_iter().flatten() {
            if found.insert(next.clone()) {
                left.push(next);
            }
        }
    }
    found
}

#[test]
fn rings_of_files_become_fewer() {
    let mut wrong = Vec::new();
    let all = sources();
    let rings = rings(&Modules::new(&all).graph());
    let folders: BTreeSet<_> =
        all.iter().map(Source::layer).chain(FILES_IN_RINGS.iter().map(|(folder, _)| *folder)).collect();
    for folder in folders {
        let within: Vec<_> =
            rings.iter().filter(|ring| ring.iter().any(|file| file.split('/').next() == Some(folder))).collect();
        let files: usize = within.iter().map(|ring| ring.len()).sum();
        let budget = FILES_IN_RINGS.iter().find(|(listed, _)| *listed == folder).map_or(0, |(_, files)| *files);
        if files > budget {
            wrong.push(format!("src/{folder}: {files} files in rings, more than {budget}:"));
            wrong.extend(
                within.iter().map(|ring| format!("    {}", ring.iter().cloned().collect::<Vec<_>>().join(" "))),
            );
        } else if files < budget || FILES_IN_RINGS.contains(&(folder, 0)) {
            wrong.push(format!("src/{folder}: only {files} files in rings: lower its budget of {budget}"));
        }
    }
    none(wrong);
}

/// What files name of a `mod.rs` above them, each with its folder.
fn named_above(graph: &Graph) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    for (file, targets) in graph {
        let is_above = |target: &&String| target.strip_suffix("mod.rs").is_some_and(|folder| file.starts_with(folder));
        let folder = file.split('/').next().unwrap_or(file);
        found.extend(targets.iter().filter(is_above).map(|target| (folder, format!("src/{file} names src/{target}"))));
    }
    found
}

#[test]
fn where_there_are_no_rings_files_import_from_the_file_that_defines_a_name() {
    let graph = Modules::new(&sources()).graph();
    let has_rings = |folder: &str| FILES_IN_RINGS.iter().any(|(listed, _)| *listed == folder);
    let wrong = named_above(&graph).into_iter().filter(|(folder, _)| !has_rings(folder));
    none(wrong.map(|(_, what)| what).collect());
}

/// A crate of these files.
fn planted(files: &[(&str, &str)]) -> Graph {
    let source =
        |(name, text): &(&str, &str)| Source { name: (*name).into(), text: (*text).into(), code: code_of(text) };
    Modules::new(&files.iter().map(source).collect::<Vec<_>>()).graph()
}

fn edges(graph: &Graph, file: &str) -> Vec<String> {
    graph[file].iter().cloned().collect()
}

#[test]
fn a_planted_ring_is_found() {
    let around = |last: &'static str| {
        [
            ("a/mod.rs", "mod b;\nmod c;\nmod d;\npub use b::B;\n"),
            ("a/b.rs", "use super::c::C;\n"),
            ("a/c.rs", "fn c() -> crate::a::d::D {}\n"),
            ("a/d.rs", last),
        ]
    };
    assert_eq!(rings(&planted(&around("use std::io;\n"))), []);
    let ring = BTreeSet::from(["a/b.rs", "a/c.rs", "a/d.rs"].map(str::to_owned));
    assert_eq!(rings(&planted(&around("use super::b::{self, B as Other};\n"))), [ring]);
    let through_mod = BTreeSet::from(["a/b.rs", "a/c.rs", "a/d.rs", "a/mod.rs"].map(str::to_owned));
    assert_eq!(rings(&planted(&around("use super::B;\n"))), [through_mod], "what the mod.rs above re-exports");
    let above = planted(&around("use crate::a::B;\n"));
    assert_eq!(named_above(&above), [("a", "src/a/d.rs names src/a/mod.rs".to_owned())]);
    assert_eq!(rings(&planted(&around("#[cfg(test)]\nmod tests {\n    use super::super::b::B;\n}\n"))), []);
}

#[test]
fn a_path_leads_to_the_file_that_defines_its_name() {
    let graph = planted(&[
        (
            "a/mod.rs",
            "mod b;\nmod c;\npub mod e;\npub use b::{Inner as B, b};\npub use c::*;\nuse std::io;\nfn own() { e::run() }\n",
        ),
        ("a/b.rs", "pub(in crate::a) struct Inner;\n"),
        ("a/c.rs", "pub struct C(u8);\npub fn call() {}\n"),
        ("a/e.rs", "mod raw {\n    super::macro_of_this_file!();\n    super::super::b::b();\n}\nfn run() {}\n"),
        ("f/g.rs", "use crate::{a::{B, e::run}};\n"),
        ("f/h.rs", "#[with = \"crate::a::C\"]\nstruct H;\n"),
        ("f/i.rs", "use crate::a::{self, own};\nuse super::{g, h};\n"),
        ("f/mod.rs", "mod g;\nmod h;\nmod i;\n"),
    ]);
    assert_eq!(edges(&graph, "a/mod.rs"), ["a/b.rs", "a/c.rs", "a/e.rs"]);
    assert_eq!(edges(&graph, "a/e.rs"), ["a/b.rs"], "an inner module names what its file may");
    assert_eq!(edges(&graph, "f/g.rs"), ["a/b.rs", "a/e.rs"]);
    assert_eq!(edges(&graph, "f/h.rs"), ["a/c.rs"]);
    assert_eq!(edges(&graph, "f/i.rs"), ["a/mod.rs", "f/g.rs", "f/h.rs"]);
    assert_eq!(edges(&graph, "f/mod.rs"), [""; 0], "declaring a module names nothing of it");
}

//! The rules of the source that the compiler does not know: layers, walls, budgets, forbidden words.
//!
//! The budgets are ratchets: an exception says its reason, and fails when it is needed no more. One for a function says its
//! present size, and fails when that becomes smaller, too.

#[path = "tidy/rings.rs"]
mod rings;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The layers, lowest first. A folder imports only from layers before its own, and never from one beside it.
const LAYERS: &[&[&str]] = &[
    &["crypto"],
    &["format"],
    &["store"],
    &["segments", "unlock"],
    &["tree"],
    &["history"],
    &["state"],
    &["writeback"],
    &["volume"],
    &["mount", "check"],
    &["cli"],
];
/// The rooms of `unlock`, each with the other rooms that it may import from.
const UNLOCK_ROOMS: &[(&str, &[&str])] = &[
    ("prompts", &[]),
    ("key_files", &[]),
    ("authenticators", &["prompts"]),
    ("flows", &["prompts", "key_files", "authenticators"]),
];
/// What `format` may know of `crypto`: what its fields are made of.
const FORMAT_FROM_CRYPTO: &[&str] = &["Tag", "Secret"];

/// Where a crate or macro may be named: folders (ending in `/`) and files below `src`, and why only there.
const WALLS: &[(&str, &[&str], &str)] = &[
    ("fuser::", &["mount/"], "only the mount knows FUSE"),
    ("ctap_hid_fido2::", &["unlock/authenticators/hid/device.rs"], "only one file talks to security keys"),
    ("clap::", &["cli/"], "only the command line has arguments"),
    ("clap_mangen::", &["cli/"], "only the command line has a manual"),
    ("clap_complete::", &["cli/"], "only the command line has completions"),
    ("anyhow::", &["cli/"], "below, errors are typed"),
    ("aes::", &["crypto/"], "ciphers lie in one place"),
    ("aes_kw::", &["crypto/"], "ciphers lie in one place"),
    ("xts_mode::", &["crypto/"], "ciphers lie in one place"),
    ("blake3::", &["crypto/"], "keyed hashes lie in one place"),
    ("hpke::", &["crypto/"], "sealing lies in one place"),
    ("x25519_dalek::", &["crypto/"], "sealing lies in one place"),
    ("getrandom::", &["crypto/"], "randomness comes through a trait"),
    // The software authenticator plays hardware, which has its own cryptography; assertions are checked as CTAP has them.
    (
        "p256::",
        &[
            "unlock/authenticators/software.rs",
            "unlock/authenticators/software_file.rs",
            "unlock/authenticators/assertion.rs",
        ],
        "CTAP's own cryptography",
    ),
    (
        "hmac::",
        &[
            "unlock/authenticators/software.rs",
            "unlock/authenticators/software_file.rs",
            "unlock/authenticators/assertion.rs",
        ],
        "CTAP's own cryptography",
    ),
    (
        "sha2::",
        &[
            "unlock/authenticators/software.rs",
            "unlock/authenticators/software_file.rs",
            "unlock/authenticators/assertion.rs",
        ],
        "CTAP's own cryptography",
    ),
    ("unicode_normalization::", &["unlock/authenticators/pin.rs"], "PINs are normalised in one place"),
    ("zbus::", &["unlock/prompts/desktop.rs", "cli/serving/sleep.rs"], "one file for each bus"),
    ("sd_notify::", &["unlock/prompts/status_notifiers.rs", "cli/"], "the service manager is told in one place"),
    ("qrcodegen::", &["cli/commands/recovery/kit.rs"], "only the recovery kit has a QR code"),
    ("zstd::", &["segments/"], "blocks are compressed in one place"),
    ("println!", &["cli/", "main.rs"], "a library never prints"),
    ("print!", &["cli/", "main.rs"], "a library never prints"),
    ("eprintln!", &["cli/", "main.rs"], "a library never prints"),
    ("eprint!", &["cli/", "main.rs"], "a library never prints"),
    ("SystemTime::now", &["store/clock.rs"], "time comes through a trait"),
];

/// Files that may hold `unsafe`, each block under a `SAFETY:`.
const UNSAFE_FILES: &[&str] = &[
    "crypto/secret.rs",
    "mount/control/as_owner.rs",
    "mount/session/attach.rs",
    "mount/control/client.rs",
    "cli/process/allocation.rs",
    "cli/process/daemon.rs",
];

const FORBIDDEN: &[&str] = &["todo!", "unimplemented!", "dbg!", "FIXME", "XXX", "TODO"];

const FILE_LINES_MAX: usize = 520;
const FUNCTION_LINES_MAX: usize = 90;
/// Files that are longer, with the most lines they may have and the reason.
const LONG_FILES: &[(&str, usize, &str)] = &[];
/// Functions that are longer, as file and name, with their lines and the reason.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// A file of the source.
struct Source {
    /// Below `src`.
    name: String,
    text: String,
    /// Its code alone: no comments, and nothing that only tests have.
    code: String,
}

impl Source {
    /// The folder directly below `src`, or the file itself.
    fn layer(&self) -> &str {
        self.name.split('/').next().unwrap_or(&self.name)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    rust_files(&root, &mut paths);
    paths.sort();
    let name = |path: &Path| path.strip_prefix(&root).expect("found below it").to_string_lossy().into_owned();
    let mut sources: Vec<_> = paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("source that can be read");
            Source { name: name(path), code: code_of(&text), text }
        })
        .collect();
    // Modules that are for tests alone: `#[cfg(test)]` before `mod name;`.
    let mut test_files = BTreeSet::new();
    for source in &sources {
        let folder = source.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (before, line) in source.text.lines().zip(source.text.lines().skip(1)) {
            if let Some(module) = line.strip_prefix("mod ").and_then(|line| line.strip_suffix(';'))
                && before == "#[cfg(test)]"
            {
                test_files.insert(format!("{folder}/{module}.rs"));
            }
        }
    }
    sources.iter_mut().filter(|source| test_files.contains(&source.name)).for_each(|source| source.code.clear());
    sources
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the source") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Leaves out comments and what stands under `#[cfg(test)]`. Line numbers stay.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut ends_at: Option<String> = None;
    let mut under_test = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        if let Some(end) = &ends_at {
            if line == end {
                ends_at = None;
            }
        } else if trimmed == "#[cfg(test)]" {
            under_test = true;
        } else if under_test {
            under_test = trimmed.starts_with("#[");
            if trimmed.ends_with('{') {
                ends_at = Some(format!("{indent}}}"));
            }
        } else if !trimmed.starts_with("//") {
            code.push_str(line.split_once(" // ").map_or(line, |(code, _)| code));
        }
        code.push('\n');
    }
    code
}

/// The modules of this crate that code names: `crate::a::…`, and `a` and `b` of `crate::{a::…, b}`.
/// With each the first name taken from it: `crate::a::Name` gives ("a", "Name"), a list gives all.
fn crate_paths(code: &str) -> Vec<(String, Vec<String>)> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` and names that end in `crate` are something else.
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '$') {
            continue;
        }
        for part in list_parts(&code[at + "crate::".len()..]) {
            let (module, rest) = part.split_once("::").unwrap_or((&part, ""));
            let names = list_parts(rest).into_iter().map(|name| word(&name).to_owned()).collect();
            paths.push((word(module).to_owned(), names));
        }
    }
    paths
}

/// The parts of `{a, b::{c, d}}`, or the single path that the text starts with.
fn list_parts(text: &str) -> Vec<String> {
    let Some(list) = text.strip_prefix('{') else {
        let mut depth = 0;
        let end = text.find(|character: char| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth < 0 || depth == 0 && character != '}' && !(character.is_alphanumeric() || "_:".contains(character))
        });
        return vec![text[..end.unwrap_or(text.len())].to_owned()];
    };
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for character in list.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
        if character == ',' && depth == 0 {
            parts.push(String::new());
        } else if !character.is_whitespace() {
            parts.last_mut().expect("there is always one").push(character);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn word(text: &str) -> &str {
    let end = text.find(|character: char| !(character.is_alphanumeric() || character == '_'));
    &text[..end.unwrap_or(text.len())]
}

fn level(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|level| level.contains(&layer))
}

fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn layers_import_only_downwards() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(own) = level(source.layer()) else { continue };
        for (module, names) in crate_paths(&source.code) {
            let allowed = match level(&module) {
                Some(other) => other < own || module == source.layer(),
                None => false,
            };
            if !allowed {
                wrong.push(format!("src/{}: {} imports {module}", source.name, source.layer()));
            }
            let foreign = |name: &String| !FORMAT_FROM_CRYPTO.contains(&name.as_str());
            if source.layer() == "format" && module == "crypto" && names.iter().any(foreign) {
                wrong.push(format!("src/{}: format imports {names:?} of crypto", source.name));
            }
        }
        // From a file directly in a layer's folder this would lead past the layer.
        let root = "super::".repeat(source.name.matches('/').count() + 1);
        if source.code.contains(&root) {
            wrong.push(format!("src/{}: a path of `super` leaves the layer", source.name));
        }
    }
    none(wrong);
}

#[test]
fn the_rooms_of_unlock_import_only_downwards() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((room, _)) = source.name.strip_prefix("unlock/").and_then(|name| name.split_once('/')) else {
            continue;
        };
        let Some((_, allowed)) = UNLOCK_ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("src/{}: unlock has no room {room}", source.name));
            continue;
        };
        for (at, path) in source.code.match_indices("crate::unlock") {
            // A file imports from the file that defines a name, not from what `unlock/mod.rs` passes on.
            let rest = &source.code[at + path.len()..];
            let imported = rest.strip_prefix("::").map(word);
            if let Some(imported) = imported
                && imported != room
                && !allowed.contains(&imported)
            {
                wrong.push(format!("src/{}: {room} imports crate::unlock::{imported}", source.name));
            }
        }
        let root = "super::".repeat(source.name.matches('/').count());
        if source.code.contains(&root) {
            wrong.push(format!("src/{}: a path of `super` leaves the room", source.name));
        }
    }
    none(wrong);
}

#[test]
fn every_folder_and_file_below_src_has_its_layer() {
    let known = |source: &Source| level(source.layer()).is_some() || ["lib.rs", "main.rs"].contains(&source.layer());
    none(sources().iter().filter(|source| !known(source)).map(|source| source.name.clone()).collect());
}

#[test]
fn the_search_for_imports_finds_every_form() {
    let code = "use crate::tree::{Tree, edit::Edit};\nuse crate::{\n    store::Store,\n    format::{Key, node},\n    crypto,\n};\n\
        let a: crate::history::Journal = crate::volume::open(b);\nfn c() -> Result<crate::check::Found> {}\nnot_crate::no";
    let found = crate_paths(code);
    let modules: Vec<_> = found.iter().map(|(module, _)| module.as_str()).collect();
    assert_eq!(modules, ["tree", "store", "format", "crypto", "history", "volume", "check"]);
    assert_eq!(found[0].1, ["Tree", "edit"]);
    assert_eq!(found[2].1, ["Key", "node"]);
    assert_eq!(found[4].1, ["Journal"]);
    assert_eq!(code_of("a\n// b\n#[cfg(test)]\nmod tests {\n    c\n}\nd // e\n").replace('\n', ""), "ad");
}

#[test]
fn crates_and_macros_stay_behind_their_walls() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (what, places, reason) in WALLS {
            let is_inside = places
                .iter()
                .any(|place| source.name == *place || place.ends_with('/') && source.name.starts_with(place));
            let names_it = source
                .code
                .match_indices(what)
                .any(|(at, _)| !source.code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'));
            if names_it && !is_inside {
                wrong.push(format!("src/{}: {what} ({reason})", source.name));
            }
        }
    }
    none(wrong);
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            wrong.push(format!("src/{}: no `//!` in its first line", source.name));
        }
    }
    none(wrong);
}

#[test]
fn no_file_is_too_long() {
    let mut wrong = Vec::new();
    let mut exceptions: BTreeSet<_> = LONG_FILES.iter().map(|(name, ..)| *name).collect();
    for source in sources() {
        let lines = source.text.lines().count();
        exceptions.remove(source.name.as_str());
        let limit = LONG_FILES.iter().find(|(name, ..)| *name == source.name).map(|(_, lines, _)| *lines);
        if lines > limit.unwrap_or(FILE_LINES_MAX) {
            wrong.push(format!("src/{} has {lines} lines, more than {}", source.name, limit.unwrap_or(FILE_LINES_MAX)));
        } else if limit.is_some() && lines <= FILE_LINES_MAX {
            wrong.push(format!("src/{} has only {lines} lines: it needs no exception", source.name));
        }
    }
    wrong.extend(exceptions.iter().map(|name| format!("src/{name} is an exception and not there")));
    none(wrong);
}

#[test]
fn no_function_is_too_long() {
    let mut wrong = Vec::new();
    let mut exceptions: BTreeSet<_> = LONG_FUNCTIONS.iter().map(|(file, name, ..)| (*file, *name)).collect();
    for source in sources() {
        for (name, lines) in functions(&source.code) {
            exceptions.retain(|(file, function)| (*file, *function) != (source.name.as_str(), name.as_str()));
            let mut found =
                LONG_FUNCTIONS.iter().filter(|(file, function, ..)| *file == source.name && *function == name);
            let limit = found.next().map(|(_, _, lines, _)| *lines);
            let what = format!("src/{}: {name} has {lines} lines", source.name);
            match limit {
                None if lines > FUNCTION_LINES_MAX => wrong.push(format!("{what}, more than {FUNCTION_LINES_MAX}")),
                Some(limit) if lines > limit => wrong.push(format!("{what}, more than its {limit}")),
                Some(limit) if lines < limit => wrong.push(format!("{what} only: lower its limit of {limit}")),
                _ => {}
            }
        }
    }
    wrong.extend(exceptions.iter().map(|(file, name)| format!("src/{file}: {name} is an exception and not there")));
    none(wrong);
}

/// The functions of code that rustfmt has formatted, each with its number of lines.
fn functions(code: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = code.lines().collect();
    let mut functions = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some((before, after)) = trimmed.split_once("fn ") else { continue };
        let is_declaration = before.split_whitespace().all(|word| {
            word.starts_with("pub") || ["const", "unsafe", "extern", "\"C\"", "in", "super)", "crate)"].contains(&word)
        });
        if !is_declaration || trimmed.ends_with(';') || trimmed.ends_with('}') {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let ends = [format!("{indent}}}"), format!("{indent}) -> Self;"), format!("{indent});")];
        let rest = lines[number..].iter();
        let length = rest.take_while(|line| !ends.contains(&line.to_string())).count() + 1;
        functions.push((word(after).to_owned(), length));
    }
    functions
}

#[test]
fn functions_are_measured_as_they_are() {
    let code = "fn a() {\n    b\n}\nimpl A {\n    pub(super) fn c(\n        d: u8,\n    ) {\n        e\n    }\n}\nfn f();\nfn g() {}\n";
    assert_eq!(functions(code), [("a".to_owned(), 3), ("c".to_owned(), 5)]);
}

#[test]
fn nothing_unfinished_is_left() {
    let mut wrong = Vec::new();
    for source in sources() {
        for word in FORBIDDEN {
            if source.text.contains(word) {
                wrong.push(format!("src/{}: {word}", source.name));
            }
        }
    }
    none(wrong);
}

#[test]
fn unsafe_code_lies_in_few_files_and_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for source in sources() {
        let uses = source.code.lines().filter(|line| line.contains("unsafe {") || line.contains("unsafe impl")).count();
        let is_listed = UNSAFE_FILES.contains(&source.name.as_str());
        let allows = source.text.contains("allow(unsafe_code)");
        if (uses > 0 || allows) && !is_listed {
            wrong.push(format!("src/{}: unsafe code", source.name));
        }
        if is_listed && uses == 0 {
            wrong.push(format!("src/{}: listed, and has no unsafe code", source.name));
        }
        let reasons = source.text.matches("SAFETY:").count();
        if reasons < uses {
            wrong.push(format!("src/{}: {uses} times unsafe, {reasons} times SAFETY:", source.name));
        }
    }
    none(wrong);
}

//! Transcripts: what every command prints and how it ends, as far as that can be shown without a mount.
//!
//! Each `tests/cli/*.trycmd` is a session: its commands run one after the other, in a copy of the folder `*.in` beside it.
//! `TRYCMD=overwrite cargo test --test cli` writes down what the commands print now; put `[..]` where ids and times stand,
//! and look at the difference before it is committed.

use std::fs;
use std::path::Path;

const TRANSCRIPTS: &str = "tests/cli";

#[test]
fn commands_print_what_their_transcripts_say() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let copies = scratch.path().join("cli");
    copy_folder(Path::new(TRANSCRIPTS), &copies);
    {
        let cases = trycmd::TestCases::new();
        cases.env("XDG_STATE_HOME", scratch.path().join("state").to_string_lossy());
        cases.env("PASSKEYFS_AUTHENTICATOR", "");
        cases.env("LC_ALL", "C").env("TZ", "UTC").env("COLUMNS", "100").env("RUST_LOG", "");
        cases.case(copies.join("*.trycmd"));
        cases.run();
    }
    if std::env::var_os("TRYCMD").is_some_and(|mode| mode == "overwrite") {
        for entry in fs::read_dir(&copies).expect("the copies are there").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "trycmd") {
                fs::copy(entry.path(), Path::new(TRANSCRIPTS).join(entry.file_name())).expect("written back");
            }
        }
    }
}

/// The sessions write beside their input, so they get a copy. A session without input gets an empty folder.
fn copy_folder(source: &Path, target: &Path) {
    fs::create_dir_all(target).expect("made");
    for entry in fs::read_dir(source).expect("listed").flatten() {
        let copy = target.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &copy);
            continue;
        }
        fs::copy(entry.path(), &copy).expect("copied");
        if copy.extension().is_some_and(|extension| extension == "trycmd") {
            fs::create_dir_all(copy.with_extension("in")).expect("made");
        }
    }
}

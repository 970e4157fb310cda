//! Checks of a vault folder: its slots, its free space, and what the sync client does to it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::{Finding, now_seconds};
use crate::cli::advice;
use crate::cli::messages::dates::format_seconds;
use crate::cli::options::size::format_size;
use crate::cli::vault_place::disk_use::{entries, free_bytes};
use crate::cli::vault_place::vault::VaultPlace;
use crate::unlock::list_slots;

/// With less free space a publish may not fit.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// How far another device's clock may be ahead.
const SKEW_SECONDS: i64 = 600;
/// Files with ignore rules of sync clients, in the folder or above it.
const IGNORE_FILES: [&str; 4] = [".stignore", ".dropboxignore", ".sync-exclude.lst", ".megaignore"];
/// Parts of the names that sync clients give to conflicted copies.
const CONFLICT_MARKS: [&str; 4] = [".sync-conflict-", "conflicted copy", "(conflict", "_conf("];
/// Settings files of Nextcloud's client, below a user's home.
const NEXTCLOUD_SETTINGS: [&str; 2] = [
    ".config/Nextcloud/nextcloud.cfg",
    ".var/app/com.nextcloud.desktopclient.nextcloud/config/Nextcloud/nextcloud.cfg",
];
/// Its default limit for new folders.
const NEXTCLOUD_LIMIT_MB: &str = "500";
/// Paths of each kind of file in a vault.
const SAMPLES: [&str; 5] = [
    "vault.json",
    "keys/0123456789abcdef.json",
    "keys/0123456789abcdef-0123456789abcdef0123456789abcdef.key",
    "devices/0123456789abcdef/0000000/0000000001-0123456789abcdef.data",
    "devices/0123456789abcdef/0000000/0000000002-fedcba9876543210.meta",
];

/// All findings about the vault in a folder.
pub fn examine(folder: &Path, home: Option<&Path>) -> Vec<Finding> {
    let place = match VaultPlace::find(folder) {
        Ok(place) => place,
        Err(error) => {
            return vec![Finding::problem("vault", advice::what_happened(&error), advice::of(&error).next)];
        }
    };
    let files = all_files(&place.folder);
    let mut findings = vec![Finding::ok("vault", format!("{} in {}", place.file.vault(), place.folder.display()))];
    findings.push(slots(&place));
    findings.push(space(&place.folder));
    findings.push(state_apart(&place.folder, &place.state));
    findings.push(conflicts(&files));
    findings.push(placeholders(&files));
    findings.push(times(&files, now_seconds()));
    findings.push(ignore_rules(&place.folder, home));
    findings.extend(home.and_then(|home| big_folders(&place.folder, home)));
    findings
}

fn all_files(folder: &Path) -> Vec<(PathBuf, std::fs::Metadata)> {
    let mut files = Vec::new();
    for (_, path) in entries(folder) {
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => files.extend(all_files(&path)),
            Ok(metadata) => files.push((path, metadata)),
            Err(_) => {}
        }
    }
    files
}

fn slots(place: &VaultPlace) -> Finding {
    let next = "Enrol another key with `passkeyfs key add`, or make a recovery code: one way to unlock can be lost.";
    match list_slots(&*place.store) {
        Err(error) => Finding::problem("slots", error.to_string(), "Let the sync client finish, then try again."),
        Ok(slots) => {
            let problems: Vec<&String> = slots.iter().flat_map(|slot| &slot.problems).collect();
            match (slots.len(), problems.first()) {
                (_, Some(problem)) => Finding::warning(
                    "slots",
                    format!("{} of the slots' files cannot be used as they are: {problem}", problems.len()),
                    "Let the sync client finish; `passkeyfs key list VAULT` shows which.",
                ),
                (0 | 1, None) => Finding::warning("slots", "there is one way to unlock it", next),
                (count, None) => Finding::ok("slots", format!("{count} ways to unlock it")),
            }
        }
    }
}

fn space(folder: &Path) -> Finding {
    match free_bytes(folder) {
        Some(bytes) if bytes < FREE_BYTES_MIN => Finding::warning(
            "space",
            format!("only {} are left on the folder's disk", format_size(bytes)),
            "Make room there: what cannot be published stays in the journal.",
        ),
        Some(bytes) => Finding::ok("space", format!("{} are left on the folder's disk", format_size(bytes))),
        None => Finding::warning("space", "it is not known how much room is left", "See to the folder's disk."),
    }
}

fn state_apart(folder: &Path, state: &Path) -> Finding {
    // Syncthing marks the folders that it syncs with this file.
    let synced_root = folder.ancestors().find(|folder| folder.join(".stfolder").exists()).unwrap_or(folder);
    if state.starts_with(synced_root) {
        return Finding::problem(
            "state apart",
            format!("the local state {} lies in the synced folder {}", state.display(), synced_root.display()),
            "Set XDG_STATE_HOME to a folder that is not synced.",
        );
    }
    Finding::ok("state apart", "the local state lies outside of the synced folder")
}

fn conflicts(files: &[(PathBuf, std::fs::Metadata)]) -> Finding {
    let is_conflict = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        CONFLICT_MARKS.iter().any(|mark| name.contains(mark))
    };
    let found: Vec<&PathBuf> = files.iter().map(|(path, _)| path).filter(|path| is_conflict(path)).collect();
    match found.first() {
        None => Finding::ok("conflicts", "the sync client has made no conflicted copies"),
        Some(first) => Finding::warning(
            "conflicts",
            format!("{} conflicted copies of the sync client, such as {}", found.len(), first.display()),
            "They do no harm, and are ignored. passkeyfs never changes a file, so something else has: see what does.",
        ),
    }
}

fn placeholders(files: &[(PathBuf, std::fs::Metadata)]) -> Finding {
    let is_placeholder = |path: &Path, metadata: &std::fs::Metadata| {
        let is_segment = path.extension().is_some_and(|extension| extension == "data" || extension == "meta");
        let is_virtual = path.extension().is_some_and(|extension| extension == "nextcloud" || extension == "owncloud");
        is_virtual || is_segment && metadata.len() > 0 && metadata.blocks() == 0
    };
    let found = files.iter().filter(|(path, metadata)| is_placeholder(path, metadata)).count();
    match found {
        0 => Finding::ok("placeholders", "all files are here, not in the cloud only"),
        count => Finding::problem(
            "placeholders",
            format!("files that are in the cloud only: {count}"),
            "Turn \"online only\" or \"virtual files\" off for this folder in the sync client.",
        ),
    }
}

fn times(files: &[(PathBuf, std::fs::Metadata)], now: i64) -> Finding {
    match files.iter().map(|(_, metadata)| metadata.mtime()).max() {
        Some(newest) if newest > now + SKEW_SECONDS => Finding::warning(
            "times",
            format!("the newest file is of {}, which is to come", format_seconds(newest)),
            "Set the clocks of all devices (timedatectl set-ntp true): this one is behind, or another one ahead.",
        ),
        _ => Finding::ok("times", "no file is of a time to come"),
    }
}

fn ignore_rules(folder: &Path, home: Option<&Path>) -> Finding {
    let mut rules: Vec<PathBuf> =
        folder.ancestors().flat_map(|above| IGNORE_FILES.map(|name| above.join(name))).collect();
    rules.extend(home.map(|home| home.join(".config/Nextcloud/sync-exclude.lst")));
    for path in rules {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let root = path.parent().filter(|root| folder.starts_with(root));
        let below = root.and_then(|root| folder.strip_prefix(root).ok()).unwrap_or(Path::new(""));
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(sample) = SAMPLES.iter().find(|sample| is_ignored(line, &below.join(sample).to_string_lossy()))
            {
                return Finding::problem(
                    "ignore rules",
                    format!(
                        "{}, line {number}: '{}' keeps files such as {sample} from being synced",
                        path.display(),
                        line.trim()
                    ),
                    "Take that line out: the vault folder must be synced as a whole.",
                );
            }
        }
    }
    Finding::ok("ignore rules", "no rule keeps the vault's files from being synced")
}

/// Nextcloud downloads a new folder above a size limit only after its user has agreed; until then the folder is missing.
/// `None` if Nextcloud does not sync the folder.
fn big_folders(folder: &Path, home: &Path) -> Option<Finding> {
    let (file, settings) = NEXTCLOUD_SETTINGS
        .iter()
        .map(|path| home.join(path))
        .find_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)))?;
    let value = |name: &str| settings.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name);
    let roots = settings.lines().filter_map(|line| line.split_once('='));
    let mut roots = roots.filter(|(key, _)| key.ends_with("\\localPath")).map(|(_, root)| root.trim_matches('"'));
    if !roots.any(|root| folder.starts_with(root)) {
        return None;
    }
    if value("useNewBigFolderSizeLimit").is_some_and(|(_, on)| on == "false") {
        return Some(Finding::ok("big folders", "Nextcloud brings new folders of any size without asking"));
    }
    let limit = value("newBigFolderSizeLimit").map_or(NEXTCLOUD_LIMIT_MB, |(_, limit)| limit);
    Some(Finding::warning(
        "big folders",
        format!("Nextcloud on this device brings new folders of more than {limit} MB only when its user has agreed"),
        format!(
            "Agree when it asks, or end the client, set useNewBigFolderSizeLimit=false (or a larger \
             newBigFolderSizeLimit) under [General] in {}, and start it again; on every device.",
            file.display()
        ),
    ))
}

/// Whether a line of ignore rules matches `path` or a folder above it. Understands what the clients have in common: a name
/// or a path with `*` and `?`, anywhere or (with `/` in front) from the top.
fn is_ignored(line: &str, path: &str) -> bool {
    let mut pattern = line.trim();
    while let Some(rest) = ["(?i)", "(?d)", "-:", "]"].iter().find_map(|prefix| pattern.strip_prefix(prefix)) {
        pattern = rest;
    }
    if pattern.is_empty() || pattern.starts_with(['!', '#']) || pattern.starts_with("//") {
        return false;
    }
    let from_top = pattern.starts_with('/');
    let pattern = pattern.trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    // Tries each folder of the path and the file, from the top or from any folder.
    let starts = if from_top { 0..1 } else { 0..parts.len() };
    starts.into_iter().any(|start| (start + 1..=parts.len()).any(|end| matches(pattern, &parts[start..end].join("/"))))
}

/// `*` matches any characters within a name, `**` any characters, `?` one character.
fn matches(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    if first == '*' {
        let (crosses, rest) = rest.strip_prefix('*').map_or((false, rest), |rest| (true, rest));
        let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        return ends.take_while(|end| crosses || !text[..*end].contains('/')).any(|end| matches(rest, &text[end..]));
    }
    let Some(head) = text.chars().next() else { return false };
    (first == head || first == '?' && head != '/') && matches(rest, &text[head.len_utf8()..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::doctor::finding::Grade;

    #[test]
    fn rules_that_leave_out_parts_of_a_vault_are_known() {
        for line in
            ["*.data", "vault.json", "/Sync/v/keys", "devices", "*", "(?d)(?i)*.key", "**/0000000", "v/devices/**"]
        {
            assert!(SAMPLES.iter().any(|sample| is_ignored(line, &format!("Sync/v/{sample}"))), "{line}");
        }
        for line in ["*.tmp", ".~*.tmp", "// a comment", "# another", "!*.data", "", "/keys", "data", ".st*", "*.dat"] {
            assert!(!SAMPLES.iter().any(|sample| is_ignored(line, &format!("Sync/v/{sample}"))), "{line}");
        }
    }

    #[test]
    fn a_rule_above_the_folder_is_found_with_its_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vault = folder.path().join("v");
        std::fs::create_dir(&vault).expect("made");
        assert_eq!(ignore_rules(&vault, None).grade, Grade::Ok);
        std::fs::write(folder.path().join(".stignore"), "*.tmp\n*.meta\n").expect("written");
        let finding = ignore_rules(&vault, None);
        assert_eq!(finding.grade, Grade::Problem);
        assert!(finding.found.contains(".stignore, line 2: '*.meta'"), "{finding:?}");
    }

    #[test]
    fn copies_placeholders_and_times_to_come_are_seen() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let make = |name: &str, bytes: u64| {
            let file = std::fs::File::create(folder.path().join(name)).expect("made");
            file.set_len(bytes).expect("set");
        };
        make("whole.data", 0);
        let files = all_files(folder.path());
        let now = now_seconds();
        assert_eq!((conflicts(&files).grade, placeholders(&files).grade), (Grade::Ok, Grade::Ok));
        assert_eq!((times(&files, now).grade, times(&files, now - 3600).grade), (Grade::Ok, Grade::Warning));
        make("hollow.data", 4096);
        make("a.sync-conflict-20260101-000000-ABC.json", 0);
        let files = all_files(folder.path());
        assert_eq!((conflicts(&files).grade, placeholders(&files).grade), (Grade::Warning, Grade::Problem));
    }

    #[test]
    fn a_nextcloud_that_holds_back_big_folders_is_named_with_its_setting() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let vault = home.path().join("Nextcloud/vault");
        assert_eq!(big_folders(&vault, home.path()), None, "no Nextcloud");
        let file = home.path().join(NEXTCLOUD_SETTINGS[0]);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        let root = home.path().join("Nextcloud");
        let set = |lines: &str| {
            let text = format!("[General]\n{lines}[Accounts]\n0\\Folders\\1\\localPath={}/\n", root.display());
            std::fs::write(&file, text).expect("written");
        };
        for (lines, grade, words) in [
            ("", Grade::Warning, "more than 500 MB"),
            ("newBigFolderSizeLimit=20\n", Grade::Warning, "more than 20 MB"),
            ("useNewBigFolderSizeLimit=false\n", Grade::Ok, "of any size"),
        ] {
            set(lines);
            let finding = big_folders(&vault, home.path()).expect("carried by Nextcloud");
            assert_eq!(finding.grade, grade, "{lines}");
            assert!(finding.found.contains(words), "{finding:?}");
            assert_eq!(finding.next.is_some_and(|next| next.contains("newBigFolderSizeLimit")), grade != Grade::Ok);
        }
        assert_eq!(big_folders(&home.path().join("Other/vault"), home.path()), None, "not carried by it");
    }

    #[test]
    fn state_in_the_synced_folder_is_a_problem() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vault = folder.path().join("sync/v");
        std::fs::create_dir_all(&vault).expect("made");
        let state = folder.path().join("sync/.local/state/passkeyfs/id");
        assert_eq!(state_apart(&vault, &state).grade, Grade::Ok);
        std::fs::create_dir(folder.path().join("sync/.stfolder")).expect("made");
        assert_eq!(state_apart(&vault, &state).grade, Grade::Problem);
    }
}

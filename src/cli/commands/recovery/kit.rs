//! The printable recovery kit: one HTML page that needs nothing else, with the code as text and as a QR code.
//!
//! The file has mode 0600, is never in the vault folder (the sync client would upload it), never replaces another file, and
//! is complete or absent. A folder that is likely synced causes a warning.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use qrcodegen::{QrCode, QrCodeEcc};
use zeroize::Zeroizing;

use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::crypto::{KernelRandomness, Randomness};
use crate::format::{SlotId, VaultFile, VaultId};
use crate::unlock::RecoveryCode;

/// Files of sync clients at the top of a folder that they sync.
const SYNC_CLIENT_MARKS: [&str; 6] =
    [".stfolder", ".dropbox", ".dropbox.cache", ".nextcloudsync.log", ".owncloudsync.log", ".insync"];

/// The content of a kit.
pub struct Kit<'a> {
    /// The vault that it opens.
    pub vault: VaultId,
    /// The slot that the code opens.
    pub slot: SlotId,
    /// Where the vault lies now.
    pub folder: &'a Path,
    /// The label of the slot.
    pub label: Option<&'a str>,
    /// The code.
    pub code: &'a RecoveryCode,
}

/// Where a kit is to be written.
#[derive(Debug)]
pub struct KitFile {
    path: PathBuf,
}

impl KitFile {
    /// Checks that a kit may be written there; writes nothing.
    pub fn prepare(file: &Path, vault_folder: &Path) -> anyhow::Result<Self> {
        let show = file.display();
        let absolute = std::path::absolute(file).with_context(|| format!("cannot write the recovery kit to {show}"))?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return Err(failure(Exit::Usage, format!("{show} is no name for a recovery kit"), "Give a file's name."));
        };
        let parent = parent.canonicalize().map_err(|error| {
            let what = format!("the recovery kit cannot be written to {show}: {error}");
            failure(Exit::Failed, what, "Give a file in a folder that exists.")
        })?;
        let path = parent.join(name);
        if path.starts_with(vault_folder) {
            return Err(failure(
                Exit::Failed,
                "the recovery kit would lie in the vault folder, where whoever gets the vault gets its code too",
                "Give a file outside of the vault folder, and of every folder that is synced.",
            ));
        }
        if path.symlink_metadata().is_ok() {
            let what = format!("{show} is there already, and a recovery kit never replaces a file");
            return Err(failure(Exit::Failed, what, "Give another name."));
        }
        Ok(Self { path })
    }

    /// The folder above it that is likely synced, if there is one.
    pub fn synced_folder(&self, vault_folder: &Path, home: Option<&Path>) -> Option<PathBuf> {
        let marked = |folder: &&Path| SYNC_CLIENT_MARKS.iter().any(|mark| folder.join(mark).exists());
        let beside = || vault_folder.parent().filter(|parent| Some(*parent) != home && parent.parent().is_some());
        let synced = vault_folder.ancestors().find(marked).or_else(beside)?;
        self.path.starts_with(synced).then(|| synced.to_owned())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the kit: complete and durable on return; absent after an error.
    pub fn write(&self, kit: &Kit<'_>) -> anyhow::Result<()> {
        let page = page(kit);
        let staged = self.path.with_file_name(format!(".passkeyfs-kit-{:016x}.tmp", KernelRandomness.u64()));
        let put = put(&staged, &self.path, page.as_bytes());
        if put.is_err() {
            let _ = std::fs::remove_file(&staged);
        }
        put.with_context(|| format!("the recovery kit cannot be written to {}", self.path.display()))
    }
}

fn put(staged: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match renameat2(AT_FDCWD, staged, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE) {
        // The filesystem has no RENAME_NOREPLACE; a hard link does not replace a file either.
        Err(nix::Error::EINVAL | nix::Error::ENOSYS) => {
            std::fs::hard_link(staged, path)?;
            std::fs::remove_file(staged)?;
        }
        renamed => renamed?,
    }
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// The page. It loads and runs nothing.
fn page(kit: &Kit<'_>) -> Zeroizing<String> {
    // With the zone: it may be read in another one.
    let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M (UTC%:z)").to_string();
    let mut rows = Zeroizing::new(String::with_capacity(2048));
    for (number, group) in kit.code.groups().iter().enumerate() {
        let _ = write!(rows, "<li><small>{}</small> {group}</li>", number + 1);
    }
    let label = kit.label.map_or_else(String::new, |label| format!("<dt>Name</dt><dd>{}</dd>", escape(label)));
    let mut html = Zeroizing::new(String::with_capacity(64 * 1024));
    let _ = write!(
        html,
        include_str!("kit.html"),
        vault = kit.vault,
        slot = kit.slot,
        folder = escape(&kit.folder.to_string_lossy()),
        label = label,
        date = escape(&now),
        version = env!("CARGO_PKG_VERSION"),
        format = VaultFile::FORMAT,
        code = rows.as_str(),
        qr = qr(&kit.code.text()).as_str(),
    );
    html
}

/// The code as a QR code in SVG, with the quiet zone that readers need.
fn qr(text: &str) -> Zeroizing<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Quartile).expect("83 characters fit a QR code");
    let size = code.size();
    let mut path = Zeroizing::new(String::with_capacity(32 * 1024));
    for y in 0..size {
        for x in (0..size).filter(|x| code.get_module(*x, y)) {
            let _ = write!(path, "M{},{}h1v1h-1z", x + 4, y + 4);
        }
    }
    let side = size + 8;
    Zeroizing::new(format!(
        "<svg viewBox=\"0 0 {side} {side}\" role=\"img\" aria-label=\"the code as a QR code\" shape-rendering=\"crispEdges\">\
         <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path d=\"{}\" fill=\"#000\"/></svg>",
        path.as_str()
    ))
}

/// Escapes text for HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other if other.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::crypto::SeededRandomness;

    fn kit<'a>(code: &'a RecoveryCode, folder: &'a Path) -> Kit<'a> {
        Kit { vault: VaultId([7; 16]), slot: SlotId([8; 8]), folder, label: Some("<b>&\"x\""), code }
    }

    #[test]
    fn the_page_holds_the_code_twice_and_loads_nothing() {
        let code = RecoveryCode::generate(&SeededRandomness::new(1));
        let page = page(&kit(&code, Path::new("/home/me/Sync/<vault>")));
        for group in code.groups().iter() {
            assert!(page.contains(group.as_str()), "{group}");
        }
        assert!(
            page.contains("<svg") && page.contains("&lt;b&gt;&amp;&quot;x&quot;") && page.contains("&lt;vault&gt;")
        );
        for word in ["http:", "https:", "src=", "href=", "<script", "url(", "@import"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains(&VaultId([7; 16]).to_string()));
        let version = format!("passkeyfs {}", env!("CARGO_PKG_VERSION"));
        for words in [version.as_str(), "vault format 1", "(UTC", "free software"] {
            assert!(page.contains(words), "{words}");
        }
    }

    #[test]
    fn a_kit_in_a_folder_that_is_likely_synced_is_warned_of() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = folder.path().canonicalize().expect("there");
        let vault = home.join("Sync/deep/vault");
        std::fs::create_dir_all(&vault).expect("made");
        let synced = |kit: &str, vault: &Path| {
            KitFile::prepare(&home.join(kit), vault).expect("a place for it").synced_folder(vault, Some(&home))
        };
        assert_eq!(synced("Sync/deep/kit.html", &vault), Some(home.join("Sync/deep")), "beside the vault");
        assert_eq!(synced("Sync/kit.html", &vault), None);
        std::fs::create_dir(home.join("Sync/.stfolder")).expect("made");
        assert_eq!(synced("Sync/kit.html", &vault), Some(home.join("Sync")));
        assert_eq!(synced("kit.html", &vault), None);
        // A vault right in the home does not make the home a synced folder.
        let vault = home.join("vault");
        std::fs::create_dir(&vault).expect("made");
        assert_eq!(synced("kit.html", &vault), None);
    }

    #[test]
    fn the_file_is_for_its_owner_alone_and_replaces_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vault = folder.path().join("vault");
        std::fs::create_dir(&vault).expect("made");
        let code = RecoveryCode::generate(&SeededRandomness::new(1));
        let path = folder.path().join("kit.html");
        let file = KitFile::prepare(&path, &vault).expect("a place for it");
        file.write(&kit(&code, &vault)).expect("written");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        let before = std::fs::read(&path).expect("readable");
        assert!(KitFile::prepare(&path, &vault).is_err(), "it is there already");
        // Somebody was quicker: the file stays his.
        assert!(file.write(&kit(&RecoveryCode::generate(&SeededRandomness::new(2)), &vault)).is_err());
        assert_eq!(std::fs::read(&path).expect("readable"), before);
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names.len(), 2, "nothing half-written is left: {names:?}");
    }

    #[test]
    fn a_kit_is_refused_in_the_vault_folder_by_whatever_way_it_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vault = folder.path().canonicalize().expect("there").join("vault");
        std::fs::create_dir_all(vault.join("keys")).expect("made");
        std::os::unix::fs::symlink(&vault, folder.path().join("link")).expect("made");
        for name in ["vault/kit.html", "vault/keys/kit.html", "link/kit.html", "vault/../vault/kit.html"] {
            assert!(KitFile::prepare(&folder.path().join(name), &vault).is_err(), "{name}");
        }
        assert!(KitFile::prepare(&folder.path().join("nowhere/kit.html"), &vault).is_err());
    }
}

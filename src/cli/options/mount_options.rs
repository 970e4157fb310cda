//! What follows `-o`: our own options, the generic ones of mount(8), and nothing else.
//!
//! Options are separated by commas. In a value a comma is written `\,` (as libfuse has it) or the value is put in double
//! quotes (as mount(8) has it). A later option outdoes an earlier one. Our own are described in [`OWN_OPTIONS`], which
//! the manual prints. Generic ones are honoured where they mean something here (`ro`, `allow_other`, `fsname=`), handed to
//! the kernel where they are its business (`nodev`, `noatime`, …), and passed over where they speak to mount(8) or systemd
//! (`_netdev`, `x-systemd.automount`, …), as mount.fuse does. Anything else is refused by name: a mistyped option must
//! not be lost in silence. Only mount(8)'s `-s` has it passed over.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::size::{SizeError, parse_memory_size};
use crate::mount::is_kernel_option;
use crate::volume::{AccessTimes, DEVICE_DIGITS_MIN};

/// Our own options, each with the words that the manual has for it.
pub const OWN_OPTIONS: &[(&str, &str)] = &[
    ("authenticator=A", "what to unlock with, as --authenticator says it"),
    ("dirty=SIZE", "memory for data that is not written yet (default 128M); a write beyond it waits"),
    ("cache=SIZE", "memory for decrypted blocks and tree nodes (default 64M)"),
    ("publish=SECONDS", "how long after a change it is published to the vault folder (default 30)"),
    ("staging=DIR", "where files are written before they get their place in the vault folder"),
    (
        "accept-rollback",
        "mount for writing although the folder is older than what this device has seen, or a newer commit is arriving",
    ),
    (
        "head=DEVICE",
        "show the newest commit of that device, read-only (at least four digits of its id; status lists the devices); where \
         several have written at once, with accept-rollback: go on with that one, show the others' changes no more, and set \
         aside files that cannot be read here",
    ),
    ("writeback", "let the kernel collect small writes; it then owns sizes and times until it writes them"),
    (
        "relatime",
        "opening for reading moves access times (strictatime: each time); by default nobody who only reads causes an upload",
    ),
    ("lock-on-removal", "publish, unmount and end when the key is pulled out; programs with files open are cut off"),
    ("lock-on-suspend", "the same before the machine goes to sleep (needs systemd-logind)"),
    ("idle=SECONDS", "publish, unmount and end when nobody has used the files for so long and none is open"),
    ("nonempty", "mount over a folder that holds files, which are hidden until the vault is unmounted"),
    ("notify=SECONDS", "how long publishing may fail before a desktop notification says so (default 600)"),
    ("threads=N", "how many threads serve the kernel (default: two per processor, at least 4, at most 16)"),
    (
        "nospin",
        "sleep at once when no request waits; by default a thread first polls up to 60 microseconds for the next one, which \
         makes work on many small files faster",
    ),
];

/// Words that speak to mount(8), fstab's readers or nobody; with `=value` or without.
const PASSED_OVER: [&str; 27] = [
    "default_permissions",
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "_rnetdev",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "comment",
    "subtype",
    "silent",
    "loud",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "uhelper",
    "helper",
    "lazytime",
    "nolazytime",
];

/// What the options ask for. What none of them mentions is `None` or false.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountChoices {
    /// `authenticator=`
    pub authenticator: Option<String>,
    /// `dirty=`, in bytes.
    pub dirty_bytes_max: Option<usize>,
    /// `cache=`, in bytes.
    pub cache_bytes_max: Option<usize>,
    /// `publish=`
    pub publish_interval: Option<Duration>,
    /// `staging=`
    pub staging: Option<PathBuf>,
    /// `accept-rollback`
    pub accept_rollback: bool,
    /// `head=`: the first digits of a device's id.
    pub head: Option<String>,
    /// `writeback`
    pub writeback: bool,
    /// `threads=`
    pub threads: Option<usize>,
    /// `nospin`
    pub sleep_at_once: bool,
    /// `lock-on-removal`
    pub lock_on_removal: bool,
    /// `lock-on-suspend`
    pub lock_on_suspend: bool,
    /// `idle=`
    pub idle: Option<Duration>,
    /// `nonempty`
    pub nonempty: bool,
    /// `notify=`
    pub notify: Option<Duration>,
    /// `ro`, undone by `rw`.
    pub read_only: bool,
    /// `allow_other`
    pub allow_other: bool,
    /// `relatime` or `strictatime`: when opening for reading moves an access time.
    pub access_times: AccessTimes,
    /// `nodiratime`
    pub keeps_directory_times: bool,
    /// `fsname=`: what `df` and `findmnt` show as the source instead of the vault folder.
    pub source: Option<String>,
    /// What the kernel is to be told, in the order given.
    pub kernel_options: Vec<String>,
}

/// Why the options make no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionError {
    /// Nothing of that name is known.
    #[error("unknown mount option '{name}'")]
    Unknown {
        /// The option, without its value.
        name: String,
    },
    /// Known, but not in this version.
    #[error("mount option '{name}' is not in this version of passkeyfs")]
    NotInThisVersion {
        /// The option, without its value.
        name: String,
    },
    /// It needs a value and has none.
    #[error("mount option '{name}' needs a value")]
    ValueMissing {
        /// The option.
        name: String,
    },
    /// It has a value and takes none.
    #[error("mount option '{name}' takes no value")]
    ValueUnexpected {
        /// The option, without its value.
        name: String,
    },
    /// Its value is of another kind or out of bounds.
    #[error("mount option '{name}': {problem}")]
    ValueInvalid {
        /// The option, without its value.
        name: String,
        /// What is wrong with the value.
        problem: String,
    },
}

impl MountChoices {
    /// Whether no changes are to be taken: `ro`, or `head=` without `accept-rollback`.
    pub fn is_read_only(&self) -> bool {
        self.read_only || (self.head.is_some() && !self.accept_rollback)
    }

    /// Reads what was given to one or several `-o`. With `sloppy`, unknown options are passed over.
    pub fn parse<T: AsRef<str>>(texts: &[T], sloppy: bool) -> Result<Self, OptionError> {
        let mut choices = Self::default();
        for option in texts.iter().flat_map(|text| split(text.as_ref())) {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            match choices.set(name, value) {
                Err(OptionError::Unknown { name }) if sloppy => log::info!("mount option '{name}' is passed over"),
                other => other?,
            }
        }
        Ok(choices)
    }

    /// When listing a folder moves its access time.
    pub fn directory_access_times(&self) -> AccessTimes {
        if self.keeps_directory_times { AccessTimes::Never } else { self.access_times }
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), OptionError> {
        let text = || match value {
            Some(value) if !value.is_empty() => Ok(value.to_owned()),
            _ => Err(OptionError::ValueMissing { name: name.to_owned() }),
        };
        let flag = || match value {
            None => Ok(true),
            Some(_) => Err(OptionError::ValueUnexpected { name: name.to_owned() }),
        };
        match name {
            "authenticator" => self.authenticator = Some(text()?),
            "dirty" => self.dirty_bytes_max = Some(size(name, &text()?)?),
            "cache" => self.cache_bytes_max = Some(size(name, &text()?)?),
            "publish" => {
                let seconds = number(name, &text()?, "a number of seconds from 1 to 86400", 86_400)?;
                self.publish_interval = Some(Duration::from_secs(seconds));
            }
            "staging" => self.staging = Some(PathBuf::from(text()?)),
            "accept-rollback" => self.accept_rollback = flag()?,
            "head" => self.head = Some(device_digits(&text()?)?),
            "writeback" => self.writeback = flag()?,
            "lock-on-removal" => self.lock_on_removal = flag()?,
            "lock-on-suspend" => self.lock_on_suspend = flag()?,
            "idle" => {
                let seconds = number(name, &text()?, "a number of seconds from 1 to 31536000", 31_536_000)?;
                self.idle = Some(Duration::from_secs(seconds));
            }
            "nonempty" => self.nonempty = flag()?,
            "notify" => {
                let seconds = number(name, &text()?, "a number of seconds from 1 to 31536000", 31_536_000)?;
                self.notify = Some(Duration::from_secs(seconds));
            }
            "threads" => self.threads = Some(number(name, &text()?, "a number from 1 to 64", 64)? as usize),
            "nospin" => self.sleep_at_once = flag()?,
            "snapshot" => return Err(OptionError::NotInThisVersion { name: name.to_owned() }),
            "ro" => self.read_only = flag()?,
            "rw" => self.read_only = !flag()?,
            "allow_other" => self.allow_other = flag()?,
            "fsname" => self.source = Some(text()?),
            "relatime" | "atime" => self.access_times = flag().map(|_| AccessTimes::Relative)?,
            "strictatime" => self.access_times = flag().map(|_| AccessTimes::Always)?,
            "noatime" | "norelatime" | "nostrictatime" => self.access_times = flag().map(|_| AccessTimes::Never)?,
            "nodiratime" => self.keeps_directory_times = flag()?,
            "diratime" => self.keeps_directory_times = !flag()?,
            _ if is_kernel_option(name) => {
                flag()?;
                self.kernel_options.push(name.to_owned());
            }
            _ if PASSED_OVER.contains(&name) || name.starts_with("x-") || name.starts_with("X-") => {}
            _ => return Err(OptionError::Unknown { name: name.to_owned() }),
        }
        Ok(())
    }
}

/// At least four of the sixteen digits of a device's id.
fn device_digits(text: &str) -> Result<String, OptionError> {
    let is_id = (DEVICE_DIGITS_MIN..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let problem = format!("'{text}' is not the beginning of a device's id (4 to 16 digits from 0 to f)");
    let invalid = || OptionError::ValueInvalid { name: "head".to_owned(), problem };
    if is_id { Ok(text.to_ascii_lowercase()) } else { Err(invalid()) }
}

fn size(name: &str, text: &str) -> Result<usize, OptionError> {
    const BYTES_MIN: usize = 1024 * 1024;
    let invalid = |problem| OptionError::ValueInvalid { name: name.to_owned(), problem };
    let bytes = parse_memory_size(text).map_err(|error: SizeError| invalid(error.to_string()))?;
    if bytes < BYTES_MIN { Err(invalid(format!("'{text}' is too small (at least 1M)"))) } else { Ok(bytes) }
}

fn number(name: &str, text: &str, expected: &str, max: u64) -> Result<u64, OptionError> {
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    let problem = || format!("'{text}' is not {expected}");
    number.ok_or_else(|| OptionError::ValueInvalid { name: name.to_owned(), problem: problem() })
}

/// The options with each value changed that `change` has another for; it gets name and value.
pub fn change_values(
    text: &str,
    change: impl Fn(&str, &str) -> Result<Option<String>, String>,
) -> Result<String, String> {
    let mut changed = Vec::new();
    for option in split(text) {
        let option = match option.split_once('=') {
            Some((name, value)) => format!("{name}={}", change(name, value)?.unwrap_or_else(|| value.to_owned())),
            None => option,
        };
        changed.push(option.replace('\\', "\\\\").replace(',', "\\,").replace('"', "\\\""));
    }
    Ok(changed.join(","))
}

/// The options between the commas; empty ones are left out.
fn split(text: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let current = options.last_mut().expect("there is always one");
        match character {
            '\\' => current.extend(characters.next()),
            '"' if quoted || current.ends_with('=') => quoted = !quoted,
            ',' if !quoted => options.push(String::new()),
            other => current.push(other),
        }
    }
    options.retain(|option| !option.is_empty());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MountChoices, OptionError> {
        MountChoices::parse(&[text], false)
    }

    #[test]
    fn our_own_options_are_read() {
        let text = "authenticator=software:/k,dirty=256M,cache=32M,publish=5,staging=/s,accept-rollback,head=00AF,writeback,threads=3,\
             nonempty,notify=60,nospin";
        let expected = MountChoices {
            authenticator: Some("software:/k".to_owned()),
            dirty_bytes_max: Some(256 << 20),
            cache_bytes_max: Some(32 << 20),
            publish_interval: Some(Duration::from_secs(5)),
            staging: Some(PathBuf::from("/s")),
            accept_rollback: true,
            head: Some("00af".to_owned()),
            writeback: true,
            threads: Some(3),
            sleep_at_once: true,
            nonempty: true,
            notify: Some(Duration::from_secs(60)),
            ..MountChoices::default()
        };
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn a_line_of_fstab_is_honoured_or_passed_over() {
        let choices = parse(
            "rw,noauto,user=me,users,nofail,_netdev,x-systemd.automount,x-systemd.idle-timeout=1min,comment=a=b,\
             nodev,nosuid,noexec,allow_other,default_permissions,fsname=backup,subtype=other,ro,defaults",
        )
        .expect("all known");
        assert_eq!(choices.kernel_options, ["nodev", "nosuid", "noexec"]);
        assert!(choices.read_only && choices.allow_other);
        assert_eq!(choices.source.as_deref(), Some("backup"));
        assert!(!parse("ro,rw").expect("known").read_only, "the later one counts");
    }

    #[test]
    fn access_times_are_our_own_matter_and_not_the_kernels() {
        use AccessTimes::{Always, Never, Relative};
        for (text, files, folders) in [
            ("", Never, Never),
            ("relatime", Relative, Relative),
            ("atime", Relative, Relative),
            ("strictatime,lazytime", Always, Always),
            ("strictatime,nodiratime", Always, Never),
            ("relatime,nodiratime,diratime", Relative, Relative),
            ("relatime,noatime", Never, Never),
            ("noatime,strictatime", Always, Always),
            ("nolazytime,norelatime,diratime", Never, Never),
        ] {
            let choices = parse(text).expect(text);
            assert_eq!((choices.access_times, choices.directory_access_times()), (files, folders), "{text}");
            assert_eq!(choices.kernel_options, [""; 0], "{text}");
        }
    }

    #[test]
    fn commas_can_be_part_of_a_value() {
        for text in [r"authenticator=software:/a\,b,ro", r#"authenticator="software:/a,b",ro"#] {
            let choices = parse(text).expect(text);
            assert_eq!(choices.authenticator.as_deref(), Some("software:/a,b"));
            assert!(choices.read_only);
        }
    }

    #[test]
    fn what_is_unknown_or_wrong_is_refused_by_name() {
        for (text, message) in [
            ("ro,wat", "unknown mount option 'wat'"),
            ("wat=1", "unknown mount option 'wat'"),
            ("snapshot=monday", "mount option 'snapshot' is not in this version of passkeyfs"),
            ("dirty", "mount option 'dirty' needs a value"),
            ("staging=", "mount option 'staging' needs a value"),
            ("writeback=yes", "mount option 'writeback' takes no value"),
            ("nodev=1", "mount option 'nodev' takes no value"),
            ("cache=lots", "mount option 'cache': 'lots' is not a size (for example 4096, 64K, 128M, 1G)"),
            ("cache=12", "mount option 'cache': '12' is too small (at least 1M)"),
            ("idle=0", "mount option 'idle': '0' is not a number of seconds from 1 to 31536000"),
            ("publish=0", "mount option 'publish': '0' is not a number of seconds from 1 to 86400"),
            (
                "head=12x4",
                "mount option 'head': '12x4' is not the beginning of a device's id (4 to 16 digits from 0 to f)",
            ),
            (
                "head=123",
                "mount option 'head': '123' is not the beginning of a device's id (4 to 16 digits from 0 to f)",
            ),
            ("threads=65", "mount option 'threads': '65' is not a number from 1 to 64"),
        ] {
            assert_eq!(parse(text).map_err(|error| error.to_string()), Err(message.to_owned()), "{text}");
        }
        assert_eq!(MountChoices::parse(&["wat,ro"], true).map(|choices| choices.read_only), Ok(true));
        assert!(
            MountChoices::parse(&["threads=0"], true).is_err(),
            "sloppiness forgives what is unknown, not nonsense"
        );
    }
}

//! The configuration of a service: `~/.config/passkeyfs/NAME.conf`, read by `passkeyfs mount --config NAME`.
//!
//! ```text
//! # a comment; so is a line that begins with ;
//! VAULT=~/Sync/my backup
//! MOUNTPOINT=~/files
//! OPTIONS=lock-on-removal,idle=3600
//! ```
//! A value is the rest of its line, so blanks in paths need nothing; it may be put in quotes, single or double, as in the
//! files that systemd reads. `~/` and `%h/` in front of a path mean the home directory, also of one in an option
//! (`authenticator=software:~/key`, `staging=~/staging`). passkeyfs reads the file itself,
//! not systemd (`EnvironmentFile=`): so an error names the line, and `mount --config` works without systemd.

use std::path::{Path, PathBuf};

use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::options::mount_options::change_values;

/// The settings of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// `VAULT=`
    pub vault: PathBuf,
    /// `MOUNTPOINT=`; made by [`read`] if it was not there.
    pub mountpoint: PathBuf,
    /// `OPTIONS=`, as after `-o`; empty without.
    pub options: String,
}

const ADVICE: &str = "Such a file has the lines VAULT=…, MOUNTPOINT=… and, if need be, OPTIONS=…; an example is installed as \
                      share/doc/passkeyfs/example.conf.";

/// Reads the configuration of that name.
pub fn read(name: &str) -> anyhow::Result<ServiceConfig> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(failure(Exit::Usage, format!("'{name}' is not the name of a service"), advice_for_a_path(name)));
    }
    let home = home();
    let path = config_folder(home.as_deref())?.join(format!("{name}.conf"));
    let show = path.display();
    let text = std::fs::read_to_string(&path)
        .map_err(|error| failure(Exit::Usage, format!("cannot read {show}: {error}"), ADVICE))?;
    parse(&text, home.as_deref()).map_err(|(line, problem)| {
        let place = line.map_or_else(String::new, |line| format!(", line {line}"));
        failure(Exit::Usage, format!("{show}{place}: {problem}"), ADVICE)
    })
}

/// For the path of a file: suggests the name of its service.
fn advice_for_a_path(given: &str) -> String {
    let file = Path::new(given);
    match (file.file_stem().and_then(|stem| stem.to_str()), file.extension()) {
        (Some(stem), Some(extension)) if extension == "conf" && !stem.starts_with('.') => {
            format!("Say --config {stem}, which reads ~/.config/passkeyfs/{stem}.conf.")
        }
        _ => ADVICE.to_owned(),
    }
}

/// The folder of the files, whether it exists or not.
pub fn config_folder(home: Option<&Path>) -> anyhow::Result<PathBuf> {
    // The XDG specification has relative paths ignored.
    let set = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = set.or_else(|| Some(home?.join(".config")));
    let no_home = || failure(Exit::Failed, "this user has no home directory", "Set XDG_CONFIG_HOME.");
    Ok(folder.ok_or_else(no_home)?.join("passkeyfs"))
}

/// The home directory of the user who runs this.
pub fn home() -> Option<PathBuf> {
    let set = std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    set.or_else(|| Some(nix::unistd::User::from_uid(nix::unistd::Uid::effective()).ok()??.dir))
}

/// The line of an error, if it has one, and what is wrong.
type Problem = (Option<usize>, String);

fn parse(text: &str, home: Option<&Path>) -> Result<ServiceConfig, Problem> {
    let (mut vault, mut mountpoint, mut options) = (None, None, None);
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |problem: String| (Some(number), problem);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(wrong(format!("'{line}' is not of the form NAME=VALUE")));
        };
        let (key, value) = (key.trim(), unquoted(value.trim()).map_err(wrong)?);
        let place = match key {
            "VAULT" => &mut vault,
            "MOUNTPOINT" => &mut mountpoint,
            "OPTIONS" => &mut options,
            _ => return Err(wrong(format!("unknown setting '{key}'"))),
        };
        if place.replace((number, value)).is_some() {
            return Err(wrong(format!("{key} is set a second time")));
        }
    }
    let path = |value: Option<(usize, &str)>, key: &str| {
        let (number, value) =
            value.filter(|(_, value)| !value.is_empty()).ok_or((None, format!("{key} is not set")))?;
        absolute(value, home).map_err(|problem| (Some(number), format!("{key}: {problem}")))
    };
    let (number, options) = options.unwrap_or_default();
    let options = change_values(options, |name, value| home_in_option(name, value, home))
        .map_err(|problem| (Some(number), format!("OPTIONS: {problem}")))?;
    Ok(ServiceConfig { vault: path(vault, "VAULT")?, mountpoint: path(mountpoint, "MOUNTPOINT")?, options })
}

/// A value that is in quotes as a whole, without them. Options have quotes of their own inside.
fn unquoted(value: &str) -> Result<&str, String> {
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let inner = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
            inner.ok_or_else(|| format!("the value begins with {quote} and does not end with it"))
        }
        _ => Ok(value),
    }
}

/// The value of an option that is a path, with the home directory in it.
fn home_in_option(name: &str, value: &str, home: Option<&Path>) -> Result<Option<String>, String> {
    let (kind, path) = match (name, value.split_once(':')) {
        ("staging", _) => (String::new(), value),
        ("authenticator", Some((kind, path))) => (format!("{kind}:"), path),
        _ => return Ok(None),
    };
    Ok(in_home(path, home)?.map(|path| format!("{kind}{}", path.display())))
}

fn in_home(value: &str, home: Option<&Path>) -> Result<Option<PathBuf>, String> {
    match value.strip_prefix("~/").or_else(|| value.strip_prefix("%h/")) {
        Some(rest) => Ok(Some(home.ok_or("this user has no home directory")?.join(rest))),
        None => Ok(None),
    }
}

fn absolute(value: &str, home: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(path) = in_home(value, home)? {
        return Ok(path);
    }
    let path = PathBuf::from(value);
    if path.is_absolute() { Ok(path) } else { Err(format!("'{value}' begins neither with / nor with ~/")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::mount_options::MountChoices;

    fn parse_at_home(text: &str) -> Result<ServiceConfig, Problem> {
        parse(text, Some(Path::new("/home/me")))
    }

    #[test]
    fn paths_may_have_blanks_quotes_and_the_home_in_front() {
        let text = "# comment\n; another\n\n VAULT = ~/My Sync/vault \nMOUNTPOINT=\"%h/my files\"\n\
                    OPTIONS='authenticator=\"software:/a,b\",idle=60'\n";
        let config = parse_at_home(text).expect("a configuration");
        assert_eq!(config.vault, Path::new("/home/me/My Sync/vault"));
        assert_eq!(config.mountpoint, Path::new("/home/me/my files"));
        assert_eq!(config.options, "authenticator=software:/a\\,b,idle=60");
        assert_eq!(parse_at_home("VAULT=/v\nMOUNTPOINT=/m").expect("enough").options, "");
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        let cases = [
            ("VAULT=/v\nMOUNT=/m\n", Some(2), "unknown setting 'MOUNT'"),
            ("VAULT=/v\n\nvault\n", Some(3), "'vault' is not of the form NAME=VALUE"),
            ("VAULT=/v\nVAULT=/w\n", Some(2), "VAULT is set a second time"),
            ("VAULT=\"/v\nMOUNTPOINT=/m", Some(1), "the value begins with \" and does not end with it"),
            ("VAULT=Sync/v\nMOUNTPOINT=/m", Some(1), "VAULT: 'Sync/v' begins neither with / nor with ~/"),
            ("VAULT=/v\nMOUNTPOINT=\n", None, "MOUNTPOINT is not set"),
        ];
        for (text, line, problem) in cases {
            assert_eq!(parse_at_home(text), Err((line, problem.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_path_in_an_option_may_have_the_home_in_front() {
        let options =
            |line: &str| parse_at_home(&format!("VAULT=/v\nMOUNTPOINT=/m\nOPTIONS={line}")).expect(line).options;
        assert_eq!(options("authenticator=software:~/k,ro"), "authenticator=software:/home/me/k,ro");
        assert_eq!(options("staging=%h/My Staging"), "staging=/home/me/My Staging");
        for line in ["authenticator=hid", "authenticator=software:/k/~/l", "fsname=~/x", "ro"] {
            assert_eq!(options(line), line);
        }
        let quoted = options(r#"authenticator="software:~/a,b",idle=60"#);
        let choices = MountChoices::parse(&[quoted], false).expect("options");
        assert_eq!(choices.authenticator.as_deref(), Some("software:/home/me/a,b"));
    }

    #[test]
    fn a_name_is_not_a_path() {
        assert!(advice_for_a_path("/home/me/.config/passkeyfs/backup.conf").starts_with("Say --config backup"));
        assert_eq!(advice_for_a_path("a/b"), ADVICE);
        for name in ["", "../other", ".hidden", "a/b"] {
            assert!(read(name).is_err(), "{name}");
        }
    }
}

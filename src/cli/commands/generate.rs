//! Completions and manual pages, made from the same definitions as `--help`.
//!
//! clap's generators give names, synopsis and options. The rest of a manual page is added here: the exit codes from
//! [`Exit::ALL`], the mount options from [`OWN_OPTIONS`], environment, files and examples.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::cli::messages::exit::{Exit, HelperExit};
use crate::cli::messages::output;
use crate::cli::options::args::{Arguments, CompletionsArguments, HelperArguments, ManArguments};
use crate::cli::options::mount_options::OWN_OPTIONS;

const ENVIRONMENT: [(&str, &str); 7] = [
    ("PASSKEYFS_AUTHENTICATOR", "What to unlock with where --authenticator does not say it."),
    ("PASSKEYFS_ASKPASS", "A program that is called with a prompt and prints the PIN, where there is no terminal."),
    ("SSH_ASKPASS", "Such a program, where there is none and no terminal, but a desktop. Without it: ssh-askpass."),
    ("CREDENTIALS_DIRECTORY", "Set by systemd: the credential passkeyfs.pin in it is the PIN."),
    ("XDG_STATE_HOME", "Where the local state lies: in its folder passkeyfs. Default: ~/.local/state."),
    ("NO_COLOR", "If set, help is printed without colours."),
    ("RUST_LOG", "What is logged, in detail: a level (debug), or levels of modules (passkeyfs::history=trace)."),
];

const FILES: [(&str, &str); 5] = [
    ("VAULT/vault.json", "Makes a folder a vault. Written once, by init."),
    ("VAULT/keys/", "The key slots: one file each, and the vault key sealed to it."),
    ("VAULT/devices/", "All contents, encrypted; each device writes in a folder of its own."),
    (
        "~/.config/passkeyfs/NAME.conf",
        "What passkeyfs mount --config NAME and the service passkeyfs@NAME mount: VAULT=, MOUNTPOINT=, OPTIONS=.",
    ),
    (
        "~/.local/state/passkeyfs/VAULT-ID/",
        "What this device keeps of a vault: journal, staging, the newest commits seen, the lock. Not to be synced.",
    ),
];

const EXAMPLES: [(&str, &str); 7] = [
    ("passkeyfs init ~/Sync/vault --no-recovery", "Make a vault in a folder that a sync client carries."),
    ("passkeyfs mount ~/Sync/vault ~/files", "Mount it: asks for the PIN, and for a touch of the key."),
    (
        "passkeyfs mount --config backup",
        "Mount what ~/.config/passkeyfs/backup.conf says. `systemctl --user enable --now passkeyfs@backup` does so at login.",
    ),
    ("passkeyfs sync ~/files", "Have all that was written so far lie in the vault folder."),
    ("passkeyfs umount ~/files", "Publish what is left, unmount, and wait until all is done."),
    ("passkeyfs check ~/Sync/vault --data=5", "Look for damage, and verify a sample of the contents."),
    ("passkeyfs status ~/Sync/vault --json", "What there is to know without a key, for a script."),
];

const HELPER_EXAMPLES: [(&str, &str); 2] = [
    (
        "/home/me/Sync/vault  /home/me/files  passkeyfs  noauto,user  0 0",
        "A line of /etc/fstab: `mount ~/files` then asks for the PIN and mounts.",
    ),
    ("mount -t passkeyfs -o ro,authenticator=hid /home/me/Sync/vault /mnt", "Mount read-only, once."),
];

/// Runs `passkeyfs completions`.
pub fn completions(arguments: &CompletionsArguments) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "passkeyfs", &mut script);
    output::print_bytes(&script)?;
    Ok(Exit::Done)
}

/// Runs `passkeyfs man`.
pub fn manual(arguments: &ManArguments) -> anyhow::Result<Exit> {
    let pages = pages()?;
    let Some(directory) = &arguments.directory else {
        let main = pages.iter().find(|page| page.file_name == "passkeyfs.1").context("there is no main page")?;
        output::print_bytes(&main.roff)?;
        return Ok(Exit::Done);
    };
    let show = directory.display();
    fs::create_dir_all(directory).with_context(|| format!("cannot create {show}"))?;
    for page in &pages {
        write_page(directory, page).with_context(|| format!("cannot write {} into {show}", page.file_name))?;
    }
    Ok(Exit::Done)
}

struct Page {
    file_name: String,
    roff: Vec<u8>,
}

fn write_page(directory: &Path, page: &Page) -> std::io::Result<()> {
    fs::write(directory.join(&page.file_name), &page.roff)
}

/// All pages: the program, each command and sub-command, and the mount helper.
fn pages() -> anyhow::Result<Vec<Page>> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let mut pages = vec![page(&program, "passkeyfs", "1")?];
    let mut waiting: Vec<(String, &clap::Command)> = vec![("passkeyfs".to_owned(), &program)];
    while let Some((name, command)) = waiting.pop() {
        for inner in command.get_subcommands() {
            let inner_name = format!("{name}-{}", inner.get_name());
            pages.push(page(inner, &inner_name, "1")?);
            waiting.push((inner_name, inner));
        }
    }
    pages.push(page(&HelperArguments::command(), "mount.passkeyfs", "8")?);
    Ok(pages)
}

fn page(command: &clap::Command, name: &str, section: &str) -> anyhow::Result<Page> {
    let source = concat!("passkeyfs ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(name).section(section).source(source).manual("passkeyfs");
    let mut roff = Vec::new();
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    synopsis(command, name).to_writer(&mut roff)?;
    man.render_description_section(&mut roff)?;
    man.render_options_section(&mut roff)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut roff)?;
    }
    own_sections(name).to_writer(&mut roff)?;
    Ok(Page { file_name: format!("{name}.{section}"), roff })
}

/// The synopsis of a command, with the name of each value, which clap_mangen leaves out after a short option.
fn synopsis(command: &clap::Command, name: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    let mut words = vec![bold(if name == "mount.passkeyfs" { name.to_owned() } else { command_words(command, name) })];
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        words.push(roman(" "));
        words.extend(synopsis_of(argument));
    }
    if command.has_subcommands() {
        words.extend([roman(" <"), italic("COMMAND"), roman(">")]);
    }
    roff.text(words);
    roff
}

/// `passkeyfs key list`: a page's name has the words of the command.
fn command_words(command: &clap::Command, name: &str) -> String {
    let full = command.get_bin_name().unwrap_or(name);
    if full.contains(' ') { full.to_owned() } else { name.replace('-', " ") }
}

/// `[-o OPTIONS]…`, `[--json]`, `VAULT`
fn synopsis_of(argument: &clap::Arg) -> Vec<Inline> {
    let names: Vec<String> = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let value = names.join(" ");
    let takes_value = argument.get_action().takes_values();
    let mut words = Vec::new();
    if argument.is_positional() {
        words.push(italic(value));
    } else {
        let short = argument.get_short().map(|letter| format!("-{letter}"));
        let long = argument.get_long().map(|long| format!("--{long}"));
        words.push(bold(short.into_iter().chain(long).collect::<Vec<_>>().join("|")));
        if takes_value {
            let is_optional = argument.get_num_args().is_some_and(|range| range.min_values() == 0);
            let (before, after) = if is_optional { ("[=", "]") } else { (" ", "") };
            words.extend([roman(before), italic(value), roman(after)]);
        }
    }
    let is_repeated = matches!(argument.get_action(), clap::ArgAction::Append | clap::ArgAction::Count);
    let after = if is_repeated { "]..." } else { "]" };
    if !argument.is_required_set() {
        words.insert(0, roman("["));
        words.push(roman(after));
    }
    words
}

/// The sections that clap does not generate.
fn own_sections(name: &str) -> Roff {
    let mut roff = Roff::new();
    let is_helper = name == "mount.passkeyfs";
    if is_helper || name == "passkeyfs-mount" {
        definitions(&mut roff, "MOUNT OPTIONS", OWN_OPTIONS);
        paragraph(
            &mut roff,
            "Generic options are honoured (ro, allow_other, fsname=, nodev, nosuid, noexec, noatime, sync and their \
             likes) or passed over where they speak to mount(8) or systemd (user, noauto, nofail, _netdev, x-*). Any other \
             is refused by name. A comma in a value is written \\, or the value is put in double quotes.",
        );
    }
    let codes: Vec<(String, &str)> = match is_helper {
        true => HelperExit::ALL.iter().map(|(exit, words)| (exit.code().to_string(), *words)).collect(),
        false => Exit::ALL.iter().map(|(exit, words)| (exit.code().to_string(), *words)).collect(),
    };
    let codes: Vec<(&str, &str)> = codes.iter().map(|(code, words)| (code.as_str(), *words)).collect();
    definitions(&mut roff, "EXIT STATUS", &codes);
    definitions(&mut roff, "ENVIRONMENT", &ENVIRONMENT);
    if is_helper || name == "passkeyfs" {
        definitions(&mut roff, "FILES", &FILES);
    }
    let examples: Vec<(&str, &str)> = match is_helper {
        true => HELPER_EXAMPLES.to_vec(),
        false => EXAMPLES.iter().filter(|(line, _)| is_example_of(line, name)).copied().collect(),
    };
    if !examples.is_empty() {
        definitions(&mut roff, "EXAMPLES", &examples);
    }
    let see_also = if is_helper { "passkeyfs(1), fstab(5), mount(8)" } else { "mount.passkeyfs(8), fusermount3(1)" };
    roff.control("SH", ["SEE ALSO"]);
    paragraph(&mut roff, see_also);
    roff
}

/// The main page has all examples, a command's page its own.
fn is_example_of(line: &str, name: &str) -> bool {
    line.starts_with(&name.replace('-', " "))
}

fn definitions(roff: &mut Roff, heading: &str, terms: &[(&str, &str)]) {
    roff.control("SH", [heading]);
    for (term, words) in terms {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*words)]);
    }
}

fn paragraph(roff: &mut Roff, words: &str) {
    roff.control("PP", []);
    roff.text([roman(words)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_exit_codes() {
        let pages = pages().expect("rendered");
        let mut names: Vec<&str> = pages.iter().map(|page| page.file_name.as_str()).collect();
        names.sort_unstable();
        for name in ["passkeyfs.1", "passkeyfs-mount.1", "passkeyfs-key-list.1", "mount.passkeyfs.8"] {
            assert!(names.contains(&name), "{name} is missing from {names:?}");
        }
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before, "no page is written twice");
        for page in &pages {
            let text = String::from_utf8(page.roff.clone()).expect("text");
            assert!(text.contains("EXIT STATUS"), "{}", page.file_name);
            assert!(text.contains(".SH SYNOPSIS\n\\fBpasskeyfs") || page.file_name == "mount.passkeyfs.8", "{text}");
            let has_options = ["passkeyfs-mount.1", "mount.passkeyfs.8"].contains(&page.file_name.as_str());
            assert_eq!(text.contains("authenticator=A"), has_options, "{}", page.file_name);
        }
    }

    #[test]
    fn a_synopsis_names_the_value_of_each_option() {
        let text = |command: &clap::Command, name: &str| {
            let roff = synopsis(command, name).render();
            roff.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-").replace('\n', " ")
        };
        let helper = text(&HelperArguments::command(), "mount.passkeyfs");
        for part in ["mount.passkeyfs VAULT MOUNTPOINT", "[-N NS]", "[-t TYPE]", "[-o OPTIONS]...", "[-s]"] {
            assert!(helper.contains(part) || helper.contains(&part.replace(' ', "  ")), "{part} is not in {helper}");
        }
        let mut program = Arguments::command();
        program.build();
        let check = text(program.find_subcommand("check").expect("a command"), "passkeyfs-check");
        for part in ["passkeyfs check", "[--data[=PERCENT]]", "[--authenticator A]", " VAULT", "[--json]"] {
            assert!(check.contains(part), "{part} is not in {check}");
        }
    }
}

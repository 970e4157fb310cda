//! Errors of the command line, in the form of all failures: what happened, then what to do.
//!
//! The text is clap's, without its blank lines and colours. Help and version are not failures: clap prints them, in colour
//! if the terminal and `NO_COLOR` allow it.

use std::io::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands that are planned and not in this version, each with what does the same now.
const NOT_IN_THIS_VERSION: [(&str, &str); 12] = [
    ("restore", COPY),
    ("ls", COPY),
    ("cat", COPY),
    ("find", COPY),
    ("export", COPY),
    ("snapshot", NO_HISTORY),
    ("versions", NO_HISTORY),
    ("diff", NO_HISTORY),
    (
        "gc",
        "The vault folder grows with each change; a new vault, filled from a mount of this one, is as small as can be.",
    ),
    (
        "repair",
        "`passkeyfs check VAULT --data` names what is damaged: bring those files back from the sync client's older versions.",
    ),
    ("device", DEVICES),
    ("conflicts", DEVICES),
];
const COPY: &str = "Mount the vault (`passkeyfs mount -o ro VAULT MOUNTPOINT`), and look, search or copy there.";
const NO_HISTORY: &str = "Older states of files are not shown: copy out of a mount what is to be kept as it is.";
const DEVICES: &str = "`passkeyfs status VAULT` lists the devices that have written.";

/// Prints the error, and returns the exit code: `usage_code`, or 0 if help or the version was asked for.
pub fn report(error: &clap::Error, usage_code: u8) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is not a failure.
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            usage_code
        }
        _ => {
            let planned = not_in_this_version(error);
            let text = planned.unwrap_or_else(|| in_our_form(&error.render().to_string()));
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
            usage_code
        }
    }
}

/// The message for a planned command.
fn not_in_this_version(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let (word, next) = NOT_IN_THIS_VERSION.iter().find(|(planned, _)| planned == word)?;
    Some(format!("passkeyfs: '{word}' is not in this version\n{next}\n"))
}

/// Joins the first paragraph to one line and puts the others below it without blank lines between.
fn in_our_form(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let mut paragraphs = message.trim().split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let what: Vec<&str> = first.lines().map(str::trim).collect();
    let mut text = format!("passkeyfs: {}\n", what.join(" "));
    for line in paragraphs.flat_map(str::lines).filter(|line| !line.trim().is_empty()) {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::options::args::Arguments;

    #[test]
    fn a_usage_error_says_what_happened_and_then_what_to_do() {
        let error = Arguments::try_parse_from(["passkeyfs", "mount"]).expect_err("both arguments are missing");
        let text = in_our_form(&error.render().to_string());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "passkeyfs: the following required arguments were not provided: <VAULT> <MOUNTPOINT>",
                "Usage: passkeyfs mount [OPTIONS] <VAULT> <MOUNTPOINT>",
                "       passkeyfs mount [OPTIONS] --config <NAME>",
                "For more information, try '--help'.",
            ]
        );
    }
}

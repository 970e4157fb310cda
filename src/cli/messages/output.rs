//! Standard output, for commands that print. A reader that went away (`| head`) is no failure and no message.

use std::io::{self, Write};
use std::path::Path;

/// Writes all of it to standard output and flushes.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// The same for bytes that need not be text.
pub fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
        Ok(()) => Ok(()),
    }
}

/// Writes a value as indented JSON and a newline.
pub fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Says something to the person in front of it, on standard error, in the form of all our messages.
pub fn notice(text: &str) {
    let _ = writeln!(io::stderr().lock(), "passkeyfs: {text}");
}

/// A path as a shell takes it, so that a command that is advised can be copied: in quotes where it has to be.
pub fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |character: char| character.is_alphanumeric() || "/._-+:@%,".contains(character);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_where_a_shell_would_take_it_apart() {
        assert_eq!(shell_word(Path::new("/home/u/files")), "/home/u/files");
        assert_eq!(shell_word(Path::new("/my files/it's")), "'/my files/it'\\''s'");
    }
}

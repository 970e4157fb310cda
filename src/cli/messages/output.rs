//! Standard output and notices. A closed pipe (`| head`) is neither reported nor a failure.

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

/// Prints a notice to standard error, with the prefix of all messages.
pub fn notice(text: &str) {
    let _ = writeln!(io::stderr().lock(), "passkeyfs: {text}");
}

/// A path quoted for a shell if it needs to be, so that the user can copy a suggested command.
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

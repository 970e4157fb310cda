//! Standard output, for commands that print. A reader that went away (`| head`) is no failure and no message.

use std::io::{self, Write};

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

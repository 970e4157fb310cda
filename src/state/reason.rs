//! Why an operation failed: words for a person, and the error below that caused it.

use std::error::Error;
use std::fmt;

/// What is said of a failure. Its [`source`](Error::source) is the cause of the error that it repeats the words of.
#[derive(Debug)]
pub struct Reason {
    words: String,
    repeated: Option<Box<dyn Error + Send + Sync>>,
}

impl Reason {
    /// Says what `error` says, and has its causes.
    pub fn of(error: impl Error + Send + Sync + 'static) -> Self {
        Self { words: error.to_string(), repeated: Some(Box::new(error)) }
    }
}

impl From<String> for Reason {
    fn from(words: String) -> Self {
        Self { words, repeated: None }
    }
}

impl From<&str> for Reason {
    fn from(words: &str) -> Self {
        words.to_owned().into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.words)
    }
}

impl Error for Reason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.repeated.as_ref()?.source()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::store::{FilePath, StoreError};
    use crate::volume::VolumeError;

    #[test]
    fn what_the_system_said_is_at_the_end_of_an_errors_causes() {
        let no_device = io::Error::from_raw_os_error(libc::ENODEV);
        let error = VolumeError::from(StoreError::from_io(FilePath::vault("keys/a"), "read the file", no_device));
        let mut last: &dyn Error = &error;
        while let Some(cause) = last.source() {
            last = cause;
        }
        let system = last.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        assert_eq!(system, Some(libc::ENODEV));
        assert!(error.to_string().contains("No such device"), "{error}");
    }
}

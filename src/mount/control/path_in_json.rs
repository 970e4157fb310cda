//! Paths in the daemon's JSON: a string where they are text, else their bytes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Spelled {
    Text(String),
    Bytes(Vec<u8>),
}

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => Spelled::Text(text.to_owned()),
        None => Spelled::Bytes(path.as_os_str().as_bytes().to_vec()),
    }
    .serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Ok(match Spelled::deserialize(deserializer)? {
        Spelled::Text(text) => PathBuf::from(text),
        Spelled::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
    })
}

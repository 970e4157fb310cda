//! Watches a disk for what would let a (key, tweak) meet two plaintexts: bytes that change after they were written, a
//! file that an earlier process left and a later one goes on with, and two files of the same id or salt.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use passkeyfs::format::segment::{HEADER_BYTES, SegmentHeader};
use passkeyfs::store::{Area, FilePath, MemoryStore};

/// What was seen of one encrypted file, by its header.
struct Seen {
    bytes: usize,
    hash: u64,
    /// Published, or left by a process that is dead: it never changes again.
    is_final: bool,
}

/// What was seen so far.
#[derive(Default)]
pub struct WriteOnce {
    files: HashMap<Vec<u8>, Seen>,
    segments: HashSet<u64>,
    salts: HashSet<[u8; 16]>,
    pub headers: usize,
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn is_encrypted(path: &FilePath) -> bool {
    let name = path.name.as_str();
    name.ends_with(".data") || name.ends_with(".meta") || (path.area == Area::State && name.starts_with("journal/"))
}

impl WriteOnce {
    /// Compares the disk with what it was. `left`: how a crash left it, if there was one since then.
    pub fn look(&mut self, disk: &MemoryStore, left: Option<MemoryStore>) -> Result<(), String> {
        if let Some(left) = left {
            self.look_at_disk(&left, true)?;
        }
        self.look_at_disk(disk, false)
    }

    /// `crashed`: its process has died, and may have lost what it had not synced.
    fn look_at_disk(&mut self, disk: &MemoryStore, crashed: bool) -> Result<(), String> {
        let files: BTreeMap<FilePath, Vec<u8>> = disk.snapshot();
        let mut present: HashMap<Vec<u8>, &[u8]> = HashMap::new();
        for (path, bytes) in files.iter().filter(|(path, bytes)| is_encrypted(path) && bytes.len() >= HEADER_BYTES) {
            let Ok(decoded) = SegmentHeader::decode(&bytes[..HEADER_BYTES]) else { continue };
            let header = bytes[..HEADER_BYTES].to_vec();
            // A rename that failed may leave the file under both names, whole under each.
            match present.insert(header.clone(), bytes) {
                Some(other) if other == bytes.as_slice() => continue,
                Some(_) => return Err(format!("{path}: two files have the same header and differ")),
                None => {}
            }
            self.look_at(path, bytes, header, &decoded, crashed)?;
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        path: &FilePath,
        bytes: &[u8],
        header: Vec<u8>,
        decoded: &SegmentHeader,
        crashed: bool,
    ) -> Result<(), String> {
        let is_new = !self.files.contains_key(&header);
        if is_new {
            self.headers += 1;
            if !self.segments.insert(decoded.segment.0) || !self.salts.insert(decoded.salt) {
                return Err(format!("{path}: its id or its salt was used before"));
            }
        }
        let in_vault = path.area == Area::Vault;
        let seen = self.files.entry(header).or_insert(Seen { bytes: 0, hash: hash(&[]), is_final: false });
        // A power loss takes what was not synced, and leaves zeros for some of its pages: nobody goes on with that file.
        let may_be_torn = crashed && !in_vault;
        if !may_be_torn && (bytes.len() < seen.bytes || hash(&bytes[..seen.bytes]) != seen.hash) {
            return Err(format!("{path}: bytes that were written have changed"));
        }
        if seen.is_final && bytes.len() > seen.bytes {
            return Err(format!("{path}: it grew from {} to {} bytes", seen.bytes, bytes.len()));
        }
        (seen.bytes, seen.hash) = (bytes.len(), hash(bytes));
        seen.is_final |= in_vault || crashed;
        Ok(())
    }
}

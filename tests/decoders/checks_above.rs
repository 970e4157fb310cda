//! The checks of decoders above `format`: those of `history`, `unlock`, `volume` and `cli`. See `checks.rs`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use super::checks::{Memory, within};
use super::support::{OWNER, ROOT, World};
use passkeyfs::cli::options::mount_options::MountChoices;
use passkeyfs::cli::options::size::{format_size, parse_memory_size, parse_size};
use passkeyfs::format::slot_file::{KeyFileName, epoch_key_file_name, slot_file_name};
use passkeyfs::format::{CommitId, DeviceId, EpochId, InodeNumber, Sequence, SlotId, VaultId};
use passkeyfs::history::DeviceState;
use passkeyfs::segments::ledger::{parse_file_name, vault_path};
use passkeyfs::store::{FilePath, MemoryStore};
use passkeyfs::unlock::assertion::{AuthenticatorData, FLAG_EXTENSIONS, encode_cose_key, signature_holds};
use passkeyfs::unlock::software_file::SoftwareFile;
use passkeyfs::unlock::{AuthenticatorChoice, KnownKeys, RecoveryCode};
use passkeyfs::volume::{SetAttributes, SetExtendedAttribute, Volume};

pub fn device_state(input: &[u8]) -> bool {
    let disk = MemoryStore::new();
    disk.deliver(&FilePath::state("device.json"), input);
    // The store's own copies come on top.
    let memory = Memory { base_bytes: 16 * 1024, ..Memory::LISTS };
    let Ok(Some(state)) = within(memory, input, |_| DeviceState::load(&disk)) else { return false };
    // What the fields' users rely on.
    assert!(state.device != DeviceId(0));
    assert!((1..1 << 40).contains(&state.inode_lease), "a lease of {:x}", state.inode_lease);
    assert!(state.next_sequence <= Sequence::MAX.0 + 1, "sequence {:x}", state.next_sequence);
    state.save(&disk).expect("a disk with room");
    assert_eq!(DeviceState::load(&disk).expect("a file of ours"), Some(state));
    true
}

pub fn known_keys(input: &[u8]) -> bool {
    let disk = MemoryStore::new();
    disk.deliver(&FilePath::state("vault-keys.json"), input);
    let memory = Memory { base_bytes: 16 * 1024, ..Memory::LISTS };
    let Ok(Some(known)) = within(memory, input, |_| KnownKeys::load(&disk)) else { return false };
    known.save(&disk).expect("a disk with room");
    assert_eq!(KnownKeys::load(&disk).expect("a file of ours"), Some(known));
    true
}

pub fn recovery_code(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Ok(code) = RecoveryCode::parse(text) else { return false };
    let again = RecoveryCode::parse(&code.text()).expect("a code of ours");
    assert_eq!(again.text(), code.text());
    true
}

pub fn authenticator_data(input: &[u8]) -> bool {
    let Ok(data) = within(Memory::LISTS, input, AuthenticatorData::decode) else { return false };
    let mut again = [&data.relying_party_hash[..], &[data.flags], &data.sign_counter.to_be_bytes()].concat();
    if let Some(attested) = &data.attested {
        again.extend(attested.aaguid);
        again.extend((attested.credential_id.len() as u16).to_be_bytes());
        again.extend(&attested.credential_id);
        again.extend(encode_cose_key(&attested.public_key));
    }
    assert!(input.starts_with(&again));
    assert_eq!(again.len() < input.len(), data.flags & FLAG_EXTENSIONS != 0);
    let _ = data.check("passkeyfs");
    true
}

/// A public key, then a signature over nothing.
pub fn signature(input: &[u8]) -> bool {
    let Some((public_key, signature)) = input.split_first_chunk() else { return false };
    signature_holds(public_key, b"data", &[5; 32], signature)
}

/// A file in memory, of this process and thread alone.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let shared_memory = PathBuf::from("/dev/shm");
        let folder = if shared_memory.is_dir() { shared_memory } else { std::env::temp_dir() };
        let name = format!("passkeyfs-decoders-{}-{:?}", std::process::id(), std::thread::current().id());
        Self(folder.join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub fn software_authenticator(input: &[u8]) -> bool {
    thread_local!(static SCRATCH: Scratch = Scratch::new());
    SCRATCH.with(|Scratch(path)| {
        std::fs::write(path, input).expect("a file for the test");
        let file = SoftwareFile::at(path);
        let memory = Memory { base_bytes: 16 * 1024, ..Memory::LISTS };
        let Ok(state) = within(memory, input, |_| file.read()) else { return false };
        let before = serde_json::to_vec(&state).expect("plain values");
        file.lock().expect("it was just read").save().expect("room for a file");
        let after = serde_json::to_vec(&file.read().expect("a file of ours")).expect("plain values");
        assert!(before == after, "the state changed while it was saved");
        true
    })
}

struct AclVolume {
    volume: Arc<Volume>,
    directory: InodeNumber,
    uses: u32,
}

impl AclVolume {
    fn new() -> Self {
        let volume = World::new(11).open();
        let directory = volume.make_directory(ROOT, b"d", &OWNER).expect("an empty volume").inode;
        Self { volume, directory, uses: 0 }
    }
}

/// A directory gets the list as its own and as its default; then its mode changes, and something is made in it.
pub fn access_control_list(input: &[u8]) -> bool {
    const ACCESS: &[u8] = b"system.posix_acl_access";
    const DEFAULT: &[u8] = b"system.posix_acl_default";
    thread_local!(static VOLUME: RefCell<Option<AclVolume>> = const { RefCell::new(None) });
    VOLUME.with_borrow_mut(|slot| {
        // A fresh one now and then: volumes remember.
        let used = slot.take().filter(|volume| volume.uses < 10_000).unwrap_or_else(AclVolume::new);
        let AclVolume { volume, directory, uses } = slot.insert(AclVolume { uses: used.uses + 1, ..used });
        let set = |name| volume.set_extended_attribute(*directory, name, input, SetExtendedAttribute::Any, false);
        let accepted = set(ACCESS).is_ok();
        assert_eq!(set(DEFAULT).is_ok(), accepted);
        if !accepted {
            return false;
        }
        for name in [ACCESS, DEFAULT] {
            if let Ok(value) = volume.extended_attribute(*directory, name) {
                assert_eq!(value, input);
            }
        }
        let chmod = SetAttributes { permissions: Some(0o750), ..SetAttributes::default() };
        volume.set_attributes(*directory, &chmod).expect("a directory that is there");
        let name = uses.to_le_bytes().map(|byte| byte % 26 + b'a');
        volume.make_directory(*directory, &name, &OWNER).expect("a new name");
        volume.remove_directory(*directory, &name).expect("the name just made");
        true
    })
}

pub fn mount_options(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let strict = within(Memory { base_bytes: 16 * 1024, factor: 128 }, input, |_| MountChoices::parse(&[text], false));
    let sloppy = MountChoices::parse(&[text], true);
    if strict.is_ok() {
        assert_eq!(sloppy, strict, "sloppiness changed what was fine");
    }
    let twice = MountChoices::parse(&[text, text], false);
    assert_eq!(twice.is_ok(), strict.is_ok());
    strict.is_ok()
}

pub fn size(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let _ = parse_memory_size(text);
    let Ok(bytes) = parse_size(text) else { return false };
    let _ = format_size(bytes);
    assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
    true
}

pub fn authenticator_choice(input: &[u8]) -> bool {
    std::str::from_utf8(input).is_ok_and(|text| text.parse::<AuthenticatorChoice>().is_ok())
}

pub fn segment_file_name(input: &[u8]) -> bool {
    let Some((text, (sequence, segment, kind))) = parsed(input, parse_file_name) else { return false };
    let path = vault_path(DeviceId(7), sequence, segment, kind);
    assert_eq!(path.name.rsplit('/').next(), Some(text));
    true
}

pub fn key_file_name(input: &[u8]) -> bool {
    let Some((text, name)) = parsed(input, KeyFileName::parse) else { return false };
    let again = match name {
        KeyFileName::Slot(slot) => slot_file_name(slot),
        KeyFileName::EpochKey(slot, epoch) => epoch_key_file_name(slot, epoch),
    };
    assert_eq!(again, text);
    true
}

fn parsed<T>(input: &[u8], parse: impl FnOnce(&str) -> Option<T>) -> Option<(&str, T)> {
    let text = std::str::from_utf8(input).ok()?;
    Some((text, parse(text)?))
}

pub fn ids(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    fn again<T: std::str::FromStr + ToString>(text: &str) -> bool {
        text.parse::<T>().is_ok_and(|id| {
            assert_eq!(id.to_string(), text);
            true
        })
    }
    // One bar, not two: all are tried.
    again::<DeviceId>(text)
        | again::<Sequence>(text)
        | again::<SlotId>(text)
        | again::<VaultId>(text)
        | again::<EpochId>(text)
        | again::<CommitId>(text)
}

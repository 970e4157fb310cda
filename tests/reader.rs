//! A second reader of a vault, after `docs/format.md` and with nothing of this crate: what the page says is enough to unlock the
//! golden vault, to verify every block in it, and to walk its newest tree.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aes::Aes256;
use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use base64ct::{Base64, Encoding as _};
use hmac::{Hmac, Mac};
use hpke::{Deserializable, Kem, OpModeR};
use serde_json::Value;
use sha2::{Digest, Sha256};

type X25519 = hpke::kem::X25519HkdfSha256;

const PAGE_BYTES: usize = 4096;
const DATA: u8 = 1;
const NODE: u8 = 2;
const VALUE: u8 = 3;
const CLOCK: u8 = 4;
const SUMMARY: u8 = 5;
const DIRECTORY_ENTRY: u8 = 5;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn base64(value: &Value) -> Vec<u8> {
    Base64::decode_vec(value.as_str().expect("text")).expect("base64")
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// L(x): its length as u64, and x.
fn lengths(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [&(part.len() as u64).to_le_bytes()[..], part].concat()).collect()
}

fn derive(context: &str, material: &[u8], bytes: usize) -> Vec<u8> {
    let mut derived = vec![0; bytes];
    blake3::Hasher::new_derive_key(context).update(material).finalize_xof().fill(&mut derived);
    derived
}

fn tag(key: &[u8], bytes: &[u8]) -> [u8; 16] {
    let hash = blake3::keyed_hash(key.try_into().expect("32 bytes"), bytes);
    hash.as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

fn block_of(bytes: &[u8]) -> Block<Aes256> {
    Block::<Aes256>::try_from(bytes).expect("16 bytes")
}

/// RFC 3394
fn unwrap_key(kek: &[u8], wrapped: &[u8]) -> Option<Vec<u8>> {
    let cipher = Aes256::new_from_slice(kek).expect("32 bytes");
    let (mut sum, mut rest) = (number(&wrapped[..8].iter().rev().copied().collect::<Vec<_>>()), wrapped[8..].to_vec());
    let count = rest.len() / 8;
    for step in (1..=6 * count).rev() {
        let part = &mut rest[(step - 1) % count * 8..][..8];
        let mut block = block_of(&[&(sum ^ step as u64).to_be_bytes(), &*part].concat());
        cipher.decrypt_block(&mut block);
        sum = u64::from_be_bytes(block[..8].try_into().expect("8 bytes"));
        part.copy_from_slice(&block[8..]);
    }
    (sum == 0xa6a6_a6a6_a6a6_a6a6).then_some(rest)
}

/// AES-256-XTS of whole blocks: the unit's number is the offset in the file by 16.
fn decrypt(keys: &[u8], offset: usize, ciphertext: &[u8]) -> Vec<u8> {
    let [data, tweaks] = [&keys[..32], &keys[32..]].map(|key| Aes256::new_from_slice(key).expect("32 bytes"));
    let mut tweak = block_of(&((offset / 16) as u128).to_le_bytes());
    tweaks.encrypt_block(&mut tweak);
    let mut tweak = u128::from_le_bytes(tweak.as_slice().try_into().expect("16 bytes"));
    let mut plain = Vec::new();
    for chunk in ciphertext.chunks(16) {
        let mask = tweak.to_le_bytes();
        let mixed: Vec<u8> = chunk.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        let mut block = block_of(&mixed);
        data.decrypt_block(&mut block);
        plain.extend(block.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        tweak = tweak << 1 ^ if tweak >> 127 == 1 { 0x87 } else { 0 };
    }
    plain
}

/// The vault key of each epoch, from the files of the folder and the authenticator's.
fn unlock(vault: &Path, authenticator: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let raw = fs::read(vault.join("vault.json")).expect("read");
    let id = hex(json(&raw)["vault"].as_str().expect("text"));
    let sent = Sha256::digest([b"WebAuthn PRF\0".to_vec(), base64(&json(&raw)["salt"])].concat());
    let credentials = json(&fs::read(authenticator).expect("read"))["credentials"].clone();
    let files: Vec<PathBuf> =
        fs::read_dir(vault.join("keys")).expect("listed").map(|entry| entry.expect("read").path()).collect();
    let mut keys = BTreeMap::new();
    for slot in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let slot = json(&fs::read(slot).expect("read"));
        let public = base64(&slot["public"]);
        assert_eq!(base64(&slot["vault"]), raw, "a slot file repeats vault.json");
        let (name, passkey) = (json(&public)["slot"].clone(), json(&public)["method"]["passkey"].clone());
        let is_meant = |one: &&Value| base64(&one["id"]) == base64(&passkey["credential_id"]);
        let credential = credentials.as_array().expect("a list").iter().find(is_meant).expect("the key's credential");
        let random = match passkey["user_verified"].as_bool().expect("a bit") {
            true => base64(&credential["random_with_verification"]),
            false => base64(&credential["random_without_verification"]),
        };
        let mut secret = Hmac::<Sha256>::new_from_slice(&random).expect("a key");
        secret.update(&sent);
        let secret = secret.finalize().into_bytes();
        let material = lengths(&[&secret, blake3::hash(&raw).as_bytes(), &public]);
        let kek = derive("passkeyfs v1 2026 slot wrapping", &material, 32);
        let private = unwrap_key(&kek, &base64(&slot["wrapped"])).expect("unwrapped");
        let private = <X25519 as Kem>::PrivateKey::from_bytes(&private).expect("a private key");
        for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "key")) {
            let file = fs::read(path).expect("read");
            assert_eq!((file.len(), &file[..10]), (130, &b"pkfs-key\x01\0"[..]));
            assert_eq!((&file[10..26], &file[26..34]), (&id[..], &hex(name.as_str().expect("text"))[..]));
            let encapped = <X25519 as Kem>::EncappedKey::from_bytes(&file[50..82]).expect("a public key");
            let key = hpke::single_shot_open::<hpke::aead::ChaCha20Poly1305, hpke::kdf::HkdfSha256, X25519>(
                &OpModeR::Base,
                &private,
                &encapped,
                &file[10..50],
                &file[82..],
                b"",
            );
            keys.insert(file[34..50].to_vec(), key.expect("opened"));
        }
    }
    keys
}

/// A segment that was read, with what opens it.
struct Segment {
    bytes: Vec<u8>,
    key: Vec<u8>,
    page: Vec<u8>,
}

impl Segment {
    fn read(path: &Path, keys: &BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let bytes = fs::read(path).expect("read");
        let header = &bytes[..128];
        assert_eq!((&header[..10], &header[11..16]), (&b"PKFSSEG1\x01\0"[..], &[0; 5][..]));
        let key = keys[&header[32..48]].clone();
        let offset = bytes.len() - PAGE_BYTES;
        let (found, ciphertext) = bytes[offset..].split_at(16);
        let covered = lengths(&[b"last page", header, &(offset as u64).to_le_bytes(), ciphertext]);
        assert_eq!(found, tag(&derive("passkeyfs v1 2026 page tag", &key, 32), &covered), "{}", path.display());
        let page = decrypt(&Self::cipher_keys(&key, header), offset + 16, ciphertext);
        assert_eq!(page[0], header[10], "the page repeats the kind");
        Self { page, key, bytes }
    }

    fn id(&self) -> u64 {
        number(&self.bytes[64..72])
    }

    fn cipher_keys(key: &[u8], header: &[u8]) -> Vec<u8> {
        derive("passkeyfs v1 2026 segment cipher", &[key, &header[64..88]].concat(), 64)
    }

    /// The block that the last 24 bytes of a pointer lead to, if its tag is right and its filling zero.
    fn block(&self, kind: u8, pointer: &[u8]) -> Vec<u8> {
        let (offset, length) = (number(&pointer[..4]) as usize * 16, number(&pointer[4..7]) as usize);
        let ciphertext = &self.bytes[offset..offset + length.next_multiple_of(16)];
        let plain = decrypt(&Self::cipher_keys(&self.key, &self.bytes[..128]), offset, ciphertext);
        let (stored, filling) = plain.split_at(length);
        assert!(filling.iter().all(|byte| *byte == 0));
        let mut covered = stored.to_vec();
        covered.resize(length.max(16), 0);
        covered.extend([kind, pointer[7]]);
        covered.extend((length as u32).to_le_bytes());
        assert_eq!(tag(&derive("passkeyfs v1 2026 block tag", &self.key, 32), &covered), pointer[8..24]);
        match pointer[7] {
            0 => stored.to_vec(),
            _ => zstd::bulk::decompress(stored, 16 << 20).expect("one frame"),
        }
    }

    /// Verifies all blocks, by the summary; how many there are of each kind.
    fn verify(&self) -> BTreeMap<u8, usize> {
        assert_eq!(number(&self.page[16..24]), self.id(), "the summary lies in its own segment");
        let summary = self.block(SUMMARY, &self.page[24..48]);
        assert_eq!(summary.len(), 44 * number(&self.page[8..16]) as usize);
        let mut kinds = BTreeMap::new();
        for entry in summary.chunks(44) {
            self.block(entry[0], &entry[20..44]);
            *kinds.entry(entry[0]).or_default() += 1;
        }
        kinds
    }
}

/// All items of a tree, in order: key and value.
fn walk(segments: &BTreeMap<u64, Segment>, pointer: &[u8], items: &mut Vec<([u8; 17], Vec<u8>)>) {
    let follow = |kind, pointer: &[u8]| segments[&number(&pointer[..8])].block(kind, &pointer[8..32]);
    let node = follow(NODE, pointer);
    let (level, count) = (node[0], number(&node[1..3]));
    let (mut at, mut key) = (3, [0; 17]);
    let mut take = |bytes: usize| {
        at += bytes;
        &node[at - bytes..at]
    };
    for entry in 0..count {
        let shared = usize::from(take(1)[0]);
        assert!(entry % 16 != 0 || shared == 0);
        key[shared..].copy_from_slice(take(17 - shared));
        if level > 0 {
            walk(segments, take(32), items);
            continue;
        }
        if key[8] != 6 {
            take(16);
        }
        let value = match number(take(2)) {
            0xffff => {
                let length = number(take(4)) as usize;
                let value = follow(VALUE, take(32));
                assert_eq!(value.len(), length);
                value
            }
            length => take(length as usize).to_vec(),
        };
        items.push((key, value));
    }
    assert_eq!(at, node.len());
}

#[test]
fn a_reader_made_after_the_page_on_the_format_verifies_and_walks_the_golden_vault() {
    let vault = golden("vault");
    let keys = unlock(&vault, &golden("authenticator.json"));
    let mut segments = BTreeMap::new();
    let (mut kinds, mut newest) = (BTreeMap::new(), None);
    for device in fs::read_dir(vault.join("devices")).expect("listed") {
        for folder in fs::read_dir(device.expect("read").path()).expect("listed") {
            for file in fs::read_dir(folder.expect("read").path()).expect("listed") {
                let segment = Segment::read(&file.expect("read").path(), &keys);
                segment.verify().into_iter().for_each(|(kind, count)| *kinds.entry(kind).or_insert(0) += count);
                if segment.page[48] == 1 {
                    assert_eq!(segment.page[49..65], [0; 16], "it needs no features");
                    let commit = segment.page[65..].to_vec();
                    newest = newest.max(Some((number(&commit[..8]), commit)));
                }
                segments.insert(segment.id(), segment);
            }
        }
    }
    assert!([DATA, NODE, VALUE, CLOCK].iter().all(|kind| kinds.contains_key(kind)), "{kinds:?}");
    let (_, commit) = newest.expect("a commit");
    assert_eq!(commit[68], 1, "it has a root");
    let mut items = Vec::new();
    walk(&segments, &commit[69..101], &mut items);
    assert!(items.is_sorted());
    let clock = &commit[101..133];
    let clock = segments[&number(&clock[..8])].block(CLOCK, &clock[8..]);
    assert_eq!(&clock[8..32], &commit[..24], "the only device's entry is the commit itself");
    assert_eq!(clock[32..], [0; 16], "whose page has no tag yet");
    let mut names = Vec::new();
    for (_, list) in items.iter().filter(|(key, _)| key[8] == DIRECTORY_ENTRY) {
        let mut rest = &list[..];
        while !rest.is_empty() {
            let length = number(&rest[9..11]) as usize;
            names.push(String::from_utf8_lossy(&rest[11..11 + length]).into_owned());
            rest = &rest[11 + length..];
        }
    }
    let manifest = fs::read_to_string(golden("manifest.txt")).expect("read");
    let paths = manifest.lines().filter(|line| line.starts_with('/')).count();
    assert_eq!(names.len(), paths - 1, "all that was walked but the root");
    assert!(["attributes", "moved", "file 130"].iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
}

//! Known answers: published vectors, the crate `xts-mode` as the oracle of our XTS, and our own derivations recomputed
//! from their description.
//!
//! Sources: IEEE 1619-2007 (vector 10), Wycheproof `aes_xts_test.json` (tests 53, 65, 77 and 78), BLAKE3
//! `test_vectors.json`, RFC 3394 (4.6), RFC 7748 (6.1).

use aes::Aes256;
use aes::cipher::KeyInit;
use xts_mode::{Xts128, get_tweak_default};

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    let digit = |byte: &u8| char::from(*byte).to_digit(16).expect("a hex digit") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().expect("hex of that length")
}

fn oracle(key: &[u8; 64]) -> Xts128<Aes256> {
    let half = |half: &[u8]| Aes256::new_from_slice(half).expect("32 bytes");
    Xts128::new(half(&key[..32]), half(&key[32..]))
}

/// IEEE 1619-2007, vector 10: XTS-AES-256, data unit 0xff of 512 bytes. The keys are digits of e and pi.
const IEEE_VECTOR_10: (&str, &str) = (
    "27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197169399375105820974944592",
    "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd\
     5776926c49a3095eb108fd1098baec70aaa66999a72a82f27d848b21d4a741b0c5cd4d5fff9dac89aeba122961d03a757123e9870f8acf1000020887891429ca\
     2a3e7a7d7df7b10355165c8b9a6d0a7de8b062c4500dc4cd120c0f7418dae3d0b5781c34803fa75421c790dfe1de1834f280d7667b327f6c8cd7557e12ac3a0f\
     93ec05c52e0493ef31a12d3d9260f79a289d6a379bc70c50841473d1a8cc81ec583e9645e07b8d9670655ba5bbcfecc6dc3966380ad8fecb17b6ba02469a020a\
     84e18e8f84252070c13e9f1f289be54fbc481457778f616015e1327a02b140f1505eb309326d68378f8374595c849d84f4c333ec4423885143cb47bd71c5edae\
     9be69a2ffeceb1bec9de244fbe15992b11b77c040f12bd8f6a975a44a0f90c29a9abc3d4d893927284c58754cce294529f8614dcd2aba991925fedc4ae74ffac\
     6e333b93eb4aff0479da9a410e4450e0dd7ae4c6e2910900575da401fc07059f645e8b7e9bfdef33943054ff84011493c27b3429eaedb4ed5376441a77ed4385\
     1ad77f16f541dfd269d50d6a5f14fb0aab1cbb4c1550be97f7ab4066193c4caa773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151",
);

/// Wycheproof: key, unit number as its bytes lie in the tweak, plaintext, ciphertext. 16 bytes, 28 and 136 with a rest
/// (136 is beyond the short units), and 128 without.
const WYCHEPROOF: [(&str, &str, &str, &str); 4] = [
    (
        "13d69212ec8bb00ed412f66b9c9faccf84449a6e59b0ab1a8f82ec4684b16d67556a5a0271666c957024192c1d35a9c09727bf4beb78b05a013bf8b7e932c15e",
        "595f2e870659f228",
        "438fb4c4c0c5a0f48bb8566d1fd28b0c",
        "5e349fc677214491c57b86a1dd9b534d",
    ),
    (
        "b81719157218b29d9058b8f2fd99952ee9590a4f58dcad6bcdce912c7c47cdd180cd13003757f8cdca33a936fa1d62bbd2e9dc823705532002445fc3c48d6eee",
        "5128b55710b9cfb0",
        "30b7b22121293d69a42113403b39fe24020c72c4b6142dcf0aa6081c",
        "3174ef3c9333997b4343a0b04e1f672134f9c214f1ba29a6669ee61a",
    ),
    (
        "49ecc17e0f6056e80fac1f23da670d723f5b0201978b17e4311f6af134d455d35adf34da223b973de274ac804669cf778b2e10fd88ad65f2f73dc82a0597a2e1",
        "df096285442ace33",
        "d0d00ed93004130b12e09d0c5393b2b8a73bbc62ea4f532438f7f56c6b9f08cc483c33990a1df69234de412e6a95d5d91798f1fd01583a8e5a1ca7a9b1447375\
         5826f8937a0f2b1f05261af18033d7a49c3403edfc8dcc2f6d144c435dfcc2fb905555075556666aa58848c163a21fc93d2b7f4e339609d5be20bb591f65874e",
        "9ae6dc38454632342b4635e52bd912b0a0d836e69ebde2e538f461eba68429f850ea6d138a1481864f7f559e41c036968ebccc6648d151689a119741af5e0f2d\
         d5ab215c0bbe6290e248c059435c712f480f26471ec4cbe54b325bd3e7fe8566d047019b2bbbb6364efe110fa9c753fd8d21a35a9c356d66e8fc03b99712b559",
    ),
    (
        "d5ad13f8a2c1cf284b08d1f9d16b91f3c4d365a1411f6485ff05f7331662000b6a43ff43095d244950a1fdb77b91877244c6dbe4abb25aee22667999ee0e6706",
        "9f0319a12d82c757",
        "f51b41baee9caf66ee34f92f09ec53a952ec6b5331d1dc95f7f5ea3e98365eaafdb55c0df79a84a0f3320cf994db270132b5208fd56a461066a82771d82a02ce\
         f0ad9454cde88b5e481774176ea183072ee2ead1fb5a43c4ea02ea648969fc9703e638c1802dc627434a57a73d72f9d751a34896ddfb0a3fea3fc50386a34024\
         6c7638912c39e3c7",
        "e8591535837545a9e40c59d21f2c93ae615b13adb19e894c4e7752b99a6eee176baf79fd994d3c3bbac5ec78e10e3e19cfd1225691c717e6e9f4b6801bcb8b43\
         41972a11af9bd1629e3b0875cbc215f05fda355c4c8c46714818134108eeff350dc0cf100b7bd666a70029262982ec85d63fc69466545170353cef38fc7241d5\
         317e223273d4f8ef",
    ),
];

fn check_xts(key: &str, unit: u64, plaintext: &[u8], ciphertext: &[u8]) {
    let cipher = UnitCipher::new(&Secret::new(array(key)));
    let mut buffer = plaintext.to_vec();
    cipher.encrypt(unit, &mut buffer);
    assert_eq!(buffer, ciphertext);
    cipher.decrypt(unit, &mut buffer);
    assert_eq!(buffer, plaintext);
}

#[test]
fn xts_gives_the_standards_ciphertext() {
    let plaintext: Vec<u8> = (0..512).map(|index| index as u8).collect();
    check_xts(IEEE_VECTOR_10.0, 0xff, &plaintext, &bytes(IEEE_VECTOR_10.1));
}

#[test]
fn xts_gives_wycheproofs_ciphertext_with_and_without_stealing() {
    for (key, unit, plaintext, ciphertext) in WYCHEPROOF {
        check_xts(key, u64::from_le_bytes(array(unit)), &bytes(plaintext), &bytes(ciphertext));
    }
}

#[test]
fn xts_agrees_with_the_oracle_at_every_length() {
    let randomness = SeededRandomness::new(1619);
    let lengths = (16..=300).chain((0..60).map(|_| 16 + (randomness.u64() % 69_985) as usize)).chain([
        1023, 1024, 1025, 1039, 1040, 1041, 2048, 4095, 4096, 4097, 65_519, 65_520, 65_521, 65_536, 65_537, 70_000,
    ]);
    for length in lengths {
        let (key, unit) = (randomness.array(), randomness.u64());
        let (cipher, oracle) = (UnitCipher::new(&Secret::new(key)), oracle(&key));
        let mut original = vec![0; length];
        randomness.fill(&mut original);
        let (mut ours, mut theirs) = (original.clone(), original.clone());
        cipher.encrypt(unit, &mut ours);
        oracle.encrypt_sector(&mut theirs, get_tweak_default(unit.into()));
        assert!(ours == theirs, "encryption of {length} bytes differs from the oracle's");
        cipher.decrypt(unit, &mut ours);
        assert!(ours == original, "{length} bytes do not come back");
        // Bytes that no one encrypted, too: decryption must not depend on encryption having come first.
        cipher.decrypt(unit, &mut ours);
        oracle.decrypt_sector(&mut original, get_tweak_default(unit.into()));
        assert!(ours == original, "decryption of {length} bytes differs from the oracle's");
    }
}

#[test]
#[should_panic(expected = "at least 16 bytes")]
fn a_unit_too_short_for_xts_is_refused() {
    UnitCipher::new(&Secret::new([1; 64])).encrypt(0, &mut [0; 15]);
}

#[test]
fn blake3_gives_the_published_hashes() {
    for (length, plain, keyed, derived) in [
        (
            0,
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
            "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d905630c8be290dfcf3e6842f13bddd573c098c3f17361f1f206b8cad9d088aa4",
        ),
        (
            1,
            "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
            "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
            "b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c5827b91bf889b6b97c5477f535361caefca0b5d8c4746441c57617111933158950",
        ),
        (
            1025,
            "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
            "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69",
            "effaa245f065fbf82ac186839a249707c3bddf6d3fdda22d1b95a3c970379bcb5d31013a167509e9066273ab6e2123bc835b408b067d88f96addb550d96b6852",
        ),
    ] {
        let input: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        assert_eq!(hash(&input), array(plain));
        assert_eq!(blake3::keyed_hash(b"whats the Elvish word for friend", &input), array(keyed));
        let key: Secret<64> = keys::derive("BLAKE3 2019-12-27 16:29:52 test vectors context", &[&input]);
        assert_eq!(key.expose(), &bytes(derived)[..64]);
    }
}

#[test]
fn key_wrapping_gives_the_rfcs_bytes() {
    let kek = Secret::new(array("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"));
    let key = Secret::new(array("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f"));
    let wrapped = array("28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21");
    assert_eq!(wrap_key(&kek, &key), wrapped);
    assert_eq!(unwrap_key(&kek, &wrapped).expect("the right key").expose(), key.expose());
}

#[test]
fn a_sealing_pair_is_an_x25519_pair() {
    let secret = Secret::new(array("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
    let pair = SealingKeyPair::from_secret(secret);
    assert_eq!(pair.public, array("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
}

#[test]
fn what_an_epoch_key_gives_is_what_its_description_says() {
    let epoch: [u8; 32] = std::array::from_fn(|index| index as u8);
    let key = EpochKey::from_bytes(&epoch);
    let (segment, salt, content) = (0x0123_4567_89ab_cdef_u64, [0xa5; 16], b"a plain block of a file");

    let mut xts_key = [0; 64];
    let mut hasher = blake3::Hasher::new_derive_key("passkeyfs v1 2026 segment cipher");
    hasher.update(&epoch).update(&segment.to_le_bytes()).update(&salt).finalize_xof().fill(&mut xts_key);
    let (mut ours, mut theirs) = (*content, *content);
    key.unit_cipher(segment, &salt).encrypt(0x1_0000_0000, &mut ours);
    oracle(&xts_key).encrypt_sector(&mut theirs, get_tweak_default(0x1_0000_0000));
    assert_eq!(ours, theirs);

    let tag_key = blake3::derive_key("passkeyfs v1 2026 block tag", &epoch);
    let hashed = [content.as_slice(), &[1, 0], &23u32.to_le_bytes()].concat();
    let expected = blake3::keyed_hash(&tag_key, &hashed);
    assert_eq!(key.block_tagger().tag(1, 0, content).as_bytes(), &expected.as_bytes()[..16]);
    let hashed = [b"short".as_slice(), &[0; 11], &[2, 1], &5u32.to_le_bytes()].concat();
    let expected = blake3::keyed_hash(&tag_key, &hashed);
    assert_eq!(key.block_tagger().tag(2, 1, b"short").as_bytes(), &expected.as_bytes()[..16]);

    let page_key = blake3::derive_key("passkeyfs v1 2026 page tag", &epoch);
    let hashed = [5u64.to_le_bytes().as_slice(), b"vault", &4u64.to_le_bytes(), b"page"].concat();
    let expected = blake3::keyed_hash(&page_key, &hashed);
    assert_eq!(key.page_authenticator().tag(&[b"vault", b"page"]).as_bytes(), &expected.as_bytes()[..16]);
}

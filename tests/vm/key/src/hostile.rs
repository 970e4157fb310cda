//! What a broken or malicious key does instead of replying. The script's file `hostile` says `MODE STAGE`.
//!
//! | mode | the key |
//! | --- | --- |
//! | `silent` | never answers |
//! | `flood` | sends keepalives without a pause, for ever |
//! | `babble` | sends random packets for ever |
//! | `stranger` | sends well-formed replies on a channel that is not the host's, for ever |
//! | `short` | replies with no byte at all |
//! | `cut` | replies with success and CBOR that ends in the middle |
//! | `endless` | announces 65535 bytes and sends continuations for ever |
//! | `gone` | is pulled out |
//! | `lost` | does what it is told, and replies as `cut` |
//!
//! | stage | at which message |
//! | --- | --- |
//! | `init` | every CTAPHID INIT, so that not even a channel is given |
//! | `info` | authenticatorGetInfo |
//! | `pin` | every authenticatorClientPIN |
//! | `token` | the one that brings the PIN |
//! | `assert` | authenticatorGetAssertion |
//! | `all` | every CTAP2 command |

use std::time::Duration;
use std::{iter, thread};

use ctaphid_app::Command;
use rand_core::{OsRng, RngCore};

use crate::script::Script;
use crate::uhid::{PACKET_BYTES, Packet};
use crate::wire::{Wire, initial, next};

const GET_ASSERTION: u8 = 0x02;
const GET_INFO: u8 = 0x04;
const CLIENT_PIN: u8 = 0x06;
/// getPinToken and getPinUvAuthTokenUsingPinWithPermissions (CTAP 2.1, section 6.5.5).
const PIN_SUBCOMMANDS: [u8; 2] = [0x05, 0x09];
/// Where a subcommand stands in canonical CBOR: {1: protocol, 2: subcommand, …}.
const SUBCOMMAND_AT: usize = 5;
/// Success, and the beginning of a map that goes on with bytes.
const CUT: [u8; 4] = [0, 0xa5, 0x01, 0x58];
/// Pause between packets of a flood: more than any reader takes, and the guest's processors stay usable.
const FLOOD_PAUSE: Duration = Duration::from_micros(200);

/// How far a conversation has come.
#[derive(Clone, Copy)]
pub enum Stage<'a> {
    /// A channel is asked for.
    Init,
    /// A CTAP2 message.
    Command(&'a [u8]),
}

impl Stage<'_> {
    fn is(self, word: &str) -> bool {
        let Self::Command(message) = self else { return word == "init" };
        let brings_pin = message.get(SUBCOMMAND_AT).is_some_and(|subcommand| PIN_SUBCOMMANDS.contains(subcommand));
        match (message.first(), word) {
            (_, "all") | (Some(&GET_INFO), "info") | (Some(&GET_ASSERTION), "assert") => true,
            (Some(&CLIENT_PIN), "pin") => true,
            (Some(&CLIENT_PIN), "token") => brings_pin,
            _ => false,
        }
    }
}

/// The reply that goes out instead, where the script says that the true one is lost.
pub fn lost(script: &Script, stage: Stage) -> Option<Vec<u8>> {
    script.hostile().filter(|(mode, word)| mode == "lost" && stage.is(word))?;
    script.log("hostile: lost");
    Some(CUT.to_vec())
}

/// Does what the script says for this stage. False if it says nothing: then the key replies as it should.
pub fn misbehave(script: &Script, wire: &Wire, stage: Stage, channel: u32, command: u8) -> bool {
    let hostile = script.hostile().filter(|(mode, word)| mode != "lost" && stage.is(word));
    let Some((mode, _)) = hostile else { return false };
    script.log(&format!("hostile: {mode}"));
    match mode.as_str() {
        "silent" => for_ever(wire, iter::empty),
        "flood" => for_ever(wire, || iter::once(initial(channel, Command::KeepAlive.into_u8(), 1, &[1]))),
        "babble" => for_ever(wire, || iter::once(random_packet())),
        "stranger" => for_ever(wire, || iter::once(initial(channel ^ 0x55, command, 1, &[0]))),
        "endless" => {
            wire.packets([initial(channel, command, u16::MAX, &[0])]);
            let mut sequence = 0;
            for_ever(wire, || {
                sequence = (sequence + 1) & 0x7f;
                iter::once(next(channel, sequence, &[0]))
            })
        }
        "short" => wire.packets([initial(channel, command, 0, &[])]),
        "cut" => wire.packets([initial(channel, command, 4, &CUT)]),
        "gone" => std::process::exit(0),
        other => script.log(&format!("hostile: there is no mode {other}")),
    }
    true
}

fn for_ever<I: Iterator<Item = Packet>>(wire: &Wire, mut packets: impl FnMut() -> I) -> ! {
    loop {
        wire.packets(packets());
        thread::sleep(FLOOD_PAUSE);
    }
}

fn random_packet() -> Packet {
    let mut packet = [0; PACKET_BYTES];
    OsRng.fill_bytes(&mut packet);
    packet
}

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
//!
//! | stage | at which message |
//! | --- | --- |
//! | `init` | every CTAPHID INIT, so that not even a channel is given |
//! | `info` | authenticatorGetInfo |
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
/// Pause between packets of a flood: more than any reader takes, and the guest's processors stay usable.
const FLOOD_PAUSE: Duration = Duration::from_micros(200);

/// How far a conversation has come.
#[derive(Clone, Copy)]
pub enum Stage {
    /// A channel is asked for.
    Init,
    /// A CTAP2 command, by its number.
    Command(u8),
}

impl Stage {
    fn is(self, word: &str) -> bool {
        match self {
            Self::Init => word == "init",
            Self::Command(GET_INFO) => word == "info" || word == "all",
            Self::Command(GET_ASSERTION) => word == "assert" || word == "all",
            Self::Command(_) => word == "all",
        }
    }
}

/// Does what the script says for this stage. False if it says nothing: then the key replies as it should.
pub fn misbehave(script: &Script, wire: &Wire, stage: Stage, channel: u32, command: u8) -> bool {
    let Some((mode, _)) = script.hostile().filter(|(_, word)| stage.is(word)) else { return false };
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
        "cut" => wire.packets([initial(channel, command, 4, &[0, 0xa5, 0x01, 0x58])]),
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

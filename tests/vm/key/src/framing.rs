//! Packets to messages, and the answers that need no authenticator (CTAP 2.1 §11.2).

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, mpsc};

use ctaphid_app::Command;

use crate::finger::CANCELLED;
use crate::hostile::{self, Stage};
use crate::script::Script;
use crate::uhid::{Packet, Uhid};
use crate::wire::{FIRST_BYTES, NEXT_BYTES, Wire};

/// The longest message that 64-byte packets can carry.
pub const MESSAGE_BYTES_MAX: usize = 7609;
const BROADCAST: u32 = 0xffff_ffff;

const INVALID_COMMAND: u8 = 0x01;
const INVALID_LENGTH: u8 = 0x03;
const INVALID_SEQUENCE: u8 = 0x04;
const CHANNEL_BUSY: u8 = 0x06;
const INVALID_CHANNEL: u8 = 0x0b;

/// A whole message for the authenticator.
pub struct Message {
    /// Whom the reply goes to.
    pub channel: u32,
    /// CBOR (CTAP2) or MSG (CTAP1).
    pub command: Command,
    /// What it carries.
    pub data: Vec<u8>,
}

/// A message that is not whole yet.
struct Partial {
    channel: u32,
    command: u8,
    announced_bytes: usize,
    data: Vec<u8>,
    sequence: u8,
}

/// The reading side of the key.
pub struct Framing {
    /// Where answers go.
    pub wire: Wire,
    /// Where whole messages go.
    pub messages: mpsc::Sender<Message>,
    /// The channel that the authenticator works for.
    pub busy_with: Arc<Mutex<Option<u32>>>,
    /// What the test wants.
    pub script: &'static Script,
}

impl Framing {
    /// Reads packets until the process ends.
    pub fn run(self, mut uhid: Uhid) {
        let mut channels = 0;
        let mut partial: Option<Partial> = None;
        loop {
            let packet = uhid.read().expect("/dev/uhid gives packets");
            if packet[4] & 0x80 != 0 {
                if let Some(started) = self.initial(&packet, &mut channels, &partial) {
                    partial = Some(started);
                }
            } else if !self.continuation(&packet, &mut partial) {
                partial = None;
            }
            if let Some(whole) = partial.take_if(|partial| partial.data.len() == partial.announced_bytes) {
                self.whole(whole);
            }
        }
    }

    /// An initial packet; gives back the message that it starts, unless it is answered at once.
    fn initial(&self, packet: &Packet, channels: &mut u32, partial: &Option<Partial>) -> Option<Partial> {
        let channel = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
        let command = packet[4] & 0x7f;
        let announced_bytes = u16::from_be_bytes([packet[5], packet[6]]) as usize;
        let busy = *self.busy_with.lock().expect("no thread panics with it");
        if command == Command::Cancel.into_u8() {
            if busy == Some(channel) {
                CANCELLED.store(true, SeqCst);
            }
        } else if command == Command::Init.into_u8() && announced_bytes == 8 {
            if !hostile::misbehave(self.script, &self.wire, Stage::Init, channel, command) {
                *channels += u32::from(channel == BROADCAST);
                let given = if channel == BROADCAST { *channels } else { channel };
                let mut reply = packet[7..15].to_vec();
                reply.extend(given.to_be_bytes());
                reply.extend([2, 0, 1, 0, 0x05]); // CTAPHID 2, firmware 0.1.0, WINK and CBOR
                self.wire.send(channel, command, &reply);
            }
        } else if channel == 0 || channel == BROADCAST {
            self.wire.error(channel, INVALID_CHANNEL);
        } else if busy.is_some() || partial.as_ref().is_some_and(|partial| partial.channel != channel) {
            self.wire.error(channel, CHANNEL_BUSY);
        } else if announced_bytes > MESSAGE_BYTES_MAX {
            self.wire.error(channel, INVALID_LENGTH);
        } else {
            let data = packet[7..7 + announced_bytes.min(FIRST_BYTES)].to_vec();
            return Some(Partial { channel, command, announced_bytes, data, sequence: 0 });
        }
        None
    }

    /// A continuation; false if it ends the message without completing it.
    fn continuation(&self, packet: &Packet, partial: &mut Option<Partial>) -> bool {
        let Some(partial) = partial else { return true };
        if packet[..4] != partial.channel.to_be_bytes() {
            return true;
        }
        if packet[4] != partial.sequence {
            self.wire.error(partial.channel, INVALID_SEQUENCE);
            return false;
        }
        partial.sequence += 1;
        let missing_bytes = partial.announced_bytes - partial.data.len();
        partial.data.extend(&packet[5..5 + missing_bytes.min(NEXT_BYTES)]);
        true
    }

    fn whole(&self, message: Partial) {
        let Partial { channel, command, data, .. } = message;
        match Command::try_from(command) {
            Ok(Command::Ping | Command::Wink) => self.wire.send(channel, command, &data),
            Ok(command @ (Command::Cbor | Command::Msg)) => {
                CANCELLED.store(false, SeqCst);
                *self.busy_with.lock().expect("no thread panics with it") = Some(channel);
                self.messages.send(Message { channel, command, data }).expect("the main thread serves");
            }
            _ => self.wire.error(channel, INVALID_COMMAND),
        }
    }
}

//! Messages to packets (CTAP 2.1 §11.2.4): one initial packet, then numbered continuations.

use std::sync::{Arc, Mutex};

use ctaphid_app::Command;

use crate::uhid::{PACKET_BYTES, Packet, Uhid};

/// The payload of an initial packet, and of a continuation.
pub const FIRST_BYTES: usize = PACKET_BYTES - 7;
/// See there.
pub const NEXT_BYTES: usize = PACKET_BYTES - 5;

/// The way to the host, shared by the threads that answer.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<Uhid>>);

impl Wire {
    /// Writes to this device.
    pub fn new(uhid: Uhid) -> Self {
        Self(Arc::new(Mutex::new(uhid)))
    }

    /// One whole message.
    pub fn send(&self, channel: u32, command: u8, data: &[u8]) {
        let (first, rest) = data.split_at(data.len().min(FIRST_BYTES));
        self.packets(
            std::iter::once(initial(channel, command, data.len() as u16, first))
                .chain(rest.chunks(NEXT_BYTES).enumerate().map(|(sequence, part)| next(channel, sequence as u8, part))),
        );
    }

    /// Packets as they are, with none of another thread's between them.
    pub fn packets(&self, packets: impl IntoIterator<Item = Packet>) {
        let mut uhid = self.0.lock().expect("no thread panics with it");
        packets.into_iter().for_each(|packet| uhid.write(&packet).expect("/dev/uhid takes packets"));
    }

    /// A CTAPHID error.
    pub fn error(&self, channel: u32, code: u8) {
        self.send(channel, Command::Error.into_u8(), &[code]);
    }
}

/// An initial packet that announces so many bytes, whatever it carries.
pub fn initial(channel: u32, command: u8, announced_bytes: u16, data: &[u8]) -> Packet {
    let mut packet = [0; PACKET_BYTES];
    packet[..4].copy_from_slice(&channel.to_be_bytes());
    packet[4] = 0x80 | command;
    packet[5..7].copy_from_slice(&announced_bytes.to_be_bytes());
    packet[7..7 + data.len()].copy_from_slice(data);
    packet
}

/// A continuation.
pub fn next(channel: u32, sequence: u8, data: &[u8]) -> Packet {
    let mut packet = [0; PACKET_BYTES];
    packet[..4].copy_from_slice(&channel.to_be_bytes());
    packet[4] = sequence & 0x7f;
    packet[5..5 + data.len()].copy_from_slice(data);
    packet
}

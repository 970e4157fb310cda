//! CTAPHID: messages in packets of 64 bytes, over any [`Packets`] (CTAP 2.1, section 11.2).
//!
//! ```text
//! first packet         channel (4) ‖ command | 0x80 ‖ length u16 BE ‖ data (57)
//! continuation         channel (4) ‖ sequence, from 0 ‖ data (59)
//! ```
//! Written by ourselves, beside the crate that knows it too, for the commands that wait for a person: here a wait has a
//! limit and can be cancelled, packets of other channels (other programs) are passed over, keepalives are taken as fast
//! as they come, and nothing a device sends makes it panic, allocate more than the longest message, or wait for ever.

use std::time::{Duration, Instant};

use super::protocol::{Failure, Nonsense};

/// The bytes of a packet.
pub const PACKET_BYTES: usize = 64;
/// The longest message: one first packet and 128 continuations.
pub const MESSAGE_BYTES_MAX: usize = 7609;

const BROADCAST: [u8; 4] = [0xff; 4];
const FIRST: u8 = 0x80;
const INIT: u8 = FIRST | 0x06;
const CBOR: u8 = FIRST | 0x10;
const CANCEL: u8 = FIRST | 0x11;
const KEEPALIVE: u8 = FIRST | 0x3b;
const ERROR: u8 = FIRST | 0x3f;
/// The keepalive's word for: at work, nobody needs to do anything.
const PROCESSING: u8 = 1;
/// ERR_CHANNEL_BUSY and ERR_INVALID_CHANNEL: other programs took the device's attention, or our channel.
const BUSY_ERRORS: [u8; 2] = [0x06, 0x0b];
const FIRST_DATA: usize = PACKET_BYTES - 7;
const NEXT_DATA: usize = PACKET_BYTES - 5;

/// How long a cancelled command may take to end.
const CANCEL_LIMIT: Duration = Duration::from_millis(700);
/// Far more packets than a device sends in the longest wait.
const PACKETS_MAX: usize = 100_000;

/// A device that takes and gives packets.
pub trait Packets {
    /// Sends a packet.
    fn send(&mut self, packet: &[u8; PACKET_BYTES]) -> Result<(), LinkError>;

    /// Waits for a packet until `deadline`; `None` when none came.
    fn receive(&mut self, deadline: Instant) -> Result<Option<[u8; PACKET_BYTES]>, LinkError>;
}

/// Why there are no packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkError {
    /// The device is gone.
    Removed,
    /// Whoever wanted the answer wants it no more.
    Stopped,
}

/// Why a command brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelError {
    /// It failed.
    Failed(Failure),
    /// It is wanted no more; the device was told.
    Stopped,
}

impl From<Failure> for ChannelError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<LinkError> for ChannelError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Removed => Self::Failed(Failure::Removed),
            LinkError::Stopped => Self::Stopped,
        }
    }
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without any sign of life.
    pub silence: Duration,
    /// For the answer.
    pub answer: Duration,
}

/// A channel of one's own to a device.
pub struct Channel<P> {
    packets: P,
    id: [u8; 4],
}

impl<P: Packets> Channel<P> {
    /// Allocates a channel (CTAPHID_INIT). `nonce` tells the answer from that to another program.
    pub fn open(mut packets: P, nonce: [u8; 8], limit: Duration) -> Result<Self, ChannelError> {
        let deadline = Instant::now() + limit;
        packets.send(&first_packet(BROADCAST, INIT, &nonce))?;
        for _ in 0..PACKETS_MAX {
            let packet = packets.receive(deadline)?.ok_or(Failure::Silent)?;
            if packet[..4] == BROADCAST && packet[4] == INIT && packet[7..15] == nonce {
                let mut id = [0; 4];
                id.copy_from_slice(&packet[15..19]);
                return Ok(Self { packets, id });
            }
        }
        Err(Failure::Nonsense(Nonsense::Endless).into())
    }

    /// Gives a CTAP2 command and waits for its answer, without the status byte. `on_touch` is called once, when the
    /// device waits for its user. When a limit is reached the command is cancelled.
    ///
    /// # Errors
    /// [`Failure::Status`] for a status other than success; [`Failure::TouchTimedOut`] when the device still waited for
    /// its user at the end, [`Failure::Silent`] when it gave no sign of life.
    pub fn cbor(
        &mut self,
        request: &[u8],
        limits: Limits,
        mut on_touch: impl FnMut(),
    ) -> Result<Vec<u8>, ChannelError> {
        let mut touch_wanted = false;
        let mut on_touch = || {
            if !std::mem::replace(&mut touch_wanted, true) {
                on_touch();
            }
        };
        let end = Instant::now() + limits.answer;
        self.send(CBOR, request)?;
        let answer = self.answer(end, limits, &mut on_touch);
        // Before the cancel, which takes its time.
        let expired = answer == Err(Failure::Silent.into()) && touch_wanted && Instant::now() >= end;
        let gave_up = matches!(
            answer,
            Err(ChannelError::Stopped | ChannelError::Failed(Failure::Silent | Failure::Nonsense(Nonsense::Endless)))
        );
        if gave_up {
            self.cancel();
        }
        let answer = if expired { Err(Failure::TouchTimedOut.into()) } else { answer };
        match answer?.split_first() {
            Some((0, data)) => Ok(data.to_vec()),
            Some((status, _)) => Err(Failure::Status(*status).into()),
            None => Err(Failure::Nonsense(Nonsense::NotUnderstood).into()),
        }
    }

    /// Receives one message, passing over keepalives and what belongs to others.
    fn answer(&mut self, end: Instant, limits: Limits, on_touch: &mut dyn FnMut()) -> Result<Vec<u8>, ChannelError> {
        let mut last_sign = Instant::now();
        let mut message: Option<Message> = None;
        for _ in 0..PACKETS_MAX {
            // Keepalives come ten times a second while a device works or waits.
            let packet = self.packets.receive(end.min(last_sign + limits.silence))?.ok_or(Failure::Silent)?;
            if Instant::now() >= end {
                return Err(Failure::Silent.into());
            }
            if packet[..4] != self.id {
                continue;
            }
            last_sign = Instant::now();
            match (packet[4], &mut message) {
                (KEEPALIVE, None) if packet[7] == PROCESSING => {}
                (KEEPALIVE, None) => on_touch(),
                (ERROR, _) if BUSY_ERRORS.contains(&packet[7]) => return Err(Failure::Busy.into()),
                (CBOR, None) => message = Some(Message::begin(&packet)?),
                (command, _) if command & FIRST != 0 => return Err(Failure::Nonsense(Nonsense::OtherCommand).into()),
                (sequence, Some(message)) => message.go_on(sequence, &packet)?,
                // The end of a message whose beginning nobody waited for.
                (_, None) => {}
            }
            if let Some(whole) = message.take_if(|message| message.is_whole()) {
                return Ok(whole.data);
            }
        }
        Err(Failure::Nonsense(Nonsense::Endless).into())
    }

    fn send(&mut self, command: u8, data: &[u8]) -> Result<(), ChannelError> {
        if data.len() > MESSAGE_BYTES_MAX {
            return Err(Failure::Nonsense(Nonsense::TooLong).into());
        }
        let (first, rest) = data.split_at(data.len().min(FIRST_DATA));
        let mut packet = first_packet(self.id, command, first);
        // At most 7609, so it fits.
        packet[5..7].copy_from_slice(&(data.len() as u16).to_be_bytes());
        self.packets.send(&packet)?;
        for (sequence, part) in rest.chunks(NEXT_DATA).enumerate() {
            let mut packet = [0; PACKET_BYTES];
            packet[..4].copy_from_slice(&self.id);
            packet[4] = sequence as u8;
            packet[5..5 + part.len()].copy_from_slice(part);
            self.packets.send(&packet)?;
        }
        Ok(())
    }

    /// Tells the device to give up, so that it stops blinking, and waits a moment for its last word, which would be in
    /// the way of the next command. Best effort.
    fn cancel(&mut self) {
        let deadline = Instant::now() + CANCEL_LIMIT;
        if self.packets.send(&first_packet(self.id, CANCEL, &[])).is_err() {
            return;
        }
        for _ in 0..PACKETS_MAX {
            match self.packets.receive(deadline) {
                Ok(Some(packet)) if packet[..4] == self.id && [CBOR, ERROR].contains(&packet[4]) => return,
                Ok(Some(_)) if Instant::now() < deadline => {}
                _ => return,
            }
        }
    }
}

/// A message that is being received.
struct Message {
    data: Vec<u8>,
    length: usize,
    next_sequence: u8,
}

impl Message {
    fn begin(packet: &[u8; PACKET_BYTES]) -> Result<Self, Failure> {
        let length = usize::from(u16::from_be_bytes([packet[5], packet[6]]));
        if length > MESSAGE_BYTES_MAX {
            return Err(Failure::Nonsense(Nonsense::TooLong));
        }
        Ok(Self { data: packet[7..7 + length.min(FIRST_DATA)].to_vec(), length, next_sequence: 0 })
    }

    fn go_on(&mut self, sequence: u8, packet: &[u8; PACKET_BYTES]) -> Result<(), Failure> {
        if sequence != self.next_sequence {
            return Err(Failure::Nonsense(Nonsense::OutOfOrder));
        }
        self.next_sequence += 1;
        let missing = self.length - self.data.len();
        self.data.extend_from_slice(&packet[5..5 + missing.min(NEXT_DATA)]);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.data.len() == self.length
    }
}

fn first_packet(channel: [u8; 4], command: u8, data: &[u8]) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[..4].copy_from_slice(&channel);
    packet[4] = command;
    packet[5..7].copy_from_slice(&(data.len() as u16).to_be_bytes());
    packet[7..7 + data.len()].copy_from_slice(data);
    packet
}

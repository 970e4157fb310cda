//! The checks of what comes from a security key and from the process that talks with it. See `checks.rs`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::checks::{Memory, within};
use passkeyfs::unlock::hid::ctaphid::{Channel, Limits, LinkError, MESSAGE_BYTES_MAX, PACKET_BYTES, Packets};
use passkeyfs::unlock::hid::protocol::{FRAME_BYTES_MAX, LENGTH_BYTES, Reply, Request};

/// A frame is written into memory that is reserved beforehand.
const MEMORY: Memory = Memory { base_bytes: 4 * (LENGTH_BYTES + FRAME_BYTES_MAX), factor: 32 };

pub fn request(input: &[u8]) -> bool {
    let Ok(request) = within(MEMORY, input, Request::decode) else { return false };
    // What is longer than a frame does not come in one.
    let Some(frame) = request.encode() else { return input.len() >= FRAME_BYTES_MAX };
    assert_eq!(&frame[LENGTH_BYTES..], input, "another form of the same request");
    true
}

pub fn reply(input: &[u8]) -> bool {
    let Ok(reply) = within(MEMORY, input, Reply::decode) else { return false };
    let Some(frame) = reply.encode() else { return input.len() >= FRAME_BYTES_MAX };
    assert_eq!(&frame[LENGTH_BYTES..], input, "another form of the same reply");
    true
}

/// A device that sends the input, packet by packet, and is pulled out at its end.
struct Device(VecDeque<[u8; PACKET_BYTES]>);

impl Packets for Device {
    fn send(&mut self, packet: &[u8; PACKET_BYTES]) -> Result<(), LinkError> {
        // A channel is given, lest every input end there. The input's first packets say what it is.
        if packet[4] == 0x86 && self.0.len().is_multiple_of(2) {
            let mut answer = [0; PACKET_BYTES];
            answer[..7].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x86, 0, 17]);
            answer[7..15].copy_from_slice(&packet[7..15]);
            answer[15..24].copy_from_slice(&[0, 0, 0, 7, 2, 0, 1, 0, 5]);
            self.0.push_front(answer);
        }
        Ok(())
    }

    fn receive(&mut self, _: Instant) -> Result<Option<[u8; PACKET_BYTES]>, LinkError> {
        self.0.pop_front().map(Some).ok_or(LinkError::Removed)
    }
}

pub fn packets(input: &[u8]) -> bool {
    let packets = input.chunks(PACKET_BYTES).map(|chunk| {
        let mut packet = [0; PACKET_BYTES];
        packet[..chunk.len()].copy_from_slice(chunk);
        packet
    });
    let device = Device(packets.collect());
    let memory = Memory { base_bytes: 2 * MESSAGE_BYTES_MAX + 4096, factor: 32 };
    within(memory, input, |_| {
        let second = Duration::from_secs(1);
        let Ok(mut channel) = Channel::open(device, [9; 8], second) else { return false };
        let limits = Limits { silence: second, answer: second };
        channel.cbor(&[4], limits, &mut || {}).is_ok_and(|answer| answer.len() < MESSAGE_BYTES_MAX)
    })
}

//! CTAPHID against a scripted device: what it sends, whatever it is, ends in an answer or an error, and in time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use passkeyfs::unlock::hid::ctaphid::{
    Channel, ChannelError, Limits, LinkError, MESSAGE_BYTES_MAX, PACKET_BYTES, Packets,
};
use passkeyfs::unlock::hid::protocol::{Failure, Nonsense};

type Packet = [u8; PACKET_BYTES];

const OURS: [u8; 4] = [0, 0, 0, 7];
const CBOR: u8 = 0x90;
const KEEPALIVE: u8 = 0xbb;
const ERROR: u8 = 0xbf;
const CANCEL: u8 = 0x91;
const LIMITS: Limits = Limits { silence: Duration::from_millis(1000), answer: Duration::from_millis(1500) };

/// What the device does when it is read from.
enum Act {
    Send(Packet),
    Wait(Duration),
    /// Sends this packet for ever.
    Flood(Packet),
    Vanish,
    Stop,
}

/// A device that acts by a script, then is silent.
struct Scripted {
    acts: VecDeque<Act>,
    sent: std::rc::Rc<std::cell::RefCell<Vec<Packet>>>,
}

impl Packets for Scripted {
    fn send(&mut self, packet: &Packet) -> Result<(), LinkError> {
        self.sent.borrow_mut().push(*packet);
        if packet[4] == 0x86 {
            let nonce = packet[7..15].to_vec();
            let mut answer = packet_of([0xff; 4], 0x86, &[nonce, OURS.to_vec(), vec![2, 0, 1, 0, 5]].concat());
            answer[5..7].copy_from_slice(&[0, 17]);
            self.acts.push_front(Act::Send(answer));
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Packet>, LinkError> {
        match self.acts.pop_front() {
            Some(Act::Send(packet)) => Ok(Some(packet)),
            Some(Act::Flood(packet)) => {
                self.acts.push_front(Act::Flood(packet));
                std::thread::sleep(Duration::from_micros(50));
                Ok(Some(packet))
            }
            Some(Act::Vanish) => Err(LinkError::Removed),
            Some(Act::Stop) => {
                self.acts.push_front(Act::Stop);
                Err(LinkError::Stopped)
            }
            Some(Act::Wait(time)) => {
                let left = deadline.saturating_duration_since(Instant::now());
                std::thread::sleep(time.min(left));
                if time > left {
                    self.acts.push_front(Act::Wait(time - left));
                    return Ok(None);
                }
                self.receive(deadline)
            }
            None => {
                std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
                Ok(None)
            }
        }
    }
}

fn packet_of(channel: [u8; 4], command: u8, data: &[u8]) -> Packet {
    let mut packet = [0; PACKET_BYTES];
    packet[..4].copy_from_slice(&channel);
    packet[4] = command;
    if command & 0x80 != 0 {
        packet[5..7].copy_from_slice(&(data.len() as u16).to_be_bytes());
        packet[7..7 + data.len()].copy_from_slice(data);
    } else {
        packet[5..5 + data.len()].copy_from_slice(data);
    }
    packet
}

/// A first packet that says there will be `length` bytes.
fn begin(length: u16, data: &[u8]) -> Packet {
    let mut packet = packet_of(OURS, CBOR, data);
    packet[5..7].copy_from_slice(&length.to_be_bytes());
    packet
}

struct Outcome {
    result: Result<Vec<u8>, ChannelError>,
    touches: usize,
    cancelled: bool,
    time: Duration,
    sent: Vec<Packet>,
}

fn command(request: &[u8], acts: Vec<Act>) -> Outcome {
    command_within(LIMITS, request, acts)
}

fn command_within(limits: Limits, request: &[u8], acts: Vec<Act>) -> Outcome {
    let sent = std::rc::Rc::default();
    let device = Scripted { acts: acts.into(), sent: std::rc::Rc::clone(&sent) };
    let start = Instant::now();
    let Ok(mut channel) = Channel::open(device, [9; 8], Duration::from_secs(1)) else { panic!("no channel") };
    let mut touches = 0;
    let result = channel.cbor(request, limits, || touches += 1);
    let sent = sent.take();
    let cancelled = sent.iter().any(|packet| packet[4] == CANCEL && packet[..4] == OURS);
    Outcome { result, touches, cancelled, time: start.elapsed(), sent }
}

fn failed(failure: Failure) -> Result<Vec<u8>, ChannelError> {
    Err(ChannelError::Failed(failure))
}

fn keepalive(status: u8) -> Act {
    Act::Send(packet_of(OURS, KEEPALIVE, &[status]))
}

#[test]
fn a_message_of_any_length_goes_out_and_comes_back_whole() {
    for length in [0, 1, 55, 56, 57, 115, 116, 1000, MESSAGE_BYTES_MAX - 1] {
        let data: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let answer = [&[0][..], &data].concat();
        let (first, rest) = answer.split_at(answer.len().min(57));
        let mut acts = vec![keepalive(1), Act::Send(begin(answer.len() as u16, first))];
        let parts = rest.chunks(59).enumerate();
        acts.extend(parts.map(|(sequence, part)| Act::Send(packet_of(OURS, sequence as u8, part))));
        let outcome = command(&data, acts);
        assert_eq!(outcome.result, Ok(data.clone()), "{length}");
        let mut received: Vec<u8> = Vec::new();
        for (index, packet) in outcome.sent[1..].iter().enumerate() {
            assert_eq!(packet[..4], OURS);
            received.extend(if index == 0 { &packet[7..] } else { &packet[5..] });
        }
        assert_eq!(received[..length], data, "{length}");
    }
    let outcome = command(&vec![0; MESSAGE_BYTES_MAX + 1], Vec::new());
    assert_eq!(outcome.result, failed(Failure::Nonsense(Nonsense::TooLong)));
}

#[test]
fn a_touch_is_announced_once_when_the_device_waits_for_it_and_not_before() {
    let acts = vec![keepalive(1), keepalive(2), keepalive(2), Act::Send(begin(2, &[0, 5]))];
    let outcome = command(b"x", acts);
    assert_eq!((outcome.result, outcome.touches), (Ok(vec![5]), 1));
    let outcome = command(b"x", vec![keepalive(1), Act::Send(begin(1, &[0]))]);
    assert_eq!((outcome.result, outcome.touches), (Ok(vec![]), 0));
}

#[test]
fn a_silence_below_the_limit_is_no_failure_and_no_touch() {
    let outcome = command(b"x", vec![Act::Wait(Duration::from_millis(850)), Act::Send(begin(1, &[0]))]);
    assert_eq!((outcome.result, outcome.touches), (Ok(vec![]), 0));
}

#[test]
fn a_status_is_passed_on() {
    let outcome = command(b"x", vec![Act::Send(begin(1, &[0x2e]))]);
    assert_eq!(outcome.result, failed(Failure::Status(0x2e)));
    let outcome = command(b"x", vec![Act::Send(begin(0, &[]))]);
    assert_eq!(outcome.result, failed(Failure::Nonsense(Nonsense::NotUnderstood)));
}

#[test]
fn silence_ends_the_wait_and_the_device_is_told() {
    let outcome = command(b"x", Vec::new());
    assert_eq!((outcome.result, outcome.cancelled), (failed(Failure::Silent), true));
    assert!(outcome.time < Duration::from_secs(3), "{:?}", outcome.time);
}

#[test]
fn a_device_that_falls_silent_is_not_taken_for_one_that_waits_for_a_touch() {
    let limits = Limits { answer: LIMITS.silence, ..LIMITS };
    for limits in [limits, LIMITS] {
        let outcome = command_within(limits, b"x", vec![keepalive(1)]);
        assert_eq!((outcome.result, outcome.touches), (failed(Failure::Silent), 0));
    }
}

#[test]
fn a_touch_that_does_not_come_is_cancelled_at_the_limit() {
    let mut acts = Vec::new();
    for _ in 0..40 {
        acts.extend([Act::Wait(Duration::from_millis(100)), keepalive(2)]);
    }
    let outcome = command(b"x", acts);
    assert_eq!((outcome.result, outcome.touches, outcome.cancelled), (failed(Failure::TouchTimedOut), 1, true));
    assert!(outcome.time >= LIMITS.answer && outcome.time < Duration::from_secs(4), "{:?}", outcome.time);
}

#[test]
fn a_flood_of_keepalives_ends_at_the_limit() {
    let outcome = command(b"x", vec![Act::Flood(packet_of(OURS, KEEPALIVE, &[1]))]);
    assert_eq!(outcome.result, failed(Failure::Silent));
    assert!(outcome.time < Duration::from_secs(4), "{:?}", outcome.time);
    let outcome = command(b"x", vec![Act::Flood(packet_of(OURS, KEEPALIVE, &[2]))]);
    assert_eq!(outcome.result, failed(Failure::TouchTimedOut));
}

#[test]
fn a_flood_on_another_channel_counts_as_silence() {
    let outcome = command(b"x", vec![Act::Flood(packet_of([1; 4], CBOR, &[0]))]);
    assert!(matches!(outcome.result, Err(ChannelError::Failed(Failure::Silent))), "{:?}", outcome.result);
    assert!(outcome.time < Duration::from_secs(4), "{:?}", outcome.time);
}

#[test]
fn what_belongs_to_other_programs_is_passed_over() {
    let foreign = |command, data: &[u8]| Act::Send(packet_of([0, 0, 0, 8], command, data));
    let acts = vec![
        foreign(CBOR, &[0x31]),
        foreign(KEEPALIVE, &[2]),
        Act::Send(packet_of(OURS, 5, &[1])),
        Act::Send(begin(60, &[0; 57])),
        foreign(0, &[9; 59]),
        foreign(ERROR, &[6]),
        Act::Send(packet_of(OURS, 0, &[7; 3])),
    ];
    let outcome = command(b"x", acts);
    assert_eq!(outcome.result, Ok([vec![0; 56], vec![7; 3]].concat()));
    assert_eq!(outcome.touches, 0);
}

#[test]
fn a_busy_device_is_told_from_one_that_makes_no_sense() {
    for (code, expected) in [(6, Failure::Busy), (11, Failure::Busy), (4, Failure::Nonsense(Nonsense::OtherCommand))] {
        let outcome = command(b"x", vec![Act::Send(packet_of(OURS, ERROR, &[code]))]);
        assert_eq!(outcome.result, failed(expected), "{code}");
    }
}

#[test]
fn packets_that_make_no_message_are_refused() {
    let nonsense = |acts| command(b"x", acts).result;
    let first = || Act::Send(begin(300, &[0; 57]));
    let next = |sequence| Act::Send(packet_of(OURS, sequence, &[0; 59]));
    assert_eq!(nonsense(vec![Act::Send(begin(u16::MAX, &[0; 57]))]), failed(Failure::Nonsense(Nonsense::TooLong)));
    assert_eq!(nonsense(vec![first(), next(1)]), failed(Failure::Nonsense(Nonsense::OutOfOrder)));
    assert_eq!(nonsense(vec![first(), next(0), next(0)]), failed(Failure::Nonsense(Nonsense::OutOfOrder)));
    assert_eq!(nonsense(vec![first(), first()]), failed(Failure::Nonsense(Nonsense::OtherCommand)));
    assert_eq!(nonsense(vec![first(), keepalive(1)]), failed(Failure::Nonsense(Nonsense::OtherCommand)));
    assert_eq!(
        nonsense(vec![Act::Send(packet_of(OURS, 0x83, b"x"))]),
        failed(Failure::Nonsense(Nonsense::OtherCommand))
    );
    assert_eq!(nonsense(vec![first(), next(0)]), failed(Failure::Silent));
}

#[test]
fn a_device_that_is_pulled_out_and_a_session_that_ends_are_told_apart() {
    let outcome = command(b"x", vec![keepalive(2), Act::Vanish]);
    assert_eq!((outcome.result, outcome.cancelled), (failed(Failure::Removed), false));
    let outcome = command(b"x", vec![keepalive(2), Act::Stop]);
    assert_eq!((outcome.result, outcome.cancelled), (Err(ChannelError::Stopped), true));
}

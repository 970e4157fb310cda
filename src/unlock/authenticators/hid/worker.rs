//! The child process that talks to one security key, from the inside: reads requests, does them, answers.
//!
//! It exists because the crate for security keys can hang, panic and print, and copies secrets: here it may do all that,
//! and the session (`session.rs`, in the parent) loses nothing but a process. The helper holds the PIN between requests,
//! writes nothing anywhere but into its pipe, and ends when the pipe does: the device is told to stop blinking first.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use zeroize::Zeroizing;

use super::ctaphid::{Channel, ChannelError, Limits};
use super::device::{Command, Device};
use super::hidraw::{Hidraw, Stops};
use super::limits::{ANSWER_LIMIT, SILENCE_LIMIT};
use super::protocol::{FRAME_BYTES_MAX, Failure, LENGTH_BYTES, Nonsense, Query, Reply, Request, Verification};
use super::status;
use crate::crypto::KernelRandomness;

/// Pauses between tries to get the attention of a device that another program uses.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
const BUSY_TRIES: usize = 4;

/// authenticatorSelection (CTAP 2.1).
const SELECTION: &[u8] = &[0x0b];
/// For older keys: authenticatorMakeCredential with an empty pinUvAuthParam, which they refuse after a touch (CTAP 2.0,
/// section 5.1). {1: 32 zeros, 2: {id, name}, 3: {id, name}, 4: [ES256], 8: h'', 9: 1}
const TOUCH_OF_OLDER_KEYS: &[u8] =
    b"\x01\xa6\x01\x58\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \x02\xa2\x62id\x69passkeyfs\x64name\x69passkeyfs\x03\xa2\x62id\x41\0\x64name\x61.\
    \x04\x81\xa2\x63alg\x26\x64type\x6apublic-key\x08\x40\x09\x01";

/// Serves the requests that come from `input` until it ends. `output` gets the answers.
pub fn serve(mut input: File, mut output: File) -> std::io::Result<()> {
    // What a panic says may quote what a device sent, and nobody is there to read it.
    std::panic::set_hook(Box::new(|_| {}));
    let session = input.try_clone()?;
    let stops = Stops::new(session.as_fd())?;
    let mut helper = Helper { device: None, stops: &stops };
    while let Some(request) = read_request(&mut input)? {
        let mut announce = || {
            // If nobody is left to be told, the wait is about to end.
            let _ = write_reply(&mut output, &Reply::TouchWanted);
        };
        let reply = match helper.serve(request, &mut announce) {
            Ok(reply) => reply,
            Err(ChannelError::Failed(failure)) => Reply::Failed(failure),
            Err(ChannelError::Stopped) => return Ok(()),
        };
        write_reply(&mut output, &reply)?;
    }
    Ok(())
}

/// The next request; `None` at the end, or if it is none.
fn read_request(input: &mut File) -> std::io::Result<Option<Request>> {
    let mut length = [0; LENGTH_BYTES];
    if input.read_exact(&mut length).is_err() {
        return Ok(None);
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Ok(None);
    }
    let mut frame = Zeroizing::new(vec![0; length]);
    input.read_exact(&mut frame)?;
    Ok(Request::decode(&frame).ok())
}

fn write_reply(output: &mut File, reply: &Reply) -> std::io::Result<()> {
    let too_long = || Reply::Failed(Failure::Nonsense(Nonsense::TooLong)).encode();
    match reply.encode().or_else(too_long) {
        Some(frame) => output.write_all(&frame),
        None => Ok(()),
    }
}

struct Helper<'a> {
    device: Option<Device>,
    stops: &'a Stops<'a>,
}

impl Helper<'_> {
    fn serve(&mut self, request: Request, announce: &mut dyn FnMut()) -> Result<Reply, ChannelError> {
        match request {
            Request::Open { path } => {
                let (device, info) = Device::open(path)?;
                self.device = Some(device);
                Ok(Reply::Opened(info))
            }
            Request::Select { touch } => self.select(touch, announce),
            Request::PinTries => Ok(Reply::PinTries(self.pin_tries()?)),
            Request::VerifyPin { pin } => self.verify_pin(pin.0),
            Request::Make { make, verification, touch } => {
                let made = self.command(touch, announce, |device| device.make(make.clone(), verification))?;
                let (credential_id, authenticator_data) = (made.credential_id, made.authenticator_data);
                Ok(Reply::Credential { credential_id, authenticator_data })
            }
            Request::Find { query, verification, touch } => {
                // Without a touch it answers at once; a finger takes a person.
                let limit = if verification == Verification::BuiltIn { touch } else { ANSWER_LIMIT };
                self.find(query, verification, limit, announce).map(Reply::Found)
            }
            Request::Assert { query, salt, verification, touch } => {
                let made = |device: &Device| device.assert(query.clone(), &salt, verification);
                let signed = self.command(touch, announce, made)?;
                Ok(Reply::Assertion {
                    credential_id: signed.credential_id,
                    authenticator_data: signed.authenticator_data,
                    signature: signed.signature,
                    secret: signed.secret.ok_or(Failure::Nonsense(Nonsense::NoSecret))?,
                })
            }
        }
    }

    fn device(&self) -> Result<&Device, Failure> {
        self.device.as_ref().ok_or(Failure::Removed)
    }

    fn select(&self, touch: Duration, announce: &mut dyn FnMut()) -> Result<Reply, ChannelError> {
        let request = if self.device()?.knows_selection() { SELECTION } else { TOUCH_OF_OLDER_KEYS };
        let refusals = [status::PIN_INVALID, status::PIN_AUTH_INVALID, status::PIN_NOT_SET];
        match self.exchange(request, touch, announce) {
            Err(ChannelError::Failed(Failure::Status(status))) if refusals.contains(&status) => Ok(Reply::Done),
            result => result.map(|_| Reply::Done),
        }
    }

    fn pin_tries(&self) -> Result<u32, ChannelError> {
        self.command(ANSWER_LIMIT, &mut || {}, Device::pin_tries)
    }

    fn verify_pin(&mut self, pin: Zeroizing<String>) -> Result<Reply, ChannelError> {
        let tries_before = self.pin_tries()?;
        let device = self.device.as_mut().ok_or(Failure::Removed)?;
        match device.verify_pin(pin.clone()) {
            // The answer was lost between those of other programs: how many tries are left tells what it was.
            Err(Failure::Busy | Failure::Nonsense(_)) if self.pin_tries()? < tries_before => {
                Err(Failure::Status(status::PIN_INVALID).into())
            }
            Err(Failure::Busy | Failure::Nonsense(_)) => {
                self.device.as_mut().ok_or(Failure::Removed)?.verify_pin(pin)?;
                Ok(Reply::Done)
            }
            result => Ok(result.map(|()| Reply::Done)?),
        }
    }

    /// Looks for a credential of the list, without a touch.
    fn find(
        &self,
        query: Query,
        verification: Verification,
        limit: Duration,
        announce: &mut dyn FnMut(),
    ) -> Result<Option<Vec<u8>>, ChannelError> {
        let found = self.command(limit, announce, |device| device.find(query.clone(), verification));
        match found {
            Ok(signed) if query.allow.contains(&signed.credential_id) => Ok(Some(signed.credential_id)),
            Ok(_) => Err(Failure::Nonsense(Nonsense::OtherCommand).into()),
            Err(ChannelError::Failed(Failure::Status(status::NO_CREDENTIALS | status::INVALID_CREDENTIAL))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Does one command of the device, and once more when another program has taken its PIN token away meanwhile.
    fn command<T>(
        &self,
        limit: Duration,
        announce: &mut dyn FnMut(),
        make: impl Fn(&Device) -> Result<Command<T>, Failure>,
    ) -> Result<T, ChannelError> {
        let device = self.device()?;
        let Command { request, read } = make(device)?;
        match self.exchange(&request, limit, announce) {
            Err(ChannelError::Failed(Failure::Status(status::PIN_AUTH_INVALID | status::TOKEN_EXPIRED))) => {
                let Command { request, read } = make(device)?;
                Ok(read(&self.exchange(&request, limit, announce)?)?)
            }
            answer => Ok(read(&answer?)?),
        }
    }

    /// Sends a message over a channel of its own, again while another program keeps the device busy.
    fn exchange(&self, request: &[u8], answer: Duration, announce: &mut dyn FnMut()) -> Result<Vec<u8>, ChannelError> {
        let mut tries = 0..BUSY_TRIES;
        loop {
            match self.exchange_once(request, answer, announce) {
                Err(ChannelError::Failed(Failure::Busy)) if tries.next().is_some() => std::thread::sleep(BUSY_PAUSE),
                result => return result,
            }
        }
    }

    fn exchange_once(
        &self,
        request: &[u8],
        answer: Duration,
        announce: &mut dyn FnMut(),
    ) -> Result<Vec<u8>, ChannelError> {
        let packets = Hidraw::open(self.device()?.path(), self.stops)?;
        let mut channel = Channel::open(packets, KernelRandomness.array(), SILENCE_LIMIT)?;
        channel.cbor(request, Limits { silence: SILENCE_LIMIT, answer }, announce)
    }
}

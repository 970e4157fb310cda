//! Messages to replies: the authenticator, with keepalives while it works.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use ctaphid_app::{App, Command};
use fido_authenticator::{Authenticator, Config, FirmwareVersion};
use heapless_bytes::Bytes;
use trussed::virt::Client;
use trussed_staging::virt::Dispatcher;

use crate::Options;
use crate::finger::{Finger, IDLE, PROCESSING, STATUS};
use crate::framing::{Framing, MESSAGE_BYTES_MAX, Message};
use crate::hostile::{self, Stage};
use crate::script::Script;
use crate::uhid::Uhid;
use crate::wire::Wire;

const INVALID_LENGTH: u8 = 0x03;
const HMAC_SECRET: &[u8] = b"hmac-secret";
/// A name that nobody knows, of the same length, so that the CBOR around it stays as it is.
const UNKNOWN_EXTENSION: &[u8] = b"hmac-nobody";

/// Attaches the key and serves until the process ends.
pub fn serve(client: Client<'_, Dispatcher>, script: &'static Script, options: &'static Options) {
    let config = Config {
        firmware_version: Some(FirmwareVersion::new(1)),
        max_resident_credential_count: Some(10),
        fido2_up_timeout: Some(options.touch_ms),
        ..Config::new(MESSAGE_BYTES_MAX)
    };
    let mut authenticator = Authenticator::new(client, Finger(script), config);
    let attached = Uhid::create(&options.name).and_then(|uhid| Ok((uhid.try_clone()?, uhid)));
    let (uhid, writer) = attached.unwrap_or_else(|error| {
        eprintln!("virtual-key: /dev/uhid: {error}");
        std::process::exit(1);
    });
    let wire = Wire::new(writer);
    let busy_with = Arc::new(Mutex::new(None));
    let (sender, messages) = mpsc::channel();
    let framing = Framing { wire: wire.clone(), messages: sender, busy_with: busy_with.clone(), script };
    thread::spawn(move || framing.run(uhid));
    thread::spawn({
        let (wire, busy_with) = (wire.clone(), busy_with.clone());
        move || keep_alive(&wire, &busy_with, Duration::from_millis(options.keepalive_ms))
    });
    script.log("attached");
    for Message { channel, command, mut data } in messages {
        let number = data.first().copied().unwrap_or(0);
        if hostile::misbehave(script, &wire, Stage::Command(&data), channel, command.into_u8()) {
            *busy_with.lock().expect("no thread panics with it") = None;
            continue;
        }
        STATUS.store(PROCESSING, SeqCst);
        if !options.has_hmac_secret {
            hide_hmac_secret(&mut data);
        }
        let mut reply = Bytes::<MESSAGE_BYTES_MAX>::new();
        let outcome = authenticator.call(command, &data, &mut reply);
        let mut reply = reply.to_vec();
        if !options.has_hmac_secret {
            hide_hmac_secret(&mut reply);
        }
        let reply = hostile::lost(script, Stage::Command(&data)).unwrap_or(reply);
        STATUS.store(IDLE, SeqCst);
        script.log(&format!("command {number:#04x} -> {:#04x}", reply.first().copied().unwrap_or(0)));
        // Under this lock, so that no keepalive follows the reply.
        let mut busy_with = busy_with.lock().expect("no thread panics with it");
        *busy_with = None;
        match outcome {
            Ok(()) => wire.send(channel, command.into_u8(), &reply),
            Err(_) => wire.error(channel, INVALID_LENGTH),
        }
    }
}

fn keep_alive(wire: &Wire, busy_with: &Mutex<Option<u32>>, pause: Duration) {
    loop {
        thread::sleep(pause);
        let busy_with = busy_with.lock().expect("no thread panics with it");
        let status = STATUS.load(SeqCst);
        if let (Some(channel), true) = (*busy_with, status != IDLE) {
            wire.send(channel, Command::KeepAlive.into_u8(), &[status]);
        }
    }
}

/// Makes a key of one that knows the extension into one that has never heard of it, in what it says and in what it is asked.
fn hide_hmac_secret(message: &mut [u8]) {
    for at in 0..message.len().saturating_sub(HMAC_SECRET.len() - 1) {
        let name = &mut message[at..at + HMAC_SECRET.len()];
        if name == HMAC_SECRET {
            name.copy_from_slice(UNKNOWN_EXTENSION);
        }
    }
}

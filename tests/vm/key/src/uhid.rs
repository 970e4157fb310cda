//! The kernel's side: /dev/uhid makes a HID device of what is written to it, with a real /dev/hidrawN that udev sees.
//!
//! It speaks in `struct uhid_event` (linux/uhid.h): a 32-bit type, then fields at fixed places.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

/// The bytes of one report in either direction (CTAP 2.1 §11.2.3).
pub const PACKET_BYTES: usize = 64;
/// One packet.
pub type Packet = [u8; PACKET_BYTES];

const OUTPUT: u32 = 6;
const CREATE2: u32 = 11;
const INPUT2: u32 = 12;
const CREATE2_BYTES: usize = 4 + 4372;
/// Where UHID_OUTPUT has its size, behind 4096 bytes of data.
const OUTPUT_SIZE_AT: usize = 4 + 4096;
const BUS_USB: u16 = 3;

/// The FIDO usage page with one input and one output report of 64 bytes, without a report id.
const REPORT_DESCRIPTOR: [u8; 34] = [
    0x06, 0xd0, 0xf1, 0x09, 0x01, 0xa1, 0x01, 0x09, 0x20, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95, 0x40, 0x81,
    0x02, 0x09, 0x21, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95, 0x40, 0x91, 0x02, 0xc0,
];

/// An attached device. It goes when the last clone of it is closed.
pub struct Uhid(File);

impl Uhid {
    /// Attaches a device of this product name.
    pub fn create(name: &str) -> io::Result<Self> {
        let mut event = vec![0u8; CREATE2_BYTES];
        let mut put = |at: usize, bytes: &[u8]| event[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &CREATE2.to_ne_bytes());
        put(4, &name.as_bytes()[..name.len().min(127)]);
        put(260, &(REPORT_DESCRIPTOR.len() as u16).to_ne_bytes());
        put(262, &BUS_USB.to_ne_bytes());
        // A vendor and a product id that pid.codes keeps for tests.
        put(264, &0x1209_u32.to_ne_bytes());
        put(268, &0x0001_u32.to_ne_bytes());
        put(280, &REPORT_DESCRIPTOR);
        let mut file = OpenOptions::new().read(true).write(true).open("/dev/uhid")?;
        file.write_all(&event)?;
        Ok(Self(file))
    }

    /// Another handle of the same device.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The next packet from the host; other events are passed over.
    pub fn read(&mut self) -> io::Result<Packet> {
        let mut event = vec![0u8; CREATE2_BYTES];
        loop {
            let bytes = self.0.read(&mut event)?;
            if bytes < OUTPUT_SIZE_AT + 2 || event[..4] != OUTPUT.to_ne_bytes() {
                continue;
            }
            let size = u16::from_ne_bytes([event[OUTPUT_SIZE_AT], event[OUTPUT_SIZE_AT + 1]]) as usize;
            // hidraw hands on the report id 0 in front.
            let at = 4 + size.saturating_sub(PACKET_BYTES);
            let mut packet = [0; PACKET_BYTES];
            packet.copy_from_slice(&event[at..at + PACKET_BYTES]);
            return Ok(packet);
        }
    }

    /// Gives the host a packet.
    pub fn write(&mut self, packet: &Packet) -> io::Result<()> {
        let mut event = [0u8; 6 + PACKET_BYTES];
        event[..4].copy_from_slice(&INPUT2.to_ne_bytes());
        event[4..6].copy_from_slice(&(PACKET_BYTES as u16).to_ne_bytes());
        event[6..].copy_from_slice(packet);
        self.0.write_all(&event)
    }
}

//! How requests and replies lie in frames: a kind, then fields with their lengths before them, little-endian.
//!
//! A frame may hold a PIN or a secret. It is built in memory that is reserved beforehand, so that growing leaves no copy
//! behind, and overwritten when dropped. What does not decode to its last byte is refused.

use std::time::Duration;

use zeroize::Zeroizing;

use super::protocol::{
    DeviceInfo, FRAME_BYTES_MAX, Failure, HelperPin, LENGTH_BYTES, Make, Nonsense, Query, Reply, Request, Verification,
};
use crate::crypto::Secret;
use crate::format::FormatError;
use crate::format::bytes::ByteReader;

/// A frame under construction.
struct FrameWriter {
    bytes: Zeroizing<Vec<u8>>,
}

impl FrameWriter {
    fn new(kind: u8) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH_BYTES + FRAME_BYTES_MAX));
        bytes.extend_from_slice(&[0, 0, 0, 0, kind]);
        Self { bytes }
    }

    fn put(mut self, field: &[u8]) -> Self {
        // What would not fit is cut off here, and refused by `finish`.
        let room = self.bytes.capacity() - self.bytes.len();
        self.bytes.extend_from_slice(&field[..field.len().min(room)]);
        self
    }

    fn bytes(self, field: &[u8]) -> Self {
        self.put(&u16::try_from(field.len()).unwrap_or(u16::MAX).to_le_bytes()).put(field)
    }

    fn duration(self, duration: Duration) -> Self {
        self.put(&u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).to_le_bytes())
    }

    fn query(self, query: &Query) -> Self {
        let start = self.put(&query.client_data_hash).bytes(query.relying_party.as_bytes());
        let start = start.put(&u16::try_from(query.allow.len()).unwrap_or(u16::MAX).to_le_bytes());
        query.allow.iter().fold(start, |frame, id| frame.bytes(id))
    }

    /// The frame with its length; `None` if it is too long.
    fn finish(mut self) -> Option<Zeroizing<Vec<u8>>> {
        if self.bytes.len() == self.bytes.capacity() {
            return None;
        }
        let length = u32::try_from(self.bytes.len() - LENGTH_BYTES).ok()?;
        self.bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        Some(self.bytes)
    }
}

impl Verification {
    fn encode(self) -> u8 {
        self as u8
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        match reader.u8()? {
            0 => Ok(Self::None),
            1 => Ok(Self::Pin),
            2 => Ok(Self::BuiltIn),
            _ => Err(reader.invalid("verification")),
        }
    }
}

fn text(reader: &mut ByteReader<'_>) -> Result<String, FormatError> {
    let bytes = reader.bytes16()?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| reader.invalid("text"))
}

fn flag(reader: &mut ByteReader<'_>) -> Result<bool, FormatError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(reader.invalid("flag")),
    }
}

fn duration(reader: &mut ByteReader<'_>) -> Result<Duration, FormatError> {
    Ok(Duration::from_millis(reader.u32()?.into()))
}

fn query(reader: &mut ByteReader<'_>) -> Result<Query, FormatError> {
    let (client_data_hash, relying_party) = (reader.array()?, text(reader)?);
    let count = reader.u16()?;
    let allow = (0..count).map(|_| reader.bytes16().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
    Ok(Query { client_data_hash, relying_party, allow })
}

impl Request {
    /// The request as a frame; `None` if it is too long for one.
    pub fn encode(&self) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Open { path } => FrameWriter::new(1).bytes(path.as_bytes()),
            Self::Select { touch } => FrameWriter::new(2).duration(*touch),
            Self::PinTries => FrameWriter::new(3),
            Self::VerifyPin { pin } => FrameWriter::new(4).bytes(pin.0.as_bytes()),
            Self::Make { make, verification, touch } => FrameWriter::new(5)
                .put(&make.client_data_hash)
                .bytes(make.relying_party.as_bytes())
                .bytes(&make.user_id)
                .bytes(make.user_name.as_bytes())
                .put(&[make.discoverable.into(), make.protect.into(), verification.encode()])
                .duration(*touch),
            Self::Find { query, verification, touch } => {
                FrameWriter::new(6).query(query).put(&[verification.encode()]).duration(*touch)
            }
            Self::Assert { query, salt, verification, touch } => {
                FrameWriter::new(7).query(query).put(salt).put(&[verification.encode()]).duration(*touch)
            }
        }
        .finish()
    }

    /// Reads a frame without its length.
    pub fn decode(frame: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new("a request to the helper", frame);
        let request = match reader.u8()? {
            1 => Self::Open { path: text(&mut reader)? },
            2 => Self::Select { touch: duration(&mut reader)? },
            3 => Self::PinTries,
            4 => Self::VerifyPin { pin: HelperPin(Zeroizing::new(text(&mut reader)?)) },
            5 => Self::Make {
                make: Make {
                    client_data_hash: reader.array()?,
                    relying_party: text(&mut reader)?,
                    user_id: reader.bytes16()?.to_vec(),
                    user_name: text(&mut reader)?,
                    discoverable: flag(&mut reader)?,
                    protect: flag(&mut reader)?,
                },
                verification: Verification::decode(&mut reader)?,
                touch: duration(&mut reader)?,
            },
            6 => Self::Find {
                query: query(&mut reader)?,
                verification: Verification::decode(&mut reader)?,
                touch: duration(&mut reader)?,
            },
            7 => Self::Assert {
                query: query(&mut reader)?,
                salt: reader.array()?,
                verification: Verification::decode(&mut reader)?,
                touch: duration(&mut reader)?,
            },
            _ => return Err(reader.invalid("kind")),
        };
        reader.finish()?;
        Ok(request)
    }
}

impl DeviceInfo {
    fn encode(&self, frame: FrameWriter) -> FrameWriter {
        let flags = [
            self.hmac_secret,
            self.credential_protection,
            self.takes_pin,
            self.pin_set,
            self.pin_change_wanted,
            self.takes_finger,
            self.finger_set,
            self.always_verifies,
        ];
        frame
            .put(&flags.map(u8::from))
            .put(&self.credentials_in_list_max.to_le_bytes())
            .put(&self.message_bytes_max.to_le_bytes())
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            hmac_secret: flag(reader)?,
            credential_protection: flag(reader)?,
            takes_pin: flag(reader)?,
            pin_set: flag(reader)?,
            pin_change_wanted: flag(reader)?,
            takes_finger: flag(reader)?,
            finger_set: flag(reader)?,
            always_verifies: flag(reader)?,
            credentials_in_list_max: reader.u32()?,
            message_bytes_max: reader.u32()?,
        })
    }
}

impl Failure {
    fn encode(self) -> [u8; 2] {
        match self {
            Self::Status(status) => [0, status],
            Self::Removed => [1, 0],
            Self::NoPermission => [2, 0],
            Self::Silent => [3, 0],
            Self::TouchTimedOut => [4, 0],
            Self::Busy => [5, 0],
            Self::Nonsense(what) => [6, what as u8],
        }
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        Ok(match reader.array()? {
            [0, status] => Self::Status(status),
            [1, 0] => Self::Removed,
            [2, 0] => Self::NoPermission,
            [3, 0] => Self::Silent,
            [4, 0] => Self::TouchTimedOut,
            [5, 0] => Self::Busy,
            [6, what] => Self::Nonsense(*Nonsense::ALL.get(usize::from(what)).ok_or(reader.invalid("failure"))?),
            _ => return Err(reader.invalid("failure")),
        })
    }
}

impl Reply {
    /// The reply as a frame; `None` if it is too long for one.
    pub fn encode(&self) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::TouchWanted => FrameWriter::new(1),
            Self::Done => FrameWriter::new(2),
            Self::Opened(info) => info.encode(FrameWriter::new(3)),
            Self::PinTries(tries) => FrameWriter::new(4).put(&tries.to_le_bytes()),
            Self::Credential { credential_id, authenticator_data } => {
                FrameWriter::new(5).bytes(credential_id).bytes(authenticator_data)
            }
            Self::Found(None) => FrameWriter::new(6),
            Self::Found(Some(credential_id)) => FrameWriter::new(7).bytes(credential_id),
            Self::Assertion { credential_id, authenticator_data, signature, secret } => {
                FrameWriter::new(8).bytes(credential_id).bytes(authenticator_data).bytes(signature).put(secret.expose())
            }
            Self::Failed(failure) => FrameWriter::new(9).put(&failure.encode()),
        }
        .finish()
    }

    /// Reads a frame without its length.
    pub fn decode(frame: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new("a reply of the helper", frame);
        let reply = match reader.u8()? {
            1 => Self::TouchWanted,
            2 => Self::Done,
            3 => Self::Opened(DeviceInfo::decode(&mut reader)?),
            4 => Self::PinTries(reader.u32()?),
            5 => Self::Credential {
                credential_id: reader.bytes16()?.to_vec(),
                authenticator_data: reader.bytes16()?.to_vec(),
            },
            6 => Self::Found(None),
            7 => Self::Found(Some(reader.bytes16()?.to_vec())),
            8 => Self::Assertion {
                credential_id: reader.bytes16()?.to_vec(),
                authenticator_data: reader.bytes16()?.to_vec(),
                signature: reader.bytes16()?.to_vec(),
                secret: {
                    let bytes = reader.take(32)?;
                    Secret::filled(|place| place.copy_from_slice(bytes))
                },
            },
            9 => Self::Failed(Failure::decode(&mut reader)?),
            _ => return Err(reader.invalid("kind")),
        };
        reader.finish()?;
        Ok(reply)
    }
}

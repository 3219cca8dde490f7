//! A packet from a client.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use bytestring::ByteString;

use crate::message::Message;
use crate::version::Version;

/// Standard base64, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A packet from a client.
#[derive(Debug, PartialEq)]
pub(crate) enum ClientPacket {
    Close,
    Ping,
    Pong,
    Message(Message),
    Upgrade,
    /// A packet without meaning for a server: an open, a no-op.
    Other,
}

/// Bytes from a client are not a valid packet or payload.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid packet or payload")]
pub(crate) struct Malformed;

impl ClientPacket {
    /// Decodes a text packet.
    pub(crate) fn from_text(text: ByteString, version: Version) -> Result<Self, Malformed> {
        let kind = *text.as_bytes().first().ok_or(Malformed)?;
        if !kind.is_ascii() {
            return Err(Malformed);
        }
        if kind == b'b' {
            return Self::from_base64(&text[1..], version);
        }
        let (_, rest) = text.split_at(1);
        Ok(match kind {
            b'0' | b'6' => Self::Other,
            b'1' => Self::Close,
            b'2' => Self::Ping,
            b'3' => Self::Pong,
            b'4' => Self::Message(Message::Text(rest)),
            b'5' => Self::Upgrade,
            _ => return Err(Malformed),
        })
    }

    /// Decodes a binary packet.
    pub(crate) fn from_binary(data: Bytes, version: Version) -> Result<Self, Malformed> {
        if version == Version::V4 {
            return Ok(Self::Message(Message::Binary(data)));
        }
        match data.first() {
            None => Ok(Self::Other),
            Some(4) => Ok(Self::Message(Message::Binary(data.slice(1..)))),
            Some(kind @ 0..=6) => Self::from_text(ByteString::from(kind.to_string()), version),
            Some(_) => Err(Malformed),
        }
    }

    fn from_base64(text: &str, version: Version) -> Result<Self, Malformed> {
        let data = match version {
            Version::V4 => text,
            Version::V3 => text.strip_prefix('4').ok_or(Malformed)?,
        };
        let data = BASE64
            .decode(data)
            .or_else(|_| BASE64.decode(lenient(data)))
            .map_err(|_| Malformed)?;
        Ok(Self::Message(Message::Binary(data.into())))
    }
}

/// Corrects invalid base64 as Node does: it ends at the first padding, the URL alphabet is accepted, and all other bytes are
/// ignored.
fn lenient(data: &str) -> Vec<u8> {
    let data = data.bytes().take_while(|byte| *byte != b'=');
    let data = data.filter_map(|byte| match byte {
        b'-' => Some(b'+'),
        b'_' => Some(b'/'),
        b'+' | b'/' => Some(byte),
        _ => byte.is_ascii_alphanumeric().then_some(byte),
    });
    let mut data: Vec<u8> = data.collect();
    if data.len() % 4 == 1 {
        data.pop();
    }
    data
}

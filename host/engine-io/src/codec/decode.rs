//! What clients write: single packets, and payloads read packet by packet, at the pace of who takes them.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use bytestring::ByteString;

use super::{LENGTH_END, SEPARATOR};
use crate::{Message, Version};

/// With or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The most digits of a length in front of a packet of protocol 3.
const MAX_DIGITS: usize = 10;

/// A packet of a client.
#[derive(Debug, PartialEq)]
pub(crate) enum Incoming {
    Close,
    /// With what stands behind its type.
    Ping(ByteString),
    Pong,
    Message(Message),
    Upgrade,
    /// One that says nothing to a server: an open, a no-op.
    Other,
}

/// What a client wrote is no packet, or no payload.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not written as the protocol says")]
pub(crate) struct Malformed;

impl Incoming {
    /// Reads a packet that is a text.
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
            b'2' => Self::Ping(rest),
            b'3' => Self::Pong,
            b'4' => Self::Message(Message::Text(rest)),
            b'5' => Self::Upgrade,
            _ => return Err(Malformed),
        })
    }

    /// Reads a packet that is binary.
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
            .or_else(|_| BASE64.decode(forgiven(data)))
            .map_err(|_| Malformed)?;
        Ok(Self::Message(Message::Binary(data.into())))
    }
}

/// The body of a POST, of which one packet after the other is taken.
#[derive(Debug)]
pub(crate) struct Payload {
    body: Body,
    position: usize,
    version: Version,
    /// Whether nothing is left, or what is left cannot be read.
    is_over: bool,
}

#[derive(Debug)]
enum Body {
    Text(ByteString),
    Binary(Bytes),
}

impl Payload {
    /// Of a body of text. What is no UTF-8 in it is replaced, as Node does.
    pub(crate) fn text(body: Bytes, version: Version) -> Self {
        let body = match ByteString::try_from(body.clone()) {
            Ok(body) => body,
            Err(_) => String::from_utf8_lossy(&body).into_owned().into(),
        };
        Self::new(Body::Text(body), version)
    }

    /// Of a body of binary packets, which there are in protocol 3.
    pub(crate) fn binary(body: Bytes) -> Self {
        Self::new(Body::Binary(body), Version::V3)
    }

    fn new(body: Body, version: Version) -> Self {
        Self {
            body,
            position: 0,
            version,
            is_over: false,
        }
    }

    /// How many texts it has as messages, where that is found without reading them.
    pub(crate) fn text_messages(&self) -> Option<usize> {
        match (&self.body, self.version) {
            (Body::Text(body), Version::V4) => {
                let packets = body.split(SEPARATOR);
                Some(packets.filter(|packet| packet.starts_with('4')).count())
            }
            _ => None,
        }
    }

    fn read(&mut self) -> Result<Option<Incoming>, Malformed> {
        let (body, version) = (&self.body, self.version);
        match (body, version) {
            (Body::Text(body), Version::V4) => {
                let rest = &body[self.position..];
                let packet = match rest.find(SEPARATOR) {
                    Some(end) => &rest[..end],
                    None => {
                        self.is_over = true;
                        rest
                    }
                };
                self.position += packet.len() + 1;
                Incoming::from_text(part(body, packet), version).map(Some)
            }
            (Body::Text(body), Version::V3) => loop {
                let rest = &body[self.position..];
                if rest.is_empty() {
                    // An empty body is no payload.
                    return if self.position == 0 { Err(Malformed) } else { Ok(None) };
                }
                let colon = rest
                    .bytes()
                    .take(MAX_DIGITS + 1)
                    .position(|byte| byte == b':')
                    .ok_or(Malformed)?;
                let length = number(rest.bytes().take(colon).map(|digit| digit.wrapping_sub(b'0')))?;
                let packet = first_utf16(&rest[colon + 1..], length)?;
                self.position += colon + 1 + packet.len();
                if !packet.is_empty() {
                    return Incoming::from_text(part(body, packet), version).map(Some);
                }
            },
            (Body::Binary(body), _) => {
                let rest = &body[self.position..];
                let Some(kind) = rest.first() else { return Ok(None) };
                let digits = &rest[1..];
                let end = digits
                    .iter()
                    .take(MAX_DIGITS + 1)
                    .position(|byte| *byte == LENGTH_END)
                    .ok_or(Malformed)?;
                let length = number(digits[..end].iter().copied())?;
                let start = 1 + end + 1;
                let packet = rest.get(start..start.saturating_add(length)).ok_or(Malformed)?;
                self.position += start + length;
                let packet = match packet.len() * 2 < body.len() {
                    true => Bytes::copy_from_slice(packet),
                    false => body.slice_ref(packet),
                };
                match kind {
                    0 => Incoming::from_text(ByteString::try_from(packet).map_err(|_| Malformed)?, version),
                    _ => Incoming::from_binary(packet, version),
                }
                .map(Some)
            }
        }
    }
}

impl Iterator for Payload {
    type Item = Result<Incoming, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = self.read().transpose();
        self.is_over |= !matches!(read, Some(Ok(_)));
        read
    }
}

/// A part of a body, which does not keep all of it in memory.
fn part(body: &ByteString, part: &str) -> ByteString {
    match part.len() * 2 < body.len() {
        true => ByteString::from(part),
        false => body.slice_ref(part),
    }
}

/// What Node makes of base64 that is none: it ends at a padding, the alphabet of URLs is understood, and all else is passed over.
fn forgiven(data: &str) -> Vec<u8> {
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

fn number(digits: impl Iterator<Item = u8>) -> Result<usize, Malformed> {
    let mut number = None;
    for digit in digits {
        if digit > 9 {
            return Err(Malformed);
        }
        number = Some(number.unwrap_or(0) * 10 + usize::from(digit));
    }
    number.ok_or(Malformed)
}

/// The beginning of a text, of so many units of UTF-16.
fn first_utf16(text: &str, units: usize) -> Result<&str, Malformed> {
    let mut left = units;
    for (at, character) in text.char_indices() {
        if left == 0 {
            return Ok(&text[..at]);
        }
        left = left.checked_sub(character.len_utf16()).ok_or(Malformed)?;
    }
    if left == 0 { Ok(text) } else { Err(Malformed) }
}

//! A payload from a client: the body of a POST, decoded packet by packet.

use bytes::Bytes;
use bytestring::ByteString;

use super::client_packet::{ClientPacket, Malformed};
use crate::version::Version;

/// Separates the packets of a payload in protocol 4.
pub(super) const SEPARATOR: char = '\x1e';
/// Ends the length in front of a packet of a binary payload in protocol 3.
pub(super) const LENGTH_END: u8 = 255;

/// Limit of digits in the length in front of a packet in protocol 3.
const MAX_DIGITS: usize = 10;

/// A payload. Each packet is decoded when it is taken.
#[derive(Debug)]
pub(crate) struct Payload {
    body: Body,
    position: usize,
    version: Version,
    /// Whether nothing is left, or what is left is invalid.
    is_over: bool,
}

#[derive(Debug)]
enum Body {
    Text(ByteString),
    Binary(Bytes),
}

impl Payload {
    /// A text payload. Invalid UTF-8 is replaced, as Node does.
    pub(crate) fn text(body: Bytes, version: Version) -> Self {
        let body = match ByteString::try_from(body.clone()) {
            Ok(body) => body,
            Err(_) => String::from_utf8_lossy(&body).into_owned().into(),
        };
        Self::new(Body::Text(body), version)
    }

    /// A binary payload, which only protocol 3 has.
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

    /// The number of text messages, where it is known without decoding: in protocol 4.
    pub(crate) fn text_messages(&self) -> Option<usize> {
        match (&self.body, self.version) {
            (Body::Text(body), Version::V4) => {
                let packets = body.split(SEPARATOR);
                Some(packets.filter(|packet| packet.starts_with('4')).count())
            }
            _ => None,
        }
    }

    fn decode_next(&mut self) -> Result<Option<ClientPacket>, Malformed> {
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
                ClientPacket::from_text(part(body, packet), version).map(Some)
            }
            (Body::Text(body), Version::V3) => loop {
                let rest = &body[self.position..];
                if rest.is_empty() {
                    // An empty body is invalid.
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
                    return ClientPacket::from_text(part(body, packet), version).map(Some);
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
                    0 => ClientPacket::from_text(ByteString::try_from(packet).map_err(|_| Malformed)?, version),
                    _ => ClientPacket::from_binary(packet, version),
                }
                .map(Some)
            }
        }
    }
}

impl Iterator for Payload {
    type Item = Result<ClientPacket, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.decode_next().transpose();
        self.is_over |= !matches!(next, Some(Ok(_)));
        next
    }
}

/// A part of a body. A small part is copied, so that it does not keep the whole body in memory.
fn part(body: &ByteString, part: &str) -> ByteString {
    match part.len() * 2 < body.len() {
        true => ByteString::from(part),
        false => body.slice_ref(part),
    }
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

/// The first `units` UTF-16 code units of a text.
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

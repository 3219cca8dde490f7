//! Encodes the payload of a response to a poll: as many packets as fit.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};

use super::payload::{LENGTH_END, SEPARATOR};
use crate::packet::{self, Content, Packet};
use crate::version::Version;

/// An encoded payload.
#[derive(Debug)]
pub(crate) struct EncodedPayload {
    pub(crate) body: Bytes,
    pub(crate) is_binary: bool,
}

/// Takes packets from the front of a queue, as many as fit into `limit` bytes and at least one. Also returns the sum of their
/// [costs](Packet::cost).
///
/// `base64` matters in protocol 3: the client accepts text only. In protocol 4 all binary data are sent as base64.
pub(crate) fn encode(
    packets: &mut VecDeque<Packet>,
    version: Version,
    base64: bool,
    limit: usize,
) -> (EncodedPayload, usize) {
    let mut length = 0;
    let fits = packets.iter().take_while(|packet| {
        let is_first = length == 0;
        length += max_length(packet, version, base64);
        is_first || length <= limit
    });
    let count = fits.count();
    let cost = packets.iter().take(count).map(Packet::cost).sum();
    let is_binary = !base64
        && packets
            .iter()
            .take(count)
            .any(|packet| matches!(packet.content(), Content::Binary(_)));
    let taken = packets.drain(..count);
    let encoded = match version {
        Version::V4 => text_v4(taken),
        Version::V3 if is_binary => binary_v3(taken),
        Version::V3 => text_v3(taken),
    };
    (encoded, cost)
}

/// Upper bound in bytes of an encoded packet with its framing.
fn max_length(packet: &Packet, version: Version, base64: bool) -> usize {
    let framing = match version {
        Version::V4 => 1,
        Version::V3 => 2 + packet.size().max(10).ilog10() as usize + 2,
    };
    framing
        + match packet.content() {
            Content::Text(text) => text.len(),
            Content::Binary(data) if base64 || version == Version::V4 => packet::base64_length(version, data.len()),
            Content::Binary(data) => 1 + data.len(),
        }
}

fn text_v4(packets: impl Iterator<Item = Packet>) -> EncodedPayload {
    let mut body = Vec::new();
    for packet in packets {
        if !body.is_empty() {
            body.put_u8(SEPARATOR as u8);
        }
        put_text(&packet, Version::V4, &mut body);
    }
    EncodedPayload {
        body: body.into(),
        is_binary: false,
    }
}

fn text_v3(packets: impl Iterator<Item = Packet>) -> EncodedPayload {
    let mut body = Vec::new();
    let mut text = Vec::new();
    for packet in packets {
        text.clear();
        put_text(&packet, Version::V3, &mut text);
        body.extend_from_slice(utf16_length(&text).to_string().as_bytes());
        body.put_u8(b':');
        body.extend_from_slice(&text);
    }
    EncodedPayload {
        body: body.into(),
        is_binary: false,
    }
}

fn binary_v3(packets: impl Iterator<Item = Packet>) -> EncodedPayload {
    let mut body = Vec::new();
    let mut put = |kind: u8, prefix: &[u8], content: &[u8]| {
        body.put_u8(kind);
        let length = (prefix.len() + content.len()).to_string();
        body.extend(length.bytes().map(|digit| digit - b'0'));
        body.put_u8(LENGTH_END);
        body.extend_from_slice(prefix);
        body.extend_from_slice(content);
    };
    for packet in packets {
        match packet.content() {
            Content::Text(text) => put(0, &[], text),
            Content::Binary(data) => put(1, &[4], data),
        }
    }
    EncodedPayload {
        body: body.into(),
        is_binary: true,
    }
}

fn put_text(packet: &Packet, version: Version, to: &mut Vec<u8>) {
    match packet.content() {
        Content::Text(text) => to.extend_from_slice(text),
        Content::Binary(data) => packet::put_base64(version, data, to),
    }
}

/// Length of a text in UTF-16 code units, by which JavaScript counts.
fn utf16_length(text: &[u8]) -> usize {
    // One unit for each character, and a second one for each that takes four bytes in UTF-8.
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + text.iter().filter(|byte| **byte >= 0xf0).count()
}

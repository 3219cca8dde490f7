//! An outgoing packet: encoded once, for any number of sessions.
//!
//! Nearly all clients use websockets, so a text is stored as a websocket frame; the response to a poll takes the text out of
//! it.

use bytes::{BufMut, Bytes};

use crate::frame;
use crate::version::Version;

/// Packet type of a message, in front of its text.
const MESSAGE: u8 = b'4';
/// Packet type of a binary message in protocol 3.
const BINARY_MESSAGE_V3: u8 = 4;
/// The bytes before a text: space for the frame header, and the packet type.
const HEAD: &str = "\0\0\0\0\0\0\0\0\0\x004";
const _: () = assert!(HEAD.len() == frame::MAX_HEADER + 1);

/// Bytes that each packet counts in a queue besides its content.
pub(crate) const OVERHEAD: usize = 64;

/// An encoded message packet. Clones share its bytes.
#[derive(Debug, Clone)]
pub struct Packet(Encoded);

#[derive(Debug, Clone)]
enum Encoded {
    /// The websocket frame of a text. Its payload begins with the packet type.
    Text(Bytes),
    /// The head of a binary frame of protocol 4, and the data after it.
    Binary { head: Bytes, data: Bytes },
}

impl Packet {
    pub(crate) const CLOSE: Self = Self::control(b"\x81\x011");
    pub(crate) const PING: Self = Self::control(b"\x81\x012");
    pub(crate) const PONG: Self = Self::control(b"\x81\x013");
    pub(crate) const NOOP: Self = Self::control(b"\x81\x016");

    /// A text message.
    pub fn text(text: &str) -> Self {
        Self::write_text(|head| [head, text].concat())
    }

    /// A text message, written without a copy: `write` gets a prefix, and returns it with the text appended.
    ///
    /// # Panics
    /// When the string that `write` returns does not begin with the prefix.
    pub fn write_text(write: impl FnOnce(&str) -> String) -> Self {
        let text = write(HEAD);
        assert!(text.starts_with(HEAD), "the text follows the given prefix");
        Self(Encoded::Text(frame::text_in_place(text.into_bytes())))
    }

    /// A binary message.
    pub fn binary(data: impl Into<Bytes>) -> Self {
        let data = data.into();
        let head = frame::binary_head(&[], data.len());
        Self(Encoded::Binary { head, data })
    }

    /// The packet that opens a session.
    pub(crate) fn open(json: &str) -> Self {
        Self(Encoded::Text(frame::text(&[b"0", json.as_bytes()].concat())))
    }

    /// The reply to the probe of an upgrade.
    pub(crate) fn probe_reply() -> Self {
        Self(Encoded::Text(Bytes::from_static(b"\x81\x063probe")))
    }

    const fn control(frame: &'static [u8]) -> Self {
        Self(Encoded::Text(Bytes::from_static(frame)))
    }

    /// The text of a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self.content() {
            Content::Text(text) => std::str::from_utf8(text.strip_prefix(&[MESSAGE])?).ok(),
            Content::Binary(_) => None,
        }
    }

    /// The data of a binary message.
    pub fn as_binary(&self) -> Option<&Bytes> {
        match &self.0 {
            Encoded::Text(_) => None,
            Encoded::Binary { data, .. } => Some(data),
        }
    }

    /// Bytes of the content, without the packet type and the framing of the transport.
    pub fn size(&self) -> usize {
        match &self.0 {
            Encoded::Text(frame) => frame.len() - frame::header_length(frame) - 1,
            Encoded::Binary { data, .. } => data.len(),
        }
    }

    /// Bytes that it counts in a queue.
    pub(crate) fn cost(&self) -> usize {
        OVERHEAD + self.size()
    }

    pub(crate) fn content(&self) -> Content<'_> {
        match &self.0 {
            Encoded::Text(frame) => Content::Text(&frame[frame::header_length(frame)..]),
            Encoded::Binary { data, .. } => Content::Binary(data),
        }
    }

    /// Passes the parts of its websocket frame to `write`, in order.
    pub(crate) fn into_frames(self, version: Version, base64: bool, mut write: impl FnMut(Bytes)) {
        match (self.0, version) {
            (Encoded::Text(frame), _) => write(frame),
            (Encoded::Binary { data, .. }, version) if base64 => {
                let mut text = Vec::with_capacity(base64_length(version, data.len()));
                put_base64(version, &data, &mut text);
                write(frame::text(&text));
            }
            (Encoded::Binary { head, data }, Version::V4) => {
                write(head);
                if !data.is_empty() {
                    write(data);
                }
            }
            (Encoded::Binary { data, .. }, Version::V3) => {
                write(frame::binary_head(&[BINARY_MESSAGE_V3], data.len()));
                if !data.is_empty() {
                    write(data);
                }
            }
        }
    }
}

/// The content of a packet, as a payload carries it.
pub(crate) enum Content<'a> {
    /// The packet type and the text.
    Text(&'a [u8]),
    /// The data of a binary message.
    Binary(&'a [u8]),
}

/// Writes a binary message as base64 text, with its type.
pub(crate) fn put_base64(version: Version, data: &[u8], to: &mut Vec<u8>) {
    use base64::Engine as _;
    to.put_u8(b'b');
    if version == Version::V3 {
        to.put_u8(MESSAGE);
    }
    let start = to.len();
    let length = data.len().div_ceil(3) * 4;
    to.resize(start + length, 0);
    base64::engine::general_purpose::STANDARD
        .encode_slice(data, &mut to[start..])
        .expect("the buffer has the encoded length");
}

/// Length in bytes of a binary message as base64 text, with its type.
pub(crate) fn base64_length(version: Version, data: usize) -> usize {
    let prefix = match version {
        Version::V3 => 2,
        Version::V4 => 1,
    };
    prefix + data.div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(packet: &Packet, version: Version, base64: bool) -> Vec<u8> {
        let mut written = Vec::new();
        packet
            .clone()
            .into_frames(version, base64, |part| written.extend_from_slice(&part));
        written
    }

    #[test]
    fn encodes_frames_of_each_protocol() {
        let text = Packet::text("2[\"ü\"]");
        let binary = Packet::binary(&b"\x01\x02\x03"[..]);
        for version in [Version::V3, Version::V4] {
            assert_eq!(frames(&text, version, false), b"\x81\x0842[\"\xc3\xbc\"]");
        }
        assert_eq!(text.size(), 7);
        assert_eq!((text.as_text(), text.as_binary()), (Some("2[\"ü\"]"), None));
        assert_eq!((Packet::PING.as_text(), binary.as_text()), (None, None));
        assert_eq!(binary.as_binary().unwrap(), &b"\x01\x02\x03"[..]);
        assert_eq!(frames(&binary, Version::V4, false), b"\x82\x03\x01\x02\x03");
        assert_eq!(frames(&binary, Version::V3, false), b"\x82\x04\x04\x01\x02\x03");
        assert_eq!(frames(&binary, Version::V4, true), b"\x81\x05bAQID");
        assert_eq!(frames(&binary, Version::V3, true), b"\x81\x06b4AQID");
        let empty = Packet::binary(Bytes::new());
        assert_eq!(frames(&empty, Version::V4, false), b"\x82\0");
        assert_eq!(frames(&empty, Version::V3, false), b"\x82\x01\x04");
    }
}

//! Messages as whole frames of a WebSocket, as a server sends them. RFC 6455, section 5.2.

use bytes::Bytes;

/// Kinds of frames, each a whole message.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

/// The longest head: the kind, and nine bytes of length.
const LONGEST_HEAD: usize = 10;
/// How many bytes stand before a text where a head will, so that the text need not be moved.
pub(in super::super) const ROOM: usize = LONGEST_HEAD;

/// A text as a frame.
pub(in super::super) fn text(text: &str) -> Bytes {
    let text = text.as_bytes();
    begun(TEXT, text, text.len()).into()
}

/// A text as a frame that stands behind [`ROOM`] for its head.
pub(in super::super) fn text_behind_room(text: String) -> Bytes {
    let mut frame = text.into_bytes();
    let (head, length) = head(TEXT, frame.len() - LONGEST_HEAD);
    let start = LONGEST_HEAD - length;
    frame[start..LONGEST_HEAD].copy_from_slice(&head[..length]);
    Bytes::from(frame).slice(start..)
}

/// The beginning of a frame of binary data: these bytes, and so many that are to follow.
pub(in super::super) fn binary_before(bytes: &[u8], to_follow: usize) -> Bytes {
    begun(BINARY, bytes, bytes.len() + to_follow).into()
}

/// How long the head of a frame is.
pub(in super::super) fn head_of(frame: &[u8]) -> usize {
    match frame[1] {
        126 => 4,
        127 => LONGEST_HEAD,
        _ => 2,
    }
}

fn begun(kind: u8, bytes: &[u8], content: usize) -> Vec<u8> {
    let (head, length) = head(kind, content);
    [&head[..length], bytes].concat()
}

/// The head of a frame with so much content, and how long that is.
fn head(kind: u8, content: usize) -> ([u8; LONGEST_HEAD], usize) {
    let mut head = [0; LONGEST_HEAD];
    head[0] = kind;
    let length = match (u8::try_from(content), u16::try_from(content)) {
        (Ok(content), _) if content < 126 => {
            head[1] = content;
            2
        }
        (_, Ok(content)) => {
            head[1] = 126;
            head[2..4].copy_from_slice(&content.to_be_bytes());
            4
        }
        _ => {
            head[1] = 127;
            head[2..].copy_from_slice(&(content as u64).to_be_bytes());
            LONGEST_HEAD
        }
    };
    (head, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_how_long_it_is() {
        assert_eq!(text("42[\"ü\"]"), &b"\x81\x0842[\"\xc3\xbc\"]"[..]);
        assert_eq!(binary_before(b"\x04", 2), &b"\x82\x03\x04"[..]);
        assert_eq!(binary_before(b"", 200), &b"\x82\x7e\0\xc8"[..]);
        for (length, head) in [
            (0, &b"\x81\0"[..]),
            (125, b"\x81\x7d"),
            (126, b"\x81\x7e\0\x7e"),
            (65_535, b"\x81\x7e\xff\xff"),
            (65_536, b"\x81\x7f\0\0\0\0\0\x01\0\0"),
        ] {
            let content = "x".repeat(length);
            let frame = text(&content);
            assert_eq!(frame, [head, content.as_bytes()].concat());
            assert_eq!(head_of(&frame), head.len());
            assert_eq!(text_behind_room(["\0".repeat(ROOM), content.clone()].concat()), frame);
        }
    }
}

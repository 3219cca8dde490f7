//! Encodes websocket frames, each of them a whole message. RFC 6455, section 5.2.

use bytes::Bytes;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8a;

/// Bytes of the longest header: two, and eight for the length.
pub(crate) const MAX_HEADER: usize = 10;

/// A text message.
pub(crate) fn text(payload: &[u8]) -> Bytes {
    whole(TEXT, payload)
}

/// A text message in a buffer whose payload follows [`MAX_HEADER`] bytes of room, so that the payload is not copied.
pub(crate) fn text_in_place(mut buffer: Vec<u8>) -> Bytes {
    let (header, length) = header(TEXT, buffer.len() - MAX_HEADER);
    let start = MAX_HEADER - length;
    buffer[start..MAX_HEADER].copy_from_slice(&header[..length]);
    Bytes::from(buffer).slice(start..)
}

/// The head of a binary message: its header and `prefix`, to be followed by `rest` more bytes.
pub(crate) fn binary_head(prefix: &[u8], rest: usize) -> Bytes {
    let (header, length) = header(BINARY, prefix.len() + rest);
    [&header[..length], prefix].concat().into()
}

/// A pong with the payload of its ping.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    whole(PONG, payload)
}

/// A close with a status code, or without one, which the peer reports as 1005.
pub(crate) fn close(code: Option<u16>) -> Bytes {
    match code {
        Some(code) => whole(CLOSE, &code.to_be_bytes()),
        None => whole(CLOSE, &[]),
    }
}

/// Length in bytes of the header of a frame from this file.
pub(crate) fn header_length(frame: &[u8]) -> usize {
    match frame[1] {
        126 => 4,
        127 => MAX_HEADER,
        _ => 2,
    }
}

fn whole(opcode: u8, payload: &[u8]) -> Bytes {
    let (header, length) = header(opcode, payload.len());
    [&header[..length], payload].concat().into()
}

fn header(opcode: u8, payload: usize) -> ([u8; MAX_HEADER], usize) {
    let mut header = [0; MAX_HEADER];
    header[0] = opcode;
    let length = match (u8::try_from(payload), u16::try_from(payload)) {
        (Ok(payload), _) if payload < 126 => {
            header[1] = payload;
            2
        }
        (_, Ok(payload)) => {
            header[1] = 126;
            header[2..4].copy_from_slice(&payload.to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload as u64).to_be_bytes());
            MAX_HEADER
        }
    };
    (header, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_encodes_length_of_payload() {
        assert_eq!(text("42[\"ü\"]".as_bytes()), &b"\x81\x0842[\"\xc3\xbc\"]"[..]);
        assert_eq!(binary_head(b"\x04", 2), &b"\x82\x03\x04"[..]);
        assert_eq!(binary_head(b"", 200), &b"\x82\x7e\0\xc8"[..]);
        assert_eq!(close(None), &b"\x88\0"[..]);
        assert_eq!(close(Some(1009)), &b"\x88\x02\x03\xf1"[..]);
        for (length, header) in [
            (0, &b"\x81\0"[..]),
            (125, b"\x81\x7d"),
            (126, b"\x81\x7e\0\x7e"),
            (65_535, b"\x81\x7e\xff\xff"),
            (65_536, b"\x81\x7f\0\0\0\0\0\x01\0\0"),
        ] {
            let payload = vec![b'x'; length];
            let frame = text(&payload);
            assert_eq!(frame, [header, &payload].concat());
            assert_eq!(header_length(&frame), header.len());
            assert_eq!(text_in_place([vec![0; MAX_HEADER], payload].concat()), frame);
        }
    }
}

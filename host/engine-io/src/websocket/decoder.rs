//! Decodes a client's websocket frames into messages. It stores only an unfinished message, and reports every frame that is
//! not a message, so that its owner can count them.

#[cfg(test)]
mod tests;

use std::io::Cursor;

use bytes::Bytes;
use bytestring::ByteString;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::budget::{Exhausted, Share};

/// Limit in bytes of the payload of a control frame.
const MAX_CONTROL: u64 = 125;
/// Fragments of fewer bytes are reported: no well-behaved client sends them.
const SMALL_FRAGMENT: u64 = 128;

/// A message, a control frame, or a small fragment from a client.
#[derive(Debug, PartialEq)]
pub(crate) enum WebSocketEvent {
    Text(ByteString),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    /// A fragment of a message, below 128 bytes.
    SmallFragment,
    Close,
}

/// Why the bytes of a client cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("a message is larger than max-payload")]
    TooLarge,
    #[error("a text is not UTF-8")]
    NotUtf8,
    #[error("a frame is invalid by RFC 6455")]
    Protocol,
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

impl DecodeError {
    /// The status code of the close frame for this error.
    pub(crate) fn close_code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
            Self::Exhausted(_) => 1013,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Decoder {
    max_message: usize,
    frame: Option<PartialFrame>,
    /// The bytes received of an unfinished message.
    message: Vec<u8>,
    /// Whether an unfinished message is text or binary. None between messages.
    kind: Option<Data>,
    control: Vec<u8>,
    share: Share,
}

/// A frame whose header is decoded.
#[derive(Debug, Clone, Copy)]
struct PartialFrame {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    length: u64,
    /// Bytes of the payload that are still missing.
    left: u64,
}

impl Decoder {
    /// Decodes messages of at most `max_message` bytes. Unfinished ones are counted in a share of the budget.
    pub(crate) fn new(max_message: usize, share: Share) -> Self {
        Self {
            max_message,
            frame: None,
            message: Vec::new(),
            kind: None,
            control: Vec::new(),
            share,
        }
    }

    /// Decodes from the front of `bytes` up to the next event. Returns the number of bytes consumed and the event; without an
    /// event, it needs more bytes after those it did not consume.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<(usize, Option<WebSocketEvent>), DecodeError> {
        let mut taken = 0;
        loop {
            let Some(frame) = &mut self.frame else {
                let mut rest = Cursor::new(&bytes[taken..]);
                let header = FrameHeader::parse(&mut rest).map_err(|_| DecodeError::Protocol)?;
                let Some((header, length)) = header else {
                    return Ok((taken, None));
                };
                taken += rest.position() as usize;
                self.frame = Some(self.begin_frame(&header, length)?);
                continue;
            };
            let now = usize::try_from(frame.left)
                .unwrap_or(usize::MAX)
                .min(bytes.len() - taken);
            let target = match frame.opcode {
                OpCode::Control(_) => &mut self.control,
                OpCode::Data(_) => &mut self.message,
            };
            let start = target.len();
            if start == 0 && now as u64 == frame.length {
                target.reserve_exact(now);
            }
            target.extend_from_slice(&bytes[taken..taken + now]);
            unmask(&mut target[start..], frame.mask, frame.length - frame.left);
            frame.left -= now as u64;
            taken += now;
            if frame.left > 0 {
                self.share.hold(self.message.len())?;
                return Ok((taken, None));
            }
            let frame = *frame;
            self.frame = None;
            if let Some(event) = self.end_frame(frame)? {
                return Ok((taken, Some(event)));
            }
        }
    }

    /// Frees an unfinished message, after which nothing is decoded any more.
    pub(crate) fn discard(&mut self) {
        self.message = Vec::new();
        // Cannot fail, because it shrinks the share.
        let _ = self.share.hold(0);
    }

    /// Whether a message or a frame is unfinished.
    #[cfg(test)]
    fn is_unfinished(&self) -> bool {
        self.frame.is_some() || self.kind.is_some()
    }

    fn begin_frame(&self, header: &FrameHeader, length: u64) -> Result<PartialFrame, DecodeError> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(DecodeError::Protocol);
        }
        let mask = header.mask.ok_or(DecodeError::Protocol)?;
        match header.opcode {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                return Err(DecodeError::Protocol);
            }
            OpCode::Control(_) if !header.is_final || length > MAX_CONTROL => return Err(DecodeError::Protocol),
            OpCode::Control(_) => {}
            OpCode::Data(kind) => {
                if (kind == Data::Continue) != self.kind.is_some() {
                    return Err(DecodeError::Protocol);
                }
                if length > (self.max_message - self.message.len()) as u64 {
                    return Err(DecodeError::TooLarge);
                }
            }
        }
        Ok(PartialFrame {
            opcode: header.opcode,
            is_final: header.is_final,
            mask,
            length,
            left: length,
        })
    }

    /// A frame is complete.
    fn end_frame(&mut self, frame: PartialFrame) -> Result<Option<WebSocketEvent>, DecodeError> {
        let kind = match frame.opcode {
            OpCode::Control(control) => {
                let payload = std::mem::take(&mut self.control);
                return Ok(Some(match control {
                    Control::Ping => WebSocketEvent::Ping(payload.into()),
                    Control::Close => {
                        check_close(&payload)?;
                        WebSocketEvent::Close
                    }
                    _ => WebSocketEvent::Pong,
                }));
            }
            OpCode::Data(Data::Continue) => self.kind.ok_or(DecodeError::Protocol)?,
            OpCode::Data(kind) => kind,
        };
        if !frame.is_final {
            self.kind = Some(kind);
            self.share.hold(self.message.len())?;
            return Ok((frame.length < SMALL_FRAGMENT).then_some(WebSocketEvent::SmallFragment));
        }
        self.kind = None;
        let message = Bytes::from(std::mem::take(&mut self.message));
        // Cannot fail, because it shrinks the share.
        let _ = self.share.hold(0);
        Ok(Some(match kind {
            Data::Text => WebSocketEvent::Text(ByteString::try_from(message).map_err(|_| DecodeError::NotUtf8)?),
            _ => WebSocketEvent::Binary(message),
        }))
    }
}

/// Checks the status code and the reason of a close frame.
fn check_close(payload: &[u8]) -> Result<(), DecodeError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Protocol)
        };
    };
    if !matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(DecodeError::Protocol);
    }
    std::str::from_utf8(reason)
        .map(|_| ())
        .map_err(|_| DecodeError::NotUtf8)
}

/// Unmasks bytes at an offset of a frame.
fn unmask(bytes: &mut [u8], mut mask: [u8; 4], offset: u64) {
    mask.rotate_left((offset % 4) as usize);
    let word = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = bytes.chunks_exact_mut(8);
    for chunk in &mut words {
        let chunk: &mut [u8; 8] = chunk.try_into().expect("the chunk has eight bytes");
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

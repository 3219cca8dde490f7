//! Frames of a client become messages. The decoder keeps only what has come of an unfinished message, and tells of every
//! frame that is no message, so that its owner can count them.

use std::io::Cursor;

use bytes::Bytes;
use bytestring::ByteString;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::budget::{Exhausted, Share};

/// The most bytes of a control frame.
const MAX_CONTROL: u64 = 125;
/// A fragment of fewer bytes is counted: no honest client sends such.
const SMALL_FRAGMENT: u64 = 128;

/// What a client sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    Text(ByteString),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    /// A fragment so small that it is worth counting.
    SmallFragment,
    Close,
}

/// Why a websocket cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("a message is larger than max-payload")]
    TooLarge,
    #[error("a text is not UTF-8")]
    NotUtf8,
    #[error("a frame is not written as RFC 6455 says")]
    Protocol,
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

#[derive(Debug)]
pub(crate) struct Decoder {
    max_message: usize,
    /// The frame that is being read.
    frame: Option<Frame>,
    /// What has come of an unfinished message.
    message: Vec<u8>,
    kind: Option<Data>,
    control: Vec<u8>,
    share: Share,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    code: OpCode,
    is_final: bool,
    mask: [u8; 4],
    length: u64,
    left: u64,
}

impl Decoder {
    /// For messages of at most so many bytes, whose unfinished ones are a part of a budget.
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

    /// Reads from the front of `bytes`, and says how many it took and what has come to its end by that. When that is
    /// nothing, it needs more bytes behind those that it did not take.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), Broken> {
        let mut taken = 0;
        loop {
            let Some(frame) = &mut self.frame else {
                let mut rest = Cursor::new(&bytes[taken..]);
                let header = FrameHeader::parse(&mut rest).map_err(|_| Broken::Protocol)?;
                let Some((header, length)) = header else {
                    return Ok((taken, None));
                };
                taken += rest.position() as usize;
                self.frame = Some(self.begin(&header, length)?);
                continue;
            };
            let now = usize::try_from(frame.left)
                .unwrap_or(usize::MAX)
                .min(bytes.len() - taken);
            let target = match frame.code {
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
            if let Some(event) = self.end(frame)? {
                return Ok((taken, Some(event)));
            }
        }
    }

    /// Forgets what has come of an unfinished message: nothing more is read.
    pub(crate) fn forget(&mut self) {
        self.message = Vec::new();
        // Cannot fail: it holds less from now on.
        let _ = self.share.hold(0);
    }

    /// Whether a message or a frame is unfinished.
    #[cfg(test)]
    fn is_unfinished(&self) -> bool {
        self.frame.is_some() || self.kind.is_some()
    }

    fn begin(&self, header: &FrameHeader, length: u64) -> Result<Frame, Broken> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Broken::Protocol);
        }
        let mask = header.mask.ok_or(Broken::Protocol)?;
        match header.opcode {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => return Err(Broken::Protocol),
            OpCode::Control(_) if !header.is_final || length > MAX_CONTROL => return Err(Broken::Protocol),
            OpCode::Control(_) => {}
            OpCode::Data(kind) => {
                if (kind == Data::Continue) != self.kind.is_some() {
                    return Err(Broken::Protocol);
                }
                if length > (self.max_message - self.message.len()) as u64 {
                    return Err(Broken::TooLarge);
                }
            }
        }
        Ok(Frame {
            code: header.opcode,
            is_final: header.is_final,
            mask,
            length,
            left: length,
        })
    }

    /// A frame has come to its end.
    fn end(&mut self, frame: Frame) -> Result<Option<Event>, Broken> {
        let kind = match frame.code {
            OpCode::Control(control) => {
                let payload = std::mem::take(&mut self.control);
                return Ok(Some(match control {
                    Control::Ping => Event::Ping(payload.into()),
                    Control::Close => {
                        check_close(&payload)?;
                        Event::Close
                    }
                    _ => Event::Pong,
                }));
            }
            OpCode::Data(Data::Continue) => self.kind.ok_or(Broken::Protocol)?,
            OpCode::Data(kind) => kind,
        };
        if !frame.is_final {
            self.kind = Some(kind);
            self.share.hold(self.message.len())?;
            return Ok((frame.length < SMALL_FRAGMENT).then_some(Event::SmallFragment));
        }
        self.kind = None;
        let message = Bytes::from(std::mem::take(&mut self.message));
        // Cannot fail: it holds less from now on.
        let _ = self.share.hold(0);
        Ok(Some(match kind {
            Data::Text => Event::Text(ByteString::try_from(message).map_err(|_| Broken::NotUtf8)?),
            _ => Event::Binary(message),
        }))
    }
}

/// Whether the payload of a close frame is one.
fn check_close(payload: &[u8]) -> Result<(), Broken> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(())
        } else {
            Err(Broken::Protocol)
        };
    };
    if !matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Broken::Protocol);
    }
    std::str::from_utf8(reason).map(|_| ()).map_err(|_| Broken::NotUtf8)
}

/// Takes the mask off bytes that stand at this offset of a frame.
fn unmask(bytes: &mut [u8], mut mask: [u8; 4], offset: u64) {
    mask.rotate_left((offset % 4) as usize);
    let word = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = bytes.chunks_exact_mut(8);
    for chunk in &mut words {
        let chunk: &mut [u8; 8] = chunk.try_into().expect("it is of eight");
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Budget;

    const MOST: usize = 1_000;

    fn decoder() -> Decoder {
        Decoder::new(MOST, Budget::new(1 << 20).share(None))
    }

    /// A frame of a client.
    fn frame(code: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let header = FrameHeader {
            is_final,
            opcode: code,
            mask: Some(mask),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        header.format(payload.len() as u64, &mut bytes).unwrap();
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// Reads bytes that come in parts of so many.
    fn read(decoder: &mut Decoder, bytes: &[u8], part: usize) -> Result<Vec<Event>, Broken> {
        let (mut events, mut rest) = (Vec::new(), Vec::new());
        for part in bytes.chunks(part) {
            rest.extend_from_slice(part);
            loop {
                let (taken, event) = decoder.decode(&rest)?;
                rest.drain(..taken);
                match event {
                    Some(event) => events.push(event),
                    None => break,
                }
            }
        }
        Ok(events)
    }

    fn broken(bytes: &[u8]) -> Broken {
        read(&mut decoder(), bytes, 7).unwrap_err()
    }

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const BINARY: OpCode = OpCode::Data(Data::Binary);
    const MORE: OpCode = OpCode::Data(Data::Continue);
    const PING: OpCode = OpCode::Control(Control::Ping);
    const CLOSE: OpCode = OpCode::Control(Control::Close);

    #[test]
    fn broken_frames_are_told() {
        assert_eq!(broken(&frame(TEXT, true, &[b'x'; MOST + 1])), Broken::TooLarge);
        // It is told by the header.
        assert_eq!(broken(&frame(TEXT, true, &[b'x'; MOST + 1])[..8]), Broken::TooLarge);
        let in_parts = [frame(TEXT, false, &[b'x'; MOST]), frame(MORE, true, b"x")].concat();
        assert_eq!(broken(&in_parts), Broken::TooLarge);
        assert_eq!(broken(&frame(TEXT, true, b"\xff")), Broken::NotUtf8);
        assert_eq!(broken(&frame(MORE, true, b"")), Broken::Protocol);
        assert_eq!(
            broken(&[frame(TEXT, false, b"x"), frame(TEXT, true, b"x")].concat()),
            Broken::Protocol
        );
        assert_eq!(broken(&frame(PING, false, b"")), Broken::Protocol);
        assert_eq!(broken(&frame(PING, true, &[0; 126])), Broken::Protocol);
        assert_eq!(broken(b"\x81\x01x"), Broken::Protocol);
        assert_eq!(broken(b"\xc1\x80\0\0\0\0"), Broken::Protocol);
        assert_eq!(broken(b"\x83\x80\0\0\0\0"), Broken::Protocol);
        assert_eq!(broken(&frame(CLOSE, true, b"\x03")), Broken::Protocol);
        assert_eq!(broken(&frame(CLOSE, true, &1005_u16.to_be_bytes())), Broken::Protocol);
        // A length that no memory has.
        assert_eq!(
            broken(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
            Broken::TooLarge
        );
    }

    #[test]
    fn control_frames_come_between_fragments() {
        let bytes = [
            frame(TEXT, false, "€".as_bytes().split_at(1).0),
            frame(PING, true, b"p"),
            frame(MORE, false, b""),
            frame(MORE, true, "€".as_bytes().split_at(1).1),
            frame(CLOSE, true, b"\x03\xe8bye"),
        ];
        let expected = [
            Event::SmallFragment,
            Event::Ping("p".into()),
            Event::SmallFragment,
            Event::Text("€".into()),
            Event::Close,
        ];
        for part in [1, 3, 100] {
            assert_eq!(read(&mut decoder(), &bytes.concat(), part).unwrap(), expected);
        }
    }

    #[test]
    fn unfinished_bytes_are_bounded_for_all() {
        let budget = Budget::new(100_000);
        let mut many: Vec<_> = (0..10).map(|_| Decoder::new(1 << 20, budget.share(None))).collect();
        let half = &frame(BINARY, true, &[0; 100_000])[..50_000];
        let refused = many
            .iter_mut()
            .filter_map(|decoder| decoder.decode(half).err())
            .collect::<Vec<_>>();
        assert_eq!(refused, [Broken::Exhausted(Exhausted); 9]);
        drop(many);
        assert!(Decoder::new(1 << 20, budget.share(None)).decode(half).is_ok());
    }

    proptest! {
        #[test]
        fn messages_are_read_however_they_come(
            messages in vec((vec(vec(any::<u8>(), 0..300), 1..4), any::<bool>()), 1..10),
            part in 1_usize..500,
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (fragments, is_text) in messages {
                let fragments: Vec<Vec<u8>> = match is_text {
                    true => fragments.iter().map(|fragment| fragment.iter().map(|byte| byte & 0x7f).collect()).collect(),
                    false => fragments,
                };
                let last = fragments.len() - 1;
                for (at, fragment) in fragments.iter().enumerate() {
                    let code = match (at, is_text) { (0, true) => TEXT, (0, false) => BINARY, _ => MORE };
                    bytes.extend(frame(code, at == last, fragment));
                }
                let message = Bytes::from(fragments.concat());
                expected.push(match is_text {
                    true => Event::Text(message.try_into().unwrap()),
                    false => Event::Binary(message),
                });
            }
            let mut decoder = decoder();
            let mut read = read(&mut decoder, &bytes, part).unwrap();
            read.retain(|event| *event != Event::SmallFragment);
            prop_assert_eq!(read, expected);
            prop_assert!(!decoder.is_unfinished());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in vec(prop_oneof![any::<u8>(), Just(0x81), Just(0x80), Just(0x82)], 0..300), part in 1_usize..50) {
            let _ = read(&mut decoder(), &bytes, part);
        }
    }
}

//! Tests of the decoder.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::budget::Budget;

const MAX_MESSAGE: usize = 1_000;

fn decoder() -> Decoder {
    Decoder::new(MAX_MESSAGE, Budget::new(1 << 20).share(None))
}

/// A masked frame.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let header = FrameHeader {
        is_final,
        opcode,
        mask: Some(mask),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).unwrap();
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Decodes bytes that arrive in parts of a size.
fn decode(decoder: &mut Decoder, bytes: &[u8], part_size: usize) -> Result<Vec<WebSocketEvent>, DecodeError> {
    let (mut events, mut rest) = (Vec::new(), Vec::new());
    for part in bytes.chunks(part_size) {
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

fn error(bytes: &[u8]) -> DecodeError {
    decode(&mut decoder(), bytes, 7).unwrap_err()
}

const TEXT: OpCode = OpCode::Data(Data::Text);
const BINARY: OpCode = OpCode::Data(Data::Binary);
const CONTINUE: OpCode = OpCode::Data(Data::Continue);
const PING: OpCode = OpCode::Control(Control::Ping);
const CLOSE: OpCode = OpCode::Control(Control::Close);

#[test]
fn invalid_frames_are_refused() {
    assert_eq!(
        error(&frame(TEXT, true, &[b'x'; MAX_MESSAGE + 1])),
        DecodeError::TooLarge
    );
    // The header is enough.
    assert_eq!(
        error(&frame(TEXT, true, &[b'x'; MAX_MESSAGE + 1])[..8]),
        DecodeError::TooLarge
    );
    let in_parts = [frame(TEXT, false, &[b'x'; MAX_MESSAGE]), frame(CONTINUE, true, b"x")].concat();
    assert_eq!(error(&in_parts), DecodeError::TooLarge);
    assert_eq!(error(&frame(TEXT, true, b"\xff")), DecodeError::NotUtf8);
    assert_eq!(error(&frame(CONTINUE, true, b"")), DecodeError::Protocol);
    assert_eq!(
        error(&[frame(TEXT, false, b"x"), frame(TEXT, true, b"x")].concat()),
        DecodeError::Protocol
    );
    assert_eq!(error(&frame(PING, false, b"")), DecodeError::Protocol);
    assert_eq!(error(&frame(PING, true, &[0; 126])), DecodeError::Protocol);
    assert_eq!(error(b"\x81\x01x"), DecodeError::Protocol);
    assert_eq!(error(b"\xc1\x80\0\0\0\0"), DecodeError::Protocol);
    assert_eq!(error(b"\x83\x80\0\0\0\0"), DecodeError::Protocol);
    assert_eq!(error(&frame(CLOSE, true, b"\x03")), DecodeError::Protocol);
    assert_eq!(
        error(&frame(CLOSE, true, &1005_u16.to_be_bytes())),
        DecodeError::Protocol
    );
    // A length beyond any memory.
    assert_eq!(
        error(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
        DecodeError::TooLarge
    );
}

#[test]
fn control_frames_may_come_between_fragments() {
    let bytes = [
        frame(TEXT, false, "€".as_bytes().split_at(1).0),
        frame(PING, true, b"p"),
        frame(CONTINUE, false, b""),
        frame(CONTINUE, true, "€".as_bytes().split_at(1).1),
        frame(CLOSE, true, b"\x03\xe8bye"),
    ];
    let expected = [
        WebSocketEvent::SmallFragment,
        WebSocketEvent::Ping("p".into()),
        WebSocketEvent::SmallFragment,
        WebSocketEvent::Text("€".into()),
        WebSocketEvent::Close,
    ];
    for part in [1, 3, 100] {
        assert_eq!(decode(&mut decoder(), &bytes.concat(), part).unwrap(), expected);
    }
}

#[test]
fn unfinished_messages_share_a_budget() {
    let budget = Budget::new(100_000);
    let mut many: Vec<_> = (0..10).map(|_| Decoder::new(1 << 20, budget.share(None))).collect();
    let half = &frame(BINARY, true, &[0; 100_000])[..50_000];
    let refused = many
        .iter_mut()
        .filter_map(|decoder| decoder.decode(half).err())
        .collect::<Vec<_>>();
    assert_eq!(refused, [DecodeError::Exhausted(Exhausted); 9]);
    drop(many);
    assert!(Decoder::new(1 << 20, budget.share(None)).decode(half).is_ok());
}

proptest! {
    #[test]
    fn messages_are_decoded_however_they_are_split(
        messages in vec((vec(vec(any::<u8>(), 0..300), 1..4), any::<bool>()), 1..10),
        part_size in 1_usize..500,
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (fragments, is_text) in messages {
            let fragments: Vec<Vec<u8>> = match is_text {
                true => fragments.iter().map(|fragment| fragment.iter().map(|byte| byte & 0x7f).collect()).collect(),
                false => fragments,
            };
            let last = fragments.len() - 1;
            for (at, fragment) in fragments.iter().enumerate() {
                let opcode = match (at, is_text) { (0, true) => TEXT, (0, false) => BINARY, _ => CONTINUE };
                bytes.extend(frame(opcode, at == last, fragment));
            }
            let message = Bytes::from(fragments.concat());
            expected.push(match is_text {
                true => WebSocketEvent::Text(message.try_into().unwrap()),
                false => WebSocketEvent::Binary(message),
            });
        }
        let mut decoder = decoder();
        let mut decoded = decode(&mut decoder, &bytes, part_size).unwrap();
        decoded.retain(|event| *event != WebSocketEvent::SmallFragment);
        prop_assert_eq!(decoded, expected);
        prop_assert!(!decoder.is_unfinished());
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in vec(prop_oneof![any::<u8>(), Just(0x81), Just(0x80), Just(0x82)], 0..300), part_size in 1_usize..50) {
        let _ = decode(&mut decoder(), &bytes, part_size);
    }
}

//! The payload codec: what it decodes, encodes and refuses.

use std::collections::VecDeque;

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::prelude::*;

use super::client_packet::Malformed;
use super::*;
use crate::message::Message;
use crate::packet::Packet;
use crate::version::Version;

fn text(text: &str) -> ClientPacket {
    ClientPacket::Message(Message::Text(text.into()))
}

fn binary(data: &[u8]) -> ClientPacket {
    ClientPacket::Message(Message::Binary(Bytes::copy_from_slice(data)))
}

fn decode(body: &[u8], version: Version) -> Result<Vec<ClientPacket>, Malformed> {
    Payload::text(Bytes::copy_from_slice(body), version).collect()
}

fn decode_binary(body: &[u8]) -> Result<Vec<ClientPacket>, Malformed> {
    Payload::binary(Bytes::copy_from_slice(body)).collect()
}

fn encode_all(packets: &[Packet], version: Version, base64: bool) -> EncodedPayload {
    encode(&mut packets.iter().cloned().collect(), version, base64, usize::MAX).0
}

#[test]
fn protocol_4_payload_is_separated() {
    let packets = [Packet::text("ü"), Packet::binary(&b"\x01\x02"[..]), Packet::PING];
    let encoded = encode_all(&packets, Version::V4, false);
    assert_eq!(encoded.body, "4ü\x1ebAQI=\x1e2");
    assert!(!encoded.is_binary);
    let packets = decode("4ü\x1ebAQI\x1e3\x1e1\x1e6\x1e5".as_bytes(), Version::V4).unwrap();
    let expected = [
        text("ü"),
        binary(b"\x01\x02"),
        ClientPacket::Pong,
        ClientPacket::Close,
        ClientPacket::Other,
        ClientPacket::Upgrade,
    ];
    assert_eq!(packets, expected);
}

#[test]
fn protocol_3_payload_counts_utf16_units() {
    let packets = [Packet::text("€😀"), Packet::binary(&b"\x01\x02"[..])];
    let encoded = encode_all(&packets, Version::V3, true);
    assert_eq!(encoded.body, "4:4€😀6:b4AQI=");
    let expected = [text("€😀"), binary(b"\x01\x02")];
    assert_eq!(decode(&encoded.body, Version::V3).unwrap(), expected);
    let encoded = encode_all(&packets, Version::V3, false);
    assert!(encoded.is_binary);
    assert_eq!(
        encoded.body,
        &b"\0\x08\xff4\xe2\x82\xac\xf0\x9f\x98\x80\x01\x03\xff\x04\x01\x02"[..]
    );
    assert_eq!(decode_binary(&encoded.body).unwrap(), expected);
    // Without binary data the payload is text.
    assert_eq!(encode_all(&[Packet::PONG], Version::V3, false).body, "1:3");
    assert_eq!(decode(b"0:2:4a", Version::V3).unwrap(), [text("a")]);
}

#[test]
fn invalid_payloads_are_refused() {
    for body in ["", "a", "4a\x1e", "\x1e4a", "7", "😀"] {
        assert!(decode(body.as_bytes(), Version::V4).is_err(), "{body:?}");
    }
    for body in [
        "",
        ":",
        "1",
        "4a",
        "3:4a",
        "-1:4",
        "1:44a",
        "2:4😀",
        "99999999999:4",
        "1:b",
        "+1:4",
    ] {
        assert!(decode(body.as_bytes(), Version::V3).is_err(), "{body:?}");
    }
    for body in [
        &b"\0"[..],
        b"\0\xff4",
        b"\0\x02\xff4",
        b"\0\x0a\xff4",
        b"\0\x01\xff\xff",
        b"\x01\x01\xff\x07",
        b"\0\0\xff",
    ] {
        assert!(decode_binary(body).is_err(), "{body:?}");
    }
    // The packets before the invalid one are decoded.
    let mut payload = Payload::text("4a\x1e7\x1e4b".into(), Version::V4);
    assert_eq!(payload.next(), Some(Ok(text("a"))));
    assert_eq!(payload.next(), Some(Err(Malformed)));
    assert_eq!(payload.next(), None);
}

#[test]
fn invalid_base64_is_decoded_as_by_node() {
    for (text, data) in [
        ("!!!!", &b""[..]),
        ("QQ", b"A"),
        ("QQ=", b"A"),
        ("YQ==YQ==", b"a"),
        ("Y Q = =", b"a"),
        ("-_-_", b"\xfb\xff\xbf"),
        ("a", b""),
        ("ab=cd", b"i"),
        ("====", b""),
        ("QUJD*REVG", b"ABCDEF"),
        ("é", b""),
        ("QQ==*", b"A"),
    ] {
        let packets = decode(format!("b{text}").as_bytes(), Version::V4).unwrap();
        assert_eq!(packets, [binary(data)], "{text:?}");
    }
}

#[test]
fn invalid_utf8_is_replaced() {
    assert_eq!(decode(b"4\xff", Version::V4).unwrap(), [text("\u{fffd}")]);
}

#[test]
fn payload_holds_at_least_one_packet() {
    let mut packets: VecDeque<Packet> = ["x".repeat(50), "y".into(), "z".repeat(7)]
        .iter()
        .map(|text| Packet::text(text))
        .collect();
    let next = |packets: &mut _| String::from_utf8(encode(packets, Version::V4, false, 10).0.body.to_vec()).unwrap();
    assert_eq!(next(&mut packets).len(), 51);
    assert_eq!(next(&mut packets), "4y");
    assert_eq!(next(&mut packets), "4zzzzzzz");
    assert!(packets.is_empty());
}

#[derive(Debug, Clone)]
enum Sent {
    Text(String),
    Binary(Vec<u8>),
}

impl Sent {
    fn packet(&self) -> Packet {
        match self {
            Self::Text(text) => Packet::text(text),
            Self::Binary(data) => Packet::binary(data.clone()),
        }
    }

    fn message(&self) -> ClientPacket {
        match self {
            Self::Text(text) => ClientPacket::Message(Message::Text(ByteString::from(text.as_str()))),
            Self::Binary(data) => binary(data),
        }
    }
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    // A packet of protocol 4 cannot contain the separator; JSON escapes it.
    let text = "[^\x1e]{0,20}".prop_map(Sent::Text);
    let data = vec(any::<u8>(), 0..20).prop_map(Sent::Binary);
    vec(prop_oneof![text, data], 1..20)
}

proptest! {
    #[test]
    fn encoded_payloads_decode_to_the_same(sent in sent(), limit in 0_usize..200, base64: bool, is_v3: bool) {
        let version = if is_v3 { Version::V3 } else { Version::V4 };
        let mut queue: VecDeque<Packet> = sent.iter().map(Sent::packet).collect();
        let cost: usize = queue.iter().map(Packet::cost).sum();
        let (mut received, mut taken) = (Vec::new(), 0);
        while !queue.is_empty() {
            let before = queue.len();
            let (encoded, cost) = encode(&mut queue, version, base64, limit);
            taken += cost;
            prop_assert!(encoded.body.len() <= limit || queue.len() + 1 == before);
            let payload = match encoded.is_binary {
                true => Payload::binary(encoded.body),
                false => Payload::text(encoded.body, version),
            };
            for packet in payload {
                received.push(packet.unwrap());
            }
        }
        prop_assert_eq!(taken, cost);
        prop_assert_eq!(received, sent.iter().map(Sent::message).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_payloads_do_not_panic(body in vec(prop_oneof![any::<u8>(), 0_u8..7, Just(255), Just(b':'), Just(b'4'), Just(0x1e)], 0..200)) {
        for version in [Version::V3, Version::V4] {
            prop_assert!(Payload::text(body.clone().into(), version).count() <= body.len() + 1);
        }
        prop_assert!(Payload::binary(body.clone().into()).count() <= body.len() + 1);
    }
}

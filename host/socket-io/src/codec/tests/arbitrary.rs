//! Property tests: any packet is refused, or survives encoding and decoding unchanged. Both take little memory.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use plugnode_testing::arbitrary::{bytes, json, json_text, nearly, nearly_text, one_of, peak, placeholder, text};

/// Bytes of memory that decoding may take for each byte that was sent,
const MEMORY_FACTOR: u64 = 64;
/// and in addition to that.
const MEMORY_BASE: u64 = 16 << 10;

/// A message of Engine.IO that a client sends.
#[derive(Debug, Clone)]
enum Sent {
    Text(String),
    Binary(Vec<u8>),
}

fn read(codec: &Codec, partial: &PartialPacket, sent: Sent) -> Result<Option<IncomingPacket>, Malformed> {
    match sent {
        Sent::Text(text) => codec.read_text(partial, text.into()),
        Sent::Binary(data) => codec.read_binary(partial, data.into()),
    }
}

/// A packet in JSON, as another library might write it.
fn packet() -> impl Strategy<Value = String> {
    let kind = one_of(&[
        "2",
        "3",
        "0",
        "1",
        "4",
        "51-",
        "52-",
        "61-",
        "50-",
        "599999999999-",
        "610001-",
        "7",
    ]);
    let namespace = prop_oneof![
        one_of(&["", "/,", "/chat,", "/chat?a=b,", "/é,", "/"]),
        text().prop_map(|name| format!("/{name},"))
    ];
    let number = one_of(&["", "0", "7", "-1", "9223372036854775807", "99999999999999999999"]);
    let content = prop_oneof![
        json_text(),
        (text(), vec(json_text(), 0..4)).prop_map(|(name, args)| {
            let name = Json::from(name).to_string();
            format!("[{}]", [vec![name], args].concat().join(","))
        }),
    ];
    (kind, namespace, number, content).prop_map(|parts| [parts.0, parts.1, parts.2, parts.3].concat())
}

/// A value in MessagePack, with types that JSON does not have.
fn pack() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![
        bytes(300).prop_map(|data| written(|to| rmp::encode::write_bin(to, &data))),
        bytes(40).prop_map(|data| [&[0xc7, data.len() as u8, 5], &data[..]].concat()),
        any::<f32>().prop_map(|number| written(|to| rmp::encode::write_f32(to, number))),
        any::<f64>().prop_map(|number| written(|to| rmp::encode::write_f64(to, number))),
        bytes(8).prop_map(|data| [&[0xd9, data.len() as u8], &data[..]].concat()),
        Just(vec![0xd4, 0, 0]),
        any::<i64>().prop_map(|ms| [&[0xd7, 0], &(ms >> 10).to_be_bytes()[..]].concat()),
        Just(b"\x82\xac_placeholder\xc3\xa3num\x00".to_vec()),
        Just(vec![0xc1]),
    ];
    let leaf = prop_oneof![
        odd,
        json().prop_map(|value| msgpack::encode(&value.to_string(), &[], 0).unwrap().into())
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let list = |head: u8, items: Vec<Vec<u8>>| [vec![head, 0, items.len() as u8], items.concat()].concat();
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(move |items| list(0xdc, items)),
            vec((inner.clone(), inner.clone()), 0..5).prop_map(move |fields| {
                let fields = fields.into_iter().map(|(key, value)| [key, value].concat());
                list(0xde, fields.collect())
            }),
            vec((text(), inner), 0..5).prop_map(move |fields| {
                let field =
                    |(key, value): (String, Vec<u8>)| [written(|to| rmp::encode::write_str(to, &key)), value].concat();
                list(0xde, fields.into_iter().map(field).collect())
            }),
        ]
    })
}

fn written<T, E: std::fmt::Debug>(write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>) -> Vec<u8> {
    let mut data = Vec::new();
    write(&mut data).expect("memory can be written to");
    data
}

/// A packet in MessagePack, as another library might write it.
fn packed() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![Just(None), any::<i64>().prop_map(Some), (0_i64..9).prop_map(Some)];
    (0_u64..8, text(), pack(), text(), vec(pack(), 0..3), id, any::<bool>()).prop_map(
        |(kind, namespace, odd, name, args, id, is_odd)| {
            let text = |text: &str| written(|to| rmp::encode::write_str(to, text));
            let args = [vec![0x91 + args.len() as u8], text(&name), args.concat()].concat();
            let mut packet = vec![0x83 + u8::from(id.is_some())];
            packet.extend(text("type"));
            packet.extend(written(|to| rmp::encode::write_uint(to, kind)));
            packet.extend(text("nsp"));
            packet.extend(text(&format!("/{namespace}")));
            packet.extend(text("data"));
            packet.extend(if is_odd { odd } else { args });
            if let Some(id) = id {
                packet.extend(text("id"));
                packet.extend(written(|to| rmp::encode::write_sint(to, id)));
            }
            packet
        },
    )
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let one = prop_oneof![
        6 => nearly_text(packet()).prop_map(Sent::Text),
        1 => any::<String>().prop_map(Sent::Text),
        6 => nearly(packed()).prop_map(Sent::Binary),
        2 => bytes(200).prop_map(Sent::Binary),
    ];
    vec(one, 1..6)
}

/// JSON with its attachments in place of their placeholders, because their numbers may differ.
fn whole(text: &str, attachments: &[Bytes]) -> Option<Json> {
    fn fill(value: &mut Json, attachments: &[Bytes]) {
        let number = value.get("num").and_then(Json::as_u64);
        let is_one = value.get("_placeholder") == Some(&Json::Bool(true));
        let attachment = number
            .filter(|_| is_one)
            .and_then(|number| attachments.get(number as usize));
        if let Some(attachment) = attachment {
            *value = Json::from(format!("{attachment:?}"));
            return;
        }
        match value {
            Json::Array(items) => items.iter_mut().for_each(|item| fill(item, attachments)),
            Json::Object(fields) => fields.values_mut().for_each(|field| fill(field, attachments)),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(text).ok()?;
    fill(&mut value, attachments);
    Some(value)
}

fn codecs() -> [Codec; 2] {
    [
        Codec::new(Encoding::Json, 1_000),
        Codec::new(Encoding::MessagePack, 1_000),
    ]
}

proptest! {
    #[test]
    fn refuses_or_preserves_any_packet(sent in sent()) {
        let namespace = Namespace::from("/chat");
        for codec in codecs() {
            let partial = PartialPacket::default();
            for sent in sent.clone() {
                let Ok(Some(incoming)) = read(&codec, &partial, sent) else { continue };
                match incoming.content {
                    PacketContent::Event(payload, ack) => {
                        let Ok((name, args)) = payload.into_event() else { continue };
                        let Some(expected) = whole(&args.json, &args.attachments) else { continue };
                        let ack = ack.filter(|ack| *ack >= 0);
                        let PacketContent::Event(payload, same) = back(&codec, codec.event(&namespace, &name, &args, ack)).content else {
                            panic!("not an event")
                        };
                        prop_assert_eq!(same, ack);
                        let (same, args) = payload.into_event().expect("a valid event");
                        prop_assert_eq!(&*same, &*name);
                        prop_assert_eq!(whole(&args.json, &args.attachments), Some(expected));
                    }
                    PacketContent::Ack(payload, number) => {
                        let Ok(args) = payload.into_answer() else { continue };
                        let Some(expected) = whole(&args.json, &args.attachments) else { continue };
                        let number = number.max(0);
                        let PacketContent::Ack(payload, same) = back(&codec, codec.answer(&namespace, &args, number)).content else {
                            panic!("not an acknowledgement")
                        };
                        prop_assert_eq!(same, number);
                        let args = payload.into_answer().expect("a valid acknowledgement");
                        prop_assert_eq!(whole(&args.json, &args.attachments), Some(expected));
                    }
                    PacketContent::Connect(auth) => {
                        let _ = auth.map(RawPayload::into_auth);
                    }
                    PacketContent::Disconnect => {}
                }
            }
        }
    }

    #[test]
    fn memory_for_reading_is_proportional_to_input(sent in sent()) {
        for codec in codecs() {
            let partial = PartialPacket::default();
            let size: usize = sent.iter().map(|sent| match sent {
                Sent::Text(text) => text.len(),
                Sent::Binary(data) => data.len(),
            }).sum();
            let ((), peak) = peak(|| for sent in sent.clone() {
                if let Ok(Some(IncomingPacket { content: PacketContent::Event(payload, _), .. })) = read(&codec, &partial, sent) {
                    let _ = payload.into_event();
                }
            });
            prop_assert!(peak <= MEMORY_FACTOR * size as u64 + MEMORY_BASE, "{peak} bytes for {size}");
        }
    }

    #[test]
    fn clients_read_what_handlers_send(
        name in text(),
        items in vec(json(), 0..5),
        attachments in vec(bytes(20), 0..5),
        ack in proptest::option::of(0..i64::MAX),
    ) {
        let mut items = items;
        items.extend((0..attachments.len() as u64).map(placeholder));
        let args = Payload {
            json: Json::from(items).to_string().into(),
            attachments: attachments.into_iter().map(Bytes::from).collect(),
        };
        let expected = whole(&args.json, &args.attachments);
        // Not sent, or refused by the other side: placeholders without attachment, and names that Socket.IO reserves.
        let raw = RawPayload {
            json: event_array(&[""; 5], &name, &args).into(),
            attachments: args.attachments.clone(),
        };
        let is_fine = raw.into_event().is_ok() && check_placeholders(&args.json, args.attachments.len()).is_ok();
        for codec in codecs() {
            let encoded = codec.event(&"/".into(), &name, &args, ack);
            if !is_fine && encoded.clone().into_packets().next().is_none() {
                continue;
            }
            let PacketContent::Event(payload, same) = back(&codec, encoded).content else {
                panic!("not an event")
            };
            prop_assert_eq!(same, ack);
            if is_fine {
                let (same, args) = payload.into_event().expect("a valid event");
                prop_assert_eq!(&*same, &*name);
                prop_assert_eq!(whole(&args.json, &args.attachments), expected.clone());
            }
        }
    }
}

#[test]
fn hostile_packets_take_little_memory_and_stack() {
    const SIZE: usize = 1 << 20;
    let json =
        |start: &str, item: &str, end: &str| Sent::Text(format!("{start}{}{end}", item.repeat(SIZE / item.len())));
    let pack = |start: &[u8], item: &[u8]| {
        let head = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data";
        let count = ((SIZE / item.len() + 1) as u32).to_be_bytes();
        Sent::Binary([head, start, &count, b"\xa1a", &item.repeat(SIZE / item.len())].concat())
    };
    for sent in [
        json("2[\"a\"", ",0", "]"),
        json("2[\"a\"", ",{}", "]"),
        json("2[\"a\"", ",[", ""),
        json("2", "[", ""),
        json("2[[0", ",{\"\":0}", "]]"),
        json("2[{\"\":0", ",\"\":[]", "}]"),
        json("2", "[\"a\",", ""),
        json("2[\"a\",", "[", &"]".repeat(SIZE)),
        json("2[\"a\",", "{\"a\":", &format!("1{}", "}".repeat(SIZE / 5))),
        json("0", "{\"a\":", &format!("1{}", "}".repeat(SIZE / 5))),
        json("51-[\"a\"", ",{\"\":0}", "]"),
        json("51-[\"a\",", "{\"a\":", ""),
        pack(b"\xdd", b"\xc0"),
        pack(b"\xdd", b"\x81\xa0\xc0"),
        pack(b"\xdd", b"\x80"),
        pack(b"\xdd", b"\xc4\x00"),
        pack(b"\xdd", b"\x91"),
        pack(b"\xdd", b"\xdd\xff\xff\xff\xff"),
        pack(b"\xdd", b"\xc6\xff\xff\xff\xff"),
        pack(b"\xdf", b"\xdf\xff\xff\xff\xff"),
    ] {
        let size = match &sent {
            Sent::Text(text) => text.len(),
            Sent::Binary(data) => data.len(),
        };
        let codec = match sent {
            Sent::Text(_) => Codec::new(Encoding::Json, SIZE),
            Sent::Binary(_) => Codec::new(Encoding::MessagePack, SIZE),
        };
        let shown: String = format!("{sent:?}").chars().take(300).collect();
        let (_, peak) = peak(|| {
            let partial = PartialPacket::default();
            let mut incoming = read(&codec, &partial, sent)?;
            if incoming.is_none() {
                incoming = codec.read_binary(&partial, Bytes::new())?;
            }
            match incoming.map(|incoming| incoming.content) {
                Some(PacketContent::Event(payload, _)) => {
                    let (name, args) = payload.into_event()?;
                    codec.event(&"/".into(), &name, &args, None);
                }
                Some(PacketContent::Connect(Some(auth))) => _ = auth.into_auth()?,
                _ => {}
            }
            Ok::<_, Malformed>(())
        });
        assert!(
            peak <= 32 * size as u64,
            "{} MB for {} MB of {shown}",
            peak >> 20,
            size >> 20
        );
    }
}

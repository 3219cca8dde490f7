//! Packets that no client would send, or nearly none: refused, or the same when they are written and read again; and at little cost.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use plugnode_testing::arbitrary::{bytes, json, json_text, nearly, nearly_text, one_of, peak, placeholder, text};

/// Reading takes no more memory than so many times what was sent,
const TIMES: u64 = 64;
/// and this.
const BESIDES: u64 = 16 << 10;

/// What a client sends: a text or binary data, and the attachments behind it.
#[derive(Debug, Clone)]
enum Sent {
    Text(String),
    Binary(Vec<u8>),
}

fn read(codec: &Codec, unfinished: &Unfinished, sent: Sent) -> Result<Option<Incoming>, Malformed> {
    match sent {
        Sent::Text(text) => codec.read_text(unfinished, text.into()),
        Sent::Binary(data) => codec.read_binary(unfinished, data.into()),
    }
}

/// A packet as another might write it, in JSON.
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

/// A value of MessagePack, with what JSON does not have.
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
        json().prop_map(|value| super::super::msgpack::from_json(&value.to_string(), &[], 0)
            .unwrap()
            .into())
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

/// A packet as another might write it, in MessagePack.
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

/// JSON with its attachments in their places: how they are numbered does not matter.
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
    fn whatever_comes_is_refused_or_comes_back_as_it_was(sent in sent()) {
        let namespace = Namespace::from("/chat");
        for codec in codecs() {
            let unfinished = Unfinished::default();
            for sent in sent.clone() {
                let Ok(Some(incoming)) = read(&codec, &unfinished, sent) else { continue };
                match incoming.content {
                    Content::Event((json, attachments), ack) => {
                        let Ok((name, args)) = args::read_event(&json, attachments) else { continue };
                        let Some(expected) = whole(&args.json, &args.attachments) else { continue };
                        let ack = ack.filter(|ack| *ack >= 0);
                        let Content::Event((json, attachments), same) = back(&codec, codec.event(&namespace, &name, &args, ack)).content else {
                            panic!("it is an event")
                        };
                        prop_assert_eq!(same, ack);
                        let (same, args) = args::read_event(&json, attachments).expect("we wrote it");
                        prop_assert_eq!(&*same, &*name);
                        prop_assert_eq!(whole(&args.json, &args.attachments), Some(expected));
                    }
                    Content::Ack((json, attachments), number) => {
                        let Ok(args) = args::read_answer(&json, attachments) else { continue };
                        let Some(expected) = whole(&args.json, &args.attachments) else { continue };
                        let number = number.max(0);
                        let Content::Ack((json, attachments), same) = back(&codec, codec.answer(&namespace, &args, number)).content else {
                            panic!("it is an answer")
                        };
                        prop_assert_eq!(same, number);
                        let args = args::read_answer(&json, attachments).expect("we wrote it");
                        prop_assert_eq!(whole(&args.json, &args.attachments), Some(expected));
                    }
                    Content::Connect(auth) => {
                        let _ = args::read_auth(auth.as_ref().map(|(text, _)| text.as_str()));
                    }
                    Content::Disconnect => {}
                }
            }
        }
    }

    #[test]
    fn reading_takes_no_more_memory_than_a_few_times_what_was_sent(sent in sent()) {
        for codec in codecs() {
            let unfinished = Unfinished::default();
            let size: usize = sent.iter().map(|sent| match sent {
                Sent::Text(text) => text.len(),
                Sent::Binary(data) => data.len(),
            }).sum();
            let ((), peak) = peak(|| for sent in sent.clone() {
                if let Ok(Some(Incoming { content: Content::Event((json, attachments), _), .. })) = read(&codec, &unfinished, sent) {
                    let _ = args::read_event(&json, attachments);
                }
            });
            prop_assert!(peak <= TIMES * size as u64 + BESIDES, "{peak} bytes for {size}");
        }
    }

    #[test]
    fn what_handlers_say_is_heard_as_they_said_it(
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
        // Not so a placeholder of a number that is not there, and a name of Socket.IO's own.
        let is_fine = args::read_event(&args::write_event(&name, &args), args.attachments.clone()).is_ok()
            && args::check_placeholders(&args.json, args.attachments.len()).is_ok();
        for codec in codecs() {
            let encoded = codec.event(&"/".into(), &name, &args, ack);
            if !is_fine && encoded.clone().into_packets().next().is_none() {
                continue;
            }
            let Content::Event((json, attachments), same) = back(&codec, encoded).content else {
                panic!("it is an event")
            };
            prop_assert_eq!(same, ack);
            if is_fine {
                let (same, args) = args::read_event(&json, attachments).expect("it is fine");
                prop_assert_eq!(&*same, &*name);
                prop_assert_eq!(whole(&args.json, &args.attachments), expected.clone());
            }
        }
    }
}

#[test]
fn what_is_made_to_take_memory_or_stack_does_not() {
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
            let unfinished = Unfinished::default();
            let mut incoming = read(&codec, &unfinished, sent)?;
            if incoming.is_none() {
                incoming = codec.read_binary(&unfinished, Bytes::new())?;
            }
            match incoming.map(|incoming| incoming.content) {
                Some(Content::Event((json, attachments), _)) => {
                    let (name, args) = args::read_event(&json, attachments)?;
                    codec.event(&"/".into(), &name, &args, None);
                }
                Some(Content::Connect(Some((json, _)))) => _ = args::read_auth(Some(json.as_str()))?,
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

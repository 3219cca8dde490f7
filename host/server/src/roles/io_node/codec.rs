//! Packets of Socket.IO, to and from what goes over Engine.IO.
//!
//! The parsers are socketioxide's. Whatever the encoding, a payload is JSON with attachments on our side of it. Clients of
//! Socket.IO 2 speak the protocol's revision 4, which differs from the present one in how connecting is answered:
//! <https://socket.io/docs/v4/socket-io-protocol/#difference-between-v5-and-v4>.

use std::collections::VecDeque;

use bytes::Bytes;
use socketioxide_core::packet::{ConnectPacket, Packet, PacketData};
use socketioxide_core::parser::{Parse, ParseConfig, ParseError, ParserState};
use socketioxide_core::{Sid, Str, Value};
use socketioxide_parser_common::CommonParser;
use socketioxide_parser_msgpack::MsgPackParser;
use tracing::warn;

use super::args::{self, Malformed};
use super::encoded::Encoded;
use super::msgpack;
use super::numbers;
use plugnode_message::{MOST_ATTACHMENTS, Namespace, Payload, Refusal};
use plugnode_process::log_limiter;

/// How packets are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As text with binary attachments, which every client speaks.
    Json,
    /// As MessagePack, for clients with `socket.io-msgpack-parser`.
    MessagePack,
}

/// Which Socket.IO a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revision {
    /// Socket.IO 3 and 4.
    V5,
    /// Socket.IO 2.
    V4,
}

/// Encodes and decodes packets.
#[derive(Debug)]
pub(super) struct Codec {
    encoding: Encoding,
    limits: ParseConfig,
}

/// What a client has sent of a packet that is not complete.
pub(super) type Unfinished = ParserState;

/// JSON and its attachments.
pub(super) type Parts = (Str, Vec<Bytes>);

/// What a client wants.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The namespace as it was sent.
    pub(super) namespace: Str,
    pub(super) content: Content,
}

/// What a packet is.
#[derive(Debug)]
pub(super) enum Content {
    Connect(Option<Parts>),
    Disconnect,
    Event(Parts, Option<i64>),
    Ack(Parts, i64),
}

impl Codec {
    /// Takes packets with attachments of at most so many bytes.
    pub(super) fn new(encoding: Encoding, max_attachments: usize) -> Self {
        let limits = ParseConfig {
            max_incoming_binaries: MOST_ATTACHMENTS,
            max_incoming_binary_buf_size: max_attachments,
            ..ParseConfig::default()
        };
        Self { encoding, limits }
    }

    /// Reads a text. None when attachments are to follow.
    pub(super) fn read_text(&self, unfinished: &Unfinished, text: Str) -> Result<Option<Incoming>, Malformed> {
        if self.encoding == Encoding::MessagePack {
            return Err(Malformed::Packet("a text, and this server speaks MessagePack".into()));
        }
        let late = numbers::beyond_integers(text.as_str());
        let read = self.read(CommonParser.decode_str(&self.limits, unfinished, text))?;
        Ok(read.map(|mut incoming| {
            if let (Content::Event(_, ack @ None), Some(_)) = (&mut incoming.content, late) {
                *ack = late;
            }
            incoming
        }))
    }

    /// Reads binary data. None when more is to follow.
    pub(super) fn read_binary(&self, unfinished: &Unfinished, data: Bytes) -> Result<Option<Incoming>, Malformed> {
        match self.encoding {
            Encoding::Json => self.read(CommonParser.decode_bin(&self.limits, unfinished, data)),
            Encoding::MessagePack => unpacked(msgpack::read(&data)?).map(Some),
        }
    }

    fn read(&self, read: Result<Packet, ParseError>) -> Result<Option<Incoming>, Malformed> {
        let packet = match read {
            Ok(packet) => packet,
            Err(ParseError::NeedsMoreBinaryData) => return Ok(None),
            Err(ParseError::TooManyAttachments { got, .. }) => return Err(Malformed::TooManyAttachments(got)),
            Err(error) => return Err(Malformed::Packet(error.to_string())),
        };
        let content = match packet.inner {
            PacketData::Connect(auth) => Content::Connect(auth.map(parts)),
            PacketData::Disconnect => Content::Disconnect,
            PacketData::Event(args, ack) => Content::Event(parts(args), ack),
            PacketData::EventAck(args, ack) => Content::Ack(parts(args), ack),
            PacketData::BinaryEvent(args, ack) => Content::Event(attached(parts(args))?, ack),
            PacketData::BinaryAck(args, ack) => Content::Ack(attached(parts(args))?, ack),
            PacketData::ConnectError(_) => return Err(refuses()),
        };
        let namespace = packet.ns;
        Ok(Some(Incoming { namespace, content }))
    }

    /// An event, that may ask for an acknowledgement.
    pub(super) fn event(&self, namespace: &Namespace, name: &str, args: &Payload, ack: Option<i64>) -> Encoded {
        if self.is_plain(args) {
            let (place, comma) = place(namespace.as_str());
            let number = ack.map(numbers::written).unwrap_or_default();
            let write = |head: &str| args::write_event_after(&[head, "2", place, comma, &number], name, args);
            return Encoded::plain(write);
        }
        let Some(value) = self.value(namespace, args::write_event(name, args), &args.attachments) else {
            return Encoded::nothing();
        };
        let mut packet = Packet::event(str(namespace), value);
        if let Some(ack) = ack {
            packet.inner.set_ack_id(ack);
        }
        self.encode(packet)
    }

    /// The answer to an acknowledgement.
    pub(super) fn answer(&self, namespace: &Namespace, args: &Payload, number: i64) -> Encoded {
        if self.is_plain(args) {
            let (place, comma) = place(namespace.as_str());
            return Encoded::plain(|head| [head, "3", place, comma, &numbers::written(number), &args.json].concat());
        }
        let Some(value) = self.value(namespace, args.json.to_string(), &args.attachments) else {
            return Encoded::nothing();
        };
        self.encode(Packet::ack(str(namespace), value, number))
    }

    /// That a client is connected.
    pub(super) fn connected(&self, namespace: &Namespace, sid: Sid, revision: Revision) -> Encoded {
        let sid = match (revision, self.encoding) {
            (Revision::V4, _) => None,
            (Revision::V5, Encoding::Json) => CommonParser.encode_default(&ConnectPacket { sid }).ok(),
            (Revision::V5, Encoding::MessagePack) => MsgPackParser.encode_default(&ConnectPacket { sid }).ok(),
        };
        self.encode(Packet::connect(str(namespace), sid))
    }

    /// That a client may not connect, as the handler says.
    pub(super) fn refused(&self, namespace: &str, refusal: &Refusal, revision: Revision) -> Encoded {
        match (&refusal.data, revision) {
            (Some(data), Revision::V4) => self.error(namespace, data),
            // In revision 4 an error is any one value.
            (None, Revision::V4) => self.error(namespace, &text(&refusal.message)),
            (Some(data), Revision::V5) => {
                let error = format!(r#"{{"message":{},"data":{data}}}"#, text(&refusal.message));
                self.error(namespace, &error)
            }
            (None, Revision::V5) => self.unknown(namespace, &refusal.message),
        }
    }

    /// That a client may not connect, in words that are the same for all.
    pub(super) fn unknown(&self, namespace: &str, message: &str) -> Encoded {
        self.error(namespace, &format!(r#"{{"message":{}}}"#, text(message)))
    }

    fn error(&self, namespace: &str, error: &str) -> Encoded {
        match self.encoding {
            Encoding::Json => {
                let (place, comma) = place(namespace);
                Encoded::plain(|head| [head, "4", place, comma, error].concat())
            }
            Encoding::MessagePack => Value::Bytes(msgpack::refusal(namespace, error)).into(),
        }
    }

    /// That a client is disconnected from a namespace.
    pub(super) fn disconnected(&self, namespace: &Namespace) -> Encoded {
        self.encode(Packet::disconnect(str(namespace)))
    }

    fn encode(&self, packet: Packet) -> Encoded {
        let packet = match self.encoding {
            Encoding::Json => CommonParser.encode(packet),
            Encoding::MessagePack => MsgPackParser.encode(packet),
        };
        packet.into()
    }

    /// Whether a payload goes out as one text, which is written here at once: the parser would have it copied twice.
    fn is_plain(&self, args: &Payload) -> bool {
        self.encoding == Encoding::Json && args.attachments.is_empty()
    }

    /// None when clients could not take it: a handler's limit for attachments was raised, or a placeholder names none.
    fn value(&self, namespace: &Namespace, json: String, attachments: &[Bytes]) -> Option<Value> {
        match self.encoding {
            Encoding::Json => {
                let is_fine = args::check_placeholders(&json, attachments.len()).is_ok();
                if attachments.len() > MOST_ATTACHMENTS || !is_fine {
                    if log_limiter::allows(namespace, "attachments") {
                        warn!(
                        %namespace,
                        attachments = attachments.len(),
                        "an event is not sent, as Socket.IO's own clients would close their connection over it: it has more than \
                         {MOST_ATTACHMENTS} attachments, or a placeholder that names none of them"
                        );
                    }
                    return None;
                }
                let attachments = (!attachments.is_empty()).then(|| VecDeque::from(attachments.to_vec()));
                Some(Value::Str(Str::from(json), attachments))
            }
            Encoding::MessagePack => {
                match msgpack::from_json(&json, attachments, self.limits.max_incoming_binary_buf_size) {
                    Ok(data) => Some(Value::Bytes(data)),
                    Err(too_large) => {
                        let (size, most) = (too_large.size, self.limits.max_incoming_binary_buf_size);
                        warn!(
                            size,
                            most, "an event is not sent: its placeholders name the same attachments too often"
                        );
                        None
                    }
                }
            }
        }
    }
}

/// What a packet in MessagePack says.
fn unpacked(packet: msgpack::Packet) -> Result<Incoming, Malformed> {
    let args = packet.data.ok_or(Malformed::NotAnArray);
    let content = match (packet.kind, packet.id) {
        (0, _) => Content::Connect(args.ok()),
        (1, _) => Content::Disconnect,
        (2, ack) => Content::Event(args?, ack),
        (3, Some(number)) => Content::Ack(args?, number),
        (3, None) => return Err(Malformed::Packet("an acknowledgement without a number".into())),
        (4, _) => return Err(refuses()),
        (kind, _) => return Err(Malformed::Packet(format!("there is no type {kind}"))),
    };
    let namespace = packet.namespace;
    Ok(Incoming { namespace, content })
}

fn refuses() -> Malformed {
    Malformed::Packet("only a server refuses connections".into())
}

fn parts(value: Value) -> Parts {
    match value {
        Value::Str(text, attachments) => (text, attachments.unwrap_or_default().into()),
        Value::Bytes(_) => unreachable!("the parser of texts gives texts"),
    }
}

/// The parts of a packet that says that it has attachments.
fn attached((text, attachments): Parts) -> Result<Parts, Malformed> {
    if attachments.is_empty() {
        return Err(Malformed::Packet("a binary packet without attachments".into()));
    }
    args::check_placeholders(text.as_str(), attachments.len())?;
    Ok((text, attachments))
}

/// What stands for a namespace, and what is behind that.
fn place(namespace: &str) -> (&str, &'static str) {
    match namespace {
        "/" => ("", ""),
        namespace => (namespace, ","),
    }
}

fn text(words: &str) -> String {
    serde_json::to_string(words).expect("a string is always JSON")
}

fn str(namespace: &Namespace) -> Str {
    Str::copy_from_slice(namespace.as_str())
}

#[cfg(test)]
mod tests {
    mod arbitrary;

    use super::*;
    use plugnode_message::Text;

    fn written(encoded: Encoded) -> String {
        let first = encoded.into_packets().next().expect("there is a first");
        first.as_text().expect("it is text").to_owned()
    }

    /// What goes out, read as a client would.
    fn back(codec: &Codec, encoded: Encoded) -> Incoming {
        let unfinished = Unfinished::default();
        let mut read = None;
        for packet in encoded.into_packets() {
            assert!(read.is_none(), "it is complete before its attachments");
            let part = match (packet.as_text(), packet.as_binary()) {
                (Some(text), _) => codec.read_text(&unfinished, Str::copy_from_slice(text)),
                (None, data) => codec.read_binary(&unfinished, data.expect("it is one of both").clone()),
            };
            read = part.expect("we wrote it");
        }
        read.expect("it is complete")
    }

    #[test]
    fn a_number_is_the_same_to_its_last_bit() {
        let namespace = Namespace::from("/");
        for number in [f64::from(f32::from_bits(0x8950_9ee6)), 0.1 + 0.2, 1e-323, f64::MAX] {
            let args = Payload {
                json: format!("[{number:e}]").into(),
                attachments: Vec::new(),
            };
            for encoding in [Encoding::Json, Encoding::MessagePack] {
                let codec = Codec::new(encoding, 100);
                let Content::Event((json, _), None) = back(&codec, codec.event(&namespace, "n", &args, None)).content
                else {
                    panic!("it is an event")
                };
                let (_, same): (String, f64) = serde_json::from_str(&json).expect("a name and a number");
                assert_eq!(same.to_bits(), number.to_bits(), "{number:e} in {encoding:?}");
            }
        }
    }

    #[test]
    fn what_was_written_in_either_encoding_is_read_as_it_was() {
        let args = Payload {
            json: Text::from_static(
                r#"[{"file":{"_placeholder":true,"num":1},"more":[null,-1.5,"ä",{"_placeholder":true,"num":0}]}]"#,
            ),
            attachments: vec![Bytes::from_static(b"zero"), Bytes::from_static(b"one")],
        };
        let namespace = Namespace::from("/chat");
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let codec = Codec::new(encoding, 100);
            let packet = codec.event(&namespace, "say \"it\"", &args, Some(7));
            let Incoming { namespace, content } = back(&codec, packet);
            assert_eq!(&*namespace, "/chat");
            let Content::Event((text, attachments), Some(7)) = content else {
                panic!("an event: {content:?}")
            };
            let (name, read) = args::read_event(&text, attachments).expect("well formed");
            assert_eq!(&*name, "say \"it\"");
            let value = |payload: &Payload| serde_json::from_str::<serde_json::Value>(&payload.json).unwrap();
            // MessagePack numbers attachments as it meets them.
            let attachment = |payload: &Payload, path: &str| {
                let number = value(payload).pointer(path).unwrap()["num"].as_u64().unwrap();
                payload.attachments[number as usize].clone()
            };
            assert_eq!(attachment(&read, "/0/file"), "one");
            assert_eq!(attachment(&read, "/0/more/3"), "zero");
            assert_eq!(value(&read)[0]["more"][1], value(&args)[0]["more"][1]);
        }
    }

    #[test]
    fn what_official_clients_cannot_take_is_not_sent() {
        let of = |count: usize, json: &str| Payload {
            json: json.into(),
            attachments: vec![Bytes::from_static(b"x"); count],
        };
        let sent = |encoding, args: &Payload| {
            let encoded = Codec::new(encoding, 100).event(&"/".into(), "a", args, None);
            encoded.into_packets().count()
        };
        let own = r#"[{"\u005fplaceholder":true,"num":7}]"#;
        assert_eq!(sent(Encoding::Json, &of(10, "[]")), 11);
        assert_eq!(sent(Encoding::Json, &of(11, "[]")), 0);
        assert_eq!(sent(Encoding::Json, &of(1, own)), 0);
        assert_eq!(sent(Encoding::MessagePack, &of(11, own)), 1);
    }

    #[test]
    fn a_refusal_says_what_it_is_told_to_clients_old_and_new() {
        let codec = Codec::new(Encoding::Json, 100);
        let mut refusal = Refusal {
            message: "not \"you\"".into(),
            data: Some("[1]".into()),
        };
        assert_eq!(
            written(codec.refused("/", &refusal, Revision::V5)),
            r#"4{"message":"not \"you\"","data":[1]}"#
        );
        assert_eq!(written(codec.refused("/chat", &refusal, Revision::V4)), "4/chat,[1]");
        refusal.data = None;
        assert_eq!(written(codec.refused("/", &refusal, Revision::V4)), r#"4"not \"you\"""#);
    }

    #[test]
    fn nothing_that_a_client_sends_is_a_refusal_or_a_panic() {
        let codec = Codec::new(Encoding::Json, 100);
        for text in ["", "4{}", "9", "52-[\"a\"]", "3[]", "2", "é", "51-", "6[", "0/\u{0},{"] {
            let _ = codec.read_text(&Unfinished::default(), Str::from(text.to_owned()));
        }
        assert!(codec.read_text(&Unfinished::default(), Str::from("4{}")).is_err());
    }
}

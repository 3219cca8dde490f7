//! Encodes and decodes packets of Socket.IO.
//!
//! The parsers of texts are socketioxide's. Clients of Socket.IO 2 use revision 4 of the protocol, which differs from revision 5 in how
//! the server answers a connect: <https://socket.io/docs/v4/socket-io-protocol/#difference-between-v5-and-v4>.

mod head;

use std::collections::VecDeque;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socketioxide_core::packet::{ConnectPacket, Packet, PacketData};
use socketioxide_core::parser::{Parse, ParseConfig, ParseError, ParserState};
use socketioxide_core::{Sid, Str, Value};
use socketioxide_parser_common::CommonParser;
use socketioxide_parser_msgpack::MsgPackParser;
use tracing::warn;

use crate::ack_number;
use crate::encoded::EncodedPacket;
use crate::incoming::{IncomingPacket, PacketContent};
use crate::malformed::Malformed;
use crate::msgpack;
use crate::raw_payload::{RawPayload, check_placeholders, event_array};
use plugnode_message::{MAX_ATTACHMENTS, Namespace, Payload, Refusal};
use plugnode_process::log_limiter;

/// How packets are encoded: `json` or `msgpack` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Text with binary attachments: the default of every client.
    Json,
    /// MessagePack, for clients with `socket.io-msgpack-parser`.
    #[serde(rename = "msgpack")]
    MessagePack,
}

/// The revision of the Socket.IO protocol that a client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// Socket.IO 3 and 4.
    V5,
    /// Socket.IO 2.
    V4,
}

/// A packet of one client whose attachments have not all arrived. Each connection has its own.
pub type PartialPacket = ParserState;

/// Encodes and decodes packets.
#[derive(Debug)]
pub struct Codec {
    encoding: Encoding,
    limits: ParseConfig,
}

impl Codec {
    /// A codec that refuses packets with attachments of more than `max_attachment_bytes` in all.
    pub fn new(encoding: Encoding, max_attachment_bytes: usize) -> Self {
        let limits = ParseConfig {
            max_incoming_binaries: MAX_ATTACHMENTS,
            max_incoming_binary_buf_size: max_attachment_bytes,
            ..ParseConfig::default()
        };
        Self { encoding, limits }
    }

    /// Decodes a text. None if its attachments have yet to arrive.
    ///
    /// # Errors
    /// If it is not a packet that a client may send.
    pub fn read_text(&self, partial: &PartialPacket, text: Str) -> Result<Option<IncomingPacket>, Malformed> {
        if self.encoding == Encoding::MessagePack {
            return Err(Malformed::Packet("a text, but this server uses MessagePack".into()));
        }
        let text = head::normalized(text);
        let large_id = ack_number::beyond_i64(text.as_str());
        let read = from_parser(CommonParser.decode_str(&self.limits, partial, text))?;
        Ok(read.map(|mut packet| {
            if let (PacketContent::Event(_, id @ None), Some(_)) = (&mut packet.content, large_id) {
                *id = large_id;
            }
            packet
        }))
    }

    /// Decodes a binary message. None if more attachments have yet to arrive.
    ///
    /// # Errors
    /// If it is not a packet that a client may send, or not an attachment of the packet before it.
    pub fn read_binary(&self, partial: &PartialPacket, data: Bytes) -> Result<Option<IncomingPacket>, Malformed> {
        match self.encoding {
            Encoding::Json => from_parser(CommonParser.decode_bin(&self.limits, partial, data)),
            Encoding::MessagePack => msgpack::decode(&data).map(Some),
        }
    }

    /// An event, with an acknowledgement id if it asks for an acknowledgement.
    pub fn event(&self, namespace: &Namespace, name: &str, args: &Payload, ack: Option<i64>) -> EncodedPacket {
        if self.is_plain(args) {
            let (namespace, comma) = namespace_part(namespace.as_str());
            let id = ack.map(ack_number::to_text).unwrap_or_default();
            return EncodedPacket::plain(|head| event_array(&[head, "2", namespace, comma, &id], name, args));
        }
        let json = event_array(&[""; 5], name, args);
        let Some(value) = self.value(namespace, json, &args.attachments) else {
            return EncodedPacket::nothing();
        };
        let mut packet = Packet::event(str(namespace), value);
        if let Some(ack) = ack {
            packet.inner.set_ack_id(ack);
        }
        self.encode(packet)
    }

    /// The acknowledgement with this id.
    pub fn answer(&self, namespace: &Namespace, args: &Payload, id: i64) -> EncodedPacket {
        if self.is_plain(args) {
            let (namespace, comma) = namespace_part(namespace.as_str());
            let id = ack_number::to_text(id);
            return EncodedPacket::plain(|head| [head, "3", namespace, comma, &id, &args.json].concat());
        }
        let Some(value) = self.value(namespace, args.json.to_string(), &args.attachments) else {
            return EncodedPacket::nothing();
        };
        self.encode(Packet::ack(str(namespace), value, id))
    }

    /// Tells a client that it is connected to the namespace.
    pub fn connected(&self, namespace: &Namespace, sid: Sid, revision: Revision) -> EncodedPacket {
        let sid = match (revision, self.encoding) {
            (Revision::V4, _) => None,
            (Revision::V5, Encoding::Json) => CommonParser.encode_default(&ConnectPacket { sid }).ok(),
            (Revision::V5, Encoding::MessagePack) => MsgPackParser.encode_default(&ConnectPacket { sid }).ok(),
        };
        self.encode(Packet::connect(str(namespace), sid))
    }

    /// Tells a client that it is refused, with the handler's message and data.
    pub fn refused(&self, namespace: &str, refusal: &Refusal, revision: Revision) -> EncodedPacket {
        match (&refusal.data, revision) {
            // In revision 4 the error is one value of any type.
            (Some(data), Revision::V4) => self.connect_error(namespace, data),
            (None, Revision::V4) => self.connect_error(namespace, &json_string(&refusal.message)),
            (Some(data), Revision::V5) => {
                let error = format!(r#"{{"message":{},"data":{data}}}"#, json_string(&refusal.message));
                self.connect_error(namespace, &error)
            }
            (None, Revision::V5) => self.message_error(namespace, &refusal.message),
        }
    }

    /// Tells a client of either revision that the namespace does not exist, as Node's server does.
    pub fn unknown_namespace(&self, namespace: &str) -> EncodedPacket {
        self.message_error(namespace, "Invalid namespace")
    }

    /// Tells a client that it is disconnected from the namespace.
    pub fn disconnected(&self, namespace: &Namespace) -> EncodedPacket {
        self.encode(Packet::disconnect(str(namespace)))
    }

    fn message_error(&self, namespace: &str, message: &str) -> EncodedPacket {
        self.connect_error(namespace, &format!(r#"{{"message":{}}}"#, json_string(message)))
    }

    fn connect_error(&self, namespace: &str, error: &str) -> EncodedPacket {
        match self.encoding {
            Encoding::Json => {
                let (namespace, comma) = namespace_part(namespace);
                EncodedPacket::plain(|head| [head, "4", namespace, comma, error].concat())
            }
            Encoding::MessagePack => Value::Bytes(msgpack::connect_error(namespace, error)).into(),
        }
    }

    fn encode(&self, packet: Packet) -> EncodedPacket {
        let packet = match self.encoding {
            Encoding::Json => CommonParser.encode(packet),
            Encoding::MessagePack => MsgPackParser.encode(packet),
        };
        packet.into()
    }

    /// Whether the packet is one text. Such a packet is written without the parser, which would copy it twice.
    fn is_plain(&self, args: &Payload) -> bool {
        self.encoding == Encoding::Json && args.attachments.is_empty()
    }

    /// The payload as the parser takes it. None if clients could not read it; that is logged.
    fn value(&self, namespace: &Namespace, json: String, attachments: &[Bytes]) -> Option<Value> {
        match self.encoding {
            Encoding::Json => {
                // A handler's own limit of attachments may be higher.
                let is_readable =
                    attachments.len() <= MAX_ATTACHMENTS && check_placeholders(&json, attachments.len()).is_ok();
                if !is_readable {
                    if log_limiter::allows(namespace, "attachments") {
                        warn!(
                            %namespace,
                            attachments = attachments.len(),
                            "event not sent, because Socket.IO's own clients would close their connection: it has more than \
                             {MAX_ATTACHMENTS} attachments, or a placeholder that refers to none of them"
                        );
                    }
                    return None;
                }
                let attachments = (!attachments.is_empty()).then(|| VecDeque::from(attachments.to_vec()));
                Some(Value::Str(Str::from(json), attachments))
            }
            Encoding::MessagePack => {
                let most = self.limits.max_incoming_binary_buf_size;
                let encoded = msgpack::encode(&json, attachments, most);
                if let Err(too_large) = &encoded
                    && log_limiter::allows(namespace, "attachments repeated")
                {
                    let size = too_large.size;
                    warn!(%namespace, size, most, "event not sent: its placeholders refer to the same attachments too often");
                }
                encoded.ok().map(Value::Bytes)
            }
        }
    }
}

/// Converts the result of socketioxide's text parser. None if attachments have yet to arrive.
fn from_parser(parsed: Result<Packet, ParseError>) -> Result<Option<IncomingPacket>, Malformed> {
    let packet = match parsed {
        Ok(packet) => packet,
        Err(ParseError::NeedsMoreBinaryData) => return Ok(None),
        Err(ParseError::TooManyAttachments { got, .. }) => return Err(Malformed::TooManyAttachments(got)),
        Err(error) => return Err(Malformed::Packet(error.to_string())),
    };
    let content = match packet.inner {
        PacketData::Connect(auth) => PacketContent::Connect(auth.map(raw_payload)),
        PacketData::Disconnect => PacketContent::Disconnect,
        PacketData::Event(Value::Str(args, _), _) if args.is_empty() => PacketContent::Nothing,
        PacketData::Event(args, ack) => PacketContent::Event(raw_payload(args), ack),
        PacketData::EventAck(args, ack) => PacketContent::Ack(raw_payload(args), ack),
        PacketData::BinaryEvent(args, ack) => PacketContent::Event(binary_payload(args)?, ack),
        PacketData::BinaryAck(args, ack) => PacketContent::Ack(binary_payload(args)?, ack),
        PacketData::ConnectError(_) => return Err(Malformed::connect_error()),
    };
    let namespace = packet.ns;
    Ok(Some(IncomingPacket { namespace, content }))
}

fn raw_payload(value: Value) -> RawPayload {
    match value {
        Value::Str(json, attachments) => RawPayload {
            json,
            attachments: attachments.unwrap_or_default().into(),
        },
        Value::Bytes(_) => unreachable!("the parser of texts returns texts"),
    }
}

/// The payload of a packet whose type says that it has attachments.
fn binary_payload(value: Value) -> Result<RawPayload, Malformed> {
    let payload = raw_payload(value);
    if payload.attachments.is_empty() {
        return Err(Malformed::Packet("a binary packet without attachments".into()));
    }
    check_placeholders(&payload.json, payload.attachments.len())?;
    Ok(payload)
}

/// A namespace as packets name it, and the separator behind it. The main namespace is not named.
fn namespace_part(namespace: &str) -> (&str, &'static str) {
    match namespace {
        "/" => ("", ""),
        namespace => (namespace, ","),
    }
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

fn str(namespace: &Namespace) -> Str {
    Str::copy_from_slice(namespace.as_str())
}

#[cfg(test)]
mod tests {
    mod arbitrary;

    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use plugnode_message::Text;

    fn written(encoded: EncodedPacket) -> String {
        let first = encoded.into_packets().next().expect("a packet");
        first.as_text().expect("a text").to_owned()
    }

    /// Decodes an encoded packet as a client would.
    fn back(codec: &Codec, encoded: EncodedPacket) -> IncomingPacket {
        let partial = PartialPacket::default();
        let mut read = None;
        for packet in encoded.into_packets() {
            assert!(read.is_none(), "nothing follows a complete packet");
            let part = match (packet.as_text(), packet.as_binary()) {
                (Some(text), _) => codec.read_text(&partial, Str::copy_from_slice(text)),
                (None, data) => codec.read_binary(&partial, data.expect("text or binary").clone()),
            };
            read = part.expect("a valid packet");
        }
        read.expect("all attachments")
    }

    #[test]
    fn keeps_every_bit_of_a_number() {
        let namespace = Namespace::from("/");
        for number in [f64::from(f32::from_bits(0x8950_9ee6)), 0.1 + 0.2, 1e-323, f64::MAX] {
            let args = Payload {
                json: format!("[{number:e}]").into(),
                attachments: Vec::new(),
            };
            for encoding in [Encoding::Json, Encoding::MessagePack] {
                let codec = Codec::new(encoding, 100);
                let PacketContent::Event(payload, None) =
                    back(&codec, codec.event(&namespace, "n", &args, None)).content
                else {
                    panic!("not an event")
                };
                let (_, same): (String, f64) = serde_json::from_str(&payload.json).expect("a name and a number");
                assert_eq!(same.to_bits(), number.to_bits(), "{number:e} in {encoding:?}");
            }
        }
    }

    #[test]
    fn reads_what_it_wrote_in_both_encodings() {
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
            let IncomingPacket { namespace, content } = back(&codec, packet);
            assert_eq!(&*namespace, "/chat");
            let PacketContent::Event(payload, Some(7)) = content else {
                panic!("not an event: {content:?}")
            };
            let (name, read) = payload.into_event().expect("a valid event");
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
    fn sends_nothing_that_official_clients_refuse() {
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

    /// Counts the log lines of this thread.
    #[derive(Clone, Default)]
    struct LineCount(Arc<AtomicUsize>);

    impl io::Write for LineCount {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_of_events_that_cannot_be_sent_is_limited() {
        let lines = LineCount::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let args = Payload {
            json: r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#.into(),
            attachments: vec![vec![0; 60].into(); 11],
        };
        tracing::subscriber::with_default(subscriber, || {
            for encoding in [Encoding::Json, Encoding::MessagePack] {
                let before = lines.0.load(Ordering::Relaxed);
                for _ in 0..100 {
                    let encoded = Codec::new(encoding, 100).event(&"/flood".into(), "a", &args, None);
                    assert_eq!(encoded.into_packets().count(), 0);
                }
                let written = lines.0.load(Ordering::Relaxed) - before;
                assert!((1..10).contains(&written), "{written} lines with {encoding:?}");
            }
        });
    }

    #[test]
    fn writes_refusals_for_both_revisions() {
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

    /// What Node's parser, socket.io-parser 4.2, makes of the same packets.
    #[test]
    fn reads_acknowledgements_as_node_does() {
        let none = ack_number::NO_EVENT;
        for (text, id, args) in [
            ("31", 1, "[]"),
            ("3[1]", none, "[1]"),
            ("3", none, "[]"),
            ("3/a,2", 2, "[]"),
            ("3/a", none, "[]"),
            ("31\n[1]", 1, "[1]"),
            ("31 2[]", none, "[]"),
            ("399999999999999999999[]", none, "[]"),
        ] {
            let codec = Codec::new(Encoding::Json, 100);
            let read = codec.read_text(&PartialPacket::default(), Str::copy_from_slice(text));
            let packet = read.expect("Node accepts it").expect("no attachments");
            assert_eq!(
                &*packet.namespace,
                if text.contains('/') { "/a" } else { "/" },
                "{text}"
            );
            let PacketContent::Ack(payload, read_id) = packet.content else {
                panic!("{text:?} is not an acknowledgement")
            };
            let answer = payload.into_answer().expect("an array");
            assert_eq!((read_id, &*answer.json), (id, args), "{text}");
        }
        for text in ["31{}", "31null", "3a"] {
            let codec = Codec::new(Encoding::Json, 100);
            let read = codec.read_text(&PartialPacket::default(), Str::copy_from_slice(text));
            let is_valid = match read {
                Ok(Some(IncomingPacket {
                    content: PacketContent::Ack(payload, _),
                    ..
                })) => payload.into_answer().is_ok(),
                _ => false,
            };
            assert!(!is_valid, "{text}");
        }
    }

    /// What Node's parser, socket.io-parser 4.2, makes of the same packets.
    #[test]
    fn reads_ids_beside_whitespace_as_node_does() {
        for (text, id) in [
            ("21\n[\"a\"]", Some("1")),
            ("2\u{feff}7 [\"a\"]", Some("7")),
            ("2 [\"a\"]", Some("0")),
            ("21 2[\"a\"]", None),
            ("2/a,1\t[\"a\"]", Some("1")),
            ("20010[\"a\"]", Some("10")),
            ("2100000000000000000000 [\"a\"]", Some("100000000000000000000")),
            ("2[\"a\"]", None),
            ("51-1\n[\"a\",{\"_placeholder\":true,\"num\":0}]", Some("1")),
        ] {
            let (codec, partial) = (Codec::new(Encoding::Json, 100), PartialPacket::default());
            let mut read = codec
                .read_text(&partial, Str::copy_from_slice(text))
                .expect("Node accepts it");
            if read.is_none() {
                read = codec
                    .read_binary(&partial, Bytes::from_static(b"x"))
                    .expect("its attachment");
            }
            let Some(PacketContent::Event(payload, ack)) = read.map(|packet| packet.content) else {
                panic!("{text:?} is not an event")
            };
            assert_eq!(ack.map(ack_number::to_text).as_deref(), id, "{text}");
            assert_eq!(&*payload.into_event().expect("an event").0, "a", "{text}");
        }
    }

    #[test]
    fn binary_acknowledgement_without_id_answers_nothing() {
        let (codec, partial) = (Codec::new(Encoding::Json, 100), PartialPacket::default());
        let text = Str::from("61-[{\"_placeholder\":true,\"num\":0}]");
        assert!(codec.read_text(&partial, text).expect("Node accepts it").is_none());
        let read = codec.read_binary(&partial, Bytes::from_static(b"x"));
        let content = read.expect("its attachment").map(|packet| packet.content);
        assert!(
            matches!(content, Some(PacketContent::Ack(_, ack_number::NO_EVENT))),
            "{content:?}"
        );
    }

    #[test]
    fn event_without_payload_is_nothing() {
        for text in ["2", "21", "2/a", "2/a,", "2 "] {
            let codec = Codec::new(Encoding::Json, 100);
            let read = codec.read_text(&PartialPacket::default(), Str::copy_from_slice(text));
            let content = read.expect("Node accepts it").map(|packet| packet.content);
            assert!(matches!(content, Some(PacketContent::Nothing)), "{text:?}: {content:?}");
        }
    }

    #[test]
    fn refuses_invalid_texts_without_panic() {
        let codec = Codec::new(Encoding::Json, 100);
        for text in ["", "4{}", "9", "52-[\"a\"]", "3[]", "2", "é", "51-", "6[", "0/\u{0},{"] {
            let _ = codec.read_text(&PartialPacket::default(), Str::from(text.to_owned()));
        }
        assert!(codec.read_text(&PartialPacket::default(), Str::from("4{}")).is_err());
    }
}

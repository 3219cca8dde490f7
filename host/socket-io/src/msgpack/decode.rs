//! Decodes a packet of a client, or a message of an emitter: writes JSON while it reads MessagePack.

use std::borrow::Cow;

use bytes::Bytes;
use rmp::Marker;
use rmp::decode::{self, RmpRead};
use socketioxide_core::Str;

use crate::ack_number;
use crate::date;
use crate::incoming::{IncomingPacket, PacketContent};
use crate::malformed::{MAX_DEPTH, Malformed};
use crate::raw_payload::RawPayload;
use plugnode_message::json::OWN_PLACEHOLDER;

/// Binary values that a packet may have.
const MAX_ATTACHMENTS: usize = 10_000;
/// Fields that a packet may have: more than any client sends.
const MAX_FIELDS: u32 = 20;
/// Types of packets that carry events.
const EVENT: i64 = 2;
const BINARY_EVENT: i64 = 5;
/// The type of the extension for timestamps.
const TIMESTAMP: i8 = -1;
/// How `undefined` begins: an extension of one byte, of type 0.
const UNDEFINED: &[u8] = &[0xd4, 0];

/// Decodes a packet.
///
/// # Errors
/// If it is not a packet that a client may send.
pub(crate) fn decode(data: &[u8]) -> Result<IncomingPacket, Malformed> {
    let packet = fields(data)?;
    let payload = packet.data.ok_or(Malformed::NotAnArray);
    let content = match (packet.kind, packet.id) {
        (0, _) => PacketContent::Connect(payload.ok()),
        (1, _) => PacketContent::Disconnect,
        (2, ack) => PacketContent::Event(payload?, ack),
        (3, id) => PacketContent::Ack(payload?, id.unwrap_or(ack_number::NO_EVENT)),
        (4, _) => return Err(Malformed::connect_error()),
        (kind, _) => return Err(Malformed::Packet(format!("type {kind} does not exist"))),
    };
    let namespace = packet.namespace;
    Ok(IncomingPacket { namespace, content })
}

/// Decodes a value that is no packet.
///
/// # Errors
/// If it is not exactly one value, or has parts that JSON cannot say.
pub(super) fn value(data: &[u8]) -> Result<RawPayload, Malformed> {
    let mut reader = Reader::new(data, Dialect::Value);
    let value = reader.payload()?;
    reader.end()?;
    Ok(value)
}

/// The fields of a packet.
#[derive(Debug)]
struct Fields {
    kind: i64,
    namespace: Str,
    /// None if it is absent, null or `undefined`.
    data: Option<RawPayload>,
    id: Option<i64>,
}

fn fields(data: &[u8]) -> Result<Fields, Malformed> {
    let mut reader = Reader::new(data, Dialect::Client);
    let fields = reader.packet()?;
    reader.end()?;
    Ok(fields)
}

/// What an emitter publishes to the clients of a namespace.
#[derive(Debug)]
pub(crate) struct Emission {
    pub(crate) namespace: Str,
    /// The event's name and arguments.
    pub(crate) event: RawPayload,
    /// JSON with rooms, exceptions and flags.
    pub(crate) options: Str,
}

/// Decodes the array `[uid, packet, options]` of an emitter.
///
/// # Errors
/// If it is not such an array, or its packet is no event.
pub(crate) fn decode_emission(data: &[u8]) -> Result<Emission, Malformed> {
    let mut reader = Reader::new(data, Dialect::Emitter);
    let marker = reader.marker()?;
    let Some((false, 3)) = reader.opened(marker)? else {
        return Err(Malformed::Packet("not an array of three items".into()));
    };
    drop(reader.payload()?);
    let packet = reader.packet()?;
    let options = reader.payload()?.json;
    reader.end()?;
    match packet.kind {
        EVENT | BINARY_EVENT => Ok(Emission {
            namespace: packet.namespace,
            event: packet.data.ok_or(Malformed::NotAnArray)?,
            options,
        }),
        kind => Err(Malformed::Packet(format!("type {kind} is no event"))),
    }
}

/// Who writes the MessagePack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// `socket.io-msgpack-parser` of a client: dates are extensions of type 0.
    Client,
    /// An emitter on a server: dates are timestamps of the MessagePack specification, and the namespace may be missing.
    Emitter,
    /// Another program: what JSON cannot say is refused.
    Value,
}

struct Reader<'a> {
    dialect: Dialect,
    rest: &'a [u8],
    json: Vec<u8>,
    attachments: Vec<Bytes>,
}

/// An array or object whose items are being read.
struct Container {
    is_object: bool,
    left: u32,
    has_some: bool,
}

/// The part of a value that was read.
enum Read {
    /// All of it.
    Whole,
    /// The beginning of an array or object.
    Opened { is_object: bool, length: u32 },
}

impl<'a> Reader<'a> {
    fn new(data: &'a [u8], dialect: Dialect) -> Self {
        Self {
            dialect,
            rest: data,
            json: Vec::new(),
            attachments: Vec::new(),
        }
    }

    /// Checks that everything was read.
    fn end(&self) -> Result<(), Malformed> {
        match self.rest {
            [] => Ok(()),
            _ => Err(Malformed::Packet("bytes follow its end".into())),
        }
    }

    fn packet(&mut self) -> Result<Fields, Malformed> {
        let marker = self.marker()?;
        let Some((true, fields @ ..=MAX_FIELDS)) = self.opened(marker)? else {
            return Err(Malformed::Packet("not an object of a few fields".into()));
        };
        let (mut kind, mut namespace, mut data, mut id) = (None, None, None, None);
        for _ in 0..fields {
            let name = self.key()?;
            match &*name {
                "type" => kind = self.integer()?,
                "nsp" => {
                    let marker = self.marker()?;
                    let name = self.text(marker)?;
                    namespace = Some(Str::from(
                        name.ok_or(Malformed::Packet("the namespace is not a string".into()))?
                            .into_owned(),
                    ));
                }
                "id" => id = self.integer()?,
                "data" => data = Some(self.payload()?),
                _ => drop(self.payload()?),
            }
        }
        if self.dialect == Dialect::Emitter {
            namespace.get_or_insert(Str::from("/"));
        }
        Ok(Fields {
            kind: kind.ok_or(Malformed::Packet("the type is missing".into()))?,
            namespace: namespace.ok_or(Malformed::Packet("the namespace is missing".into()))?,
            data: data.filter(|data: &RawPayload| data.json.as_str() != "null"),
            id,
        })
    }

    /// An integer. None if it is null or `undefined`, or too large.
    fn integer(&mut self) -> Result<Option<i64>, Malformed> {
        let marker = self.marker()?;
        if marker == Marker::FixExt1 {
            self.take(2)?;
            return Ok(None);
        }
        let scalar = self.scalar(marker)?;
        if scalar == "null" {
            return Ok(None);
        }
        let number: f64 = scalar
            .parse()
            .map_err(|_| Malformed::Packet(format!("{scalar} is not a number")))?;
        match (scalar.parse(), number.fract() == 0.0) {
            (Ok(number), _) => Ok(Some(number)),
            (Err(_), true) if number.abs() < 9.0e18 => Ok(Some(number as i64)),
            (Err(_), true) => Ok(None),
            (Err(_), false) => Err(Malformed::Packet(format!("{scalar} is not an integer"))),
        }
    }

    /// A value, as JSON with attachments.
    fn payload(&mut self) -> Result<RawPayload, Malformed> {
        self.json = Vec::with_capacity(self.rest.len());
        self.value()?;
        let json = String::from_utf8(std::mem::take(&mut self.json)).expect("only text was written to it");
        Ok(RawPayload {
            json: Str::from(json),
            attachments: std::mem::take(&mut self.attachments),
        })
    }

    fn value(&mut self) -> Result<(), Malformed> {
        let mut open: Vec<Container> = Vec::new();
        loop {
            if let Read::Opened { is_object, length } = self.item()? {
                if open.len() == MAX_DEPTH {
                    return Err(Malformed::Deep);
                }
                self.json.push(if is_object { b'{' } else { b'[' });
                open.push(Container {
                    is_object,
                    left: length,
                    has_some: false,
                });
            }
            loop {
                let Some(last) = open.last_mut() else { return Ok(()) };
                if last.left == 0 {
                    self.json.push(if last.is_object { b'}' } else { b']' });
                    open.pop();
                    continue;
                }
                last.left -= 1;
                let key = match last.is_object {
                    true => Some(self.key()?),
                    false => None,
                };
                if key.is_some() && self.skips_undefined() {
                    continue;
                }
                if std::mem::replace(&mut last.has_some, true) {
                    self.json.push(b',');
                }
                match key.as_deref() {
                    Some("_placeholder") => {
                        self.json
                            .extend_from_slice(["\"", OWN_PLACEHOLDER, "\":"].concat().as_bytes());
                    }
                    Some(key) => {
                        self.write_text(key);
                        self.json.push(b':');
                    }
                    None => {}
                }
                break;
            }
        }
    }

    /// Reads a scalar, or the beginning of an array or object.
    fn item(&mut self) -> Result<Read, Malformed> {
        let marker = self.marker()?;
        if let Some(text) = self.text(marker)? {
            self.write_text(&text);
        } else if let Some((is_object, length)) = self.opened(marker)? {
            return Ok(Read::Opened { is_object, length });
        } else if let Some(length) = self.binary_length(marker)? {
            self.attachment(length)?;
        } else if let Some(length) = self.extension_length(marker)? {
            let kind = self.number(RmpRead::read_data_i8)?;
            self.extension(marker, kind, length)?;
        } else {
            let scalar = self.scalar(marker)?;
            self.json.extend_from_slice(scalar.as_bytes());
        }
        Ok(Read::Whole)
    }

    /// Reads an extension whose type was read.
    fn extension(&mut self, marker: Marker, kind: i8, length: u32) -> Result<(), Malformed> {
        match (marker, kind) {
            (Marker::FixExt4 | Marker::FixExt8 | Marker::Ext8, TIMESTAMP) if self.dialect == Dialect::Emitter => {
                let ms = self.timestamp(length)?;
                self.date(ms);
                Ok(())
            }
            (Marker::FixExt1, 0) => {
                self.take(length)?;
                self.json.extend_from_slice(b"null");
                Ok(())
            }
            (Marker::FixExt8, 0) => {
                let ms = self.number(RmpRead::read_data_i64)?;
                self.date(Some(ms));
                Ok(())
            }
            // An ArrayBuffer.
            (Marker::Ext8 | Marker::Ext16 | Marker::Ext32, 0) => self.attachment(length),
            (_, kind) => {
                self.json.extend_from_slice(format!("[{kind},").as_bytes());
                self.attachment(length)?;
                self.json.push(b']');
                Ok(())
            }
        }
    }

    /// The milliseconds since 1970 of a timestamp: <https://github.com/msgpack/msgpack/blob/master/spec.md#timestamp-extension-type>.
    /// None if there are too many.
    fn timestamp(&mut self, length: u32) -> Result<Option<i64>, Malformed> {
        let (seconds, nanoseconds) = match length {
            4 => (self.number(RmpRead::read_data_u32)?.into(), 0),
            8 => {
                let both = self.number(RmpRead::read_data_u64)?;
                ((both & 0x3_ffff_ffff) as i64, (both >> 34) as u32)
            }
            12 => {
                let nanoseconds = self.number(RmpRead::read_data_u32)?;
                (self.number(RmpRead::read_data_i64)?, nanoseconds)
            }
            _ => return Err(Malformed::Packet(format!("a timestamp of {length} bytes"))),
        };
        let ms = seconds.checked_mul(1_000);
        Ok(ms.and_then(|ms| ms.checked_add((nanoseconds / 1_000_000).into())))
    }

    /// Writes a date; null if JavaScript has no such date.
    fn date(&mut self, ms: Option<i64>) {
        let date = ms.and_then(date::to_text).map(|date| ["\"", &date, "\""].concat());
        self.json
            .extend_from_slice(date.as_deref().unwrap_or("null").as_bytes());
    }

    fn skips_undefined(&mut self) -> bool {
        let is_undefined = self.rest.starts_with(UNDEFINED) && self.rest.len() > UNDEFINED.len();
        if is_undefined {
            self.rest = &self.rest[UNDEFINED.len() + 1..];
        }
        is_undefined
    }

    fn marker(&mut self) -> Result<Marker, Malformed> {
        decode::read_marker(&mut self.rest).map_err(|_| truncated())
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let marker = self.marker()?;
        match self.text(marker)? {
            Some(text) => Ok(text),
            None if self.dialect == Dialect::Value => Err(Malformed::Packet("a key that is no text".into())),
            None => self.scalar(marker).map(Cow::Owned),
        }
    }

    /// Whether the marker is that of an object, and how many items it has. None if it is neither an object nor an array.
    fn opened(&mut self, marker: Marker) -> Result<Option<(bool, u32)>, Malformed> {
        Ok(Some(match marker {
            Marker::FixArray(length) => (false, length.into()),
            Marker::Array16 => (false, self.number(RmpRead::read_data_u16)?.into()),
            Marker::Array32 => (false, self.number(RmpRead::read_data_u32)?),
            Marker::FixMap(length) => (true, length.into()),
            Marker::Map16 => (true, self.number(RmpRead::read_data_u16)?.into()),
            Marker::Map32 => (true, self.number(RmpRead::read_data_u32)?),
            _ => return Ok(None),
        }))
    }

    /// The string whose marker was read. None if it is not a string.
    fn text(&mut self, marker: Marker) -> Result<Option<Cow<'a, str>>, Malformed> {
        let length = match marker {
            Marker::FixStr(length) => length.into(),
            Marker::Str8 => self.number(RmpRead::read_data_u8)?.into(),
            Marker::Str16 => self.number(RmpRead::read_data_u16)?.into(),
            Marker::Str32 => self.number(RmpRead::read_data_u32)?,
            _ => return Ok(None),
        };
        match String::from_utf8_lossy(self.take(length)?) {
            Cow::Owned(_) if self.dialect == Dialect::Value => {
                Err(Malformed::Packet("a text that is not UTF-8".into()))
            }
            text => Ok(Some(text)),
        }
    }

    /// A number, boolean or null, as JSON.
    fn scalar(&mut self, marker: Marker) -> Result<String, Malformed> {
        let is_strict = self.dialect == Dialect::Value;
        let float = |number: f64| match serde_json::Number::from_f64(number) {
            Some(number) => Ok(number.to_string()),
            None if is_strict => Err(Malformed::Packet(format!("the number {number}"))),
            None => Ok("null".into()),
        };
        Ok(match marker {
            Marker::Null => "null".into(),
            Marker::False => "false".into(),
            Marker::True => "true".into(),
            Marker::FixPos(number) => number.to_string(),
            Marker::FixNeg(number) => number.to_string(),
            Marker::U8 => self.number(RmpRead::read_data_u8)?.to_string(),
            Marker::U16 => self.number(RmpRead::read_data_u16)?.to_string(),
            Marker::U32 => self.number(RmpRead::read_data_u32)?.to_string(),
            Marker::U64 => self.number(RmpRead::read_data_u64)?.to_string(),
            Marker::I8 => self.number(RmpRead::read_data_i8)?.to_string(),
            Marker::I16 => self.number(RmpRead::read_data_i16)?.to_string(),
            Marker::I32 => self.number(RmpRead::read_data_i32)?.to_string(),
            Marker::I64 => self.number(RmpRead::read_data_i64)?.to_string(),
            Marker::F32 => float(self.number(RmpRead::read_data_f32)?.into())?,
            Marker::F64 => float(self.number(RmpRead::read_data_f64)?)?,
            _ => {
                return Err(Malformed::Packet("a value of a type that cannot be there".into()));
            }
        })
    }

    /// The length of the binary value whose marker was read. None if it is not a binary value. Its bytes come next.
    fn binary_length(&mut self, marker: Marker) -> Result<Option<u32>, Malformed> {
        Ok(Some(match marker {
            Marker::Bin8 => self.number(RmpRead::read_data_u8)?.into(),
            Marker::Bin16 => self.number(RmpRead::read_data_u16)?.into(),
            Marker::Bin32 => self.number(RmpRead::read_data_u32)?,
            _ => return Ok(None),
        }))
    }

    /// The length of the extension whose marker was read. None if it is not an extension. Its type comes next, then its bytes.
    fn extension_length(&mut self, marker: Marker) -> Result<Option<u32>, Malformed> {
        Ok(Some(match marker {
            Marker::Ext8 => self.number(RmpRead::read_data_u8)?.into(),
            Marker::Ext16 => self.number(RmpRead::read_data_u16)?.into(),
            Marker::Ext32 => self.number(RmpRead::read_data_u32)?,
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            _ => return Ok(None),
        }))
    }

    fn attachment(&mut self, length: u32) -> Result<(), Malformed> {
        if self.attachments.len() == MAX_ATTACHMENTS {
            return Err(Malformed::Packet(format!("more than {MAX_ATTACHMENTS} binary values")));
        }
        let attachment = Bytes::copy_from_slice(self.take(length)?);
        let placeholder = format!(r#"{{"_placeholder":true,"num":{}}}"#, self.attachments.len());
        self.json.extend_from_slice(placeholder.as_bytes());
        self.attachments.push(attachment);
        Ok(())
    }

    fn write_text(&mut self, text: &str) {
        serde_json::to_writer(&mut self.json, text).expect("a string is always JSON");
    }

    fn number<N, E>(&mut self, read: impl FnOnce(&mut &'a [u8]) -> Result<N, E>) -> Result<N, Malformed> {
        read(&mut self.rest).map_err(|_| truncated())
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length as usize).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn truncated() -> Malformed {
    Malformed::Packet("it is truncated".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_packets_as_the_official_parser_does() {
        let packet = fields(
            b"\x85\xa4type\x03\xa3nsp\xa2/a\xa2id\xcb\x40\x1c\0\0\0\0\0\0\xa4data\x91\x01\xa7options\x81\xa1a\xc3",
        )
        .unwrap();
        assert_eq!((packet.kind, packet.namespace.as_str(), packet.id), (3, "/a", Some(7)));
        assert_eq!(packet.data.unwrap().json.as_str(), "[1]");
        let connect = fields(b"\x84\xa4type\x00\xa3nsp\xa1/\xa4data\xd4\0\0\xa2id\xd4\0\0").unwrap();
        assert!(connect.data.is_none() && connect.id.is_none());
        for wrong in [
            &b"\x90"[..],
            b"\x80",
            b"\x82\xa4type\x02\xa4data\x90",
            b"\x82\xa4type\x02\xa3nsp\x05",
            b"\x82\xa4type\xa1x\xa3nsp\xa1/",
            b"\x82\xa4type\x01\xa3nsp\xa1/\xc0",
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xc1",
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa2id\xcb\x3f\xf8\0\0\0\0\0\0",
            b"",
        ] {
            assert!(fields(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn acknowledgement_without_id_answers_nothing() {
        let packet = decode(b"\x83\xa4type\x03\xa3nsp\xa1/\xa4data\x91\x01").unwrap();
        assert!(matches!(packet.content, PacketContent::Ack(_, ack_number::NO_EVENT)));
        assert!(decode(b"\x82\xa4type\x03\xa3nsp\xa1/").is_err(), "it has no arguments");
    }
}

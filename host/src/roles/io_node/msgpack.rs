//! Payloads in MessagePack, to and from JSON with attachments.
//!
//! The packet around them is the parser's. Of what MessagePack has and JSON has not, a number that is not finite becomes
//! null, a key that is a number its text, and an extension its bytes. Either is written while the other is read: a tree in
//! between would take a hundred times the memory of what a client can make up.

use std::fmt;

use bytes::Bytes;
use rmp::Marker;
use rmp::decode::{self, RmpRead};
use rmp::encode;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use socketioxide_core::Str;

use super::args::{DEPTH, Malformed};
use super::codec::Parts;
use super::placeholders::{Place, Placeholder};

/// Binary values of one packet: as many as the parser takes of attachments.
const MOST_ATTACHMENTS: usize = 10_000;
/// Null.
const NIL: &[u8] = &[0xc0];

/// Reads a value.
pub(super) fn to_json(data: &[u8]) -> Result<Parts, Malformed> {
    let mut reader = Reader {
        rest: data,
        json: Vec::with_capacity(data.len()),
        attachments: Vec::new(),
    };
    reader.value(0)?;
    let json = String::from_utf8(reader.json).expect("only text was written to it");
    Ok((Str::from(json), reader.attachments))
}

/// Writes a value. Attachments that `json` has no placeholder for are left out.
pub(super) fn from_json(json: &str, attachments: &[Bytes]) -> Bytes {
    let mut data = Vec::with_capacity(json.len());
    write_json(&mut data, json, attachments);
    data.into()
}

/// The packet by which a connection is refused; `error` is JSON.
pub(super) fn refusal(namespace: &str, error: &str) -> Bytes {
    let mut data = Vec::new();
    written(encode::write_map_len(&mut data, 3));
    written(encode::write_str(&mut data, "type"));
    written(encode::write_uint(&mut data, 4));
    written(encode::write_str(&mut data, "nsp"));
    written(encode::write_str(&mut data, namespace));
    written(encode::write_str(&mut data, "data"));
    write_json(&mut data, error, &[]);
    data.into()
}

fn write_json(data: &mut Vec<u8>, json: &str, attachments: &[Bytes]) {
    let start = data.len();
    let mut json = serde_json::Deserializer::from_str(json);
    if (Writer { data, attachments }).deserialize(&mut json).is_err() {
        data.truncate(start);
        data.extend_from_slice(NIL);
    }
}

fn written<T, E: fmt::Debug>(written: Result<T, E>) {
    written.expect("memory can be written to");
}

/// Writes JSON while it reads MessagePack.
struct Reader<'a> {
    rest: &'a [u8],
    json: Vec<u8>,
    attachments: Vec<Bytes>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        let marker = decode::read_marker(&mut self.rest).map_err(|_| short())?;
        match marker {
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let text = self.text(marker)?;
                self.write_text(&text)
            }
            Marker::FixArray(length) => self.items(length.into(), depth),
            Marker::Array16 => {
                let length = self.number(RmpRead::read_data_u16)?;
                self.items(length.into(), depth)
            }
            Marker::Array32 => {
                let length = self.number(RmpRead::read_data_u32)?;
                self.items(length, depth)
            }
            Marker::FixMap(length) => self.fields(length.into(), depth),
            Marker::Map16 => {
                let length = self.number(RmpRead::read_data_u16)?;
                self.fields(length.into(), depth)
            }
            Marker::Map32 => {
                let length = self.number(RmpRead::read_data_u32)?;
                self.fields(length, depth)
            }
            marker => match self.binary_length(marker)? {
                Some(length) => self.attachment(length),
                None => {
                    let scalar = self.scalar(marker)?;
                    self.json.extend_from_slice(scalar.as_bytes());
                    Ok(())
                }
            },
        }
    }

    fn items(&mut self, length: u32, depth: usize) -> Result<(), Malformed> {
        let depth = deeper(depth)?;
        self.json.push(b'[');
        for item in 0..length {
            if item > 0 {
                self.json.push(b',');
            }
            self.value(depth)?;
        }
        self.json.push(b']');
        Ok(())
    }

    fn fields(&mut self, length: u32, depth: usize) -> Result<(), Malformed> {
        let depth = deeper(depth)?;
        self.json.push(b'{');
        for field in 0..length {
            if field > 0 {
                self.json.push(b',');
            }
            self.key()?;
            self.json.push(b':');
            self.value(depth)?;
        }
        self.json.push(b'}');
        Ok(())
    }

    fn key(&mut self) -> Result<(), Malformed> {
        let marker = decode::read_marker(&mut self.rest).map_err(|_| short())?;
        let key = match marker {
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => self.text(marker)?,
            marker => self.scalar(marker)?,
        };
        self.write_text(&key)
    }

    /// The text whose marker was read.
    fn text(&mut self, marker: Marker) -> Result<String, Malformed> {
        let length = match marker {
            Marker::FixStr(length) => length.into(),
            Marker::Str8 => self.number(RmpRead::read_data_u8)?.into(),
            Marker::Str16 => self.number(RmpRead::read_data_u16)?.into(),
            _ => self.number(RmpRead::read_data_u32)?,
        };
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    /// What holds nothing else, as JSON.
    fn scalar(&mut self, marker: Marker) -> Result<String, Malformed> {
        let float =
            |number: f64| serde_json::Number::from_f64(number).map_or("null".into(), |number| number.to_string());
        Ok(match marker {
            Marker::Null | Marker::Reserved => "null".into(),
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
            Marker::F32 => float(self.number(RmpRead::read_data_f32)?.into()),
            Marker::F64 => float(self.number(RmpRead::read_data_f64)?),
            _ => return Err(Malformed::Packet("a key is neither text nor a number".into())),
        })
    }

    /// How long a binary value or an extension is whose marker was read, if it is one. What comes next is its bytes.
    fn binary_length(&mut self, marker: Marker) -> Result<Option<u32>, Malformed> {
        let (length, is_extension) = match marker {
            Marker::Bin8 => (self.number(RmpRead::read_data_u8)?.into(), false),
            Marker::Bin16 => (self.number(RmpRead::read_data_u16)?.into(), false),
            Marker::Bin32 => (self.number(RmpRead::read_data_u32)?, false),
            Marker::Ext8 => (self.number(RmpRead::read_data_u8)?.into(), true),
            Marker::Ext16 => (self.number(RmpRead::read_data_u16)?.into(), true),
            Marker::Ext32 => (self.number(RmpRead::read_data_u32)?, true),
            Marker::FixExt1 => (1, true),
            Marker::FixExt2 => (2, true),
            Marker::FixExt4 => (4, true),
            Marker::FixExt8 => (8, true),
            Marker::FixExt16 => (16, true),
            _ => return Ok(None),
        };
        if is_extension {
            self.number(RmpRead::read_data_i8)?;
        }
        Ok(Some(length))
    }

    fn attachment(&mut self, length: u32) -> Result<(), Malformed> {
        if self.attachments.len() == MOST_ATTACHMENTS {
            return Err(Malformed::Packet(format!(
                "it has more than {MOST_ATTACHMENTS} binary values"
            )));
        }
        let attachment = Bytes::copy_from_slice(self.take(length)?);
        let placeholder = format!(r#"{{"_placeholder":true,"num":{}}}"#, self.attachments.len());
        self.json.extend_from_slice(placeholder.as_bytes());
        self.attachments.push(attachment);
        Ok(())
    }

    fn write_text(&mut self, text: &str) -> Result<(), Malformed> {
        serde_json::to_writer(&mut self.json, text).expect("a string is always JSON");
        Ok(())
    }

    fn number<N, E>(&mut self, read: impl FnOnce(&mut &'a [u8]) -> Result<N, E>) -> Result<N, Malformed> {
        read(&mut self.rest).map_err(|_| short())
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length as usize).ok_or_else(short)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn short() -> Malformed {
    Malformed::Packet("it ends too early".into())
}

fn deeper(depth: usize) -> Result<usize, Malformed> {
    match depth < DEPTH {
        true => Ok(depth + 1),
        false => Err(Malformed::Deep),
    }
}

/// Writes MessagePack while it reads JSON, and says what a placeholder would have of it.
struct Writer<'a, 'b> {
    data: &'a mut Vec<u8>,
    attachments: &'b [Bytes],
}

impl Writer<'_, '_> {
    fn again(&mut self) -> Writer<'_, '_> {
        Writer {
            data: self.data,
            attachments: self.attachments,
        }
    }

    /// Puts the head of a list in front of what was written since.
    fn head(&mut self, start: usize, head: impl FnOnce(&mut Vec<u8>)) {
        let mut written = Vec::with_capacity(5);
        head(&mut written);
        self.data.splice(start..start, written);
    }
}

impl<'de> DeserializeSeed<'de> for Writer<'_, '_> {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Place, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_, '_> {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Place, E> {
        self.data.extend_from_slice(NIL);
        Ok(Place::Other)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Place, E> {
        written(encode::write_bool(self.data, value));
        Ok(Place::of_bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Place, E> {
        written(encode::write_sint(self.data, number));
        Ok(Place::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Place, E> {
        written(encode::write_uint(self.data, number));
        Ok(Place::Number(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Place, E> {
        written(encode::write_f64(self.data, number));
        Ok(Place::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Place, E> {
        written(encode::write_str(self.data, text));
        Ok(Place::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Place, A::Error> {
        let (start, mut length) = (self.data.len(), 0);
        while items.next_element_seed(self.again())?.is_some() {
            length += 1;
        }
        self.head(start, |head| written(encode::write_array_len(head, length)));
        Ok(Place::Other)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Place, A::Error> {
        let (start, mut length) = (self.data.len(), 0);
        let mut placeholder = Placeholder::default();
        while let Some(key) = fields.next_key::<String>()? {
            written(encode::write_str(self.data, &key));
            let value = fields.next_value_seed(self.again())?;
            placeholder.field(&key, value);
            length += 1;
        }
        let attachments = self.attachments;
        match placeholder.number().and_then(|number| attachments.get(number)) {
            Some(attachment) => {
                self.data.truncate(start);
                written(encode::write_bin(self.data, attachment));
            }
            None => self.head(start, |head| written(encode::write_map_len(head, length))),
        }
        Ok(Place::Other)
    }
}

//! Packets in MessagePack, as `socket.io-msgpack-parser` has them, to and from JSON with attachments.
//!
//! Of what MessagePack has and JSON has not, `undefined` is absent from an object and null in an array, a date is
//! [written](super::dates) so that it stays one, a number that is not finite becomes null, a key that is a number its text, and any other
//! extension an array of its type and its bytes, as in Node's server. An object that is like a placeholder is
//! [written](OWN_PLACEHOLDER) so that it is not taken for one.
//!
//! Either is written while the other is read, without recursion: a tree in between would take a hundred times the memory of what a
//! client can make up.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use rmp::Marker;
use rmp::decode::{self, RmpRead};
use rmp::encode;
use serde::de::IgnoredAny;
use socketioxide_core::Str;

use super::args::{DEPTH, Malformed};
use super::codec::Parts;
use super::dates;
use plugnode_message::json::{OWN_PLACEHOLDER, Placeholder, Spelling, Token, Tokens, unescaped};

/// Binary values of one packet.
const MOST_ATTACHMENTS: usize = 10_000;
/// Fields of a packet: more than any client sends.
const MOST_FIELDS: u32 = 20;
/// Null.
const NIL: &[u8] = &[0xc0];
/// How `undefined` begins: an extension of one byte, of type 0.
const UNDEFINED: &[u8] = &[0xd4, 0];
/// How a date begins: an extension of eight bytes, of type 0.
const DATE: &[u8] = &[0xd7, 0];

/// A packet, as a client sent it.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) kind: i64,
    pub(super) namespace: Str,
    /// None when it is `undefined` or null, or is not there.
    pub(super) data: Option<Parts>,
    pub(super) id: Option<i64>,
}

/// Reads a packet.
pub(super) fn read(data: &[u8]) -> Result<Packet, Malformed> {
    let mut reader = Reader {
        rest: data,
        json: Vec::new(),
        attachments: Vec::new(),
    };
    let packet = reader.packet()?;
    match reader.rest {
        [] => Ok(packet),
        _ => Err(Malformed::Packet("something is behind its end".into())),
    }
}

/// Writes a value. Attachments that `json` has no placeholder for are left out.
///
/// # Errors
/// When the attachments take more than so many bytes, each counted as often as it is named.
pub(super) fn from_json(json: &str, attachments: &[Bytes], most: usize) -> Result<Bytes, TooLarge> {
    let (shapes, size) = Shape::all(json, attachments);
    if size > most {
        return Err(TooLarge { size });
    }
    let mut data = Vec::with_capacity(json.len() + size);
    write(&mut data, json, &shapes, attachments);
    Ok(data.into())
}

/// Placeholders would have the same attachments written again and again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) size: usize,
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
    write(&mut data, error, &Shape::all(error, &[]).0, &[]);
    data.into()
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

/// A list or an object that is being read.
struct Open {
    is_object: bool,
    left: u32,
    has_some: bool,
}

/// What was read of a value.
enum Read {
    /// All of it.
    Whole,
    /// Its beginning.
    Opened { is_object: bool, length: u32 },
}

impl<'a> Reader<'a> {
    fn packet(&mut self) -> Result<Packet, Malformed> {
        let marker = self.marker()?;
        let Some((true, fields @ ..=MOST_FIELDS)) = self.opened(marker)? else {
            return Err(Malformed::Packet("it is no object of a few fields".into()));
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
                        name.ok_or(Malformed::Packet("its namespace is no text".into()))?
                            .into_owned(),
                    ));
                }
                "id" => id = self.integer()?,
                "data" => data = Some(self.parts()?),
                _ => drop(self.parts()?),
            }
        }
        Ok(Packet {
            kind: kind.ok_or(Malformed::Packet("it has no type".into()))?,
            namespace: namespace.ok_or(Malformed::Packet("it has no namespace".into()))?,
            data: data.filter(|(json, _): &Parts| json.as_str() != "null"),
            id,
        })
    }

    /// A whole number, or none.
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
            .map_err(|_| Malformed::Packet(format!("{scalar} is no number")))?;
        match (scalar.parse(), number.fract() == 0.0) {
            (Ok(number), _) => Ok(Some(number)),
            (Err(_), true) if number.abs() < 9.0e18 => Ok(Some(number as i64)),
            (Err(_), true) => Ok(None),
            (Err(_), false) => Err(Malformed::Packet(format!("{scalar} is no whole number"))),
        }
    }

    /// A value, as JSON with attachments.
    fn parts(&mut self) -> Result<Parts, Malformed> {
        self.json = Vec::with_capacity(self.rest.len());
        self.value()?;
        let json = String::from_utf8(std::mem::take(&mut self.json)).expect("only text was written to it");
        Ok((Str::from(json), std::mem::take(&mut self.attachments)))
    }

    fn value(&mut self) -> Result<(), Malformed> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            if let Read::Opened { is_object, length } = self.item()? {
                if open.len() == DEPTH {
                    return Err(Malformed::Deep);
                }
                self.json.push(if is_object { b'{' } else { b'[' });
                open.push(Open {
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

    /// Reads a value that holds no others, or the beginning of one that does.
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

    /// What the types of extensions mean: <https://github.com/darrachequesne/notepack>.
    fn extension(&mut self, marker: Marker, kind: i8, length: u32) -> Result<(), Malformed> {
        match (marker, kind) {
            (Marker::FixExt1, 0) => {
                self.take(length)?;
                self.json.extend_from_slice(b"null");
                Ok(())
            }
            (Marker::FixExt8, 0) => {
                let ms = self.number(RmpRead::read_data_i64)?;
                let date = dates::written(ms).map(|date| ["\"", &date, "\""].concat());
                self.json
                    .extend_from_slice(date.as_deref().unwrap_or("null").as_bytes());
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

    fn skips_undefined(&mut self) -> bool {
        let is_undefined = self.rest.starts_with(UNDEFINED) && self.rest.len() > UNDEFINED.len();
        if is_undefined {
            self.rest = &self.rest[UNDEFINED.len() + 1..];
        }
        is_undefined
    }

    fn marker(&mut self) -> Result<Marker, Malformed> {
        decode::read_marker(&mut self.rest).map_err(|_| short())
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let marker = self.marker()?;
        match self.text(marker)? {
            Some(text) => Ok(text),
            None => self.scalar(marker).map(Cow::Owned),
        }
    }

    /// Whether an object begins, or a list, and of how many items.
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

    /// The text whose marker was read, if it is one.
    fn text(&mut self, marker: Marker) -> Result<Option<Cow<'a, str>>, Malformed> {
        let length = match marker {
            Marker::FixStr(length) => length.into(),
            Marker::Str8 => self.number(RmpRead::read_data_u8)?.into(),
            Marker::Str16 => self.number(RmpRead::read_data_u16)?.into(),
            Marker::Str32 => self.number(RmpRead::read_data_u32)?,
            _ => return Ok(None),
        };
        Ok(Some(String::from_utf8_lossy(self.take(length)?)))
    }

    /// What holds nothing else, as JSON.
    fn scalar(&mut self, marker: Marker) -> Result<String, Malformed> {
        let float =
            |number: f64| serde_json::Number::from_f64(number).map_or("null".into(), |number| number.to_string());
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
            Marker::F32 => float(self.number(RmpRead::read_data_f32)?.into()),
            Marker::F64 => float(self.number(RmpRead::read_data_f64)?),
            _ => {
                return Err(Malformed::Packet(
                    "a value is of no type that it may be of there".into(),
                ));
            }
        })
    }

    /// How long a binary value is whose marker was read, if it is one. What comes next is its bytes.
    fn binary_length(&mut self, marker: Marker) -> Result<Option<u32>, Malformed> {
        Ok(Some(match marker {
            Marker::Bin8 => self.number(RmpRead::read_data_u8)?.into(),
            Marker::Bin16 => self.number(RmpRead::read_data_u16)?.into(),
            Marker::Bin32 => self.number(RmpRead::read_data_u32)?,
            _ => return Ok(None),
        }))
    }

    /// The same of an extension. What comes next is its type, and then its bytes.
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

    fn write_text(&mut self, text: &str) {
        serde_json::to_writer(&mut self.json, text).expect("a string is always JSON");
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

/// What has to be known of a list or an object before it is written: how many items it has, or which attachment it stands for. One number,
/// as there may be a million of them in a packet.
#[derive(Clone, Copy)]
struct Shape(u32);

/// Whether it is the number of an attachment.
const ATTACHMENT: u32 = 1 << 31;

impl Shape {
    fn length(self) -> u32 {
        self.0 & !ATTACHMENT
    }

    fn attachment(self) -> Option<usize> {
        (self.0 & ATTACHMENT != 0).then_some((self.0 & !ATTACHMENT) as usize)
    }

    /// Of all lists and objects in the order in which they begin; and how many bytes their attachments take.
    fn all(json: &str, attachments: &[Bytes]) -> (Vec<Self>, usize) {
        let (mut shapes, mut size) = (Vec::<Self>::new(), 0_usize);
        let mut open: Vec<(usize, Option<Placeholder>)> = Vec::new();
        let mut key = None;
        for token in Tokens::of(json) {
            if !matches!(token, Token::Key(_) | Token::Close)
                && let Some((index, object)) = open.last_mut()
            {
                shapes[*index].0 += 1;
                if let (Some(key), Some(object)) = (key.take(), object) {
                    object.field(key, token, Spelling::Plain);
                }
            }
            match token {
                Token::Key(name) => key = Some(name),
                Token::OpenList | Token::OpenObject => {
                    let object = (token == Token::OpenObject).then(Placeholder::default);
                    open.push((shapes.len(), object));
                    shapes.push(Self(0));
                }
                Token::Close => {
                    let Some((index, object)) = open.pop() else { continue };
                    let number = object.and_then(|object| object.number());
                    if let Some((number, attachment)) =
                        number.and_then(|number| Some((number, attachments.get(number)?)))
                    {
                        shapes[index] = Self(ATTACHMENT | number as u32);
                        size = size.saturating_add(attachment.len());
                    }
                }
                Token::Text(_) | Token::Number(_) | Token::Word(_) => {}
            }
        }
        (shapes, size)
    }
}

/// Writes JSON whose shapes are known. What is no JSON becomes null.
fn write(data: &mut Vec<u8>, json: &str, shapes: &[Shape], attachments: &[Bytes]) {
    if serde_json::from_str::<IgnoredAny>(json).is_err() {
        data.extend_from_slice(NIL);
        return;
    }
    let mut shapes = shapes.iter();
    // Within a placeholder, how deep.
    let mut skipped = 0_usize;
    for token in Tokens::of(json) {
        let is_open = matches!(token, Token::OpenList | Token::OpenObject);
        let shape = if is_open { shapes.next() } else { None };
        if skipped > 0 {
            match token {
                Token::OpenList | Token::OpenObject => skipped += 1,
                Token::Close => skipped -= 1,
                _ => {}
            }
            continue;
        }
        let length = shape.map_or(0, |shape| shape.length());
        let attachment = shape.and_then(|shape| attachments.get(shape.attachment()?));
        match (token, attachment) {
            (Token::OpenObject, Some(attachment)) => {
                written(encode::write_bin(data, attachment));
                skipped = 1;
            }
            (Token::OpenObject, None) => written(encode::write_map_len(data, length)),
            (Token::OpenList, _) => written(encode::write_array_len(data, length)),
            (Token::Close, _) => {}
            (Token::Key(key), _) => written(encode::write_str(data, &unescaped(key))),
            (Token::Text(text), _) => match dates::read(text) {
                Some(ms) => {
                    data.extend_from_slice(DATE);
                    data.extend_from_slice(&ms.to_be_bytes());
                }
                None => written(encode::write_str(data, &unescaped(text))),
            },
            (Token::Number(number), _) => write_number(data, number),
            (Token::Word("true"), _) => written(encode::write_bool(data, true)),
            (Token::Word("false"), _) => written(encode::write_bool(data, false)),
            (Token::Word(_), _) => data.extend_from_slice(NIL),
        }
    }
}

fn write_number(data: &mut Vec<u8>, number: &str) {
    if let Ok(number) = number.parse() {
        written(encode::write_uint(data, number));
    } else if let Ok(number) = number.parse() {
        written(encode::write_sint(data, number));
    } else {
        match number.parse::<f64>() {
            Ok(number) if number.is_finite() => written(encode::write_f64(data, number)),
            _ => data.extend_from_slice(NIL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event of these arguments, each as it is in MessagePack.
    fn event(args: &[&[u8]]) -> Vec<u8> {
        let head = [
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data",
            &[0x91 + args.len() as u8][..],
            b"\xa1e",
        ];
        [head.concat(), args.concat()].concat()
    }

    fn parts(args: &[&[u8]]) -> (String, Vec<Bytes>) {
        let (json, attachments) = read(&event(args)).unwrap().data.unwrap();
        (json.as_str().to_owned(), attachments)
    }

    /// What is sent to another client when a handler passes it on as it is.
    fn passed_on(args: &[&[u8]]) -> Vec<u8> {
        let (json, attachments) = parts(args);
        from_json(&json, &attachments, 1 << 20).unwrap().into()
    }

    #[test]
    fn types_of_javascript_are_passed_on() {
        let date = b"\xd7\0\x00\x00\x01\x8d\xf4\xdc\x54\x95";
        assert_eq!(
            parts(&[date, UNDEFINED_VALUE]).0,
            r#"["e","\u0032024-02-29T12:34:56.789Z",null]"#
        );
        assert_eq!(passed_on(&[date]), [b"\x92\xa1e", &date[..]].concat());
        let object = b"\x83\xa1a\xd4\0\0\xa1b\x01\xa1c\xd4\0\0";
        assert_eq!(parts(&[object]).0, r#"["e",{"b":1}]"#);
        // A date that is none, and an extension that nobody knows.
        assert_eq!(parts(&[b"\xd7\0\x7f\xff\xff\xff\0\0\0\0"]).0, r#"["e",null]"#);
        let (json, attachments) = parts(&[b"\xd5\x05ab"]);
        assert_eq!(json, r#"["e",[5,{"_placeholder":true,"num":0}]]"#);
        assert_eq!(attachments, ["ab"]);
        assert_eq!(parts(&[b"\xc7\x02\0ab"]).0, r#"["e",{"_placeholder":true,"num":0}]"#);
    }

    const UNDEFINED_VALUE: &[u8] = b"\xd4\0\0";

    #[test]
    fn an_object_like_a_placeholder_stays_one() {
        let own = b"\x82\xac_placeholder\xc3\xa3num\x00";
        let bytes = b"\xc4\x03abc";
        let (json, attachments) = parts(&[own, bytes]);
        assert_eq!(
            json,
            r#"["e",{"\u005fplaceholder":true,"num":0},{"_placeholder":true,"num":0}]"#
        );
        assert_eq!(attachments, ["abc"]);
        assert_eq!(passed_on(&[own, bytes]), [b"\x93\xa1e", &own[..], bytes].concat());
    }

    #[test]
    fn the_size_is_known_before_attachments_are_written() {
        let placeholders = vec![r#"{"_placeholder":true,"num":0}"#; 10_000].join(",");
        let attachment = Bytes::from(vec![7; 400_000]);
        let (refused, peak) =
            plugnode_testing::arbitrary::peak(|| from_json(&format!("[{placeholders}]"), &[attachment], 10_000_000));
        assert_eq!(refused, Err(TooLarge { size: 4_000_000_000 }));
        assert!(peak < 2_000_000, "{peak}");
    }

    #[test]
    fn texts_and_numbers_that_messagepack_has_not_do_no_harm() {
        let json = format!(r#"["\ud83d",{{"\udc00":1e999}},{},-1,1.5,"\u0041"]"#, "9".repeat(5_000));
        let expected = b"\x96\xa3\xef\xbf\xbd\x81\xa3\xef\xbf\xbd\xc0\xc0\xff\xcb\x3f\xf8\0\0\0\0\0\0\xa1A";
        assert_eq!(from_json(&json, &[], 0).unwrap(), &expected[..]);
    }

    #[test]
    fn nesting_passes_as_deep_as_in_json() {
        let nested = |depth: usize| [vec![0x91; depth - 1], vec![0x90]].concat();
        let (json, _) = parts(&[&nested(DEPTH - 1)]);
        assert_eq!(
            from_json(&json, &[], 0).unwrap(),
            [b"\x92\xa1e".to_vec(), nested(DEPTH - 1)].concat()
        );
        assert_eq!(read(&event(&[&nested(DEPTH)])).unwrap_err(), Malformed::Deep);
        assert_eq!(read(&event(&[&vec![0x91; 500_000]])).unwrap_err(), Malformed::Deep);
        assert!(read(&event(&[&vec![0x81; 500_000]])).is_err());
    }

    #[test]
    fn packets_are_checked_as_by_the_official_parser() {
        let packet = read(
            b"\x85\xa4type\x03\xa3nsp\xa2/a\xa2id\xcb\x40\x1c\0\0\0\0\0\0\xa4data\x91\x01\xa7options\x81\xa1a\xc3",
        )
        .unwrap();
        assert_eq!((packet.kind, packet.namespace.as_str(), packet.id), (3, "/a", Some(7)));
        assert_eq!(packet.data.unwrap().0.as_str(), "[1]");
        let connect = read(b"\x84\xa4type\x00\xa3nsp\xa1/\xa4data\xd4\0\0\xa2id\xd4\0\0").unwrap();
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
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}

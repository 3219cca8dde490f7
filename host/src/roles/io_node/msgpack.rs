//! Payloads in MessagePack, to and from JSON with attachments.
//!
//! The packet around them is the parser's. Of what MessagePack has and JSON has not, a number that is not finite becomes null, a
//! key that is no string its text, and an extension its bytes.

use bytes::Bytes;
use rmpv::Value as Pack;
use serde_json::{Map, Value as Json};
use socketioxide_core::Str;

use super::args::Malformed;
use super::codec::Parts;

/// How deep values may be nested, as in `serde_json`.
const DEPTH: usize = 128;

/// Reads a value.
pub(super) fn to_json(data: &[u8]) -> Result<Parts, Malformed> {
    let mut rest = data;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, DEPTH)
        .map_err(|error| Malformed::Packet(error.to_string()))?;
    let mut attachments = Vec::new();
    let json = json(value, &mut attachments).to_string();
    Ok((Str::from(json), attachments))
}

/// Writes a value. Attachments that `json` has no placeholder for are left out.
pub(super) fn from_json(json: &str, attachments: &[Bytes]) -> Bytes {
    let value = serde_json::from_str(json).unwrap_or_default();
    written(&pack(value, attachments))
}

/// The packet by which a connection is refused; `error` is JSON.
pub(super) fn refusal(namespace: &str, error: &str) -> Bytes {
    let error = serde_json::from_str(error).unwrap_or_default();
    written(&Pack::Map(vec![
        ("type".into(), 4.into()),
        ("nsp".into(), namespace.into()),
        ("data".into(), pack(error, &[])),
    ]))
}

fn written(value: &Pack) -> Bytes {
    let mut data = Vec::new();
    rmpv::encode::write_value(&mut data, value).expect("memory can be written to");
    data.into()
}

fn json(value: Pack, attachments: &mut Vec<Bytes>) -> Json {
    match value {
        Pack::Nil => Json::Null,
        Pack::Boolean(value) => value.into(),
        Pack::Integer(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => Json::Null,
        },
        Pack::F32(number) => f64::from(number).into(),
        Pack::F64(number) => number.into(),
        Pack::String(text) => String::from_utf8_lossy(text.as_bytes()).into_owned().into(),
        Pack::Binary(data) | Pack::Ext(_, data) => {
            attachments.push(data.into());
            let mut placeholder = Map::new();
            placeholder.insert("_placeholder".into(), true.into());
            placeholder.insert("num".into(), (attachments.len() - 1).into());
            Json::Object(placeholder)
        }
        Pack::Array(items) => items.into_iter().map(|item| json(item, attachments)).collect(),
        Pack::Map(fields) => {
            let field = |(key, value): (Pack, Pack)| {
                let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                (key, json(value, attachments))
            };
            Json::Object(fields.into_iter().map(field).collect())
        }
    }
}

fn pack(value: Json, attachments: &[Bytes]) -> Pack {
    match value {
        Json::Null => Pack::Nil,
        Json::Bool(value) => value.into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().map_or(Pack::Nil, Pack::from),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => Pack::Array(items.into_iter().map(|item| pack(item, attachments)).collect()),
        Json::Object(fields) => match attachment(&fields, attachments) {
            Some(data) => Pack::Binary(data.to_vec()),
            None => Pack::Map(
                fields
                    .into_iter()
                    .map(|(key, value)| (key.into(), pack(value, attachments)))
                    .collect(),
            ),
        },
    }
}

/// The attachment that an object stands for, if it is a placeholder.
fn attachment<'a>(fields: &Map<String, Json>, attachments: &'a [Bytes]) -> Option<&'a Bytes> {
    let number = fields
        .get("num")
        .filter(|_| fields.get("_placeholder") == Some(&Json::Bool(true)))?;
    attachments.get(usize::try_from(number.as_u64()?).ok()?)
}

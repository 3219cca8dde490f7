//! Whether the JSON of a handler is what Socket.IO can carry, without building anything from it.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use plugnode_message::json::{Spelling, placeholders};

/// Whether this is an array, and each of its placeholders is one of the attachments. Else what is wrong with it.
pub(super) fn check_args(json: &str, attachments: &[Bytes]) -> Result<(), String> {
    serde_json::from_str::<Array>(json).map_err(|error| format!("is not a JSON array: {error}"))?;
    for number in named(json, attachments) {
        match number {
            Some(number) if number < attachments.len() => {}
            Some(number) => {
                return Err(format!(
                    "has a placeholder number {number}, and there are {} attachments",
                    attachments.len()
                ));
            }
            None => return Err("has a placeholder without a number".to_owned()),
        }
    }
    Ok(())
}

/// How many bytes there are of JSON and attachments, each of these counted as often as it is named, for it may be sent so.
pub(super) fn size_sent(json: &str, attachments: &[Bytes]) -> usize {
    let sizes = attachments.iter().map(Bytes::len);
    let all = json.len() + sizes.sum::<usize>();
    let named = named(json, attachments)
        .flatten()
        .filter_map(|number| attachments.get(number));
    let named = named.fold(json.len(), |sum, attachment| sum.saturating_add(attachment.len()));
    all.max(named)
}

/// The numbers in placeholders. Without attachments they are objects like any others.
fn named(json: &str, attachments: &[Bytes]) -> impl Iterator<Item = Option<usize>> {
    let json = if attachments.is_empty() { "" } else { json };
    placeholders(json, Spelling::Plain)
}

/// Whether this is an object. Else what is wrong with it.
pub(super) fn check_object(json: &str) -> Result<(), String> {
    serde_json::from_str::<Object>(json)
        .map(|Object| ())
        .map_err(|error| format!("is not a JSON object: {error}"))
}

/// Whether this is a value. Else what is wrong with it.
pub(super) fn check_value(json: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(json)
        .map(|IgnoredAny| ())
        .map_err(|error| format!("is not JSON: {error}"))
}

/// Any array, read and forgotten.
struct Array;

/// Any object, read and forgotten.
struct Object;

impl<'de> Deserialize<'de> for Array {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self)
    }
}

impl<'de> Visitor<'de> for Array {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_array_of_anything() {
        for json in ["[]", "[1]", r#" [ "a", {"b": [null]} ] "#] {
            assert_eq!(check_args(json, &[]), Ok(()), "{json}");
        }
        for json in ["", "{}", "1", "[", "[1,]", "[1] 2", "[nope]"] {
            assert!(check_args(json, &[]).is_err(), "{json}");
        }
    }

    #[test]
    fn every_placeholder_has_its_attachment() {
        let json = r#"["a",{"deep":[{"_placeholder":true,"num":1}]},{"_placeholder":true,"num":0}]"#;
        let attachments = [Bytes::from_static(b"zero"), Bytes::from_static(b"one")];
        assert_eq!(check_args(json, &attachments), Ok(()));
        let error = check_args(json, &attachments[..1]).expect_err("number 1 is missing");
        assert!(error.contains("number 1"), "{error}");
        assert_eq!(check_args(json, &[]), Ok(()), "they are objects like any others");
        assert!(check_args(r#"[{"_placeholder":true}]"#, &attachments).is_err());
    }

    #[test]
    fn deep_json_and_texts_of_javascript_pass() {
        let attachments = [Bytes::from_static(b"zero")];
        for inside in [r#""\ud83d""#, "1e999", r#"{"_placeholder":true,"num":0}"#] {
            let json = format!("{}{inside}{}", "[".repeat(5_000), "]".repeat(5_000));
            assert_eq!(check_args(&json, &attachments), Ok(()));
            assert_eq!(check_args(&json, &[]), Ok(()));
        }
    }

    #[test]
    fn attachments_count_as_often_as_they_are_named() {
        let attachments = [Bytes::from(vec![7; 1_000])];
        assert_eq!(size_sent("[]", &attachments), 1_002);
        let json = format!("[{}]", vec![r#"{"_placeholder":true,"num":0}"#; 100].join(","));
        assert_eq!(size_sent(&json, &attachments), json.len() + 100_000);
    }

    #[test]
    fn a_patch_is_an_object() {
        assert_eq!(check_object(r#"{"name":null}"#), Ok(()));
        for json in ["", "[]", "{", "null", r#"{"a":1} x"#] {
            assert!(check_object(json).is_err(), "{json}");
        }
    }
}

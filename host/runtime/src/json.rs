//! Checks the JSON of a handler: whether Socket.IO can carry it. Parses without building values.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use plugnode_message::json::{Spelling, placeholders};

/// Checks that this is an array, and that each of its placeholders names an attachment.
///
/// # Errors
/// What is wrong, to follow the name of the value.
pub(crate) fn check_args(json: &str, attachments: &[Bytes]) -> Result<(), String> {
    serde_json::from_str::<Array>(json).map_err(|error| format!("is not a JSON array: {error}"))?;
    for number in placeholder_numbers(json, attachments) {
        match number {
            Some(number) if number < attachments.len() => {}
            Some(number) => {
                return Err(format!(
                    "has a placeholder number {number}, but there are {} attachments",
                    attachments.len()
                ));
            }
            None => return Err("has a placeholder without a number".to_owned()),
        }
    }
    Ok(())
}

/// Bytes of JSON and attachments as they may be sent: an attachment counts as often as a placeholder names it.
pub(crate) fn size_sent(json: &str, attachments: &[Bytes]) -> usize {
    let sizes = attachments.iter().map(Bytes::len);
    let all = json.len() + sizes.sum::<usize>();
    let named = placeholder_numbers(json, attachments)
        .flatten()
        .filter_map(|number| attachments.get(number));
    let named = named.fold(json.len(), |sum, attachment| sum.saturating_add(attachment.len()));
    all.max(named)
}

/// The numbers of the placeholders, None for a placeholder without one. Without attachments, placeholders are plain objects.
fn placeholder_numbers(json: &str, attachments: &[Bytes]) -> impl Iterator<Item = Option<usize>> {
    let json = if attachments.is_empty() { "" } else { json };
    placeholders(json, Spelling::Plain)
}

/// Checks that this is an object.
///
/// # Errors
/// What is wrong, to follow the name of the value.
pub(crate) fn check_object(json: &str) -> Result<(), String> {
    serde_json::from_str::<Object>(json)
        .map(|Object| ())
        .map_err(|error| format!("is not a JSON object: {error}"))
}

/// Checks that this is a JSON value.
///
/// # Errors
/// What is wrong, to follow the name of the value.
pub(crate) fn check_value(json: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(json)
        .map(|IgnoredAny| ())
        .map_err(|error| format!("is not JSON: {error}"))
}

/// Any array; its values are skipped.
struct Array;

/// Any object; its fields are skipped.
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
    fn arguments_are_any_array() {
        for json in ["[]", "[1]", r#" [ "a", {"b": [null]} ] "#] {
            assert_eq!(check_args(json, &[]), Ok(()), "{json}");
        }
        for json in ["", "{}", "1", "[", "[1,]", "[1] 2", "[nope]"] {
            assert!(check_args(json, &[]).is_err(), "{json}");
        }
    }

    #[test]
    fn every_placeholder_needs_an_attachment() {
        let json = r#"["a",{"deep":[{"_placeholder":true,"num":1}]},{"_placeholder":true,"num":0}]"#;
        let attachments = [Bytes::from_static(b"zero"), Bytes::from_static(b"one")];
        assert_eq!(check_args(json, &attachments), Ok(()));
        let error = check_args(json, &attachments[..1]).expect_err("number 1 is missing");
        assert!(error.contains("number 1"), "{error}");
        assert_eq!(
            check_args(json, &[]),
            Ok(()),
            "without attachments they are plain objects"
        );
        assert!(check_args(r#"[{"_placeholder":true}]"#, &attachments).is_err());
    }

    #[test]
    fn deep_json_and_lone_surrogates_pass() {
        let attachments = [Bytes::from_static(b"zero")];
        for inside in [r#""\ud83d""#, "1e999", r#"{"_placeholder":true,"num":0}"#] {
            let json = format!("{}{inside}{}", "[".repeat(5_000), "]".repeat(5_000));
            assert_eq!(check_args(&json, &attachments), Ok(()));
            assert_eq!(check_args(&json, &[]), Ok(()));
        }
    }

    #[test]
    fn attachments_count_once_for_each_placeholder() {
        let attachments = [Bytes::from(vec![7; 1_000])];
        assert_eq!(size_sent("[]", &attachments), 1_002);
        let json = format!("[{}]", vec![r#"{"_placeholder":true,"num":0}"#; 100].join(","));
        assert_eq!(size_sent(&json, &attachments), json.len() + 100_000);
    }

    #[test]
    fn patch_must_be_an_object() {
        assert_eq!(check_object(r#"{"name":null}"#), Ok(()));
        for json in ["", "[]", "{", "null", r#"{"a":1} x"#] {
            assert!(check_object(json).is_err(), "{json}");
        }
    }
}

//! Whether the JSON of a handler is what Socket.IO can carry, without building anything from it.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Whether this is an array, and each of its placeholders is one of so many attachments. Else what is wrong with it.
pub(super) fn check_args(json: &str, attachments: usize) -> Result<(), String> {
    if attachments == 0 {
        return serde_json::from_str::<Array>(json)
            .map(|Array| ())
            .map_err(|error| format!("is not a JSON array: {error}"));
    }
    let values: Vec<serde_json::Value> =
        serde_json::from_str(json).map_err(|error| format!("is not a JSON array: {error}"))?;
    match values.iter().filter_map(highest_placeholder).max() {
        Some(number) if number >= attachments as u64 => Err(format!(
            "has a placeholder number {number}, and there are {attachments} attachments"
        )),
        _ => Ok(()),
    }
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

fn highest_placeholder(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::Array(values) => values.iter().filter_map(highest_placeholder).max(),
        serde_json::Value::Object(fields) if fields.get("_placeholder") == Some(&true.into()) => {
            fields.get("num").map(|number| number.as_u64().unwrap_or(u64::MAX))
        }
        serde_json::Value::Object(fields) => fields.values().filter_map(highest_placeholder).max(),
        _ => None,
    }
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
            assert_eq!(check_args(json, 0), Ok(()), "{json}");
        }
        for json in ["", "{}", "1", "[", "[1,]", "[1] 2", "[nope]"] {
            assert!(check_args(json, 0).is_err(), "{json}");
        }
    }

    #[test]
    fn every_placeholder_has_its_attachment() {
        let json = r#"["a",{"deep":[{"_placeholder":true,"num":1}]},{"_placeholder":true,"num":0}]"#;
        assert_eq!(check_args(json, 2), Ok(()));
        let error = check_args(json, 1).expect_err("number 1 is missing");
        assert!(error.contains("number 1"), "{error}");
    }

    #[test]
    fn a_patch_is_an_object() {
        assert_eq!(check_object(r#"{"name":null}"#), Ok(()));
        for json in ["", "[]", "{", "null", r#"{"a":1} x"#] {
            assert!(check_object(json).is_err(), "{json}");
        }
    }
}

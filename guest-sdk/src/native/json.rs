//! Checks the JSON of a handler: whether Socket.IO can carry it. Parses without building values.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::placeholder::{INDEX, MARKER};

/// Checks that this is an array, and that each of its placeholders names an attachment.
///
/// # Errors
/// The problem, worded to follow the name of the value.
pub(crate) fn check_args(json: &str, attachments: &[Vec<u8>]) -> Result<(), String> {
    serde_json::from_str::<AnyArray>(json).map_err(|error| format!("is not a JSON array: {error}"))?;
    let count = attachments.len();
    for number in placeholders(json, attachments) {
        match number {
            Some(number) if number < count => {}
            Some(number) => {
                return Err(format!(
                    "has a placeholder number {number}, but there are {count} attachments"
                ));
            }
            None => return Err("has a placeholder without a number".to_owned()),
        }
    }
    Ok(())
}

/// Bytes of JSON and attachments as they may be sent: an attachment counts as often as a placeholder names it.
pub(crate) fn size_sent(json: &str, attachments: &[Vec<u8>]) -> usize {
    let sizes = attachments.iter().map(Vec::len);
    let all = json.len() + sizes.sum::<usize>();
    let named = placeholders(json, attachments)
        .into_iter()
        .flatten()
        .filter_map(|number| attachments.get(number));
    let named = named.fold(json.len(), |sum, attachment| sum.saturating_add(attachment.len()));
    all.max(named)
}

/// Checks that this is an object.
///
/// # Errors
/// The problem, worded to follow the name of the value.
pub(crate) fn check_object(json: &str) -> Result<(), String> {
    serde_json::from_str::<AnyObject>(json)
        .map(|AnyObject| ())
        .map_err(|error| format!("is not a JSON object: {error}"))
}

/// Checks that this is a JSON value.
///
/// # Errors
/// The problem, worded to follow the name of the value.
pub(crate) fn check_value(json: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(json)
        .map(|IgnoredAny| ())
        .map_err(|error| format!("is not JSON: {error}"))
}

/// The number of each placeholder in valid JSON, none for one without a number. Without attachments, placeholders are plain
/// objects. Does not recurse, so that JSON may be nested to any depth.
fn placeholders(json: &str, attachments: &[Vec<u8>]) -> Vec<Option<usize>> {
    let (mut found, mut open, mut key) = (Vec::new(), Vec::<Object>::new(), None);
    let mut rest = if attachments.is_empty() { "" } else { json };
    while let Some(first) = rest.bytes().next() {
        let len = match first {
            b'"' => length_of_string(rest),
            b't' | b'f' | b'n' | b'-' | b'0'..=b'9' => {
                rest.find([',', ']', '}', ' ', '\n', '\r', '\t']).unwrap_or(rest.len())
            }
            _ => 1,
        };
        let (token, after) = rest.split_at(len);
        rest = after;
        match first {
            b' ' | b'\n' | b'\r' | b'\t' | b',' => continue,
            b'"' if rest.trim_start().starts_with(':') => {
                key = token.get(1..len - 1);
                rest = rest.trim_start().split_at(1).1;
                continue;
            }
            b']' | b'}' => {
                let closed = open.pop().filter(|object| object.is_placeholder);
                found.extend(closed.map(|object| object.number));
                continue;
            }
            _ => {}
        }
        if let (Some(key), Some(object)) = (key.take(), open.last_mut()) {
            match key {
                MARKER => object.is_placeholder = token == "true",
                INDEX => object.number = number_of(token),
                _ => {}
            }
        }
        if matches!(first, b'[' | b'{') {
            open.push(Object::default());
        }
    }
    found
}

/// An open object or array.
#[derive(Default)]
struct Object {
    is_placeholder: bool,
    number: Option<usize>,
}

/// Length of the string that this JSON begins with, with its quotes.
fn length_of_string(json: &str) -> usize {
    let mut escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    });
    end.map_or(json.len(), |end| end + 2)
}

/// A whole number, which JavaScript may write as `1.0`.
fn number_of(token: &str) -> Option<usize> {
    let double = || {
        token
            .parse::<f64>()
            .ok()
            .filter(|number| (0.0..1e9).contains(number) && number.fract() == 0.0)
    };
    token.parse().ok().or_else(|| double().map(|number| number as usize))
}

/// Any array; its values are skipped.
struct AnyArray;

/// Any object; its fields are skipped.
struct AnyObject;

impl<'de> Deserialize<'de> for AnyArray {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self)
    }
}

impl<'de> Visitor<'de> for AnyArray {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for AnyObject {
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
        let attachments = [b"zero".to_vec(), b"one".to_vec()];
        assert_eq!(check_args(json, &attachments), Ok(()));
        let error = check_args(json, &attachments[..1]).expect_err("number 1 is missing");
        assert!(error.contains("number 1"), "{error}");
        assert_eq!(
            check_args(json, &[]),
            Ok(()),
            "without attachments they are plain objects"
        );
        for bad in [
            r#"[{"_placeholder":true}]"#,
            r#"[{"_placeholder":true,"num":"0"}]"#,
            r#"[{"num":2, "_placeholder" : true}]"#,
            r#"[{"_placeholder":true,"num":0.5}]"#,
            r#"["\\",{"_placeholder":true,"num":-1}]"#,
        ] {
            assert!(check_args(bad, &attachments).is_err(), "{bad}");
        }
        for fine in [
            r#"[{"_placeholder":true,"num":1.0}]"#,
            r#"[{"_placeholder":false,"num":7}]"#,
            r#"["{\"_placeholder\":true}"]"#,
            r#"[{"_placeholder":{"num":7},"a":true}]"#,
            r#"[{"\u005fplaceholder":true,"num":7}]"#,
        ] {
            assert_eq!(check_args(fine, &attachments), Ok(()), "{fine}");
        }
    }

    #[test]
    fn deep_json_and_lone_surrogates_pass() {
        let attachments = [b"zero".to_vec()];
        for inside in [r#""\ud83d""#, "1e999", r#"{"_placeholder":true,"num":0}"#] {
            let json = format!("{}{inside}{}", "[".repeat(5_000), "]".repeat(5_000));
            assert_eq!(check_args(&json, &attachments), Ok(()));
            assert_eq!(check_args(&json, &[]), Ok(()));
        }
    }

    #[test]
    fn attachments_count_once_for_each_placeholder() {
        let attachments = [vec![7; 1_000]];
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

//! Between the arrays of the Socket.IO protocol, which begin with the event's name, and our payloads, which do not.
//!
//! What a client sends is passed on to handlers and by them to other clients, so it is checked here once: that it is
//! JSON, and that its placeholders name attachments that are there. A payload that another client's parser would choke
//! on goes no further. The protocol: <https://socket.io/docs/v4/socket-io-protocol/>.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::value::RawValue;
use socketioxide_core::{Str, Value};

use crate::message::{Payload, Text};

/// What is wrong with what a client sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it is not a JSON array")]
    NotAnArray,
    #[error("it does not begin with the event's name")]
    NoName,
    #[error("a placeholder names an attachment that is not there")]
    NoAttachment,
    #[error("its encoding is not the one configured")]
    Encoding,
}

/// Takes an event apart into its name and its arguments.
pub(super) fn read_event(value: Value) -> Result<(Text, Payload), Malformed> {
    let (text, attachments) = parts(value)?;
    let items = items(&text)?;
    let name = items.first().ok_or(Malformed::NoName)?;
    let name: Cow<'_, str> = serde_json::from_str(name.get()).map_err(|_| Malformed::NoName)?;
    let json = match items.get(1) {
        Some(first) => {
            let from = first.get().as_ptr() as usize - text.as_ptr() as usize;
            Text::from(["[", &text[from..]].concat())
        }
        None => Text::from_static("[]"),
    };
    let name = Text::from(name.as_ref());
    check_placeholders(&json, attachments.len())?;
    Ok((name, Payload { json, attachments }))
}

/// Reads the arguments of an acknowledgement.
pub(super) fn read_answer(value: Value) -> Result<Payload, Malformed> {
    let (text, attachments) = parts(value)?;
    items(&text)?;
    check_placeholders(&text, attachments.len())?;
    Ok(Payload {
        json: Text::from(text.as_str()),
        attachments,
    })
}

/// Puts an event together. `args` must be a payload that was checked to be a JSON array.
pub(super) fn write_event(name: &str, args: &Payload) -> Value {
    let name = serde_json::to_string(name).expect("a string is always JSON");
    let items = args
        .json
        .trim_ascii()
        .strip_prefix('[')
        .unwrap_or("]")
        .trim_ascii_start();
    let comma = if items == "]" { "" } else { "," };
    value(["[", &name, comma, items].concat(), args)
}

/// Puts the arguments of an acknowledgement together.
pub(super) fn write_answer(args: &Payload) -> Value {
    value(args.json.to_string(), args)
}

fn value(json: String, args: &Payload) -> Value {
    let attachments = (!args.attachments.is_empty()).then(|| VecDeque::from(args.attachments.clone()));
    Value::Str(Str::from(json), attachments)
}

fn parts(value: Value) -> Result<(Str, Vec<Bytes>), Malformed> {
    match value {
        Value::Str(text, attachments) => Ok((text, attachments.unwrap_or_default().into())),
        Value::Bytes(_) => Err(Malformed::Encoding),
    }
}

fn items(text: &str) -> Result<Vec<&RawValue>, Malformed> {
    serde_json::from_str(text).map_err(|_| Malformed::NotAnArray)
}

/// Without attachments a placeholder is an object like any other.
fn check_placeholders(json: &str, attachments: usize) -> Result<(), Malformed> {
    if attachments == 0 {
        return Ok(());
    }
    let value: serde_json::Value = serde_json::from_str(json).map_err(|_| Malformed::NotAnArray)?;
    let mut open = vec![&value];
    while let Some(value) = open.pop() {
        match value {
            serde_json::Value::Array(items) => open.extend(items),
            serde_json::Value::Object(fields) => {
                if fields.get("_placeholder") == Some(&serde_json::Value::Bool(true)) {
                    let number = fields.get("num").and_then(serde_json::Value::as_u64);
                    if number.is_none_or(|number| number >= attachments as u64) {
                        return Err(Malformed::NoAttachment);
                    }
                }
                open.extend(fields.values());
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Value {
        Value::Str(Str::from(json.to_owned()), None)
    }

    fn binary(json: &str, attachments: usize) -> Value {
        Value::Str(
            Str::from(json.to_owned()),
            Some(vec![Bytes::from_static(b"x"); attachments].into()),
        )
    }

    #[test]
    fn an_event_comes_apart_and_together_again() {
        for (wire, name, args) in [
            (r#"["chat"]"#, "chat", "[]"),
            (r#"["chat","a",{"b":[1,2]},null]"#, "chat", r#"["a",{"b":[1,2]},null]"#),
            (r#"["a",[[1],2],[]]"#, "a", "[[[1],2],[]]"),
            (r#"["say \"ä\"\n",""]"#, "say \"ä\"\n", r#"[""]"#),
        ] {
            let (event, payload) = read_event(text(wire)).expect("it is well formed");
            assert_eq!((&*event, &*payload.json), (name, args));
            assert_eq!(write_event(&event, &payload), text(wire));
        }
    }

    #[test]
    fn white_space_does_no_harm() {
        let (event, payload) = read_event(text(" [ \"a\" , 1 ] ")).expect("it is JSON");
        assert_eq!((&*event, payload.json.trim()), ("a", "[1 ]"));
        let spaced = Payload {
            json: Text::from_static(" [ ] "),
            attachments: Vec::new(),
        };
        assert_eq!(write_event("a", &spaced), text(r#"["a"]"#));
    }

    #[test]
    fn what_is_malformed_is_told_apart() {
        assert_eq!(read_event(text("[\"a\",")), Err(Malformed::NotAnArray));
        assert_eq!(read_event(text("{}")), Err(Malformed::NotAnArray));
        assert_eq!(read_event(text("[]")), Err(Malformed::NoName));
        assert_eq!(read_event(text("[1]")), Err(Malformed::NoName));
        assert_eq!(read_answer(text("1")), Err(Malformed::NotAnArray));
    }

    #[test]
    fn placeholders_must_have_their_attachments() {
        let nested = r#"["a",{"b":[{"_placeholder":true,"num":1}]}]"#;
        assert!(read_event(binary(nested, 2)).is_ok());
        assert_eq!(read_event(binary(nested, 1)), Err(Malformed::NoAttachment));
        assert_eq!(
            read_event(binary(r#"["a",{"_placeholder":true}]"#, 1)),
            Err(Malformed::NoAttachment)
        );
        assert!(
            read_event(text(nested)).is_ok(),
            "without attachments it is an object like any other"
        );
    }
}

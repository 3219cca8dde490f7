//! Between the arrays of the Socket.IO protocol, which begin with the event's name, and our payloads, which do not.
//!
//! What a client sends is passed on to handlers and by them to other clients, so it is checked here once: that it is
//! JSON, and that its placeholders name attachments that are there. A payload that another client's parser would choke
//! on goes no further. The protocol: <https://socket.io/docs/v4/socket-io-protocol/>.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

use super::placeholders;
use crate::message::{MOST_NAME, Payload, RESERVED_EVENTS, Text};

/// How deep values may be nested: as deep as `serde_json` reads them.
pub(super) const DEPTH: usize = 127;

/// What is wrong with what a client sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it is not a JSON array")]
    NotAnArray,
    #[error("it does not begin with the event's name")]
    NoName,
    #[error("{0:?} is reserved by Socket.IO")]
    Reserved(String),
    #[error("the event's name has {0} bytes; a name may have {MOST_NAME}")]
    LongName(usize),
    #[error("a placeholder names an attachment that is not there")]
    NoAttachment,
    #[error("what it connects with is no JSON object")]
    Auth,
    #[error("it is nested deeper than {DEPTH} times")]
    Deep,
    #[error("it is no packet: {0}")]
    Packet(String),
}

/// Takes an event apart into its name and its arguments.
pub(super) fn read_event(text: &str, attachments: Vec<Bytes>) -> Result<(Text, Payload), Malformed> {
    let [name, first] = items(text)?;
    let name = name.ok_or(Malformed::NoName)?;
    // As in JavaScript, where every name is a string in the end.
    let name = read_name(name.get())?;
    if name.len() > MOST_NAME {
        return Err(Malformed::LongName(name.len()));
    }
    if RESERVED_EVENTS.contains(&&*name) {
        return Err(Malformed::Reserved(name.into()));
    }
    let json = match first {
        Some(first) => {
            let from = first.get().as_ptr() as usize - text.as_ptr() as usize;
            Text::from(["[", &text[from..]].concat())
        }
        None => Text::from_static("[]"),
    };
    placeholders::check(&json, attachments.len())?;
    Ok((name, Payload { json, attachments }))
}

/// Reads a name that is known to be JSON.
fn read_name(json: &str) -> Result<Text, Malformed> {
    let inside = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let name = match inside {
        Some(inside) if !inside.contains('\\') => return Ok(inside.into()),
        Some(_) => serde_json::from_str::<String>(json),
        None => serde_json::from_str::<Number>(json).map(|name| name.to_string()),
    };
    name.map(Text::from).map_err(|_| Malformed::NoName)
}

/// Reads the arguments of an acknowledgement.
pub(super) fn read_answer(text: &str, attachments: Vec<Bytes>) -> Result<Payload, Malformed> {
    items(text)?;
    placeholders::check(text, attachments.len())?;
    let json = Text::from(text);
    Ok(Payload { json, attachments })
}

/// Reads what a client connects with, which is nothing or an object.
pub(super) fn read_auth(text: Option<&str>) -> Result<Option<Text>, Malformed> {
    let Some(text) = text else { return Ok(None) };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(auth) if auth.get().starts_with('{') => check_depth(text).map(|()| Some(auth.get().into())),
        Ok(auth) if auth.get() == "null" => Ok(None),
        _ => Err(Malformed::Auth),
    }
}

/// Puts an event together. `args` must be a payload that was checked to be a JSON array.
pub(super) fn write_event(name: &str, args: &Payload) -> String {
    write_event_after(&[""; 5], name, args)
}

/// The same, behind what goes before it. `args` must be a payload that was checked to be a JSON array.
pub(super) fn write_event_after(head: &[&str; 5], name: &str, args: &Payload) -> String {
    let escaped: String;
    let (quote, name) = match is_itself_as_json(name) {
        true => ("\"", name),
        false => {
            escaped = serde_json::to_string(name).expect("a string is always JSON");
            ("", &*escaped)
        }
    };
    let items = args
        .json
        .trim_ascii()
        .strip_prefix('[')
        .unwrap_or("]")
        .trim_ascii_start();
    let comma = if items == "]" { "" } else { "," };
    let [first, second, third, fourth, fifth] = *head;
    [
        first, second, third, fourth, fifth, "[", quote, name, quote, comma, items,
    ]
    .concat()
}

/// Whether a text stands in JSON as it is, between quotes.
fn is_itself_as_json(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
}

/// The first two items of an array, and that the others are JSON, too.
fn items(text: &str) -> Result<[Option<&RawValue>; 2], Malformed> {
    let Items(first) = serde_json::from_str(text).map_err(|_| Malformed::NotAnArray)?;
    check_depth(text)?;
    Ok(first)
}

struct Items<'a>([Option<&'a RawValue>; 2]);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Items<'de>, A::Error> {
                let first = [items.next_element()?, items.next_element()?];
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Items(first))
            }
        }
        json.deserialize_seq(Array)
    }
}

/// Whoever reads JSON into values gives up at some depth: handlers, and other clients that are sent the same.
fn check_depth(json: &str) -> Result<(), Malformed> {
    let opens = |byte: &u8| matches!(byte, b'[' | b'{');
    if json.as_bytes().iter().filter(|byte| opens(byte)).count() <= DEPTH {
        return Ok(());
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json.as_bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b']' | b'}' => depth = depth.saturating_sub(1),
            byte if opens(byte) => depth += 1,
            _ => {}
        }
        if depth > DEPTH {
            return Err(Malformed::Deep);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Text, Payload), Malformed> {
        read_event(text, Vec::new())
    }

    #[test]
    fn an_event_comes_apart_and_together_again() {
        for (wire, name, args) in [
            (r#"["chat"]"#, "chat", "[]"),
            (r#"["chat","a",{"b":[1,2]},null]"#, "chat", r#"["a",{"b":[1,2]},null]"#),
            (r#"["a",[[1],2],[]]"#, "a", "[[[1],2],[]]"),
            (r#"["say \"ä\"\n",""]"#, "say \"ä\"\n", r#"[""]"#),
            (r#"["",1]"#, "", "[1]"),
        ] {
            let (event, payload) = read(wire).expect("it is well formed");
            assert_eq!((&*event, &*payload.json), (name, args));
            assert_eq!(write_event(&event, &payload), wire);
        }
    }

    #[test]
    fn white_space_does_no_harm() {
        let (event, payload) = read(" [ \"a\" , 1 ] ").expect("it is JSON");
        assert_eq!((&*event, payload.json.trim()), ("a", "[1 ]"));
        let spaced = Payload {
            json: Text::from_static(" [ ] "),
            attachments: Vec::new(),
        };
        assert_eq!(write_event("a", &spaced), r#"["a"]"#);
    }

    #[test]
    fn what_is_malformed_is_told_apart() {
        assert_eq!(read("[\"a\","), Err(Malformed::NotAnArray));
        assert_eq!(read("{}"), Err(Malformed::NotAnArray));
        assert_eq!(read("[]"), Err(Malformed::NoName));
        assert_eq!(read("[null]"), Err(Malformed::NoName));
        assert_eq!(read("[12]").expect("a number is a name").0, "12");
        assert_eq!(read(r#"["disconnect"]"#), Err(Malformed::Reserved("disconnect".into())));
        assert_eq!(read_answer("1", Vec::new()), Err(Malformed::NotAnArray));
    }

    #[test]
    fn a_client_connects_with_an_object_or_nothing() {
        assert_eq!(read_auth(None), Ok(None));
        assert_eq!(
            read_auth(Some(r#" {"a":1} "#)),
            Ok(Some(Text::from_static(r#"{"a":1}"#)))
        );
        for text in ["1", "[]", "abc", "\"a\"", "{"] {
            assert_eq!(read_auth(Some(text)), Err(Malformed::Auth), "{text}");
        }
    }

    #[test]
    fn placeholders_must_have_their_attachments() {
        let nested = r#"["a",{"b":[{"_placeholder":true,"num":1}]}]"#;
        let binary = |json: &str, attachments| read_event(json, vec![Bytes::from_static(b"x"); attachments]);
        assert!(binary(nested, 2).is_ok());
        assert_eq!(binary(nested, 1), Err(Malformed::NoAttachment));
        assert_eq!(
            binary(r#"["a",{"_placeholder":true}]"#, 1),
            Err(Malformed::NoAttachment)
        );
        assert!(
            binary(nested, 0).is_ok(),
            "without attachments it is an object like any other"
        );
    }

    #[test]
    fn nobody_is_sent_what_is_nested_deeper_than_they_read() {
        let nested = |depth: usize| format!("[\"[[[[{{\\\"\",{}1{}]", "[".repeat(depth), "]".repeat(depth));
        for attachments in [0, 1] {
            let read = |depth| read_event(&nested(depth), vec![Bytes::new(); attachments]);
            assert!(read(DEPTH - 1).is_ok(), "{attachments}");
            assert_eq!(read(DEPTH), Err(Malformed::Deep), "{attachments}");
        }
        assert_eq!(read_answer(&nested(100_000), Vec::new()), Err(Malformed::Deep));
        let auth = |depth| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(read_auth(Some(&auth(DEPTH - 1))).is_ok());
        assert_eq!(read_auth(Some(&auth(DEPTH))), Err(Malformed::Deep));
    }
}

//! Between the arrays of the Socket.IO protocol, which begin with the event's name, and our payloads, which do not.
//!
//! What a client sends is passed on to handlers and by them to other clients, so it is checked here once: that it is
//! JSON, and that its placeholders name attachments that are there. A payload that another client's parser would choke
//! on goes no further; numbers that only JavaScript reads become what JavaScript would make of them. The protocol:
//! <https://socket.io/docs/v4/socket-io-protocol/>.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

use plugnode_message::json::{Spelling, TooDeep, placeholders, unescaped, with_sane_numbers};
use plugnode_message::{MOST_ATTACHMENTS, MOST_NAME, Payload, RESERVED_EVENTS, Text};

/// How deep values may be nested. Browsers and Node read more; a handler that reads them into values may take less.
pub(super) const DEPTH: usize = 1_024;

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
    #[error(
        "it has {0} attachments, and Socket.IO's own clients would close their connection over more than {MOST_ATTACHMENTS}"
    )]
    TooManyAttachments(usize),
    #[error("what it connects with is no JSON object")]
    Auth,
    #[error("it is nested deeper than {DEPTH} times")]
    Deep,
    #[error("it is no packet: {0}")]
    Packet(String),
}

/// Takes an event apart into its name and its arguments.
pub(super) fn read_event(text: &str, attachments: Vec<Bytes>) -> Result<(Text, Payload), Malformed> {
    let text = &*sane(text)?;
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
    Ok((name, Payload { json, attachments }))
}

/// Whether each placeholder names an attachment that is there. Without attachments they are objects like any others.
pub(super) fn check_placeholders(json: &str, attachments: usize) -> Result<(), Malformed> {
    let names_one = |number: Option<usize>| number.is_some_and(|number| number < attachments);
    match attachments == 0 || placeholders(json, Spelling::Any).all(names_one) {
        true => Ok(()),
        false => Err(Malformed::NoAttachment),
    }
}

fn sane(json: &str) -> Result<Cow<'_, str>, Malformed> {
    with_sane_numbers(json, DEPTH).map_err(|TooDeep| Malformed::Deep)
}

/// Reads a name that is known to be JSON.
fn read_name(json: &str) -> Result<Text, Malformed> {
    let inside = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let name = match inside {
        Some(inside) if !inside.contains('\\') => return Ok(inside.into()),
        Some(inside) => Ok(unescaped(inside).into_owned()),
        None => serde_json::from_str::<Number>(json).map(|name| name.to_string()),
    };
    name.map(Text::from).map_err(|_| Malformed::NoName)
}

/// Reads the arguments of an acknowledgement.
pub(super) fn read_answer(text: &str, attachments: Vec<Bytes>) -> Result<Payload, Malformed> {
    let text = &*sane(text)?;
    items(text)?;
    let json = Text::from(text);
    Ok(Payload { json, attachments })
}

/// Reads what a client connects with, which is nothing or an object.
pub(super) fn read_auth(text: Option<&str>) -> Result<Option<Text>, Malformed> {
    let Some(text) = text else { return Ok(None) };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(auth) if auth.get().starts_with('{') => sane(auth.get()).map(|auth| Some(Text::from(&*auth))),
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
        assert!(check_placeholders(nested, 2).is_ok());
        assert_eq!(check_placeholders(nested, 1), Err(Malformed::NoAttachment));
        let without = r#"["a",{"_placeholder":true}]"#;
        assert_eq!(check_placeholders(without, 1), Err(Malformed::NoAttachment));
        let otherwise = r#"["a",{"\u005fplaceholder":true,"num":1}]"#;
        assert_eq!(check_placeholders(otherwise, 1), Err(Malformed::NoAttachment));
        assert!(
            check_placeholders(nested, 0).is_ok(),
            "without attachments it is an object like any other"
        );
    }

    #[test]
    fn lone_surrogates_pass_in_arguments_and_are_replaced_in_names() {
        let (name, args) = read(r#"["a\ud83d",{"t":"\ud83d"}]"#).expect("JavaScript takes it");
        assert_eq!((&*name, &*args.json), ("a\u{fffd}", r#"[{"t":"\ud83d"}]"#));
        let answer = read_answer(r#"["\udc00"]"#, Vec::new()).expect("JavaScript takes it");
        assert_eq!(answer.json, r#"["\udc00"]"#);
    }

    #[test]
    fn numbers_are_those_that_others_read() {
        let (_, args) = read(r#"["a",1e999,{"b":[-1e400,1.5]}]"#).expect("JavaScript takes it");
        assert_eq!(args.json, r#"[null,{"b":[null,1.5]}]"#);
        let long = format!("[\"a\",{}]", "1".repeat(5_000));
        assert_eq!(read(&long).expect("JavaScript takes it").1.json, "[null]");
    }

    #[test]
    fn nobody_is_sent_what_is_nested_deeper_than_they_read() {
        let nested = |depth: usize| format!("[\"[[[[{{\\\"\",{}1{}]", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(DEPTH - 1)).is_ok());
        assert_eq!(read(&nested(DEPTH)), Err(Malformed::Deep));
        assert_eq!(read_answer(&nested(100_000), Vec::new()), Err(Malformed::Deep));
        let auth = |depth| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(read_auth(Some(&auth(DEPTH - 1))).is_ok());
        assert_eq!(read_auth(Some(&auth(DEPTH))), Err(Malformed::Deep));
    }
}

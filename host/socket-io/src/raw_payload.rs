//! Payloads as packets carry them, to and from the payloads of events and commands.
//!
//! In a packet, the array of an event begins with the event's name; in a [`Payload`] it does not. Handlers pass what a client sends on to
//! other clients, so it is checked here once: it is JSON, placeholders refer to attachments that exist, and numbers that only JavaScript
//! parses become what JavaScript makes of them. <https://socket.io/docs/v4/socket-io-protocol/>

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;
use socketioxide_core::Str;

use crate::malformed::{MAX_DEPTH, Malformed};
use plugnode_message::json::{Spelling, TooDeep, placeholders, unescaped, with_sane_numbers};
use plugnode_message::{MAX_NAME, Payload, RESERVED_EVENTS, Text};

/// The payload of a packet that a client sent. Its JSON may be invalid.
#[derive(Debug)]
pub struct RawPayload {
    /// JSON, with a placeholder for each attachment.
    pub json: Str,
    /// The attachments, in the order of their numbers.
    pub attachments: Vec<Bytes>,
}

impl RawPayload {
    /// The name of an event and its arguments.
    ///
    /// # Errors
    /// If it is not a JSON array that begins with a name that clients may use.
    pub fn into_event(self) -> Result<(Text, Payload), Malformed> {
        let text = &*checked(&self.json)?;
        let [name, first] = first_items(text)?;
        let name = name.ok_or(Malformed::NoName)?;
        let name = parse_name(name.get())?;
        if name.len() > MAX_NAME {
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
        let attachments = self.attachments;
        Ok((name, Payload { json, attachments }))
    }

    /// The arguments of an acknowledgement.
    ///
    /// # Errors
    /// If it is not a JSON array.
    pub fn into_answer(self) -> Result<Payload, Malformed> {
        let text = &*checked(&self.json)?;
        first_items(text)?;
        Ok(Payload {
            json: Text::from(text),
            attachments: self.attachments,
        })
    }

    /// Converts the payload of a connect packet to `auth`: an object, or None if it is null.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn into_auth(self) -> Result<Option<Text>, Malformed> {
        match serde_json::from_str::<&RawValue>(&self.json) {
            Ok(auth) if auth.get().starts_with('{') => checked(auth.get()).map(|auth| Some(Text::from(&*auth))),
            Ok(auth) if auth.get() == "null" => Ok(None),
            _ => Err(Malformed::Auth),
        }
    }
}

/// Checks that each placeholder refers to one of `attachments` attachments. If there are none, placeholders are objects like any others.
///
/// # Errors
/// If one does not.
pub(crate) fn check_placeholders(json: &str, attachments: usize) -> Result<(), Malformed> {
    let exists = |number: Option<usize>| number.is_some_and(|number| number < attachments);
    match attachments == 0 || placeholders(json, Spelling::Any).all(exists) {
        true => Ok(()),
        false => Err(Malformed::NoAttachment),
    }
}

/// The array of an event, behind `head`. `args` must be a payload that was checked to be a JSON array.
pub(crate) fn event_array(head: &[&str; 5], name: &str, args: &Payload) -> String {
    let escaped: String;
    let (quote, name) = match needs_no_escape(name) {
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

fn needs_no_escape(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
}

/// JSON of limited depth, with numbers that every parser reads.
fn checked(json: &str) -> Result<Cow<'_, str>, Malformed> {
    with_sane_numbers(json, MAX_DEPTH).map_err(|TooDeep| Malformed::Deep)
}

/// The event name in an item that is valid JSON. A number is its text, as in JavaScript.
fn parse_name(json: &str) -> Result<Text, Malformed> {
    let inside = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let name = match inside {
        Some(inside) if !inside.contains('\\') => return Ok(inside.into()),
        Some(inside) => Ok(unescaped(inside).into_owned()),
        None => serde_json::from_str::<Number>(json).map(|name| name.to_string()),
    };
    name.map(Text::from).map_err(|_| Malformed::NoName)
}

/// The first two items of a JSON array, after all of it was validated.
fn first_items(text: &str) -> Result<[Option<&RawValue>; 2], Malformed> {
    let FirstItems(items) = serde_json::from_str(text).map_err(|_| Malformed::NotAnArray)?;
    Ok(items)
}

struct FirstItems<'a>([Option<&'a RawValue>; 2]);

impl<'de: 'a, 'a> Deserialize<'de> for FirstItems<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = FirstItems<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<FirstItems<'de>, A::Error> {
                let first = [items.next_element()?, items.next_element()?];
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(FirstItems(first))
            }
        }
        json.deserialize_seq(Array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> RawPayload {
        RawPayload {
            json: Str::from(json.to_owned()),
            attachments: Vec::new(),
        }
    }

    fn read(json: &str) -> Result<(Text, Payload), Malformed> {
        raw(json).into_event()
    }

    fn write(name: &str, args: &Payload) -> String {
        event_array(&[""; 5], name, args)
    }

    #[test]
    fn events_are_written_as_they_were_read() {
        for (wire, name, args) in [
            (r#"["chat"]"#, "chat", "[]"),
            (r#"["chat","a",{"b":[1,2]},null]"#, "chat", r#"["a",{"b":[1,2]},null]"#),
            (r#"["a",[[1],2],[]]"#, "a", "[[[1],2],[]]"),
            (r#"["say \"ä\"\n",""]"#, "say \"ä\"\n", r#"[""]"#),
            (r#"["",1]"#, "", "[1]"),
        ] {
            let (event, payload) = read(wire).expect("a valid event");
            assert_eq!((&*event, &*payload.json), (name, args));
            assert_eq!(write(&event, &payload), wire);
        }
    }

    #[test]
    fn allows_whitespace_in_arrays() {
        let (event, payload) = read(" [ \"a\" , 1 ] ").expect("it is JSON");
        assert_eq!((&*event, payload.json.trim()), ("a", "[1 ]"));
        let spaced = Payload {
            json: Text::from_static(" [ ] "),
            attachments: Vec::new(),
        };
        assert_eq!(write("a", &spaced), r#"["a"]"#);
    }

    #[test]
    fn names_what_is_malformed() {
        assert_eq!(read("[\"a\","), Err(Malformed::NotAnArray));
        assert_eq!(read("{}"), Err(Malformed::NotAnArray));
        assert_eq!(read("[]"), Err(Malformed::NoName));
        assert_eq!(read("[null]"), Err(Malformed::NoName));
        assert_eq!(read("[12]").expect("a number is a name").0, "12");
        assert_eq!(read(r#"["disconnect"]"#), Err(Malformed::Reserved("disconnect".into())));
        assert_eq!(raw("1").into_answer(), Err(Malformed::NotAnArray));
    }

    #[test]
    fn auth_is_an_object_or_null() {
        assert_eq!(raw("null").into_auth(), Ok(None));
        assert_eq!(
            raw(r#" {"a":1} "#).into_auth(),
            Ok(Some(Text::from_static(r#"{"a":1}"#)))
        );
        for text in ["1", "[]", "abc", "\"a\"", "{"] {
            assert_eq!(raw(text).into_auth(), Err(Malformed::Auth), "{text}");
        }
    }

    #[test]
    fn refuses_placeholders_without_attachments() {
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
    fn keeps_lone_surrogates_in_arguments_and_replaces_them_in_names() {
        let (name, args) = read(r#"["a\ud83d",{"t":"\ud83d"}]"#).expect("JavaScript takes it");
        assert_eq!((&*name, &*args.json), ("a\u{fffd}", r#"[{"t":"\ud83d"}]"#));
        let answer = raw(r#"["\udc00"]"#).into_answer().expect("JavaScript takes it");
        assert_eq!(answer.json, r#"["\udc00"]"#);
    }

    #[test]
    fn replaces_numbers_that_only_javascript_parses() {
        let (_, args) = read(r#"["a",1e999,{"b":[-1e400,1.5]}]"#).expect("JavaScript takes it");
        assert_eq!(args.json, r#"[null,{"b":[null,1.5]}]"#);
        let long = format!("[\"a\",{}]", "1".repeat(5_000));
        assert_eq!(read(&long).expect("JavaScript takes it").1.json, "[null]");
    }

    #[test]
    fn refuses_payloads_nested_too_deeply() {
        let nested = |depth: usize| format!("[\"[[[[{{\\\"\",{}1{}]", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(read(&nested(MAX_DEPTH)), Err(Malformed::Deep));
        assert_eq!(raw(&nested(100_000)).into_answer(), Err(Malformed::Deep));
        let auth = |depth| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(raw(&auth(MAX_DEPTH - 1)).into_auth().is_ok());
        assert_eq!(raw(&auth(MAX_DEPTH)).into_auth(), Err(Malformed::Deep));
    }
}

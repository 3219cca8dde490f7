//! Encodes a packet: reads JSON twice and writes MessagePack the second time.

use std::fmt;

use bytes::Bytes;
use rmp::encode;
use serde::de::IgnoredAny;

use crate::date;
use plugnode_message::json::{Placeholder, Spelling, Token, Tokens, unescaped};

/// The marker of null.
const NIL: &[u8] = &[0xc0];
/// How a date begins: an extension of eight bytes, of type 0.
const DATE: &[u8] = &[0xd7, 0];

/// Attachments that placeholders refer to repeatedly would make a packet of `size` bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) size: usize,
}

/// Encodes a value. Attachments without a placeholder are left out.
///
/// # Errors
/// If the attachments take more than `max_attachment_bytes`, each counted as often as a placeholder refers to it.
pub(crate) fn encode(json: &str, attachments: &[Bytes], max_attachment_bytes: usize) -> Result<Bytes, TooLarge> {
    let (shapes, size) = Shape::all(json, attachments);
    if size > max_attachment_bytes {
        return Err(TooLarge { size });
    }
    let mut data = Vec::with_capacity(json.len() + size);
    write(&mut data, json, &shapes, attachments);
    Ok(data.into())
}

/// Encodes the packet that refuses a connect; `error` is JSON.
pub(crate) fn connect_error(namespace: &str, error: &str) -> Bytes {
    let mut data = Vec::new();
    infallible(encode::write_map_len(&mut data, 3));
    infallible(encode::write_str(&mut data, "type"));
    infallible(encode::write_uint(&mut data, 4));
    infallible(encode::write_str(&mut data, "nsp"));
    infallible(encode::write_str(&mut data, namespace));
    infallible(encode::write_str(&mut data, "data"));
    write(&mut data, error, &Shape::all(error, &[]).0, &[]);
    data.into()
}

fn infallible<T, E: fmt::Debug>(written: Result<T, E>) {
    written.expect("memory can be written to");
}

/// Facts about an array or object that encoding needs in advance: its number of items, or the attachment that it is a placeholder of. Four
/// bytes, because a packet may have a million of them.
#[derive(Clone, Copy)]
struct Shape(u32);

/// Set if the rest is the number of an attachment, not a count of items.
const ATTACHMENT: u32 = 1 << 31;

impl Shape {
    fn length(self) -> u32 {
        self.0 & !ATTACHMENT
    }

    fn attachment(self) -> Option<usize> {
        (self.0 & ATTACHMENT != 0).then_some((self.0 & !ATTACHMENT) as usize)
    }

    /// The shapes of all arrays and objects, in the order in which they begin, and how many bytes their attachments take.
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

/// Writes JSON whose shapes are known. Invalid JSON becomes null.
fn write(data: &mut Vec<u8>, json: &str, shapes: &[Shape], attachments: &[Bytes]) {
    if serde_json::from_str::<IgnoredAny>(json).is_err() {
        data.extend_from_slice(NIL);
        return;
    }
    let mut shapes = shapes.iter();
    // The depth within a placeholder, which is not written.
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
                infallible(encode::write_bin(data, attachment));
                skipped = 1;
            }
            (Token::OpenObject, None) => infallible(encode::write_map_len(data, length)),
            (Token::OpenList, _) => infallible(encode::write_array_len(data, length)),
            (Token::Close, _) => {}
            (Token::Key(key), _) => infallible(encode::write_str(data, &unescaped(key))),
            (Token::Text(text), _) => match date::from_text(text) {
                Some(ms) => {
                    data.extend_from_slice(DATE);
                    data.extend_from_slice(&ms.to_be_bytes());
                }
                None => infallible(encode::write_str(data, &unescaped(text))),
            },
            (Token::Number(number), _) => write_number(data, number),
            (Token::Word("true"), _) => infallible(encode::write_bool(data, true)),
            (Token::Word("false"), _) => infallible(encode::write_bool(data, false)),
            (Token::Word(_), _) => data.extend_from_slice(NIL),
        }
    }
}

fn write_number(data: &mut Vec<u8>, number: &str) {
    if let Ok(number) = number.parse() {
        infallible(encode::write_uint(data, number));
    } else if let Ok(number) = number.parse() {
        infallible(encode::write_sint(data, number));
    } else {
        match number.parse::<f64>() {
            Ok(number) if number.is_finite() => infallible(encode::write_f64(data, number)),
            _ => data.extend_from_slice(NIL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_repeated_attachments_before_writing_them() {
        let placeholders = vec![r#"{"_placeholder":true,"num":0}"#; 10_000].join(",");
        let attachment = Bytes::from(vec![7; 400_000]);
        let (refused, peak) =
            plugnode_testing::arbitrary::peak(|| encode(&format!("[{placeholders}]"), &[attachment], 10_000_000));
        assert_eq!(refused, Err(TooLarge { size: 4_000_000_000 }));
        assert!(peak < 2_000_000, "{peak}");
    }

    #[test]
    fn replaces_strings_and_numbers_unknown_to_messagepack() {
        let json = format!(r#"["\ud83d",{{"\udc00":1e999}},{},-1,1.5,"\u0041"]"#, "9".repeat(5_000));
        let expected = b"\x96\xa3\xef\xbf\xbd\x81\xa3\xef\xbf\xbd\xc0\xc0\xff\xcb\x3f\xf8\0\0\0\0\0\0\xa1A";
        assert_eq!(encode(&json, &[], 0).unwrap(), &expected[..]);
    }
}

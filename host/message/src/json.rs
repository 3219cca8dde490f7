//! JSON text as a stream of tokens, without recursion and without a tree: hostile text costs no more than its length, however deeply it
//! is nested. Of Socket.IO it knows only the placeholders of attachments.
//!
//! Input is text that `serde_json` accepts. Other text yields some tokens and never panics.

use std::borrow::Cow;
use std::ops::Range;

/// Longer than any number that `JSON.stringify` writes, in characters.
const LONGEST_NUMBER: usize = 32;

/// A token of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// `[`.
    OpenList,
    /// `{`.
    OpenObject,
    /// `]` or `}`.
    Close,
    /// The key of a field: the escaped text between its quotes.
    Key(&'a str),
    /// A string: the escaped text between its quotes.
    Text(&'a str),
    /// A number, as it is written.
    Number(&'a str),
    /// `true`, `false` or `null`.
    Word(&'a str),
}

/// The tokens of a JSON text.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    /// The tokens of this text, from its beginning.
    pub fn of(json: &'a str) -> Self {
        Self { json, at: 0 }
    }

    /// The end of the last token, as an offset into the text.
    fn end(&self) -> usize {
        self.at
    }

    fn text(&mut self) -> Option<Token<'a>> {
        let bytes = self.json.as_bytes();
        let start = self.at + 1;
        let mut end = start;
        loop {
            match bytes.get(end)? {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        let inside = self.json.get(start..end)?;
        self.at = end + 1;
        let space = bytes[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace());
        let next = self.at + space.count();
        if bytes.get(next) != Some(&b':') {
            return Some(Token::Text(inside));
        }
        self.at = next + 1;
        Some(Token::Key(inside))
    }

    /// The longest text from here on whose bytes all match.
    fn while_in(&mut self, is_part: impl Fn(&u8) -> bool) -> &'a str {
        let start = self.at;
        let rest = &self.json.as_bytes()[start..];
        self.at += rest.iter().take_while(|byte| is_part(byte)).count();
        &self.json[start..self.at]
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let token = match self.json.as_bytes().get(self.at)? {
                b'[' => Token::OpenList,
                b'{' => Token::OpenObject,
                b']' | b'}' => Token::Close,
                b'"' => return self.text(),
                b'-' | b'0'..=b'9' => {
                    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                    return Some(Token::Number(self.while_in(is_part)));
                }
                b'a'..=b'z' => return Some(Token::Word(self.while_in(u8::is_ascii_lowercase))),
                _ => {
                    self.at += 1;
                    continue;
                }
            };
            self.at += 1;
            return Some(token);
        }
    }
}

/// The JSON is nested more deeply than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooDeep;

/// The same JSON with the numbers that JavaScript would pass on: a number beyond the range of a double becomes null, one with very many
/// digits the nearest double.
///
/// # Errors
/// When it is nested more deeply than `most_depth`.
pub fn with_sane_numbers(json: &str, most_depth: usize) -> Result<Cow<'_, str>, TooDeep> {
    if is_plain(json, most_depth) {
        return Ok(Cow::Borrowed(json));
    }
    let (mut depth, mut copied, mut sane) = (0_usize, 0, String::new());
    let mut tokens = Tokens::of(json);
    while let Some(token) = tokens.next() {
        match token {
            Token::OpenList | Token::OpenObject => {
                depth += 1;
                if depth > most_depth {
                    return Err(TooDeep);
                }
            }
            Token::Close => depth = depth.saturating_sub(1),
            Token::Number(number) => {
                if let Some(instead) = sane_number(number) {
                    let end = tokens.end();
                    sane.push_str(&json[copied..end - number.len()]);
                    sane.push_str(&instead);
                    copied = end;
                }
            }
            Token::Key(_) | Token::Text(_) | Token::Word(_) => {}
        }
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(json));
    }
    sane.push_str(&json[copied..]);
    Ok(Cow::Owned(sane))
}

/// Fast path: whether a scan of the bytes shows that nothing is too deep and no number needs a change. True for nearly all messages.
fn is_plain(json: &str, most_depth: usize) -> bool {
    let (mut opened, mut digits) = (0, 0);
    for byte in json.as_bytes() {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                if digits > LONGEST_NUMBER / 2 {
                    return false;
                }
            }
            b'e' | b'E' if digits > 0 => return false,
            b'.' | b'+' | b'-' => {}
            b'[' | b'{' => {
                opened += 1;
                digits = 0;
            }
            _ => digits = 0,
        }
    }
    opened <= most_depth
}

/// The number to write instead. None if it can stay.
fn sane_number(number: &str) -> Option<String> {
    let is_long = number.len() > LONGEST_NUMBER;
    if !is_long && !number.contains(['e', 'E']) {
        return None;
    }
    let double: f64 = number.parse().ok()?;
    match serde_json::Number::from_f64(double) {
        None => Some("null".to_owned()),
        Some(double) if is_long => Some(double.to_string()),
        Some(_) => None,
    }
}

/// The same JSON with U+FFFD for each lone surrogate: JavaScript's strings can hold these, UTF-8 cannot.
pub fn without_lone_surrogates(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let (mut at, mut copied, mut sound) = (0, 0, String::new());
    while let Some(found) = bytes
        .get(at..)
        .and_then(|rest| rest.iter().position(|byte| *byte == b'\\'))
    {
        at += found;
        at += match (escaped_unit(bytes, at), escaped_unit(bytes, at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                sound.push_str(&json[copied..at]);
                sound.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            _ => 2,
        };
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    sound.push_str(&json[copied..]);
    Cow::Owned(sound)
}

/// The UTF-16 unit that is escaped at this offset as `\uXXXX`.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The text that this escaped text stands for.
pub fn unescaped(written: &str) -> Cow<'_, str> {
    if !written.contains('\\') {
        return Cow::Borrowed(written);
    }
    let quoted = ["\"", written, "\""].concat();
    match serde_json::from_str(&without_lone_surrogates(&quoted)) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Borrowed(written),
    }
}

/// Recognises the placeholder of an attachment, `{"_placeholder":true,"num":0}`, field by field. Of two fields with one name the last
/// counts, as in JavaScript.
#[derive(Debug, Clone, Copy, Default)]
pub struct Placeholder {
    is_one: bool,
    number: Option<usize>,
}

/// How the keys of a placeholder may be escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// In any way that JSON allows.
    Any,
    /// Not at all. A user's own object that looks like a placeholder has an escape in its key: see [`OWN_PLACEHOLDER`].
    Plain,
}

/// The key `_placeholder` in a user's own object, escaped so that it differs from a real placeholder's.
pub const OWN_PLACEHOLDER: &str = "\\u005fplaceholder";

impl Placeholder {
    /// Takes a field whose value is, or begins with, this token.
    pub fn field(&mut self, key: &str, value: Token<'_>, spelling: Spelling) {
        let name = match spelling {
            Spelling::Any => unescaped(key),
            Spelling::Plain => Cow::Borrowed(key),
        };
        match (&*name, value) {
            ("_placeholder", value) => self.is_one = value == Token::Word("true"),
            ("num", Token::Number(number)) => self.number = attachment_number(number),
            ("num", _) => self.number = None,
            _ => {}
        }
    }

    /// Whether the object has `_placeholder: true`.
    pub fn is_one(&self) -> bool {
        self.is_one
    }

    /// The number of its attachment, for a placeholder with a valid number.
    pub fn number(&self) -> Option<usize> {
        self.number.filter(|_| self.is_one)
    }
}

fn attachment_number(number: &str) -> Option<usize> {
    if let Ok(number) = number.parse() {
        return Some(number);
    }
    // JavaScript reads 1.0 as 1.
    let double: f64 = number.parse().ok()?;
    ((0.0..1e9).contains(&double) && double.fract() == 0.0).then_some(double as usize)
}

/// All placeholders of a text, each with the number of its attachment if that is valid.
pub fn placeholders(json: &str, spelling: Spelling) -> impl Iterator<Item = Option<usize>> {
    let mut tokens = Tokens::of(json);
    let mut open: Vec<Option<Placeholder>> = Vec::new();
    let mut key = None;
    std::iter::from_fn(move || {
        loop {
            let token = tokens.next()?;
            if let (Some(key), Some(Some(object))) = (key.take(), open.last_mut()) {
                object.field(key, token, spelling);
            }
            match token {
                Token::Key(name) => key = Some(name),
                Token::OpenObject => open.push(Some(Placeholder::default())),
                Token::OpenList => open.push(None),
                Token::Close => {
                    if let Some(object) = open.pop().flatten().filter(Placeholder::is_one) {
                        return Some(object.number());
                    }
                }
                Token::Text(_) | Token::Number(_) | Token::Word(_) => {}
            }
        }
    })
}

/// The same JSON with the number of each placeholder raised by `by`.
pub fn with_placeholders_moved(json: &str, by: usize) -> String {
    with_placeholders_renumbered(json, |number| number.saturating_add(by))
}

/// The same JSON with other numbers of placeholders.
pub fn with_placeholders_renumbered(json: &str, renumber: impl Fn(usize) -> usize) -> String {
    let mut tokens = Tokens::of(json);
    let mut open: Vec<(Option<Placeholder>, Range<usize>)> = Vec::new();
    let (mut key, mut moved) = (None, Vec::new());
    while let Some(token) = tokens.next() {
        if let (Some(key), Some((Some(object), span))) = (key.take(), open.last_mut()) {
            object.field(key, token, Spelling::Plain);
            if let ("num", Token::Number(number)) = (key, token) {
                *span = tokens.end() - number.len()..tokens.end();
            }
        }
        match token {
            Token::Key(name) => key = Some(name),
            Token::OpenObject => open.push((Some(Placeholder::default()), 0..0)),
            Token::OpenList => open.push((None, 0..0)),
            Token::Close => {
                if let Some((Some(object), span)) = open.pop()
                    && let Some(number) = object.number()
                {
                    moved.push((span, renumber(number)));
                }
            }
            Token::Text(_) | Token::Number(_) | Token::Word(_) => {}
        }
    }
    moved.sort_by_key(|(span, _)| span.start);
    let (mut text, mut copied) = (String::with_capacity(json.len()), 0);
    for (span, number) in moved {
        text.push_str(&json[copied..span.start]);
        text.push_str(&number.to_string());
        copied = span.end;
    }
    text.push_str(&json[copied..]);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use plugnode_testing::arbitrary::{json_text, nearly_text};

    /// The tokens as JSON, without the white space between them.
    fn written(json: &str) -> String {
        let (mut text, mut open, mut comma) = (String::new(), Vec::new(), false);
        for token in Tokens::of(json) {
            if comma && token != Token::Close {
                text.push(',');
            }
            comma = true;
            match token {
                Token::OpenList => {
                    open.push(']');
                    text.push('[');
                    comma = false;
                }
                Token::OpenObject => {
                    open.push('}');
                    text.push('{');
                    comma = false;
                }
                Token::Close => text.push(open.pop().unwrap_or(']')),
                Token::Key(key) => {
                    text.push_str(&format!("\"{key}\":"));
                    comma = false;
                }
                Token::Text(inside) => text.push_str(&format!("\"{inside}\"")),
                Token::Number(other) | Token::Word(other) => text.push_str(other),
            }
        }
        text
    }

    proptest! {
        #[test]
        fn tokens_round_trip(json in json_text()) {
            let same: Value = serde_json::from_str(&written(&json)).expect("it is JSON");
            prop_assert_eq!(same, serde_json::from_str::<Value>(&json).unwrap());
            prop_assert_eq!(&*with_sane_numbers(&json, 100).unwrap(), &json);
            prop_assert_eq!(&*without_lone_surrogates(&json), &json);
        }

        #[test]
        fn malformed_text_never_panics(text in prop_oneof![any::<String>(), nearly_text(json_text()), "[\\\\u\"d8c0é]{0,30}"]) {
            let _ = (written(&text), with_sane_numbers(&text, 5), without_lone_surrogates(&text), unescaped(&text));
            let _ = placeholders(&text, Spelling::Any).count();
        }
    }

    #[test]
    fn numbers_become_those_of_javascript() {
        for (json, sane) in [
            ("[1e999]", "[null]"),
            ("[-1E999, 1]", "[null, 1]"),
            ("[1e308,-0.0,1.5e-7,\"1e999\"]", "[1e308,-0.0,1.5e-7,\"1e999\"]"),
            ("{\"1e999\":[1e-999]}", "{\"1e999\":[1e-999]}"),
        ] {
            assert_eq!(with_sane_numbers(json, 9).unwrap(), sane);
        }
        let (long, longer) = ("7".repeat(100), "7".repeat(5_000));
        let sane = with_sane_numbers(&format!("[{long},{longer},0.{longer}]"), 1)
            .unwrap()
            .into_owned();
        assert_eq!(sane, "[7.777777777777778e+99,null,0.7777777777777778]");
    }

    #[test]
    fn depth_is_counted_outside_of_texts() {
        let nested = |depth: usize| format!("[\"[[{{\\\"\",{}1{}]", "[".repeat(depth), "]".repeat(depth));
        assert!(with_sane_numbers(&nested(9), 10).is_ok());
        assert_eq!(with_sane_numbers(&nested(10), 10), Err(TooDeep));
        assert!(with_sane_numbers(&"[[]],".repeat(20), 2).is_ok());
    }

    #[test]
    fn lone_surrogates_are_replaced_and_pairs_are_not() {
        for (json, sound) in [
            (r#"["\ud83d"]"#, r#"["\ufffd"]"#),
            (r#"["\uDE00\ud83d"]"#, r#"["\ufffd\ufffd"]"#),
            (r#"["\ud83d\ude00"]"#, r#"["\ud83d\ude00"]"#),
            (r#"["\\ud83d","\ud83d\n"]"#, r#"["\\ud83d","\ufffd\n"]"#),
            (r#"["\ud83d\ud83d\ude00é"]"#, r#"["\ufffd\ud83d\ude00é"]"#),
        ] {
            assert_eq!(without_lone_surrogates(json), sound);
        }
        assert_eq!(unescaped(r"a\ud83d\u0041"), "a\u{fffd}A");
    }

    #[test]
    fn placeholders_are_moved_where_they_stand() {
        let json = r#"[ {"num" : 0,"_placeholder":true}, {"num":3}, [{"_placeholder":true,"num":7,"x":"\ud83d"}], {"\u005fplaceholder":true,"num":1}]"#;
        let moved = r#"[ {"num" : 5,"_placeholder":true}, {"num":3}, [{"_placeholder":true,"num":12,"x":"\ud83d"}], {"\u005fplaceholder":true,"num":1}]"#;
        assert_eq!(with_placeholders_moved(json, 5), moved);
    }

    #[test]
    fn placeholders_are_found_at_any_depth() {
        let found = |json: &str, spelling| placeholders(json, spelling).collect::<Vec<_>>();
        let deep = format!(
            "{}{{\"num\":1.0,\"_placeholder\":true}}{}",
            "[".repeat(5_000),
            "]".repeat(5_000)
        );
        assert_eq!(found(&deep, Spelling::Any), [Some(1)]);
        let json =
            r#"[{"_placeholder":true,"num":-1},{"_placeholder":false,"num":0},{"_placeholder":true,"x":{"num":3}}]"#;
        assert_eq!(found(json, Spelling::Plain), [None, None]);
        let own = format!(r#"[{{"{OWN_PLACEHOLDER}":true,"num":0}}]"#);
        assert_eq!(found(&own, Spelling::Any), [Some(0)]);
        assert_eq!(found(&own, Spelling::Plain), []);
        assert_eq!(unescaped(OWN_PLACEHOLDER), "_placeholder");
    }
}

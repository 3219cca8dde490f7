//! Texts of JavaScript that are none elsewhere: half of a surrogate pair may stand alone in one, and then it is escaped in JSON.

use std::borrow::Cow;

/// The same JSON, with U+FFFD for each half of a surrogate pair that stands alone.
pub(crate) fn without_lone(json: &str) -> Cow<'_, str> {
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

/// The unit of UTF-16 that is escaped here as `\uXXXX`.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

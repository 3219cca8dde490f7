//! Writes values as TOML, on one line each, as a file of events has them.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::format::is_unprintable;

/// Keys of a command or write whose values are arbitrary JSON.
pub(super) const JSON_KEYS: [&str; 3] = ["args", "attributes", "info"];

/// Order of the keys of a command or write: kind first, then contents. Other keys follow.
const ORDER: [&str; 16] = [
    "emit",
    "request",
    "join",
    "leave",
    "ack",
    "disconnect",
    "attributes",
    "custom",
    "refuse",
    "ask",
    "bucket",
    "key",
    "event",
    "args",
    "clients",
    "channels",
];

/// A command or write as an inline table.
pub(super) fn entry(item: &Value) -> String {
    let Value::Object(keys) = item else {
        return inline(item);
    };
    let mut keys: Vec<_> = keys.iter().collect();
    let position = |name: &str| ORDER.iter().position(|known| *known == name);
    keys.sort_by_key(|(name, _)| position(name).unwrap_or(ORDER.len()));
    let mut pairs = Vec::with_capacity(keys.len());
    for (name, value) in keys {
        let value = match JSON_KEYS.contains(&name.as_str()) {
            true => arguments(value),
            false => inline(value),
        };
        pairs.push(format!("{} = {value}", key(name)));
    }
    format!("{{ {} }}", pairs.join(", "))
}

/// Arbitrary JSON: as TOML if TOML can express it, else as JSON in a string.
pub(super) fn arguments(value: &Value) -> String {
    if has_toml(value) && !value.is_string() {
        return inline(value);
    }
    let json = value.to_string();
    match json.contains('\'') || json.chars().any(is_unprintable) {
        true => text(&json),
        false => format!("'{json}'"),
    }
}

/// Whether TOML can express a value.
fn has_toml(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Number(number) => number.as_i64().is_some() || number.as_u64().is_none(),
        Value::Array(items) => items.iter().all(has_toml),
        Value::Object(keys) => keys.values().all(has_toml),
        Value::Bool(_) | Value::String(_) => true,
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(value) => text(value),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(keys) if keys.is_empty() => "{}".to_owned(),
        Value::Object(keys) => {
            let pairs = keys
                .iter()
                .map(|(name, value)| format!("{} = {}", key(name), inline(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A key, quoted if necessary.
pub(super) fn key(name: &str) -> String {
    let is_bare = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { name.to_owned() } else { text(name) }
}

/// A basic string on one line.
pub(super) fn text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if is_unprintable(c) => {
                let _ = write!(quoted, "\\u{:04X}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

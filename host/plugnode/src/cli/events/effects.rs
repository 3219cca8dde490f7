//! What an event has led to, in the words of a file of events: as JSON to compare it, and as TOML to show and to keep it.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{plain_value, value_of};
use plugnode_message::json::without_lone_surrogates;
use plugnode_message::{
    Audience, Change, Command, Effects, Event, EventKind, KeyChange, Namespace, Payload, Question, Scope, Selection,
};

/// Stands for any value where something is expected.
pub(super) const ANY: &str = "<any>";

/// What came of an event, or is expected of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in super::super) struct Came {
    /// The arguments of its acknowledgement, and the binary values in them as base64.
    ack: Option<Value>,
    commands: Vec<Value>,
    writes: Vec<Value>,
    /// Why there is nothing of these.
    error: Option<String>,
}

impl Came {
    pub(super) fn of(event: &Event, effects: &Effects) -> Self {
        let mut came = Self {
            writes: effects.writes.iter().map(write).collect(),
            ..Self::default()
        };
        let own = match &event.kind {
            EventKind::Message { ack, .. } => ack.as_ref(),
            _ => None,
        };
        for command in &effects.commands {
            match command {
                Command::Ack { id, args } if Some(id) == own && came.ack.is_none() => came.ack = Some(payload(args)),
                // That is what happens to everybody who connects.
                Command::Admit { refusal: None, .. } => {}
                command => came.commands.push(Value::Object(words(command, &event.namespace))),
            }
        }
        came
    }

    /// Of an event that failed.
    pub(super) fn failed(reason: String) -> Self {
        Self {
            error: Some(reason),
            ..Self::default()
        }
    }

    /// Why it failed.
    pub(in super::super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// `expect` of an event.
    pub(in super::super) fn expected(table: &toml::Table) -> Result<Self> {
        let mut came = Self::default();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("ack", value) => came.ack = Some(acknowledged(value)?),
                ("commands", toml::Value::Array(items)) => came.commands = entries(items)?,
                ("writes", toml::Value::Array(items)) => came.writes = entries(items)?,
                ("error", toml::Value::String(reason)) => came.error = Some(reason.clone()),
                ("commands" | "writes", _) => bail!("{key}: is no list, such as [{{ emit = \"hello\" }}]"),
                ("error", _) => bail!("error: is no text"),
                _ => bail!("there is no `{key}`; there are ack, commands, writes and error"),
            }
        }
        Ok(came)
    }

    /// Whether this is what came. An error is expected by a part of it.
    pub(in super::super) fn is_met_by(&self, came: &Self) -> bool {
        let error = match (&self.error, &came.error) {
            (Some(part), Some(reason)) => part == ANY || reason.contains(part.as_str()),
            (None, None) => true,
            _ => false,
        };
        let all = |some: &[Value], others: &[Value]| {
            some.len() == others.len() && some.iter().zip(others).all(|(one, other)| fits(one, other))
        };
        let ack = match (&self.ack, &came.ack) {
            (Some(expected), Some(ack)) => fits(expected, ack),
            (None, None) => true,
            _ => false,
        };
        error && ack && all(&self.commands, &came.commands) && all(&self.writes, &came.writes)
    }

    /// What came, with what may be anything where that was expected and the rest is so: for the next time.
    pub(in super::super) fn kept_by(self, expected: &Self) -> Self {
        let keep = |came: Vec<Value>, expected: &[Value]| -> Vec<Value> {
            let mut expected = expected.iter();
            came.into_iter()
                .map(|value| match expected.next() {
                    Some(pattern) => open(value, pattern),
                    None => value,
                })
                .collect()
        };
        Self {
            ack: self.ack.map(|ack| match &expected.ack {
                Some(pattern) => open(ack, pattern),
                None => ack,
            }),
            commands: keep(self.commands, &expected.commands),
            writes: keep(self.writes, &expected.writes),
            error: match (&self.error, &expected.error) {
                (Some(reason), Some(part)) if part == ANY || reason.contains(part.as_str()) => expected.error.clone(),
                _ => self.error,
            },
        }
    }
}

/// What came, as the lines of a file below `[event.expect]`.
pub(in super::super) fn in_toml(came: &Came) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(reason) = &came.error {
        // A report goes on with what differs from time to time.
        lines.push(format!("error = {}", text(reason.lines().next().unwrap_or_default())));
    }
    if let Some(ack) = &came.ack {
        lines.push(format!("ack = {}", arguments(ack)));
    }
    for (name, items) in [("commands", &came.commands), ("writes", &came.writes)] {
        if items.is_empty() {
            continue;
        }
        lines.push(format!("{name} = ["));
        lines.extend(items.iter().map(|item| format!("  {},", entry(item))));
        lines.push("]".to_owned());
    }
    lines
}

/// The keys of an entry whose values may be any JSON.
const JSON: [&str; 3] = ["args", "attributes", "info"];

/// Keys that come before others in an entry: what it is, then what it has.
const FIRST: [&str; 16] = [
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
fn entry(item: &Value) -> String {
    let Value::Object(keys) = item else {
        return inline(item);
    };
    let mut keys: Vec<_> = keys.iter().collect();
    let place = |name: &str| FIRST.iter().position(|first| *first == name);
    keys.sort_by_key(|(name, _)| place(name).unwrap_or(FIRST.len()));
    let mut pairs = Vec::with_capacity(keys.len());
    for (name, value) in keys {
        let value = match JSON.contains(&name.as_str()) {
            true => arguments(value),
            false => inline(value),
        };
        pairs.push(format!("{} = {value}", key(name)));
    }
    format!("{{ {} }}", pairs.join(", "))
}

/// As TOML where TOML has all of it, else as JSON in a text.
pub(super) fn arguments(value: &Value) -> String {
    if has_toml(value) && !value.is_string() {
        return inline(value);
    }
    let json = value.to_string();
    match json.contains('\'') || json.chars().any(char::is_control) {
        true => text(&json),
        false => format!("'{json}'"),
    }
}

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

pub(super) fn key(name: &str) -> String {
    let is_bare = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { name.to_owned() } else { text(name) }
}

/// A basic string of TOML, on one line.
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
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The list of an expectation, as what comes is.
fn entries(items: &[toml::Value]) -> Result<Vec<Value>> {
    let mut entries = Vec::with_capacity(items.len());
    for item in items {
        let toml::Value::Table(table) = item else {
            bail!("{item}: is no table, such as {{ emit = \"hello\" }}");
        };
        let mut keys = Map::new();
        for (name, value) in table {
            let value = match JSON.contains(&name.as_str()) && value.as_str() != Some(ANY) {
                true => value_of(value).with_context(|| name.clone())?,
                false => plain_value(value),
            };
            keys.insert(name.clone(), value);
        }
        // What an emit without arguments has.
        if keys.contains_key("emit") || keys.contains_key("request") {
            keys.entry("args").or_insert_with(|| json!([]));
        }
        entries.push(keys.into());
    }
    Ok(entries)
}

fn acknowledged(value: &toml::Value) -> Result<Value> {
    match value.as_str() {
        Some(ANY) => Ok(ANY.into()),
        _ => value_of(value).context("ack"),
    }
}

/// Whether a value is what was expected.
fn fits(expected: &Value, came: &Value) -> bool {
    match (expected, came) {
        (Value::String(any), _) if any == ANY => true,
        (Value::Array(expected), Value::Array(came)) => {
            expected.len() == came.len() && expected.iter().zip(came).all(|(one, other)| fits(one, other))
        }
        (Value::Object(expected), Value::Object(came)) => {
            expected.len() == came.len()
                && expected
                    .iter()
                    .all(|(key, value)| came.get(key).is_some_and(|other| fits(value, other)))
        }
        // 1 and 1.0 are one number to JavaScript.
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    }
}

/// A value with what may be anything in place of what is there.
fn open(came: Value, pattern: &Value) -> Value {
    match (came, pattern) {
        (_, Value::String(any)) if any == ANY => pattern.clone(),
        (Value::Array(items), Value::Array(patterns)) if items.len() == patterns.len() => items
            .into_iter()
            .zip(patterns)
            .map(|(item, pattern)| open(item, pattern))
            .collect(),
        (Value::Object(keys), Value::Object(patterns)) => {
            let opened = keys.into_iter().map(|(key, value)| {
                let value = match patterns.get(&key) {
                    Some(pattern) => open(value, pattern),
                    None => value,
                };
                (key, value)
            });
            Value::Object(opened.collect())
        }
        (came, _) => came,
    }
}

/// The arguments, with binary values as `{ base64 = … }` in their places.
pub(super) fn payload(payload: &Payload) -> Value {
    let json = without_lone_surrogates(&payload.json);
    let mut args = serde_json::from_str(&json).unwrap_or_else(|_| json!(&*json));
    if !payload.attachments.is_empty() {
        fill(&mut args, &payload.attachments);
    }
    args
}

fn fill(value: &mut Value, attachments: &[Bytes]) {
    let number = value
        .as_object()
        .filter(|keys| keys.get("_placeholder") == Some(&Value::Bool(true)))
        .and_then(|keys| keys.get("num")?.as_u64());
    match (number.and_then(|number| attachments.get(number as usize)), value) {
        (Some(bytes), value) => *value = json!({ "base64": BASE64.encode(bytes) }),
        (None, Value::Array(items)) => items.iter_mut().for_each(|item| fill(item, attachments)),
        (None, Value::Object(keys)) => keys.values_mut().for_each(|value| fill(value, attachments)),
        _ => {}
    }
}

fn put_bytes(keys: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => keys.insert(name.to_owned(), text.into()),
        Err(_) => keys.insert("base64".to_owned(), BASE64.encode(bytes).into()),
    };
}

fn write(change: &KeyChange) -> Value {
    let mut keys = Map::new();
    keys.insert("bucket".to_owned(), (*change.bucket).into());
    keys.insert("key".to_owned(), (*change.key).into());
    match &change.change {
        Change::Set { value, ttl_ms } => {
            put_bytes(&mut keys, "set", value);
            if let Some(ttl) = ttl_ms {
                keys.insert("ttl-ms".to_owned(), (*ttl).into());
            }
        }
        Change::Delete => drop(keys.insert("delete".to_owned(), true.into())),
        Change::Add(number) => drop(keys.insert("add".to_owned(), (*number).into())),
    }
    keys.into()
}

/// A command in the words of a file, that of its kind first.
fn words(command: &Command, own: &Namespace) -> Map<String, Value> {
    let mut keys = Map::new();
    let mut put = |name: &str, value: Value| drop(keys.insert(name.to_owned(), value));
    match command {
        Command::Publish {
            to,
            event,
            args,
            volatile,
            local,
        } => {
            put("emit", (**event).into());
            put("args", payload(args));
            if *volatile {
                put("volatile", true.into());
            }
            if *local {
                put("local", true.into());
            }
            put_audience(&mut keys, to, own);
        }
        Command::Subscribe { who, channels } => {
            put("join", channels.iter().map(|channel| channel.as_str()).collect());
            put_audience(&mut keys, who, own);
        }
        Command::Unsubscribe { who, channels } => {
            put("leave", channels.iter().map(|channel| channel.as_str()).collect());
            put_audience(&mut keys, who, own);
        }
        Command::Ack { id, args } => {
            put("ack", id.to_string().into());
            put("args", payload(args));
        }
        Command::Request {
            to,
            event,
            args,
            timeout_ms,
            token: _,
        } => {
            put("request", (**event).into());
            put("args", payload(args));
            put("timeout-ms", (*timeout_ms).into());
            put_audience(&mut keys, to, own);
        }
        Command::Disconnect { who, close_transport } => {
            let what = if *close_transport { "connection" } else { "namespace" };
            put("disconnect", what.into());
            put_audience(&mut keys, who, own);
        }
        Command::PatchAttributes {
            namespace,
            client,
            patch,
            number: _,
        } => {
            put("attributes", serde_json::from_str(patch).unwrap_or_default());
            put("clients", json!([client.as_str()]));
            put_namespace(&mut keys, namespace, own);
        }
        Command::Custom { io_node, kind, data } => {
            put("custom", (**kind).into());
            if let Some(node) = io_node {
                put("io-node", node.as_str().into());
            }
            put_bytes(&mut keys, "data", data);
        }
        Command::Admit { refusal, .. } => match refusal {
            Some(refusal) => {
                put("refuse", (*refusal.message).into());
                if let Some(data) = &refusal.data {
                    put("info", serde_json::from_str(data).unwrap_or_default());
                }
            }
            None => put("admit", true.into()),
        },
        Command::Ask {
            question, timeout_ms, ..
        } => {
            match question {
                Question::Settled => put("ask", "settled".into()),
                Question::Acks { to, event, args } => {
                    put("ask", "acks".into());
                    put("event", (**event).into());
                    put("args", payload(args));
                    put("timeout-ms", (*timeout_ms).into());
                    put_audience(&mut keys, to, own);
                    return keys;
                }
                Question::Clients { who, most } => {
                    put("ask", "clients".into());
                    put("most", (*most).into());
                    put("timeout-ms", (*timeout_ms).into());
                    put_audience(&mut keys, who, own);
                    return keys;
                }
                Question::Channels { namespace, most } => {
                    put("ask", "channels".into());
                    put("most", (*most).into());
                    put("timeout-ms", (*timeout_ms).into());
                    put_namespace(&mut keys, namespace, own);
                    return keys;
                }
            }
            put("timeout-ms", (*timeout_ms).into());
        }
        Command::Fire { kind, data, .. } => {
            put("fire", (**kind).into());
            put_bytes(&mut keys, "data", data);
        }
        // Goes from io-node to io-node, and is no effect of a handler.
        Command::Answer { .. } => put("answer", true.into()),
    }
    keys
}

/// Nothing for all clients of the event's own namespace.
fn put_audience(keys: &mut Map<String, Value>, audience: &Audience, own: &Namespace) {
    let Selection { clients, channels } = &audience.except;
    if let Scope::Only(Selection { clients, channels }) = &audience.to {
        // No client at all is not every one of them.
        if !clients.is_empty() || channels.is_empty() {
            keys.insert(
                "clients".to_owned(),
                clients.iter().map(|client| client.as_str()).collect(),
            );
        }
        if !channels.is_empty() {
            let channels = channels.iter().map(|channel| channel.as_str()).collect();
            keys.insert("channels".to_owned(), channels);
        }
    }
    if !clients.is_empty() {
        let clients = clients.iter().map(|client| client.as_str()).collect();
        keys.insert("except-clients".to_owned(), clients);
    }
    if !channels.is_empty() {
        let channels = channels.iter().map(|channel| channel.as_str()).collect();
        keys.insert("except-channels".to_owned(), channels);
    }
    put_namespace(keys, &audience.namespace, own);
}

fn put_namespace(keys: &mut Map<String, Value>, namespace: &Namespace, own: &Namespace) {
    if namespace != own {
        keys.insert("namespace".to_owned(), namespace.as_str().into());
    }
}

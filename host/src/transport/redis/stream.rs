//! Reading Redis streams.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::connection::Link;

/// How long a read waits for news, in milliseconds.
const WAIT_MS: u64 = 1_000;

/// The id of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    pub(super) major: u64,
    pub(super) minor: u64,
}

impl EntryId {
    /// The least id that is greater.
    pub(super) fn next(self) -> Self {
        match self.minor.checked_add(1) {
            Some(minor) => Self { minor, ..self },
            None => Self {
                major: self.major.saturating_add(1),
                minor: 0,
            },
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.major, self.minor)
    }
}

impl FromStr for EntryId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once('-').unwrap_or((text, "0"));
        Ok(Self {
            major: major.parse()?,
            minor: minor.parse()?,
        })
    }
}

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) fields: Vec<(Bytes, Bytes)>,
}

impl Entry {
    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&Bytes> {
        self.fields
            .iter()
            .find(|(field, _)| &field[..] == name.as_bytes())
            .map(|(_, value)| value)
    }
}

/// Waits a moment for entries behind these, and returns what came, by stream. The link waits for nothing else meanwhile.
pub(super) async fn read(link: &Link, count: usize, streams: &[(Bytes, EntryId)]) -> Vec<(Bytes, Vec<Entry>)> {
    by_stream(link.ask(&command(count, streams)).await)
}

/// The same, of what is safe alone: what is not, is found again later. `following` asks behind the read whether it is.
pub(super) async fn read_safe(
    link: &Link,
    count: usize,
    streams: &[(Bytes, EntryId)],
    following: &[Cmd],
    is_safe: impl Fn(&[Value]) -> bool,
) -> Vec<(Bytes, Vec<Entry>)> {
    let mut commands = redis::pipe();
    commands.add_command(command(count, streams));
    for command in following {
        commands.add_command(command.clone());
    }
    let mut answers = link.ask_all(&commands).await;
    if answers.is_empty() {
        return Vec::new();
    }
    let safe = answers.split_off(1);
    match answers.pop().map(by_stream) {
        Some(found) if !found.is_empty() && is_safe(&safe) => found,
        _ => Vec::new(),
    }
}

fn command(count: usize, streams: &[(Bytes, EntryId)]) -> Cmd {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(count).arg("BLOCK").arg(WAIT_MS).arg("STREAMS");
    for (key, _) in streams {
        command.arg(&key[..]);
    }
    for (_, id) in streams {
        command.arg(id.to_string());
    }
    command
}

/// A page of a stream, from an id on.
pub(super) fn page(key: &[u8], from: EntryId, count: usize) -> Cmd {
    let mut command = redis::cmd("XRANGE");
    command.arg(key).arg(from.to_string()).arg("+").arg("COUNT").arg(count);
    command
}

/// The newest id that a stream has given out.
pub(super) async fn newest(link: &Link, key: &[u8]) -> EntryId {
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg(key);
    // There is no stream until it has had an entry.
    let Ok(Value::Array(info)) = link.ask_or_error::<Value>(&command).await else {
        return EntryId::default();
    };
    let field = info
        .chunks_exact(2)
        .find(|pair| text(&pair[0]) == Some("last-generated-id"));
    field.and_then(|pair| text(&pair[1])?.parse().ok()).unwrap_or_default()
}

/// Reads `XREAD`'s answer: nil, or pairs of stream and entries (as a map in RESP3).
fn by_stream(answer: Value) -> Vec<(Bytes, Vec<Entry>)> {
    let pairs: Vec<(Value, Value)> = match answer {
        Value::Map(pairs) => pairs,
        Value::Array(streams) => streams
            .into_iter()
            .filter_map(|stream| match stream {
                Value::Array(pair) => <[Value; 2]>::try_from(pair).ok().map(|[key, entries]| (key, entries)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    pairs
        .into_iter()
        .filter_map(|(key, found)| Some((bytes(key)?, entries(found))))
        .collect()
}

/// Reads a list of entries: pairs of id and fields, where a field that was deleted meanwhile may be nil.
pub(super) fn entries(answer: Value) -> Vec<Entry> {
    let Value::Array(found) = answer else {
        return Vec::new();
    };
    found.into_iter().filter_map(entry).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let Value::Array(pair) = value else { return None };
    let [id, fields] = <[Value; 2]>::try_from(pair).ok()?;
    let id = text(&id)?.parse().ok()?;
    let mut values = match fields {
        Value::Array(values) => values.into_iter(),
        _ => Vec::new().into_iter(),
    };
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (values.next().and_then(bytes), values.next().and_then(bytes)) {
        fields.push((name, value));
    }
    Some(Entry { id, fields })
}

fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        Value::SimpleString(text) => Some(text.into()),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

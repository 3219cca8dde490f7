//! Reading Redis streams.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use redis::{Cmd, Value};

use crate::arguments::bytes_of;
use crate::client::link::Link;
use crate::scripts;

/// Timeout of a blocking read, in milliseconds.
const BLOCK_MS: u64 = 1_000;
/// First read count, while the size of entries is unknown.
const FIRST_COUNT: usize = 4;

/// Id of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryId {
    pub(crate) major: u64,
    pub(crate) minor: u64,
}

impl EntryId {
    /// The greatest id.
    pub(crate) const LAST: Self = Self {
        major: u64::MAX,
        minor: u64::MAX,
    };

    /// The id before this one; none before 0-0.
    pub(crate) fn previous(self) -> Option<Self> {
        match self.minor.checked_sub(1) {
            Some(minor) => Some(Self { minor, ..self }),
            None => Some(Self {
                major: self.major.checked_sub(1)?,
                minor: u64::MAX,
            }),
        }
    }

    /// The id after this one.
    pub(crate) fn next(self) -> Self {
        match self.minor.checked_add(1) {
            Some(minor) => Self { minor, ..self },
            None => Self {
                major: self.major.saturating_add(1),
                minor: 0,
            },
        }
    }
}

impl From<(u64, u64)> for EntryId {
    fn from((major, minor): (u64, u64)) -> Self {
        Self { major, minor }
    }
}

impl From<EntryId> for (u64, u64) {
    fn from(id: EntryId) -> Self {
        (id.major, id.minor)
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
pub(crate) struct Entry {
    pub(crate) id: EntryId,
    pub(crate) fields: Vec<(Bytes, Bytes)>,
}

impl Entry {
    /// Value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&Bytes> {
        self.fields
            .iter()
            .find(|(field, _)| &field[..] == name.as_bytes())
            .map(|(_, value)| value)
    }
}

/// Reads entries behind these ids, by stream, in one round trip with commands before it. Blocks the link until there are some, for at
/// most a second. The answers to the `following` commands decide whether the entries are returned; others are read again later.
pub(crate) async fn read_between(
    link: &Link,
    before: Vec<Cmd>,
    count: usize,
    streams: &[(Bytes, EntryId)],
    following: &[Cmd],
    is_confirmed: impl Fn(&[Value]) -> bool,
) -> Vec<(Bytes, Vec<Entry>)> {
    let mut commands = redis::pipe();
    let index = before.len();
    let reading = command(count, streams);
    for command in before.into_iter().chain([reading]).chain(following.iter().cloned()) {
        commands.add_command(command);
    }
    let mut answers = link.ask_all(&commands).await;
    if answers.len() <= index {
        return Vec::new();
    }
    let confirmation = answers.split_off(index + 1);
    let found = answers.pop().map(by_stream).unwrap_or_default();
    match is_confirmed(&confirmation) {
        true => found,
        false => Vec::new(),
    }
}

fn command(count: usize, streams: &[(Bytes, EntryId)]) -> Cmd {
    let mut command = redis::cmd("XREAD");
    command
        .arg("COUNT")
        .arg(count)
        .arg("BLOCK")
        .arg(BLOCK_MS)
        .arg("STREAMS");
    for (key, _) in streams {
        command.arg(&key[..]);
    }
    for (_, id) in streams {
        command.arg(id.to_string());
    }
    command
}

/// A page of a stream, limited by count and bytes.
pub(crate) struct Page {
    /// Smallest id.
    pub(crate) from: EntryId,
    /// Maximum number of entries.
    pub(crate) entries: usize,
    /// Size in bytes at which no further entry is added.
    pub(crate) bytes: usize,
}

impl Page {
    /// Reads it, oldest entry first.
    pub(crate) async fn read(&self, link: &Link, key: &Bytes) -> Vec<Entry> {
        let arguments = self.arguments();
        entries(
            link.run(&scripts::READ_PAGE, std::slice::from_ref(key), &arguments)
                .await,
        )
    }

    /// Reads it like [`read`](Self::read), with one attempt.
    pub(crate) async fn try_read(&self, link: &Link, key: &Bytes) -> Result<Vec<Entry>, String> {
        let arguments = self.arguments();
        let page = link
            .try_run(&scripts::READ_PAGE, std::slice::from_ref(key), &arguments)
            .await;
        page.map(entries)
    }

    fn arguments(&self) -> [Bytes; 5] {
        [
            "XRANGE".into(),
            bytes_of(self.from),
            "+".into(),
            bytes_of(self.entries),
            bytes_of(self.bytes),
        ]
    }
}

/// Reads entries by `XRANGE` or `XREVRANGE`, with one attempt. Needs no right to run scripts.
pub(crate) async fn try_read(
    link: &Link,
    range: &str,
    key: &[u8],
    from: EntryId,
    to: &str,
    count: usize,
) -> Result<Vec<Entry>, String> {
    let mut command = redis::cmd(range);
    command.arg(key).arg(from.to_string()).arg(to).arg("COUNT").arg(count);
    link.try_ask(&command).await.map(entries)
}

/// Adaptive count of entries for reads that have no limit in bytes: smaller after large entries.
pub(crate) struct ReadCount {
    entries: usize,
    most: usize,
}

/// Target size of a read, in bytes.
const READ_BYTES: usize = 4 << 20;

impl ReadCount {
    pub(crate) fn at_most(most: usize) -> Self {
        Self {
            entries: most.min(FIRST_COUNT),
            most,
        }
    }

    /// Count for the next read.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// Adapts the count to the size of these entries.
    pub(crate) fn observe<'a>(&mut self, read: impl Iterator<Item = &'a Entry>) {
        let (mut entries, mut bytes) = (0, 0);
        for entry in read {
            entries += 1;
            bytes += entry.fields.iter().map(|(_, value)| value.len()).sum::<usize>();
        }
        if let Some(each) = bytes.checked_div(entries) {
            let fitting = READ_BYTES / each.max(1);
            // Doubles at most, because larger entries may come at any time.
            self.entries = fitting.min(2 * self.entries).clamp(1, self.most);
        }
    }
}

/// Last id that a stream has generated.
pub(crate) async fn newest(link: &Link, key: &[u8]) -> EntryId {
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg(key);
    // A stream exists from its first entry on.
    let Ok(Value::Array(info)) = link.ask_or_error::<Value>(&command).await else {
        return EntryId::default();
    };
    let field = info
        .chunks_exact(2)
        .find(|pair| text(&pair[0]) == Some("last-generated-id"));
    field.and_then(|pair| text(&pair[1])?.parse().ok()).unwrap_or_default()
}

/// Parses the answer to `XREAD`: nil, or pairs of stream and entries (a map in RESP3).
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

/// Parses a list of entries: pairs of id and fields. The fields of an entry deleted meanwhile may be nil.
pub(crate) fn entries(answer: Value) -> Vec<Entry> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fewer_entries_after_large_ones() {
        let entry = |bytes: usize| Entry {
            id: EntryId::default(),
            fields: vec![("b".into(), vec![0; bytes].into())],
        };
        let mut read_count = ReadCount::at_most(16);
        assert_eq!(read_count.entries(), FIRST_COUNT);
        for (bytes, next) in [(1, 8), (1, 16), (1, 16), (1 << 20, 4), (16 << 20, 1), (1, 2), (1, 4)] {
            read_count.observe([entry(bytes)].iter());
            assert_eq!(read_count.entries(), next);
        }
        read_count.observe([].iter());
        assert_eq!(read_count.entries(), 4);
    }

    mod arbitrary {
        use proptest::collection::vec;
        use proptest::prelude::*;

        use super::super::*;
        use plugnode_testing::arbitrary::{bytes as some_bytes, nearly_text, one_of, peak};

        /// Any answer, also of something that is no Redis.
        fn answer() -> impl Strategy<Value = Value> {
            let id = nearly_text(one_of(&[
                "1-2",
                "0-0",
                "18446744073709551615-18446744073709551615",
                "7",
                "-",
            ]));
            let leaf = prop_oneof![
                Just(Value::Nil),
                Just(Value::Okay),
                any::<i64>().prop_map(Value::Int),
                any::<f64>().prop_map(Value::Double),
                some_bytes(12).prop_map(Value::BulkString),
                id.prop_map(|id| Value::BulkString(id.into_bytes())),
                any::<String>().prop_map(Value::SimpleString),
            ];
            leaf.prop_recursive(5, 40, 4, |inner| {
                prop_oneof![
                    3 => vec(inner.clone(), 0..4).prop_map(Value::Array),
                    1 => vec(inner.clone(), 2..=2).prop_map(Value::Array),
                    1 => vec((inner.clone(), inner), 0..3).prop_map(Value::Map),
                ]
            })
        }

        fn text_of(id: EntryId, fields: &[(Vec<u8>, Vec<u8>)]) -> Value {
            let fields = fields
                .iter()
                .flat_map(|(name, value)| [name, value].map(|part| Value::BulkString(part.clone())));
            Value::Array(vec![
                Value::BulkString(id.to_string().into()),
                Value::Array(fields.collect()),
            ])
        }

        proptest! {
            #[test]
            fn any_answer_is_parsed_or_ignored(answer in answer()) {
                let (_, peak) = peak(|| {
                    let _ = by_stream(answer.clone());
                    entries(answer.clone())
                });
                prop_assert!(peak <= 64 << 10, "{peak}");
            }

            #[test]
            fn entries_are_parsed_unchanged(
                major in any::<u64>(),
                minor in any::<u64>(),
                fields in vec((some_bytes(9), some_bytes(9)), 0..4),
            ) {
                let id = EntryId { major, minor };
                let found = entries(Value::Array(vec![text_of(id, &fields)]));
                prop_assert_eq!(found.len(), 1);
                prop_assert_eq!(found[0].id, id);
                prop_assert!(id.next() > id || id.next().major == u64::MAX);
                let expected: Vec<(Bytes, Bytes)> = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
                prop_assert_eq!(&found[0].fields, &expected);
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }

            #[test]
            fn any_text_is_an_entry_id_or_refused(text in nearly_text(one_of(&["1-2", "0", "99999999999999999999-1", "1-1-1"]))) {
                if let Ok(id) = text.parse::<EntryId>() {
                    prop_assert_eq!(id.to_string().parse(), Ok(id));
                }
            }
        }
    }
}

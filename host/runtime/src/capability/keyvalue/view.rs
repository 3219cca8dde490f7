//! How one event sees the key-value store: over the last commit lies what it has written itself. What it has seen of the
//! former is remembered, for its writes are to count only if that is still so when they are committed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;

use plugnode_message::{Change, KeyChange, Read, Seen, Text, integer_of, sum_of};

/// What an event has read and written so far, by bucket and key.
#[derive(Debug, Default)]
pub(crate) struct View {
    writes: BTreeMap<Text, BTreeMap<Text, Change>>,
    reads: BTreeMap<Text, BTreeMap<Text, Seen>>,
    count: usize,
}

/// What an event has done to a key itself.
pub(super) enum Own<'a> {
    /// Nothing: it has the value that is stored.
    Nothing,
    /// It has given the key this value, or none.
    Value(Option<&'a Bytes>),
    /// It has added to whatever is stored.
    Added(i64),
}

impl View {
    /// Takes a write over those before it. An error says why it cannot be done.
    pub(crate) fn write(&mut self, write: KeyChange) -> Result<(), String> {
        let KeyChange { bucket, key, change } = write;
        let keys = self.writes.entry(bucket).or_default();
        let change = match (change, keys.get(&key)) {
            (Change::Add(delta), Some(before)) => {
                added(before, delta).map_err(|reason| format!("cannot add to key {key:?}: {reason}"))?
            }
            (change, _) => change,
        };
        keys.insert(key, change);
        Ok(())
    }

    pub(super) fn own(&self, bucket: &Text, key: &Text) -> Own<'_> {
        match self.writes.get(bucket).and_then(|keys| keys.get(key)) {
            None => Own::Nothing,
            Some(Change::Set { value, .. }) => Own::Value(Some(value)),
            Some(Change::Delete) => Own::Value(None),
            Some(Change::Add(delta)) => Own::Added(*delta),
        }
    }

    /// The keys that it has given a value.
    pub(super) fn set_keys(&self, bucket: &Text) -> impl Iterator<Item = &Text> {
        let writes = self.writes.get(bucket).into_iter().flatten();
        writes
            .filter(|(_, change)| !matches!(change, Change::Delete))
            .map(|(key, _)| key)
    }

    /// Remembers what was stored under a key. What was seen first stays: if it changes while the event is handled, what the
    /// event does rests on both.
    pub(super) fn saw(&mut self, bucket: &Text, key: Text, value: Option<&Bytes>) {
        let keys = self.reads.entry(bucket.clone()).or_default();
        if let Entry::Vacant(place) = keys.entry(key) {
            place.insert(Seen::of(value));
            self.count += 1;
        }
    }

    /// Whether it has seen this value, or none, under a key.
    pub(super) fn has_seen(&self, bucket: &Text, key: &Text, value: Option<&Bytes>) -> bool {
        let seen = self.reads.get(bucket).and_then(|keys| keys.get(key));
        seen.is_some_and(|seen| seen.is(value))
    }

    /// How many keys it has read.
    pub(super) fn reads(&self) -> usize {
        self.count
    }

    pub(super) fn has_written(&self) -> bool {
        !self.writes.is_empty()
    }

    /// What it has written, and what that rests on.
    pub(crate) fn take(&mut self) -> (Vec<KeyChange>, Vec<Read>) {
        let Self { writes, reads, .. } = std::mem::take(self);
        let writes = flat(writes).map(|(bucket, key, change)| KeyChange { bucket, key, change });
        let writes: Vec<KeyChange> = writes.collect();
        if writes.is_empty() {
            return Default::default();
        }
        let reads = flat(reads).map(|(bucket, key, seen)| Read { bucket, key, seen });
        (writes, reads.collect())
    }
}

/// What two changes after each other come to.
fn added(before: &Change, delta: i64) -> Result<Change, &'static str> {
    const TOO_LARGE: &str = "the sum is too large";
    let sum = |number| sum_of(number, delta).ok_or(TOO_LARGE);
    Ok(match before {
        Change::Add(before) => Change::Add(sum(*before)?),
        Change::Delete => Change::set(sum(0)?.to_string()),
        Change::Set { value, ttl_ms } => {
            let number = integer_of(value).ok_or("its value is no integer")?;
            Change::Set {
                value: sum(number)?.to_string().into(),
                ttl_ms: *ttl_ms,
            }
        }
    })
}

fn flat<T>(by_bucket: BTreeMap<Text, BTreeMap<Text, T>>) -> impl Iterator<Item = (Text, Text, T)> {
    by_bucket
        .into_iter()
        .flat_map(|(bucket, keys)| keys.into_iter().map(move |(key, value)| (bucket.clone(), key, value)))
}

//! The key-value store as one event sees it: its own writes over the last commit. Committed values that it has read are
//! recorded, since the commit of its writes succeeds only if they are unchanged (optimistic concurrency).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;

use plugnode_message::{Change, KeyChange, Read, Seen, Text, integer_of, sum_of};

/// The reads and writes of an event so far, by bucket and key.
#[derive(Debug, Default)]
pub(crate) struct KeyValueView {
    writes: BTreeMap<Text, BTreeMap<Text, Change>>,
    reads: BTreeMap<Text, BTreeMap<Text, Seen>>,
    read_count: usize,
}

/// The event's own write to a key.
pub(crate) enum OwnWrite<'a> {
    /// None: the committed value applies.
    None,
    /// The event has set this value, or deleted the key.
    Value(Option<&'a Bytes>),
    /// The event has added to the committed value.
    Added(i64),
}

impl KeyValueView {
    /// Adds a write, merged with earlier ones to the same key.
    ///
    /// # Errors
    /// Why it does not apply to the earlier write.
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

    pub(crate) fn own_write(&self, bucket: &Text, key: &Text) -> OwnWrite<'_> {
        match self.writes.get(bucket).and_then(|keys| keys.get(key)) {
            None => OwnWrite::None,
            Some(Change::Set { value, .. }) => OwnWrite::Value(Some(value)),
            Some(Change::Delete) => OwnWrite::Value(None),
            Some(Change::Add(delta)) => OwnWrite::Added(*delta),
        }
    }

    /// The keys that the event has written and not deleted.
    pub(crate) fn set_keys(&self, bucket: &Text) -> impl Iterator<Item = &Text> {
        let writes = self.writes.get(bucket).into_iter().flatten();
        writes
            .filter(|(_, change)| !matches!(change, Change::Delete))
            .map(|(key, _)| key)
    }

    /// Records the committed value of a key. The first read counts: if the value changes while the event is handled, the
    /// event depends on both values, and its commit must fail.
    pub(crate) fn record_read(&mut self, bucket: &Text, key: Text, value: Option<&Bytes>) {
        let keys = self.reads.entry(bucket.clone()).or_default();
        if let Entry::Vacant(entry) = keys.entry(key) {
            entry.insert(Seen::of(value));
            self.read_count += 1;
        }
    }

    /// Whether the event has read this value, or the absence of one, under a key.
    pub(crate) fn has_read(&self, bucket: &Text, key: &Text, value: Option<&Bytes>) -> bool {
        let seen = self.reads.get(bucket).and_then(|keys| keys.get(key));
        seen.is_some_and(|seen| seen.is(value))
    }

    /// Number of keys that the event has read.
    pub(crate) fn read_count(&self) -> usize {
        self.read_count
    }

    pub(crate) fn has_written(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Takes the writes, and the reads to check when they are committed. Without writes there is nothing to check.
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

/// Merges an addition into an earlier write of the same event.
fn added(before: &Change, delta: i64) -> Result<Change, &'static str> {
    const TOO_LARGE: &str = "the sum is too large";
    let sum = |number| sum_of(number, delta).ok_or(TOO_LARGE);
    Ok(match before {
        Change::Add(before) => Change::Add(sum(*before)?),
        Change::Delete => Change::set(sum(0)?.to_string()),
        Change::Set { value, ttl_ms } => {
            let number = integer_of(value).ok_or("its value is not an integer")?;
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

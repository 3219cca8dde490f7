//! The key-value reads and changes of one event.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::arguments::bytes_of;
use crate::keys::Layout;
use plugnode_message::{Change, EventId, KeyChange, Read, Text, Write, integer_of, sum_of};

/// Number of attempts of this process.
static ATTEMPTS: AtomicU64 = AtomicU64::new(1);

/// Reads and changes of one event.
pub(crate) struct Transaction {
    pub(crate) id: EventId,
    /// Rank of the event: an older event has the lesser text.
    pub(crate) rank: String,
    /// Time for which the keys are reserved for it if it fails (its turn), in milliseconds; 0 for none.
    pub(crate) turn_ms: u64,
    /// Number of this attempt, to tell it from others for the same event.
    pub(crate) attempt: u64,
    /// Whether no other event reads or writes its keys, so that they need no locks.
    pub(crate) is_exclusive: bool,
    pub(crate) reads: Vec<Read>,
    pub(crate) changes: Vec<KeyChange>,
    /// Results of its additions, once the keys are locked.
    sums: HashMap<(Text, Text), i64>,
}

impl Transaction {
    pub(crate) fn new(id: EventId, rank: String, turn_ms: u64, reads: Vec<Read>, changes: Vec<KeyChange>) -> Self {
        Self {
            id,
            rank,
            turn_ms,
            attempt: ATTEMPTS.fetch_add(1, Ordering::Relaxed),
            is_exclusive: false,
            reads,
            changes,
            sums: HashMap::new(),
        }
    }

    /// Its writes, with the results of additions. Call it after locking.
    pub(crate) fn writes(&self) -> Vec<Write> {
        let writes = self.changes.iter().map(|change| {
            let KeyChange { bucket, key, change } = change;
            Write {
                value: match change {
                    Change::Set { value, .. } => Some(value.clone()),
                    Change::Delete => None,
                    Change::Add(_) => {
                        let sum = self.sums.get(&(bucket.clone(), key.clone()));
                        sum.map(|sum| sum.to_string().into())
                    }
                },
                bucket: bucket.clone(),
                key: key.clone(),
            }
        });
        writes.collect()
    }

    /// Its distinct keys by shard.
    pub(crate) fn keys(&self, layout: &Layout) -> BTreeMap<u16, Vec<(&Text, &Text)>> {
        let reads = self.reads.iter().map(|read| (&read.bucket, &read.key));
        let changes = self.changes.iter().map(|change| (&change.bucket, &change.key));
        let mut keys: BTreeMap<u16, Vec<(&Text, &Text)>> = BTreeMap::new();
        for (bucket, key) in reads.chain(changes) {
            let shard = layout.shard_of_key(bucket, key);
            keys.entry(shard).or_default().push((bucket, key));
        }
        for keys in keys.values_mut() {
            keys.sort_unstable();
            keys.dedup();
        }
        keys
    }

    /// Owner of its locks. It includes the lease, because another process may use the same attempt number.
    pub(crate) fn lock_owner(&self, lease: &str) -> Bytes {
        let Self { id, rank, attempt, .. } = self;
        bytes_of(format_args!(
            "{rank} {} {} {attempt} {lease}",
            id.partition, id.sequence
        ))
    }

    /// Computes the result of an addition, or says why there is none.
    pub(crate) fn add(&mut self, bucket: Text, key: Text, delta: i64, value: Option<&Bytes>) -> Result<(), String> {
        let number = match value {
            None => Some(0),
            Some(value) => integer_of(value),
        };
        let number =
            number.ok_or_else(|| format!("cannot add to key {key:?} of bucket {bucket:?}: its value is no integer"))?;
        let sum = sum_of(number, delta)
            .ok_or_else(|| format!("cannot add to key {key:?} of bucket {bucket:?}: the sum is too large"))?;
        self.sums.insert((bucket, key), sum);
        Ok(())
    }
}

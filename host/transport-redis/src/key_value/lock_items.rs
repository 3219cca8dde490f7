//! Arguments of the script `lock_keys`: the reads and changes of transactions in one shard.

use std::collections::HashMap;

use bytes::Bytes;

use crate::arguments::bytes_of;
use crate::key_value::transaction::Transaction;
use crate::keys::{Layout, Shard};
use plugnode_message::{Change, KeyChange, Read, Seen, sha1_of};

/// Values up to this size in bytes are compared as a whole, longer ones by their SHA-1.
const COMPARED_WHOLE: usize = 40;

/// Arguments of the lock script for one shard.
pub(crate) struct LockItems {
    shard: Shard,
    pub(crate) keys: Vec<Bytes>,
    indices: HashMap<Bytes, usize>,
    pub(crate) items: Vec<Bytes>,
}

impl LockItems {
    pub(crate) fn new(shard: &Shard) -> Self {
        Self {
            shard: shard.clone(),
            keys: store_keys(shard),
            indices: HashMap::new(),
            items: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, layout: &Layout, transaction: &Transaction) {
        let Transaction {
            rank, turn_ms, attempt, ..
        } = transaction;
        let head = bytes_of(format_args!("{rank} {turn_ms} {attempt}"));
        let is_exclusive = if transaction.is_exclusive { "x" } else { "" };
        self.item(is_exclusive.into(), "e", bytes_of(transaction.id.sequence), head);
        let here = self.shard.number;
        let is_here = |bucket: &str, key: &str| layout.shard_of_key(bucket, key) == here;
        for Read { bucket, key, seen } in transaction.reads.iter().filter(|read| is_here(&read.bucket, &read.key)) {
            let (how, value) = match seen {
                Seen::Nothing => ("n", Bytes::new()),
                Seen::Value(value) if value.len() <= COMPARED_WHOLE => ("v", value.clone()),
                Seen::Value(value) => ("d", hex(sha1_of(value))),
                Seen::Digest(digest) => ("d", hex(*digest)),
            };
            let index = self.index(bucket);
            self.item(index, how, key.clone().into_bytes(), value);
        }
        let changes = transaction.changes.iter();
        for KeyChange { bucket, key, change } in changes.filter(|change| is_here(&change.bucket, &change.key)) {
            // Only sizes: the commit writes the values.
            let (how, value) = match change {
                Change::Set { value, ttl_ms: None } => ("s", bytes_of(value.len())),
                Change::Set {
                    value,
                    ttl_ms: Some(ttl),
                } => ("t", bytes_of(format_args!("{ttl} {}", value.len()))),
                Change::Delete => ("x", Bytes::new()),
                Change::Add(delta) => ("a", bytes_of(delta)),
            };
            let index = self.index(bucket);
            self.item(index, how, key.clone().into_bytes(), value);
        }
    }

    fn item(&mut self, index: Bytes, how: &'static str, key: Bytes, value: Bytes) {
        self.items
            .extend([index, Bytes::from_static(how.as_bytes()), key, value]);
    }

    fn index(&mut self, bucket: &str) -> Bytes {
        let key = self.shard.bucket(bucket);
        let keys = &mut self.keys;
        let index = *self.indices.entry(key.clone()).or_insert_with(|| {
            keys.push(key);
            keys.len()
        });
        bytes_of(index)
    }
}

/// The keys in front of the buckets in calls of the lock scripts.
pub(crate) fn store_keys(shard: &Shard) -> Vec<Bytes> {
    ["ends", "turns", "locks", "sizes"].map(|name| shard.key(name)).to_vec()
}

/// Name of a key in `ends`, `turns` and `locks`.
pub(crate) fn name_of(shard: &Shard, bucket: &str, key: &str) -> Bytes {
    [&shard.bucket(bucket)[..], b"\0", key.as_bytes()].concat().into()
}

fn hex(digest: [u8; 20]) -> Bytes {
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<String>().into()
}

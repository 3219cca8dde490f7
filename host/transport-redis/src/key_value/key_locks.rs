//! Locks of key-value transactions, which make them serializable.
//!
//! Before an event is committed, all keys that it has read or written are locked for it. One script in each shard checks that the
//! reads are still current, and locks all keys or none; shards are locked in ascending order, so there is no deadlock.
//! The locks keep other events from changing these keys until the event is committed and its writes have arrived in the other
//! shards. A lock names its event and lease: an event that finds a lock of a dead holder looks up whether that event is committed,
//! or never will be, and ends the lock.

use std::collections::BTreeMap;

use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, Value};

use crate::app_node::held_lease::HeldLease;
use crate::app_node::progress::PartitionProgress;
use crate::arguments::bytes_of;
use crate::key_value::lock_items::{LockItems, name_of, store_keys};
use crate::key_value::transaction::Transaction;
use crate::keys::Shard;
use crate::redis::Redis;
use crate::scripts;
use plugnode_message::{Change, Partition, Text};
use plugnode_transport::{Conflict, ConflictedOutcome, full_bucket};

/// Maximum number of expired keys deleted in one call that ends locks.
const EXPIRED_KEYS: usize = 50;

/// A transaction that got no locks.
pub(crate) struct LockRefusal {
    pub(crate) lost: ConflictedOutcome,
    /// Whether it may be tried again unchanged: a key was locked, and the event has read nothing.
    pub(crate) may_wait: bool,
}

/// A shard's answer about one event.
struct LockAnswer {
    number: u64,
    why: String,
    is_kept: bool,
    /// Name of a locked key and its lock; or a full bucket and its size.
    held: (Bytes, String),
    /// Present values of the keys that it adds to.
    values: Vec<Option<Bytes>>,
}

impl FromRedisValue for LockAnswer {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let Value::Array(parts) = value else {
            return Err("no array".into());
        };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or(Value::Nil);
        Ok(Self {
            number: u64::from_redis_value(next())?,
            why: String::from_redis_value(next())?,
            is_kept: String::from_redis_value(next())? == "kept",
            held: (Bytes::from_redis_value(next())?, String::from_redis_value(next())?),
            values: parts.map(Option::<Bytes>::from_redis_value).collect::<Result<_, _>>()?,
        })
    }
}

impl Redis {
    /// Locks all keys of these transactions, unless they are exclusive. Returns the refused ones, which hold no locks.
    pub(crate) async fn lock(&self, held_lease: &HeldLease, transactions: &mut [&mut Transaction]) -> Vec<LockRefusal> {
        let mut refused: Vec<LockRefusal> = Vec::new();
        // All events lock the shards in the same order, so there is no deadlock.
        for number in 0..self.layout.shards {
            let shard = self.layout.shard(number);
            let is_refused = |id| refused.iter().any(|refusal: &LockRefusal| refusal.lost.id == id);
            let here: Vec<&&mut Transaction> = transactions
                .iter()
                .filter(|transaction| !is_refused(transaction.id))
                .collect();
            let answers = self
                .ask_locks(
                    "lock",
                    &shard,
                    held_lease,
                    here.iter().map(|transaction| &***transaction),
                )
                .await;
            for answer in answers {
                let Some(transaction) = transactions
                    .iter_mut()
                    .find(|transaction| transaction.id.sequence == answer.number)
                else {
                    continue;
                };
                if answer.why == "locked" && transaction.turn_ms > 0 {
                    self.end_stale_lock(&shard, &answer.held.0, &answer.held.1).await;
                }
                let conflict = match answer.why.as_str() {
                    "ok" => self
                        .add_up(&shard, transaction, answer.values)
                        .err()
                        .map(Conflict::Impossible),
                    "full" => Some(Conflict::Full {
                        bucket: bucket_of(&shard, &answer.held.0),
                        reason: self.full(&shard, &answer.held),
                    }),
                    "timers" => Some(Conflict::Full {
                        bucket: bucket_of(&shard, &answer.held.0),
                        reason: self.settings.common.timers.exceeded(&answer.held.1),
                    }),
                    _ => Some(Conflict::Changed),
                };
                let Some(conflict) = conflict else { continue };
                refused.push(LockRefusal {
                    may_wait: answer.why == "locked" && transaction.reads.is_empty(),
                    lost: ConflictedOutcome {
                        id: transaction.id,
                        conflict,
                        has_reservation: answer.is_kept,
                    },
                });
            }
        }
        let is_refused =
            |transaction: &&&mut Transaction| refused.iter().any(|refusal| refusal.lost.id == transaction.id);
        let failed: Vec<&Transaction> = transactions
            .iter()
            .filter(is_refused)
            .map(|transaction| &**transaction)
            .collect();
        self.unlock("void", held_lease, &failed).await;
        if self.layout.shards > 1 {
            self.keep_turns(held_lease, &failed, &mut refused).await;
        }
        refused
    }

    /// Ends the locks of transactions: `done` if they are committed, `void` if not.
    pub(crate) async fn unlock(&self, how: &'static str, held_lease: &HeldLease, transactions: &[&Transaction]) {
        let mut shards: BTreeMap<u16, Vec<Bytes>> = BTreeMap::new();
        for transaction in transactions.iter().filter(|transaction| !transaction.is_exclusive) {
            for (number, keys) in transaction.keys(&self.layout) {
                let shard = self.layout.shard(number);
                let names = keys.into_iter().map(|(bucket, key)| name_of(&shard, bucket, key));
                let locks = names.flat_map(|name| [name, transaction.lock_owner(&held_lease.lease)]);
                shards.entry(number).or_default().extend(locks);
            }
        }
        for (number, locks) in shards {
            self.end_locks(&self.layout.shard(number), how, locks).await;
        }
    }

    async fn end_locks(&self, shard: &Shard, how: &'static str, locks: Vec<Bytes>) {
        let arguments = [vec![Bytes::from_static(how.as_bytes()), bytes_of(EXPIRED_KEYS)], locks].concat();
        self.change::<()>(shard, &scripts::UNLOCK_KEYS, &store_keys(shard), &arguments)
            .await;
    }

    /// Runs the lock script for those of these transactions that have keys in a shard.
    async fn ask_locks<'a>(
        &self,
        mode: &'static str,
        shard: &Shard,
        held_lease: &HeldLease,
        transactions: impl Iterator<Item = &'a Transaction>,
    ) -> Vec<LockAnswer> {
        let mut items = LockItems::new(shard);
        let has_keys = |transaction: &&Transaction| transaction.keys(&self.layout).contains_key(&shard.number);
        transactions
            .filter(has_keys)
            .for_each(|transaction| items.add(&self.layout, transaction));
        if items.items.is_empty() {
            return Vec::new();
        }
        let mut arguments = vec![
            Bytes::from_static(mode.as_bytes()),
            bytes_of(held_lease.partition),
            bytes_of(&held_lease.lease),
            bytes_of(self.settings.common.bucket_bytes / usize::from(self.layout.shards)),
            bytes_of(self.settings.common.timers.of_app / usize::from(self.layout.shards)),
            bytes_of(self.settings.common.timers.of_client),
        ];
        arguments.extend(items.items);
        self.change(shard, &scripts::LOCK_KEYS, &items.keys, &arguments).await
    }

    /// Error text for a full bucket.
    fn full(&self, shard: &Shard, (key, bytes): &(Bytes, String)) -> String {
        let name = bucket_of(shard, key);
        let bytes: usize = bytes.parse().unwrap_or_default();
        let shards = usize::from(self.layout.shards);
        full_bucket(&name, bytes, self.settings.common.bucket_bytes / shards)
    }

    /// Computes the results of a transaction's additions in a shard from the present values.
    fn add_up(&self, shard: &Shard, transaction: &mut Transaction, values: Vec<Option<Bytes>>) -> Result<(), String> {
        let additions: Vec<(Text, Text, i64)> = transaction
            .changes
            .iter()
            .filter(|change| self.layout.shard_of_key(&change.bucket, &change.key) == shard.number)
            .filter_map(|change| match change.change {
                Change::Add(delta) => Some((change.bucket.clone(), change.key.clone(), delta)),
                _ => None,
            })
            .collect();
        for ((bucket, key, delta), value) in additions.into_iter().zip(values) {
            transaction.add(bucket, key, delta, value.as_ref())?;
        }
        Ok(())
    }

    /// Keeps the turns of refused transactions in all their shards.
    async fn keep_turns(&self, held_lease: &HeldLease, transactions: &[&Transaction], refused: &mut [LockRefusal]) {
        let wait: Vec<&Transaction> = transactions
            .iter()
            .filter(|transaction| transaction.turn_ms > 0)
            .copied()
            .collect();
        if wait.is_empty() {
            return;
        }
        for refusal in refused.iter_mut() {
            refusal.lost.has_reservation = wait.iter().any(|transaction| transaction.id == refusal.lost.id);
        }
        for shard in self.layout.all() {
            for answer in self.ask_locks("turn", &shard, held_lease, wait.iter().copied()).await {
                let of_it = refused
                    .iter_mut()
                    .filter(|refusal| refusal.lost.id.sequence == answer.number);
                of_it.for_each(|refusal| refusal.lost.has_reservation &= answer.is_kept);
            }
        }
    }

    /// Fetches writes that events of other shards have committed for these locked keys. Returns whether there may be any.
    pub(crate) async fn fetch_forwarded(&self, shard: &Shard, held: &[Bytes]) -> bool {
        let mut is_elsewhere = false;
        for name_and_lock in held.chunks_exact(2) {
            let lock = String::from_utf8_lossy(&name_and_lock[1]);
            let partition = lock.split(' ').nth(1).and_then(|partition| partition.parse().ok());
            let home = partition.map(|partition| self.layout.shard_of(Partition(partition)));
            if home.is_some_and(|home| home != shard.number) {
                is_elsewhere = true;
                self.end_stale_lock(shard, &name_and_lock[0], &lock).await;
            }
        }
        is_elsewhere
    }

    /// Ends a lock whose event is committed or never will be, because its holder has died.
    async fn end_stale_lock(&self, shard: &Shard, name: &Bytes, lock: &str) {
        let words: Vec<&str> = lock.splitn(7, ' ').collect();
        let [_, partition, number, _, _, _, lease] = words[..] else {
            return;
        };
        let (Ok(partition), Ok(number)) = (partition.parse::<u16>(), number.parse::<u64>()) else {
            return;
        };
        let home = self.layout.shard(self.layout.shard_of(Partition(partition)));
        let keys = ["owner", "done", "kept"].map(|name| home.key(name));
        let arguments = [bytes_of(partition), bytes_of(number)];
        let (holder, done, is_kept): (String, String, bool) =
            self.link.run(&scripts::LOCK_STATE, &keys, &arguments).await;
        let is_committed = done
            .parse::<PartitionProgress>()
            .is_ok_and(|progress| progress.has(number))
            && !is_kept;
        if !is_committed && holder == lease {
            return;
        }
        if is_committed && home.number != shard.number {
            self.forward(&home, [shard.number]).await;
        }
        let holder = bytes_of(format_args!("{} {lease}", words[..4].join(" ")));
        let how = if is_committed { "done" } else { "void" };
        self.end_locks(shard, how, vec![name.clone(), holder]).await;
    }
}

/// The name of a bucket, by its key in a shard.
fn bucket_of(shard: &Shard, key: &[u8]) -> Text {
    let name = key.strip_prefix(&shard.bucket("")[..]).unwrap_or(key);
    String::from_utf8_lossy(name).into_owned().into()
}

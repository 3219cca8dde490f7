//! Reads the logs of the partitions that an app-node leases in a shard.
//!
//! One blocking connection reads hints: what was appended to the logs of these partitions, with the events themselves if they are
//! few. The numbers of events show what a hint left out: a partition that misses events is behind, and catches up from its log. So does
//! a new partition, from its previous owner's progress, and one that was paused because its events were not taken in time. A
//! hint that was lost altogether is found by [`LogReader::find_missed`].

mod hint;
mod subscription;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use redis::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use xxhash_rust::xxh3::xxh3_64;

use self::hint::Hint;
pub(crate) use self::subscription::PartitionFeed;
use self::subscription::{ReadAhead, Subscription};
use crate::app_node::log_event::foreign_letter;
use crate::arguments::bytes_of;
use crate::batch::{self, Batch};
use crate::client::link::Link;
use crate::keys::Shard;
use crate::redis::Redis;
use crate::stream::{Entry, EntryId, entries, read_between};
use crate::wire::encode;
use crate::{dead_letters, scripts};
use plugnode_message::{EventId, Partition};
use plugnode_process::metrics;

/// Field of a hint for the app-node that fires timers. See `lua/shared/sizes.lua`.
const TIMER_SET: &str = "timers";
/// Maximum number of hints in one read.
const HINTS: usize = 64;
/// Number of hints that were read before they are deleted.
const KEPT_HINTS: usize = 16;
/// Approximate size of one read during catch-up, in bytes.
const BYTES: usize = 1 << 20;
/// Number of partitions whose last entries are checked together behind a new connection.
const CHECKED: usize = 16;

/// Reads one shard for one app-node. Clones share their state.
#[derive(Clone)]
pub(crate) struct LogReader {
    redis: Redis,
    shard: Shard,
    /// Key of the stream of hints.
    wake: Bytes,
    subscriptions: Arc<Mutex<HashMap<Partition, Subscription>>>,
    /// Notified when a partition may be read further.
    changed: Arc<Notify>,
    /// Notified when a timer was set that is due before the others.
    pub(crate) timer_set: Arc<Notify>,
    /// Number of events of the shard at the last comparison with the numbers of the partitions.
    compared: Arc<AtomicU64>,
    /// Whether hints were missed, perhaps because their stream was made anew and has lower ids than before.
    has_missed: Arc<AtomicBool>,
}

/// The last entry of a partition that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadEntry {
    /// Number of its last event.
    number: u64,
    /// Hash of its batch, to tell it from another entry with the same number.
    fingerprint: u64,
}

/// A partition that is behind.
struct Behind {
    partition: Partition,
    from: u64,
    read_ahead: Arc<ReadAhead>,
}

impl LogReader {
    /// Starts a reader that runs until `end` is cancelled.
    pub(crate) fn start(redis: &Redis, shard: Shard, member: &str, end: CancellationToken) -> Self {
        let reader = Self {
            redis: redis.clone(),
            wake: shard.wake(member),
            shard,
            subscriptions: Arc::default(),
            changed: Arc::default(),
            timer_set: Arc::default(),
            compared: Arc::default(),
            has_missed: Arc::default(),
        };
        let running = reader.clone();
        redis.shutdown.spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = running.run() => {}
            }
        });
        reader
    }

    /// Subscribes to a partition's events behind this number.
    pub(crate) fn add(&self, partition: Partition, from: u64) -> PartitionFeed {
        let (subscription, feed) = Subscription::new(from, self.changed.clone());
        self.subscriptions().insert(partition, subscription);
        self.changed.notify_one();
        feed
    }

    /// Ends a subscription.
    pub(crate) fn remove(&self, partition: Partition) {
        self.subscriptions().remove(&partition);
    }

    /// Finds partitions whose hints were lost: those that have not read now what the call before has found in Redis. The shard has
    /// accepted this number of events.
    pub(crate) async fn find_missed(&self, tail: u64) {
        let missed = self
            .subscriptions()
            .values_mut()
            .map(Subscription::note_missed)
            .filter(|is_missed| *is_missed)
            .count();
        if missed > 0 {
            debug!(
                shard = self.shard.number,
                partitions = missed,
                "hints of new events were lost"
            );
            self.has_missed.store(true, Ordering::Relaxed);
            self.changed.notify_one();
        }
        if self.compared.swap(tail, Ordering::Relaxed) == tail {
            return;
        }
        let partitions: Vec<Partition> = self.subscriptions().keys().copied().collect();
        if partitions.is_empty() {
            return;
        }
        let mut numbers = redis::cmd("HMGET");
        numbers.arg(&self.shard.key("in")[..]);
        for partition in &partitions {
            numbers.arg(partition.to_string());
        }
        let numbers: Vec<Option<u64>> = self.redis.link.ask(&numbers).await;
        let mut subscriptions = self.subscriptions();
        for (partition, number) in partitions.iter().zip(numbers) {
            if let (Some(subscription), Some(number)) = (subscriptions.get_mut(partition), number) {
                subscription.expect(number);
            }
        }
    }

    fn subscriptions(&self) -> MutexGuard<'_, HashMap<Partition, Subscription>> {
        self.subscriptions
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    async fn run(self) {
        let link = Link::for_waiting(self.redis.server.clone());
        let mut connections = self.connections(&link);
        let (mut cursor, mut kept) = (EntryId::default(), 0);
        let mut reading = pin!(self.hints(&link, cursor, false));
        loop {
            let hints = tokio::select! {
                hints = &mut reading => Some(hints),
                () = self.changed.notified() => None,
            };
            if let Some(hints) = hints {
                cursor = hints.last().map_or(cursor, |last| last.id);
                if self.has_missed.swap(false, Ordering::Relaxed) {
                    cursor = EntryId::default();
                }
                kept += hints.len();
                let deletes = kept >= KEPT_HINTS;
                if deletes {
                    kept = 0;
                }
                reading.set(self.hints(&link, cursor, deletes));
                if !self.ends_by_loss(&link, &mut connections).await {
                    self.take(&hints);
                }
            }
            self.catch_up(&link, &mut connections).await;
        }
    }

    /// Reads the hints behind the cursor, and may delete those before; none after a second without any. With a configured durability only
    /// confirmed ones are returned: after a failover another event could get the same number, and a commit of the first would count for it.
    async fn hints(&self, link: &Link, cursor: EntryId, deletes: bool) -> Vec<Entry> {
        let mut delete = Vec::new();
        if deletes {
            let mut hints = redis::cmd("XTRIM");
            hints.arg(&self.wake[..]).arg("MINID").arg(cursor.next().to_string());
            delete.push(hints);
        }
        let streams = [(self.wake.clone(), cursor)];
        let found = match &self.redis.durability {
            None => read_between(link, delete, HINTS, &streams, &[], |_| true).await,
            Some(durability) => {
                let following = durability.commands(&self.shard);
                read_between(link, delete, HINTS, &streams, &following, |confirmation| {
                    durability.is_met(confirmation)
                })
                .await
            }
        };
        found.into_iter().flat_map(|(_, entries)| entries).collect()
    }

    fn take(&self, hints: &[Entry]) {
        if hints.iter().any(|hint| hint.get(TIMER_SET).is_some()) {
            self.timer_set.notify_one();
        }
        let mut subscriptions = self.subscriptions();
        let fields = hints.iter().flat_map(|hint| &hint.fields);
        for hint in fields.filter_map(|(name, value)| Hint::of(name, value)) {
            if let Some(subscription) = subscriptions.get_mut(&hint.partition) {
                subscription.take_hint(&hint);
            }
        }
    }

    /// Reads the logs of partitions that are behind.
    async fn catch_up(&self, link: &Link, connections: &mut (u64, u64)) {
        loop {
            let behind = self.behind();
            if behind.is_empty() {
                return;
            }
            let (mut keys, mut arguments) = (vec![self.shard.key("in")], vec![bytes_of(BYTES)]);
            for Behind { partition, from, .. } in &behind {
                keys.push(self.shard.log(*partition));
                arguments.extend([bytes_of(partition), bytes_of(from)]);
            }
            let found: Vec<(u64, u8, Value)> = self
                .redis
                .change(&self.shard, &scripts::READ_LOGS, &keys, &arguments)
                .await;
            if self.ends_by_loss(link, connections).await {
                return;
            }
            for (behind, (accepted, is_all, found)) in behind.iter().zip(found) {
                // All that was read is sent, also to a partition that becomes full: no event is left out, and none is read twice.
                for entry in entries(found) {
                    match readable(&entry, behind.partition, accepted) {
                        Ok((batch, read)) => self.update(behind, |subscription| subscription.send(read, batch)),
                        Err(reason) => self.dead_letter(behind.partition, &entry, &reason).await,
                    }
                }
                if is_all == 1 {
                    self.update(behind, |subscription| subscription.has_read_to(accepted));
                }
            }
        }
    }

    fn behind(&self) -> Vec<Behind> {
        let subscriptions = self.subscriptions();
        let behind = subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.is_to_catch_up());
        behind
            .map(|(partition, subscription)| Behind {
                partition: *partition,
                from: subscription.from,
                read_ahead: subscription.read_ahead.clone(),
            })
            .collect()
    }

    /// Updates a subscription, unless it has ended and perhaps another one took its place.
    fn update(&self, behind: &Behind, update: impl FnOnce(&mut Subscription)) {
        let mut subscriptions = self.subscriptions();
        let subscription = subscriptions.get_mut(&behind.partition);
        if let Some(subscription) = subscription.filter(|one| Arc::ptr_eq(&one.read_ahead, &behind.read_ahead)) {
            update(subscription);
        }
    }

    /// Number of connections so far, over which hints and logs were read.
    fn connections(&self, link: &Link) -> (u64, u64) {
        (link.connections(), self.redis.link.connections())
    }

    /// Behind a new connection, checks whether the server has lost entries that were read. If so, ends all subscriptions.
    async fn ends_by_loss(&self, link: &Link, connections: &mut (u64, u64)) -> bool {
        let present = self.connections(link);
        if *connections == present {
            return false;
        }
        let last = |(partition, one): (&Partition, &Subscription)| Some((*partition, one.last?));
        let read: Vec<(Partition, ReadEntry)> = self.subscriptions().iter().filter_map(last).collect();
        let lost = self.first_lost(&read).await;
        *connections = present;
        let Some((partition, ReadEntry { number, .. })) = lost else {
            return false;
        };
        warn!(
            shard = self.shard.number,
            %partition,
            "events are missing: the log no longer has entry {number}, which was read before"
        );
        self.redis.report_missing_writes(&self.shard);
        // Their leases end as lost, and the next ones start from the progress in Redis.
        self.subscriptions().clear();
        true
    }

    /// The first of these entries that the server has lost. Other events then get, or have got, its numbers.
    async fn first_lost(&self, read: &[(Partition, ReadEntry)]) -> Option<(Partition, ReadEntry)> {
        for checked in read.chunks(CHECKED) {
            let mut questions = redis::pipe();
            for (partition, last) in checked {
                let log = self.shard.log(*partition);
                questions.cmd("XRANGE").arg(&log[..]).arg(last.number).arg(last.number);
            }
            for name in ["in", "done"] {
                let partitions: Vec<String> = checked.iter().map(|(partition, _)| partition.to_string()).collect();
                questions.cmd("HMGET").arg(&self.shard.key(name)[..]).arg(partitions);
            }
            let mut found = self.redis.link.ask_all(&questions).await;
            let mut counts = || {
                let counts = found.pop().map(redis::from_redis_value::<Vec<Option<String>>>);
                counts.and_then(Result::ok).unwrap_or_default()
            };
            let (done, accepted) = (counts(), counts());
            for (((one, found), done), accepted) in checked.iter().zip(found).zip(done).zip(accepted) {
                let (_, last) = one;
                let entry = entries(found).into_iter().next();
                if entry.is_some_and(|entry| entry.get("b").map(fingerprint) == Some(last.fingerprint)) {
                    continue;
                }
                // A trimmed entry is not lost: only committed events are trimmed.
                let is_from = |number: Option<u64>| number.is_some_and(|number| number >= last.number);
                let is_trimmed = is_from(done.and_then(|done| done.split(' ').nth(1)?.parse().ok()));
                if !is_trimmed || !is_from(accepted.and_then(|accepted| accepted.parse().ok())) {
                    return Some(*one);
                }
            }
        }
        None
    }

    /// Moves an entry that is no batch of events to the dead letters.
    async fn dead_letter(&self, partition: Partition, entry: &Entry, reason: &str) {
        let id = EventId {
            partition,
            sequence: entry.id.major,
        };
        warn!(messaging.message.id = %id, entry = %entry.id, %reason, "unreadable event stored as a dead letter; see `plugnode dead list`");
        metrics::DEAD_LETTERS.increment();
        let content = entry.get("b").or(entry.fields.first().map(|(_, value)| value));
        let content = content.cloned().unwrap_or_default();
        let letter = foreign_letter(id, content.clone(), reason);
        let keys = [self.shard.log(partition), self.shard.key("dead")];
        let arguments = [bytes_of(entry.id), encode(&letter), content];
        self.redis
            .link
            .run::<()>(&scripts::DEAD_LETTER, &keys, &arguments)
            .await;
        dead_letters::trim(&self.redis, &self.shard).await;
    }
}

/// The events of an entry in the log of a partition that has accepted this number of events; or the reason why it is no such entry.
fn readable(entry: &Entry, partition: Partition, accepted: u64) -> Result<(Batch, ReadEntry), String> {
    if entry.id.minor != 0 || entry.id.major > accepted {
        return Err(format!("its id {} was not given out by plugnode", entry.id));
    }
    let value = entry.get("b").ok_or("it has no field `b`")?;
    let batch = batch::read(value)?;
    if batch.events.iter().any(|(other, _)| *other != partition) {
        return Err("it has events of another partition".into());
    }
    let read = ReadEntry {
        number: entry.id.major,
        fingerprint: fingerprint(value),
    };
    Ok((batch, read))
}

fn fingerprint(batch: &Bytes) -> u64 {
    xxh3_64(batch)
}

#[cfg(test)]
mod tests;

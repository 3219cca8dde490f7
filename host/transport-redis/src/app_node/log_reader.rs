//! Reads a shard's log for the partitions that an app-node leases, over one blocking connection.
//!
//! A new partition catches up first: the log is read again for it, from its previous owner's progress. So does one that was
//! paused because its events were not taken in time. An entry in the app-node's own wake-up stream ends the blocking read when a
//! partition has to catch up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use crate::app_node::log_event::{LogEvent, ReadEvents, foreign_letter};
use crate::arguments::bytes_of;
use crate::batch::{self, Batch};
use crate::client::link::Link;
use crate::keys::Shard;
use crate::redis::Redis;
use crate::stream::{Entry, EntryId, Page, ReadCount, first_from, read, read_between};
use crate::wire::encode;
use crate::{dead_letters, scripts};
use plugnode_message::{EventId, Partition};
use plugnode_process::metrics;
use plugnode_transport::Load;

/// Maximum number of entries in one read; each is a batch of events.
const ENTRIES: usize = 16;
/// Approximate size of one read during catch-up, in bytes.
const BYTES: usize = 4 << 20;
/// Read-ahead at which a partition is paused.
const PAUSE_AT: Load = Load {
    events: 2_048,
    bytes: 4 << 20,
};
/// Read-ahead at which a paused partition resumes.
const RESUME_AT: Load = Load {
    events: 512,
    bytes: 1 << 20,
};
/// TTL of the wake-up stream, in case the app-node dies.
const WAKE_SECONDS: u64 = 60;

/// Reads one shard for one app-node. Clones share their state.
#[derive(Clone)]
pub(crate) struct LogReader {
    redis: Redis,
    shard: Shard,
    wake: Bytes,
    /// Number of the last event that was read.
    cursor: Arc<AtomicU64>,
    subscriptions: Arc<Mutex<HashMap<Partition, Subscription>>>,
}

/// A partition that is read.
struct Subscription {
    /// Number of the last event that was sent or is not wanted.
    from: u64,
    /// Whether the reader's cursor has passed events of it that were not sent.
    is_behind: bool,
    sender: mpsc::UnboundedSender<ReadEvents>,
    read_ahead: Arc<ReadAhead>,
}

/// Events of a partition that are read and not taken.
#[derive(Default)]
struct ReadAhead {
    events: AtomicUsize,
    bytes: AtomicUsize,
    is_paused: AtomicBool,
}

/// Receiver of a partition's events.
pub(crate) struct PartitionFeed {
    reader: LogReader,
    receiver: mpsc::UnboundedReceiver<ReadEvents>,
    read_ahead: Arc<ReadAhead>,
}

impl LogReader {
    /// Starts a reader that runs until `end` is cancelled.
    pub(crate) fn start(redis: &Redis, shard: Shard, member: &str, end: CancellationToken) -> Self {
        let reader = Self {
            redis: redis.clone(),
            wake: shard.wake(member),
            shard,
            cursor: Arc::default(),
            subscriptions: Arc::default(),
        };
        redis.shutdown.spawn(reader.clone().run(end));
        reader
    }

    /// Subscribes to a partition's events behind this number.
    pub(crate) async fn add(&self, partition: Partition, from: u64) -> PartitionFeed {
        let feed = self.subscribe(partition, from);
        self.wake().await;
        feed
    }

    fn subscribe(&self, partition: Partition, from: u64) -> PartitionFeed {
        let (sender, receiver) = mpsc::unbounded_channel();
        let read_ahead = Arc::<ReadAhead>::default();
        let subscription = Subscription {
            from,
            is_behind: true,
            sender,
            read_ahead: read_ahead.clone(),
        };
        self.subscriptions().insert(partition, subscription);
        PartitionFeed {
            reader: self.clone(),
            receiver,
            read_ahead,
        }
    }

    /// Sends the cursor to a partition's feed, even without events.
    pub(crate) fn send_cursor(&self, partition: Partition) {
        let subscriptions = self.subscriptions();
        // Events are sent under the same lock, so none is skipped.
        if let Some(subscription) = subscriptions.get(&partition).filter(|one| !one.is_behind) {
            let (events, up_to) = (Vec::new(), self.cursor());
            let _ = subscription.sender.send(ReadEvents { events, up_to });
        }
    }

    /// Number of the last event that was read.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Relaxed)
    }

    /// Ends a subscription.
    pub(crate) fn remove(&self, partition: Partition) {
        self.subscriptions().remove(&partition);
    }

    fn subscriptions(&self) -> MutexGuard<'_, HashMap<Partition, Subscription>> {
        self.subscriptions
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    async fn wake(&self) {
        let mut wake = redis::pipe();
        wake.cmd("XADD")
            .arg(&self.wake[..])
            .arg("MAXLEN")
            .arg(1)
            .arg("*")
            .arg("w")
            .arg(1);
        wake.cmd("EXPIRE").arg(&self.wake[..]).arg(WAKE_SECONDS);
        self.redis.link.ask_all(&wake).await;
    }

    async fn run(self, end: CancellationToken) {
        let link = Link::for_waiting(self.redis.server.clone());
        let log = self.shard.key("log");
        let mut connections = link.connections();
        let mut woken = EntryId::default();
        let mut read_count = ReadCount::at_most(ENTRIES);
        // Position in the log and the fingerprint of the entry there; none before the first subscription.
        let mut last = None;
        let mut last_fingerprint = None;
        while !end.is_cancelled() {
            self.catch_up(&log, &mut last).await;
            let mut streams = vec![(self.wake.clone(), woken)];
            streams.extend(last.map(|last| (log.clone(), last)));
            let news = tokio::select! {
                () = end.cancelled() => return,
                news = self.read(&link, read_count.entries(), &streams) => news,
            };
            if link.connections() != connections {
                connections = link.connections();
                if self.has_lost(&log, last, last_fingerprint).await {
                    (last, last_fingerprint) = (None, None);
                    self.cursor.store(0, Ordering::Relaxed);
                    // Their leases end as lost, and the next ones start from the progress in Redis.
                    self.subscriptions().clear();
                    continue;
                }
            }
            for (key, entries) in news {
                let Some(newest) = entries.last().map(|entry| entry.id) else {
                    continue;
                };
                if key == self.wake {
                    woken = newest;
                    continue;
                }
                read_count.observe(entries.iter());
                last = Some(newest);
                last_fingerprint = entries.last().map(fingerprint);
                for entry in entries {
                    self.take(&entry, |_, subscription| !subscription.is_behind).await;
                    self.cursor.store(entry.id.major, Ordering::Relaxed);
                }
            }
        }
    }

    /// Reads the entries behind these ids. With a configured durability only confirmed entries are returned: after a failover
    /// another event could get the same number, and a commit of the first would count for it.
    async fn read(&self, link: &Link, count: usize, streams: &[(Bytes, EntryId)]) -> Vec<(Bytes, Vec<Entry>)> {
        let Some(durability) = &self.redis.durability else {
            return read(link, count, streams).await;
        };
        let following = durability.commands(&self.shard);
        read_between(link, Vec::new(), count, streams, &following, |confirmation| {
            durability.is_met(confirmation)
        })
        .await
    }

    /// Reads the log again for partitions that are behind the cursor.
    async fn catch_up(&self, log: &Bytes, last: &mut Option<EntryId>) {
        loop {
            let (mut behind, mut from) = (HashMap::new(), u64::MAX);
            for (partition, subscription) in self.subscriptions().iter() {
                if subscription.is_behind && subscription.read_ahead.wants_more() {
                    behind.insert(*partition, subscription.read_ahead.clone());
                    from = from.min(subscription.from);
                }
            }
            if behind.is_empty() {
                return;
            }
            let up_to = *last.get_or_insert(EntryId { major: from, minor: 0 });
            let mut next = EntryId { major: from, minor: 1 };
            while next <= up_to && !behind.is_empty() {
                let page = Page {
                    from: next,
                    entries: ENTRIES,
                    bytes: BYTES,
                };
                let found = page.read(&self.redis.link, log).await;
                let Some(newest) = found.last().map(|entry| entry.id) else {
                    break;
                };
                for entry in found.iter().filter(|entry| entry.id <= up_to) {
                    self.take(entry, |partition, subscription| subscription.is_in(&behind, partition))
                        .await;
                    // A full partition must not receive later events while it misses earlier ones.
                    behind.retain(|_, read_ahead| !read_ahead.is_full());
                }
                next = newest.next();
            }
            for (partition, subscription) in self.subscriptions().iter_mut() {
                subscription.is_behind &= !subscription.is_in(&behind, *partition);
            }
        }
    }

    /// Sends the events of an entry to the matching subscriptions. An entry that is no batch becomes a dead letter.
    async fn take(&self, entry: &Entry, matches: impl Fn(Partition, &Subscription) -> bool) {
        let batch = entry.get("b").ok_or("it has no field `b`");
        let batch = match batch.and_then(batch::read).map_err(str::to_owned) {
            Ok(_) if entry.id.minor != 0 => Err(format!("its id {} was not given out by plugnode", entry.id)),
            read => read,
        };
        match batch {
            Ok(batch) => self.send(entry.id.major, batch, matches),
            Err(reason) => self.dead_letter(entry, reason).await,
        }
    }

    /// Sends the events of a batch, whose last event has this number.
    fn send(&self, last: u64, batch: Batch, matches: impl Fn(Partition, &Subscription) -> bool) {
        let Batch { version, events } = batch;
        let first = (last + 1).saturating_sub(events.len() as u64);
        let mut subscriptions = self.subscriptions();
        // None for partitions without a matching subscription.
        let mut by_partition: HashMap<Partition, Option<Vec<LogEvent>>> = HashMap::new();
        for (number, (partition, event)) in (first..).zip(events) {
            let events = by_partition.entry(partition).or_insert_with(|| {
                let subscription = subscriptions.get(&partition)?;
                matches(partition, subscription).then(Vec::new)
            });
            if let Some(events) = events {
                events.push(LogEvent::new(number, version, event));
            }
        }
        for (partition, events) in by_partition {
            let (Some(subscription), Some(mut events)) = (subscriptions.get_mut(&partition), events) else {
                continue;
            };
            events.retain(|event| event.number > subscription.from);
            let Some(newest) = events.last() else { continue };
            let up_to = newest.number;
            subscription.from = up_to;
            subscription.is_behind |= subscription.read_ahead.add(&events);
            // Fails if the feed was dropped; the partition is then removed soon.
            let _ = subscription.sender.send(ReadEvents { events, up_to });
        }
    }

    /// Whether the server behind a new connection has lost the last entry. Other events then get, or have got, its numbers.
    async fn has_lost(&self, log: &[u8], last: Option<EntryId>, last_fingerprint: Option<u64>) -> bool {
        let (Some(last), Some(last_fingerprint)) = (last, last_fingerprint) else {
            return false;
        };
        let found = first_from(&self.redis.link, log, last).await;
        if found
            .as_ref()
            .is_some_and(|entry| entry.id == last && fingerprint(entry) == last_fingerprint)
        {
            return false;
        }
        // A trimmed entry is not lost: only committed events are trimmed.
        let mut floor = redis::cmd("HGET");
        floor.arg(&self.shard.key("in")[..]).arg("floor");
        let floor: Option<u64> = self.redis.link.ask(&floor).await;
        if floor.is_some_and(|floor| floor >= last.major) {
            return false;
        }
        warn!(
            shard = self.shard.number,
            "events are missing: the log no longer has entry {last}, which was read before"
        );
        self.redis.report_missing_writes(&self.shard);
        true
    }

    /// Moves an entry that is no batch of events to the dead letters.
    async fn dead_letter(&self, entry: &Entry, reason: String) {
        // Its partition is unknown, so any one of the shard stands in the id.
        let id = EventId {
            partition: Partition(self.shard.number),
            sequence: entry.id.major,
        };
        warn!(messaging.message.id = %id, entry = %entry.id, %reason, "event put aside");
        metrics::DEAD_LETTERS.increment();
        let content = entry.get("b").or(entry.fields.first().map(|(_, value)| value));
        let content = content.cloned().unwrap_or_default();
        let letter = foreign_letter(id, content.clone(), &reason);
        let keys = ["log", "dead", "in"].map(|name| self.shard.key(name));
        let arguments = [bytes_of(entry.id), encode(&letter), content];
        self.redis
            .link
            .run::<()>(&scripts::DEAD_LETTER, &keys, &arguments)
            .await;
        dead_letters::trim(&self.redis, &self.shard).await;
    }
}

impl PartitionFeed {
    /// Returns the next events; none after the subscription has ended. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<ReadEvents> {
        let read = self.receiver.recv().await?;
        self.read_ahead.take(&read.events);
        if self.read_ahead.may_resume() && self.read_ahead.is_paused.swap(false, Ordering::AcqRel) {
            let reader = self.reader.clone();
            self.reader.redis.shutdown.spawn(async move { reader.wake().await });
        }
        Some(read)
    }
}

/// Hash of an entry's values, to tell it from another entry with the same id.
fn fingerprint(entry: &Entry) -> u64 {
    let values = entry.fields.iter().map(|(_, value)| xxh3_64(value));
    values.fold(0, |hash, value| hash.rotate_left(1) ^ value)
}

impl Subscription {
    /// Whether it is one of these, and not a later subscription to the same partition.
    fn is_in(&self, these: &HashMap<Partition, Arc<ReadAhead>>, partition: Partition) -> bool {
        these
            .get(&partition)
            .is_some_and(|read_ahead| Arc::ptr_eq(read_ahead, &self.read_ahead))
    }
}

impl ReadAhead {
    /// Adds events, and returns whether the partition must pause.
    fn add(&self, events: &[LogEvent]) -> bool {
        self.events.fetch_add(events.len(), Ordering::AcqRel);
        self.bytes.fetch_add(bytes_in(events), Ordering::AcqRel);
        self.is_full()
    }

    fn take(&self, events: &[LogEvent]) {
        self.events.fetch_sub(events.len(), Ordering::AcqRel);
        self.bytes.fetch_sub(bytes_in(events), Ordering::AcqRel);
    }

    fn is_full(&self) -> bool {
        self.events.load(Ordering::Acquire) >= PAUSE_AT.events || self.bytes.load(Ordering::Acquire) >= PAUSE_AT.bytes
    }

    fn may_resume(&self) -> bool {
        self.events.load(Ordering::Acquire) <= RESUME_AT.events && self.bytes.load(Ordering::Acquire) <= RESUME_AT.bytes
    }

    /// Whether more events may be read. If not, the feed wakes the reader once it may resume.
    fn wants_more(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        self.is_paused.store(true, Ordering::Release);
        // The feed may have taken events before the flag was set, and would not wake the reader then.
        self.may_resume() && self.is_paused.swap(false, Ordering::AcqRel)
    }
}

fn bytes_in(events: &[LogEvent]) -> usize {
    events.iter().map(|event| event.bytes).sum()
}

#[cfg(test)]
mod tests;

//! Reads a shard's log for the partitions that an app-node owns, by one connection that waits for news.
//!
//! A partition that comes is caught up first: the log is read again for it, from where its owner before was. So is one that was
//! left out because it was behind with handling. A stream of the node's own is read, too: an entry there ends the
//! wait when there is something to catch up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use super::batch::Batch;
use super::connection::Link;
use super::keys::Shard;
use super::stream::{Entry, EntryId, Helping, Page, first_from, read, read_between};
use super::wire::{Content, Letter, Unread, decode, encode};
use super::{Redis, batch, bytes_of, dead, scripts};
use plugnode_message::{Event, EventId, Partition, now_ms};
use plugnode_process::metrics;
use plugnode_transport::Death;
use plugnode_transport::Load;

/// How many entries are read at once; each is a batch of events.
const ENTRIES: usize = 16;
/// Bytes that are read again at once, about.
const BYTES: usize = 4 << 20;
/// A partition that has so much read and not taken is left out,
const BEHIND: Load = Load {
    events: 2_048,
    bytes: 4 << 20,
};
/// until it has no more than this.
const CAUGHT_UP: Load = Load {
    events: 512,
    bytes: 1 << 20,
};
/// How long what wakes a reader is kept, should the node die.
const WAKE_SECONDS: u64 = 60;

/// Reads one shard for one app-node. Clones are the same reader.
#[derive(Clone)]
pub(super) struct Reader {
    redis: Redis,
    shard: Shard,
    wake: Bytes,
    /// The number up to which the log was read.
    at: Arc<AtomicU64>,
    sources: Arc<Mutex<HashMap<Partition, Source>>>,
}

/// An event as it was found in the log.
pub(super) struct Found {
    pub(super) number: u64,
    /// Its bytes in the log.
    pub(super) bytes: usize,
    /// The event, or what stands there instead and why it cannot be read.
    pub(super) event: Result<Arc<Event>, (Bytes, Unread)>,
}

impl Found {
    /// An event that stands in a batch of this version.
    pub(super) fn new(number: u64, version: u8, written: Bytes) -> Self {
        let bytes = written.len();
        let event = match version {
            batch::VERSION => decode::<Event>(&written),
            other => Err(Unread::Version(other)),
        };
        let event = event.map(Arc::new).map_err(|reason| (written, reason));
        Self { number, bytes, event }
    }
}

/// Some events of a partition.
pub(super) struct Read {
    pub(super) found: Vec<Found>,
    /// There are no others that were not given before, up to this number.
    pub(super) up_to: u64,
}

/// A partition that is read.
struct Source {
    /// Its events up to this number were given or are not wanted.
    from: u64,
    /// Whether there are events of it in what was read already.
    lags: bool,
    given: mpsc::UnboundedSender<Read>,
    stock: Arc<Stock>,
}

/// How much of a partition is read and not taken.
#[derive(Default)]
struct Stock {
    events: AtomicUsize,
    bytes: AtomicUsize,
    is_left_out: AtomicBool,
}

/// The events of a partition, as they are read.
pub(super) struct Tap {
    reader: Reader,
    given: mpsc::UnboundedReceiver<Read>,
    stock: Arc<Stock>,
}

impl Reader {
    /// Reads until `end`.
    pub(super) fn start(redis: &Redis, shard: Shard, member: &str, end: CancellationToken) -> Self {
        let reader = Self {
            redis: redis.clone(),
            wake: shard.wake(member),
            shard,
            at: Arc::default(),
            sources: Arc::default(),
        };
        redis.shutdown.spawn(reader.clone().run(end));
        reader
    }

    /// Begins to read a partition, behind this number.
    pub(super) async fn add(&self, partition: Partition, from: u64) -> Tap {
        let tap = self.put_in(partition, from);
        self.wake().await;
        tap
    }

    fn put_in(&self, partition: Partition, from: u64) -> Tap {
        let (sender, given) = mpsc::unbounded_channel();
        let stock = Arc::<Stock>::default();
        let source = Source {
            from,
            lags: true,
            given: sender,
            stock: stock.clone(),
        };
        self.sources().insert(partition, source);
        Tap {
            reader: self.clone(),
            given,
            stock,
        }
    }

    /// Tells a partition's tap how far the log was read, though there was nothing for it.
    pub(super) fn mark(&self, partition: Partition) {
        let sources = self.sources();
        // What is read meanwhile is given under the same lock.
        if let Some(source) = sources.get(&partition).filter(|source| !source.lags) {
            let (found, up_to) = (Vec::new(), self.at());
            let _ = source.given.send(Read { found, up_to });
        }
    }

    /// The number up to which the log was read.
    pub(super) fn at(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    /// Reads a partition no longer.
    pub(super) fn remove(&self, partition: Partition) {
        self.sources().remove(&partition);
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<Partition, Source>> {
        self.sources.lock().expect("nothing panics while it holds this lock")
    }

    async fn wake(&self) {
        let mut wake = ::redis::pipe();
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
        let mut helping = Helping::of_at_most(ENTRIES);
        // Where this reader is in the log, once there is anything to read it for, and what it found there.
        let mut last = None;
        let mut there = None;
        while !end.is_cancelled() {
            self.catch_up(&log, &mut last).await;
            let mut streams = vec![(self.wake.clone(), woken)];
            streams.extend(last.map(|last| (log.clone(), last)));
            let news = tokio::select! {
                () = end.cancelled() => return,
                news = self.news(&link, helping.entries(), &streams) => news,
            };
            if link.connections() != connections {
                connections = link.connections();
                if self.has_forgotten(&log, last, there).await {
                    (last, there) = (None, None);
                    self.at.store(0, Ordering::Relaxed);
                    // Whoever has one of these is told that it is lost, and begins anew from what Redis knows.
                    self.sources().clear();
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
                helping.was(entries.iter());
                last = Some(newest);
                there = entries.last().map(print);
                for entry in entries {
                    self.take(&entry, |_, source| !source.lags).await;
                    self.at.store(entry.id.major, Ordering::Relaxed);
                }
            }
        }
    }

    /// What came behind these places, as far as it is safe: an event whose number another may have after a failover is not handed
    /// out, for what is committed of it would be said of that other.
    async fn news(&self, link: &Link, count: usize, streams: &[(Bytes, EntryId)]) -> Vec<(Bytes, Vec<Entry>)> {
        let Some(durability) = &self.redis.durability else {
            return read(link, count, streams).await;
        };
        let following = durability.commands(&self.shard);
        read_between(link, Vec::new(), count, streams, &following, |safe| {
            durability.is_met(safe)
        })
        .await
    }

    /// Reads the log again for partitions that have not had all of what was read.
    async fn catch_up(&self, log: &Bytes, last: &mut Option<EntryId>) {
        loop {
            let (mut lagging, mut from) = (HashMap::new(), u64::MAX);
            for (partition, source) in self.sources().iter() {
                if source.lags && source.stock.wants_more() {
                    lagging.insert(*partition, source.stock.clone());
                    from = from.min(source.from);
                }
            }
            if lagging.is_empty() {
                return;
            }
            let up_to = *last.get_or_insert(EntryId { major: from, minor: 0 });
            let mut next = EntryId { major: from, minor: 1 };
            while next <= up_to && !lagging.is_empty() {
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
                    self.take(entry, |partition, source| source.is_in(&lagging, partition))
                        .await;
                    // One that has enough for now is not to have what is behind without what is between.
                    lagging.retain(|_, stock| !stock.is_full());
                }
                next = newest.next();
            }
            for (partition, source) in self.sources().iter_mut() {
                source.lags &= !source.is_in(&lagging, *partition);
            }
        }
    }

    /// Gives an entry's events to whoever has their partitions, of those meant, and puts aside what is no batch of events.
    async fn take(&self, entry: &Entry, is_meant: impl Fn(Partition, &Source) -> bool) {
        let batch = entry.get("b").ok_or("it has no field `b`");
        let batch = match batch.and_then(batch::read).map_err(str::to_owned) {
            Ok(_) if entry.id.minor != 0 => Err(format!("its id {} was not given out by plugnode", entry.id)),
            read => read,
        };
        match batch {
            Ok(batch) => self.give(entry.id.major, batch, is_meant),
            Err(reason) => self.condemn(entry, reason).await,
        }
    }

    /// Gives out a batch, whose last event has this number.
    fn give(&self, last: u64, batch: Batch, is_meant: impl Fn(Partition, &Source) -> bool) {
        let Batch { version, events } = batch;
        let first = (last + 1).saturating_sub(events.len() as u64);
        let mut sources = self.sources();
        // None for the partitions of others.
        let mut given: HashMap<Partition, Option<Vec<Found>>> = HashMap::new();
        for (number, (partition, event)) in (first..).zip(events) {
            let found = given.entry(partition).or_insert_with(|| {
                let source = sources.get(&partition)?;
                is_meant(partition, source).then(Vec::new)
            });
            if let Some(found) = found {
                found.push(Found::new(number, version, event));
            }
        }
        for (partition, found) in given {
            let (Some(source), Some(mut found)) = (sources.get_mut(&partition), found) else {
                continue;
            };
            found.retain(|found| found.number > source.from);
            let Some(newest) = found.last() else { continue };
            let up_to = newest.number;
            source.from = up_to;
            source.lags |= source.stock.add(&found);
            // Whoever has dropped the other end is about to have the partition removed.
            let _ = source.given.send(Read { found, up_to });
        }
    }

    /// Whether the server at the other end of a new connection has lost what was read: then other events have the same numbers by
    /// now, or will have.
    async fn has_forgotten(&self, log: &[u8], last: Option<EntryId>, there: Option<u64>) -> bool {
        let (Some(last), Some(there)) = (last, there) else {
            return false;
        };
        let found = first_from(&self.redis.link, log, last).await;
        if found
            .as_ref()
            .is_some_and(|entry| entry.id == last && print(entry) == there)
        {
            return false;
        }
        // It may have been trimmed, which is done with no more than what everybody has read.
        let mut floor = ::redis::cmd("HGET");
        floor.arg(&self.shard.key("in")[..]).arg("floor");
        let floor: Option<u64> = self.redis.link.ask(&floor).await;
        if floor.is_some_and(|floor| floor >= last.major) {
            return false;
        }
        warn!(
            shard = self.shard.number,
            "events are missing: what was number {last} is not there any more"
        );
        self.redis.misses_writes(&self.shard);
        true
    }

    async fn condemn(&self, entry: &Entry, reason: String) {
        // Which partition it was meant for nobody knows.
        let id = EventId {
            partition: Partition(self.shard.number),
            sequence: entry.id.major,
        };
        warn!(messaging.message.id = %id, entry = %entry.id, "put aside: {reason}");
        metrics::DEAD_LETTERS.increment();
        let content = entry.get("b").or(entry.fields.first().map(|(_, value)| value));
        let content = content.cloned().unwrap_or_default();
        let letter = foreign(id, content.clone(), &reason);
        let keys = ["log", "dead", "in"].map(|name| self.shard.key(name));
        let arguments = [bytes_of(entry.id), encode(&letter), content];
        self.redis.link.run::<()>(&scripts::CONDEMN, &keys, &arguments).await;
        dead::trim(&self.redis, &self.shard).await;
    }
}

impl Tap {
    /// The next events. Cancel safe. None when the partition is read no longer.
    pub(super) async fn next(&mut self) -> Option<Read> {
        let read = self.given.recv().await?;
        self.stock.take(&read.found);
        if self.stock.has_caught_up() && self.stock.is_left_out.swap(false, Ordering::AcqRel) {
            let reader = self.reader.clone();
            self.reader.redis.shutdown.spawn(async move { reader.wake().await });
        }
        Some(read)
    }
}

/// Tells an entry from others of the same id.
fn print(entry: &Entry) -> u64 {
    let values = entry.fields.iter().map(|(_, value)| xxh3_64(value));
    values.fold(0, |print, value| print.rotate_left(1) ^ value)
}

impl Source {
    /// Whether it is among these: one that went and came back is another.
    fn is_in(&self, these: &HashMap<Partition, Arc<Stock>>, partition: Partition) -> bool {
        these
            .get(&partition)
            .is_some_and(|stock| Arc::ptr_eq(stock, &self.stock))
    }
}

impl Stock {
    /// Puts events in, and says whether it is full.
    fn add(&self, found: &[Found]) -> bool {
        self.events.fetch_add(found.len(), Ordering::AcqRel);
        self.bytes.fetch_add(bytes_in(found), Ordering::AcqRel);
        self.is_full()
    }

    fn take(&self, found: &[Found]) {
        self.events.fetch_sub(found.len(), Ordering::AcqRel);
        self.bytes.fetch_sub(bytes_in(found), Ordering::AcqRel);
    }

    fn is_full(&self) -> bool {
        self.events.load(Ordering::Acquire) >= BEHIND.events || self.bytes.load(Ordering::Acquire) >= BEHIND.bytes
    }

    fn has_caught_up(&self) -> bool {
        self.events.load(Ordering::Acquire) <= CAUGHT_UP.events && self.bytes.load(Ordering::Acquire) <= CAUGHT_UP.bytes
    }

    /// Whether more is to be read. If not, whoever takes of it sees to it that reading goes on.
    fn wants_more(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        self.is_left_out.store(true, Ordering::Release);
        // It may have been taken between the look and the note, and then nobody would look at the note.
        self.has_caught_up() && self.is_left_out.swap(false, Ordering::AcqRel)
    }
}

fn bytes_in(found: &[Found]) -> usize {
    found.iter().map(|found| found.bytes).sum()
}

/// A letter on what stands in place of an event.
pub(super) fn foreign(id: EventId, content: Bytes, reason: &str) -> Letter {
    Letter {
        id,
        death: Death {
            reason: format!("not an event: {reason}"),
            attempts: 0,
            release: None,
            app: None,
        },
        died_at_ms: now_ms(),
        content: Content::Foreign(content),
    }
}

#[cfg(test)]
mod tests;

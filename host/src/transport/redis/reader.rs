//! Reads the logs of all partitions of a shard that an app-node owns, by one connection that waits for news of any.
//!
//! A partition that is behind with handling is left out until it has caught up. A stream of the node's own is among
//! those read: an entry there ends the wait when other partitions are to be read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connection::Link;
use super::keys::Shard;
use super::stream::{Entry, EntryId, read};
use super::wire::{Content, Letter, decode, encode};
use super::{Redis, bytes_of, scripts};
use crate::counts;
use crate::message::{Event, EventId, Partition, now_ms};
use crate::transport::{Death, Delivery};

/// How many entries are read of a partition at once.
const ENTRIES: usize = 256;
/// A partition that has so many events read and not taken is left out,
const BEHIND: usize = 2_048;
/// until it has no more than this.
const CAUGHT_UP: usize = 512;
/// How long what wakes a reader is kept, should the node die.
const WAKE_SECONDS: u64 = 60;

/// Reads one shard for one app-node. Clones are the same reader.
#[derive(Clone)]
pub(super) struct Reader {
    redis: Redis,
    shard: Shard,
    wake: Bytes,
    sources: Arc<Mutex<HashMap<Partition, Source>>>,
}

/// A partition that is read.
struct Source {
    last: EntryId,
    deliveries: mpsc::UnboundedSender<Vec<Delivery>>,
    stock: Arc<Stock>,
}

/// How much of a partition is read and not taken.
#[derive(Default)]
struct Stock {
    events: AtomicUsize,
    is_left_out: AtomicBool,
}

/// The events of a partition, as they are read.
pub(super) struct Tap {
    reader: Reader,
    deliveries: mpsc::UnboundedReceiver<Vec<Delivery>>,
    stock: Arc<Stock>,
}

impl Reader {
    /// Reads until `end`.
    pub(super) fn start(redis: &Redis, shard: Shard, member: &str, end: CancellationToken) -> Self {
        let reader = Self {
            redis: redis.clone(),
            wake: shard.wake(member),
            shard,
            sources: Arc::default(),
        };
        redis.shutdown.spawn(reader.clone().run(end));
        reader
    }

    /// Begins to read a partition, from its oldest open event on.
    pub(super) async fn add(&self, partition: Partition) -> Tap {
        let tap = self.put_in(partition);
        self.wake().await;
        tap
    }

    fn put_in(&self, partition: Partition) -> Tap {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let stock = Arc::<Stock>::default();
        let source = Source {
            last: EntryId::default(),
            deliveries: sender,
            stock: stock.clone(),
        };
        self.sources().insert(partition, source);
        Tap {
            reader: self.clone(),
            deliveries,
            stock,
        }
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
        let mut woken = EntryId::default();
        while !end.is_cancelled() {
            let mut streams = vec![(self.wake.clone(), woken)];
            let mut partitions = HashMap::new();
            for (partition, source) in self.sources().iter().filter(|(_, source)| source.stock.wants_more()) {
                let log = self.shard.log(*partition);
                partitions.insert(log.clone(), (*partition, source.stock.clone()));
                streams.push((log, source.last));
            }
            let news = tokio::select! {
                () = end.cancelled() => return,
                news = read(&link, ENTRIES, &streams) => news,
            };
            for (key, entries) in news {
                match partitions.get(&key) {
                    Some((partition, stock)) => self.take(*partition, stock, entries).await,
                    None => woken = entries.last().map_or(woken, |entry| entry.id),
                }
            }
        }
    }

    /// Gives what was read to whoever has the partition, and puts aside what is no event.
    async fn take(&self, partition: Partition, stock: &Arc<Stock>, entries: Vec<Entry>) {
        let mut foreign = Vec::new();
        let mut deliveries = Vec::with_capacity(entries.len());
        let newest = entries.last().map(|entry| entry.id);
        for entry in entries {
            match delivery(partition, &entry) {
                Ok(delivery) => deliveries.push(delivery),
                Err(reason) => foreign.push((entry, reason)),
            }
        }
        // A partition that went and came back while this was read is read anew: what is open of it from before is not here.
        if let (Some(newest), Some(source)) = (newest, self.sources().get_mut(&partition))
            && Arc::ptr_eq(&source.stock, stock)
        {
            source.last = newest;
            if !deliveries.is_empty() {
                source.stock.events.fetch_add(deliveries.len(), Ordering::AcqRel);
                // Whoever has dropped the other end is about to have the partition removed.
                let _ = source.deliveries.send(deliveries);
            }
        }
        for (entry, reason) in foreign {
            self.condemn(partition, entry, reason).await;
        }
    }

    async fn condemn(&self, partition: Partition, entry: Entry, reason: String) {
        let id = EventId {
            partition,
            sequence: entry.id.major,
        };
        warn!(messaging.message.id = %id, entry = %entry.id, "put aside: {reason}");
        counts::DEAD_LETTERS.one();
        let content = entry.get("e").or(entry.fields.first().map(|(_, value)| value));
        let letter = Letter {
            id,
            death: Death {
                reason: format!("not an event: {reason}"),
                attempts: 0,
                release: None,
            },
            died_at_ms: now_ms(),
            content: Content::Foreign(content.cloned().unwrap_or_default()),
        };
        let keys = [
            self.shard.log(partition),
            self.shard.key("dead"),
            self.shard.key("tail"),
        ];
        let arguments = [
            bytes_of(entry.id),
            encode(&letter),
            bytes_of(self.redis.settings.dead_letters),
            bytes_of(partition),
        ];
        self.redis.link.run::<()>(&scripts::CONDEMN, &keys, &arguments).await;
    }
}

impl Tap {
    /// The next events. Cancel safe. None when the partition is read no longer.
    pub(super) async fn next(&mut self) -> Option<Vec<Delivery>> {
        let deliveries = self.deliveries.recv().await?;
        let left = self.stock.events.fetch_sub(deliveries.len(), Ordering::AcqRel) - deliveries.len();
        if left <= CAUGHT_UP && self.stock.is_left_out.swap(false, Ordering::AcqRel) {
            let reader = self.reader.clone();
            self.reader.redis.shutdown.spawn(async move { reader.wake().await });
        }
        Some(deliveries)
    }
}

impl Stock {
    /// Whether more is to be read. If not, whoever takes of it sees to it that reading goes on.
    fn wants_more(&self) -> bool {
        if self.events.load(Ordering::Acquire) < BEHIND {
            return true;
        }
        self.is_left_out.store(true, Ordering::Release);
        // It may have been taken between the look and the note, and then nobody would look at the note.
        self.events.load(Ordering::Acquire) <= CAUGHT_UP && self.is_left_out.swap(false, Ordering::AcqRel)
    }
}

fn delivery(partition: Partition, entry: &Entry) -> Result<Delivery, String> {
    let written = entry.get("e").ok_or("it has no field `e`")?;
    if entry.id.minor != 0 {
        return Err(format!("its id {} was not given out by plugnode", entry.id));
    }
    let event = decode::<Event>(written)?;
    Ok(Delivery {
        id: EventId {
            partition,
            sequence: entry.id.major,
        },
        event: Arc::new(event),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::EventKind;

    #[tokio::test]
    async fn what_is_read_for_a_lease_is_not_taken_for_the_next() {
        let (redis, server) = Redis::for_test(1).await;
        let (shard, partition) = (redis.layout.shard(0), Partition(0));
        let write = async |number: u64| {
            let event = Event {
                namespace: "/".into(),
                client: None,
                received_at_ms: number,
                kind: EventKind::Custom {
                    kind: "test/1".into(),
                    data: Bytes::new(),
                    content_type: None,
                },
            };
            let mut add = ::redis::cmd("XADD");
            add.arg(&shard.log(partition)[..])
                .arg(format!("{number}-0"))
                .arg("e")
                .arg(&encode(&event)[..]);
            redis.link.ask::<()>(&add).await;
        };
        let reader = Reader::start(&redis, shard.clone(), "test", CancellationToken::new());
        let mut tap = reader.add(partition).await;
        write(1).await;
        assert_eq!(numbers(&mut tap, 1).await, [1]);
        // The read that waits for what is behind it goes on while the partition goes and comes back.
        loop {
            let clients = server.ask(&["INFO", "clients"]).await.unwrap();
            if format!("{clients:?}").contains("blocked_clients:1") {
                break;
            }
        }
        reader.remove(partition);
        let mut tap = reader.put_in(partition);
        write(2).await;
        assert_eq!(numbers(&mut tap, 2).await, [1, 2]);
    }

    async fn numbers(tap: &mut Tap, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let next = tokio::time::timeout(std::time::Duration::from_secs(10), tap.next());
            let deliveries = next.await.expect("more is open than came").unwrap();
            numbers.extend(deliveries.iter().map(|delivery| delivery.id.sequence));
        }
        numbers
    }
}

//! An io-node's outboxes: a stream in each shard, read by a task of its own from the last entry that it has.
//!
//! An entry that was read stays in this process until it is applied, so it can be trimmed at once: if the process dies,
//! so do the connections that it was for.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::warn;

use super::Redis;
use super::connection::Link;
use super::io_side::Place;
use super::keys::Shard;
use super::membership::Member;
use super::stream::{Entry, EntryId, Helping, read_between};
use super::wire::{Unread, decode};
use plugnode_message::Command;
use plugnode_process::metrics;
use plugnode_transport::{Outbox, Result, TransportError};

/// The fields of an entry: commands,
pub(super) const COMMANDS: &str = "c";
/// and for each client how many of its events are committed, and their bytes.
pub(super) const SETTLED: &str = "s";

/// How many entries are read at once.
const ENTRIES: usize = 32;
/// How many such reads may wait to be applied.
const WAITING: usize = 4;

pub(super) struct RedisOutbox {
    place: Arc<Place>,
    commands: mpsc::Receiver<Vec<Command>>,
}

impl RedisOutbox {
    pub(super) fn new(redis: &Redis, member: &Member, place: Arc<Place>) -> Self {
        let (sender, commands) = mpsc::channel(WAITING);
        for shard in redis.layout.all() {
            let reader = Reader {
                redis: redis.clone(),
                link: Link::for_waiting(redis.server.clone()),
                key: shard.outbox(&member.id),
                place: Arc::downgrade(&place),
                commands: sender.clone(),
                read: shard.outbox_read(&member.id),
                bytes: 0,
                shard,
            };
            redis.shutdown.spawn(reader.run());
        }
        Self { place, commands }
    }
}

#[async_trait]
impl Outbox for RedisOutbox {
    async fn next(&mut self) -> Result<Vec<Command>> {
        tokio::select! {
            biased;
            () = self.place.fenced.cancelled() => Err(self.place.end()),
            // The readers end after this does.
            commands = self.commands.recv() => {
                let mut commands = commands.ok_or(TransportError::Fenced)?;
                // What is delivered together is written together.
                while let Ok(more) = self.commands.try_recv() {
                    commands.extend(more);
                }
                Ok(commands)
            }
        }
    }
}

struct Reader {
    redis: Redis,
    link: Link,
    shard: Shard,
    key: Bytes,
    /// The key that tells how much of it was read.
    read: Bytes,
    /// Given up by whoever has it, not by this.
    place: Weak<Place>,
    commands: mpsc::Sender<Vec<Command>>,
    /// How many bytes were read so far.
    bytes: u64,
}

impl Reader {
    /// Reads until nobody listens any more.
    async fn run(mut self) {
        let mut last = EntryId::default();
        let mut trimmed = last;
        let mut connections = self.link.connections();
        let mut helping = Helping::of_at_most(ENTRIES);
        loop {
            let entries = tokio::select! {
                () = self.commands.closed() => return,
                entries = self.next(helping.entries(), last, trimmed) => entries,
            };
            helping.was(entries.iter());
            trimmed = last;
            if self.link.connections() != connections {
                connections = self.link.connections();
                last = self.not_beyond(last).await;
            }
            let Some(newest) = entries.last().map(|entry| entry.id) else {
                continue;
            };
            if newest <= last {
                continue;
            }
            let commands: Vec<Command> = entries.iter().flat_map(|entry| self.take(entry)).collect();
            if !commands.is_empty() && self.commands.send(commands).await.is_err() {
                return;
            }
            let sizes = entries.iter().flat_map(|entry| &entry.fields);
            self.bytes += sizes.map(|(_, value)| value.len() as u64).sum::<u64>();
            last = newest;
        }
    }

    /// Reads on behind the last entry, and takes out what was read before, up to there.
    async fn next(&self, count: usize, last: EntryId, trimmed: EntryId) -> Vec<Entry> {
        let mut trim = Vec::new();
        if trimmed < last {
            let mut entries = ::redis::cmd("XTRIM");
            entries.arg(&self.key[..]).arg("MINID").arg(last.next().to_string());
            // Nothing is left behind of an io-node that was fenced: its keys are gone then.
            let mut bytes = ::redis::cmd("SET");
            bytes.arg(&self.read[..]).arg(self.bytes).arg("XX");
            trim.extend([entries, bytes]);
        }
        let streams = [(self.key.clone(), last)];
        let found = match &self.redis.durability {
            None => read_between(&self.link, trim, count, &streams, &[], |_| true).await,
            // A command that was heard cannot be taken back when the server that alone knew of it is gone.
            Some(durability) => {
                let following = durability.commands(&self.shard);
                read_between(&self.link, trim, count, &streams, &following, |safe| {
                    durability.is_met(safe)
                })
                .await
            }
        };
        found.into_iter().flat_map(|(_, entries)| entries).collect()
    }

    /// Where to go on after another connection: where this reader was, unless the server has lost what it had.
    async fn not_beyond(&self, last: EntryId) -> EntryId {
        let newest = super::stream::newest(&self.redis.link, &self.key).await;
        if newest < last {
            warn!(
                outbox = %String::from_utf8_lossy(&self.key),
                "commands are missing: Redis knows {newest} where it had {last}"
            );
            self.redis.misses_writes(&self.shard);
            // What it had to say on commits may be lost as well, and a client with nothing open must not wait for it.
            self.forget_open();
            return newest;
        }
        last
    }

    /// The commands of an entry. What cannot be read is told and left out: it was for this io-node alone.
    fn take(&self, entry: &Entry) -> Vec<Command> {
        let mut commands = Vec::new();
        for (name, value) in &entry.fields {
            let read = match std::str::from_utf8(name) {
                Ok(COMMANDS) => decode::<Vec<Command>>(value).map(|read| commands.extend(read)),
                Ok(SETTLED) => match decode::<Vec<(Bytes, usize, usize)>>(value) {
                    Ok(settled) => {
                        self.settle(settled);
                        Ok(())
                    }
                    Err(reason) => {
                        // Nobody is to wait for what it would have said.
                        self.forget_open();
                        Err(reason)
                    }
                },
                _ => Ok(()),
            };
            let Err(reason) = read else { continue };
            metrics::COMMANDS_DROPPED.increment();
            match reason {
                Unread::Version(version) => self.redis.strangers.tell("commands", self.shard.number, version),
                Unread::Broken(reason) => warn!(entry = %entry.id, "commands were refused: {reason}"),
            }
        }
        commands
    }

    fn forget_open(&self) {
        if let Some(place) = self.place.upgrade() {
            place.open.forget_all();
        }
    }

    fn settle(&self, settled: Vec<(Bytes, usize, usize)>) {
        if let Some(place) = self.place.upgrade() {
            for (client, events, bytes) in settled {
                place.open.give_back(&client, events, bytes);
            }
        }
    }
}

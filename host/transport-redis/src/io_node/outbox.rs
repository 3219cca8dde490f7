//! An io-node's outboxes: one stream in each shard, read by a task of its own from a cursor.
//!
//! An entry is trimmed as soon as it is read, although it is not applied yet: if the process dies, so do the connections
//! that the entry is for.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::warn;

use crate::client::link::Link;
use crate::io_node::membership::IoMembership;
use crate::keys::Shard;
use crate::membership::member::Member;
use crate::redis::Redis;
use crate::stream::{Entry, EntryId, ReadCount, newest, read_between};
use crate::wire::{DecodeError, OUTBOX_COMMANDS, OUTBOX_SETTLED, decode};
use plugnode_message::Command;
use plugnode_process::metrics;
use plugnode_transport::{Outbox, Result, TransportError};

/// Maximum number of entries in one read.
const ENTRIES: usize = 32;
/// Number of reads that may wait to be applied.
const WAITING: usize = 4;

pub(crate) struct RedisOutbox {
    membership: Arc<IoMembership>,
    commands: mpsc::Receiver<Vec<Command>>,
}

impl RedisOutbox {
    pub(crate) fn new(redis: &Redis, member: &Member, membership: Arc<IoMembership>) -> Self {
        let (sender, commands) = mpsc::channel(WAITING);
        for shard in redis.layout.all() {
            let reader = OutboxReader {
                redis: redis.clone(),
                link: Link::for_waiting(redis.server.clone()),
                key: shard.outbox(&member.id),
                membership: Arc::downgrade(&membership),
                commands: sender.clone(),
                read_key: shard.outbox_read(&member.id),
                bytes: 0,
                shard,
            };
            redis.shutdown.spawn(reader.run());
        }
        Self { membership, commands }
    }
}

#[async_trait]
impl Outbox for RedisOutbox {
    async fn next(&mut self) -> Result<Vec<Command>> {
        tokio::select! {
            biased;
            () = self.membership.fenced.cancelled() => Err(self.membership.lost_because()),
            // The readers outlive this receiver.
            commands = self.commands.recv() => {
                let mut commands = commands.ok_or(TransportError::Fenced)?;
                // Commands delivered together are written to the sockets together.
                while let Ok(more) = self.commands.try_recv() {
                    commands.extend(more);
                }
                Ok(commands)
            }
        }
    }
}

struct OutboxReader {
    redis: Redis,
    link: Link,
    shard: Shard,
    key: Bytes,
    /// Key of the number of bytes read.
    read_key: Bytes,
    /// Weak, because only the session decides when to leave.
    membership: Weak<IoMembership>,
    commands: mpsc::Sender<Vec<Command>>,
    /// Number of bytes read.
    bytes: u64,
}

impl OutboxReader {
    /// Reads until the outbox is dropped.
    async fn run(mut self) {
        let mut cursor = EntryId::default();
        let mut trimmed = cursor;
        let mut connections = self.link.connections();
        let mut read_count = ReadCount::at_most(ENTRIES);
        loop {
            let entries = tokio::select! {
                () = self.commands.closed() => return,
                entries = self.next(read_count.entries(), cursor, trimmed) => entries,
            };
            read_count.observe(entries.iter());
            trimmed = cursor;
            if self.link.connections() != connections {
                connections = self.link.connections();
                cursor = self.check_cursor(cursor).await;
            }
            let Some(newest) = entries.last().map(|entry| entry.id) else {
                continue;
            };
            if newest <= cursor {
                continue;
            }
            let commands: Vec<Command> = entries.iter().flat_map(|entry| self.take(entry)).collect();
            if !commands.is_empty() && self.commands.send(commands).await.is_err() {
                return;
            }
            let sizes = entries.iter().flat_map(|entry| &entry.fields);
            self.bytes += sizes.map(|(_, value)| value.len() as u64).sum::<u64>();
            cursor = newest;
        }
    }

    /// Reads entries behind the cursor, and trims the ones up to it in the same round trip.
    async fn next(&self, count: usize, cursor: EntryId, trimmed: EntryId) -> Vec<Entry> {
        let mut trim = Vec::new();
        if trimmed < cursor {
            let mut entries = redis::cmd("XTRIM");
            entries.arg(&self.key[..]).arg("MINID").arg(cursor.next().to_string());
            // XX: after fencing, the keys are deleted and must not come back.
            let mut bytes = redis::cmd("SET");
            bytes.arg(&self.read_key[..]).arg(self.bytes).arg("XX");
            trim.extend([entries, bytes]);
        }
        let streams = [(self.key.clone(), cursor)];
        let found = match &self.redis.durability {
            None => read_between(&self.link, trim, count, &streams, &[], |_| true).await,
            // A delivered command cannot be taken back if a failover drops it, so it is confirmed first.
            Some(durability) => {
                let following = durability.commands(&self.shard);
                read_between(&self.link, trim, count, &streams, &following, |confirmation| {
                    durability.is_met(confirmation)
                })
                .await
            }
        };
        found.into_iter().flat_map(|(_, entries)| entries).collect()
    }

    /// Checks the cursor after a reconnect, and sets it back if the server has lost entries.
    async fn check_cursor(&self, cursor: EntryId) -> EntryId {
        let newest = newest(&self.redis.link, &self.key).await;
        if newest < cursor {
            warn!(
                outbox = %String::from_utf8_lossy(&self.key),
                "commands are missing: the last entry in Redis is {newest}, and {cursor} was read before"
            );
            self.redis.report_missing_writes(&self.shard);
            // Reports of commits may be lost as well, and a client without open events must not wait for them.
            self.forget_open_events();
            return newest;
        }
        cursor
    }

    /// Commands of an entry. Unreadable ones are logged and dropped: no other node could apply them.
    fn take(&self, entry: &Entry) -> Vec<Command> {
        let mut commands = Vec::new();
        for (name, value) in &entry.fields {
            let read = match std::str::from_utf8(name) {
                Ok(OUTBOX_COMMANDS) => decode::<Vec<Command>>(value).map(|read| commands.extend(read)),
                Ok(OUTBOX_SETTLED) => match decode::<Vec<(Bytes, usize, usize)>>(value) {
                    Ok(settled) => {
                        self.settle(settled);
                        Ok(())
                    }
                    Err(reason) => {
                        // The reported commits are unknown, so no client may wait for them.
                        self.forget_open_events();
                        Err(reason)
                    }
                },
                _ => Ok(()),
            };
            let Err(reason) = read else { continue };
            metrics::COMMANDS_DROPPED.increment();
            match reason {
                DecodeError::Version(version) => {
                    self.redis
                        .unknown_versions
                        .warn_once("commands", self.shard.number, version);
                }
                DecodeError::Broken(reason) => {
                    warn!(entry = %entry.id, %reason, "commands are dropped, because they cannot be read")
                }
            }
        }
        commands
    }

    fn forget_open_events(&self) {
        if let Some(membership) = self.membership.upgrade() {
            membership.open_events.forget_all();
        }
    }

    fn settle(&self, settled: Vec<(Bytes, usize, usize)>) {
        if let Some(membership) = self.membership.upgrade() {
            for (client, events, bytes) in settled {
                membership.open_events.remove(&client, events, bytes);
            }
        }
    }
}

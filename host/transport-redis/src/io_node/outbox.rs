//! An io-node's outboxes. In each shard a task reads two streams: the io-node's own, and the broadcasts for all.
//!
//! Its own entries are trimmed soon after they are read, although they are not applied yet: if the process dies, so do the connections
//! that they are for. Broadcasts are trimmed once all io-nodes have reported that they have read them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use crate::arguments::bytes_of;
use crate::client::link::Link;
use crate::io_node::membership::IoMembership;
use crate::io_node::outbox_order::{OrderedEntries, OutboxEntries, OutboxField};
use crate::keys::Shard;
use crate::membership::member::Member;
use crate::redis::Redis;
use crate::scripts;
use crate::stream::{EntryId, ReadCount, newest, read_between};
use crate::wire::{DecodeError, OUTBOX_COMMANDS, OUTBOX_ORDER, OUTBOX_SETTLED, decode};
use plugnode_message::Command;
use plugnode_process::metrics;
use plugnode_transport::{Outbox, OutboxBudget, Result, TransportError};

/// Maximum number of entries in one read.
const ENTRIES: usize = 32;
/// Number of reads that may wait to be applied.
const WAITING: usize = 4;
/// Number of its own entries, and time, after which those that were read are trimmed with the next read.
const TRIM_ENTRIES: usize = 16;
const TRIM_AFTER: Duration = Duration::from_millis(100);
/// Longest time after which broadcasts that were read are reported, so that they can be trimmed.
const REPORT_AFTER: Duration = Duration::from_secs(1);
/// Part of an outbox's budget that entries may fill before those that were read are trimmed, or reported.
const REPORT_PART: usize = 16;

pub(crate) struct RedisOutbox {
    membership: Arc<IoMembership>,
    commands: mpsc::Receiver<Vec<Command>>,
}

impl RedisOutbox {
    /// Reads from these broadcasts on, one for each shard.
    pub(crate) fn new(redis: &Redis, member: &Member, membership: Arc<IoMembership>, broadcasts: Vec<EntryId>) -> Self {
        let (sender, commands) = mpsc::channel(WAITING);
        for (shard, read) in redis.layout.all().zip(broadcasts) {
            let reader = OutboxReader {
                redis: redis.clone(),
                link: Link::for_waiting(redis.server.clone()),
                member: member.id.clone(),
                key: shard.outbox(&member.id),
                membership: Arc::downgrade(&membership),
                commands: sender.clone(),
                read_key: shard.outbox_read(&member.id),
                bytes: 0,
                cursor: EntryId::default(),
                trim: TrimState::default(),
                broadcasts: BroadcastCursor {
                    read,
                    ..BroadcastCursor::default()
                },
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
    member: String,
    key: Bytes,
    /// Key of the number of bytes read.
    read_key: Bytes,
    /// Weak, because only the session decides when to leave.
    membership: Weak<IoMembership>,
    commands: mpsc::Sender<Vec<Command>>,
    /// Number of bytes read of its own entries.
    bytes: u64,
    /// Last one read of its own entries.
    cursor: EntryId,
    trim: TrimState,
    broadcasts: BroadcastCursor,
}

/// What of its own entries was read and not trimmed.
#[derive(Default)]
struct TrimState {
    entries: usize,
    bytes: u64,
    trimmed_at: Option<Instant>,
}

impl TrimState {
    /// Whether it is time to trim. What was read and not trimmed fills a part of the budget.
    fn is_due(&self, budget: &OutboxBudget) -> bool {
        let is_much = self.entries >= TRIM_ENTRIES.min(budget.entries / REPORT_PART)
            || self.bytes >= (budget.bytes / REPORT_PART) as u64;
        let is_old = self.trimmed_at.is_none_or(|at| at.elapsed() >= TRIM_AFTER);
        self.entries > 0 && (is_much || is_old)
    }
}

/// Position in the broadcasts of a shard.
#[derive(Default)]
struct BroadcastCursor {
    /// Last one read.
    read: EntryId,
    /// Number of bytes ever written up to it.
    bytes: u64,
    /// Number of bytes that were reported as read, and trimmed.
    reported: u64,
    /// Number of entries read since.
    unreported: usize,
    reported_at: Option<Instant>,
}

impl OutboxReader {
    /// Reads until the outbox is dropped.
    async fn run(mut self) {
        self.find_broadcasts().await;
        let mut connections = self.link.connections();
        let mut read_count = ReadCount::at_most(ENTRIES);
        let mut count = read_count.entries();
        loop {
            let trims = self.trim.is_due(&self.redis.settings.common.outbox);
            let entries = tokio::select! {
                () = self.commands.closed() => return,
                entries = self.next(count, trims) => entries,
            };
            read_count.observe(entries.own.iter().chain(&entries.broadcasts));
            if trims {
                self.trim = TrimState {
                    trimmed_at: Some(Instant::now()),
                    ..TrimState::default()
                };
            }
            self.trim.entries += entries.own.len();
            if self.link.connections() != connections {
                connections = self.link.connections();
                if self.has_lost_entries().await {
                    continue;
                }
            }
            let is_empty = entries.own.is_empty() && entries.broadcasts.is_empty();
            let entries = entries.in_order();
            // If nothing could be ordered, the read ended inside a call: the next one reads more.
            count = match entries.fields.is_empty() && !is_empty {
                true => 2 * count,
                false => read_count.entries(),
            };
            self.advance(&entries);
            let commands = self.take(entries);
            if !commands.is_empty() && self.commands.send(commands).await.is_err() {
                return;
            }
            self.report_broadcasts().await;
        }
    }

    /// Asks how many bytes of broadcasts this io-node has read, or need not read, as far as Redis knows.
    async fn find_broadcasts(&mut self) {
        let [_, _, readers] = self.shard.broadcasts();
        let mut ask = redis::cmd("ZSCORE");
        ask.arg(&readers[..]).arg(&self.member);
        // None if the io-node was fenced meanwhile.
        let bytes: Option<u64> = self.redis.link.ask(&ask).await;
        self.broadcasts.bytes = bytes.unwrap_or_default();
        self.broadcasts.reported = self.broadcasts.bytes;
    }

    /// Reads entries behind the cursors, and may trim its own up to the cursor in the same round trip.
    async fn next(&self, count: usize, trims: bool) -> OutboxEntries {
        let mut trim = Vec::new();
        if trims {
            let mut entries = redis::cmd("XTRIM");
            entries
                .arg(&self.key[..])
                .arg("MINID")
                .arg(self.cursor.next().to_string());
            // XX: after fencing, the keys are deleted and must not come back.
            let mut bytes = redis::cmd("SET");
            bytes.arg(&self.read_key[..]).arg(self.bytes).arg("XX");
            trim.extend([entries, bytes]);
        }
        let mut entries = self.read(trim, count).await;
        // Redis 7.0 answers a read that has waited with the one stream that ended the wait. The next read does not wait.
        if entries.broadcasts.is_empty() && entries.wait_for_broadcasts(self.broadcasts.bytes) {
            entries = self.read(Vec::new(), count).await;
        }
        entries.has_more_own = entries.own.len() >= count;
        entries.may_lack_broadcasts = entries.broadcasts.len() >= count;
        entries
    }

    async fn read(&self, trim: Vec<redis::Cmd>, count: usize) -> OutboxEntries {
        let [broadcasts, ..] = self.shard.broadcasts();
        let streams = [(self.key.clone(), self.cursor), (broadcasts, self.broadcasts.read)];
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
        let mut entries = OutboxEntries::default();
        for (key, found) in found {
            match key == self.key {
                true => entries.own = found.into(),
                false => entries.broadcasts = found.into(),
            }
        }
        entries
    }

    /// Moves the cursors behind these entries.
    fn advance(&mut self, entries: &OrderedEntries) {
        self.cursor = entries.own.unwrap_or(self.cursor);
        if let Some((read, bytes)) = entries.broadcast {
            (self.broadcasts.read, self.broadcasts.bytes) = (read, bytes);
        }
        for field in &entries.fields {
            let is_order = &field.name[..] == OUTBOX_ORDER.as_bytes();
            match field.is_broadcast {
                true => self.broadcasts.unreported += 1,
                false if is_order => {}
                false => {
                    self.bytes += field.value.len() as u64;
                    self.trim.bytes += field.value.len() as u64;
                }
            }
        }
    }

    /// Reports the broadcasts read, if they are many or have not been reported for a while, until they are trimmed.
    async fn report_broadcasts(&mut self) {
        let budget = &self.redis.settings.common.outbox;
        let BroadcastCursor {
            read,
            bytes,
            reported,
            unreported,
            reported_at,
        } = &mut self.broadcasts;
        let is_due = reported_at.is_none_or(|at| at.elapsed() >= REPORT_AFTER);
        let is_much = bytes.abs_diff(*reported) >= (budget.bytes / REPORT_PART) as u64
            || *unreported >= budget.entries / REPORT_PART;
        if *bytes == *reported || !(is_due || is_much && *unreported > 0) {
            return;
        }
        let [all, all_in, readers] = self.shard.broadcasts();
        let keys = [self.shard.key("io"), all, all_in, readers];
        let arguments = [bytes_of(&self.member), bytes_of(*bytes), bytes_of(read.next())];
        let is_trimmed: bool = self.redis.link.run(&scripts::NOTE_READ, &keys, &arguments).await;
        if is_trimmed {
            *reported = *bytes;
        }
        (*unreported, *reported_at) = (0, Some(Instant::now()));
    }

    /// Checks the cursors after a reconnect, and sets them back if the server has lost entries.
    async fn has_lost_entries(&mut self) -> bool {
        let [broadcasts, ..] = self.shard.broadcasts();
        let own = newest(&self.redis.link, &self.key).await;
        let all = newest(&self.redis.link, &broadcasts).await;
        let has_lost_own = own < self.cursor;
        if !has_lost_own && all >= self.broadcasts.read {
            return false;
        }
        warn!(
            outbox = %String::from_utf8_lossy(&self.key),
            "commands are missing: the last entries in Redis are {own} and {all}, and {} and {} were read before",
            self.cursor,
            self.broadcasts.read,
        );
        self.redis.report_missing_writes(&self.shard);
        // Reports of commits may be lost as well, and a client without open events must not wait for them.
        self.forget_open_events();
        self.cursor = self.cursor.min(own);
        self.broadcasts.read = self.broadcasts.read.min(all);
        self.find_broadcasts().await;
        true
    }

    /// Commands of these entries. Unreadable ones are logged and dropped: no other node could apply them.
    fn take(&self, entries: OrderedEntries) -> Vec<Command> {
        let mut commands = Vec::new();
        for OutboxField { entry, name, value, .. } in entries.fields {
            let read = match &name[..] {
                name if name.starts_with(OUTBOX_COMMANDS.as_bytes()) => {
                    decode::<Vec<Command>>(&value).map(|read| commands.extend(read))
                }
                name if name == OUTBOX_SETTLED.as_bytes() => match decode::<Vec<(Bytes, usize, usize)>>(&value) {
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
                    warn!(%entry, %reason, "commands are dropped, because they cannot be read")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_outbox_is_trimmed_with_each_read() {
        let state = |entries, bytes| TrimState {
            entries,
            bytes,
            trimmed_at: Some(Instant::now()),
        };
        let large = OutboxBudget::default();
        assert!(!state(0, 0).is_due(&large) && !state(1, 100).is_due(&large));
        assert!(state(TRIM_ENTRIES, 0).is_due(&large) && state(1, large.bytes as u64).is_due(&large));
        let small = OutboxBudget { entries: 4, ..large };
        assert!(!state(0, 0).is_due(&small) && state(1, 0).is_due(&small));
    }
}

//! The log of a leased partition: delivers its events in order, until the lease ends.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use tracing::warn;

use crate::app_node::commits::RedisCommits;
use crate::app_node::committer::commit::{ClientEnd, PreparedOutcome};
use crate::app_node::log_event::{LogEvent, ReadEvents, foreign_letter};
use crate::app_node::log_reader::PartitionFeed;
use crate::app_node::poison::{PoisonSuspects, unmark_started};
use crate::app_node::progress::DecodedEvent;
use crate::arguments::client_key;
use crate::wire::{DecodeError, encode};
use plugnode_message::{Event, EventId, EventKind};
use plugnode_process::metrics;
use plugnode_transport::{Delivery, Log, Result, TransportError};

pub(crate) struct RedisLog {
    pub(crate) feed: PartitionFeed,
    /// Events that an earlier owner has set aside from the log.
    pub(crate) set_aside: Vec<LogEvent>,
    /// Refused clients, whose disconnects are passed over.
    pub(crate) refused: HashSet<Bytes>,
    pub(crate) suspects: PoisonSuspects,
    pub(crate) commits: RedisCommits,
}

/// The log is dropped when none of its events is in flight any more.
impl Drop for RedisLog {
    fn drop(&mut self) {
        let RedisCommits { redis, held_lease, .. } = &self.commits;
        if held_lease.end.lost.is_cancelled() {
            let started = held_lease.progress().take_started();
            unmark_started(redis, held_lease.partition, &held_lease.lease, &started);
        }
    }
}

#[async_trait]
impl Log for RedisLog {
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>> {
        loop {
            let RedisCommits { redis, held_lease, .. } = &self.commits;
            let ReadEvents { events, up_to } = tokio::select! {
                biased;
                () = held_lease.end.lost.cancelled() => return Err(TransportError::Fenced),
                () = held_lease.end.revoked.cancelled() => return Ok(None),
                deliveries = self.suspects.next(redis, held_lease), if !self.suspects.is_empty() => {
                    return Ok(Some(deliveries));
                }
                read = next(&mut self.set_aside, &mut self.feed), if self.suspects.is_empty() => {
                    read.ok_or(TransportError::Fenced)?
                }
            };
            let deliveries: Vec<Delivery> = events.into_iter().filter_map(|event| self.delivery(event)).collect();
            self.commits.held_lease.progress().note_read(up_to);
            let deliveries = self.suspects.hold_back(deliveries);
            if !deliveries.is_empty() {
                return Ok(Some(deliveries));
            }
        }
    }
}

impl RedisLog {
    /// Delivery of an event; none if it is committed, unreadable, or a disconnect that no app receives.
    fn delivery(&self, found: LogEvent) -> Option<Delivery> {
        let LogEvent { number, bytes, event } = found;
        let held_lease = &self.commits.held_lease;
        let in_flight = match &event {
            Ok(event) => DecodedEvent::Event(event.clone()),
            Err((content, DecodeError::Version(version))) => DecodedEvent::Other(*version, content.clone()),
            Err((_, DecodeError::Broken(_))) => DecodedEvent::Broken,
        };
        if !held_lease.progress().add(number, in_flight, bytes) {
            return None;
        }
        let id = EventId {
            partition: held_lease.partition,
            sequence: number,
        };
        let nothing = PreparedOutcome::nothing(number);
        match event {
            Ok(event) if is_disconnect(&event) && self.refused.contains(&client_key(&event)) => {
                self.commits.pass_over(PreparedOutcome {
                    account: client_key(&event),
                    end: ClientEnd::Disconnected,
                    ..nothing
                });
            }
            Ok(event) => {
                return Some(Delivery { id, event, attempts: 0 });
            }
            Err((_, DecodeError::Version(version))) => {
                let redis = &self.commits.redis;
                let shard = redis.layout.shard_of(held_lease.partition);
                redis.unknown_versions.warn_once("events", shard, version);
            }
            Err((content, DecodeError::Broken(reason))) => {
                warn!(messaging.message.id = %id, %reason, "unreadable event stored as a dead letter; see `plugnode dead list`");
                metrics::DEAD_LETTERS.increment();
                self.commits.pass_over(PreparedOutcome {
                    letter: encode(&foreign_letter(id, content, &reason)),
                    ..nothing
                });
            }
        }
        None
    }
}

fn is_disconnect(event: &Event) -> bool {
    matches!(event.kind, EventKind::Disconnect(_))
}

/// First the events that were set aside, then those of the feed.
async fn next(set_aside: &mut Vec<LogEvent>, feed: &mut PartitionFeed) -> Option<ReadEvents> {
    if set_aside.is_empty() {
        return feed.next().await;
    }
    let (events, up_to) = (std::mem::take(set_aside), 0);
    Some(ReadEvents { events, up_to })
}

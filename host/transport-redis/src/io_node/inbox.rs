//! An io-node's inbox: appends events to the logs of their shards, and sends commands to other io-nodes.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::arguments::{bytes_of, client_key_of};
use crate::io_node::ingest_call::{IngestCall, IngestEvent, SessionChange};
use crate::io_node::membership::IoMembership;
use crate::keys::Shard;
use crate::linger::linger;
use crate::membership::member::Member;
use crate::redis::Redis;
use crate::scripts;
use crate::wire::encode;
use plugnode_message::{Command, Event, Namespace, NodeId, Partition, SessionId};
use plugnode_transport::{Inbox, Load, Result, TransportError, partition_of};

pub(crate) struct RedisInbox {
    redis: Redis,
    member: Member,
    membership: Arc<IoMembership>,
    /// Number of the last call to each shard. Calls to a shard go one at a time, because the number identifies a repeated call.
    calls: Vec<Mutex<u64>>,
}

#[async_trait]
impl Inbox for RedisInbox {
    async fn ingest(&self, events: Vec<Event>) -> Result<Vec<Event>> {
        let begun = Instant::now();
        let refused = self.append(&events).await?;
        linger(begun, events.len() - refused.len()).await;
        if refused.is_empty() {
            return Ok(Vec::new());
        }
        let mut refused = refused.into_iter().peekable();
        let indexed = events.into_iter().enumerate();
        let refused = indexed.filter(|(index, _)| refused.next_if_eq(index).is_some());
        Ok(refused.map(|(_, event)| event).collect())
    }

    async fn tell(&self, node: &NodeId, command: Command) -> Result<()> {
        let layout = &self.redis.layout;
        // An answer goes through the shard of its request, so that it cannot overtake earlier commands of that client.
        let shard = match &command {
            Command::Answer { origin, .. } => layout.shard_of(partition_of(&origin.client, layout.partitions)),
            _ => 0,
        };
        let shard = layout.shard(shard);
        let keys = [shard.key("io"), shard.key("out-all-in")];
        let arguments = [
            shard.outbox(""),
            shard.outbox_in(""),
            shard.outbox_read(""),
            bytes_of(self.redis.settings.common.outbox.entries),
            bytes_of(self.redis.settings.common.outbox.bytes),
            bytes_of(node),
            encode(&vec![command]),
        ];
        // Best effort: no durability is awaited.
        let sending = self.redis.link.run::<()>(&scripts::SEND, &keys, &arguments);
        tokio::select! {
            biased;
            () = self.membership.fenced.cancelled() => Err(self.membership.lost_because()),
            () = sending => Ok(()),
        }
    }

    fn prefers(&self, client: &SessionId) -> bool {
        self.membership.preferred_partitions.has(client)
    }

    fn open_events(&self, namespace: &Namespace, client: &SessionId) -> usize {
        self.membership.open_events.count(&client_key_of(namespace, client))
    }
}

impl RedisInbox {
    pub(crate) fn new(redis: &Redis, member: Member, membership: Arc<IoMembership>) -> Self {
        Self {
            redis: redis.clone(),
            member,
            membership,
            calls: redis.layout.all().map(|_| Mutex::new(0)).collect(),
        }
    }

    /// Appends events to the logs, and returns the indices of refused ones in ascending order.
    async fn append(&self, events: &[Event]) -> Result<Vec<usize>> {
        let layout = &self.redis.layout;
        let mut by_shard = vec![Vec::new(); usize::from(layout.shards)];
        for (index, event) in events.iter().enumerate() {
            let partition = partition_of_event(event, layout.partitions);
            by_shard[usize::from(layout.shard_of(partition))].push((index, partition));
        }
        let shards = by_shard
            .iter()
            .zip(layout.all())
            .filter(|(indices, _)| !indices.is_empty());
        let calls = shards.map(|(indices, shard)| self.append_in(shard, indices, events));
        let refused = tokio::select! {
            biased;
            () = self.membership.fenced.cancelled() => return Err(self.membership.lost_because()),
            refused = join_all(calls) => refused.into_iter().collect::<Result<Vec<_>>>()?,
        };
        let mut refused: Vec<usize> = refused.into_iter().flatten().collect();
        refused.sort_unstable();
        Ok(refused)
    }

    /// Appends the events of one shard in as many calls as needed, and returns the indices of refused ones.
    async fn append_in(&self, shard: Shard, indices: &[(usize, Partition)], events: &[Event]) -> Result<Vec<usize>> {
        let mut last = self.calls[usize::from(shard.number)].lock().await;
        let mut refused = Vec::new();
        // Once one event of a client is refused, so are all later ones, to keep their order.
        let mut refused_orders = HashSet::new();
        let open_events = &self.membership.open_events;
        let backlog = &self.redis.settings.common.backlog;
        let mut rest = indices.iter();
        while !rest.as_slice().is_empty() {
            let mut call = IngestCall::default();
            for (index, partition) in rest.by_ref() {
                let event = IngestEvent::of(*index, *partition, &events[*index]);
                let reserve = || open_events.try_add(&event.account, *partition, event.bytes(), backlog);
                let has_room = || event.account.is_empty() || reserve();
                // An event without an order key belongs to no client and is never refused here.
                if !event.order.is_empty() && (refused_orders.contains(&event.order) || !has_room()) {
                    refused_orders.insert(event.order);
                    refused.push(*index);
                    continue;
                }
                call.add(event);
                if call.is_full() {
                    break;
                }
            }
            for event in self.send(&shard, call, &mut last).await? {
                refused.push(event.index);
                if !event.account.is_empty() {
                    open_events.remove(&event.account, 1, event.bytes());
                }
                if !event.order.is_empty() {
                    refused_orders.insert(event.order);
                }
            }
        }
        Ok(refused)
    }

    /// Sends as much of a call as the shard accepts, and returns the refused events.
    async fn send(&self, shard: &Shard, mut call: IngestCall, last: &mut u64) -> Result<Vec<IngestEvent>> {
        let membership = &self.membership;
        let mut refused = Vec::new();
        while !call.events.is_empty() {
            *last += 1;
            let (keys, arguments) = call.encode(&self.redis, shard, &self.member, *last);
            let answer: Vec<String> = self.redis.change(shard, &scripts::INGEST, &keys, &arguments).await;
            let (word, details) = answer
                .split_first()
                .map_or(("nothing", &[][..]), |(word, rest)| (word, rest));
            match word {
                "taken" => {
                    membership.open_events.update_loads(call.partitions(), &loads(details));
                    membership.note_call(shard, *last);
                    let ends = call.events.iter().filter(|event| event.change == SessionChange::Ends);
                    ends.for_each(|event| membership.open_events.forget(&event.account));
                    break;
                }
                "fenced" => {
                    membership.fenced.cancel();
                    return Err(TransportError::Fenced);
                }
                "behind" => {
                    // Accepted events of this io-node are lost; no heartbeat has shown it yet.
                    self.redis.report_missing_writes(shard);
                    membership.end_by_data_loss();
                    return Err(TransportError::DataLost);
                }
                "full" => refused.extend(call.shrink_to(&loads(details), &self.redis.settings.common.backlog)),
                // These disconnects count as accepted, but no app receives them.
                "over" => call.drop_ends(details, &membership.open_events),
                _ => refused.append(&mut call.events),
            }
        }
        Ok(refused)
    }
}

/// Parses loads of partitions: triples of partition, events and bytes.
fn loads(words: &[String]) -> Vec<(Partition, Load)> {
    let triples = words.chunks_exact(3);
    let load = |triple: &[String]| {
        let [partition, events, bytes] = triple else {
            return None;
        };
        let load = Load {
            events: events.parse().ok()?,
            bytes: bytes.parse().ok()?,
        };
        Some((Partition(partition.parse().ok()?), load))
    };
    triples.filter_map(load).collect()
}

fn partition_of_event(event: &Event, partitions: u16) -> Partition {
    event
        .in_order_with()
        .map_or(Partition(0), |client| partition_of(client, partitions))
}

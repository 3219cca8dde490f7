//! What an io-node holds of the Redis transport: its place in the cluster, and its inbox.
//!
//! The place is renewed by a task that also takes notice of io-nodes that were lost, and buries them. When the place is
//! lost, everything here says so.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use super::keys::Shard;
use super::membership::{Member, Role};
use super::outbox::RedisOutbox;
use super::scripts;
use super::wire::encode;
use super::{Redis, bytes_of, client_key};
use crate::message::{Client, Command, DisconnectReason, Event, EventKind, NodeId, Partition, now_ms};
use crate::transport::{Inbox, IoNode, IoSession, Result, TransportError, partition_of};

/// At most so many events go in one call,
const EVENTS: usize = 512;
/// and no more once they have so many bytes.
const BYTES: usize = 1 << 20;

/// Joins as an io-node, in every shard.
pub(super) async fn join(redis: &Redis, node: IoNode) -> Result<IoSession> {
    let member = Member::new(Role::Io, node.id.clone());
    let place = serde_json::json!({ "host": node.host, "port": node.port }).to_string();
    let info = redis.layout.shard(0).key("info");
    redis
        .link
        .ask::<()>(::redis::cmd("HSET").arg(&info[..]).arg(node.id.as_str()).arg(place))
        .await;
    for shard in redis.layout.all() {
        let keys = [
            shard.key("io"),
            shard.key("io:until"),
            shard.key("lost"),
            shard.key("open"),
            shard.key("who"),
            shard.live(&member.id),
            shard.outbox(&member.id),
        ];
        let arguments = [
            bytes_of(node.id.as_str()),
            bytes_of(&member.incarnation),
            bytes_of(redis.settings.lease.as_millis()),
        ];
        redis.change::<()>(&shard, &scripts::JOIN_IO, &keys, &arguments).await;
    }

    let fenced = CancellationToken::new();
    let left = CancellationToken::new();
    let place = Arc::new(Place {
        fenced: fenced.clone(),
        _left: left.clone().drop_guard(),
    });
    let outbox = RedisOutbox::new(redis, &member, place.clone());
    let calls = redis.layout.all().map(|_| Mutex::new(0)).collect();
    let inbox = RedisInbox {
        redis: redis.clone(),
        member: member.clone(),
        place,
        calls,
    };
    redis.shutdown.spawn(stay(redis.clone(), member, fenced, left));
    Ok(IoSession {
        inbox: Arc::new(inbox),
        outbox: Box::new(outbox),
    })
}

/// An io-node's place in the cluster, given up when it is dropped.
pub(super) struct Place {
    /// Set when the place is lost.
    pub(super) fenced: CancellationToken,
    _left: DropGuard,
}

/// Renews the place until it is lost or given up.
async fn stay(redis: Redis, member: Member, fenced: CancellationToken, left: CancellationToken) {
    let mut beats = interval(redis.settings.beat());
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = left.cancelled() => break,
            _ = beats.tick() => {}
        }
        for shard in redis.layout.all() {
            let beat = tokio::select! {
                () = left.cancelled() => break,
                beat = member.beat(&redis, &shard) => beat,
            };
            let Some(beat) = beat else {
                warn!(io_node = %member.name, "this io-node was taken for dead, and its place was given away");
                fenced.cancel();
                return;
            };
            super::membership::bury(&redis, &shard, &beat.lost).await;
        }
    }
    for shard in redis.layout.all() {
        let keys = [shard.key("io"), shard.key("io:until"), shard.key("lost")];
        let arguments = [bytes_of(member.name.as_str()), bytes_of(&member.incarnation)];
        redis.change::<()>(&shard, &scripts::LEAVE_IO, &keys, &arguments).await;
        super::membership::bury(&redis, &shard, std::slice::from_ref(&member.id)).await;
    }
    info!(io_node = %member.name, "left the cluster");
}

struct RedisInbox {
    redis: Redis,
    member: Member,
    place: Arc<Place>,
    /// The number of the last call to each shard. A call at a time: its number is how one that is made again is known.
    calls: Vec<Mutex<u64>>,
}

#[async_trait]
impl Inbox for RedisInbox {
    async fn ingest(&self, events: Vec<Event>) -> Result<Vec<Event>> {
        let layout = &self.redis.layout;
        let mut by_shard = vec![Vec::new(); usize::from(layout.shards)];
        for (place, event) in events.iter().enumerate() {
            let partition = partition_of_event(event, layout.partitions);
            by_shard[usize::from(layout.shard_of(partition))].push((place, partition));
        }
        let shards = by_shard
            .iter()
            .zip(layout.all())
            .filter(|(places, _)| !places.is_empty());
        let calls = shards.map(|(places, shard)| self.ingest_in(shard, places, &events));
        let refused = tokio::select! {
            biased;
            () = self.place.fenced.cancelled() => return Err(TransportError::Fenced),
            refused = join_all(calls) => refused.into_iter().collect::<Result<Vec<_>>>()?,
        };
        let mut refused: Vec<usize> = refused.into_iter().flatten().collect();
        if refused.is_empty() {
            return Ok(Vec::new());
        }
        refused.sort_unstable();
        let mut refused = refused.into_iter().peekable();
        let mut returned = Vec::with_capacity(refused.len());
        for (place, event) in events.into_iter().enumerate() {
            if refused.next_if_eq(&place).is_some() {
                returned.push(event);
            }
        }
        Ok(returned)
    }

    async fn tell(&self, node: &NodeId, command: Command) -> Result<()> {
        let layout = &self.redis.layout;
        // The question is in the outbox of its asker's shard, and may not be overtaken.
        let shard = match &command {
            Command::Answer { asker, .. } => layout.shard_of(partition_of(&asker.client, layout.partitions)),
            _ => 0,
        };
        let shard = layout.shard(shard);
        let keys = [shard.key("io")];
        let arguments = [
            shard.outbox(""),
            bytes_of(self.redis.settings.outbox),
            bytes_of(node),
            encode(&vec![command]),
        ];
        // What is told binds nobody, so it is not waited for until replicas have it.
        let telling = self.redis.link.run::<()>(&scripts::TELL, &keys, &arguments);
        tokio::select! {
            biased;
            () = self.place.fenced.cancelled() => Err(TransportError::Fenced),
            () = telling => Ok(()),
        }
    }
}

impl RedisInbox {
    /// Hands one shard's events in, in as many calls as it takes, and returns the places of those refused.
    async fn ingest_in(&self, shard: Shard, places: &[(usize, Partition)], events: &[Event]) -> Result<Vec<usize>> {
        let mut last = self.calls[usize::from(shard.number)].lock().await;
        let mut refused = Vec::new();
        let mut stuck = HashSet::new();
        let mut rest = places;
        while !rest.is_empty() {
            let mut call = IngestCall::default();
            let mut taken = Vec::new();
            let mut count = 0;
            for (place, partition) in rest {
                if call.is_full() {
                    break;
                }
                count += 1;
                let event = &events[*place];
                if event.client.as_ref().is_some_and(|client| stuck.contains(&client.id)) {
                    refused.push(*place);
                    continue;
                }
                call.add(*partition, event);
                taken.push(*place);
            }
            rest = &rest[count..];
            if taken.is_empty() {
                continue;
            }
            *last += 1;
            let (keys, arguments) = call.finish(&self.redis, &shard, &self.member, *last);
            let answer: Bytes = self.redis.change(&shard, &scripts::INGEST, &keys, &arguments).await;
            let answer = String::from_utf8_lossy(&answer);
            if answer == "fenced" {
                self.place.fenced.cancel();
                return Err(TransportError::Fenced);
            }
            for number in answer.split_ascii_whitespace() {
                let place = number
                    .parse()
                    .ok()
                    .and_then(|number: usize| taken.get(number.checked_sub(1)?));
                let place = *place.expect("the script names places that it was given");
                stuck.extend(events[place].client.as_ref().map(|client| client.id.clone()));
                refused.push(place);
            }
        }
        Ok(refused)
    }
}

/// One call of the script that takes events in.
#[derive(Default)]
struct IngestCall {
    logs: Vec<Partition>,
    arguments: Vec<Bytes>,
    count: usize,
    bytes: usize,
}

impl IngestCall {
    fn is_full(&self) -> bool {
        self.count >= EVENTS || self.bytes >= BYTES
    }

    fn add(&mut self, partition: Partition, event: &Event) {
        let log = self.logs.iter().position(|log| *log == partition);
        let log = log.unwrap_or_else(|| {
            self.logs.push(partition);
            self.logs.len() - 1
        });
        let (kind, will) = match &event.kind {
            EventKind::Connection(_) => ("c", last_will(event)),
            EventKind::Disconnect(_) => ("d", Bytes::new()),
            _ => ("m", Bytes::new()),
        };
        let written = encode(event);
        self.count += 1;
        self.bytes += written.len() + will.len();
        self.arguments.extend([
            bytes_of(log + 1),
            Bytes::from_static(kind.as_bytes()),
            client_key(event),
            written,
            will,
        ]);
    }

    fn finish(self, redis: &Redis, shard: &Shard, member: &Member, call: u64) -> (Vec<Bytes>, Vec<Bytes>) {
        let mut keys = vec![
            shard.key("io"),
            shard.live(&member.id),
            shard.key("open"),
            shard.key("who"),
            shard.key("tail"),
        ];
        keys.extend(self.logs.iter().map(|log| shard.log(*log)));
        let mut arguments = vec![
            bytes_of(member.name.as_str()),
            bytes_of(&member.incarnation),
            bytes_of(call),
            bytes_of(redis.settings.backlog),
            bytes_of(redis.settings.client_backlog),
            bytes_of(self.logs.len()),
        ];
        arguments.extend(self.logs.iter().map(bytes_of));
        arguments.extend(self.arguments);
        (keys, arguments)
    }
}

fn partition_of_event(event: &Event, partitions: u16) -> Partition {
    event
        .client
        .as_ref()
        .map_or(Partition(0), |client| partition_of(&client.id, partitions))
}

/// What a client's app is told if its io-node dies.
fn last_will(connection: &Event) -> Bytes {
    let client = connection.client.as_ref().map(|client| Client {
        attributes: "{}".into(),
        ..client.clone()
    });
    encode(&Event {
        namespace: connection.namespace.clone(),
        client,
        received_at_ms: now_ms(),
        kind: EventKind::Disconnect(DisconnectReason::NodeLost),
    })
}

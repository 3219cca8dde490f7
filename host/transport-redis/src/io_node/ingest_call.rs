//! One call of the script `ingest`: a batch of an io-node's events for one shard, as keys and arguments.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::arguments::{account, bytes_of, client_key_of};
use crate::batch;
use crate::io_node::open_events::OpenEvents;
use crate::keys::Shard;
use crate::membership::member::Member;
use crate::redis::Redis;
use crate::wire::encode;
use plugnode_message::{Client, DisconnectReason, Event, EventKind, Partition, now_ms};
use plugnode_transport::{Backlog, Load};

/// Maximum number of events in one call.
const EVENTS: usize = 512;
/// A call with this many bytes takes no further event.
const BYTES: usize = 256 << 10;

/// An event for the log.
pub(crate) struct IngestEvent {
    /// Index among the events of the caller.
    pub(crate) index: usize,
    partition: Partition,
    /// For whom it counts while it is open: its client, or the caller of the API; empty for nobody.
    pub(crate) account: Bytes,
    /// What is refused with it, to keep the order: the events of a client, or the calls of a caller in one order; empty for nothing.
    pub(crate) order: Bytes,
    pub(crate) change: SessionChange,
    encoded: Bytes,
    /// For a connection: the client's last will, which is logged if its io-node is lost.
    will: Bytes,
}

/// Effect of an event on the set of live sessions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionChange {
    Begins,
    Ends,
    None,
}

impl IngestEvent {
    pub(crate) fn of(index: usize, partition: Partition, event: &Event) -> Self {
        let (change, will) = match &event.kind {
            EventKind::Connection(_) => (SessionChange::Begins, last_will(partition, event)),
            EventKind::Disconnect(_) => (SessionChange::Ends, Bytes::new()),
            _ => (SessionChange::None, Bytes::new()),
        };
        let account = account(event);
        let order = match &event.kind {
            EventKind::LateReply { client, .. } => client_key_of(&event.namespace, client),
            EventKind::Call(call) => {
                let order = client_key_of(&event.namespace, &call.order);
                [&order[..], b"\0", &account].concat().into()
            }
            _ => account.clone(),
        };
        Self {
            index,
            partition,
            account,
            order,
            change,
            encoded: encode(event),
            will,
        }
    }

    /// Size of the event in the log, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.encoded.len()
    }
}

/// One call of the script `ingest`.
#[derive(Default)]
pub(crate) struct IngestCall {
    pub(crate) events: Vec<IngestEvent>,
    bytes: usize,
}

impl IngestCall {
    pub(crate) fn is_full(&self) -> bool {
        self.events.len() >= EVENTS || self.bytes >= BYTES
    }

    pub(crate) fn add(&mut self, event: IngestEvent) {
        self.bytes += event.encoded.len() + event.will.len();
        self.events.push(event);
    }

    /// Partitions of its events.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.events.iter().map(|event| event.partition)
    }

    /// Removes and returns the events that exceed the room of these partitions. An event larger than the whole backlog fits
    /// into an empty one.
    pub(crate) fn shrink_to(&mut self, rooms: &[(Partition, Load)], backlog: &Backlog) -> Vec<IngestEvent> {
        let all = Load {
            events: backlog.events,
            bytes: backlog.bytes,
        };
        let mut rooms: HashMap<Partition, Load> = rooms.iter().copied().collect();
        // After the first refusal the rest of the partition is refused, because it may belong to the same client.
        let has_no_room = |event: &mut IngestEvent| {
            let Some(room) = rooms.get_mut(&event.partition) else {
                return false;
            };
            let fits = *room == all || room.events > 0 && room.bytes >= event.bytes();
            match fits {
                true => room.take_off(1, event.bytes()),
                false => *room = Load::default(),
            }
            !fits
        };
        self.events.extract_if(.., has_no_room).collect()
    }

    /// Removes the disconnects of these clients.
    pub(crate) fn drop_ends(&mut self, clients: &[String], open_events: &OpenEvents) {
        self.events.retain(|event| {
            let is_dropped = event.change == SessionChange::Ends
                && clients.iter().any(|client| client.as_bytes() == &event.account[..]);
            if is_dropped {
                open_events.forget(&event.account);
            }
            !is_dropped
        });
    }

    /// Keys and arguments of the call with this number.
    pub(crate) fn encode(
        &self,
        redis: &Redis,
        shard: &Shard,
        member: &Member,
        number: u64,
    ) -> (Vec<Bytes>, Vec<Bytes>) {
        let mut keys = vec![
            shard.key("io"),
            shard.live(&member.id),
            shard.key("who"),
            shard.key("in"),
            shard.key("done"),
            shard.key("owner"),
        ];
        let backlog = &redis.settings.common.backlog;
        let mut partitions: BTreeMap<Partition, Vec<&Bytes>> = BTreeMap::new();
        for event in &self.events {
            partitions.entry(event.partition).or_default().push(&event.encoded);
        }
        let mut arguments = vec![
            bytes_of(member.name.as_str()),
            bytes_of(&member.incarnation),
            bytes_of(number),
            bytes_of(backlog.events),
            bytes_of(backlog.bytes),
            shard.wake(""),
            bytes_of(partitions.len()),
        ];
        for (partition, events) in partitions {
            let bytes: usize = events.iter().map(|event| event.len()).sum();
            let batch = batch::write(events.iter().map(|event| (partition, *event)));
            keys.push(shard.log(partition));
            arguments.extend([bytes_of(partition), bytes_of(events.len()), bytes_of(bytes), batch]);
        }
        for event in &self.events {
            let change: &[u8] = match event.change {
                SessionChange::Begins => b"c",
                SessionChange::Ends => b"d",
                SessionChange::None => continue,
            };
            arguments.extend([Bytes::from_static(change), event.account.clone(), event.will.clone()]);
        }
        (keys, arguments)
    }
}

/// A batch of one event: the client's disconnect with the reason `node-lost`.
fn last_will(partition: Partition, connection: &Event) -> Bytes {
    let client = connection.client.as_ref().map(|client| Client {
        attributes: "{}".into(),
        ..client.clone()
    });
    let end = encode(&Event {
        namespace: connection.namespace.clone(),
        client,
        received_at_ms: now_ms(),
        kind: EventKind::Disconnect(DisconnectReason::NodeLost.into()),
    });
    batch::write(std::iter::once((partition, &end)))
}

//! One call of the script that takes an io-node's events in.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::super::keys::Shard;
use super::super::membership::Member;
use super::super::open::Open;
use super::super::wire::encode;
use super::super::{Redis, batch, bytes_of, bytes_of_client, client_key};
use plugnode_message::{Client, DisconnectReason, Event, EventKind, Partition, now_ms};
use plugnode_transport::Backlog;
use plugnode_transport::Load;

/// At most so many events go in one call,
const EVENTS: usize = 512;
/// and no more once they have so many bytes.
const BYTES: usize = 256 << 10;

/// An event on its way into the log.
pub(super) struct Entry {
    pub(super) place: usize,
    partition: Partition,
    /// The client that it is of; empty for nobody,
    pub(super) client: Bytes,
    /// and the one with whose events it is in order.
    pub(super) order: Bytes,
    pub(super) kind: Kind,
    written: Bytes,
    /// What the client's app is told if its io-node dies.
    will: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connection,
    End,
    Other,
}

impl Entry {
    pub(super) fn of(place: usize, partition: Partition, event: &Event) -> Self {
        let (kind, will) = match &event.kind {
            EventKind::Connection(_) => (Kind::Connection, last_will(partition, event)),
            EventKind::Disconnect(_) => (Kind::End, Bytes::new()),
            _ => (Kind::Other, Bytes::new()),
        };
        let client = client_key(event);
        let order = match &event.kind {
            EventKind::LateReply { client, .. } => bytes_of_client(&event.namespace, client),
            _ => client.clone(),
        };
        Self {
            place,
            partition,
            client,
            order,
            kind,
            written: encode(event),
            will,
        }
    }
}

impl Entry {
    /// Its event's bytes in the log.
    pub(super) fn bytes(&self) -> usize {
        self.written.len()
    }
}

/// One call of the script that takes events in.
#[derive(Default)]
pub(super) struct IngestCall {
    pub(super) entries: Vec<Entry>,
    bytes: usize,
}

impl IngestCall {
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= EVENTS || self.bytes >= BYTES
    }

    pub(super) fn add(&mut self, entry: Entry) {
        self.bytes += entry.written.len() + entry.will.len();
        self.entries.push(entry);
    }

    /// The partitions of its events.
    pub(super) fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.entries.iter().map(|entry| entry.partition)
    }

    /// Leaves in what there is room for in these partitions, and returns the rest. Where all the backlog is room, an event may
    /// be larger than that.
    pub(super) fn keep_to(&mut self, rooms: &[(Partition, Load)], backlog: &Backlog) -> Vec<Entry> {
        let all = Load {
            events: backlog.events,
            bytes: backlog.bytes,
        };
        let mut rooms: HashMap<Partition, Load> = rooms.iter().copied().collect();
        // Once one is refused, so is all behind it in its partition: it may be of the same client.
        let has_no_room = |entry: &mut Entry| {
            let Some(room) = rooms.get_mut(&entry.partition) else {
                return false;
            };
            let fits = *room == all || room.events > 0 && room.bytes >= entry.bytes();
            match fits {
                true => room.take_off(1, entry.bytes()),
                false => *room = Load::default(),
            }
            !fits
        };
        self.entries.extract_if(.., has_no_room).collect()
    }

    /// Leaves out the disconnects of these clients.
    pub(super) fn drop_ends(&mut self, clients: &[String], open: &Open) {
        self.entries.retain(|entry| {
            let is_over =
                entry.kind == Kind::End && clients.iter().any(|client| client.as_bytes() == &entry.client[..]);
            if is_over {
                open.forget(&entry.client);
            }
            !is_over
        });
    }

    pub(super) fn written(&self, redis: &Redis, shard: &Shard, member: &Member, call: u64) -> (Vec<Bytes>, Vec<Bytes>) {
        let keys = vec![
            shard.key("io"),
            shard.live(&member.id),
            shard.key("who"),
            shard.key("log"),
            shard.key("in"),
            shard.key("done"),
        ];
        let backlog = &redis.settings.backlog;
        let mut partitions: BTreeMap<Partition, Load> = BTreeMap::new();
        for entry in &self.entries {
            partitions.entry(entry.partition).or_default().add(entry.bytes());
        }
        let mut arguments = vec![
            bytes_of(member.name.as_str()),
            bytes_of(&member.incarnation),
            bytes_of(call),
            bytes_of(backlog.events),
            bytes_of(backlog.bytes),
            bytes_of(self.entries.len()),
            batch::write(self.entries.iter().map(|entry| (entry.partition, &entry.written))),
            bytes_of(partitions.len()),
        ];
        for (partition, Load { events, bytes }) in partitions {
            arguments.extend([bytes_of(partition), bytes_of(events), bytes_of(bytes)]);
        }
        for entry in &self.entries {
            let what: &[u8] = match entry.kind {
                Kind::Connection => b"c",
                Kind::End => b"d",
                Kind::Other => continue,
            };
            arguments.extend([Bytes::from_static(what), entry.client.clone(), entry.will.clone()]);
        }
        (keys, arguments)
    }
}

/// What a client's app is told if its io-node dies.
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

//! One call of the script that takes an io-node's events in.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::super::keys::Shard;
use super::super::membership::Member;
use super::super::open::Open;
use super::super::wire::encode;
use super::super::{Redis, batch, bytes_of, client_key};
use crate::message::{Client, DisconnectReason, Event, EventKind, Partition, now_ms};

/// At most so many events go in one call,
const EVENTS: usize = 512;
/// and no more once they have so many bytes.
const BYTES: usize = 1 << 20;

/// An event on its way into the log.
pub(super) struct Entry {
    pub(super) place: usize,
    partition: Partition,
    pub(super) client: Bytes,
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
        Self {
            place,
            partition,
            client: client_key(event),
            kind,
            written: encode(event),
            will,
        }
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

    /// Leaves in what there is room for, said as pairs of partition and room, and returns the rest.
    pub(super) fn keep_to(&mut self, rooms: &[String]) -> Vec<Entry> {
        let pairs = rooms.chunks_exact(2);
        let mut rooms: HashMap<Partition, usize> = pairs
            .filter_map(|pair| Some((Partition(pair[0].parse().ok()?), pair[1].parse().ok()?)))
            .collect();
        // Events of a client are of one partition, so what is behind a refused one of it is refused here, too.
        let has_room = |entry: &mut Entry| match rooms.get_mut(&entry.partition) {
            Some(0) => true,
            Some(room) => {
                *room -= 1;
                false
            }
            None => false,
        };
        self.entries.extract_if(.., has_room).collect()
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
        let mut partitions: BTreeMap<Partition, usize> = BTreeMap::new();
        for entry in &self.entries {
            *partitions.entry(entry.partition).or_default() += 1;
        }
        let mut arguments = vec![
            bytes_of(member.name.as_str()),
            bytes_of(&member.incarnation),
            bytes_of(call),
            bytes_of(redis.settings.backlog),
            bytes_of(self.entries.len()),
            batch::write(self.entries.iter().map(|entry| (entry.partition, &entry.written))),
            bytes_of(partitions.len()),
        ];
        for (partition, events) in partitions {
            arguments.extend([bytes_of(partition), bytes_of(events)]);
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
        kind: EventKind::Disconnect(DisconnectReason::NodeLost),
    });
    batch::write(std::iter::once((partition, &end)))
}

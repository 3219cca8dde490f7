//! Open events of an io-node's clients, as the io-node counts them: it takes them in itself, and hears of commits by its
//! outbox. It knows the load of a partition, which clients of other io-nodes share, from the last answer to a call.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use plugnode_message::Partition;
use plugnode_message::id_map::ById;
use plugnode_transport::Backlog;
use plugnode_transport::Load;

/// How long the load of a partition is believed. A partition that is at most half full is not told of.
const BELIEVED: Duration = Duration::from_secs(1);

/// The open events of an io-node's clients.
#[derive(Default)]
pub(super) struct Open(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    clients: ById<Bytes, Load>,
    /// What is known of partitions that are more than half full, and since when.
    partitions: HashMap<Partition, (Load, Instant)>,
}

impl Open {
    /// Counts an event of a client, unless it is beyond the client's share.
    pub(super) fn take(&self, client: &Bytes, partition: Partition, bytes: usize, backlog: &Backlog) -> bool {
        let mut counts = self.counts();
        let Counts { clients, partitions } = &mut *counts;
        // Where no partition is full, nothing is looked up.
        let mut load = match partitions.is_empty() {
            true => None,
            false => partitions.get_mut(&partition),
        };
        let known = load.as_deref().filter(|(_, since)| since.elapsed() < BELIEVED);
        let known = known.map_or(Load::default(), |(load, _)| *load);
        match clients.get_mut(client) {
            Some(open) if !backlog.is_in_share(known, *open, bytes) => return false,
            Some(open) => open.add(bytes),
            None => drop(clients.insert(client.clone(), Load { events: 1, bytes })),
        }
        if let Some((load, _)) = &mut load {
            load.add(bytes);
        }
        true
    }

    /// How many events of a client are open.
    pub(super) fn of(&self, client: &Bytes) -> usize {
        self.counts().clients.get(client).map_or(0, |load| load.events)
    }

    /// Some events of a client are open no longer, or were not taken in after all.
    pub(super) fn give_back(&self, client: &Bytes, events: usize, bytes: usize) {
        let mut counts = self.counts();
        // A client that has left is not counted any more.
        if let Some(open) = counts.clients.get_mut(client) {
            open.take_off(events, bytes);
            if open.events == 0 {
                counts.clients.remove(client);
            }
        }
    }

    /// What was told of the load of these partitions: none of those that are at most half full.
    pub(super) fn told(&self, partitions: impl Iterator<Item = Partition>, loads: &[(Partition, Load)]) {
        let mut counts = self.counts();
        if !counts.partitions.is_empty() {
            partitions.for_each(|partition| {
                counts.partitions.remove(&partition);
            });
        }
        let since = Instant::now();
        let loads = loads.iter().map(|(partition, load)| (*partition, (*load, since)));
        counts.partitions.extend(loads);
    }

    /// A client has left: there will be no other event of it.
    pub(super) fn forget(&self, client: &Bytes) {
        self.counts().clients.remove(client);
    }

    /// What is open is not known any more.
    pub(super) fn forget_all(&self) {
        self.counts().clients.clear();
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

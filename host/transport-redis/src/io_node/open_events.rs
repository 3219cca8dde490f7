//! Open events of an io-node's clients, or of the callers of an API node: accepted and not committed. The io-node adds them as it hands
//! them in, and removes them as its outbox reports their commits. The load of a whole partition, which clients of other io-nodes share,
//! comes from the answers to ingest calls.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use plugnode_message::Partition;
use plugnode_message::id_map::ById;
use plugnode_transport::{Backlog, Load};

/// Validity of a reported partition load.
const LOAD_VALIDITY: Duration = Duration::from_secs(1);

/// Open events by client or caller.
#[derive(Default)]
pub(crate) struct OpenEvents(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    clients: ById<Bytes, Load>,
    /// Reported loads and their times. Only partitions that are more than half full are reported.
    partitions: HashMap<Partition, (Load, Instant)>,
}

impl OpenEvents {
    /// Adds an event of a client, unless it exceeds the client's share of the backlog.
    pub(crate) fn try_add(&self, client: &Bytes, partition: Partition, bytes: usize, backlog: &Backlog) -> bool {
        let mut counts = self.counts();
        let Counts { clients, partitions } = &mut *counts;
        // Saves the lookup in the usual case that no partition is half full.
        let mut load = match partitions.is_empty() {
            true => None,
            false => partitions.get_mut(&partition),
        };
        let known = load.as_deref().filter(|(_, since)| since.elapsed() < LOAD_VALIDITY);
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

    /// Number of open events of a client.
    pub(crate) fn count(&self, client: &Bytes) -> usize {
        self.counts().clients.get(client).map_or(0, |load| load.events)
    }

    /// Removes events of a client that are committed or were refused.
    pub(crate) fn remove(&self, client: &Bytes, events: usize, bytes: usize) {
        let mut counts = self.counts();
        // A client that has left is no longer counted.
        if let Some(open) = counts.clients.get_mut(client) {
            open.take_off(events, bytes);
            if open.events == 0 {
                counts.clients.remove(client);
            }
        }
    }

    /// Replaces the loads of these partitions. Those without a load are at most half full.
    pub(crate) fn update_loads(&self, partitions: impl Iterator<Item = Partition>, loads: &[(Partition, Load)]) {
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

    /// Removes a client that has left and will send no other event.
    pub(crate) fn forget(&self, client: &Bytes) {
        self.counts().clients.remove(client);
    }

    /// Removes all clients, because reports of commits may be lost.
    pub(crate) fn forget_all(&self) {
        self.counts().clients.clear();
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

//! One partition: its log, from the oldest event that is not committed, and who owns it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use super::MemorySettings;
use crate::ids::ById;
use crate::message::{Event, EventId, EventKind, Namespace, NodeId, Partition, SessionId};
use crate::transport::Delivery;

/// At most so many events are handed out at once.
const BATCH: usize = 256;

pub(super) struct PartitionState {
    /// Events from the oldest that is not committed; committed ones behind it are empty.
    pub(super) log: VecDeque<Option<Arc<Event>>>,
    /// The sequence number of the first in the log.
    pub(super) first: u64,
    /// How many in the log are not committed, in all and by client.
    pub(super) open: usize,
    pub(super) open_by_client: ById<SessionId, usize>,
    /// Counts leases: what an earlier lease asks for is refused.
    pub(super) epoch: u64,
    pub(super) owner: Option<NodeId>,
    pub(super) revoked: bool,
    pub(super) news: Arc<Notify>,
}

impl PartitionState {
    pub(super) fn new() -> Self {
        Self {
            log: VecDeque::new(),
            first: 1,
            open: 0,
            open_by_client: ById::default(),
            epoch: 0,
            owner: None,
            revoked: false,
            news: Arc::default(),
        }
    }

    pub(super) fn is_full(&self, client: Option<&SessionId>, settings: &MemorySettings) -> bool {
        self.open >= settings.backlog
            || client.is_some_and(|client| {
                self.open_by_client
                    .get(client)
                    .is_some_and(|open| *open >= settings.client_backlog)
            })
    }

    /// Puts an event at the end. Who reads is not told: [`news`](Self::news) is for that.
    pub(super) fn append(&mut self, event: Event) {
        if let Some(client) = &event.client {
            match self.open_by_client.get_mut(&client.id) {
                Some(open) => *open += 1,
                None => drop(self.open_by_client.insert(client.id.clone(), 1)),
            }
        }
        self.open += 1;
        self.log.push_back(Some(Arc::new(event)));
    }

    /// What is open from `next` on, and where to go on after that.
    pub(super) fn read(&self, partition: Partition, next: u64) -> (Vec<Delivery>, u64) {
        let mut next = next.max(self.first);
        let mut deliveries = Vec::new();
        for entry in self.log.iter().skip((next - self.first) as usize) {
            if deliveries.len() == BATCH {
                break;
            }
            if let Some(event) = entry {
                deliveries.push(Delivery {
                    id: EventId {
                        partition,
                        sequence: next,
                    },
                    event: event.clone(),
                });
            }
            next += 1;
        }
        (deliveries, next)
    }

    /// Takes an open event out of the log. None when it was committed before.
    pub(super) fn close(&mut self, sequence: u64) -> Option<Arc<Event>> {
        let place = sequence.checked_sub(self.first)?;
        let event = self.log.get_mut(place as usize)?.take()?;
        self.closed(&event);
        Some(event)
    }

    /// Takes a client's disconnect out of the log, if it is there.
    pub(super) fn forget(&mut self, namespace: &Namespace, client: &SessionId) {
        if !self.open_by_client.contains_key(client) {
            return;
        }
        let is_its_end = |event: &mut Arc<Event>| {
            let is_its = event.client.as_ref().is_some_and(|from| from.id == *client);
            is_its && event.namespace == *namespace && matches!(event.kind, EventKind::Disconnect(_))
        };
        if let Some(event) = self.log.iter_mut().find_map(|entry| entry.take_if(is_its_end)) {
            self.closed(&event);
        }
    }

    /// An event was taken out of the log.
    fn closed(&mut self, event: &Event) {
        while let Some(None) = self.log.front() {
            self.log.pop_front();
            self.first += 1;
        }
        self.open -= 1;
        if let Some(client) = &event.client
            && let Some(open) = self.open_by_client.get_mut(&client.id)
        {
            *open -= 1;
            if *open == 0 {
                self.open_by_client.remove(&client.id);
            }
        }
    }
}

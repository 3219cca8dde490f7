//! A partition: its log, from the oldest open event on, and its owner.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::Delivery;
use crate::backlog::{Backlog, Load};
use plugnode_message::id_map::ById;
use plugnode_message::{Event, EventId, EventKind, Namespace, NodeId, Partition, SessionId, Text};

/// Maximum number of events handed out at once.
const BATCH: usize = 256;

pub(super) struct PartitionState {
    /// Events from the oldest open one on; later ones that are committed are None.
    pub(super) log: VecDeque<Option<Arc<Event>>>,
    /// Sequence of the first entry of the log.
    pub(super) first: u64,
    /// The open events, in all and by whom they count for.
    pub(super) open: Load,
    open_by_client: ById<SessionId, Load>,
    /// Fencing epoch: counts leases, and calls of an earlier lease are refused.
    pub(super) epoch: u64,
    pub(super) owner: Option<NodeId>,
    pub(super) revoked: bool,
    pub(super) news: Arc<Notify>,
    /// Attribute patches that io-nodes may not have applied yet.
    pub(super) patches: BTreeMap<(Namespace, SessionId, u64), Text>,
}

impl PartitionState {
    pub(super) fn new() -> Self {
        Self {
            log: VecDeque::new(),
            first: 1,
            open: Load::default(),
            open_by_client: ById::default(),
            epoch: 0,
            owner: None,
            revoked: false,
            news: Arc::default(),
            patches: BTreeMap::new(),
        }
    }

    /// Whether an event is accepted of a client or caller with these open events; None for nobody's.
    pub(super) fn has_room(&self, event: &Event, open: Option<Load>, backlog: &Backlog) -> bool {
        let bytes = event.size();
        backlog.has_room(self.open, bytes) && open.is_none_or(|open| backlog.is_in_share(self.open, open, bytes))
    }

    /// The open events of a client or caller.
    pub(super) fn open_of(&self, client: &SessionId) -> Load {
        self.open_by_client.get(client).copied().unwrap_or_default()
    }

    /// Puts an event at the end. Who reads is not told: [`news`](Self::news) is for that.
    pub(super) fn append(&mut self, event: Event) {
        let bytes = event.size();
        if let Some(client) = event.counted_for() {
            match self.open_by_client.get_mut(&*client) {
                Some(open) => open.add(bytes),
                None => drop(
                    self.open_by_client
                        .insert(client.into_owned(), Load { events: 1, bytes }),
                ),
            }
        }
        self.open.add(bytes);
        self.log.push_back(Some(Arc::new(event)));
    }

    /// The open events from `next` on, and the sequence to continue at.
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
                    attempts: 0,
                });
            }
            next += 1;
        }
        (deliveries, next)
    }

    /// An open event. None if it is committed.
    pub(super) fn event(&self, sequence: u64) -> Option<&Arc<Event>> {
        let place = sequence.checked_sub(self.first)?;
        self.log.get(place as usize)?.as_ref()
    }

    /// Takes an open event out of the log. None if it is committed.
    pub(super) fn close(&mut self, sequence: u64) -> Option<Arc<Event>> {
        let place = sequence.checked_sub(self.first)?;
        let event = self.log.get_mut(place as usize)?.take()?;
        self.closed(&event);
        Some(event)
    }

    /// Takes a client's disconnect out of the log, if there is one.
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

    /// Accounts for an event that was taken out of the log.
    fn closed(&mut self, event: &Event) {
        while let Some(None) = self.log.front() {
            self.log.pop_front();
            self.first += 1;
        }
        let bytes = event.size();
        self.open.take_off(1, bytes);
        if let Some(client) = event.counted_for()
            && let Some(open) = self.open_by_client.get_mut(&*client)
        {
            open.take_off(1, bytes);
            if open.events == 0 {
                self.open_by_client.remove(&*client);
            }
        }
    }
}

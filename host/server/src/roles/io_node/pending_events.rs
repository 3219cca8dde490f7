//! Events that the transport has not accepted, each client's in order.
//!
//! Most events are offered once and accepted. Those of a client that was refused are held apart from the others and offered again after a
//! pause that grows. The transport knows nothing of an event in here: it was never offered, or returned as refused. Therefore it can still
//! be refused to its client.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use plugnode_message::{Event, SessionId};
use plugnode_process::Backoff;
use plugnode_process::metrics;
use plugnode_socket_io::{EventSource, PendingEvent};

/// Events that are offered at once.
pub(super) const BATCH: usize = 512;
/// Events of held clients among these while other events wait.
const MAX_HELD_OFFERED: usize = BATCH / 2;
/// Events of one held client among these.
const MAX_OF_ONE_CLIENT: usize = 64;
/// How long a held client waits before it is offered again, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// How long it waits at most.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// All events that wait to be accepted.
#[derive(Default)]
pub(super) struct PendingEvents {
    /// Events of clients that are not held, in the order in which they came.
    fresh: VecDeque<PendingEvent>,
    held: HashMap<Key, HeldClient>,
    /// When held clients are offered again, soonest first.
    again: VecDeque<(Instant, Key)>,
    /// The held clients with events in the batch that is being offered, and how many.
    offered: Vec<(Key, usize)>,
}

/// The events of a client that was refused.
struct HeldClient {
    events: VecDeque<PendingEvent>,
    pause: Backoff,
}

/// Events with the same key stay in order. None is the key of events that come from no client.
type Key = Option<SessionId>;

fn key_of(event: &Event) -> Key {
    event.in_order_with().cloned()
}

impl PendingEvents {
    /// Adds an event, behind the earlier ones of its client.
    pub(super) fn push(&mut self, pending: PendingEvent) {
        if pending.source.was_turned_away() {
            pending.give_up();
            return;
        }
        // Usually no client is held, and no key is looked up.
        match self.held.is_empty() {
            true => self.fresh.push_back(pending),
            false => match self.held.get_mut(&key_of(&pending.event)) {
                Some(held) => held.events.push_back(pending),
                None => self.fresh.push_back(pending),
            },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.held.is_empty()
    }

    /// Whether any event is to be offered now.
    pub(super) fn is_due(&self) -> bool {
        !self.fresh.is_empty() || self.again.front().is_some_and(|(at, _)| *at <= Instant::now())
    }

    /// When the next event is to be offered. None if none waits.
    pub(super) fn next_offer(&self) -> Option<Instant> {
        match self.fresh.front() {
            Some(pending) => Some(pending.since),
            None => self.again.front().map(|(at, _)| *at),
        }
    }

    /// Takes the batch that is to be offered now. [`offered`](Self::offered) has to be called before the next.
    pub(super) fn offer(&mut self) -> Vec<PendingEvent> {
        let now = Instant::now();
        let max_held = if self.fresh.is_empty() { BATCH } else { MAX_HELD_OFFERED };
        let held_events = max_held.min(self.held.len() * MAX_OF_ONE_CLIENT);
        let mut batch = Vec::with_capacity(BATCH.min(self.fresh.len() + held_events));
        while batch.len() < max_held
            && let Some((_, key)) = self.again.pop_front_if(|(at, _)| *at <= now)
        {
            if let Some(held) = self.held.get_mut(&key) {
                let count = held.events.len().min(MAX_OF_ONE_CLIENT);
                batch.extend(held.events.drain(..count));
                self.offered.push((key, count));
            }
        }
        let room = (BATCH - batch.len().min(BATCH)).min(self.fresh.len());
        batch.extend(self.fresh.drain(..room));
        batch
    }

    /// Takes back the refused events of the batch, holds their clients, and holds clients no longer whose events were all accepted.
    pub(super) fn offered(&mut self, refused: Vec<PendingEvent>) {
        if refused.is_empty() && self.offered.is_empty() {
            return;
        }
        metrics::EVENTS_PUT_OFF.add(refused.len());
        let mut newly_held: HashSet<Key> = HashSet::new();
        let mut refused_of: HashMap<Key, VecDeque<PendingEvent>> = HashMap::new();
        for pending in refused {
            refused_of.entry(key_of(&pending.event)).or_default().push_back(pending);
        }
        // How many events of each client were offered and refused.
        let mut results: HashMap<Key, (usize, usize)> =
            self.offered.drain(..).map(|(key, count)| (key, (count, 0))).collect();
        for (key, mut events) in refused_of {
            let count = events.len();
            match self.held.get_mut(&key) {
                Some(held) => {
                    events.append(&mut held.events);
                    held.events = events;
                }
                None => {
                    newly_held.insert(key.clone());
                    let pause = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
                    self.held.insert(key.clone(), HeldClient { events, pause });
                }
            }
            results.entry(key).or_default().1 = count;
        }
        if !newly_held.is_empty() {
            self.move_behind_refused(&newly_held);
        }
        let now = Instant::now();
        for (key, (offered, refused)) in results {
            let Some(held) = self.held.get_mut(&key) else { continue };
            if held.events.is_empty() {
                self.held.remove(&key);
                continue;
            }
            if refused < offered {
                held.pause.reset();
            }
            let at = if refused > 0 {
                now + held.pause.next_delay()
            } else {
                now
            };
            let position = self.again.partition_point(|(other, _)| *other <= at);
            self.again.insert(position, (at, key));
        }
    }

    /// Moves the fresh events of newly held clients behind their refused ones.
    fn move_behind_refused(&mut self, newly_held: &HashSet<Key>) {
        for pending in std::mem::take(&mut self.fresh) {
            let key = key_of(&pending.event);
            match self.held.get_mut(&key).filter(|_| newly_held.contains(&key)) {
                Some(held) => held.events.push_back(pending),
                None => self.fresh.push_back(pending),
            }
        }
    }

    /// Refuses events that have waited for `after`: those that ask for an acknowledgement get an error, and clients whose connection is not
    /// accepted are turned away. All other events wait on.
    pub(super) fn refuse(&mut self, after: Duration) {
        let now = Instant::now();
        let is_late = |pending: &PendingEvent| now.duration_since(pending.since) >= after;
        let queues = || self.held.values().map(|held| &held.events).chain([&self.fresh]);
        let late_connections: Vec<Arc<dyn EventSource>> = queues()
            .flatten()
            .filter(|pending| pending.is_connection() && is_late(pending))
            .map(|pending| pending.source.clone())
            .collect();
        for source in &late_connections {
            source.turn_away();
            metrics::CLIENTS_TURNED_AWAY.increment();
        }
        let stays = |pending: &mut PendingEvent| {
            if pending.source.was_turned_away() {
                pending.give_up();
                return false;
            }
            if pending.asks_for_acknowledgement() && is_late(pending) {
                pending.source.refuse(&pending.event);
                metrics::EVENTS_OVERLOADED.increment();
                pending.give_up();
                return false;
            }
            true
        };
        self.fresh.retain_mut(stays);
        self.held.retain(|key, held| {
            held.events.retain_mut(stays);
            // While events of a client are being offered, its later ones have to wait.
            !held.events.is_empty() || self.offered.iter().any(|(offered, _)| offered == key)
        });
        if self.again.len() + self.offered.len() > self.held.len() {
            self.again.retain(|(_, key)| self.held.contains_key(key));
        }
    }
}

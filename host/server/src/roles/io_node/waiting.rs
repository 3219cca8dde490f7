//! Events on their way from the sockets that the transport has not accepted, each client's in order.
//!
//! Most pass through at once. Those of a client that was refused are held, apart from the others, and offered again
//! after a while that grows. What is here was never offered or was returned as refused: the transport knows nothing of
//! it, and so it can still be refused to its client.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::handle::Share;
use super::member::Member;
use plugnode_message::{Event, EventKind, SessionId};
use plugnode_process::Backoff;
use plugnode_process::metrics;

/// How many events are offered at once,
pub(super) const BATCH: usize = 512;
/// and how many of these may be of clients that were refused, while others wait.
const OFFERED_AGAIN: usize = BATCH / 2;
/// How many events of one refused client are offered at once.
const OF_ONE: usize = 64;
/// How long a refused client waits before it is offered again, at first
const PATIENCE: Duration = Duration::from_millis(5);
/// and at most.
const MOST_PATIENCE: Duration = Duration::from_millis(100);

/// An event that has just come.
pub(super) struct Arrival {
    pub(super) event: Event,
    pub(super) source: Source,
}

/// One that waits to be accepted.
pub(super) struct Taken {
    pub(super) event: Event,
    pub(super) source: Source,
    pub(super) since: Instant,
}

/// Who it came from.
pub(super) enum Source {
    Client(Arc<Member>),
    /// Nobody: the program that embeds this io-node. Its share of what may wait is free once this is dropped.
    Program(#[allow(dead_code, reason = "it is held")] Share),
}

impl Source {
    /// The client, if it was one.
    pub(super) fn member(&self) -> Option<&Arc<Member>> {
        match self {
            Self::Client(member) => Some(member),
            Self::Program(_) => None,
        }
    }

    fn was_turned_away(&self) -> bool {
        self.member().is_some_and(|member| member.was_turned_away())
    }

    /// An event of so many bytes does not wait any more.
    pub(super) fn went_on(&self, bytes: usize) {
        if let Some(member) = self.member() {
            member.session.went_on(bytes);
        }
    }
}

/// What waits.
#[derive(Default)]
pub(super) struct Waiting {
    /// Events of clients that were not refused, in the order they came.
    fresh: VecDeque<Taken>,
    held: HashMap<Key, Held>,
    /// When held clients are offered again, soonest first.
    again: VecDeque<(Instant, Key)>,
    /// The held clients of whom events are being offered, and how many.
    offered: Vec<(Key, usize)>,
}

/// The events of a client that was refused.
struct Held {
    events: VecDeque<Taken>,
    patience: Backoff,
}

/// Whose events must stay in order.
type Key = Option<SessionId>;

impl Taken {
    pub(super) fn key(&self) -> Key {
        self.event.in_order_with().cloned()
    }

    fn is_connection(&self) -> bool {
        matches!(self.event.kind, EventKind::Connection(_))
    }

    fn asks_for_an_answer(&self) -> bool {
        matches!(self.event.kind, EventKind::Message { ack: Some(_), .. })
    }
}

impl Waiting {
    /// Takes in the latest event of its client, which came at this moment.
    pub(super) fn push(&mut self, arrival: Arrival, since: Instant) {
        let Arrival { event, source } = arrival;
        let taken = Taken { event, source, since };
        if taken.source.was_turned_away() {
            taken.let_go();
            return;
        }
        // Most of the time nobody is held, and then nobody need be looked for.
        match self.held.is_empty() {
            true => self.fresh.push_back(taken),
            false => match self.held.get_mut(&taken.key()) {
                Some(held) => held.events.push_back(taken),
                None => self.fresh.push_back(taken),
            },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.held.is_empty()
    }

    /// Whether something is to be offered now.
    pub(super) fn is_due(&self) -> bool {
        !self.fresh.is_empty() || self.again.front().is_some_and(|(at, _)| *at <= Instant::now())
    }

    /// When something is to be offered. None when nothing waits.
    pub(super) fn next_offer(&self) -> Option<Instant> {
        match self.fresh.front() {
            Some(taken) => Some(taken.since),
            None => self.again.front().map(|(at, _)| *at),
        }
    }

    /// What is to be offered now; what becomes of it is told by [`offered`](Self::offered) before the next.
    pub(super) fn offer(&mut self) -> Vec<Taken> {
        let now = Instant::now();
        let most_held = if self.fresh.is_empty() { BATCH } else { OFFERED_AGAIN };
        let mut batch = Vec::with_capacity(BATCH.min(self.fresh.len() + most_held.min(self.held.len() * OF_ONE)));
        while batch.len() < most_held
            && let Some((_, key)) = self.again.pop_front_if(|(at, _)| *at <= now)
        {
            if let Some(held) = self.held.get_mut(&key) {
                let count = held.events.len().min(OF_ONE);
                batch.extend(held.events.drain(..count));
                self.offered.push((key, count));
            }
        }
        let room = (BATCH - batch.len().min(BATCH)).min(self.fresh.len());
        batch.extend(self.fresh.drain(..room));
        batch
    }

    /// Takes back what was refused of the batch, and lets clients go of whom all was accepted.
    pub(super) fn offered(&mut self, refused: Vec<Taken>) {
        if refused.is_empty() && self.offered.is_empty() {
            return;
        }
        metrics::EVENTS_PUT_OFF.add(refused.len());
        let mut newly: HashSet<Key> = HashSet::new();
        let mut behind: HashMap<Key, VecDeque<Taken>> = HashMap::new();
        for taken in refused {
            behind.entry(taken.key()).or_default().push_back(taken);
        }
        // Of each held client, how many events were offered and how many came back.
        let mut offered: HashMap<Key, (usize, usize)> =
            self.offered.drain(..).map(|(key, count)| (key, (count, 0))).collect();
        for (key, mut events) in behind {
            let count = events.len();
            match self.held.get_mut(&key) {
                Some(held) => {
                    events.append(&mut held.events);
                    held.events = events;
                }
                None => {
                    newly.insert(key.clone());
                    let patience = Backoff::new(PATIENCE, MOST_PATIENCE);
                    self.held.insert(key.clone(), Held { events, patience });
                }
            }
            offered.entry(key).or_default().1 = count;
        }
        if !newly.is_empty() {
            self.hold(&newly);
        }
        let now = Instant::now();
        for (key, (count, came_back)) in offered {
            let Some(held) = self.held.get_mut(&key) else { continue };
            if held.events.is_empty() {
                self.held.remove(&key);
                continue;
            }
            if came_back < count {
                // There is some room again.
                held.patience.reset();
            }
            let at = if came_back > 0 {
                now + held.patience.next_delay()
            } else {
                now
            };
            let place = self.again.partition_point(|(other, _)| *other <= at);
            self.again.insert(place, (at, key));
        }
    }

    /// Moves what has come meanwhile behind what was refused.
    fn hold(&mut self, newly: &HashSet<Key>) {
        for taken in std::mem::take(&mut self.fresh) {
            match self.held.get_mut(&taken.key()).filter(|_| newly.contains(&taken.key())) {
                Some(held) => held.events.push_back(taken),
                None => self.fresh.push_back(taken),
            }
        }
    }

    /// Refuses to their clients what has waited so long: events that ask for an acknowledgement get one that says so, and
    /// clients whose connection is not accepted are turned away, of whom the apps have never heard. All else waits on.
    pub(super) fn refuse(&mut self, after: Duration) {
        let now = Instant::now();
        let is_late = |taken: &Taken| now.duration_since(taken.since) >= after;
        let queues = || self.held.values().map(|held| &held.events).chain([&self.fresh]);
        let turned_away: Vec<Arc<Member>> = queues()
            .flatten()
            .filter(|taken| taken.is_connection() && is_late(taken))
            .filter_map(|taken| taken.source.member().cloned())
            .collect();
        for member in &turned_away {
            member.turn_away();
            metrics::CLIENTS_TURNED_AWAY.increment();
        }
        let refuse = |taken: &mut Taken| {
            if taken.source.was_turned_away() {
                taken.let_go();
                return false;
            }
            if taken.asks_for_an_answer() && is_late(taken) {
                if let Some(member) = taken.source.member() {
                    member.refuse(&taken.event);
                }
                metrics::EVENTS_OVERLOADED.increment();
                taken.let_go();
                return false;
            }
            true
        };
        self.fresh.retain_mut(refuse);
        self.held.retain(|key, held| {
            held.events.retain_mut(refuse);
            // Of whom events are being offered, later ones still have to wait.
            !held.events.is_empty() || self.offered.iter().any(|(offered, _)| offered == key)
        });
        if self.again.len() + self.offered.len() > self.held.len() {
            self.again.retain(|(_, key)| self.held.contains_key(key));
        }
    }
}

impl Taken {
    /// The event does not wait any more, and was not accepted.
    fn let_go(&self) {
        self.source.went_on(self.event.size());
    }
}

//! Derives a verdict from a history by comparing all observations with each other.
//!
//! The cluster's records and the deliveries show which messages took effect. From these follow the deliveries that each client
//! should have received, and their order. Messages in flight when their client's connection ended may have taken effect, in the
//! order sent, or not: either is accepted.

mod deliveries;
mod disconnects;
mod effects;
mod publishes;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use super::history::{DeliveryKind, EventId, History};

/// Most numbers, events and recipients that a violation names.
const NAMED: usize = 12;

/// Whether a history keeps the promises.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// Amounts that were checked.
    pub counts: CheckedCounts,
}

/// A promise that was broken in one way, to one client or by one shared counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub kind: ViolationKind,
    /// `client ID`, whose messages or events these were, `counter N`, or `publisher N`.
    pub subject: String,
    /// The description of the violation.
    pub what: &'static str,
    /// Number of occurrences.
    pub times: usize,
    /// The messages concerned, or the first of them.
    pub numbers: Vec<u64>,
    /// The events concerned, as far as they are known, or the first of them.
    pub events: Vec<EventId>,
    /// Other clients concerned, or the first of them.
    pub others: Vec<String>,
}

/// The ways to break a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ViolationKind {
    /// Something accepted did not take effect, or something sent did not arrive.
    Lost,
    /// Something took effect or arrived twice.
    Doubled,
    /// Something came after what should have come later.
    OutOfOrder,
    /// A client did not have exactly one connection, first, and one disconnect, last.
    Disconnects,
    /// Commands and key-value writes of one event disagree.
    PartialEffects,
    /// Something arrived or took effect that should not have.
    Unexpected,
    /// A shared counter differs from the number of messages that incremented it.
    Increments,
    /// An event did not see the attributes that an earlier event of its client had set.
    Attributes,
}

/// Amounts of clients, messages and deliveries that were checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedCounts {
    /// Connections that were made.
    pub clients: usize,
    /// Messages that were sent,
    pub sent: usize,
    /// acknowledged,
    pub acked: usize,
    /// refused,
    pub refused: usize,
    /// and in flight when their client's connection ended, without a known outcome.
    pub unknown: usize,
    /// Messages that took effect.
    pub effects: usize,
    /// Increments of shared counters.
    pub increments: u64,
    /// Deliveries to clients.
    pub deliveries: usize,
    /// Publishes that the server API accepted,
    pub publishes: usize,
    /// attempts at them that were repeated,
    pub repeated: usize,
    /// and their deliveries to watchers.
    pub published: usize,
}

/// Judges a history.
pub fn judge(history: &History) -> Verdict {
    let mut findings = Findings::new(history);
    let evidence = effects::evidence(history);
    let mut effects = Vec::with_capacity(history.traces.len());
    for (client, (trace, evidence)) in (0..).zip(history.traces.iter().zip(&evidence)) {
        effects.push(effects::judge(client, trace, evidence, &mut findings));
    }
    deliveries::judge(history, &effects, &evidence, &mut findings);
    disconnects::judge(history, &mut findings);
    state::judge(history, &effects, &mut findings);
    publishes::judge(history, &mut findings);
    let mut counts = CheckedCounts::of(history);
    for effects in &effects {
        counts.unknown += effects.unknown;
        counts.effects += effects.done.iter().filter(|done| **done).count();
    }
    Verdict {
        violations: findings.found.into_values().collect(),
        counts,
    }
}

impl Verdict {
    /// Number of violations of this kind.
    pub fn times(&self, kind: ViolationKind) -> usize {
        let of_kind = self.violations.iter().filter(|violation| violation.kind == kind);
        of_kind.map(|violation| violation.times).sum()
    }
}

impl ViolationKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Lost,
        Self::Doubled,
        Self::OutOfOrder,
        Self::Disconnects,
        Self::PartialEffects,
        Self::Unexpected,
        Self::Increments,
        Self::Attributes,
    ];

    /// The kind's name in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::OutOfOrder => "out of order",
            Self::Disconnects => "disconnects",
            Self::PartialEffects => "partial",
            Self::Unexpected => "unexpected",
            Self::Increments => "increments",
            Self::Attributes => "attributes",
        }
    }
}

impl CheckedCounts {
    /// The counts that need no judgement.
    pub(super) fn of(history: &History) -> Self {
        let count = |kind: DeliveryKind| {
            let deliveries = history.traces.iter().flat_map(|trace| &trace.deliveries);
            deliveries.filter(|delivery| delivery.kind == kind).count()
        };
        Self {
            clients: history.traces.len(),
            sent: history.traces.iter().map(|trace| trace.sent.len()).sum(),
            acked: count(DeliveryKind::Ack),
            refused: count(DeliveryKind::Refused),
            unknown: 0,
            effects: 0,
            increments: history.counters.iter().sum(),
            deliveries: history.traces.iter().map(|trace| trace.deliveries.len()).sum(),
            publishes: history.publishes.iter().map(|publishes| publishes.accepted).sum(),
            repeated: history.publishes.iter().map(|publishes| publishes.repeated).sum(),
            published: history.watches.iter().map(|watch| watch.publishes.len()).sum(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind.word(), self.subject, self.what)?;
        if self.times > 1 {
            write!(f, ", {} times", self.times)?;
        }
        for (name, list) in [
            ("numbers", texts(&self.numbers)),
            ("events", texts(&self.events)),
            ("other clients", texts(&self.others)),
        ] {
            if !list.is_empty() {
                let more = if list.len() < self.times && list.len() == NAMED {
                    ", …"
                } else {
                    ""
                };
                write!(f, "; {name} {}{more}", list.join(", "))?;
            }
        }
        Ok(())
    }
}

fn texts(list: &[impl fmt::Display]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Collects violations: one for each subject, kind and wording.
struct Findings<'a> {
    history: &'a History,
    found: BTreeMap<(ViolationKind, Subject, &'static str), Violation>,
}

/// The subject of a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Client(u32),
    Counter(usize),
    Publisher(usize),
}

impl<'a> Findings<'a> {
    fn new(history: &'a History) -> Self {
        Self {
            history,
            found: BTreeMap::new(),
        }
    }

    /// Adds `times` occurrences to a violation.
    fn add_times(
        &mut self,
        kind: ViolationKind,
        client: u32,
        what: &'static str,
        times: u32,
    ) -> Option<&mut Violation> {
        if times == 0 {
            return None;
        }
        let violation = self.violation(kind, Subject::Client(client), what);
        violation.times += times as usize;
        Some(violation)
    }

    /// Adds `times` occurrences to a violation of a shared counter.
    fn add_to_counter(&mut self, counter: usize, what: &'static str, times: u64) {
        if times > 0 {
            self.violation(ViolationKind::Increments, Subject::Counter(counter), what)
                .times += times as usize;
        }
    }

    /// Adds an occurrence for each of these numbers to a violation of a publisher.
    fn add_to_publisher(&mut self, kind: ViolationKind, publisher: usize, what: &'static str, numbers: &[u64]) {
        for number in numbers {
            let violation = self.violation(kind, Subject::Publisher(publisher), what);
            violation.times += 1;
            violation.number(*number);
        }
    }

    fn violation(&mut self, kind: ViolationKind, subject: Subject, what: &'static str) -> &mut Violation {
        let history = self.history;
        self.found.entry((kind, subject, what)).or_insert_with(|| Violation {
            kind,
            subject: match subject {
                Subject::Client(client) => format!("client {}", history.traces[client as usize].id),
                Subject::Counter(counter) => format!("counter {counter}"),
                Subject::Publisher(publisher) => format!("publisher {publisher}"),
            },
            what,
            times: 0,
            numbers: Vec::new(),
            events: Vec::new(),
            others: Vec::new(),
        })
    }

    /// Adds one occurrence to a violation.
    fn add(&mut self, kind: ViolationKind, client: u32, what: &'static str) -> &mut Violation {
        self.add_times(kind, client, what, 1)
            .expect("one occurrence makes a violation")
    }

    /// Whether there is a violation of this client.
    fn any(&self, client: u32) -> bool {
        self.found.keys().any(|(_, found, _)| *found == Subject::Client(client))
    }
}

impl Violation {
    fn number(&mut self, number: u64) -> &mut Self {
        if self.numbers.len() < NAMED && self.numbers.last() != Some(&number) {
            self.numbers.push(number);
        }
        self
    }

    fn event(&mut self, event: EventId) -> &mut Self {
        if event != EventId::default() && self.events.len() < NAMED && !self.events.contains(&event) {
            self.events.push(event);
        }
        self
    }

    fn other(&mut self, client: &str) -> &mut Self {
        let is_subject = self.subject.strip_prefix("client ") == Some(client);
        if !is_subject && self.others.len() < NAMED && !self.others.iter().any(|other| other == client) {
            self.others.push(client.to_owned());
        }
        self
    }
}

//! From a history to a verdict: every side of what was observed is held against every other.
//!
//! Which messages took effect is told by the cluster's records and by whoever heard of them. Of each message that did,
//! it is known who had to hear what of it and in which order. What a client can only guess is left open: messages in
//! flight when its connection ended may have taken effect, in the order they were sent, or not.

mod disconnects;
mod effects;
mod heard;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use super::history::{EventName, History, What};

/// So many numbers, events and recipients are named in a violation.
const NAMED: usize = 12;

/// What a history says of the promises.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What was broken.
    pub violations: Vec<Violation>,
    /// How much was looked at.
    pub tally: Tally,
}

/// A promise that was broken in one way, to one client or by one shared counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// `client ID`, whose messages or events these were, or `counter N`.
    pub subject: String,
    /// In words.
    pub what: &'static str,
    /// How often.
    pub times: usize,
    /// The messages concerned, or the first of them.
    pub numbers: Vec<u64>,
    /// The events concerned, as far as they are known, or the first of them.
    pub events: Vec<EventName>,
    /// Other clients that should have heard, or did, or the first of them.
    pub others: Vec<String>,
}

/// The ways to break a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Something accepted did not take effect, or something sent did not arrive.
    Lost,
    /// Something took effect or arrived twice.
    Doubled,
    /// Something came after what it had to come before.
    OutOfOrder,
    /// A client had not one connection at first and one disconnect at last.
    Disconnects,
    /// Commands and key-value writes of one event disagree.
    HalfEffects,
    /// Something came that nobody should have got.
    Unexpected,
    /// A shared counter is not the number of messages that incremented it.
    Increments,
    /// An event did not see the attributes of its client as an earlier event had set them.
    Attributes,
}

/// How much was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that were made.
    pub clients: usize,
    /// Messages that were sent,
    pub sent: usize,
    /// acknowledged,
    pub acked: usize,
    /// refused,
    pub refused: usize,
    /// and in flight when their client went, without anybody having heard of them.
    pub unknown: usize,
    /// Messages that took effect.
    pub effects: usize,
    /// Increments of shared counters.
    pub increments: u64,
    /// How often anything was heard.
    pub heard: usize,
}

/// Judges a history.
pub fn judge(history: &History) -> Verdict {
    let mut findings = Findings::new(history);
    let evidence = effects::evidence(history);
    let mut effects = Vec::with_capacity(history.stories.len());
    for (client, (story, heard)) in (0..).zip(history.stories.iter().zip(&evidence)) {
        effects.push(effects::judge(client, story, heard, &mut findings));
    }
    heard::judge(history, &effects, &evidence, &mut findings);
    disconnects::judge(history, &mut findings);
    state::judge(history, &effects, &mut findings);
    let mut tally = Tally::of(history);
    for effects in &effects {
        tally.unknown += effects.unknown;
        tally.effects += effects.done.iter().filter(|done| **done).count();
    }
    Verdict {
        violations: findings.found.into_values().collect(),
        tally,
    }
}

impl Verdict {
    /// How often this kind was found.
    pub fn times(&self, kind: Kind) -> usize {
        let of_kind = self.violations.iter().filter(|violation| violation.kind == kind);
        of_kind.map(|violation| violation.times).sum()
    }
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Lost,
        Self::Doubled,
        Self::OutOfOrder,
        Self::Disconnects,
        Self::HalfEffects,
        Self::Unexpected,
        Self::Increments,
        Self::Attributes,
    ];

    /// The word for reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::OutOfOrder => "out of order",
            Self::Disconnects => "disconnects",
            Self::HalfEffects => "half effects",
            Self::Unexpected => "unexpected",
            Self::Increments => "increments",
            Self::Attributes => "attributes",
        }
    }
}

impl Tally {
    /// What can be counted without judging.
    pub(super) fn of(history: &History) -> Self {
        let count = |what: What| {
            let heard = history.stories.iter().flat_map(|story| &story.heard);
            heard.filter(|heard| heard.what == what).count()
        };
        Self {
            clients: history.stories.len(),
            sent: history.stories.iter().map(|story| story.sent.len()).sum(),
            acked: count(What::Ack),
            refused: count(What::Refused),
            unknown: 0,
            effects: 0,
            increments: history.counters.iter().sum(),
            heard: history.stories.iter().map(|story| story.heard.len()).sum(),
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

/// Gathers violations: one for each subject, kind and wording.
struct Findings<'a> {
    history: &'a History,
    found: BTreeMap<(Kind, Subject, &'static str), Violation>,
}

/// The subject of a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Client(u32),
    Counter(usize),
}

impl<'a> Findings<'a> {
    fn new(history: &'a History) -> Self {
        Self {
            history,
            found: BTreeMap::new(),
        }
    }

    /// Adds to a violation, so many times.
    fn add_times(&mut self, kind: Kind, client: u32, what: &'static str, times: u32) -> Option<&mut Violation> {
        if times == 0 {
            return None;
        }
        let violation = self.violation(kind, Subject::Client(client), what);
        violation.times += times as usize;
        Some(violation)
    }

    /// Adds to a violation by a shared counter.
    fn add_to_counter(&mut self, counter: usize, what: &'static str, times: u64) {
        if times > 0 {
            self.violation(Kind::Increments, Subject::Counter(counter), what).times += times as usize;
        }
    }

    fn violation(&mut self, kind: Kind, subject: Subject, what: &'static str) -> &mut Violation {
        let history = self.history;
        self.found.entry((kind, subject, what)).or_insert_with(|| Violation {
            kind,
            subject: match subject {
                Subject::Client(client) => format!("client {}", history.stories[client as usize].id),
                Subject::Counter(counter) => format!("counter {counter}"),
            },
            what,
            times: 0,
            numbers: Vec::new(),
            events: Vec::new(),
            others: Vec::new(),
        })
    }

    /// Adds to a violation.
    fn add(&mut self, kind: Kind, client: u32, what: &'static str) -> &mut Violation {
        self.add_times(kind, client, what, 1).expect("once is not never")
    }

    /// Whether anything was found with this client's messages.
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

    fn event(&mut self, event: EventName) -> &mut Self {
        if event != EventName::default() && self.events.len() < NAMED && !self.events.contains(&event) {
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

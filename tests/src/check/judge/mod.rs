//! From a history to a verdict: every side of what was observed is held against every other.
//!
//! Which messages took effect is told by the cluster's records and by whoever heard of them. Of each message that did,
//! it is known who had to hear what of it and in which order. What a client can only guess is left open: messages in
//! flight when its connection ended may have taken effect, in the order they were sent, or not.

mod disconnects;
mod effects;
mod heard;
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

/// A promise that was broken to one client, in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// The client whose messages or events these were.
    pub client: String,
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
    pub const ALL: [Self; 6] = [
        Self::Lost,
        Self::Doubled,
        Self::OutOfOrder,
        Self::Disconnects,
        Self::HalfEffects,
        Self::Unexpected,
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
            heard: history.stories.iter().map(|story| story.heard.len()).sum(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: client {}: {}", self.kind.word(), self.client, self.what)?;
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

/// Gathers violations: one for each client, kind and wording.
struct Findings<'a> {
    history: &'a History,
    found: BTreeMap<(Kind, u32, &'static str), Violation>,
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
        let violation = self.found.entry((kind, client, what)).or_insert_with(|| Violation {
            kind,
            client: self.history.stories[client as usize].id.clone(),
            what,
            times: 0,
            numbers: Vec::new(),
            events: Vec::new(),
            others: Vec::new(),
        });
        violation.times += times as usize;
        Some(violation)
    }

    /// Adds to a violation.
    fn add(&mut self, kind: Kind, client: u32, what: &'static str) -> &mut Violation {
        self.add_times(kind, client, what, 1).expect("once is not never")
    }

    /// Whether anything was found with this client's messages.
    fn any(&self, client: u32) -> bool {
        self.found.keys().any(|(_, found, _)| *found == client)
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
        if client != self.client && self.others.len() < NAMED && !self.others.iter().any(|other| other == client) {
            self.others.push(client.to_owned());
        }
        self
    }
}

//! Dead letters: what an operator does with them, and their budget, for each app with a share of it for each client.
//!
//! Over a budget the oldest go: of a client's letters when the client has more than its share, of the app's letters when the
//! app has. So no client pushes out the letters of others, and no app those of another.

use std::collections::HashSet;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::backlog::Load;
use super::{DeadContent, DeadLetter, Result, Revival};
use plugnode_message::{EventId, Namespace};

/// How many clients share an app's budget before one of them has less than its share.
const SHARES: usize = 10;

/// The dead letters of a transport.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// The latest dead letters, at most so many, oldest first.
    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>>;

    /// A dead letter, if there is one of this id.
    async fn dead_letter(&self, id: EventId) -> Result<Option<DeadLetter>>;

    /// Puts a dead letter's event at the end of its log again, behind what its client sent since.
    async fn revive(&self, dead: EventId) -> Result<Revival>;

    /// Forgets a dead letter, and says whether there was one.
    async fn bury(&self, dead: EventId) -> Result<bool>;

    /// Retries or forgets the dead letters that a filter names, oldest first: those of one page, bounded in count and bytes, so
    /// that all of them take as many calls as there are pages. The first call begins at the oldest; letters that come after it
    /// are left alone.
    async fn sweep(&self, sweep: &Sweep, from: Option<SweepPlace>) -> Result<Swept>;
}

/// What is to become of which dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Whether they are retried; else they are forgotten.
    pub retries: bool,
    /// Which.
    pub filter: DeadFilter,
}

/// Which dead letters are meant: those for which all holds that is said here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadFilter {
    /// They are among these.
    pub ids: Option<HashSet<EventId>>,
    /// They are of this app, or of this namespace.
    pub app: Option<Namespace>,
    /// Their reason has this text in it.
    pub reason: Option<String>,
    /// They died before this time, in milliseconds since the Unix epoch.
    pub before_ms: Option<u64>,
}

/// Where the next call of a sweep goes on. Each transport has its own numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepPlace {
    /// The part of the transport.
    pub part: u16,
    /// The letter in it to begin with.
    pub from: (u64, u64),
    /// The last letter that was there when the sweep came to this part.
    pub last: (u64, u64),
}

/// What one call of a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// What became of each letter that was meant. None: it was forgotten.
    pub letters: Vec<(EventId, Option<Revival>)>,
    /// How many letters were looked at.
    pub seen: usize,
    /// Where to go on; none at the end.
    pub next: Option<SweepPlace>,
}

impl DeadFilter {
    /// Whether a letter is meant.
    pub fn takes(&self, letter: &DeadLetter) -> bool {
        let is_of = |app: &Namespace| {
            let namespace = match &letter.content {
                DeadContent::Event(event) => Some(&event.namespace),
                DeadContent::Foreign(_) => None,
            };
            letter.death.app.as_ref() == Some(app) || namespace == Some(app)
        };
        self.ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
            && self.app.as_ref().is_none_or(is_of)
            && self
                .reason
                .as_ref()
                .is_none_or(|text| letter.death.reason.contains(text))
            && self.before_ms.is_none_or(|before| letter.died_at_ms < before)
    }
}

/// How many dead letters are kept of one app, and how many bytes of them. The newest is kept however large it is.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetterBudget {
    /// Letters.
    pub letters: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Default for DeadLetterBudget {
    fn default() -> Self {
        Self {
            letters: 10_000,
            bytes: 64_000_000,
        }
    }
}

impl DeadLetterBudget {
    /// The share of each client.
    pub fn of_client(self) -> Self {
        Self {
            letters: (self.letters / SHARES).max(1),
            bytes: self.bytes / SHARES,
        }
    }

    /// Whether one of these letters has to go.
    pub fn is_exceeded(self, kept: Load) -> bool {
        kept.events > 1 && (kept.events > self.letters || kept.bytes > self.bytes)
    }
}

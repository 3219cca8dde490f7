//! The part of the transport for dead letters: events that were given up, and their budget.
//!
//! Each app has a budget, and each client a share of it. Over the budget the oldest letters are dropped: the client's own if the client
//! exceeds its share, else the app's. So no client displaces the letters of others, and no app those of another app.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Load, Result};
use plugnode_message::{Event, EventId, Namespace};

/// A client's share of an app's budget is the budget divided by this.
const SHARES: usize = 10;

/// The dead letters of a transport.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// The latest dead letters, at most `most`, oldest first.
    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>>;

    /// The dead letter with this id.
    async fn dead_letter(&self, id: EventId) -> Result<Option<DeadLetter>>;

    /// Retries a dead letter: puts its event at the end of the log, after everything that its client has sent since.
    async fn retry(&self, dead: EventId) -> Result<RetryResult>;

    /// Deletes a dead letter. False if there is none with this id.
    async fn delete(&self, dead: EventId) -> Result<bool>;

    /// Retries or deletes the dead letters that a filter matches, oldest first, one page a call; a page is bounded in count and bytes.
    /// Letters that are added after the first call are left alone.
    async fn sweep(&self, sweep: &Sweep, from: Option<SweepCursor>) -> Result<Swept>;
}

/// An event that was given up, and why.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The event's id.
    pub id: EventId,
    /// The event.
    pub content: DeadContent,
    /// Why it was given up.
    pub cause: DeadLetterCause,
    /// When, in milliseconds since the Unix epoch.
    pub died_at_ms: u64,
}

/// The content of a dead letter.
#[derive(Debug, Clone)]
pub enum DeadContent {
    /// An event.
    Event(Arc<Event>),
    /// An entry of a log that this version cannot read.
    Foreign(Bytes),
}

/// Why an event was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterCause {
    /// The reason, for people.
    pub reason: String,
    /// Number of attempts.
    pub attempts: u32,
    /// The release that handled the last attempt, if one did.
    pub release: Option<String>,
    /// The app, by its namespace or pattern. None if no app is bound to the event's namespace.
    pub app: Option<Namespace>,
}

/// The result of retrying a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetryResult {
    /// It is at the end of its partition's log, with a new id.
    Queued,
    /// There is no dead letter with this id.
    Unknown,
    /// Its client has disconnected: no event may follow a disconnect.
    ClientGone,
    /// This version cannot read it.
    Foreign,
}

/// A bulk operation on dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Whether to retry them; else they are deleted.
    pub retries: bool,
    /// The letters.
    pub filter: DeadFilter,
}

/// A filter of dead letters: all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadFilter {
    /// Their id is among these.
    pub ids: Option<HashSet<EventId>>,
    /// Their app or their namespace is this.
    pub app: Option<Namespace>,
    /// Their reason contains this text.
    pub reason: Option<String>,
    /// They were given up before this time, in milliseconds since the Unix epoch.
    pub before_ms: Option<u64>,
}

/// The cursor of a sweep. Its numbers are the transport's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepCursor {
    /// The part of the transport.
    pub part: u16,
    /// The next letter of that part.
    pub from: (u64, u64),
    /// The last letter of that part when the sweep reached it.
    pub last: (u64, u64),
}

/// The result of one call of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// The letters that matched, each with the result of its retry. None: deleted.
    pub letters: Vec<(EventId, Option<RetryResult>)>,
    /// Number of letters examined.
    pub seen: usize,
    /// The cursor of the next call. None at the end.
    pub next: Option<SweepCursor>,
}

impl DeadFilter {
    /// Whether the filter matches a letter.
    pub fn takes(&self, letter: &DeadLetter) -> bool {
        let is_of = |app: &Namespace| {
            let namespace = match &letter.content {
                DeadContent::Event(event) => Some(&event.namespace),
                DeadContent::Foreign(_) => None,
            };
            letter.cause.app.as_ref() == Some(app) || namespace == Some(app)
        };
        self.ids.as_ref().is_none_or(|ids| ids.contains(&letter.id))
            && self.app.as_ref().is_none_or(is_of)
            && self
                .reason
                .as_ref()
                .is_none_or(|text| letter.cause.reason.contains(text))
            && self.before_ms.is_none_or(|before| letter.died_at_ms < before)
    }
}

/// Budget of the dead letters of an app. The newest letter is kept whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterBudget {
    /// Dead letters kept for each app in each shard; the oldest are dropped first. One client, or one key of the server API, has a
    /// tenth of it at most, and beyond that its own oldest are dropped.
    #[serde(rename = "dead-letters")]
    pub letters: usize,
    /// Bytes of the letters in `dead-letters`.
    #[serde(rename = "dead-letters-bytes", with = "plugnode_settings::Bytes")]
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

    /// Whether a letter has to be dropped.
    pub fn is_exceeded(self, kept: Load) -> bool {
        kept.events > 1 && (kept.events > self.letters || kept.bytes > self.bytes)
    }
}

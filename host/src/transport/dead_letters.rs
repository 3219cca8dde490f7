//! Dead letters: what an operator does with them, and their budget, for each app with a share of it for each client.
//!
//! Over a budget the oldest go: of a client's letters when the client has more than its share, of the app's letters when the
//! app has. So no client pushes out the letters of others, and no app those of another.

use async_trait::async_trait;

use super::backlog::Load;
use super::{DeadLetter, Result, Revival};
use crate::message::EventId;

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
    pub(super) fn of_client(self) -> Self {
        Self {
            letters: (self.letters / SHARES).max(1),
            bytes: self.bytes / SHARES,
        }
    }

    /// Whether one of these letters has to go.
    pub(super) fn is_exceeded(self, kept: Load) -> bool {
        kept.events > 1 && (kept.events > self.letters || kept.bytes > self.bytes)
    }
}
